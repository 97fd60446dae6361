// The SQL of the batch writer, and binary arrays as a real PostgreSQL reads them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <float.h>
#include <inttypes.h>
#include <math.h>

#include "store/sql.h"
#include "store/sql_array.h"
#include "store/sql_text.h"
#include "store_rig.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static PGconn *server; // NULL without PostgreSQL

static const char database[] = "unit_sql";

static int setup(void **state)
{
    (void)state;
    if (!rig_has_postgres())
        return 0;
    char *conninfo = rig_create_database(database);
    server = rig_connect(conninfo);
    free(conninfo);
    rig_run(server, "SET TimeZone = 'UTC'");
    rig_make_schemas(server);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (!server)
        return 0;
    PQfinish(server);
    rig_drop_database(database);
    return 0;
}

// ---- statements ----

static struct target_column key_columns[] = {
    {.name = "time", .type = COLUMN_TIMESTAMPTZ, .required = true, .key = true},
    {.name = "the \"station\"", .type = COLUMN_TEXT, .required = true, .key = true},
    {.name = "value", .type = COLUMN_FLOAT8},
};

static struct target keyed = {.index = 0,
                              .mapping = (char[]){"weather"},
                              .schema = (char[]){"telemetry"},
                              .table = (char[]){"Wea;ther"},
                              .columns = key_columns,
                              .column_count = 3,
                              .key_count = 2};

static struct target_column plain_columns[] = {
    {.name = "time", .type = COLUMN_TIMESTAMPTZ, .required = true},
    {.name = "a\"b", .type = COLUMN_NUMERIC},
};

static struct target keyless = {.index = 1,
                                .mapping = (char[]){"plain"},
                                .schema = (char[]){"tele\"metry"},
                                .table = (char[]){"t"},
                                .columns = plain_columns,
                                .column_count = 2};

static void statements(void **state)
{
    (void)state;
    char *sql = sql_insert(&keyless, false);
    assert_string_equal(sql, "INSERT INTO \"tele\"\"metry\".\"t\" (\"time\", \"a\"\"b\") "
                             "SELECT unnest($1::timestamptz[]), unnest($2::numeric[])");
    free(sql);
    sql = sql_insert(&keyed, true);
    assert_string_equal(
        sql,
        "WITH stored AS (INSERT INTO \"telemetry\".\"Wea;ther\""
        " (\"time\", \"the \"\"station\"\"\", \"value\")"
        " SELECT unnest($1::timestamptz[]), unnest($2::text[]), unnest($3::float8[])"
        " ON CONFLICT (\"time\", \"the \"\"station\"\"\") DO NOTHING"
        " RETURNING \"time\", \"the \"\"station\"\"\"), "
        "numbered AS (SELECT \"time\", \"the \"\"station\"\"\", \"#\","
        " row_number() OVER (PARTITION BY \"time\", \"the \"\"station\"\"\" ORDER BY \"#\") AS \"#n\""
        " FROM unnest($1::timestamptz[], $2::text[])"
        " WITH ORDINALITY AS input(\"time\", \"the \"\"station\"\"\", \"#\")"
        " WHERE (SELECT count(*) FROM stored) < $4::int8)"
        " SELECT \"#\" FROM numbered WHERE \"#n\" > 1 OR (\"time\", \"the \"\"station\"\"\")"
        " NOT IN (SELECT \"time\", \"the \"\"station\"\"\" FROM stored) ORDER BY \"#\"");
    free(sql);
    sql = sql_insert(&keyed, false);
    assert_string_equal(
        sql, "INSERT INTO \"telemetry\".\"Wea;ther\" (\"time\", \"the \"\"station\"\"\", \"value\")"
             " SELECT unnest($1::timestamptz[]), unnest($2::text[]), unnest($3::float8[])");
    free(sql);
}

// ---- values as the server reads them ----

