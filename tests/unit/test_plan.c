// From a message to a row: each kind of source, what is missing, units, and the bounds of time.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "packet_guard.h"
#include "pipeline/format.h"
#include "pipeline/pipeline.h"
#include "sample_mapping.h"

#define NOW INT64_C(1714564800000000) // 2024-05-01T12:00:00Z
#define DAY_US (INT64_C(86400) * 1000000)
#define ARRIVAL                                                                                    \
    {                                                                                              \
        .name = "time", .type = "timestamptz", .from = "received_at"                               \
    }

enum { COLUMNS = 8 };

static const struct message_property properties[] = {
    {.kind = MESSAGE_USER_PROPERTY,
     .name = "site",
     .name_length = 4,
     .value = "north",
     .value_length = 5},
    {.kind = MESSAGE_USER_PROPERTY,
     .name = "twice",
     .name_length = 5,
     .value = "1",
     .value_length = 1},
    {.kind = MESSAGE_CONTENT_TYPE, .value = "text/plain", .value_length = 10},
    {.kind = MESSAGE_USER_PROPERTY,
     .name = "twice",
     .name_length = 5,
     .value = "1",
     .value_length = 1},
};

static struct message message_of(const char *payload)
{
    struct bytes copy = guard_copy(bytes_of(payload));
    return (struct message){
        .received_us = NOW,
        .topic = "sensors/altimeter/1",
        .topic_length = 19,
        .payload = copy.data,
        .payload_length = copy.length,
        .full_length = copy.length,
        .client_id = "bench",
        .client_id_length = 5,
        .properties = properties,
        .property_count = 4,
        .qos = 1,
        .dup = true,
    };
}

// The row as "time | value | ..." without the time, or "reason: detail".
static void decode(const struct mapping *mapping, const char *payload, char *out, size_t size)
{
    struct message message = message_of(payload);
    struct decode_error error;
    struct value values[COLUMNS];
    struct arena arena;
    struct plan *plan = plan_new(mapping, &error);

    out[0] = '\0';
    if (!plan)
        fail_msg("no plan: %s: %s", error.reason, error.detail);
    arena_init(&arena);
    // Twice: a plan keeps nothing of the message before.
    for (int round = 0; round < 2; round++) {
        out[0] = '\0';
        if (!plan_decode(plan, &message, NOW, &arena, values, &error)) {
            snprintf(out, size, "%s: %s", error.reason, error.detail);
            continue;
        }
        for (size_t i = 1; i < mapping->target.column_count; i++) {
            char shown[100];
            value_format(&values[i], mapping->target.columns[i].type, shown, sizeof shown);
            snprintf(out + strlen(out), size - strlen(out), "%s%s", i > 1 ? " | " : "", shown);
        }
    }
    arena_fini(&arena);
    plan_free(plan);
}

static const struct {
    const char *payload;
    struct sample_column columns[COLUMNS];
    const char *row;
} text_rows[] = {
    {"300 feet",
     {ARRIVAL,
      {.name = "sensor", .type = "text", .from = "topic[2]"},
      {.name = "altitude_m", .type = "float8", .from = "value", .unit = "m"}},
     "'1' | 91.44"},
    {" 300 feet\r\n",
     {ARRIVAL,
      {.name = "a", .type = "text", .from = "value"},
      {.name = "b", .type = "text", .from = "payload"},
      {.name = "c", .type = "bytea", .from = "payload"}},
     "'300 feet' | ' 300 feet\r\n' | '\\x2033303020666565740d0a'"},
    // With the unit in a column of its own the number is the value.
    {"300 feet",
     {ARRIVAL,
      {.name = "v", .type = "float8", .from = "value"},
      {.name = "t", .type = "text", .from = "value"},
      {.name = "u", .type = "text", .from = "unit"}},
     "300 | '300' | 'feet'"},
    {"300",
     {ARRIVAL,
      {.name = "v", .type = "int4", .from = "value"},
      {.name = "u", .type = "text", .from = "unit"}},
     "300 | NULL"},
    {"300",
     {ARRIVAL,
      {.name = "v", .type = "int4", .from = "value"},
      {.name = "u", .type = "text", .from = "unit", .fallback = "m"}},
     "300 | 'm'"},
    {"300 feet",
     {ARRIVAL, {.name = "v", .type = "float8", .from = "value"}},
     "unit not expected: column v: 'feet': the column has no unit to convert to"},
    {"300 feet",
     {ARRIVAL, {.name = "v", .type = "float8", .from = "value", .unit = "s"}},
     "unit does not convert: column v: 'feet' is another kind of unit than the column's"},
    {"abc",
     {ARRIVAL, {.name = "v", .type = "float8", .from = "value"}},
     "not a number: column v: 'abc'"},
    {"ON", {ARRIVAL, {.name = "v", .type = "bool", .from = "value"}}, "true"},
    {"",
     {ARRIVAL, {.name = "v", .type = "text", .from = "value"}},
     "empty payload: there is no value in it"},
    {" \n",
     {ARRIVAL, {.name = "v", .type = "text", .from = "value"}},
     "empty payload: there is no value in it"},
    {"", {ARRIVAL, {.name = "v", .type = "bytea", .from = "payload"}}, "'\\x'"},
    // All that a message has
    {"x",
     {ARRIVAL,
      {.name = "a", .type = "text", .from = "topic"},
      {.name = "b", .type = "int2", .from = "qos"},
      {.name = "c", .type = "bool", .from = "dup"},
      {.name = "d", .type = "bool", .from = "retain"},
      {.name = "e", .type = "text", .from = "client_id"},
      {.name = "f", .type = "text", .from = "received_at"}},
     "'sensors/altimeter/1' | 1 | true | false | 'bench' | '2024-05-01T12:00:00Z'"},
    {"x",
     {ARRIVAL,
      {.name = "a", .type = "text", .from = "property.site"},
      {.name = "b", .type = "text", .from = "property.none"},
      {.name = "c", .type = "text", .from = "property.none", .fallback = "south"},
      {.name = "d", .type = "int4", .constant = "7"}},
     "'north' | NULL | 'south' | 7"},
    {"x",
     {ARRIVAL, {.name = "a", .type = "text", .from = "property.twice"}},
     "ambiguous property: column a: it was sent twice"},
    {"x",
     {ARRIVAL, {.name = "a", .type = "text", .from = "property.none", .required = true}},
     "missing value: column a: property.none is not there"},
    {"x", {ARRIVAL, {.name = "a", .type = "int4", .from = "topic[2]"}}, "1"},
    {"x", {ARRIVAL, {.name = "a", .type = "text", .from = "topic[3]"}}, "NULL"},
    {"x",
     {ARRIVAL, {.name = "a", .type = "text", .from = "topic[3]", .required = true}},
     "missing value: column a: topic[3] is not there"},
};

