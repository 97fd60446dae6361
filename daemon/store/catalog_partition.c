// Makes partitions, one transaction each, beside other daemons and people who do the same.
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "store/catalog_internal.h"

enum { RACES_MAX = 4 };

// The period cannot be made: goes on with the others.
static void refuse(struct catalog *catalog, const char *why)
{
    struct catalog_job *job = catalog_job(catalog);
    size_t kept = job->next;
    for (size_t i = job->next; i < job->count; i++)
        if (job->times[i] < job->making.from || job->times[i] >= job->making.to)
            job->times[kept++] = job->times[i];
    job->count = kept;
    if (!job->missing) {
        log_error("postgres: table %s: %s", job->table->full, why);
        job->missing = mem_strdup(why);
    }
    catalog_make_partitions(catalog);
}

static void refuse_error(struct catalog *catalog, const struct pg_result *result)
{
    const char *hint = "";
    if (strcmp(result->sqlstate, "42501") == 0)
        hint = "; sensorlogd's role must own the table, or its owner make the partitions";
    char *why = mem_printf("a partition cannot be made: %s%s", result->message, hint);
    refuse(catalog, why);
    free(why);
}

static void made(void *arg, const struct pg_result *result)
{
    struct catalog *catalog = arg;
    struct catalog_job *job = catalog_job(catalog);
    if (result->ok) {
        char from[PARTITION_BOUND_SIZE], to[PARTITION_BOUND_SIZE];
        partition_bound(from, job->making.from);
        partition_bound(to, job->making.to);
        log_info("postgres: made a partition of %s from %.19s to %.19s UTC", job->table->full, from,
                 to);
        catalog_ranges_add(job->table, job->making);
        catalog_make_partitions(catalog);
    } else if (catalog_error_of(result->sqlstate) == ERROR_RACE && job->races++ < RACES_MAX) {
        catalog_look(catalog); // which comes back here
    } else if (!catalog_passing(catalog, result)) {
        refuse_error(catalog, result);
    }
}

// The period's usual name; another where somebody's partition leaves only a part of it, or the name is taken.
static void make(struct catalog *catalog, int64_t time_us)
{
    struct catalog_job *job = catalog_job(catalog);
    struct catalog_table *table = job->table;
    bool cut = catalog_ranges_cut(table, time_us, &job->making);
    char name[PARTITION_NAME_SIZE];
    if (cut || job->races > 0)
        partition_name_exact(name, table->name, job->making.from);
    else
        partition_name(name, table->name, table->partition_by, job->making.from);
    char *sql = catalog_sql_partition(table, name, &job->making);
    pg_script(catalog->pg, sql, made, catalog);
    free(sql);
}

// What is made ahead may fail without harm: it is tried again in an hour, or when rows need it.
static void finish(struct catalog *catalog)
{
    struct catalog_job *job = catalog_job(catalog);
    if (job->kind == JOB_NEED)
        catalog_job_finish(catalog, !job->missing, job->missing ? job->missing : "");
    else
        catalog_table_done(catalog);
}

void catalog_make_partitions(struct catalog *catalog)
{
    struct catalog_job *job = catalog_job(catalog);
    struct catalog_table *table = job->table;
    while (job->next < job->count && catalog_ranges_has(table, job->times[job->next]))
        job->next++;
    if (job->next == job->count) {
        finish(catalog);
        return;
    }
    int64_t time_us = job->times[job->next];
    bool sane = partition_range_of(table->partition_by, time_us, &job->making);
    if (!sane)
        job->making = (struct partition_range){time_us, time_us + 1};
    if (table->shape != SHAPE_RANGES)
        refuse(catalog, "there is no such table");
    else if (!catalog_may_change(catalog))
        refuse(catalog, "there is no partition for the time of a row: run sensorlogd migrate, or make it "
                        "by other means");
    else if (!sane)
        refuse(catalog, "the year of a row is out of bounds");
    else
        make(catalog, time_us);
}