// One array of the values, as the server writes its elements as text; by "\n", null is ~. The
// caller frees.
static char *through_server(enum column_type type, const struct value *values, size_t count)
{
    struct sql_array array = {0};
    sql_array_start(&array, type, count);
    for (size_t i = 0; i < count; i++)
        sql_array_add(&array, type, &values[i]);
    sql_array_end(&array);
    char sql[80];
    snprintf(sql, sizeof sql, "SELECT unnest($1::%s[])::text", column_type_name(type));
    const Oid oid = sql_array_oid(type);
    const char *const bytes = (const char *)array.bytes;
    const int length = (int)array.length, binary = 1;
    PGresult *result = PQexecParams(server, sql, 1, &oid, &bytes, &length, &binary, 0);
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", column_type_name(type), PQerrorMessage(server));
    assert_int_equal(PQntuples(result), count);
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    for (int i = 0; i < PQntuples(result); i++)
        fprintf(out, "%s%s", i ? "\n" : "",
                PQgetisnull(result, i, 0) ? "~" : PQgetvalue(result, i, 0));
    fclose(out);
    PQclear(result);
    sql_array_fini(&array);
    return text;
}

#define BYTES(text)                                                                                \
    {                                                                                              \
        .bytes = (text), .length = sizeof(text) - 1                                                \
    }
#define NIL                                                                                        \
    {                                                                                              \
        .null = true                                                                               \
    }

