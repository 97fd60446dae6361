// Where the rows of one mapping go: a table, the columns it writes, and the key.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/books.h"
#include "core/row.h"

enum partition_by { PARTITION_DAY, PARTITION_WEEK, PARTITION_MONTH, PARTITION_YEAR };

enum { TARGET_COLUMNS_MAX = 256 }; // a bound on the columns of one mapping, "time" included

struct target_column {
    char *name;
    enum column_type type;
    // How the table has it, where that says more than type: a domain, or a length or precision. Set
    // and owned by the store.
    char *live_type;
    bool required; // NOT NULL where sensorlogd creates the table
    bool key;
    bool compared; // comes from topic or payload: where it differs under one key, rows conflict
};

// What becomes of a row whose key is there already with other values.
enum on_conflict { CONFLICT_REJECT, CONFLICT_UPDATE, CONFLICT_IGNORE };

// Filled by the configuration, read by the store. columns[0] is always "time", timestamptz,
// required. The key, if any, is the set of the columns with key set; it contains column 0.
struct target {
    unsigned index;  // among all targets of now, from 0; used again when a target is gone
    unsigned serial; // another one for each target that ever was
    char *mapping;   // name of the mapping, for log lines and the reject table
    char *schema, *table;
    struct target_column *columns;
    size_t column_count, key_count;
    enum partition_by partition;
    enum on_conflict on_conflict;
    uint64_t conflicts; // rows of which that became, whatever it was
    unsigned looks;     // how often some live_type has changed
    // With a key: batches more for which it is taken for granted that none of their rows is there
    // already; below 1 each is asked for. The store's own.
    int trust;
    struct books books; // in parts; kept by the pipeline and the store together
    // Set by the store when the live table does not fit or PostgreSQL refuses the statement itself:
    // why, for people; its parts then go to the reject table. NULL while all is well. Owned by the
    // store.
    char *stopped;
};

// Whether a row whose key is there already may be another one than that.
static inline bool target_may_conflict(const struct target *target)
{
    for (size_t i = 0; i < target->column_count; i++)
        if (target->columns[i].compared && target->key_count > 0)
            return true;
    return false;
}
