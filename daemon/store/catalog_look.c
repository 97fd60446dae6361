// Looks at a live table, and creates or widens it where that is asked for.
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "store/catalog_internal.h"

enum { CHANGES_MAX = 3 }; // of one table in one job: others may be at it too

static const int64_t AHEAD_RETRY_US = INT64_C(3600) * 1000000; // where a partition ahead is refused

// All that is to be known of a table, as rows (fact, name, a, b, c); no row where there is none.
//   1 table:     name its kind; a '' unpartitioned, 'time' by range of time, 'other';
//                b whether it may be inserted into, c 's' selected from, 'u' updated
//   2 column:    a its type, of a domain the type below; b the type for people;
//                c 'n' not null, 'd' default, 'g' generated, 't' b says more than a
//   3 key:       name the unique index; a a column of it; b how many it has
//   4 partition: a, b its bounds in microseconds, null where there is none; c 'default'
// It takes no lock on the table or its partitions: pg_get_expr would, if it were told the
// partition.
static const char LOOK[] =
    "WITH rel AS (SELECT c.*, n.nspname"
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname = $1 AND c.relname = $2)\n"
    "SELECT 1 AS fact, rel.relkind::text AS name,"
    " CASE WHEN p.partrelid IS NULL THEN ''"
    " WHEN p.partstrat = 'r' AND p.partnatts = 1 AND a.attname = 'time'"
    " AND a.atttypid = 'timestamptz'::regtype THEN 'time' ELSE 'other' END AS a,"
    " (has_schema_privilege(rel.relnamespace, 'USAGE')"
    " AND has_any_column_privilege(rel.oid, 'INSERT'))::text AS b,"
    " CASE WHEN has_any_column_privilege(rel.oid, 'SELECT') THEN 's' ELSE '' END"
    " || CASE WHEN has_any_column_privilege(rel.oid, 'UPDATE') THEN 'u' ELSE '' END AS c"
    " FROM rel LEFT JOIN pg_partitioned_table p ON p.partrelid = rel.oid"
    " LEFT JOIN pg_attribute a ON a.attrelid = rel.oid AND a.attnum = p.partattrs[0]\n"
    "UNION ALL SELECT 2, a.attname,"
    " CASE WHEN n.nspname = 'pg_catalog' THEN b.typname ELSE n.nspname || '.' || b.typname END,"
    " format_type(a.atttypid, a.atttypmod),"
    " CASE WHEN a.attnotnull OR t.typnotnull THEN 'n' ELSE '' END"
    " || CASE WHEN a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL"
    " THEN 'd' ELSE '' END"
    " || CASE WHEN a.attgenerated <> '' OR a.attidentity = 'a' THEN 'g' ELSE '' END"
    " || CASE WHEN a.atttypmod <> -1 OR t.typtype = 'd' THEN 't' ELSE '' END"
    " FROM rel JOIN pg_attribute a ON a.attrelid = rel.oid AND a.attnum > 0 AND NOT a.attisdropped"
    " JOIN pg_type t ON t.oid = a.atttypid"
    " JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END"
    " JOIN pg_namespace n ON n.oid = b.typnamespace\n"
    "UNION ALL SELECT 3, i.indexrelid::text, a.attname, i.indnkeyatts::text, NULL"
    " FROM rel JOIN pg_index i ON i.indrelid = rel.oid AND i.indisunique AND i.indisvalid"
    " AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL"
    " JOIN pg_attribute a ON a.attrelid = rel.oid"
    " AND a.attnum = ANY ((i.indkey::int2[])[0 : i.indnkeyatts - 1])\n"
    "UNION ALL SELECT 4, x.name, b.from_us, b.to_us,"
    " CASE WHEN x.bound = 'DEFAULT' THEN 'default' END"
    " FROM rel JOIN pg_inherits h ON h.inhparent = rel.oid"
    " JOIN pg_class p ON p.oid = h.inhrelid AND p.relispartition"
    " CROSS JOIN LATERAL"
    " (SELECT p.relname AS name, pg_get_expr(p.relpartbound, 0) AS bound) AS x"
    " LEFT JOIN LATERAL"
    " regexp_match(x.bound, '^FOR VALUES FROM [(](.*)[)] TO [(](.*)[)]$') AS m ON true"
    " CROSS JOIN LATERAL (SELECT"
    " (SELECT (extract(epoch FROM f) * 1000000)::bigint::text"
    " FROM (SELECT CASE WHEN m[1] ~ '^''[^,]*''$'"
    " THEN trim(both '''' FROM m[1])::timestamptz END) AS v (f)"
    " WHERE isfinite(f)) AS from_us,"
    " (SELECT (extract(epoch FROM f) * 1000000)::bigint::text"
    " FROM (SELECT CASE WHEN m[2] ~ '^''[^,]*''$'"
    " THEN trim(both '''' FROM m[2])::timestamptz END) AS v (f)"
    " WHERE isfinite(f) AND f < '20000-01-01') AS to_us) AS b"
    " WHERE (SELECT a.attname = 'time' AND a.atttypid = 'timestamptz'::regtype"
    " FROM pg_partitioned_table q"
    " JOIN pg_attribute a ON a.attrelid = q.partrelid AND a.attnum = q.partattrs[0]"
    " WHERE q.partrelid = rel.oid AND q.partstrat = 'r' AND q.partnatts = 1)\n"
    "ORDER BY fact, name, a";

