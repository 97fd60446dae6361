// What the disk's thread does for the spool's file. Each job has its results in its operation; all
// can be repeated, also once they have been committed.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/loop.h"
#include "base/mem.h"
#include "spool/spool_record.h"
#include "spool/spool_schema.h"

// What entries that went had, and which is the first now; the same when it is done again.
struct spool_cut {
    bool measured;
    int64_t after;        // the last that was to stay before them
    int64_t through;      // the last of them; 0: there were none
    uint64_t count, cost; // of them
    int64_t first, first_us;
};

enum spool_op_kind { SPOOL_OP_OTHER, SPOOL_OP_PUT, SPOOL_OP_READ };

// In one piece of memory, which belongs to the loop, and to the disk's thread until it is done.
struct spool_op {
    struct list node; // the loop's
    struct spool_file *file;
    struct spool_sql *sql;
    uint8_t kind;
};

struct spool_put_op {
    struct spool_op op; // first, as in the others
    struct spool_record record;
    uint8_t bytes[]; // of its fields
};

// Entries after .. through; as many of the first as are chunk, or have cost together.
struct spool_cut_op {
    struct spool_op op;
    int64_t after, through;
    bool unread;          // only those that have not been read
    uint64_t chunk, cost; // 0: no bound
    struct spool_cut cut;
};

struct spool_doubt_op {
    struct spool_op op;
    struct spool_doubt doubt; // writer: in bytes
    bool committed;           // of its end
    struct spool_cut cut;
    char bytes[];
};

struct spool_exchange_change {
    uint64_t session, content;
    uint16_t packet_id;
    enum spool_exchange what;
};

struct spool_exchange_op {
    struct spool_op op;
    struct spool_exchange_change change;
    loop_fn *done; // or NULL
    void *arg;
};

enum { SPOOL_ID_LENGTH = 32 };

struct spool_renew_op {
    struct spool_op op;
    char id[SPOOL_ID_LENGTH + 1];
};

struct spool_shrink_op {
    struct spool_op op;
    bool more;
};

struct spool_read_op {
    struct spool_op op;
    int64_t after;
    size_t count_max, bytes_max;
    struct spool_file_reading reading;
    struct arena arena; // of records
    struct spool_record *records;
    size_t count, capacity;
    int64_t *stored; // doubts whose transactions have committed: their entries are not given
    size_t stored_count;
    bool end;             // nothing after them
    bool waits;           // the loop's: for the next put to be durable
    atomic_bool unwanted; // nothing is to come of it
};

// disk_work_fn; arg is the operation.
struct sqlite3;
bool spool_job_put(struct sqlite3 *database, void *arg);
bool spool_job_cut(struct sqlite3 *database, void *arg);
bool spool_job_doubt(struct sqlite3 *database, void *arg);
bool spool_job_resolve(struct sqlite3 *database, void *arg);
bool spool_job_exchange(struct sqlite3 *database, void *arg);
bool spool_job_renew(struct sqlite3 *database, void *arg);
// Outside of a transaction; the last two never fail.
bool spool_job_read(struct sqlite3 *database, void *arg);
bool spool_job_shrink(struct sqlite3 *database, void *arg);
bool spool_job_checkpoint(struct sqlite3 *database, void *arg);
