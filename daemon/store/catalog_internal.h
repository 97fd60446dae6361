// What the files of the catalog share: its tables, its jobs, and the steps that a job is made of.
#pragma once

#include <stdio.h>

#include "base/backoff.h"
#include "base/list.h"
#include "base/log.h"
#include "store/catalog.h"
#include "store/migrations.h"
#include "store/partition.h"
#include "store/pg.h"

enum {
    CATALOG_AHEAD = 3
}; // partitions that are to be there at any time: the current one and two more

enum catalog_shape {
    SHAPE_UNKNOWN, // not looked at yet
    SHAPE_MISSING, // there is no such table
    SHAPE_ANY,     // takes any time, or partitions that are not ours to manage
    SHAPE_RANGES,  // by range of time: takes the ranges, and more can be made
};

// A table that one or more targets write, or have written.
struct catalog_table {
    char *schema, *name;
    enum partition_by partition_by; // of its first target
    char *full;                     // quoted, "schema"."name"
    struct target **targets;
    size_t target_count;
    enum catalog_shape shape;
    struct partition_range *ranges; // sorted, none overlap
    size_t range_count, range_capacity;
    size_t last;          // index of the range that was hit last
    int64_t ahead_due_us; // wall clock: partitions ahead are not tried before
    char *findings;       // lines, or NULL
    struct log_limit complaints;
    // After an error that passes: none of its jobs runs before due_ms, and others go first.
    char *trouble; // a line for people, or NULL
    int64_t due_ms;
    struct backoff backoff;
};

enum catalog_job_kind {
    JOB_START, // migrate, then look at every table
    JOB_LOOK,  // look at one table
    JOB_NEED,  // make partitions for the times
};

struct catalog_job {
    struct list node;
    enum catalog_job_kind kind;
    struct catalog_table *table; // JOB_START: the one it is at
    size_t started;              // JOB_START: tables up to and with that one
    // What came of the table so far.
    unsigned changes; // tried
    char *refusal;    // of creating it, or NULL
    // Partitions: times before next are done with.
    int64_t *times;
    size_t count, next;
    struct partition_range making;
    unsigned races; // times that somebody else did the same first
    char *missing;  // why some partition cannot be made, or NULL
    catalog_fn *done;
    void *arg;
};

struct catalog {
    struct catalog_options options;
    struct pg *pg;
    struct catalog_table **tables;
    size_t table_count;
    struct catalog_table **table_of; // by target->index
    size_t table_of_count;
    struct list jobs;            // JOB_START first; the others need what it makes
    struct catalog_job *running; // one of them, or NULL
    bool connecting, ready;
    size_t migration; // that is being applied
    char *refused;    // why the migrations were, or NULL
    char *trouble;    // of the connection or schema, as logged last; NULL where all is well
    int64_t due_ms;   // nothing runs before
    char *findings;   // for catalog_findings
    catalog_fn *ready_fn;
    void *ready_arg;
    struct backoff backoff;
    struct loop_task *work;
    struct loop_timer *retry, *idle, *tick;
};

// ---- catalog_jobs.c ----

void catalog_jobs_init(struct catalog *catalog, struct loop *loop, struct worker *worker);
void catalog_jobs_fini(struct catalog *catalog);
// Adds a job; done may be NULL.
struct catalog_job *catalog_job_add(struct catalog *catalog, enum catalog_job_kind kind,
                                    struct catalog_table *table, catalog_fn *done, void *arg);

bool catalog_table_has_job(const struct catalog *catalog, const struct catalog_table *table);

// The running one.

static inline struct catalog_job *catalog_job(const struct catalog *catalog)
{
    return catalog->running;
}

// The running job is done, or refused where detail says why.
void catalog_job_finish(struct catalog *catalog, bool ok, const char *detail);
// Whether tables and partitions may be made.
static inline bool catalog_may_change(const struct catalog *catalog)
{
    return catalog->options.migrate && !catalog->refused;
}

// The migrations are done, or refused with why (copied).
void catalog_migrated(struct catalog *catalog, const char *refused);
// The look at the job's table, and what follows from it, is done.
void catalog_table_done(struct catalog *catalog);
// All jobs wait a while; then the running one begins again.
void catalog_wait(struct catalog *catalog, const char *why);

enum catalog_error {
    ERROR_PASSING, // a lock, a shutdown: again after a while
    ERROR_RACE,    // somebody else did the same first: look again
    ERROR_REFUSED,
};
enum catalog_error catalog_error_of(const char *sqlstate);
// For an error of the running job's query: true where it was passing and all jobs wait.
bool catalog_passing(struct catalog *catalog, const struct pg_result *result);
// The same for an error at the job's table: only that table's jobs wait, and others go on.
bool catalog_table_passing(struct catalog *catalog, const struct pg_result *result);
// Whether the server takes no writes at all, whatever the table.
bool catalog_is_read_only(const struct pg_result *result);

// ---- the steps; each ends by one of the calls above ----

void catalog_migrate(struct catalog *catalog);
void catalog_look(struct catalog *catalog);
// Makes the partitions for the job's times.
void catalog_make_partitions(struct catalog *catalog);

// ---- ranges ----

void catalog_ranges_clear(struct catalog_table *table);
void catalog_ranges_add(struct catalog_table *table, struct partition_range range);
bool catalog_ranges_has(struct catalog_table *table, int64_t time_us);
// Cuts the range, which contains time_us, to the gap around time_us; true where it was cut.
bool catalog_ranges_cut(const struct catalog_table *table, int64_t time_us,
                        struct partition_range *range);
// The times now and in the periods ahead for which there are no partitions. Returns their number.
size_t catalog_ahead(struct catalog_table *table, int64_t now_us, int64_t times[CATALOG_AHEAD]);

// ---- what the look at a table gives: rows (fact, name, a, b, c), see catalog_look.c ----

enum catalog_fact { FACT_TABLE = 1, FACT_COLUMN, FACT_KEY, FACT_PARTITION };

const char *catalog_field(const struct pg_result *live, int row, int column); // "" for NULL
bool catalog_is_fact(const struct pg_result *live, int row, enum catalog_fact fact);
int catalog_find_column(const struct pg_result *live, const char *name); // -1: there is none
bool catalog_is_table(const struct pg_result *live);

// Stops the targets of the table that do not fit it, lets the others go on, and keeps the findings;
// with stop false it only keeps those.
void catalog_judge_live(struct catalog_table *table, const struct pg_result *live, bool stop);
// The same where the table cannot be had, for the reason given.
void catalog_judge_missing(struct catalog_table *table, const char *finding, bool stop);
// One more finding for each target of the table, which stops none.
void catalog_add_finding(struct catalog_table *table, const char *finding);
// Stops the target with what is wrong (copied), or lets it go on where that is ""; logs what is
// new.
void catalog_stop_target(struct target *target, const char *wrong);

// ---- SQL; the caller frees ----

struct catalog_column {
    const struct target_column *column;
    bool not_null; // every target of the table writes and requires it
};

// The columns of all targets of the table, "time" first; the caller frees.
struct catalog_column *catalog_columns(const struct catalog_table *table, size_t *count);
char *catalog_sql_migration(const struct migration *migration);
char *catalog_sql_create(const struct catalog *catalog, const struct catalog_table *table);
char *catalog_sql_add_columns(const struct catalog_table *table,
                              const struct target_column *const *columns, size_t count);
char *catalog_sql_partition(const struct catalog_table *table, const char *name,
                            const struct partition_range *range);