static void values(void **state)
{
    (void)state;
    rig_need_postgres();
    static const struct {
        enum column_type type;
        struct value values[10];
        size_t count;
        const char *text;
    } cases[] = {
        {COLUMN_BOOL, {{.boolean = true}, NIL, {.boolean = false}}, 3, "true\n~\nfalse"},
        {COLUMN_INT2,
         {{.integer = INT16_MIN}, {.integer = -1}, NIL, {.integer = 0}, {.integer = INT16_MAX}},
         5,
         "-32768\n-1\n~\n0\n32767"},
        {COLUMN_INT4,
         {{.integer = INT32_MIN}, {.integer = -1}, NIL, {.integer = 0}, {.integer = INT32_MAX}},
         5,
         "-2147483648\n-1\n~\n0\n2147483647"},
        {COLUMN_INT8,
         {{.integer = INT64_MIN}, {.integer = -1}, NIL, {.integer = 0}, {.integer = INT64_MAX}},
         5,
         "-9223372036854775808\n-1\n~\n0\n9223372036854775807"},
        {COLUMN_FLOAT4,
         {{.real = 0},
          {.real = -0.0},
          {.real = 91.44},
          {.real = -FLT_MAX},
          {.real = FLT_TRUE_MIN},
          {.real = (double)INFINITY},
          {.real = (double)-INFINITY},
          {.real = (double)NAN},
          NIL},
         9,
         "0\n-0\n91.44\n-3.4028235e+38\n1e-45\nInfinity\n-Infinity\nNaN\n~"},
        {COLUMN_FLOAT8,
         {{.real = 0},
          {.real = -0.0},
          {.real = 91.44},
          {.real = -DBL_MAX},
          {.real = DBL_TRUE_MIN},
          {.real = (double)INFINITY},
          {.real = (double)-INFINITY},
          {.real = (double)NAN},
          NIL},
         9,
         "0\n-0\n91.44\n-1.7976931348623157e+308\n5e-324\nInfinity\n-Infinity\nNaN\n~"},
        {COLUMN_NUMERIC,
         {BYTES("0"), BYTES("-0.00"), BYTES("1"), BYTES("10000"), BYTES("0.0001"),
          BYTES("123456789.987654321"), BYTES("-1234567890123456789012345678901234567890"), NIL,
          BYTES("0.00000000000000000000"), BYTES("00012.50")},
         10,
         "0\n0.00\n1\n10000\n0.0001\n123456789.987654321\n"
         "-1234567890123456789012345678901234567890\n~\n0.00000000000000000000\n12.50"},
        {COLUMN_TEXT,
         {BYTES(""),
          BYTES("a"),
          NIL,
          BYTES("'\\\"{,}"),
          BYTES("\xc3\xa4\xf0\x9f\x8c\xa1"),
          BYTES("NULL"),
          {.bytes = NULL, .length = 0}},
         7,
         "\na\n~\n'\\\"{,}\n\xc3\xa4\xf0\x9f\x8c\xa1\nNULL\n"},
        {COLUMN_JSONB,
         {BYTES("{\"b\": [1, 2.50], \"a\": null}"), BYTES("null"), NIL, BYTES("\"\""),
          BYTES(" 1 ")},
         5,
         "{\"a\": null, \"b\": [1, 2.50]}\nnull\n~\n\"\"\n1"},
        {COLUMN_TIMESTAMPTZ,
         {{.integer = 0},
          {.integer = -1},
          {.integer = 946684800000000},
          {.integer = INT64_MAX},
          NIL,
          {.integer = 1700000000123456},
          {.integer = -62135596800000000},
          {.integer = 253402300799999999}},
         8,
         "1970-01-01 00:00:00+00\n1969-12-31 23:59:59.999999+00\n2000-01-01 00:00:00+00\n"
         "294247-01-10 04:00:54.775807+00\n~\n2023-11-14 22:13:20.123456+00\n"
         "0001-01-01 00:00:00+00\n9999-12-31 23:59:59.999999+00"},
        {COLUMN_UUID,
         {BYTES("\x12\x34\x56\x78\x9a\xbc\xde\xf0\x00\x11\x22\x33\x44\x55\x66\x77"), NIL},
         2,
         "12345678-9abc-def0-0011-223344556677\n~"},
        {COLUMN_BYTEA, {BYTES(""), BYTES("\0\xff'"), NIL}, 3, "\\x\n\\x00ff27\n~"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *text = through_server(cases[i].type, cases[i].values, cases[i].count);
        assert_string_equal(text, cases[i].text);
        free(text);
    }
}

static void no_values_at_all(void **state)
{
    (void)state;
    rig_need_postgres();
    for (int type = 0; type < COLUMN_TYPE_COUNT; type++) {
        static const struct value null = {.null = true};
        char *text = through_server((enum column_type)type, NULL, 0);
        assert_string_equal(text, "");
        free(text);
        text = through_server((enum column_type)type, &null, 1);
        assert_string_equal(text, "~");
        free(text);
    }
}

static void a_long_text(void **state)
{
    (void)state;
    rig_need_postgres();
    enum { LENGTH = 3 << 20 };
    char *text = mem_alloc(LENGTH + 1);
    memset(text, 'x', LENGTH);
    text[LENGTH] = '\0';
    const struct value value = {.bytes = text, .length = LENGTH};
    char *back = through_server(COLUMN_TEXT, &value, 1);
    assert_string_equal(back, text);
    free(back);
    free(text);
}

// The array's bytes are used again: what was longer, or null, before leaves no trace.
static void an_array_is_used_again(void **state)
{
    (void)state;
    static const struct value first[] = {{.null = true},
                                         BYTES("a long text, longer than the next")};
    static const struct value second[] = {BYTES("b")};
    struct sql_array array = {0}, fresh = {0};
    sql_array_start(&array, COLUMN_TEXT, 2);
    sql_array_add(&array, COLUMN_TEXT, &first[0]);
    sql_array_add(&array, COLUMN_TEXT, &first[1]);
    sql_array_end(&array);
    struct sql_array *both[] = {&array, &fresh};
    for (int i = 0; i < 2; i++) {
        sql_array_start(both[i], COLUMN_TEXT, 1);
        sql_array_add(both[i], COLUMN_TEXT, &second[0]);
        sql_array_end(both[i]);
    }
    assert_int_equal(array.length, fresh.length);
    assert_memory_equal(array.bytes, fresh.bytes, fresh.length);
    sql_array_fini(&array);
    sql_array_fini(&fresh);
    sql_array_fini(&fresh);
}

// ---- numbers at random, against the server's own reading of their text ----

static uint32_t seed = 7;

static unsigned draw(unsigned below)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % below;
}

// Zeros are frequent: at the ends they are what goes wrong.
static void draw_digits(FILE *out, unsigned count)
{
    while (count-- > 0)
        fputc(draw(2) ? '0' : (int)('0' + draw(10)), out);
}

