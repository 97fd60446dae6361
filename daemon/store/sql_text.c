// The SQL by which rows are stored, compared and tried one by one.
#include "store/sql_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/memtext.h"
#include "core/row.h"
#include "store/partition.h"
#include "store/pg.h"
#include "store/sqlstate.h"

#define DETAIL_LENGTH "500" // characters

static void put_columns(FILE *out, const struct target *target, bool key_only)
{
    const char *separator = "";
    for (size_t i = 0; i < target->column_count; i++) {
        if (key_only && !target->columns[i].key)
            continue;
        fputs(separator, out);
        pg_put_identifier(out, target->columns[i].name);
        separator = ", ";
    }
}

// unnest($1::timestamptz[]), unnest($2::text[]): in step, for the arrays are of one length.
static void put_rows(FILE *out, const struct target *target)
{
    for (size_t i = 0; i < target->column_count; i++)
        fprintf(out, "%sunnest($%zu::%s[])", i ? ", " : "", i + 1,
                column_type_name(target->columns[i].type));
}

// $1::timestamptz[], $2::text[]
static void put_arrays(FILE *out, const struct target *target, bool key_only)
{
    const char *separator = "";
    for (size_t i = 0; i < target->column_count; i++) {
        if (key_only && !target->columns[i].key)
            continue;
        fprintf(out, "%s$%zu::%s[]", separator, i + 1, column_type_name(target->columns[i].type));
        separator = ", ";
    }
}

static void put_table(FILE *out, const struct target *target)
{
    pg_put_identifier(out, target->schema);
    fputs(".", out);
    pg_put_identifier(out, target->table);
}

static void put_insert_into(FILE *out, const struct target *target, const char *alias)
{
    fputs("INSERT INTO ", out);
    put_table(out, target);
    fprintf(out, "%s (", alias);
    put_columns(out, target, false);
    fputs(") ", out);
}

static void put_on_conflict(FILE *out, const struct target *target)
{
    fputs(" ON CONFLICT (", out);
    put_columns(out, target, true);
    fputs(") DO ", out);
}

static bool key_has_live_type(const struct target *target)
{
    for (size_t i = 0; i < target->column_count; i++)
        if (target->columns[i].key && target->columns[i].live_type)
            return true;
    return false;
}

// input."name"::numeric(6,2)
static void put_input(FILE *out, const struct target_column *column)
{
    fputs("input.", out);
    pg_put_identifier(out, column->name);
    if (column->live_type)
        fprintf(out, "::%s", column->live_type);
}

// As the table would have it.
static void put_key(FILE *out, const struct target *target)
{
    const char *separator = "";
    for (size_t i = 0; i < target->column_count; i++) {
        if (!target->columns[i].key)
            continue;
        fputs(separator, out);
        put_input(out, &target->columns[i]);
        separator = ", ";
    }
}

static void put_input_alias(FILE *out, const struct target *target, bool key_only)
{
    fputs(" AS input(", out);
    put_columns(out, target, key_only);
    fputs(", \"#\")", out);
}

static void put_input_rows(FILE *out, const struct target *target, bool key_only)
{
    fputs("unnest(", out);
    put_arrays(out, target, key_only);
    fputs(") WITH ORDINALITY", out);
    put_input_alias(out, target, key_only);
}

// The keys of the rows with their ordinals, as the table would have them.
static void put_input_keys(FILE *out, const struct target *target)
{
    if (!key_has_live_type(target)) {
        put_input_rows(out, target, true);
        return;
    }
    fputs("(SELECT ", out);
    put_key(out, target);
    fputs(", \"#\" FROM ", out);
    put_input_rows(out, target, true);
    fputs(")", out);
    put_input_alias(out, target, true);
}

