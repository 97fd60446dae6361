// The catalog's life, its clock, and what it says to people.
#include "store/catalog.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "store/catalog_internal.h"

enum {
    COMPLAINTS_MS = 600000, // between lines about a table that cannot be changed
    TICK_MS = 60000,        // between looks at the clock, and at stopped targets' tables
};

static const struct backoff BACKOFF = {.minimum_ms = 500, .maximum_ms = 30000};

// ---- the clock ----

static bool has_stopped(const struct catalog_table *table)
{
    for (size_t i = 0; i < table->target_count; i++)
        if (table->targets[i]->stopped)
            return true;
    return false;
}

// A stopped target's table may have been mended; and periods begin.
static void tick(void *arg)
{
    struct catalog *catalog = arg;
    loop_timer_start(catalog->tick, TICK_MS);
    if (!catalog->ready)
        return;
    int64_t now_us = loop_wall_us(), times[CATALOG_AHEAD];
    for (size_t i = 0; i < catalog->table_count; i++) {
        struct catalog_table *table = catalog->tables[i];
        bool ahead = catalog->options.migrate && now_us >= table->ahead_due_us &&
                     catalog_ahead(table, now_us, times) > 0;
        if ((ahead || has_stopped(table)) && !catalog_table_has_job(catalog, table))
            catalog_job_add(catalog, JOB_LOOK, table, NULL, NULL);
    }
}

// ---- life ----

static struct catalog_table *table_for(struct catalog *catalog, const struct target *target)
{
    for (size_t i = 0; i < catalog->table_count; i++) {
        struct catalog_table *table = catalog->tables[i];
        if (strcmp(table->schema, target->schema) == 0 && strcmp(table->name, target->table) == 0)
            return table;
    }
    struct catalog_table *table = mem_alloc(sizeof *table);
    char *schema = pg_quote_identifier(target->schema), *name = pg_quote_identifier(target->table);
    *table = (struct catalog_table){.schema = mem_strdup(target->schema),
                                    .name = mem_strdup(target->table),
                                    .complaints = {.interval_ms = COMPLAINTS_MS},
                                    .backoff = BACKOFF,
                                    .full = mem_printf("%s.%s", schema, name)};
    free(name);
    free(schema);
    catalog->tables =
        mem_realloc(catalog->tables, catalog->table_count + 1, sizeof(struct catalog_table *));
    return catalog->tables[catalog->table_count++] = table;
}

static void set_table_of(struct catalog *catalog, unsigned index, struct catalog_table *table)
{
    if (index >= catalog->table_of_count) {
        size_t count = index + 1;
        catalog->table_of = mem_realloc(catalog->table_of, count, sizeof(struct catalog_table *));
        memset(catalog->table_of + catalog->table_of_count, 0,
               (count - catalog->table_of_count) * sizeof(struct catalog_table *));
        catalog->table_of_count = count;
    }
    catalog->table_of[index] = table;
}

static struct catalog_table *add_target(struct catalog *catalog, struct target *target)
{
    struct catalog_table *table = table_for(catalog, target);
    if (table->target_count == 0)
        table->partition_by = target->partition;
    else if (table->partition_by != target->partition)
        log_warn("mapping \"%s\": table %s is partitioned as mapping \"%s\" says", target->mapping,
                 table->full, table->targets[0]->mapping);
    table->targets = mem_realloc(table->targets, table->target_count + 1, sizeof(struct target *));
    table->targets[table->target_count++] = target;
    set_table_of(catalog, target->index, table);
    return table;
}

struct catalog *catalog_new(struct loop *loop, struct worker *worker, struct target **targets,
                            size_t count, const struct catalog_options *options)
{
    struct catalog *catalog = mem_zalloc(sizeof *catalog);
    catalog->options = *options;
    catalog->backoff = BACKOFF;
    for (size_t i = 0; i < count; i++)
        add_target(catalog, targets[i]);
    catalog_jobs_init(catalog, loop, worker);
    catalog->tick = loop_timer_new(loop, tick, catalog);
    return catalog;
}

static void target_forget(struct target *target)
{
    free(target->stopped);
    target->stopped = NULL;
    for (size_t i = 0; i < target->column_count; i++) {
        free(target->columns[i].live_type);
        target->columns[i].live_type = NULL;
    }
}

static void table_free(struct catalog_table *table)
{
    for (size_t i = 0; i < table->target_count; i++)
        target_forget(table->targets[i]);
    free(table->targets);
    free(table->ranges);
    free(table->findings);
    free(table->trouble);
    free(table->full);
    free(table->schema);
    free(table->name);
    free(table);
}

