// The SQL that asks a constraint which rows it would refuse, without inserting them.
//
// A row that is refused by such an answer is never inserted, so the answer has to be what the
// INSERT would have said. It is where nothing comes between the values that are sent and the
// constraint, and the constraint sees nothing but those values: then its expression is evaluated
// over them, as the types that the table has. A foreign key sees another table too, which no row of
// this one changes.
#include "store/sql_suspect.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memtext.h"
#include "store/pg.h"
#include "store/sql_text.h"

#define DETAIL_LENGTH "500" // characters
#define VALUE_LENGTH "64"   // characters of each value, as PostgreSQL has it

static const char check[] = "23514", not_null[] = "23502", foreign_key[] = "23503";

static bool is(const struct sql_fault *fault, const char *sqlstate)
{
    return strcmp(fault->sqlstate, sqlstate) == 0;
}

bool sql_may_suspect(const struct sql_fault *fault)
{
    return is(fault, not_null) ? *fault->column
                               : (is(fault, check) || is(fault, foreign_key)) && *fault->constraint;
}

static void put_literal(FILE *out, const char *text)
{
    char *quoted = pg_quote_literal(text);
    fputs(quoted, out);
    free(quoted);
}

// ---- how to ask ----

static void put_target(FILE *out, const struct target *target)
{
    fputs("WITH target AS (SELECT c.oid, c.relname FROM pg_catalog.pg_class c"
          " JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace WHERE s.nspname = ",
          out);
    put_literal(out, target->schema);
    fputs(" AND c.relname = ", out);
    put_literal(out, target->table);
    fputs(")", out);
}

// The columns that are written. A cast cuts text that an INSERT would refuse for its length, and
// does not give a collation; what the site has made itself may do anything.
static void put_written(FILE *out, const struct target *target)
{
    fputs(", written AS (SELECT a.attname, a.attnum, a.attnotnull, a.atttypid, b.type, b.typmod,"
          " b.type < 16384 AND bt.typtype = 'b' AND a.attcollation = bt.typcollation"
          " AND (b.typmod < 0 OR bt.typcategory NOT IN ('S', 'V')) AS plain"
          " FROM target JOIN pg_catalog.pg_attribute a ON a.attrelid = target.oid"
          " JOIN pg_catalog.pg_type t ON t.oid = a.atttypid"
          " CROSS JOIN LATERAL (SELECT CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END,"
          " CASE t.typtype WHEN 'd' THEN t.typtypmod ELSE a.atttypmod END) AS b(type, typmod)"
          " JOIN pg_catalog.pg_type bt ON bt.oid = b.type"
          " WHERE NOT a.attisdropped AND a.attname = ANY (ARRAY[",
          out);
    for (size_t i = 0; i < target->column_count; i++) {
        fputs(i ? ", " : "", out);
        put_literal(out, target->columns[i].name);
    }
    fputs("]))", out);
}

// The expression that must not be false, the columns that it looks at, and the name that it has for
// all of them, if that is another one.
static void put_fault_of_constraint(FILE *out, const char *constraint)
{
    fputs(", fault AS (SELECT pg_catalog.pg_get_expr(con.conbin, con.conrelid) AS good,"
          " coalesce(con.conkey, '{}') AS keys, NULL AS alias, pg_catalog.format("
          "'new row for relation \"%s\" violates check constraint \"%s\"', target.relname,"
          " con.conname) AS accusation, con.oid, con.conrelid AS own, con.conbin FROM target"
          " JOIN pg_catalog.pg_constraint con ON con.conrelid = target.oid"
          " WHERE con.contype = 'c' AND con.conname = ",
          out);
    put_literal(out, constraint);
    fputs(" AND coalesce(pg_catalog.to_jsonb(con) ->> 'conenforced', 'true') = 'true'"
          " UNION ALL SELECT pg_catalog.pg_get_expr(con.conbin, 0), ARRAY[written.attnum],"
          " 'value', pg_catalog.format('value for domain %s violates check constraint \"%s\"',"
          " pg_catalog.format_type(con.contypid, NULL), con.conname), con.oid, con.contypid,"
          " con.conbin FROM written"
          " JOIN pg_catalog.pg_constraint con ON con.contypid = written.atttypid"
          " WHERE con.contype = 'c' AND con.conname = ",
          out);
    put_literal(out, constraint);
    fputs(")", out);
}