static char *draw_number(void)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    fputs(draw(3) ? "" : "-", out);
    draw_digits(out, 1 + draw(draw(10) ? 12 : 100));
    if (draw(3)) {
        fputc('.', out);
        draw_digits(out, 1 + draw(draw(10) ? 12 : 100));
    }
    fclose(out);
    return text;
}

static void numbers_at_random(void **state)
{
    (void)state;
    rig_need_postgres();
    enum { NUMBERS = 1000 };
    char *texts[NUMBERS], *sql = NULL;
    struct value numbers[NUMBERS];
    size_t length = 0;
    FILE *out = open_memstream(&sql, &length);
    fputs("SELECT unnest('{", out);
    for (int i = 0; i < NUMBERS; i++) {
        texts[i] = draw_number();
        numbers[i] = (struct value){.bytes = texts[i], .length = (uint32_t)strlen(texts[i])};
        fprintf(out, "%s%s", i ? "," : "", texts[i]);
    }
    fputs("}'::numeric[])::text", out);
    fclose(out);
    char *ours = through_server(COLUMN_NUMERIC, numbers, NUMBERS);
    rig_assert_text(server, sql, ours);
    free(ours);
    free(sql);
    for (int i = 0; i < NUMBERS; i++)
        free(texts[i]);
}

// The longest that the pipeline lets through.
static void the_longest_numbers(void **state)
{
    (void)state;
    rig_need_postgres();
    enum { WHOLE = 131072, SCALE = 16383 };
    char *text = mem_alloc(WHOLE + 1 + SCALE + 1);
    memset(text, '9', WHOLE + 1 + SCALE);
    text[WHOLE] = '.';
    text[WHOLE + 1 + SCALE] = '\0';
    const struct value value = {.bytes = text, .length = WHOLE + 1 + SCALE};
    char *back = through_server(COLUMN_NUMERIC, &value, 1);
    assert_string_equal(back, text);
    free(back);
    free(text);
}

// ---- rows of a batch ----

struct rig {
    struct message_source source;
    struct budget budget;
    struct batch *batch;
    struct sql_params params;
};

static void ignore_settled(struct message_source *source, struct message *message)
{
    (void)source, (void)message;
}

static struct rig *rig_new(void)
{
    struct rig *rig = mem_zalloc(sizeof *rig);
    rig->source = (struct message_source){.name = "site \"1\"", .settled = ignore_settled};
    rig->budget.limit = 1 << 20;
    rig->batch = batch_new(&rig->budget);
    sql_params_init(&rig->params);
    return rig;
}

static void rig_free(struct rig *rig)
{
    batch_settle(rig->batch);
    batch_free(rig->batch);
    sql_params_fini(&rig->params);
    free(rig);
}

static void add_row(struct rig *rig, int64_t time_us, const char *station)
{
    const struct message_parts parts = {.topic = "a", .topic_length = 1};
    struct message *message = message_new(&rig->source, &rig->budget, &parts);
    struct value *row = batch_reserve_row(rig->batch, &keyed);
    row[0] = (struct value){.integer = time_us};
    row[1] = (struct value){.bytes = station, .length = (uint32_t)strlen(station)};
    row[2] = (struct value){.null = true};
    batch_keep_row(rig->batch, &keyed, message);
    message_release(message, VERDICT_NONE, NULL);
}

// The ordinals that come back, by spaces.
static void execute(const char *sql, const struct sql_params *params, char *text, size_t size)
{
    const struct pg_params *p = &params->params;
    PGresult *result =
        PQexecParams(server, sql, p->count, p->types, p->values, p->lengths, p->formats, 0);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
        fail_msg("%s", PQerrorMessage(server));
    text[0] = '\0';
    for (int i = 0; i < PQntuples(result); i++) {
        size_t used = strlen(text);
        snprintf(text + used, size - used, "%s%s", i ? " " : "", PQgetvalue(result, i, 0));
    }
    PQclear(result);
}

