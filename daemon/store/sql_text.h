// The SQL by which rows are stored, compared and tried one by one.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/target.h"

// All are the caller's to free. The columns' arrays are $1.. in each.

// The INSERT for a target's rows. keyed: rows that were there already are left out; the last
// parameter is the number of rows, and the ordinals (from 1) of those come back. Otherwise they are
// an error, at half the cost.
char *sql_insert(const struct target *target, bool keyed);
// The times of the rows that a statement is for, microseconds since 1970, both included: it is
// planned for, and locks, the partitions between them alone.
struct sql_span {
    int64_t first_us, last_us;
};

// Which of the rows, by ordinal, differ from those that the table has under the same key, and in
// what.
char *sql_compare(const struct target *target, struct sql_span span);
// The ordinals of those whose key nothing else has, in the table or among the rows. For a target
// with a key.
char *sql_new_keys(const struct target *target, struct sql_span span);

// How the rows are tried one by one: within the server, each under a savepoint of its own. Three
// statements: the rows as a cursor, the attempt, the answer. Those that do not go come back as
// (ordinal, sqlstate, detail); without sqlstate where the row was there already.
char *sql_each_rows(const struct target *target, bool backwards);
enum sql_try {
    SQL_TRY_INSERT,
    SQL_TRY_UPDATE, // a row that is there becomes this one, if it differs
    SQL_TRY_CAST,   // only whether the values fit the table's columns
};
// partition: a missing partition is not the row's fault. Fails with an error that is no row's
// fault, as sqlstate.h has it.
char *sql_each_attempt(const struct target *target, enum sql_try what, bool partition);
// Whether some value of a row may not fit its column.
bool sql_may_cast(const struct target *target);
extern const char sql_each_answer[];
// The two that leave nothing behind.
extern const char *const sql_each_end[2];
