// The catalog's SQL: migrations, mapped tables and their views, partitions.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/memtext.h"
#include "store/catalog_internal.h"

// Held by every transaction that changes the schema, so that two daemons do not do the same at
// once.
static const int64_t LOCK = INT64_C(0x73656e736f726c6f); // "sensorlo"

enum { VIEW_TABLE_MAX = 56 }; // bytes of a table's name that leave room for _latest

static void put_literal(FILE *out, const char *value)
{
    char *quoted = pg_quote_literal(value);
    fputs(quoted, out);
    free(quoted);
}

static void put_lock(FILE *out)
{
    fprintf(out, "SELECT pg_catalog.pg_advisory_xact_lock(%" PRId64 ");\n", LOCK);
}

// A statement as a DO block with the condition before it.
static void put_conditional(FILE *out, const char *condition, const char *statement)
{
    char *body = mem_printf("BEGIN IF %s THEN %s END IF; END", condition, statement);
    fputs("DO ", out);
    put_literal(out, body);
    fputs(";\n", out);
    free(body);
}

char *catalog_sql_migration(const struct migration *migration)
{
    struct memtext text;
    memtext_open(&text);
    put_lock(text.out);
    if (migration->version > 0) {
        // First, so that who comes second fails before anything is done twice.
        fprintf(text.out,
                "INSERT INTO sensorlog.schema_version (version, name, checksum) VALUES (%d, ",
                migration->version);
        put_literal(text.out, migration->name);
        fputs(", ", text.out);
        put_literal(text.out, migration->checksum);
        fputs(");\n", text.out);
    }
    fputs(migration->sql, text.out);
    return memtext_close(&text);
}

// ---- columns ----

static struct catalog_column *find_column(struct catalog_column *columns, size_t count,
                                          const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(columns[i].column->name, name) == 0)
            return &columns[i];
    return NULL;
}

static bool writes_required(const struct target *target, const char *name)
{
    for (size_t i = 0; i < target->column_count; i++) {
        const struct target_column *column = &target->columns[i];
        if (strcmp(column->name, name) == 0)
            return column->required || column->key || i == 0;
    }
    return false;
}

struct catalog_column *catalog_columns(const struct catalog_table *table, size_t *count)
{
    struct catalog_column *columns = NULL;
    size_t capacity = 0;
    *count = 0;
    for (size_t i = 0; i < table->target_count; i++) {
        const struct target *target = table->targets[i];
        for (size_t j = 0; j < target->column_count; j++) {
            if (find_column(columns, *count, target->columns[j].name))
                continue;
            columns = mem_grow(columns, *count, &capacity, sizeof *columns);
            columns[(*count)++] = (struct catalog_column){&target->columns[j], true};
        }
    }
    for (size_t i = 0; i < *count; i++)
        for (size_t j = 0; j < table->target_count; j++)
            columns[i].not_null &= writes_required(table->targets[j], columns[i].column->name);
    return columns;
}

static void put_column(FILE *out, const struct target_column *column)
{
    pg_put_identifier(out, column->name);
    fprintf(out, " %s", column_type_name(column->type));
}

// ---- indexes ----

// Time comes last, whatever the order of the mapping: who looks for one series walks it in the
// order of time.
static void put_key(FILE *out, const struct target *target)
{
    for (size_t i = 1; i < target->column_count; i++) {
        if (!target->columns[i].key)
            continue;
        pg_put_identifier(out, target->columns[i].name);
        fputs(", ", out);
    }
    pg_put_identifier(out, target->columns[0].name);
}

static char *key_text(const struct target *target)
{
    struct memtext text;
    memtext_open(&text);
    put_key(text.out, target);
    return memtext_close(&text);
}

static bool key_seen_before(const struct catalog_table *table, size_t index)
{
    char *key = key_text(table->targets[index]);
    bool seen = false;
    for (size_t i = 0; i < index && !seen; i++) {
        char *other = key_text(table->targets[i]);
        seen = table->targets[i]->key_count > 0 && strcmp(key, other) == 0;
        free(other);
    }
    free(key);
    return seen;
}

static void put_indexes(FILE *out, const struct catalog_table *table)
{
    fprintf(out,
            "CREATE INDEX ON %s USING brin (\"time\")"
            " WITH (pages_per_range = 32, autosummarize = on);\n",
            table->full);
    for (size_t i = 0; i < table->target_count; i++) {
        if (table->targets[i]->key_count == 0 || key_seen_before(table, i))
            continue;
        fprintf(out, "CREATE UNIQUE INDEX ON %s (", table->full);
        put_key(out, table->targets[i]);
        fputs(");\n", out);
    }
}

// ---- the view of the latest rows ----

static const struct target *keyed_target(const struct catalog_table *table)
{
    for (size_t i = 0; i < table->target_count; i++)
        if (table->targets[i]->key_count > 0)
            return table->targets[i];
    return NULL;
}

// Series are told apart by the key without time, or where there is none by the text columns.
static bool tells_series(const struct target *keyed, const struct target_column *column)
{
    if (!keyed)
        return column->type == COLUMN_TEXT;
    for (size_t i = 1; i < keyed->column_count; i++)
        if (strcmp(keyed->columns[i].name, column->name) == 0)
            return keyed->columns[i].key;
    return false;
}

static void put_series(FILE *out, const struct catalog_table *table)
{
    const struct target *keyed = keyed_target(table);
    size_t count;
    struct catalog_column *columns = catalog_columns(table, &count);
    const char *separator = "";
    fputs("ARRAY[", out);
    for (size_t i = 1; i < count; i++) {
        if (!tells_series(keyed, columns[i].column))
            continue;
        fputs(separator, out);
        put_literal(out, columns[i].column->name);
        separator = ", ";
    }
    fputs("]::pg_catalog.name[]", out);
    free(columns);
}