static void rows_that_were_there_come_back(void **state)
{
    (void)state;
    rig_need_postgres();
    static const struct {
        const char *stations; // one letter each, all at the same time
        const char *there;    // ordinals
        long stored;          // rows in the table afterwards
    } cases[] = {
        {"ab", "", 2},         {"ab", "1 2", 2},    {"cadb", "2 4", 4}, {"ee", "2", 5},
        {"fgfaf", "3 4 5", 7}, {"aaa", "1 2 3", 7}, {"h", "", 8},
    };
    rig_run(server, "CREATE TABLE telemetry.\"Wea;ther\" (\"time\" timestamptz NOT NULL,"
                    " \"the \"\"station\"\"\" text NOT NULL, value float8,"
                    " UNIQUE (\"the \"\"station\"\"\", \"time\"))");
    char *sql = sql_insert(&keyed, true);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct rig *rig = rig_new();
        char letters[16][2] = {{0}};
        size_t count = strlen(cases[i].stations);
        for (size_t k = 0; k < count; k++) {
            letters[k][0] = cases[i].stations[k];
            add_row(rig, 1700000000000000, letters[k]);
        }
        sql_encode_types(&rig->params, &keyed, true);
        assert_int_equal(rig->params.params.count, 4);
        assert_int_equal(sql_encode_rows(&rig->params, &rig->batch->groups[0],
                                         &(struct sql_rows){0, count, VERDICT_NONE}, true),
                         count);
        char there[64];
        execute(sql, &rig->params, there, sizeof there);
        assert_string_equal(there, cases[i].there);
        assert_int_equal(rig_number(server, "SELECT count(*) FROM telemetry.\"Wea;ther\""),
                         cases[i].stored);
        rig_free(rig);
    }
    free(sql);
}

static void refused_rows_are_left_out(void **state)
{
    (void)state;
    static const char *const stations[] = {"s0", "s1", "s2", "s3", "s4"};
    struct rig *rig = rig_new();
    for (size_t i = 0; i < COUNT(stations); i++)
        add_row(rig, (int64_t)i, stations[i]);
    struct batch_group *group = &rig->batch->groups[0];
    batch_refuse_row(rig->batch, group, 1, "refused", NULL, "23514");
    batch_refuse_row(rig->batch, group, 4, "refused", NULL, "23514");
    static const struct {
        size_t first, last, count;
    } cases[] = {{0, 5, 3}, {0, 1, 1}, {1, 2, 0}, {1, 4, 2}, {4, 5, 0}, {2, 2, 0}};
    for (size_t i = 0; i < COUNT(cases); i++)
        assert_int_equal(
            sql_encode_rows(&rig->params, group,
                            &(struct sql_rows){cases[i].first, cases[i].last, VERDICT_NONE}, true),
            cases[i].count);
    rig_free(rig);
}

// ---- rejects ----

static void add_rejects(struct rig *rig)
{
    static const struct message_property properties[] = {
        {MESSAGE_EXPIRY, 0, 2, NULL, "60"},
        {MESSAGE_USER_PROPERTY, 4, 3, "unit", "\"m\""},
        {MESSAGE_CONTENT_TYPE, 0, 10, NULL, "text/plain"},
        {MESSAGE_USER_PROPERTY, 4, 4, "unit", "a\\\n\x01"},
        {MESSAGE_RESPONSE_TOPIC, 0, 3, NULL, "r/1"},
        {MESSAGE_CORRELATION_DATA, 0, 3, NULL, "\0\xff\n"},
        {MESSAGE_PAYLOAD_FORMAT, 0, 1, NULL, "1"},
    };
    const struct message_parts full = {
        .topic = "\xc3\xa4/b",
        .topic_length = 4,
        .payload = "\0'\xff",
        .payload_length = 3,
        .full_length = 209715200,
        .properties = properties,
        .property_count = COUNT(properties),
        .qos = 1,
        .dup = true,
        .retain = true,
    };
    const struct message_parts bare = {.topic = "t", .topic_length = 1};
    struct message *message = message_new(&rig->source, &rig->budget, &full);
    message->received_us = 1700000000123456;
    batch_add_reject(rig->batch, &keyed, message, "malformed", "at byte 2", "22P02");
    message_release(message, VERDICT_NONE, NULL);
    message = message_new(&rig->source, &rig->budget, &bare);
    batch_add_reject(rig->batch, NULL, message, "oversize", NULL, "");
    message_release(message, VERDICT_NONE, NULL);
}

