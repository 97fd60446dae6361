// The catalog's jobs, one after the other, on a connection that is closed when idle.
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "store/catalog_internal.h"

enum {
    REFUSED_MS = 5000, // until what was refused is tried again
    IDLE_MS = 60000,   // until the connection is closed
};

// The schema's SQL names all that is not in pg_catalog in full. Partitions wait for locks, but not
// for long: inserts queue up behind who waits.
static const char SETTINGS[] =
    "SET search_path = pg_catalog; SET lock_timeout = '3s'; SET TimeZone = 'UTC';"
    " SET DateStyle = 'ISO'; SET client_min_messages = warning;"
    " SET default_transaction_isolation = 'read committed'";

// ---- jobs ----

static void job_free(struct catalog_job *job)
{
    list_remove(&job->node);
    free(job->times);
    free(job->refusal);
    free(job->missing);
    free(job);
}

struct catalog_job *catalog_job_add(struct catalog *catalog, enum catalog_job_kind kind,
                                    struct catalog_table *table, catalog_fn *done, void *arg)
{
    struct catalog_job *job = mem_zalloc(sizeof *job);
    job->kind = kind;
    job->table = table;
    job->done = done;
    job->arg = arg;
    list_append(&catalog->jobs, &job->node);
    loop_task_schedule(catalog->work);
    return job;
}

void catalog_job_finish(struct catalog *catalog, bool ok, const char *detail)
{
    struct catalog_job *job = catalog_job(catalog);
    list_remove(&job->node);
    catalog->running = false;
    backoff_reset(&catalog->backoff);
    free(catalog->trouble);
    catalog->trouble = NULL;
    if (job->done)
        job->done(job->arg, ok, detail);
    job_free(job);
    loop_task_schedule(catalog->work);
}

// The same trouble is logged once.
static void trouble(struct catalog *catalog, const char *why)
{
    if (catalog->trouble && strcmp(catalog->trouble, why) == 0)
        return;
    log_warn("postgres: schema and partitions wait: %s", why);
    free(catalog->trouble);
    catalog->trouble = mem_strdup(why);
}

void catalog_job_again(struct catalog *catalog, const char *why)
{
    trouble(catalog, why);
    catalog->running = false;
    loop_timer_start(catalog->retry, backoff_next_ms(&catalog->backoff));
}

enum catalog_error catalog_error_of(const char *sqlstate)
{
    // duplicate table, schema, object, column, key; overlapping partition; object gone meanwhile
    static const char *const races[] = {"42P07", "42P06", "42710", "42701",
                                        "23505", "42P17", "XX000"};
    // lock not available, query cancelled, read-only (a standby before its promotion)
    static const char *const passing[] = {"55P03", "57014", "25006"};
    for (size_t i = 0; i < sizeof races / sizeof *races; i++)
        if (strcmp(sqlstate, races[i]) == 0)
            return ERROR_RACE;
    for (size_t i = 0; i < sizeof passing / sizeof *passing; i++)
        if (strcmp(sqlstate, passing[i]) == 0)
            return ERROR_PASSING;
    // serialization and deadlock, resources, shutdown
    bool passes = strncmp(sqlstate, "40", 2) == 0 || strncmp(sqlstate, "53", 2) == 0 ||
                  strncmp(sqlstate, "57P", 3) == 0;
    return passes ? ERROR_PASSING : ERROR_REFUSED;
}

bool catalog_passing(struct catalog *catalog, const struct pg_result *result)
{
    if (catalog_error_of(result->sqlstate) != ERROR_PASSING)
        return false;
    catalog_job_again(catalog, result->message);
    return true;
}

// ---- the start ----

static void look_at(struct catalog *catalog, struct catalog_table *table)
{
    struct catalog_job *job = catalog_job(catalog);
    job->table = table;
    job->changes = job->races = 0;
    free(job->refusal);
    free(job->missing);
    job->refusal = job->missing = NULL;
    catalog_look(catalog);
}