static void text_payloads_become_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof text_rows / sizeof *text_rows; i++) {
        struct mapping mapping;
        char row[400];
        sample_mapping(&mapping, "sensors/#", DECODER_TEXT, text_rows[i].columns);
        decode(&mapping, text_rows[i].payload, row, sizeof row);
        assert_string_equal(row, text_rows[i].row);
        mapping_fini(&mapping);
    }
}

static const struct sample_column weather[] = {
    {.name = "time", .type = "timestamptz", .from = "/ts", .format = "unix_ms"},
    {.name = "station", .type = "text", .from = "/station", .required = true},
    {.name = "temperature", .type = "float8", .from = "/temp", .min = -90, .max = 60},
    {.name = "humidity", .type = "int2", .from = "/air/0/rh", .fallback = "-1"},
    {.name = "all", .type = "jsonb", .from = "value"},
    {0},
};

static const struct {
    const char *payload, *row;
} weather_rows[] = {
    {"{\"ts\":1714564800000,\"station\":\"s\\u00e91\",\"temp\":21.5,\"air\":[{\"rh\":45}]}",
     "'s\xC3\xA9"
     "1' | 21.5 | 45 | '{\"ts\":1714564800000,\"station\":\"s\\u00e91\",\"temp\":21.5,\"air\":[{\"rh\":45}]}'"},
    {"{\"station\":\"a\",\"ts\":\"1714564800000\"}",
     "'a' | NULL | -1 | '{\"station\":\"a\",\"ts\":\"1714564800000\"}'"},
    {"{\"ts\":1714564800000,\"station\":\"a\",\"temp\":null,\"air\":[{\"rh\":null}]}",
     "'a' | NULL | -1 | '{\"ts\":1714564800000,\"station\":\"a\",\"temp\":null,\"air\":[{\"rh\":null}]}'"},
    {"{\"ts\":1714564800000}", "missing value: column station: /station is not there"},
    {"{\"ts\":1714564800000,\"station\":null}", "missing value: column station: /station is null"},
    {"{\"station\":\"a\"}", "missing value: column time: /ts is not there"},
    {"{\"ts\":null,\"station\":\"a\"}", "missing value: column time: /ts is null"},
    {"{\"ts\":1714564800000,\"station\":\"a\",\"temp\":60.5}",
     "above max: column temperature: 60.5 is above 60"},
    {"{\"ts\":1714564800000,\"station\":\"a\",\"temp\":\"warm\"}",
     "not a number: column temperature: 'warm'"},
    {"{\"ts\":1714564800000,\"station\":\"a\",\"temp\":[1]}",
     "wrong kind of value: column temperature: an object or array is no float8"},
    {"{\"ts\":1714564800000,\"station\":\"\\u0000\"}", "U+0000 in text: column station: '?'"},
    {"{\"ts\":1714564800000,\"station\":\"a\",\"x\":\"\\u0000\"}",
     "U+0000 in text: column all: \\u0000 has no place in jsonb"},
    {"{\"ts\":1,\"ts\":2,\"station\":\"a\"}",
     "not JSON: byte 9: a name that is needed comes twice in one object"},
    {"{\"ts\":1714564800000,}", "not JSON: byte 20: a name in quotes is missing"},
    {"", "not JSON: byte 0: the document ends too early"},
};