// Rows that were there already are found by comparing keys, but only where fewer were stored than
// sent: the rule is that none was. Of rows with one key in one batch the first is stored, the
// others were "there already".
static void put_keyed(FILE *out, const struct target *target)
{
    fputs("WITH stored AS (", out);
    put_insert_into(out, target, "");
    fputs("SELECT ", out);
    put_rows(out, target);
    put_on_conflict(out, target);
    fputs("NOTHING RETURNING ", out);
    put_columns(out, target, true);
    fputs("), numbered AS (SELECT ", out);
    put_columns(out, target, true);
    fputs(", \"#\", row_number() OVER (PARTITION BY ", out);
    put_columns(out, target, true);
    fputs(" ORDER BY \"#\") AS \"#n\" FROM ", out);
    put_input_keys(out, target);
    fprintf(out,
            " WHERE (SELECT count(*) FROM stored) < $%zu::int8)"
            " SELECT \"#\" FROM numbered WHERE \"#n\" > 1 OR (",
            target->column_count + 1);
    put_columns(out, target, true);
    fputs(") NOT IN (SELECT ", out);
    put_columns(out, target, true);
    fputs(" FROM stored) ORDER BY \"#\"", out);
}

char *sql_insert(const struct target *target, bool keyed)
{
    struct memtext text;
    memtext_open(&text);
    if (keyed) {
        put_keyed(text.out, target);
    } else {
        put_insert_into(text.out, target, "");
        fputs("SELECT ", text.out);
        put_rows(text.out, target);
    }
    return memtext_close(&text);
}

// ---- comparing ----

static void put_distinct(FILE *out, const struct target_column *column)
{
    fputs("stored.", out);
    pg_put_identifier(out, column->name);
    fputs(" IS DISTINCT FROM ", out);
    put_input(out, column);
}

// Or NULL where the column does not differ.
static void put_difference(FILE *out, const struct target_column *column)
{
    char *name = pg_quote_literal(column->name);
    fputs("CASE WHEN ", out);
    put_distinct(out, column);
    fprintf(out, " THEN %s || ': ' || coalesce(left(stored.", name);
    pg_put_identifier(out, column->name);
    fputs("::text, 80), 'null') || ' is stored, ' || coalesce(left((", out);
    put_input(out, column);
    fputs(")::text, 80), 'null') || ' came' END", out);
    free(name);
}

static void put_compared(FILE *out, const struct target *target, const char *separator,
                         void (*put)(FILE *out, const struct target_column *column))
{
    const char *between = "";
    for (size_t i = 0; i < target->column_count; i++) {
        if (!target->columns[i].compared)
            continue;
        fputs(between, out);
        put(out, &target->columns[i]);
        between = separator;
    }
}

// '2023-11-14 22:13:33.000000+00'::timestamptz
static void put_time(FILE *out, const struct target *target, const char *bound)
{
    const char *live_type = target->columns[0].live_type;
    fprintf(out, "'%s'::timestamptz", bound);
    if (live_type)
        fprintf(out, "::%s", live_type);
}

// Nothing where a time has no text.
static void put_within(FILE *out, const struct target *target, struct sql_span span)
{
    char first[PARTITION_BOUND_SIZE], last[PARTITION_BOUND_SIZE];
    partition_bound(first, span.first_us);
    partition_bound(last, span.last_us);
    if (!*first || !*last)
        return;
    fputs(" AND stored.", out);
    pg_put_identifier(out, target->columns[0].name);
    fputs(" BETWEEN ", out);
    put_time(out, target, first);
    fputs(" AND ", out);
    put_time(out, target, last);
}

static void put_on_key(FILE *out, const struct target *target, struct sql_span span)
{
    const char *separator = "";
    fputs(" AS stored ON ", out);
    for (size_t i = 0; i < target->column_count; i++) {
        const struct target_column *column = &target->columns[i];
        if (!column->key)
            continue;
        fprintf(out, "%sstored.", separator);
        pg_put_identifier(out, column->name);
        fputs(" = ", out);
        put_input(out, column);
        separator = " AND ";
    }
    put_within(out, target, span);
}

