// The tables of the spool's file and the statements on them; the disk's thread alone uses these.
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct sqlite3;
struct sqlite3_stmt;
struct arena;
struct spool_record;

#define SPOOL_APPLICATION_ID UINT32_C(0x736C7370) // "slsp"
enum { SPOOL_PAGE_SIZE = 4096, SPOOL_VERSION = 1 };
extern const char *const spool_migrations[SPOOL_VERSION];

enum spool_statement {
    SPOOL_PUT,
    SPOOL_READ,       // after number
    SPOOL_MEASURE,    // number and cost: after, through
    SPOOL_CUT,        // after, through
    SPOOL_GONE,       // number
    SPOOL_FIRST,      // number and received_us of the first
    SPOOL_DOUBT,      // id, writer, epoch, lane, seq
    SPOOL_DOUBTED,    // count and cost: id
    SPOOL_CUT_DOUBT,  // id
    SPOOL_KEEP_DOUBT, // id
    SPOOL_DROP_DOUBT, // id
    SPOOL_SET_EXCHANGE,
    SPOOL_DROP_EXCHANGE,
    SPOOL_RENEW,
    SPOOL_STATEMENTS
};

struct spool_sql {
    struct sqlite3 *database;
    struct sqlite3_stmt *statements[SPOOL_STATEMENTS]; // finalized by the disk
    int64_t read_to;                                   // entries that have been read
};

// False where the tables are not what they should be.
bool spool_sql_prepare(struct spool_sql *sql, struct sqlite3 *database);
// Begins a statement with integers as its first values.
struct sqlite3_stmt *spool_sql_begin(struct spool_sql *sql, enum spool_statement which, int count,
                                     const int64_t *values);
// Runs one that gives no rows.
bool spool_sql_run(struct spool_sql *sql, enum spool_statement which, int count,
                   const int64_t *values);
bool spool_sql_renew(struct spool_sql *sql, const char *id);
bool spool_sql_put(struct spool_sql *sql, const struct spool_record *record);
// The columns of a row of SPOOL_READ, copied into the arena.
void spool_sql_record(struct sqlite3_stmt *row, struct arena *arena, struct spool_record *record);
extern const char spool_columns[]; // of such a row
