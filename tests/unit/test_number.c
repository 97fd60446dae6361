// Decimal numbers: what is one, and what it is worth as an integer, a double, a float and a
// numeric.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "packet_guard.h"
#include "pipeline/number.h"

static size_t scan(const char *text, struct number *number)
{
    struct bytes copy = guard_copy(bytes_of(text));
    return number_scan((const char *)copy.data, copy.length, number);
}

static const struct {
    const char *text;
    size_t taken;
    uint64_t mantissa;
    int32_t exponent;
    bool negative, inexact;
} scans[] = {
    {"0", 1, 0, 0, false, false},
    {"300", 3, 300, 0, false, false},
    {"-1.5", 4, 15, -1, true, false},
    {"+2", 2, 2, 0, false, false},
    {".5", 2, 5, -1, false, false},
    {"5.", 2, 5, 0, false, false},
    {"-.5e1x", 5, 5, 0, true, false},
    {"1e5", 3, 1, 5, false, false},
    {"1E+05", 5, 1, 5, false, false},
    {"12e-3 m", 5, 12, -3, false, false},
    {"1e", 1, 1, 0, false, false},
    {"1e+", 1, 1, 0, false, false},
    {"1.5em", 3, 15, -1, false, false},
    {"1.2.3", 3, 12, -1, false, false},
    {"0x10", 1, 0, 0, false, false},
    {"1,5", 1, 1, 0, false, false},
    {"000012", 6, 12, 0, false, false},
    {"0.00000000000000000000000012", 28, 12, -26, false, false},
    {"1234567890123456789", 19, 1234567890123456789u, 0, false, false},
    {"9999999999999999999", 19, 9999999999999999999u, 0, false, false},
    {"12345678901234567890", 20, 1234567890123456789u, 1, false, false},
    {"12345678901234567891", 20, 1234567890123456789u, 1, false, true},
    {"1.2345678901234567890", 21, 1234567890123456789u, -18, false, false},
    {"1.23456789012345678901", 22, 1234567890123456789u, -18, false, true},
    {"", 0, 0, 0, false, false},
    {"-", 0, 0, 0, false, false},
    {".", 0, 0, 0, false, false},
    {"+.e5", 0, 0, 0, false, false},
    {"e5", 0, 0, 0, false, false},
    {"abc", 0, 0, 0, false, false},
    {"- 5", 0, 0, 0, false, false},
    {"--5", 0, 0, 0, false, false},
};

static void scans_the_longest_number(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof scans / sizeof *scans; i++) {
        struct number number;
        if (scan(scans[i].text, &number) != scans[i].taken)
            fail_msg("'%s'", scans[i].text);
        if (scans[i].taken == 0)
            continue;
        if (number.mantissa != scans[i].mantissa || number.exponent != scans[i].exponent ||
            number.negative != scans[i].negative || number.inexact != scans[i].inexact)
            fail_msg("'%s': %llu e %d", scans[i].text, (unsigned long long)number.mantissa,
                     number.exponent);
    }
}

static const struct {
    const char *text;
    size_t taken;
} json_scans[] = {
    {"0", 1},         {"-0", 2},   {"10", 2},
    {"01", 1},        {"-012", 2}, {"0.5", 3},
    {"1.50e+07x", 8}, {"1.", 1},   {"1.e5", 1},
    {"0.e5", 1},      {".5", 0},   {"-.5", 0},
    {"+1", 0},        {"-", 0},    {"1e", 1},
    {"1e-", 1},       {"1.5e", 3}, {"0e0", 3},
    {"", 0},          {"00.5", 1}, {"123456789012345678901.5", 23},
};

static void scans_the_longest_number_of_json(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof json_scans / sizeof *json_scans; i++) {
        struct bytes copy = guard_copy(bytes_of(json_scans[i].text));
        struct number number;
        if (number_scan_json((const char *)copy.data, copy.length, &number) != json_scans[i].taken)
            fail_msg("'%s'", json_scans[i].text);
    }
}