// A statement of its own, after the INSERT: its snapshot has what others have committed meanwhile,
// and what this transaction has stored.
char *sql_compare(const struct target *target, struct sql_span span)
{
    struct memtext text;
    memtext_open(&text);
    fputs("SELECT \"#\", left(array_to_string(ARRAY[", text.out);
    put_compared(text.out, target, ", ", put_difference);
    fputs("], '; '), " DETAIL_LENGTH ") FROM ", text.out);
    put_input_rows(text.out, target, false);
    fputs(" JOIN ", text.out);
    put_table(text.out, target);
    put_on_key(text.out, target, span);
    fputs(" WHERE ", text.out);
    put_compared(text.out, target, " OR ", put_distinct);
    fputs(" ORDER BY \"#\"", text.out);
    return memtext_close(&text);
}

char *sql_new_keys(const struct target *target, struct sql_span span)
{
    struct memtext text;
    memtext_open(&text);
    fputs("SELECT min(\"#\") FROM ", text.out);
    put_input_rows(text.out, target, true);
    fputs(" LEFT JOIN ", text.out);
    put_table(text.out, target);
    put_on_key(text.out, target, span);
    fputs(" GROUP BY ", text.out);
    put_key(text.out, target);
    fputs(" HAVING count(*) = 1 AND count(stored.", text.out);
    pg_put_identifier(text.out, target->columns[0].name);
    fputs(") = 0", text.out);
    return memtext_close(&text);
}

// ---- one by one ----

#define ROWS_CURSOR "\"sensorlog rows\""
#define ANSWER_CURSOR "\"sensorlog answer\""

const char sql_each_answer[] = "FETCH ALL FROM " ANSWER_CURSOR;
const char *const sql_each_end[2] = {"CLOSE " ROWS_CURSOR, "CLOSE " ANSWER_CURSOR};

char *sql_each_rows(const struct target *target, bool backwards)
{
    struct memtext text;
    memtext_open(&text);
    fputs("DECLARE " ROWS_CURSOR " NO SCROLL CURSOR FOR SELECT * FROM unnest(", text.out);
    put_arrays(text.out, target, false);
    fputs(") WITH ORDINALITY AS r(", text.out);
    for (size_t i = 0; i < target->column_count; i++)
        fprintf(text.out, "c%zu, ", i);
    fprintf(text.out, "ordinal)%s", backwards ? " ORDER BY ordinal DESC" : "");
    return memtext_close(&text);
}

static void put_excluded(FILE *out, const struct target_column *column)
{
    fputs("stored.", out);
    pg_put_identifier(out, column->name);
    fputs(" IS DISTINCT FROM excluded.", out);
    pg_put_identifier(out, column->name);
}

static void put_update(FILE *out, const struct target *target)
{
    const char *separator = "";
    fputs("UPDATE SET ", out);
    for (size_t i = 0; i < target->column_count; i++) {
        const struct target_column *column = &target->columns[i];
        if (column->key)
            continue;
        fputs(separator, out);
        pg_put_identifier(out, column->name);
        fputs(" = excluded.", out);
        pg_put_identifier(out, column->name);
        separator = ", ";
    }
    fputs(" WHERE ", out);
    put_compared(out, target, " OR ", put_excluded);
}

// What ends the attempt: who is to blame is no row. A class is a condition with zeros behind it.
static void put_not_isolated(FILE *out)
{
    enum sql_action action;
    const char *prefix, *separator = "";
    for (size_t i = 0; (prefix = sql_state(i, &action)); i++) {
        if (action == SQL_ISOLATE)
            continue;
        fprintf(out, "%sSQLSTATE '%s%s'", separator, prefix, strlen(prefix) == 2 ? "000" : "");
        separator = " OR ";
    }
}

static void put_row_insert(FILE *out, const struct target *target)
{
    put_insert_into(out, target, " AS stored");
    fputs("VALUES (", out);
    for (size_t i = 0; i < target->column_count; i++)
        fprintf(out, "%sr.c%zu", i ? ", " : "", i);
    fputs(")", out);
}

static void put_keyed_insert(FILE *out, const struct target *target, bool update)
{
    put_row_insert(out, target);
    put_on_conflict(out, target);
    if (update)
        put_update(out, target);
    else
        fputs("NOTHING", out);
    fputs(";\n   IF NOT FOUND THEN\n    numbers := numbers || r.ordinal;"
          " details := details || NULL::text;\n   END IF;\n",
          out);
}

