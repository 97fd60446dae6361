// Values in columns: each type takes what it can hold exactly, and says why it does not take the
// rest.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "pipeline/convert.h"
#include "pipeline/format.h"
#include "pipeline/units.h"

// What each line says of the column.
struct column {
    enum column_type type;
    const char *unit;
    double min, max; // both 0: none
    enum time_format format;
    bool unit_kept;
};

enum { T = DATUM_TEXT, N = DATUM_NUMBER, J = DATUM_STRING, D = DATUM_DOCUMENT, P = DATUM_BYTES };

static const struct {
    struct column column;
    uint8_t kind; // enum datum_kind
    const char *text;
    const char *value;  // as an SQL literal; NULL: refused
    const char *reason; // of the refusal
} cases[] = {
    // bool
    {{.type = COLUMN_BOOL}, T, "ON", "true", NULL},
    {{.type = COLUMN_BOOL}, T, " off\n", "false", NULL},
    {{.type = COLUMN_BOOL}, N, "1", "true", NULL},
    {{.type = COLUMN_BOOL}, J, "yes", "true", NULL},
    {{.type = COLUMN_BOOL}, N, "2", NULL, "neither true nor false"},
    {{.type = COLUMN_BOOL}, T, "open", NULL, "neither true nor false"},
    {{.type = COLUMN_BOOL}, D, "{}", NULL, "wrong kind of value"},
    // integers
    {{.type = COLUMN_INT2}, N, "32767", "32767", NULL},
    {{.type = COLUMN_INT2}, N, "-32768", "-32768", NULL},
    {{.type = COLUMN_INT2}, N, "32768", NULL, "out of range"},
    {{.type = COLUMN_INT2}, N, "-32769", NULL, "out of range"},
    {{.type = COLUMN_INT4}, N, "2147483647", "2147483647", NULL},
    {{.type = COLUMN_INT4}, N, "2147483648", NULL, "out of range"},
    {{.type = COLUMN_INT4}, N, "-2147483648", "-2147483648", NULL},
    {{.type = COLUMN_INT8}, N, "9007199254740993", "9007199254740993", NULL},
    {{.type = COLUMN_INT8}, N, "9223372036854775807", "9223372036854775807", NULL},
    {{.type = COLUMN_INT8}, N, "-9223372036854775808", "-9223372036854775808", NULL},
    {{.type = COLUMN_INT8}, N, "9223372036854775808", NULL, "out of range"},
    {{.type = COLUMN_INT4}, N, "12.0", "12", NULL},
    {{.type = COLUMN_INT4}, N, "12.5", NULL, "not a whole number"},
    {{.type = COLUMN_INT4}, T, " 42 ", "42", NULL},
    {{.type = COLUMN_INT4}, J, "42", "42", NULL},
    {{.type = COLUMN_INT4}, J, "4\\u0032", "42", NULL},
    {{.type = COLUMN_INT4}, T, "abc", NULL, "not a number"},
    {{.type = COLUMN_INT4}, T, "1,5", NULL, "comma in a number"},
    {{.type = COLUMN_INT4}, D, "[1]", NULL, "wrong kind of value"},
    // bounds are inclusive
    {{.type = COLUMN_INT4, .min = -90, .max = 60}, N, "60", "60", NULL},
    {{.type = COLUMN_INT4, .min = -90, .max = 60}, N, "61", NULL, "above max"},
    {{.type = COLUMN_INT4, .min = -90, .max = 60}, N, "-90", "-90", NULL},
    {{.type = COLUMN_INT4, .min = -90, .max = 60}, N, "-91", NULL, "below min"},
    {{.type = COLUMN_INT4, .min = 0.5, .max = 1.5}, N, "1", "1", NULL},
    {{.type = COLUMN_INT4, .min = 0.5, .max = 1.5}, N, "0", NULL, "below min"},
    {{.type = COLUMN_INT4, .min = 0.5, .max = 1.5}, N, "2", NULL, "above max"},
    {{.type = COLUMN_INT8, .min = -1e300, .max = 9007199254740992.0},
     N,
     "9007199254740993",
     NULL,
     "above max"},
    {{.type = COLUMN_INT8, .min = -1e300, .max = 1e300},
     N,
     "-9223372036854775808",
     "-9223372036854775808",
     NULL},
    {{.type = COLUMN_FLOAT8, .min = -90, .max = 60}, N, "60.0", "60", NULL},
    {{.type = COLUMN_FLOAT8, .min = -90, .max = 60}, N, "60.00000000000001", NULL, "above max"},
    {{.type = COLUMN_FLOAT8, .min = -90, .max = 60}, N, "-90.1", NULL, "below min"},
    {{.type = COLUMN_FLOAT4, .min = 0.1, .max = 0.1}, N, "0.1", "0.1", NULL},
    {{.type = COLUMN_NUMERIC, .min = -1, .max = 1}, N, "1.000", "1.000", NULL},
    {{.type = COLUMN_NUMERIC, .min = -1, .max = 1}, N, "1.001", NULL, "above max"},
    // floats
    {{.type = COLUMN_FLOAT8}, N, "0.1", "0.1", NULL},
    {{.type = COLUMN_FLOAT8}, T, "-4e3", "-4000", NULL},
    {{.type = COLUMN_FLOAT8}, N, "21.299999999999997", "21.299999999999997", NULL},
    {{.type = COLUMN_FLOAT8}, N, "1e309", NULL, "out of range"},
    {{.type = COLUMN_FLOAT8}, N, "1e-400", NULL, "out of range"},
    {{.type = COLUMN_FLOAT8}, T, "nan", NULL, "not a finite number"},
    {{.type = COLUMN_FLOAT8}, T, "inf", NULL, "not a finite number"},
    {{.type = COLUMN_FLOAT8}, T, "0x1p3", NULL, "hexadecimal number"},
    {{.type = COLUMN_FLOAT4}, N, "21.53", "21.53", NULL},
    {{.type = COLUMN_FLOAT4}, N, "-73.985123", "-73.98512", NULL},
    {{.type = COLUMN_FLOAT4}, N, "3.5e38", NULL, "out of range"},
    {{.type = COLUMN_FLOAT4}, N, "1e-50", NULL, "out of range"},
    // numeric
    {{.type = COLUMN_NUMERIC}, N, "1.50", "1.50", NULL},
    {{.type = COLUMN_NUMERIC}, N, "1e3", "1000", NULL},
    {{.type = COLUMN_NUMERIC}, T, "+007.10", "7.10", NULL},
    {{.type = COLUMN_NUMERIC}, N, "1e2000", NULL, "out of range"},
    // units
    {{.type = COLUMN_FLOAT8, .unit = "m"}, T, "300 feet", "91.44", NULL},
    {{.type = COLUMN_FLOAT8, .unit = "m"}, J, "300 feet", "91.44", NULL},
    {{.type = COLUMN_FLOAT8, .unit = "m"}, T, "300", "300", NULL},
    {{.type = COLUMN_FLOAT8, .unit = "m"}, N, "300", "300", NULL},
    {{.type = COLUMN_FLOAT4, .unit = "m"}, T, "300 feet", "91.44", NULL},
    {{.type = COLUMN_NUMERIC, .unit = "m"}, T, "300 feet", "91.44", NULL},
    {{.type = COLUMN_NUMERIC, .unit = "m"}, T, "1e-20 km", "0.00000000000000001", NULL},
    {{.type = COLUMN_INT4, .unit = "m"}, T, "0.1 km", "100", NULL},
    {{.type = COLUMN_INT4, .unit = "m"}, T, "300 feet", NULL, "not a whole number"},
    {{.type = COLUMN_INT8, .unit = "m"}, T, "9007199254740993 m", "9007199254740993", NULL},
    {{.type = COLUMN_INT8, .unit = "m"}, T, "1e18 km", NULL, "out of range"},
    {{.type = COLUMN_FLOAT8, .unit = "degC"}, T, "68 F", "20", NULL},
    {{.type = COLUMN_FLOAT8, .unit = "m", .min = 0, .max = 91.45}, T, "300 feet", "91.44", NULL},
    {{.type = COLUMN_FLOAT8, .unit = "m", .min = 0, .max = 91.43},
     T,
     "300 feet",
     NULL,
     "above max"},
    {{.type = COLUMN_FLOAT8, .unit = "m"}, T, "300 parrots", NULL, "unknown unit"},
    {{.type = COLUMN_FLOAT8, .unit = "m"}, T, "300 s", NULL, "unit does not convert"},
    {{.type = COLUMN_FLOAT8, .unit = "mm"}, T, "1e306 km", NULL, "out of range"},
    {{.type = COLUMN_FLOAT4, .unit = "mm"}, T, "1e36 km", NULL, "out of range"},
    {{.type = COLUMN_FLOAT8}, T, "300 feet", NULL, "unit not expected"},
    {{.type = COLUMN_FLOAT8, .unit_kept = true}, T, "300 feet", "300", NULL},
    {{.type = COLUMN_FLOAT8, .unit = "m", .unit_kept = true}, T, "300 feet", "91.44", NULL},
    // text
    {{.type = COLUMN_TEXT}, T, "it's", "'it''s'", NULL},
    {{.type = COLUMN_TEXT}, T, "", "''", NULL},
    {{.type = COLUMN_TEXT}, N, "1.50", "'1.50'", NULL},
    {{.type = COLUMN_TEXT}, J, "a\\n\\u00e9", "'a\n\xC3\xA9'", NULL},
    {{.type = COLUMN_TEXT}, J, "a\\u0000b", NULL, "U+0000 in text"},
    {{.type = COLUMN_TEXT}, D, "{\"a\": [1]}", "'{\"a\": [1]}'", NULL},
    {{.type = COLUMN_TEXT}, P, " as it came ", "' as it came '", NULL},
    {{.type = COLUMN_TEXT}, T, "\xC3\xA9\xFF", NULL, "not UTF-8"},
    // jsonb
    {{.type = COLUMN_JSONB}, D, "{\"a\": [1]}", "'{\"a\": [1]}'", NULL},
    {{.type = COLUMN_JSONB}, N, "1.50", "'1.50'", NULL},
    {{.type = COLUMN_JSONB}, T, "{\"a\":1}", "'{\"a\":1}'", NULL},
    {{.type = COLUMN_JSONB}, T, " null ", "'null'", NULL},
    {{.type = COLUMN_JSONB}, T, "true", "'true'", NULL},
    {{.type = COLUMN_JSONB}, T, " \"x\" ", "'\"x\"'", NULL},
    {{.type = COLUMN_JSONB}, P, "[1]", "'[1]'", NULL},
    {{.type = COLUMN_JSONB}, T, "{a:1}", NULL, "not JSON"},
    {{.type = COLUMN_JSONB}, T, "", NULL, "not JSON"},
    {{.type = COLUMN_JSONB}, T, "[\"\\u0000\"]", NULL, "U+0000 in text"},
    {{.type = COLUMN_JSONB}, T, "[1e200000]", NULL, "out of range"},
    // time
    {{.type = COLUMN_TIMESTAMPTZ},
     J,
     "2024-05-01T12:00:00.25+02:00",
     "'2024-05-01T10:00:00.25Z'",
     NULL},
    {{.type = COLUMN_TIMESTAMPTZ}, T, " 2024-05-01T12:00:00Z ", "'2024-05-01T12:00:00Z'", NULL},
    {{.type = COLUMN_TIMESTAMPTZ}, N, "1700000000", NULL, "not a time"},
    {{.type = COLUMN_TIMESTAMPTZ, .format = TIME_UNIX_MS},
     N,
     "1700000000123",
     "'2023-11-14T22:13:20.123Z'",
     NULL},
    {{.type = COLUMN_TIMESTAMPTZ, .format = TIME_UNIX_S},
     J,
     "1700000000",
     "'2023-11-14T22:13:20Z'",
     NULL},
    {{.type = COLUMN_TIMESTAMPTZ, .format = TIME_UNIX_S}, T, "1700000000 s", NULL, "not a time"},
    {{.type = COLUMN_TIMESTAMPTZ, .format = TIME_UNIX_S}, T, "", NULL, "not a time"},
    {{.type = COLUMN_TIMESTAMPTZ, .format = TIME_UNIX_S}, N, "1e300", NULL, "not a time"},
    {{.type = COLUMN_TIMESTAMPTZ, .format = TIME_UNIX_S}, D, "{}", NULL, "wrong kind of value"},
    // uuid
    {{.type = COLUMN_UUID},
     T,
     "123e4567-e89b-12d3-a456-426614174000",
     "'123e4567-e89b-12d3-a456-426614174000'",
     NULL},
    {{.type = COLUMN_UUID},
     J,
     "{123E4567-E89B-12D3-A456-426614174000}",
     "'123e4567-e89b-12d3-a456-426614174000'",
     NULL},
    {{.type = COLUMN_UUID},
     T,
     "123e4567e89b12d3a456426614174000",
     "'123e4567-e89b-12d3-a456-426614174000'",
     NULL},
    {{.type = COLUMN_UUID}, T, "123e4567-e89b-12d3-a456-42661417400", NULL, "not a UUID"},
    {{.type = COLUMN_UUID}, T, "123e4567-e89b-12d3-a456-42661417400g", NULL, "not a UUID"},
    {{.type = COLUMN_UUID}, T, "123e4567-e89b-12d3-a4564-26614174000", NULL, "not a UUID"},
    {{.type = COLUMN_UUID}, T, "{123e4567-e89b-12d3-a456-426614174000", NULL, "not a UUID"},
    {{.type = COLUMN_UUID}, T, "123e4567-e89b-12d3-a456-4266-4174000", NULL, "not a UUID"},
    {{.type = COLUMN_UUID}, T, "", NULL, "not a UUID"},
    {{.type = COLUMN_UUID}, N, "12345678901234567890123456789012", NULL, "wrong kind of value"},
    // bytea
    {{.type = COLUMN_BYTEA},
     P,
     "\x01\xFF"
     "a",
     "'\\x01ff61'",
     NULL},
    {{.type = COLUMN_BYTEA}, J, "\\\\x01fF", "'\\x01ff'", NULL},
    {{.type = COLUMN_BYTEA}, T, "01fF", "'\\x01ff'", NULL},
    {{.type = COLUMN_BYTEA}, T, "", "'\\x'", NULL},
    {{.type = COLUMN_BYTEA}, T, "01f", NULL, "not hexadecimal"},
    {{.type = COLUMN_BYTEA}, T, "0g", NULL, "not hexadecimal"},
    {{.type = COLUMN_BYTEA}, N, "10", NULL, "wrong kind of value"},
};