static const struct {
    const char *text;
    enum number_result result;
    int64_t value;
} integers[] = {
    {"0", NUMBER_OK, 0},
    {"-0", NUMBER_OK, 0},
    {"12", NUMBER_OK, 12},
    {"12.0", NUMBER_OK, 12},
    {"12.000000000000000000000000", NUMBER_OK, 12},
    {"1.2e1", NUMBER_OK, 12},
    {"1200e-2", NUMBER_OK, 12},
    {"12.5", NUMBER_NOT_WHOLE, 0},
    {"1201e-2", NUMBER_NOT_WHOLE, 0},
    {"1e-999999999999", NUMBER_NOT_WHOLE, 0},
    {"0e999999999999", NUMBER_OK, 0},
    {"0e-999999999999", NUMBER_OK, 0},
    {"9223372036854775807", NUMBER_OK, INT64_MAX},
    {"9223372036854775807.0", NUMBER_OK, INT64_MAX},
    {"9223372036854775808", NUMBER_OUT_OF_RANGE, 0},
    {"-9223372036854775808", NUMBER_OK, INT64_MIN},
    {"-9223372036854775809", NUMBER_OUT_OF_RANGE, 0},
    {"9007199254740993", NUMBER_OK, 9007199254740993}, // no double
    {"92233720368547758.07e2", NUMBER_OK, INT64_MAX},
    {"18446744073709551616", NUMBER_OUT_OF_RANGE, 0},
    {"1e18", NUMBER_OK, 1000000000000000000},
    {"1e19", NUMBER_OUT_OF_RANGE, 0},
    {"1e999999999999", NUMBER_OUT_OF_RANGE, 0},
    {"1234567890123456789.5", NUMBER_NOT_WHOLE, 0},
    {"12345678901234567890.5", NUMBER_OUT_OF_RANGE, 0},
};

static void integers_are_exact(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++) {
        struct number number;
        int64_t value = 0;
        number_read(integers[i].text, (uint32_t)strlen(integers[i].text), &number);
        if (number_to_integer(&number, &value) != integers[i].result)
            fail_msg("%s", integers[i].text);
        if (integers[i].result == NUMBER_OK && value != integers[i].value)
            fail_msg("%s: %lld", integers[i].text, (long long)value);
    }
}

// A number that is written at random, with all lengths of digits and exponents that matter.
static void write_random(char *text, size_t size)
{
    int whole = rand() % 20, fraction = rand() % 20, used = 0;
    if (rand() % 2)
        text[used++] = '-';
    for (int i = 0; i <= whole; i++)
        text[used++] = (char)('0' + rand() % 10);
    if (rand() % 2) {
        text[used++] = '.';
        for (int i = 0; i <= fraction; i++)
            text[used++] = (char)('0' + rand() % 10);
    }
    text[used] = '\0';
    if (rand() % 2)
        snprintf(text + used, size - (size_t)used, "e%d", rand() % 60 - 30);
}

static void reals_are_rounded_once(void **state)
{
    (void)state;
    static const char *const special[] = {
        "0",
        "-0",
        "0.1",
        "1e22",
        "1e23",
        "1e-22",
        "1e-23",
        "9007199254740993",
        "5e-324",
        "1e-320",
        "1.7976931348623157e308",
        "2.2250738585072011e-308",
        "3.4e38",
        "1.1e-44",
        "16777217",
        "21.299999999999997",
        "1.00000000000000011102230246251565404236316680908203125",
        "1.00000000000000011102230246251565404236316680908203124",
        "1.00000000000000011102230246251565404236316680908203126",
    };
    char text[100];
    enum { SPECIAL = sizeof special / sizeof *special, RANDOM = 200000 };

    srand(1);
    for (int i = 0; i < SPECIAL + RANDOM; i++) {
        struct number number;
        double wide = 0, narrow = 0;
        if (i < SPECIAL)
            strcpy(text, special[i]);
        else
            write_random(text, sizeof text);
        number_read(text, (uint32_t)strlen(text), &number);
        double expected = strtod(text, NULL);
        assert_true(number_to_double(&number, &wide));
        if (memcmp(&wide, &expected, sizeof wide) != 0)
            fail_msg("%s: %.17g", text, wide);
        expected = (double)strtof(text, NULL);
        bool fits =
            expected < HUGE_VAL && expected > -HUGE_VAL && (expected != 0 || number.mantissa == 0);
        assert_int_equal(number_to_float(&number, &narrow), fits);
        if (fits && narrow != expected)
            fail_msg("%s: %.9g", text, narrow);
    }
}