// Of a reference: r."a" IS NULL OR r."b" IS NULL by MATCH SIMPLE, AND by MATCH FULL; and
// parent."x" = r."a" AND parent."y" = r."b", where both are of one type and with its collation.
static const char pairs[] =
    " CROSS JOIN LATERAL (SELECT count(*), pg_catalog.string_agg(pg_catalog.format("
    "'r.%I IS NULL', written.attname), CASE con.confmatchtype WHEN 'f' THEN ' AND ' ELSE ' OR '"
    " END), pg_catalog.string_agg(pg_catalog.format('parent.%I OPERATOR(%I.%s) r.%I', a.attname,"
    " os.nspname, o.oprname, written.attname), ' AND ')"
    " FROM unnest(con.conkey, con.confkey, con.conpfeqop) AS k(own, other, operator)"
    " JOIN written ON written.attnum = k.own"
    " JOIN pg_catalog.pg_attribute a ON a.attrelid = con.confrelid AND a.attnum = k.other"
    " AND a.atttypid = written.type"
    " JOIN pg_catalog.pg_type t ON t.oid = a.atttypid AND t.typcollation = a.attcollation"
    " JOIN pg_catalog.pg_operator o ON o.oid = k.operator"
    " JOIN pg_catalog.pg_namespace os ON os.oid = o.oprnamespace) AS pairs(count, nulls, equal)";

// The constraint looks with the eyes of the parent's owner, from whom policies hide nothing. A row
// of the same table, or a trigger, may bring what another row refers to.
static const char certain_reference[] =
    " AND pairs.count = pg_catalog.cardinality(con.conkey)"
    " AND parent.relkind IN ('r', 'p') AND NOT parent.relrowsecurity"
    " AND coalesce(pg_catalog.to_jsonb(con) ->> 'conenforced', 'true') = 'true'"
    " AND coalesce(pg_catalog.to_jsonb(con) ->> 'conperiod', 'false') = 'false'"
    " AND con.confrelid NOT IN (SELECT oid FROM relation)"
    " AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid IN"
    " (SELECT oid FROM relation) AND NOT t.tgisinternal AND t.tgtype & 4 = 4" // INSERT
    " AND t.tgtype & 3 <> 0))"; // FOR EACH ROW, or BEFORE

static void put_fault_of_reference(FILE *out, const char *constraint)
{
    fputs(", fault AS (SELECT pg_catalog.format('(%s OR EXISTS (SELECT FROM %s%I.%I AS parent"
          " WHERE %s))', pairs.nulls, CASE parent.relkind WHEN 'r' THEN 'ONLY ' END, ns.nspname,"
          " parent.relname, pairs.equal) AS good, con.conkey AS keys, NULL AS alias,"
          " pg_catalog.format('insert or update on table \"%s\" violates foreign key constraint"
          " \"%s\"', target.relname, con.conname) AS accusation, NULL::oid AS oid,"
          " NULL::oid AS own, NULL::pg_node_tree AS conbin"
          " FROM target JOIN pg_catalog.pg_constraint con ON con.conrelid = target.oid"
          " JOIN pg_catalog.pg_class parent ON parent.oid = con.confrelid"
          " JOIN pg_catalog.pg_namespace ns ON ns.oid = parent.relnamespace",
          out);
    fputs(pairs, out);
    fputs(" WHERE con.contype = 'f' AND con.conname = ", out);
    put_literal(out, constraint);
    fputs(certain_reference, out);
}

static void put_fault_of_column(FILE *out, const char *column)
{
    fputs(", fault AS (SELECT pg_catalog.format('%I IS NOT NULL', attname) AS good,"
          " ARRAY[attnum] AS keys, NULL AS alias, pg_catalog.format('null value in column \"%s\""
          " of relation \"%s\" violates not-null constraint', attname, relname) AS accusation,"
          " NULL::oid AS oid, NULL::oid AS own, NULL::pg_node_tree AS conbin FROM written, target"
          " WHERE attnotnull AND attname = ",
          out);
    put_literal(out, column);
    fputs(")", out);
}