static void json_payloads_become_rows(void **state)
{
    (void)state;
    struct mapping mapping;
    sample_mapping(&mapping, "weather", DECODER_JSON, weather);
    for (size_t i = 0; i < sizeof weather_rows / sizeof *weather_rows; i++) {
        char row[400];
        decode(&mapping, weather_rows[i].payload, row, sizeof row);
        assert_string_equal(row, weather_rows[i].row);
    }
    mapping_fini(&mapping);
}

static const struct {
    const char *payload; // seconds since 1970
    int64_t max_age_us, max_ahead_us;
    const char *row; // "" where it is taken
} bounds[] = {
    {"1714564800", DAY_US, 0, ""},
    {"1714478400", DAY_US, 0, ""},
    {"1714478399", DAY_US, 0,
     "time out of bounds: column time: 2024-04-30T11:59:59Z is before 2024-04-30T12:00:00Z"},
    {"1714564860", DAY_US, INT64_C(60000000), ""},
    {"1714564860.000001", DAY_US, INT64_C(60000000),
     "time out of bounds: column time: 2024-05-01T12:01:00.000001Z is after 2024-05-01T12:01:00Z"},
    {"946684800", INT64_MAX, 0, ""},
    {"946684799", INT64_MAX, 0,
     "time out of bounds: column time: 1999-12-31T23:59:59Z is before 2000-01-01T00:00:00Z"},
    {"0", INT64_MAX, INT64_MAX,
     "time out of bounds: column time: 1970-01-01T00:00:00Z is before 2000-01-01T00:00:00Z"},
    {"4300000000", INT64_MAX, INT64_MAX, ""},
    {"1714564800000", DAY_US, DAY_US, "not a time: column time: '1714564800000' is no unix_s time"},
};

static void times_are_within_bounds(void **state)
{
    (void)state;
    static const struct sample_column columns[] = {
        {.name = "time", .type = "timestamptz", .from = "value", .format = "unix_s"}, {0}};
    struct mapping mapping;
    sample_mapping(&mapping, "t", DECODER_TEXT, columns);
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++) {
        char row[400];
        mapping.max_age_us = bounds[i].max_age_us;
        mapping.max_ahead_us = bounds[i].max_ahead_us;
        decode(&mapping, bounds[i].payload, row, sizeof row);
        assert_string_equal(row, bounds[i].row);
    }
    mapping_fini(&mapping);
}

// A clock that was never set must not make a partition in 1970; the age of an arrival is nothing
// else's business.
static void arrival_is_held_to_2000_alone(void **state)
{
    (void)state;
    static const struct sample_column columns[] = {ARRIVAL, {0}};
    struct mapping mapping;
    struct decode_error error;
    struct message message = message_of("x");
    struct value value;

    sample_mapping(&mapping, "t", DECODER_TEXT, columns);
    mapping.max_age_us = mapping.max_ahead_us = 0;
    struct plan *plan = plan_new(&mapping, &error);
    message.received_us = NOW - 30 * DAY_US;
    assert_true(plan_decode(plan, &message, NOW, NULL, &value, &error));
    assert_int_equal(value.integer, NOW - 30 * DAY_US);
    message.received_us = DAY_US;
    assert_false(plan_decode(plan, &message, NOW, NULL, &value, &error));
    assert_string_equal(error.reason, "time out of bounds");
    plan_free(plan);
    mapping_fini(&mapping);
}

static const struct {
    struct sample_column column;
    const char *reason;
} bad_plans[] = {
    {{.name = "a", .type = "float8", .from = "value", .unit = "parrots"}, "unknown unit"},
    {{.name = "a", .type = "text", .from = "value", .unit = "m"}, "unit without number"},
    {{.name = "a", .type = "text", .from = "value", .min = 1, .max = 2}, "bound without number"},
    {{.name = "a", .type = "float8", .from = "received_at"}, "wrong kind of value"},
    {{.name = "a", .type = "uuid", .from = "qos"}, "wrong kind of value"},
    {{.name = "a", .type = "int4", .from = "dup"}, "wrong kind of value"},
    {{.name = "a", .type = "int4", .constant = "x"}, "not a number"},
    {{.name = "a", .type = "int4", .from = "value", .fallback = "x"}, "not a number"},
};

static void impossible_plans_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_plans / sizeof *bad_plans; i++) {
        const struct sample_column columns[] = {ARRIVAL, bad_plans[i].column, {0}};
        struct mapping mapping;
        struct decode_error error = {0};
        sample_mapping(&mapping, "t", DECODER_TEXT, columns);
        assert_null(plan_new(&mapping, &error));
        assert_string_equal(error.reason, bad_plans[i].reason);
        assert_memory_equal(error.detail, "column a: ", 10);
        mapping_fini(&mapping);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_payloads_become_rows),
        cmocka_unit_test(json_payloads_become_rows),
        cmocka_unit_test(times_are_within_bounds),
        cmocka_unit_test(arrival_is_held_to_2000_alone),
        cmocka_unit_test(impossible_plans_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