void catalog_free(struct catalog *catalog)
{
    if (!catalog)
        return;
    catalog_jobs_fini(catalog);
    loop_timer_free(catalog->tick);
    for (size_t i = 0; i < catalog->table_count; i++)
        table_free(catalog->tables[i]);
    free(catalog->tables);
    free(catalog->table_of);
    free(catalog->refused);
    free(catalog->findings);
    free(catalog);
}

// ---- targets come and go ----

void catalog_add(struct catalog *catalog, struct target *target)
{
    struct catalog_table *table = add_target(catalog, target);
    table->shape = SHAPE_UNKNOWN;
    catalog_job_add(catalog, JOB_LOOK, table, NULL, NULL);
}

// The table stays, though nobody may write it any more: jobs may be at it.
void catalog_remove(struct catalog *catalog, const struct target *target)
{
    struct catalog_table *table = catalog->table_of[target->index];
    size_t kept = 0;
    for (size_t i = 0; i < table->target_count; i++)
        if (table->targets[i] != target)
            table->targets[kept++] = table->targets[i];
    table->target_count = kept;
}

void catalog_forget(struct catalog *catalog, struct target *target)
{
    catalog->table_of[target->index] = NULL;
    target_forget(target);
}

// ---- what is asked of it ----

void catalog_start(struct catalog *catalog, catalog_fn *ready, void *arg)
{
    catalog->ready_fn = ready;
    catalog->ready_arg = arg;
    catalog_job_add(catalog, JOB_START, NULL, ready, arg);
    loop_timer_start(catalog->tick, TICK_MS);
}

void catalog_begin_again(struct catalog *catalog)
{
    if (!catalog->ready)
        return;
    catalog->ready = false;
    for (size_t i = 0; i < catalog->table_count; i++)
        catalog->tables[i]->shape = SHAPE_UNKNOWN;
    log_warn("postgres: schema sensorlog is gone; looking at the database anew");
    catalog_job_add(catalog, JOB_START, NULL, catalog->ready_fn, catalog->ready_arg);
}

bool catalog_ready(const struct catalog *catalog)
{
    return catalog->ready;
}

const char *catalog_state(const struct catalog *catalog)
{
    if (catalog->refused)
        return catalog->refused;
    if (catalog->trouble)
        return catalog->trouble;
    for (size_t i = 0; i < catalog->table_count; i++)
        if (catalog->tables[i]->trouble)
            return catalog->tables[i]->trouble;
    return catalog->ready ? "ok" : "looking at schema and tables";
}

bool catalog_has(const struct catalog *catalog, const struct target *target, int64_t time_us)
{
    return catalog_ranges_has(catalog->table_of[target->index], time_us);
}

void catalog_need(struct catalog *catalog, struct target *target, const int64_t *times_us,
                  size_t count, catalog_fn *done, void *arg)
{
    struct catalog_job *job =
        catalog_job_add(catalog, JOB_NEED, catalog->table_of[target->index], done, arg);
    job->times = mem_alloc((count + 1) * sizeof *job->times);
    memcpy(job->times, times_us, count * sizeof *job->times);
    job->count = count;
}

void catalog_refresh(struct catalog *catalog, struct target *target, catalog_fn *done, void *arg)
{
    struct catalog_table *table = catalog->table_of[target->index];
    table->shape = SHAPE_UNKNOWN;
    catalog_job_add(catalog, JOB_LOOK, table, done, arg);
}

void catalog_stop(struct catalog *catalog, struct target *target, const char *why)
{
    (void)catalog; // its tick sees it
    catalog_stop_target(target, why);
}

// ---- for people ----

static void print_unit(char *sql)
{
    printf("BEGIN;\n%s\nCOMMIT;\n\n", sql);
    free(sql);
}

void catalog_print(const struct catalog *catalog)
{
    for (size_t i = 0; i < migration_count; i++) {
        printf("-- migration %s\n", migrations[i].name);
        print_unit(catalog_sql_migration(&migrations[i]));
    }
    for (size_t i = 0; i < catalog->table_count; i++) {
        const struct catalog_table *table = catalog->tables[i];
        printf("-- table %s\n", table->full);
        print_unit(catalog_sql_create(catalog, table));
        struct partition_range range = {.to = loop_wall_us()};
        for (int j = 0; j < CATALOG_AHEAD; j++) {
            char name[PARTITION_NAME_SIZE];
            if (!partition_range_of(table->partition_by, range.to, &range))
                break;
            partition_name(name, table->name, table->partition_by, range.from);
            print_unit(catalog_sql_partition(table, name, &range));
        }
    }
}

const char *catalog_findings(struct catalog *catalog)
{
    free(catalog->findings);
    catalog->findings = mem_strdup("");
    for (size_t i = 0; i < catalog->table_count; i++) {
        const char *more = catalog->tables[i]->findings;
        char *longer = mem_printf("%s%s", catalog->findings, more ? more : "");
        free(catalog->findings);
        catalog->findings = longer;
    }
    return catalog->findings;
}