static void started(struct catalog *catalog)
{
    if (catalog->refused) {
        catalog->running = false;
        loop_timer_start(catalog->retry, REFUSED_MS);
        catalog->ready_fn(catalog->ready_arg, false, catalog->refused);
        return;
    }
    catalog->ready = true;
    catalog_job_finish(catalog, true, "");
}

void catalog_migrated(struct catalog *catalog, const char *refused)
{
    free(catalog->refused);
    catalog->refused = refused ? mem_strdup(refused) : NULL;
    if (catalog->table_count > 0)
        look_at(catalog, catalog->tables);
    else
        started(catalog);
}

void catalog_table_done(struct catalog *catalog)
{
    struct catalog_job *job = catalog_job(catalog);
    struct catalog_table *next = job->table + 1;
    if (job->kind == JOB_LOOK)
        catalog_job_finish(catalog, true, "");
    else if (next < catalog->tables + catalog->table_count)
        look_at(catalog, next);
    else
        started(catalog);
}

// ---- running jobs ----

static bool satisfied(const struct catalog_job *job)
{
    if (job->kind != JOB_NEED)
        return false;
    for (size_t i = 0; i < job->count; i++)
        if (!catalog_ranges_has(job->table, job->times[i]))
            return false;
    return true;
}

static void run_job(struct catalog *catalog)
{
    struct catalog_job *job = catalog_job(catalog);
    catalog->running = true;
    if (job->kind == JOB_START)
        catalog_migrate(catalog);
    else if (job->kind == JOB_NEED && job->table->shape == SHAPE_RANGES)
        catalog_make_partitions(catalog);
    else
        look_at(catalog, job->table);
}

static void work(void *arg)
{
    struct catalog *catalog = arg;
    if (catalog->running || catalog->connecting)
        return;
    if (!list_empty(&catalog->jobs) && satisfied(catalog_job(catalog))) {
        catalog_job_finish(catalog, true, ""); // which comes back here
        return;
    }
    if (list_empty(&catalog->jobs)) {
        if (pg_connected(catalog->pg))
            loop_timer_start(catalog->idle, IDLE_MS);
        return;
    }
    loop_timer_stop(catalog->idle);
    if (loop_timer_pending(catalog->retry))
        return;
    if (pg_connected(catalog->pg)) {
        run_job(catalog);
        return;
    }
    catalog->connecting = true;
    pg_connect(catalog->pg);
}

static void settings_made(void *arg, const struct pg_result *result)
{
    struct catalog *catalog = arg;
    catalog->connecting = false;
    if (result->ok)
        loop_task_schedule(catalog->work);
    else
        catalog_job_again(catalog, result->message);
}

static void up(void *arg)
{
    struct catalog *catalog = arg;
    pg_script(catalog->pg, SETTINGS, settings_made, catalog);
}

static void down(void *arg, const char *why)
{
    struct catalog *catalog = arg;
    catalog->connecting = false;
    loop_timer_stop(catalog->idle);
    if (!list_empty(&catalog->jobs))
        catalog_job_again(catalog, why);
}

static void close_idle(void *arg)
{
    struct catalog *catalog = arg;
    if (list_empty(&catalog->jobs))
        pg_disconnect(catalog->pg);
}

void catalog_jobs_init(struct catalog *catalog, struct loop *loop, struct worker *worker)
{
    const struct pg_calls calls = {.up = up, .down = down, .arg = catalog};
    list_init(&catalog->jobs);
    catalog->pg =
        pg_new(loop, worker, catalog->options.conninfo, "sensorlogd schema", false, &calls);
    catalog->work = loop_task_new(loop, work, catalog);
    catalog->retry = loop_timer_new(loop, work, catalog);
    catalog->idle = loop_timer_new(loop, close_idle, catalog);
}

void catalog_jobs_fini(struct catalog *catalog)
{
    pg_free(catalog->pg);
    loop_task_free(catalog->work);
    loop_timer_free(catalog->retry);
    loop_timer_free(catalog->idle);
    while (!list_empty(&catalog->jobs))
        job_free(catalog_job(catalog));
    free(catalog->trouble);
}
