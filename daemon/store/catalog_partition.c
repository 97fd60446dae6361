// Makes partitions, one transaction each, beside other daemons and people who do the same.
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "store/catalog_internal.h"

enum { RACES_MAX = 4 };

// The period of the next time cannot be made; what is made ahead may fail without harm, it is tried
// again in an hour or when rows need it.
static void drop_period(struct catalog_job *job, const char *why)
{
    size_t kept = job->next;
    for (size_t i = job->next + 1; i < job->count; i++)
        if (job->times[i] < job->making.from || job->times[i] >= job->making.to)
            job->times[kept++] = job->times[i];
    job->count = kept;
    if (!job->missing && log_limit_pass(&job->table->complaints, NULL))
        log_error("postgres: table %s: %s", job->table->full, why);
    if (!job->missing)
        job->missing = mem_strdup(why);
}

static void refused(struct catalog *catalog, const struct pg_result *result)
{
    const char *hint = "";
    if (strcmp(result->sqlstate, "42501") == 0)
        hint = "; sensorlogd's role must own the table, or its owner make the partitions";
    char *why = mem_printf("a partition cannot be made: %s%s", result->message, hint);
    drop_period(catalog_job(catalog), why);
    free(why);
    catalog_make_partitions(catalog);
}

// Partitions ahead can wait: the clock tries them again, and rows that need one do not wait for it.
static void put_off(struct catalog *catalog, const struct pg_result *result)
{
    struct catalog_job *job = catalog_job(catalog);
    char *why = mem_printf("partitions ahead wait: %s", result->message);
    if (log_limit_pass(&job->table->complaints, NULL))
        log_warn("postgres: table %s: %s", job->table->full, why);
    catalog_add_finding(job->table, why);
    free(why);
    job->table->ahead_due_us = 0;
    job->count = job->next;
    catalog_make_partitions(catalog);
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
    } else if (job->kind != JOB_NEED && !catalog_is_read_only(result) &&
               catalog_error_of(result->sqlstate) == ERROR_PASSING) {
        put_off(catalog, result);
    } else if (!catalog_table_passing(catalog, result)) {
        refused(catalog, result);
    }
}

// The period's usual name; another where somebody's partition leaves only a part of it, or the name
// is taken.
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

// Why the next time gets no partition, or NULL: job->making is its period then.
static const char *obstacle(const struct catalog *catalog, struct catalog_job *job)
{
    int64_t time_us = job->times[job->next];
    job->making = (struct partition_range){time_us, time_us};
    if (job->table->shape != SHAPE_RANGES)
        return "there is no such table";
    if (!partition_range_of(job->table->partition_by, time_us, &job->making))
        return "the year of a row is out of bounds";
    if (!catalog_may_change(catalog))
        return "there is no partition for the time of a row: run sensorlogd migrate, or make it by "
               "other means";
    return NULL;
}

void catalog_make_partitions(struct catalog *catalog)
{
    struct catalog_job *job = catalog_job(catalog);
    if (job->table->shape == SHAPE_UNKNOWN) { // meanwhile it was said that it has changed
        catalog_look(catalog);                // which comes back here
        return;
    }
    while (job->next < job->count) {
        if (catalog_ranges_has(job->table, job->times[job->next])) {
            job->next++;
            continue;
        }
        const char *why = obstacle(catalog, job);
        if (!why) {
            make(catalog, job->times[job->next]);
            return;
        }
        drop_period(job, why);
    }
    if (job->kind == JOB_NEED)
        catalog_job_finish(catalog, !job->missing, job->missing ? job->missing : "");
    else
        catalog_table_done(catalog);
}