static void rejects_are_written_in_full(void **state)
{
    (void)state;
    rig_need_postgres();
    struct rig *rig = rig_new();
    char nothing[8];
    add_rejects(rig);
    sql_encode_reject_types(&rig->params);
    assert_int_equal(rig->params.params.count, 15);
    sql_encode_rejects(&rig->params, rig->batch, "edge7");
    execute(sql_insert_rejects(), &rig->params, nothing, sizeof nothing);
    rig_assert_text(
        server,
        "SELECT received_at, source, mapping, topic, payload, payload_length, qos, retain,"
        " dup, reason, detail, sqlstate, writer FROM sensorlog.reject ORDER BY id LIMIT 1",
        "2023-11-14 22:13:20.123456+00|site \"1\"|weather|\xc3\xa4/b|\\x0027ff|209715200|1|t|t|"
        "malformed|at byte 2|22P02|edge7");
    rig_assert_text(
        server,
        "SELECT properties->'user', properties - 'user' FROM sensorlog.reject"
        " ORDER BY id LIMIT 1",
        "[[\"unit\", \"\\\"m\\\"\"], [\"unit\", \"a\\\\\\n\\u0001\"]]|"
        "{\"content_type\": \"text/plain\", \"message_expiry\": 60, \"payload_format\": 1, "
        "\"response_topic\": \"r/1\", \"correlation_data\": \"00ff0a\"}");
    rig_assert_text(server,
                    "SELECT received_at > now() - interval '1 minute', mapping, topic, payload,"
                    " payload_length, properties, qos, retain, dup, reason, detail, sqlstate,"
                    " writer FROM sensorlog.reject ORDER BY id OFFSET 1",
                    "t|~|t|\\x|0|~|0|f|f|oversize|~|~|edge7");
    rig_free(rig);
}

// Ours, but for what is rejected again: that keeps the writer of its entry, also where it has none.
static void rejects_have_a_writer(void **state)
{
    (void)state;
    rig_need_postgres();
    static const struct {
        uint8_t kind;
        const char *writer;
    } cases[] = {
        {MESSAGE_OF_REJECTS, "b\xc3\xb6x \"9\""},
        {MESSAGE_NO_ENTRY, NULL},
        {MESSAGE_OF_REJECTS, NULL},
        {MESSAGE_OF_SPOOL, NULL},
        {MESSAGE_OF_REJECTS, "edge3"},
    };
    struct rig *rig = rig_new();
    char nothing[8];
    rig_run(server, "TRUNCATE sensorlog.reject");
    for (size_t i = 0; i < COUNT(cases); i++) {
        const struct message_parts parts = {.topic = "t",
                                            .topic_length = 1,
                                            .entry_kind = cases[i].kind,
                                            .writer = cases[i].writer};
        struct message *message = message_new(&rig->source, &rig->budget, &parts);
        batch_add_reject(rig->batch, &keyed, message, "again", NULL, "");
        message_release(message, VERDICT_NONE, NULL);
    }
    sql_encode_reject_types(&rig->params);
    sql_encode_rejects(&rig->params, rig->batch, "edge7");
    execute(sql_insert_rejects(), &rig->params, nothing, sizeof nothing);
    rig_assert_text(server,
                    "SELECT string_agg(coalesce(writer, '~'), ', ' ORDER BY id)"
                    " FROM sensorlog.reject",
                    "b\xc3\xb6x \"9\", edge7, ~, edge7, edge3");
    rig_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statements),
        cmocka_unit_test(values),
        cmocka_unit_test(no_values_at_all),
        cmocka_unit_test(a_long_text),
        cmocka_unit_test(an_array_is_used_again),
        cmocka_unit_test(numbers_at_random),
        cmocka_unit_test(the_longest_numbers),
        cmocka_unit_test(rows_that_were_there_come_back),
        cmocka_unit_test(refused_rows_are_left_out),
        cmocka_unit_test(rejects_are_written_in_full),
        cmocka_unit_test(rejects_have_a_writer),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