static void set_up(struct convert *convert, const struct column *column)
{
    const char *why;
    convert_init(convert, column->type, column->format);
    if (column->min != 0 || column->max != 0) {
        convert_set_min(convert, column->min);
        convert_set_max(convert, column->max);
    }
    convert->unit = column->unit ? unit_converter_new(column->unit, &why) : NULL;
    convert->unit_kept = column->unit_kept;
}

// The flags that the JSON reader would have set.
static uint8_t flags_of(const char *text, uint8_t kind)
{
    if (kind != DATUM_STRING || !strchr(text, '\\'))
        return 0;
    return strstr(text, "\\u0000") ? DATUM_ESCAPED | DATUM_NUL : DATUM_ESCAPED;
}

static struct datum datum_of(uint8_t kind, const char *text)
{
    struct datum datum = {.kind = kind,
                          .text = text,
                          .length = (uint32_t)strlen(text),
                          .flags = flags_of(text, kind)};
    if (kind == DATUM_NUMBER)
        assert_int_equal(number_scan_json(text, strlen(text), &datum.number), strlen(text));
    return datum;
}

static void values_fit_or_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char label[100], shown[200];
        const char *text = cases[i].text;
        struct datum datum = datum_of(cases[i].kind, text);
        struct decode_error error = {0};
        struct convert convert;
        struct arena arena;
        struct value value;

        snprintf(label, sizeof label, "'%s' as %s", text, column_type_name(cases[i].column.type));
        arena_init(&arena);
        set_up(&convert, &cases[i].column);
        bool good = convert_value(&convert, &datum, &arena, &value, &error);
        if (good != (cases[i].value != NULL))
            fail_msg("%s: %s", label, good ? "taken" : error.reason);
        if (good) {
            assert_false(value.null);
            value_format(&value, cases[i].column.type, shown, sizeof shown);
            if (strcmp(shown, cases[i].value) != 0)
                fail_msg("%s is %s", label, shown);
        } else if (strcmp(error.reason, cases[i].reason) != 0) {
            fail_msg("%s: %s: %s", label, error.reason, error.detail);
        }
        convert_fini(&convert);
        arena_fini(&arena);
    }
}