static char *view_name(const struct catalog_table *table)
{
    char *name = mem_printf("%s_latest", table->name);
    char *schema = pg_quote_identifier(table->schema), *quoted = pg_quote_identifier(name);
    char *full = mem_printf("%s.%s", schema, quoted);
    free(quoted);
    free(schema);
    free(name);
    return full;
}

static char *view_statement(const struct catalog_table *table, const char *view)
{
    struct memtext text;
    memtext_open(&text);
    fprintf(text.out, "CREATE OR REPLACE VIEW %s AS SELECT * FROM sensorlog.latest(NULL::%s, ",
            view, table->full);
    put_series(text.out, table);
    fprintf(text.out,
            "); COMMENT ON VIEW %s IS 'The latest row of each series, made by sensorlogd';", view);
    return memtext_close(&text);
}

static bool is_mapped(const struct catalog *catalog, const char *schema, const char *name)
{
    for (size_t i = 0; i < catalog->table_count; i++)
        if (strcmp(catalog->tables[i]->schema, schema) == 0 &&
            strcmp(catalog->tables[i]->name, name) == 0)
            return true;
    return false;
}

static void put_new_view(FILE *out, const struct catalog *catalog,
                         const struct catalog_table *table)
{
    if (strlen(table->name) > VIEW_TABLE_MAX)
        return;
    char *name = mem_printf("%s_latest", table->name);
    if (!is_mapped(catalog, table->schema, name)) {
        char *view = view_name(table), *literal = pg_quote_literal(view);
        char *condition = mem_printf("to_regclass(%s) IS NULL", literal);
        char *statement = view_statement(table, view);
        put_conditional(out, condition, statement);
        free(statement);
        free(condition);
        free(literal);
        free(view);
    }
    free(name);
}

// Replaces the view where it is still ours; where it does not go (columns were dropped) the old one
// stays.
static void put_wider_view(FILE *out, const struct catalog_table *table)
{
    char *view = view_name(table), *literal = pg_quote_literal(view);
    char *condition = mem_printf("obj_description(to_regclass(%s), 'pg_class')"
                                 " = 'The latest row of each series, made by sensorlogd'",
                                 literal);
    char *create = view_statement(table, view);
    char *statement =
        mem_printf("BEGIN %s EXCEPTION WHEN invalid_table_definition THEN NULL; END;", create);
    put_conditional(out, condition, statement);
    free(statement);
    free(create);
    free(condition);
    free(literal);
    free(view);
}

// ---- tables ----

char *catalog_sql_create(const struct catalog *catalog, const struct catalog_table *table)
{
    struct memtext text;
    memtext_open(&text);
    put_lock(text.out);
    char *schema = pg_quote_identifier(table->schema), *literal = pg_quote_literal(schema);
    char *condition = mem_printf("to_regnamespace(%s) IS NULL", literal);
    char *statement = mem_printf("CREATE SCHEMA %s;", schema);
    put_conditional(text.out, condition, statement);
    free(statement);
    free(condition);
    free(literal);
    free(schema);

    size_t count;
    struct catalog_column *columns = catalog_columns(table, &count);
    fprintf(text.out, "CREATE TABLE %s (\n", table->full);
    for (size_t i = 0; i < count; i++) {
        fputs("    ", text.out);
        put_column(text.out, columns[i].column);
        fprintf(text.out, "%s%s\n", columns[i].not_null ? " NOT NULL" : "",
                i + 1 < count ? "," : "");
    }
    fputs(") PARTITION BY RANGE (\"time\");\n", text.out);
    free(columns);
    put_indexes(text.out, table);
    put_new_view(text.out, catalog, table);
    return memtext_close(&text);
}

char *catalog_sql_add_columns(const struct catalog_table *table,
                              const struct target_column *const *columns, size_t count)
{
    struct memtext text;
    memtext_open(&text);
    put_lock(text.out);
    fprintf(text.out, "ALTER TABLE %s\n", table->full);
    for (size_t i = 0; i < count; i++) {
        fputs("    ADD COLUMN IF NOT EXISTS ", text.out);
        put_column(text.out, columns[i]);
        fputs(i + 1 < count ? ",\n" : ";\n", text.out);
    }
    put_wider_view(text.out, table);
    return memtext_close(&text);
}

// CREATE TABLE ... PARTITION OF would lock the parent against everything; ATTACH does not stop
// inserts.
char *catalog_sql_partition(const struct catalog_table *table, const char *name,
                            const struct partition_range *range)
{
    char from[PARTITION_BOUND_SIZE], to[PARTITION_BOUND_SIZE];
    partition_bound(from, range->from);
    partition_bound(to, range->to);
    char *schema = pg_quote_identifier(table->schema), *quoted = pg_quote_identifier(name);
    struct memtext text;
    memtext_open(&text);
    put_lock(text.out);
    fprintf(text.out, "CREATE TABLE %s.%s (LIKE %s INCLUDING ALL EXCLUDING IDENTITY);\n", schema,
            quoted, table->full);
    fprintf(text.out,
            "ALTER TABLE %s ATTACH PARTITION %s.%s\n    FOR VALUES FROM ('%s') TO ('%s');\n",
            table->full, schema, quoted, from, to);
    free(quoted);
    free(schema);
    return memtext_close(&text);
}