// ---- partitions ----

static void take_ranges(struct catalog_table *table, const struct pg_result *live)
{
    catalog_ranges_clear(table);
    bool by_time = live->rows > 0 && strcmp(catalog_field(live, 0, 2), "time") == 0;
    table->shape = live->rows == 0 ? SHAPE_MISSING : by_time ? SHAPE_RANGES : SHAPE_ANY;
    for (int row = 0; row < live->rows; row++) {
        if (!catalog_is_fact(live, row, FACT_PARTITION))
            continue;
        // A DEFAULT partition takes all, and stands in the way of partitions for what it holds.
        if (*catalog_field(live, row, 4))
            table->shape = SHAPE_ANY;
        struct partition_range range = {INT64_MIN, INT64_MAX};
        if (pg_value(live, row, 2))
            range.from = pg_integer(live, row, 2);
        if (pg_value(live, row, 3))
            range.to = pg_integer(live, row, 3);
        catalog_ranges_add(table, range);
    }
}

// The table is known now: partitions next, those ahead or those that are needed.
static void go_on(struct catalog *catalog)
{
    struct catalog_job *job = catalog_job(catalog);
    struct catalog_table *table = job->table;
    int64_t now_us = loop_wall_us();
    job->next = 0;
    if (job->kind != JOB_NEED) {
        job->times = mem_realloc(job->times, CATALOG_AHEAD, sizeof *job->times);
        job->count = catalog_may_change(catalog) ? catalog_ahead(table, now_us, job->times) : 0;
        if (job->count > 0)
            table->ahead_due_us = now_us + AHEAD_RETRY_US;
    }
    catalog_make_partitions(catalog);
}

// ---- creating and widening ----

// Whatever came of it, the next look tells; what was refused is not tried again in this job.
static void changed(void *arg, const struct pg_result *result)
{
    struct catalog *catalog = arg;
    struct catalog_job *job = catalog_job(catalog);
    const char *table = job->table->full;
    bool missing = job->table->shape == SHAPE_MISSING;
    if (result->ok) {
        job->table->ahead_due_us = 0;
        log_info("postgres: %s table %s", missing ? "created" : "added columns to", table);
    } else if (catalog_error_of(result->sqlstate) != ERROR_RACE) {
        job->table->shape = SHAPE_UNKNOWN; // its rows wait for the change, or for what follows
        if (catalog_table_passing(catalog, result))
            return;
        free(job->refusal);
        job->refusal = mem_strdup(result->message);
        job->changes = CHANGES_MAX;
        if (!missing && log_limit_pass(&job->table->complaints, NULL))
            log_error("postgres: cannot add columns to table %s: %s", table, result->message);
    }
    catalog_look(catalog);
}

