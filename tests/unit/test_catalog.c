// The catalog against a real PostgreSQL: tests/with_postgres.sh gives it one, which it asks for by
// itself.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <libpq-fe.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/mem.h"
#include "base/worker.h"
#include "store/catalog.h"

enum { PATIENCE_MS = 30000, POLL_MS = 5 };

struct heard {
    int calls;
    bool ok;
    char detail[1024];
};

static struct loop *loop;
static struct worker *worker;
static PGconn *admin; // superuser, in the test's database
static char conninfo[512];

// ---- the database ----

static void run_on(PGconn *conn, const char *sql)
{
    PGresult *result = PQexec(conn, sql);
    if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(conn));
    PQclear(result);
}

static PGconn *connect_as(const char *user, const char *database)
{
    char text[256];
    snprintf(text, sizeof text, "user=%s dbname=%s", user, database);
    PGconn *conn = PQconnectdb(text);
    if (PQstatus(conn) != CONNECTION_OK)
        fail_msg("%s", PQerrorMessage(conn));
    run_on(conn, "SET client_min_messages = warning");
    return conn;
}

static void run_sql(const char *sql)
{
    run_on(admin, sql);
}

// One value as text, "" for null or no row; valid until the next call.
static const char *ask(const char *sql)
{
    static char value[4096];
    PGresult *result = PQexec(admin, sql);
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(admin));
    snprintf(value, sizeof value, "%s", PQntuples(result) ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    return value;
}