static const struct {
    const char *text;
    bool fits_double, fits_float;
} ranges[] = {
    {"1e308", true, false},   {"1e309", false, false},          {"-1e309", false, false},
    {"1e39", true, false},    {"3.4028234e38", true, true},     {"3.5e38", true, false},
    {"1e-324", false, false}, {"5e-324", true, false},          {"1e-46", true, false},
    {"0e-999", true, true},   {"1e999999999999", false, false},
};

static void infinite_or_vanished_is_out_of_range(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        struct number number;
        double value;
        number_read(ranges[i].text, (uint32_t)strlen(ranges[i].text), &number);
        if (number_to_double(&number, &value) != ranges[i].fits_double ||
            number_to_float(&number, &value) != ranges[i].fits_float)
            fail_msg("%s", ranges[i].text);
    }
}

static const struct {
    const char *text, *numeric; // NULL: refused
} numerics[] = {
    {"0", "0"},
    {"-0", "0"},
    {"-0.00", "0.00"},
    {"1.50", "1.50"},
    {"-12.25", "-12.25"},
    {"123456789012345678901234567890.123456789", "123456789012345678901234567890.123456789"},
    {"+5", "5"},
    {"007", "7"},
    {"-007.50", "-7.50"},
    {".5", "0.5"},
    {"-.5", "-0.5"},
    {"5.", "5"},
    {"00.5", "0.5"},
    {"0e5", "0"},
    {"0e-5", "0.00000"},
    {"-0.0e1", "0"},
    {"-0.0e-1", "0.00"},
    {"0e200000", NULL},
    {"1e3", "1000"},
    {"-1.5e3", "-1500"},
    {"1.5e1", "15"},
    {"1.50e1", "15.0"},
    {"15e-1", "1.5"},
    {"15e-2", "0.15"},
    {"15e-4", "0.0015"},
    {"0.015e2", "1.5"},
    {"0.015e1", "0.15"},
    {"0.015e5", "1500"},
    {"100e-2", "1.00"},
    {"1e1001", NULL},
    {"1e-1002", NULL},
    {"1e200000", NULL},
    {"1e-20000", NULL},
    {"1e999999999999", NULL},
};

static void numerics_are_plain_decimal_text(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena);
    for (size_t i = 0; i < sizeof numerics / sizeof *numerics; i++) {
        struct number number;
        const char *text;
        uint32_t length;
        number_read(numerics[i].text, (uint32_t)strlen(numerics[i].text), &number);
        bool good = number_to_numeric(&number, &arena, &text, &length);
        if (good != (numerics[i].numeric != NULL))
            fail_msg("%s", numerics[i].text);
        if (good && (length != strlen(numerics[i].numeric) ||
                     memcmp(text, numerics[i].numeric, length) != 0))
            fail_msg("%s: %.*s", numerics[i].text, (int)length, text);
    }
    arena_fini(&arena);
}

static void exponents_cost_no_memory(void **state)
{
    (void)state;
    struct arena arena;
    struct number number;
    const char *text;
    uint32_t length;

    arena_init(&arena);
    number_read("1e1000", 6, &number);
    assert_true(number_to_numeric(&number, &arena, &text, &length));
    assert_int_equal(length, 1001);
    assert_true(arena.used < 2000);
    arena_fini(&arena);
}

static void the_limits_of_numeric(void **state)
{
    (void)state;
    enum { WHOLE = 131072, SCALE = 16383 };
    static char text[WHOLE + 4];
    struct number number;

    memset(text, '9', WHOLE + 1);
    number_read(text, WHOLE, &number);
    assert_true(number_fits_numeric(&number));
    number_read(text, WHOLE + 1, &number);
    assert_false(number_fits_numeric(&number));
    memset(text, '0', WHOLE + 1);
    number_read(text, WHOLE + 1, &number);
    assert_true(number_fits_numeric(&number));
    text[1] = '.';
    number_read(text, 2 + SCALE, &number);
    assert_true(number_fits_numeric(&number));
    number_read(text, 3 + SCALE, &number);
    assert_false(number_fits_numeric(&number));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scans_the_longest_number),
        cmocka_unit_test(scans_the_longest_number_of_json),
        cmocka_unit_test(integers_are_exact),
        cmocka_unit_test(reals_are_rounded_once),
        cmocka_unit_test(infinite_or_vanished_is_out_of_range),
        cmocka_unit_test(numerics_are_plain_decimal_text),
        cmocka_unit_test(exponents_cost_no_memory),
        cmocka_unit_test(the_limits_of_numeric),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