static void create(struct catalog *catalog)
{
    char *sql = catalog_sql_create(catalog, catalog_job(catalog)->table);
    pg_script(catalog->pg, sql, changed, catalog);
    free(sql);
}

// The columns that the live table lacks, "time" apart; the caller frees.
static const struct target_column **
missing_columns(const struct pg_result *live, const struct catalog_table *table, size_t *count)
{
    size_t all;
    struct catalog_column *columns = catalog_columns(table, &all);
    const struct target_column **missing = mem_alloc(all * sizeof *missing);
    *count = 0;
    for (size_t i = 1; i < all; i++)
        if (catalog_find_column(live, columns[i].column->name) < 0)
            missing[(*count)++] = columns[i].column;
    free(columns);
    return missing;
}

static void widen(struct catalog *catalog, const struct target_column *const *columns, size_t count)
{
    const struct catalog_table *table = catalog_job(catalog)->table;
    for (size_t i = 0; i < count; i++)
        if (columns[i]->required || columns[i]->key)
            log_warn("postgres: column \"%s\" of table %s is added without NOT NULL, since the "
                     "table may have rows",
                     columns[i]->name, table->full);
    catalog_job(catalog)->table->shape = SHAPE_UNKNOWN; // rows with the new columns wait for them
    char *sql = catalog_sql_add_columns(table, columns, count);
    pg_script(catalog->pg, sql, changed, catalog);
    free(sql);
}

// True where the table is being changed, after which it is looked at again.
static bool change(struct catalog *catalog, const struct pg_result *live)
{
    struct catalog_job *job = catalog_job(catalog);
    if (!catalog_may_change(catalog) || job->changes >= CHANGES_MAX ||
        job->table->target_count == 0)
        return false;
    if (live->rows == 0) {
        job->changes++;
        create(catalog);
        return true;
    }
    if (!catalog_is_table(live))
        return false;
    size_t count;
    const struct target_column **missing = missing_columns(live, job->table, &count);
    if (count > 0) {
        job->changes++;
        widen(catalog, missing, count);
    }
    free(missing);
    return count > 0;
}

// ---- the look ----

// While the migrations are refused no mapping is stopped: its messages wait, for nothing can be
// written.
static void judge(const struct catalog *catalog, const struct pg_result *live)
{
    const struct catalog_job *job = catalog_job(catalog);
    bool stop = !catalog->refused;
    char *missing = NULL;
    if (!live->ok)
        missing = mem_printf("it cannot be looked at: %s", live->message);
    else if (live->rows == 0 && job->refusal)
        missing = mem_printf("there is no such table, and it cannot be created: %s", job->refusal);
    else if (live->rows == 0)
        missing = mem_strdup("there is no such table: run sensorlogd migrate");
    if (missing)
        catalog_judge_missing(job->table, missing, stop);
    else
        catalog_judge_live(job->table, live, stop);
    free(missing);
}

static void looked(void *arg, const struct pg_result *result)
{
    struct catalog *catalog = arg;
    struct catalog_job *job = catalog_job(catalog);
    if (!result->ok && catalog_table_passing(catalog, result))
        return;
    if (result->ok) {
        take_ranges(job->table, result);
        if (change(catalog, result))
            return;
    } else {
        job->table->shape = SHAPE_MISSING;
    }
    judge(catalog, result);
    go_on(catalog);
}

void catalog_look(struct catalog *catalog)
{
    const struct catalog_table *table = catalog_job(catalog)->table;
    const char *const values[] = {table->schema, table->name};
    const struct pg_params params = {.count = 2, .values = values};
    pg_query(catalog->pg, LOOK, &params, looked, catalog);
}
