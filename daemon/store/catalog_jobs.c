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
// for long: inserts queue up behind who waits. A role may be read-only by default.
static const char SETTINGS[] =
    "SET search_path = pg_catalog; SET lock_timeout = '3s'; SET TimeZone = 'UTC';"
    " SET DateStyle = 'ISO'; SET client_min_messages = warning;"
    " SET default_transaction_isolation = 'read committed';"
    " SET default_transaction_read_only = off";

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
    if (kind == JOB_START)
        list_prepend(&catalog->jobs, &job->node);
    else
        list_append(&catalog->jobs, &job->node);
    loop_task_schedule(catalog->work);
    return job;
}

bool catalog_table_has_job(const struct catalog *catalog, const struct catalog_table *table)
{
    list_each (node, &catalog->jobs) {
        const struct catalog_job *job = list_entry(node, struct catalog_job, node);
        if (job->kind != JOB_START && job->table == table)
            return true;
    }
    return false;
}

// ---- waiting ----

// What is said for people and when it is tried again: of the catalog as a whole, or of a table.

static void keep_trouble(char **trouble, char *why)
{
    if (!*trouble || strcmp(*trouble, why) != 0) // the same is logged once
        log_warn("postgres: schema and partitions wait: %s", why);
    free(*trouble);
    *trouble = why;
}

static void calm(struct catalog *catalog)
{
    backoff_reset(&catalog->backoff);
    free(catalog->trouble);
    catalog->trouble = NULL;
}

static void calm_table(struct catalog_table *table)
{
    backoff_reset(&table->backoff);
    free(table->trouble);
    table->trouble = NULL;
    table->due_ms = 0;
}

void catalog_wait(struct catalog *catalog, const char *why)
{
    keep_trouble(&catalog->trouble, mem_strdup(why));
    catalog->running = NULL;
    catalog->due_ms = loop_now_ms() + backoff_next_ms(&catalog->backoff);
    loop_task_schedule(catalog->work);
}

static void start_next_table(struct catalog *catalog);

// The start goes on without the table. Nothing is known of it, so its rows wait, for a job of its
// own.
static void leave_table(struct catalog *catalog, struct catalog_table *table, const char *why)
{
    char *finding = mem_printf("it cannot be looked at or changed now: %s", why);
    catalog_judge_missing(table, finding, false);
    free(finding);
    if (!catalog_table_has_job(catalog, table))
        catalog_job_add(catalog, JOB_LOOK, table, NULL, NULL);
    start_next_table(catalog);
}

static void table_wait(struct catalog *catalog, const char *why)
{
    struct catalog_job *job = catalog_job(catalog);
    struct catalog_table *table = job->table;
    calm(catalog); // the server has answered
    keep_trouble(&table->trouble, mem_printf("table %s: %s", table->full, why));
    table->due_ms = loop_now_ms() + backoff_next_ms(&table->backoff);
    if (job->kind == JOB_START) {
        leave_table(catalog, table, why);
        return;
    }
    catalog->running = NULL;
    loop_task_schedule(catalog->work);
}

void catalog_job_finish(struct catalog *catalog, bool ok, const char *detail)
{
    struct catalog_job *job = catalog_job(catalog);
    list_remove(&job->node);
    catalog->running = NULL;
    calm(catalog);
    if (job->kind != JOB_START)
        calm_table(job->table);
    if (job->done)
        job->done(job->arg, ok, detail);
    job_free(job);
    loop_task_schedule(catalog->work);
}

// ---- errors ----

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

bool catalog_is_read_only(const struct pg_result *result)
{
    return strcmp(result->sqlstate, "25006") == 0;
}

bool catalog_passing(struct catalog *catalog, const struct pg_result *result)
{
    if (catalog_error_of(result->sqlstate) != ERROR_PASSING)
        return false;
    char *why = mem_printf("%s%s", result->message,
                           catalog_is_read_only(result) ? " (the server is a standby?)" : "");
    catalog_wait(catalog, why);
    free(why);
    return true;
}