// Two domains may have constraints of one name: then it is not known which is meant.
static const char certain[] =
    // A trigger or a rule may make another row of it, or none; a foreign table has its own mind.
    " WHERE (SELECT count(*) FROM fault) = 1"
    " AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid IN (SELECT oid FROM relation)"
    " AND (c.relhasrules OR c.relkind NOT IN ('r', 'p')))"
    " AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid IN"
    " (SELECT oid FROM relation) AND t.tgtype & 7 = 7)" // BEFORE INSERT FOR EACH ROW
    // Columns that are not written, the whole row, the system's columns.
    " AND NOT EXISTS (SELECT FROM pg_catalog.unnest(fault.keys) AS k(key)"
    " WHERE key NOT IN (SELECT attnum FROM written WHERE plain))"
    // What the site has made itself, and what gives another answer each time.
    " AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d"
    " WHERE d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND d.objid = fault.oid"
    " AND d.refobjid <> fault.own)"
    " AND NOT EXISTS (SELECT FROM pg_catalog.regexp_matches(fault.conbin::text,"
    " ':(?:op)?funcid (\\d+)', 'g') AS m LEFT JOIN pg_catalog.pg_proc p ON p.oid = m[1]::oid"
    " WHERE p.provolatile IS DISTINCT FROM 'i' AND p.provolatile IS DISTINCT FROM 's')";

char *sql_suspicion(const struct target *target, const struct sql_fault *fault)
{
    struct memtext text;
    memtext_open(&text);
    put_target(text.out, target);
    put_written(text.out, target);
    fputs(", relation AS (SELECT oid FROM target UNION SELECT p.relid FROM target,"
          " pg_catalog.pg_partition_tree(target.oid) AS p)",
          text.out);
    if (is(fault, check))
        put_fault_of_constraint(text.out, fault->constraint);
    else if (is(fault, not_null))
        put_fault_of_column(text.out, fault->column);
    else
        put_fault_of_reference(text.out, fault->constraint);
    fputs(" SELECT pg_catalog.format('(SELECT NOT (%s) FROM (SELECT %s) AS r)', good,"
          " (SELECT pg_catalog.string_agg(pg_catalog.format('input.%I::%s AS %I', attname,"
          " pg_catalog.format_type(type, typmod), coalesce(alias, attname)), ', ')"
          " FROM written WHERE attnum = ANY (keys))), accusation FROM fault",
          text.out);
    fputs(certain, text.out);
    return memtext_close(&text);
}

// ---- asking ----

static void put_names(FILE *out, const struct target *target, const char *prefix,
                      const char *suffix)
{
    for (size_t i = 0; i < target->column_count; i++) {
        fprintf(out, "%s%s", i ? ", " : "", prefix);
        pg_put_identifier(out, target->columns[i].name);
        fputs(suffix, out);
    }
}

// Failing row contains (time, n) = (2023-11-14 22:13:33+00, 13).
static void put_failing_row(FILE *out, const struct target *target)
{
    struct memtext names;
    memtext_open(&names);
    fputs(": Failing row contains (", names.out);
    put_names(names.out, target, "", "");
    fputs(") = (", names.out);
    char *begin = memtext_close(&names);
    put_literal(out, begin);
    free(begin);
    fputs(" || pg_catalog.array_to_string(ARRAY[", out);
    put_names(out, target, "left(input.", "::text, " VALUE_LENGTH ")");
    fputs("], ', ', 'null') || ').'", out);
}

// A row whose key is there is none for a reference: it would not be inserted.
static void put_new_keys(FILE *out, const struct target *target, struct sql_span span)
{
    char *keys = sql_new_keys(target, span);
    fprintf(out, " AND \"#\" IN (%s)", keys);
    free(keys);
}

char *sql_suspects(const struct target *target, const struct sql_fault *fault, struct sql_span span,
                   const char *condition, const char *accusation)
{
    struct memtext text;
    memtext_open(&text);
    fputs("SELECT \"#\", left(", text.out);
    put_literal(text.out, accusation);
    fputs(" || ", text.out);
    put_failing_row(text.out, target);
    fputs(", " DETAIL_LENGTH ") FROM (SELECT ", text.out);
    for (size_t i = 0; i < target->column_count; i++)
        fprintf(text.out, "unnest($%zu::%s[]), ", i + 1, column_type_name(target->columns[i].type));
    fputs("generate_series(1, cardinality($1))) AS input(", text.out);
    put_names(text.out, target, "", "");
    fprintf(text.out, ", \"#\") WHERE %s", condition);
    if (is(fault, foreign_key) && target->key_count > 0)
        put_new_keys(text.out, target, span);
    fputs(" ORDER BY \"#\"", text.out);
    return memtext_close(&text);
}