// With ON CONFLICT a row costs twice as much: it is left out as long as none can have been there.
static void put_insert(FILE *out, const struct target *target)
{
    if (target->key_count > 0) {
        fputs("   IF careful THEN\n", out);
        put_keyed_insert(out, target, false);
        fputs("   ELSE\n", out);
    }
    put_row_insert(out, target);
    fputs(target->key_count > 0 ? ";\n   END IF;\n   EXIT;\n" : ";\n", out);
}

static void put_casts(FILE *out, const struct target *target)
{
    for (size_t i = 0; i < target->column_count; i++)
        if (target->columns[i].live_type)
            fprintf(out, "   v%zu := r.c%zu;\n", i, i);
}

static void put_try(FILE *out, const struct target *target, enum sql_try what)
{
    fputs("  BEGIN\n", out);
    if (what == SQL_TRY_CAST)
        put_casts(out, target);
    else if (what == SQL_TRY_UPDATE)
        put_keyed_insert(out, target, true);
    else
        put_insert(out, target);
}

// An error that an index may have raised hides that the row is there already.
static void put_again(FILE *out)
{
    fputs("   IF NOT careful AND state NOT IN ('23502', '23503', '23514', 'P0001') THEN\n"
          "    careful := true;\n    CONTINUE;\n   END IF;\n",
          out);
}

static void put_failed(FILE *out, bool partition, bool again)
{
    fputs("  EXCEPTION WHEN ", out);
    put_not_isolated(out);
    fputs(" THEN\n   RAISE;\n  WHEN OTHERS OR assert_failure THEN\n"
          "   GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,"
          " detail = PG_EXCEPTION_DETAIL, con = CONSTRAINT_NAME;\n",
          out);
    if (partition)
        fputs("   IF state = '23514' AND con = '' THEN\n    RAISE;\n   END IF;\n", out);
    if (again)
        put_again(out);
    fputs("   numbers := numbers || r.ordinal;"
          " details := details || (state || concat_ws(': ', message, nullif(detail, '')));\n",
          out);
    fputs(again ? "   EXIT;\n  END;\n" : "  END;\n", out);
}

static void put_variables(FILE *out, const struct target *target, enum sql_try what)
{
    fputs("DECLARE\n r record; answer refcursor := 'sensorlog answer';\n"
          " numbers int8[] := '{}'; details text[] := '{}'; careful bool := false;\n"
          " state text; message text; detail text; con text;\n",
          out);
    for (size_t i = 0; what == SQL_TRY_CAST && i < target->column_count; i++)
        if (target->columns[i].live_type)
            fprintf(out, " v%zu %s;\n", i, target->columns[i].live_type);
}

// A block with EXCEPTION is a savepoint. What is not needed per row is left to the answer.
char *sql_each_attempt(const struct target *target, enum sql_try what, bool partition)
{
    bool again = what == SQL_TRY_INSERT && target->key_count > 0;
    struct memtext text;
    memtext_open(&text);
    fputs("#variable_conflict use_column\n", text.out);
    put_variables(text.out, target, what);
    fputs("BEGIN\n FOR r IN EXECUTE 'FETCH ALL FROM " ROWS_CURSOR "' LOOP\n", text.out);
    fputs(again ? "  LOOP\n" : "", text.out);
    put_try(text.out, target, what);
    put_failed(text.out, partition, again);
    fputs(again ? "  END LOOP;\n" : "", text.out);
    fputs(" END LOOP;\n OPEN answer FOR SELECT n, left(d, 5), substr(d, 6, " DETAIL_LENGTH ")"
          " FROM unnest(numbers, details) AS a(n, d) ORDER BY n;\nEND",
          text.out);
    char *body = memtext_close(&text), *quoted = pg_quote_literal(body);
    char *sql = mem_printf("DO %s", quoted);
    free(quoted);
    free(body);
    return sql;
}

bool sql_may_cast(const struct target *target)
{
    for (size_t i = 0; i < target->column_count; i++)
        if (target->columns[i].live_type)
            return true;
    return false;
}