static void a_string_goes_to_jsonb_with_its_quotes(void **state)
{
    (void)state;
    static const char document[] = "\"a\\n\"";
    struct datum datum = {.kind = DATUM_STRING,
                          .text = document + 1,
                          .length = 3,
                          .flags = DATUM_ESCAPED};
    struct decode_error error;
    struct convert convert;
    struct value value;

    convert_init(&convert, COLUMN_JSONB, TIME_RFC3339);
    assert_true(convert_value(&convert, &datum, NULL, &value, &error));
    assert_int_equal(value.length, 5);
    assert_ptr_equal(value.bytes, document);
    datum.flags = DATUM_NUL;
    assert_false(convert_value(&convert, &datum, NULL, &value, &error));
    convert_fini(&convert);
}

static void booleans_and_times_have_a_text(void **state)
{
    (void)state;
    static const struct {
        struct datum datum;
        enum column_type type;
        const char *shown;
    } lines[] = {
        {{.kind = DATUM_BOOL, .integer = 1}, COLUMN_BOOL, "true"},
        {{.kind = DATUM_BOOL, .integer = 0}, COLUMN_TEXT, "'false'"},
        {{.kind = DATUM_BOOL, .integer = 1}, COLUMN_JSONB, "'true'"},
        {{.kind = DATUM_BOOL, .integer = 1}, COLUMN_INT4, NULL},
        {{.kind = DATUM_BOOL, .integer = 1}, COLUMN_TIMESTAMPTZ, NULL},
        {{.kind = DATUM_TIME, .integer = 1500000}, COLUMN_TIMESTAMPTZ, "'1970-01-01T00:00:01.5Z'"},
        {{.kind = DATUM_TIME, .integer = 1500000}, COLUMN_TEXT, "'1970-01-01T00:00:01.5Z'"},
        {{.kind = DATUM_TIME, .integer = 1500000}, COLUMN_FLOAT8, NULL},
    };
    struct arena arena;
    arena_init(&arena);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct decode_error error;
        struct convert convert;
        struct value value;
        char shown[60];
        convert_init(&convert, lines[i].type, TIME_RFC3339);
        bool good = convert_value(&convert, &lines[i].datum, &arena, &value, &error);
        assert_int_equal(good, lines[i].shown != NULL);
        if (good)
            assert_string_equal(value_format(&value, lines[i].type, shown, sizeof shown),
                                lines[i].shown);
        convert_fini(&convert);
    }
    arena_fini(&arena);
}

static void long_values_are_shown_cut(void **state)
{
    (void)state;
    static const char text[] = "0123456789\xC3\xA9\xC3\xA9";
    struct value value = {.bytes = text, .length = sizeof text - 1};
    char shown[17];

    assert_string_equal(value_format(&value, COLUMN_TEXT, shown, 10), "'01234...");
    assert_string_equal(value_format(&value, COLUMN_TEXT, shown, 16), "'0123456789...");
    assert_string_equal(value_format(&value, COLUMN_BYTEA, shown, 10), "'\\x303...");
    assert_string_equal(value_format(&value, COLUMN_TEXT, shown, 0), "");
    value.null = true;
    assert_string_equal(value_format(&value, COLUMN_TEXT, shown, sizeof shown), "NULL");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_fit_or_are_refused),
        cmocka_unit_test(a_string_goes_to_jsonb_with_its_quotes),
        cmocka_unit_test(booleans_and_times_have_a_text),
        cmocka_unit_test(long_values_are_shown_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