bool catalog_table_passing(struct catalog *catalog, const struct pg_result *result)
{
    if (catalog_is_read_only(result))
        return catalog_passing(catalog, result);
    if (catalog_error_of(result->sqlstate) != ERROR_PASSING)
        return false;
    table_wait(catalog, result->message);
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
        catalog->running = NULL;
        catalog->due_ms = loop_now_ms() + REFUSED_MS;
        loop_task_schedule(catalog->work);
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
    catalog_job(catalog)->started = 0;
    start_next_table(catalog);
}

static void start_next_table(struct catalog *catalog)
{
    struct catalog_job *job = catalog_job(catalog);
    if (job->started < catalog->table_count)
        look_at(catalog, catalog->tables[job->started++]);
    else
        started(catalog);
}

void catalog_table_done(struct catalog *catalog)
{
    struct catalog_job *job = catalog_job(catalog);
    if (job->kind == JOB_LOOK) {
        catalog_job_finish(catalog, true, "");
        return;
    }
    calm_table(job->table);
    start_next_table(catalog);
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

// The job to run next: one whose table is in no trouble, so that it does not wait behind locks of
// others. NULL where none is due, and *due_ms is when.
static struct catalog_job *next_job(const struct catalog *catalog, int64_t now_ms, int64_t *due_ms)
{
    struct catalog_job *second = NULL;
    *due_ms = INT64_MAX;
    list_each (node, &catalog->jobs) {
        struct catalog_job *job = list_entry(node, struct catalog_job, node);
        if (job->kind == JOB_START || !job->table->trouble)
            return job;
        if (job->table->due_ms < *due_ms)
            *due_ms = job->table->due_ms;
        if (!second && job->table->due_ms <= now_ms)
            second = job;
    }
    return second;
}

static void run_job(struct catalog *catalog, struct catalog_job *job)
{
    catalog->running = job;
    if (job->kind == JOB_START)
        catalog_migrate(catalog);
    else if (job->kind == JOB_NEED && job->table->shape == SHAPE_RANGES)
        catalog_make_partitions(catalog);
    else
        look_at(catalog, job->table);
}

// Something is to be done: job, or nothing before due_ms.
static void go_on(struct catalog *catalog, struct catalog_job *job, int64_t due_ms)
{
    int64_t now_ms = loop_now_ms();
    if (catalog->due_ms > now_ms || !job) {
        if (catalog->due_ms > now_ms)
            due_ms = catalog->due_ms;
        loop_timer_start(catalog->retry, due_ms > now_ms ? due_ms - now_ms : 0);
    } else if (pg_connected(catalog->pg)) {
        run_job(catalog, job);
    } else {
        catalog->connecting = true;
        pg_connect(catalog->pg);
    }
}

static void work(void *arg)
{
    struct catalog *catalog = arg;
    if (catalog->running || catalog->connecting)
        return;
    if (list_empty(&catalog->jobs)) {
        if (pg_connected(catalog->pg))
            loop_timer_start(catalog->idle, IDLE_MS);
        return;
    }
    int64_t due_ms;
    struct catalog_job *job = next_job(catalog, loop_now_ms(), &due_ms);
    if (job && satisfied(job)) {
        catalog->running = job;
        catalog_job_finish(catalog, true, ""); // which comes back here
        return;
    }
    loop_timer_stop(catalog->idle);
    go_on(catalog, job, due_ms);
}

static void settings_made(void *arg, const struct pg_result *result)
{
    struct catalog *catalog = arg;
    catalog->connecting = false;
    if (result->ok) {
        loop_task_schedule(catalog->work);
        return;
    }
    pg_disconnect(catalog->pg);
    catalog_wait(catalog, result->message);
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
        catalog_wait(catalog, why);
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
    list_each (node, &catalog->jobs)
        job_free(list_entry(node, struct catalog_job, node));
    free(catalog->trouble);
}