// A fresh database "t", owned by the ordinary role "logger".
static int setup(void **state)
{
    (void)state;
    PGconn *conn = connect_as("postgres", "postgres");
    run_on(conn, "DROP DATABASE IF EXISTS t WITH (FORCE)");
    run_on(conn, "CREATE DATABASE t OWNER logger");
    PQfinish(conn);
    admin = connect_as("postgres", "t");
    snprintf(conninfo, sizeof conninfo, "user=logger dbname=t");
    loop = loop_new();
    worker = worker_new(loop, 1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    worker_free(worker);
    loop_free(loop);
    PQfinish(admin);
    return 0;
}

// ---- the loop ----

static void hear(void *arg, bool ok, const char *detail)
{
    struct heard *heard = arg;
    heard->calls++;
    heard->ok = ok;
    snprintf(heard->detail, sizeof heard->detail, "%s", detail);
    loop_stop(loop);
}

static void impatient(void *arg)
{
    (void)arg;
    fail_msg("nothing came for %d s", PATIENCE_MS / 1000);
}

static void poll(void *arg)
{
    (void)arg;
    loop_stop(loop);
}

static void await(const struct heard *heard)
{
    struct loop_timer *timer = loop_timer_new(loop, impatient, NULL);
    loop_timer_start(timer, PATIENCE_MS);
    while (heard->calls == 0)
        loop_run(loop);
    loop_timer_free(timer);
}

// Runs the loop until the query answers "t".
static void await_query(const char *sql)
{
    struct loop_timer *timer = loop_timer_new(loop, poll, NULL);
    for (int i = 0; strcmp(ask(sql), "t") != 0; i++) {
        if (i > PATIENCE_MS / POLL_MS)
            fail_msg("never true: %s", sql);
        loop_timer_start(timer, POLL_MS);
        loop_run(loop);
    }
    loop_timer_free(timer);
}

// Runs the loop until the catalog's state has the text in it.
static void await_state(struct catalog *catalog, const char *text)
{
    struct loop_timer *timer = loop_timer_new(loop, poll, NULL);
    for (int i = 0; !strstr(catalog_state(catalog), text); i++) {
        if (i > PATIENCE_MS / POLL_MS)
            fail_msg("state is never \"%s\" but \"%s\"", text, catalog_state(catalog));
        loop_timer_start(timer, POLL_MS);
        loop_run(loop);
    }
    loop_timer_free(timer);
}

// ---- targets ----

static struct target_column weather_columns[] = {
    {.name = "time", .type = COLUMN_TIMESTAMPTZ, .required = true, .key = true},
    {.name = "station", .type = COLUMN_TEXT, .required = true, .key = true},
    {.name = "temperature", .type = COLUMN_FLOAT8},
};
static struct target_column altimeter_columns[] = {
    {.name = "time", .type = COLUMN_TIMESTAMPTZ, .required = true},
    {.name = "sensor", .type = COLUMN_TEXT},
    {.name = "altitude_m", .type = COLUMN_FLOAT8},
};

static struct target weather(void)
{
    return (struct target){.mapping = "weather",
                           .schema = "telemetry",
                           .table = "weather",
                           .columns = weather_columns,
                           .column_count = 3,
                           .key_count = 2,
                           .partition = PARTITION_MONTH};
}

static struct target altimeter(void)
{
    return (struct target){.mapping = "altimeter",
                           .schema = "telemetry",
                           .table = "altimeter",
                           .columns = altimeter_columns,
                           .column_count = 3,
                           .partition = PARTITION_DAY};
}

static struct catalog *start(struct target *targets[], size_t count, bool migrate,
                             struct heard *heard)
{
    for (size_t i = 0; i < count; i++)
        targets[i]->index = (unsigned)i;
    const struct catalog_options options = {.conninfo = conninfo, .migrate = migrate};
    struct catalog *catalog = catalog_new(loop, worker, targets, count, &options);
    *heard = (struct heard){0};
    catalog_start(catalog, hear, heard);
    assert_int_equal(heard->calls, 0);
    await(heard);
    return catalog;
}

static struct catalog *start_ok(struct target *targets[], size_t count)
{
    struct heard heard;
    struct catalog *catalog = start(targets, count, true, &heard);
    if (!heard.ok)
        fail_msg("%s", heard.detail);
    return catalog;
}

static struct heard need(struct catalog *catalog, struct target *target, const int64_t *times,
                         size_t count)
{
    struct heard heard = {0};
    catalog_need(catalog, target, times, count, hear, &heard);
    assert_int_equal(heard.calls, 0);
    await(&heard);
    return heard;
}

static struct heard refresh(struct catalog *catalog, struct target *target)
{
    struct heard heard = {0};
    catalog_refresh(catalog, target, hear, &heard);
    await(&heard);
    return heard;
}

static int64_t at(int year, int month, int day)
{
    struct tm tm = {.tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day};
    return (int64_t)timegm(&tm) * 1000000;
}

// ---- stories ----

static void creates_everything(void **state)
{
    (void)state;
    struct target w = weather(), a = altimeter();
    struct catalog *catalog = start_ok((struct target *[]){&w, &a}, 2);
    assert_true(catalog_ready(catalog));
    assert_string_equal(catalog_findings(catalog), "");
    assert_null(w.stopped);
    assert_string_equal(
        ask("SELECT string_agg(version::text, ',' ORDER BY version) FROM sensorlog.schema_version"),
        "1,2,3,4");
    assert_string_equal(
        ask("SELECT string_agg(attname || ' ' || atttypid::regtype || ' ' || attnotnull, ', ' ORDER BY attnum)"
            " FROM pg_attribute WHERE attrelid = 'telemetry.weather'::regclass AND attnum > 0"),
        "time timestamp with time zone true, station text true, temperature double precision false");
    assert_string_equal(
        ask("SELECT string_agg(indexdef, E'\\n' ORDER BY indexname) FROM pg_indexes WHERE tablename = 'weather'"),
        "CREATE UNIQUE INDEX weather_station_time_idx ON ONLY telemetry.weather USING btree (station, \"time\")\n"
        "CREATE INDEX weather_time_idx ON ONLY telemetry.weather USING brin (\"time\") WITH (pages_per_range='32', autosummarize='on')");
    assert_string_equal(ask("SELECT bool_and(i.indisvalid) FROM pg_index i"), "t");
    assert_string_equal(
        ask("SELECT string_agg(inhrelid::regclass::text, ' ' ORDER BY inhrelid::regclass::text) ="
            " string_agg('telemetry.weather_p' || to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => i), 'YYYY_MM'), ' ' ORDER BY i)"
            " FROM (SELECT inhrelid, row_number() OVER (ORDER BY inhrelid::regclass::text)::int - 1 AS i"
            " FROM pg_inherits WHERE inhparent = 'telemetry.weather'::regclass) x HAVING count(*) = 3"),
        "t");
    assert_string_equal(
        ask("SELECT count(*) FROM pg_inherits WHERE inhparent = 'telemetry.altimeter'::regclass"),
        "3");
    int64_t now = loop_wall_us();
    assert_true(catalog_has(catalog, &w, now));
    assert_true(catalog_has(catalog, &w, now + INT64_C(28) * 86400000000));
    assert_false(catalog_has(catalog, &w, now - INT64_C(366) * 86400000000));
    assert_true(catalog_has(catalog, &a, now + INT64_C(86400000000)));
    assert_false(catalog_has(catalog, &a, now + INT64_C(3) * 86400000000));
    run_sql(
        "INSERT INTO telemetry.weather VALUES (now(), 'n', 1), (now() - interval '1 us', 'n', 2), (now(), 's', 3);"
        "INSERT INTO telemetry.altimeter VALUES (now(), '1', 4)");
    assert_string_equal(
        ask("SELECT string_agg(temperature::text, ',' ORDER BY station) FROM telemetry.weather_latest"),
        "1,3");
    assert_string_equal(ask("SELECT altitude_m FROM telemetry.altimeter_latest"), "4");
    catalog_free(catalog);

    // Again: nothing changes, and nobody else needs rights to change.
    struct heard heard;
    catalog = start((struct target *[]){&w, &a}, 2, false, &heard);
    assert_true(heard.ok);
    assert_string_equal(catalog_findings(catalog), "");
    catalog_free(catalog);
}

static void print_is_what_runs(void **state)
{
    (void)state;
    struct target w = weather(), a = altimeter();
    w.index = 0;
    a.index = 1;
    const struct catalog_options options = {.conninfo = conninfo, .migrate = true};
    struct catalog *catalog = catalog_new(loop, worker, (struct target *[]){&w, &a}, 2, &options);
    FILE *file = tmpfile();
    int kept = dup(STDOUT_FILENO);
    fflush(stdout);
    dup2(fileno(file), STDOUT_FILENO);
    catalog_print(catalog);
    fflush(stdout);
    dup2(kept, STDOUT_FILENO);
    close(kept);
    catalog_free(catalog);
    char *script = mem_zalloc(1 << 20);
    rewind(file);
    assert_true(fread(script, 1, (1 << 20) - 1, file) > 0);
    fclose(file);
    PGconn *conn = connect_as("logger", "t");
    run_on(conn, script);
    PQfinish(conn);
    free(script);
    struct heard heard;
    catalog = start((struct target *[]){&w, &a}, 2, false, &heard);
    assert_true(heard.ok);
    assert_string_equal(catalog_findings(catalog), "");
    assert_true(catalog_has(catalog, &w, loop_wall_us()));
    catalog_free(catalog);
}

static void refuses_other_versions(void **state)
{
    (void)state;
    struct target w = weather();
    struct heard heard;
    struct catalog *catalog = start((struct target *[]){&w}, 1, false, &heard);
    assert_false(heard.ok);
    assert_false(catalog_ready(catalog));
    assert_null(w.stopped); // its messages wait
    assert_non_null(strstr(heard.detail, "lacks migration 000_schema_version and migrate = false"));
    assert_non_null(
        strstr(catalog_findings(catalog),
               "table \"telemetry\".\"weather\", mapping \"weather\": there is no such table"));
    catalog_free(catalog);
    catalog_free(start_ok((struct target *[]){&w}, 1));
    run_sql("DELETE FROM sensorlog.schema_version WHERE version = 2");
    catalog = start((struct target *[]){&w}, 1, false, &heard);
    assert_false(heard.ok);
    assert_non_null(strstr(heard.detail, "lacks migration 002_dashboards"));
    catalog_free(catalog);
    run_sql("INSERT INTO sensorlog.schema_version VALUES (2, 'x', 'x'), (77, 'x', 'x')");
    run_sql("DROP TABLE telemetry.weather CASCADE");
    catalog = start((struct target *[]){&w}, 1, true, &heard);
    assert_false(heard.ok);
    assert_non_null(strstr(heard.detail, "is newer (version 77) than this sensorlogd"));
    assert_string_equal(catalog_state(catalog), heard.detail);
    assert_string_equal(ask("SELECT to_regclass('telemetry.weather') IS NULL"), "t");
    catalog_free(catalog);
}

static void refuses_other_encodings(void **state)
{
    (void)state;
    run_sql("DROP DATABASE IF EXISTS latin");
    run_sql("CREATE DATABASE latin OWNER logger ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    snprintf(conninfo, sizeof conninfo, "user=logger dbname=latin");
    struct target w = weather();
    struct heard heard;
    struct catalog *catalog = start((struct target *[]){&w}, 1, true, &heard);
    assert_false(heard.ok);
    assert_non_null(strstr(heard.detail, "encoding is LATIN1"));
    catalog_free(catalog);
}

static void makes_partitions_on_demand(void **state)
{
    (void)state;
    struct target w = weather();
    struct catalog *catalog = start_ok((struct target *[]){&w}, 1);
    int64_t times[] = {at(2020, 2, 29), at(2019, 12, 31), at(2020, 1, 1), at(2020, 2, 1),
                       at(1969, 7, 20)};
    struct heard heard = need(catalog, &w, times, 5);
    assert_true(heard.ok);
    for (size_t i = 0; i < 5; i++)
        assert_true(catalog_has(catalog, &w, times[i]));
    assert_false(catalog_has(catalog, &w, at(2020, 3, 1)));
    assert_string_equal(
        ask("SELECT count(*) FROM pg_inherits WHERE inhparent = 'telemetry.weather'::regclass"),
        "7");
    run_sql(
        "INSERT INTO telemetry.weather VALUES ('2020-02-29 23:59:59.999999+00', 'n', 1), ('1969-07-20', 'n', 1)");
    // What cannot be is refused, and the rest is made all the same.
    int64_t more[] = {INT64_MAX, at(2021, 5, 5), INT64_MIN, at(9999, 1, 1)};
    heard = need(catalog, &w, more, 4);
    assert_false(heard.ok);
    assert_non_null(strstr(heard.detail, "out of bounds"));
    assert_true(catalog_has(catalog, &w, at(2021, 5, 31)));
    // What is there needs no connection.
    snprintf(conninfo, sizeof conninfo, "host=/nowhere");
    assert_true(need(catalog, &w, times, 5).ok);
    catalog_free(catalog);
}

static void refreshes_what_was_dropped(void **state)
{
    (void)state;
    struct target w = weather();
    struct catalog *catalog = start_ok((struct target *[]){&w}, 1);
    int64_t time = at(2020, 2, 29);
    assert_true(need(catalog, &w, &time, 1).ok);
    run_sql("DROP TABLE telemetry.weather_p2020_02");
    assert_true(catalog_has(catalog, &w, time));
    assert_true(refresh(catalog, &w).ok);
    assert_false(catalog_has(catalog, &w, time));
    assert_true(catalog_has(catalog, &w, loop_wall_us()));
    // Detached ones keep their names: theirs is not taken away.
    assert_true(need(catalog, &w, &time, 1).ok);
    run_sql("ALTER TABLE telemetry.weather DETACH PARTITION telemetry.weather_p2020_02");
    assert_true(refresh(catalog, &w).ok);
    assert_true(need(catalog, &w, &time, 1).ok);
    assert_string_equal(ask("SELECT to_regclass('telemetry.weather_p20200201_000000') IS NOT NULL"),
                        "t");
    catalog_free(catalog);
}

static void goes_around_what_people_made(void **state)
{
    (void)state;
    run_sql(
        "SET ROLE logger; CREATE SCHEMA telemetry;"
        "CREATE TABLE telemetry.weather (time timestamptz NOT NULL, station text NOT NULL, temperature float8)"
        " PARTITION BY RANGE (time); CREATE UNIQUE INDEX ON telemetry.weather (time, station);"
        "CREATE TABLE telemetry.early PARTITION OF telemetry.weather FOR VALUES FROM (MINVALUE) TO ('2000-01-01 00:00+00');"
        "CREATE TABLE telemetry.ten PARTITION OF telemetry.weather FOR VALUES FROM ('2020-11-10 12:00+00') TO ('2020-11-20 00:00:00.5+00');"
        "CREATE TABLE telemetry.weather_p2020_10 (a int); RESET ROLE");
    struct target w = weather();
    struct catalog *catalog = start_ok((struct target *[]){&w}, 1);
    assert_string_equal(catalog_findings(catalog), "");
    assert_true(catalog_has(catalog, &w, at(1066, 10, 14)));
    assert_true(catalog_has(catalog, &w, at(2020, 11, 11)));
    assert_false(catalog_has(catalog, &w, at(2020, 11, 10)));
    int64_t times[] = {at(2020, 11, 1), at(2020, 11, 25), at(2020, 10, 5)};
    struct heard heard = need(catalog, &w, times, 3);
    if (!heard.ok)
        fail_msg("%s", heard.detail);
    assert_string_equal(
        ask("SELECT string_agg(inhrelid::regclass::text, ' ' ORDER BY inhrelid::regclass::text)"
            " FROM pg_inherits WHERE inhparent = 'telemetry.weather'::regclass AND inhrelid::regclass::text ~ '_p2020'"),
        "telemetry.weather_p20201001_000000 telemetry.weather_p20201101_000000 telemetry.weather_p20201120_000000_500000");
    run_sql(
        "INSERT INTO telemetry.weather SELECT t, 'n', 1 FROM generate_series(timestamptz '2020-10-01 00:00+00', '2020-11-30 23:59+00', interval '1 hour') t");
    // Somebody makes one behind our back, another name, overlapping.
    run_sql(
        "CREATE TABLE telemetry.other PARTITION OF telemetry.weather FOR VALUES FROM ('2021-01-05') TO ('2021-01-07')");
    run_sql(
        "CREATE TABLE telemetry.more PARTITION OF telemetry.weather FOR VALUES FROM ('2021-03-01 00:00+00') TO ('2021-05-01 00:00+00')");
    int64_t behind[] = {at(2021, 1, 20), at(2021, 4, 10)};
    heard = need(catalog, &w, behind, 2);
    if (!heard.ok)
        fail_msg("%s", heard.detail);
    run_sql("INSERT INTO telemetry.weather VALUES ('2021-01-31', 'n', 1), ('2021-04-10', 'n', 1)");
    catalog_free(catalog);
}

static void findings(void **state)
{
    (void)state;
    static const struct {
        const char *sql;     // makes telemetry.weather; as logger
        const char *finding; // part of it; NULL: none
        bool any;            // takes any time
    } cases[] = {
        {"CREATE TABLE %s (time timestamptz, station text, temperature float8); CREATE UNIQUE INDEX ON %s (station, time)",
         NULL, true},
        {"CREATE TABLE %s (time timestamptz, station varchar(20), temperature celsius, note text, id bigserial, UNIQUE (time, station))",
         NULL, true},
        {"CREATE TABLE %s (time timestamptz, station text, temperature float8, UNIQUE (time, station)) PARTITION BY RANGE (time, station)",
         NULL, true},
        {"CREATE TABLE %s (time timestamptz, station text, temperature float8, UNIQUE (time, station)) PARTITION BY HASH (station)",
         NULL, true},
        {"CREATE TABLE %s (time timestamptz, station text, temperature float8, UNIQUE (time, station)) PARTITION BY RANGE (time);"
         "CREATE TABLE telemetry.d PARTITION OF %s DEFAULT",
         NULL, true},
        {"CREATE TABLE %s (time timestamptz, station text, temperature int, UNIQUE (time, station))",
         "column \"temperature\" is integer in the database and float8 in the mapping: set type = \"int4\" there, or run ALTER TABLE \"telemetry\".\"weather\" ALTER COLUMN \"temperature\" TYPE float8",
         true},
        {"CREATE TABLE %s (time timestamp, station text, temperature float8, UNIQUE (time, station))",
         "column \"time\" is timestamp without time zone in the database and timestamptz in the mapping: run ALTER",
         true},
        {"CREATE TABLE %s (station text, temperature float8)",
         "column \"time\" is missing: run ALTER TABLE \"telemetry\".\"weather\" ADD COLUMN \"time\" timestamptz",
         true},
        {"CREATE TABLE %s (time timestamptz, station text, temperature float8 GENERATED ALWAYS AS (1) STORED, UNIQUE (time, station))",
         "column \"temperature\" is generated by the database", true},
        {"CREATE TABLE %s (time timestamptz, station text, temperature float8, owner text NOT NULL, UNIQUE (time, station))",
         "column \"owner\" is NOT NULL without default and the mapping does not fill it", true},
        {"CREATE TABLE %s (time timestamptz, station text, temperature float8)",
         "no unique index on exactly the columns of the key: run CREATE UNIQUE INDEX ON \"telemetry\".\"weather\" (\"station\", \"time\")",
         true},
        {"CREATE TABLE %s (time timestamptz, station text, temperature float8, UNIQUE (time, station, temperature), UNIQUE (time))",
         "no unique index", true},
        {"CREATE TABLE %s (time timestamptz, station text, temperature float8, UNIQUE (time, station) DEFERRABLE)",
         "no unique index", true},
        {"CREATE TABLE %s (time timestamptz, station text, temperature float8); CREATE UNIQUE INDEX ON %s (time, station) WHERE temperature > 0",
         "no unique index", true},
        {"CREATE VIEW %s AS SELECT now() AS time, ''::text AS station, 1.0::float8 AS temperature",
         "it is no table but a view", true},
        {"CREATE MATERIALIZED VIEW %s AS SELECT now() AS time, ''::text AS station, 1.0::float8 AS temperature",
         "it is no table but a materialized view", true},
        {"CREATE TABLE %s (time timestamptz, station text, temperature float8, UNIQUE (time, station)); REVOKE INSERT ON %s FROM logger",
         "no privilege to insert: GRANT USAGE on its schema and INSERT", true},
        {"CREATE TABLE %s (time timestamptz, station text, temperature float8, UNIQUE (time, station)); REVOKE SELECT ON %s FROM logger",
         "no privilege to select, which its key needs", true},
    };
    struct target w = weather();
    catalog_free(start_ok((struct target *[]){&w}, 1));
    run_sql(
        "CREATE DOMAIN celsius AS float8 CHECK (VALUE > -300); GRANT ALL ON SCHEMA public TO logger");
    PGconn *logger = connect_as("logger", "t");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        run_sql(
            "SET client_min_messages = warning; DROP SCHEMA telemetry CASCADE; CREATE SCHEMA telemetry AUTHORIZATION logger");
        char sql[1024] = "";
        for (const char *from = cases[i].sql; *from;) {
            const char *to = strstr(from, "%s");
            size_t length = to ? (size_t)(to - from) : strlen(from);
            snprintf(sql + strlen(sql), sizeof sql - strlen(sql), "%.*s%s", (int)length, from,
                     to ? "telemetry.weather" : "");
            from += length + (to ? 2 : 0);
        }
        run_on(logger, sql);
        struct catalog *catalog = start_ok((struct target *[]){&w}, 1);
        const char *found = catalog_findings(catalog);
        if (!cases[i].finding && (*found || w.stopped))
            fail_msg("%s: found %s", cases[i].sql, found);
        if (cases[i].finding && (!strstr(found, cases[i].finding) || !w.stopped ||
                                 !strstr(w.stopped, cases[i].finding)))
            fail_msg("%s: found %s, stopped %s", cases[i].sql, found, w.stopped);
        assert_int_equal(catalog_has(catalog, &w, at(1970, 1, 1)), cases[i].any);
        catalog_free(catalog);
        assert_null(w.stopped);
    }
    PQfinish(logger);
}

static void adds_columns(void **state)
{
    (void)state;
    struct target w = weather();
    w.column_count = 2;
    catalog_free(start_ok((struct target *[]){&w}, 1));
    run_sql("INSERT INTO telemetry.weather VALUES (now(), 'n')");
    w.column_count = 3;
    struct heard heard;
    struct catalog *catalog = start((struct target *[]){&w}, 1, false, &heard);
    assert_true(heard.ok);
    assert_non_null(strstr(w.stopped, "column \"temperature\" is missing"));
    catalog_free(catalog);
    catalog = start_ok((struct target *[]){&w}, 1);
    assert_null(w.stopped);
    run_sql("UPDATE telemetry.weather SET temperature = 5");
    assert_string_equal(ask("SELECT temperature FROM telemetry.weather_latest"), "5");
    catalog_free(catalog);
}

static void leaves_changed_views_alone(void **state)
{
    (void)state;
    struct target w = weather();
    w.column_count = 2;
    catalog_free(start_ok((struct target *[]){&w}, 1));
    run_sql(
        "CREATE OR REPLACE VIEW telemetry.weather_latest AS SELECT time, station FROM telemetry.weather;"
        "COMMENT ON VIEW telemetry.weather_latest IS 'mine'");
    w.column_count = 3;
    catalog_free(start_ok((struct target *[]){&w}, 1));
    assert_string_equal(
        ask("SELECT count(*) FROM pg_attribute WHERE attrelid = 'telemetry.weather_latest'::regclass"),
        "2");
    assert_string_equal(
        ask("SELECT count(*) FROM pg_attribute WHERE attrelid = 'telemetry.weather'::regclass AND attname = 'temperature'"),
        "1");
}

static void targets_share_a_table(void **state)
{
    (void)state;
    static struct target_column indoor_columns[] = {
        {.name = "time", .type = COLUMN_TIMESTAMPTZ, .required = true, .key = true},
        {.name = "station", .type = COLUMN_TEXT, .required = true, .key = true},
        {.name = "room", .type = COLUMN_INT4, .required = true},
    };
    struct target w = weather(), indoor = weather();
    indoor.mapping = "indoor";
    indoor.columns = indoor_columns;
    struct catalog *catalog = start_ok((struct target *[]){&w, &indoor}, 2);
    assert_string_equal(catalog_findings(catalog), "");
    assert_string_equal(
        ask("SELECT string_agg(attname || ' ' || attnotnull, ', ' ORDER BY attnum)"
            " FROM pg_attribute WHERE attrelid = 'telemetry.weather'::regclass AND attnum > 0"),
        "time true, station true, temperature false, room false");
    assert_string_equal(ask("SELECT count(*) FROM pg_indexes WHERE tablename = 'weather'"), "2");
    catalog_free(catalog);
}

static void strange_names(void **state)
{
    (void)state;
    static struct target_column columns[] = {
        {.name = "time", .type = COLUMN_TIMESTAMPTZ, .required = true, .key = true},
        {.name = "sta'tion \"x\"", .type = COLUMN_TEXT, .required = true, .key = true},
        {.name = "select", .type = COLUMN_NUMERIC},
    };
    struct target w = weather();
    w.schema = "My \"Schema\" \\ 'q'";
    w.table = "Täble \\ 'with' $sensorlog$ \"quotes\"; a long name. 56";
    w.columns = columns;
    w.partition = PARTITION_WEEK;
    struct catalog *catalog = start_ok((struct target *[]){&w}, 1);
    assert_string_equal(catalog_findings(catalog), "");
    int64_t time = at(2020, 12, 31);
    assert_true(need(catalog, &w, &time, 1).ok);
    assert_true(refresh(catalog, &w).ok);
    assert_true(catalog_has(catalog, &w, time));
    assert_string_equal(ask("SELECT count(*) FROM pg_class WHERE relname ~ 'p2020w53$'"), "1");
    assert_string_equal(
        ask("SELECT count(*) FROM pg_class WHERE relkind = 'v' AND relname ~ 'Täble'"), "1");
    catalog_free(catalog);
}

static void two_at_once(void **state)
{
    (void)state;
    struct target w[4], a[4];
    struct catalog *catalogs[4];
    struct heard heard[4] = {{0}};
    for (size_t i = 0; i < 4; i++) {
        w[i] = weather();
        a[i] = altimeter();
        a[i].index = 1;
        const struct catalog_options options = {.conninfo = conninfo, .migrate = true};
        catalogs[i] = catalog_new(loop, worker, (struct target *[]){&w[i], &a[i]}, 2, &options);
        catalog_start(catalogs[i], hear, &heard[i]);
    }
    for (size_t i = 0; i < 4; i++) {
        await(&heard[i]);
        if (!heard[i].ok)
            fail_msg("%s", heard[i].detail);
        assert_string_equal(catalog_findings(catalogs[i]), "");
        assert_null(w[i].stopped);
    }
    int64_t time = at(2020, 2, 29);
    memset(heard, 0, sizeof heard);
    for (size_t i = 0; i < 4; i++)
        catalog_need(catalogs[i], &w[i], &time, 1, hear, &heard[i]);
    for (size_t i = 0; i < 4; i++) {
        await(&heard[i]);
        assert_true(heard[i].ok);
        assert_true(catalog_has(catalogs[i], &w[i], time));
        catalog_free(catalogs[i]);
    }
    assert_string_equal(
        ask("SELECT count(*) FROM pg_inherits WHERE inhparent = 'telemetry.weather'::regclass"),
        "4");
}

#define SCHEMA_WAITS                                                                               \
    "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'sensorlogd schema'"       \
    " AND wait_event_type = 'Lock'"

static void waits_for_locks_and_connections(void **state)
{
    (void)state;
    struct target w = weather();
    struct catalog *catalog = start_ok((struct target *[]){&w}, 1);
    PGconn *blocker = connect_as("postgres", "t");
    run_on(blocker, "BEGIN; LOCK TABLE telemetry.weather IN ACCESS EXCLUSIVE MODE");
    int64_t time = at(2020, 2, 29);
    struct heard heard = {0};
    catalog_need(catalog, &w, &time, 1, hear, &heard);
    await_query(SCHEMA_WAITS);
    // The connection goes away meanwhile, and comes back by itself.
    run_sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sensorlogd schema'");
    await_query(
        "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'sensorlogd schema' AND wait_event_type = 'Lock')");
    await_query(SCHEMA_WAITS);
    // It does not wait longer than lock_timeout in a row, for others queue up behind it.
    await_query(
        "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'sensorlogd schema' AND wait_event_type = 'Lock')");
    await_query(SCHEMA_WAITS);
    assert_int_equal(heard.calls, 0);
    run_on(blocker, "COMMIT");
    PQfinish(blocker);
    await(&heard);
    assert_true(heard.ok);
    assert_true(catalog_has(catalog, &w, time));
    catalog_free(catalog);
}

#define NEWEST_PARTITION                                                                           \
    "(SELECT max(inhrelid::regclass::text) FROM pg_inherits"                                       \
    " WHERE inhparent = 'telemetry.weather'::regclass)"

static PGconn *lock_weather(void)
{
    PGconn *blocker = connect_as("postgres", "t");
    run_on(blocker, "BEGIN; LOCK TABLE telemetry.weather IN ACCESS EXCLUSIVE MODE");
    return blocker;
}

static void unlock(PGconn *blocker)
{
    run_on(blocker, "COMMIT");
    PQfinish(blocker);
}

static void a_locked_table_holds_up_no_other(void **state)
{
    (void)state;
    struct target w = weather(), a = altimeter();
    catalog_free(start_ok((struct target *[]){&w, &a}, 2));
    run_sql("DO $$ BEGIN EXECUTE 'DROP TABLE ' || " NEWEST_PARTITION "; END $$");
    PGconn *blocker = lock_weather();
    struct catalog *catalog = start_ok((struct target *[]){&w, &a}, 2);
    assert_null(w.stopped);
    assert_true(catalog_has(catalog, &w, loop_wall_us())); // only one ahead is missing
    assert_true(catalog_has(catalog, &a, loop_wall_us()));
    assert_string_equal(catalog_findings(catalog),
                        "table \"telemetry\".\"weather\", mapping \"weather\": partitions ahead "
                        "wait: canceling statement due to lock timeout\n");

    // Several of the locked table's jobs, and one of another that comes last.
    int64_t time = at(2020, 2, 29), later = at(2020, 3, 1);
    struct heard locked[2] = {{0}};
    catalog_need(catalog, &w, &time, 1, hear, &locked[0]);
    catalog_need(catalog, &w, &later, 1, hear, &locked[1]);
    await_query(SCHEMA_WAITS);
    assert_true(need(catalog, &a, &time, 1).ok);
    assert_non_null(strstr(catalog_state(catalog), "table \"telemetry\".\"weather\": canceling"));
    assert_int_equal(locked[0].calls + locked[1].calls, 0);
    unlock(blocker);
    await(&locked[0]);
    await(&locked[1]);
    assert_true(locked[0].ok && locked[1].ok);
    assert_true(catalog_has(catalog, &w, time) && catalog_has(catalog, &w, later));
    assert_string_equal(catalog_state(catalog), "ok");
    catalog_free(catalog);
}

// Its rows wait for the column; those of others do not.
static void a_locked_table_is_widened_later(void **state)
{
    (void)state;
    struct target w = weather(), a = altimeter();
    w.column_count = 2;
    catalog_free(start_ok((struct target *[]){&w, &a}, 2));
    w.column_count = 3;
    PGconn *blocker = lock_weather();
    struct catalog *catalog = start_ok((struct target *[]){&w, &a}, 2);
    int64_t now = loop_wall_us();
    assert_null(w.stopped);
    assert_false(catalog_has(catalog, &w, now));
    assert_true(catalog_has(catalog, &a, now));
    assert_non_null(strstr(catalog_findings(catalog),
                           "table \"telemetry\".\"weather\", mapping \"weather\": it cannot be"));
    struct heard locked = {0};
    catalog_need(catalog, &w, &now, 1, hear, &locked);
    await_query(SCHEMA_WAITS);
    unlock(blocker);
    await(&locked);
    assert_true(locked.ok);
    assert_true(catalog_has(catalog, &w, now));
    await_state(catalog, "ok");
    assert_string_equal(catalog_findings(catalog), "");
    run_sql("INSERT INTO telemetry.weather VALUES (now(), 'n', 1)");
    catalog_free(catalog);
}

static void overrides_a_role_that_only_reads(void **state)
{
    (void)state;
    struct target w = weather();
    run_sql("ALTER ROLE logger IN DATABASE t SET default_transaction_read_only = on");
    catalog_free(start_ok((struct target *[]){&w}, 1));
    assert_string_equal(ask("SELECT to_regclass('telemetry.weather') IS NOT NULL"), "t");
}

// As far as it goes without one: a server that refuses as a standby does.
static void waits_for_a_standby_to_be_promoted(void **state)
{
    (void)state;
    struct target w = weather();
    run_sql(
        "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS"
        " $$BEGIN RAISE 'in a read-only transaction' USING ERRCODE = '25006'; END$$;"
        "CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('CREATE SCHEMA', 'CREATE TABLE')"
        " EXECUTE FUNCTION refuse()");
    const struct catalog_options options = {.conninfo = conninfo, .migrate = true};
    struct catalog *catalog = catalog_new(loop, worker, (struct target *[]){&w}, 1, &options);
    struct heard heard = {0};
    catalog_start(catalog, hear, &heard);
    await_state(catalog, "in a read-only transaction (the server is a standby?)");
    assert_int_equal(heard.calls, 0);
    run_sql("DROP EVENT TRIGGER refuse");
    await(&heard);
    assert_true(heard.ok);
    assert_string_equal(catalog_state(catalog), "ok");
    catalog_free(catalog);
}

static void says_that_it_cannot_connect(void **state)
{
    (void)state;
    struct target w = weather();
    struct catalog *catalog = start_ok((struct target *[]){&w}, 1);
    assert_string_equal(catalog_state(catalog), "ok");
    run_sql("ALTER ROLE logger CONNECTION LIMIT 0; SELECT pg_terminate_backend(pid)"
            " FROM pg_stat_activity WHERE application_name = 'sensorlogd schema'");
    int64_t time = at(2020, 2, 29);
    struct heard heard = {0};
    catalog_need(catalog, &w, &time, 1, hear, &heard);
    await_state(catalog, "too many connections for role");
    assert_true(catalog_ready(catalog));
    run_sql("ALTER ROLE logger CONNECTION LIMIT -1");
    await(&heard);
    assert_true(heard.ok);
    assert_string_equal(catalog_state(catalog), "ok");
    catalog_free(catalog);
}

static void needs_to_own_the_table(void **state)
{
    (void)state;
    struct target w = weather();
    catalog_free(start_ok((struct target *[]){&w}, 1));
    run_sql(
        "DROP TABLE telemetry.weather CASCADE;"
        "CREATE TABLE telemetry.weather (time timestamptz, station text, UNIQUE (time, station)) PARTITION BY RANGE (time);"
        "GRANT ALL ON telemetry.weather TO logger");
    struct catalog *catalog = start_ok((struct target *[]){&w}, 1);
    assert_non_null(strstr(w.stopped, "column \"temperature\" is missing"));
    run_sql("ALTER TABLE telemetry.weather ADD temperature float8");
    assert_true(refresh(catalog, &w).ok);
    assert_null(w.stopped);
    int64_t times[] = {at(2020, 2, 29), at(2020, 2, 28), at(2021, 2, 28)};
    struct heard heard = need(catalog, &w, times, 3);
    assert_false(heard.ok);
    assert_non_null(strstr(heard.detail, "must be owner"));
    assert_false(catalog_has(catalog, &w, times[0]));
    catalog_free(catalog);

    struct heard without;
    catalog = start((struct target *[]){&w}, 1, false, &without);
    assert_true(without.ok);
    heard = need(catalog, &w, times, 3);
    assert_false(heard.ok);
    assert_non_null(strstr(heard.detail, "run sensorlogd migrate"));
    catalog_free(catalog);

    w.schema = "elsewhere";
    run_sql("CREATE SCHEMA elsewhere; GRANT USAGE ON SCHEMA elsewhere TO logger");
    catalog = start_ok((struct target *[]){&w}, 1);
    assert_non_null(
        strstr(w.stopped, "it cannot be created: permission denied for schema elsewhere"));
    catalog_free(catalog);
}

static void stops_and_goes_on(void **state)
{
    (void)state;
    struct target w = weather();
    struct catalog *catalog = start_ok((struct target *[]){&w}, 1);
    catalog_stop(catalog, &w, "something was wrong");
    assert_string_equal(w.stopped, "something was wrong");
    run_sql("DROP TABLE telemetry.weather CASCADE"); // is made anew
    assert_true(refresh(catalog, &w).ok);
    assert_null(w.stopped);
    assert_true(catalog_has(catalog, &w, loop_wall_us()));
    catalog_free(catalog);
}

static void waits_for_the_server(void **state)
{
    (void)state;
    struct target w = weather();
    const struct catalog_options options = {.conninfo = conninfo, .migrate = true};
    run_sql("ALTER ROLE logger NOLOGIN");
    struct catalog *catalog = catalog_new(loop, worker, (struct target *[]){&w}, 1, &options);
    struct heard heard = {0};
    catalog_start(catalog, hear, &heard);
    struct loop_timer *timer = loop_timer_new(loop, poll, NULL);
    loop_timer_start(timer,
                     300); // lets some attempts fail; what follows does not depend on how many
    loop_run(loop);
    loop_timer_free(timer);
    assert_int_equal(heard.calls, 0);
    run_sql("ALTER ROLE logger LOGIN");
    await(&heard);
    assert_true(heard.ok);
    catalog_free(catalog);
}

// ---- a reload ----

static struct target_column wide_columns[] = {
    {.name = "time", .type = COLUMN_TIMESTAMPTZ, .required = true, .key = true},
    {.name = "station", .type = COLUMN_TEXT, .required = true, .key = true},
    {.name = "temperature", .type = COLUMN_FLOAT8},
    {.name = "humidity", .type = COLUMN_FLOAT4},
};

static void targets_are_added(void **state)
{
    (void)state;
    struct target w = weather(), a = altimeter(), wide = weather();
    struct catalog *catalog = start_ok((struct target *[]){&w}, 1);
    int64_t now = loop_wall_us();
    a.index = 7;
    catalog_add(catalog, &a);
    assert_false(catalog_has(catalog, &a, now));
    assert_true(catalog_has(catalog, &w, now));
    assert_true(need(catalog, &a, &now, 1).ok);
    assert_string_equal(ask("SELECT count(*) > 0 FROM pg_inherits"
                            " WHERE inhparent = 'telemetry.altimeter'::regclass"),
                        "t");

    // One that writes a column more into a table that is there: no row goes before it has it.
    wide.index = 3;
    wide.columns = wide_columns;
    wide.column_count = 4;
    catalog_add(catalog, &wide);
    assert_false(catalog_has(catalog, &wide, now));
    assert_true(need(catalog, &wide, &now, 1).ok);
    assert_null(wide.stopped);
    run_sql("INSERT INTO telemetry.weather (time, station, humidity) VALUES (now(), 'n', 50)");
    assert_true(catalog_has(catalog, &w, now));
    catalog_free(catalog);
}

// Looked at already, but not yet changed.
static void rows_wait_for_new_columns(void **state)
{
    (void)state;
    struct target w = weather(), wide = weather();
    struct catalog *catalog = start_ok((struct target *[]){&w}, 1);
    int64_t now = loop_wall_us();
    PGconn *blocker = lock_weather();
    wide.index = 1;
    wide.columns = wide_columns;
    wide.column_count = 4;
    catalog_add(catalog, &wide);
    await_query("SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE '%ADD COLUMN%'"
                " AND application_name = 'sensorlogd schema' AND wait_event_type = 'Lock'");
    assert_false(catalog_has(catalog, &wide, now));
    unlock(blocker);
    assert_true(need(catalog, &wide, &now, 1).ok);
    assert_string_equal(ask("SELECT count(*) FROM pg_attribute WHERE attname = 'humidity'"
                            " AND attrelid = 'telemetry.weather'::regclass"),
                        "1");
    catalog_free(catalog);
}

static void targets_are_replaced(void **state)
{
    (void)state;
    static struct target_column text_columns[] = {
        {.name = "time", .type = COLUMN_TIMESTAMPTZ, .required = true, .key = true},
        {.name = "station", .type = COLUMN_TEXT, .required = true, .key = true},
        {.name = "temperature", .type = COLUMN_TEXT},
    };
    struct target w = weather(), other = weather(), again = weather();
    struct catalog *catalog = start_ok((struct target *[]){&w}, 1);
    int64_t now = loop_wall_us();
    other.index = 1;
    other.columns = text_columns;
    other.partition = PARTITION_DAY;
    catalog_remove(catalog, &w);
    catalog_add(catalog, &other);
    assert_true(need(catalog, &other, &now, 1).ok);
    assert_non_null(strstr(other.stopped, "column \"temperature\" is double precision"));
    // The first is judged no more, and what it has on the way still goes somewhere.
    assert_null(w.stopped);
    int64_t then = at(2020, 2, 29);
    assert_true(need(catalog, &w, &then, 1).ok);
    assert_string_equal(ask("SELECT to_regclass('telemetry.weather_p2020_02_29') IS NOT NULL"),
                        "t");
    catalog_forget(catalog, &w);

    // Back again, by the number that is free now.
    again.index = 0;
    catalog_remove(catalog, &other);
    catalog_forget(catalog, &other);
    assert_null(other.stopped);
    catalog_add(catalog, &again);
    assert_true(need(catalog, &again, &now, 1).ok);
    assert_null(again.stopped);
    assert_string_equal(catalog_findings(catalog), "");
    catalog_free(catalog);
}

// A table whose last mapping is gone is nobody's business, not even while it starts.
static void a_table_without_targets_is_left_alone(void **state)
{
    (void)state;
    struct target w = weather(), a = altimeter();
    struct catalog *catalog = start_ok((struct target *[]){&w, &a}, 2);
    int64_t now = loop_wall_us();
    run_sql("DROP TABLE telemetry.weather CASCADE");
    catalog_remove(catalog, &w);
    assert_true(refresh(catalog, &w).ok);
    assert_string_equal(ask("SELECT to_regclass('telemetry.weather') IS NULL"), "t");
    struct heard heard = need(catalog, &w, &now, 1);
    assert_false(heard.ok);
    assert_string_equal(heard.detail, "there is no such table");
    catalog_forget(catalog, &w);
    run_sql("DROP SCHEMA sensorlog CASCADE");
    catalog_begin_again(catalog);
    await_query("SELECT to_regclass('sensorlog.exchange') IS NOT NULL");
    assert_true(need(catalog, &a, &now, 1).ok);
    assert_true(catalog_ready(catalog));
    assert_string_equal(ask("SELECT to_regclass('telemetry.weather') IS NULL"), "t");
    catalog_free(catalog);
}

static void targets_are_added_before_the_start_has_ended(void **state)
{
    (void)state;
    struct target w = weather(), a = altimeter();
    run_sql("ALTER ROLE logger NOLOGIN");
    w.index = 0;
    const struct catalog_options options = {.conninfo = conninfo, .migrate = true};
    struct catalog *catalog = catalog_new(loop, worker, (struct target *[]){&w}, 1, &options);
    struct heard heard = {0};
    catalog_start(catalog, hear, &heard);
    await_state(catalog, "not permitted to log in");
    a.index = 1;
    catalog_add(catalog, &a);
    catalog_remove(catalog, &w);
    run_sql("ALTER ROLE logger LOGIN");
    await(&heard);
    assert_true(heard.ok);
    assert_true(catalog_has(catalog, &a, loop_wall_us()));
    assert_string_equal(ask("SELECT to_regclass('telemetry.weather') IS NULL"), "t");
    catalog_forget(catalog, &w);
    catalog_free(catalog);
}

// A job is at the table's partitions when it is said that the table has changed: no row is refused.
static void a_change_while_partitions_are_made(void **state)
{
    (void)state;
    struct target w = weather();
    struct catalog *catalog = start_ok((struct target *[]){&w}, 1);
    PGconn *blocker = lock_weather();
    int64_t times[] = {at(2020, 2, 29), at(2021, 2, 28)};
    struct heard needed = {0}, refreshed = {0};
    catalog_need(catalog, &w, times, 2, hear, &needed);
    await_query(SCHEMA_WAITS);
    catalog_refresh(catalog, &w, hear, &refreshed);
    unlock(blocker);
    await(&needed);
    if (!needed.ok)
        fail_msg("%s", needed.detail);
    assert_true(catalog_has(catalog, &w, times[0]) && catalog_has(catalog, &w, times[1]));
    await(&refreshed);
    catalog_free(catalog);
}

int main(int argc, char **argv)
{
    (void)argc;
    if (!getenv("PGHOST")) {
        execl("tests/with_postgres.sh", "with_postgres.sh", "--conf", "fsync=off", "--", argv[0],
              (char *)NULL);
        perror("tests/with_postgres.sh (run this from the top directory)");
        return 1;
    }
    log_init(LOG_LEVEL_DEBUG);
    PGconn *conn = connect_as("postgres", "postgres");
    run_on(conn, "CREATE ROLE logger LOGIN");
    PQfinish(conn);
#define STORY(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        STORY(creates_everything),
        STORY(print_is_what_runs),
        STORY(refuses_other_versions),
        STORY(refuses_other_encodings),
        STORY(makes_partitions_on_demand),
        STORY(refreshes_what_was_dropped),
        STORY(goes_around_what_people_made),
        STORY(findings),
        STORY(adds_columns),
        STORY(leaves_changed_views_alone),
        STORY(targets_share_a_table),
        STORY(strange_names),
        STORY(two_at_once),
        STORY(waits_for_locks_and_connections),
        STORY(a_locked_table_holds_up_no_other),
        STORY(a_locked_table_is_widened_later),
        STORY(overrides_a_role_that_only_reads),
        STORY(waits_for_a_standby_to_be_promoted),
        STORY(says_that_it_cannot_connect),
        STORY(needs_to_own_the_table),
        STORY(stops_and_goes_on),
        STORY(waits_for_the_server),
        STORY(targets_are_added),
        STORY(rows_wait_for_new_columns),
        STORY(targets_are_replaced),
        STORY(a_table_without_targets_is_left_alone),
        STORY(targets_are_added_before_the_start_has_ended),
        STORY(a_change_while_partitions_are_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
