// Points in time as payloads write them, against the C library's calendar.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "packet_guard.h"
#include "pipeline/time.h"

#define S INT64_C(1000000)

static bool read_exact(const char *text, int64_t *us)
{
    struct bytes copy = guard_copy(bytes_of(text));
    return time_from_rfc3339((const char *)copy.data, copy.length, us);
}

static const struct {
    const char *text;
    int64_t us;
} good_times[] = {
    {"1970-01-01T00:00:00Z", 0},
    {"1970-01-01t00:00:00z", 0},
    {"1970-01-01 00:00:00Z", 0},
    {"1970-01-01T00:00:00+00:00", 0},
    {"1970-01-01T00:00:00-00:00", 0},
    {"1970-01-01T00:00:00.5Z", S / 2},
    {"1970-01-01T00:00:00.000001Z", 1},
    {"1970-01-01T00:00:00.0000019Z", 1},
    {"1970-01-01T00:00:00.123456789012345678901234567890Z", 123456},
    {"1969-12-31T23:59:59.999999Z", -1},
    {"1970-01-01T05:30:00+05:30", 0},
    {"1969-12-31T16:00:00-08:00", 0},
    {"1969-12-31T00:01:00-23:59", 0},
    {"2024-02-29T12:00:00Z", 1709208000 * S},
    {"2000-02-29T00:00:00Z", 951782400 * S},
    {"1985-04-12T23:20:50.52Z", 482196050 * S + 520000},
    {"1996-12-19T16:39:57-08:00", 851042397 * S},
    {"1990-12-31T23:59:60Z", 662688000 * S},
    {"1990-12-31T15:59:60-08:00", 662688000 * S},
    {"1990-12-31T23:59:60.25Z", 662688000 * S + 250000},
    {"0001-01-01T00:00:00Z", TIME_MIN_US},
    {"9999-12-31T23:59:59.999999Z", TIME_MAX_US},
};

static void reads_rfc3339(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good_times / sizeof *good_times; i++) {
        int64_t us = -99;
        if (!read_exact(good_times[i].text, &us) || us != good_times[i].us)
            fail_msg("%s: %lld", good_times[i].text, (long long)us);
    }
}

static void refuses_what_is_no_rfc3339(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "2024",
        "2024-01-01",
        "2024-01-01T00:00:00", // without offset it could be anywhere
        "2024-01-01T00:00Z",
        "2024-01-01T00:00:00+0000",
        "2024-01-01T00:00:00+00",
        "2024-01-01T00:00:00.Z",
        "2024-01-01T00:00:00,5Z",
        "2024-01-01T00:00:00Z ",
        " 2024-01-01T00:00:00Z",
        "2024-01-01X00:00:00Z",
        "2024-1-01T00:00:00Z",
        "2024-00-01T00:00:00Z",
        "2024-13-01T00:00:00Z",
        "2024-01-00T00:00:00Z",
        "2024-01-32T00:00:00Z",
        "2024-04-31T00:00:00Z",
        "2023-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2024-01-01T24:00:00Z",
        "2024-01-01T00:60:00Z",
        "2024-01-01T00:00:61Z",
        "2024-01-01T12:00:60Z", // no leap second within a day
        "2024-01-01T00:00:00+24:00",
        "2024-01-01T00:00:00+00:60",
        "2024-01-01T00:00:00ZZ",
        "20240101T000000Z",
        "+2024-01-01T00:00:00Z",
        "-001-01-01T00:00:00Z",
        "0000-12-31T23:59:59Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "2024-01-01T00:00:00\xC2\xA0Z",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int64_t us;
        if (read_exact(bad[i], &us))
            fail_msg("'%s' accepted", bad[i]);
    }
    static const char whole[] = "2024-01-01T00:00:00.123+01:00";
    for (size_t length = 0; length < sizeof whole - 1; length++) {
        int64_t us;
        struct bytes copy = guard_copy((struct bytes){(const uint8_t *)whole, length});
        assert_false(time_from_rfc3339((const char *)copy.data, length, &us));
    }
}

// Every day of the calendar, there and back.
static void agrees_with_the_calendar_of_libc(void **state)
{
    (void)state;
    for (int64_t day = TIME_MIN_US / S / 86400; day <= TIME_MAX_US / S / 86400; day++) {
        time_t seconds = (time_t)(day * 86400 + (day & 0xFFFF));
        struct tm tm;
        char text[64], shown[TIME_TEXT];
        int64_t us;

        gmtime_r(&seconds, &tm);
        snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02dZ", tm.tm_year + 1900,
                 tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
        if (!time_from_rfc3339(text, strlen(text), &us) || us != (int64_t)seconds * S)
            fail_msg("%s", text);
        if (strcmp(time_text(us, shown), text) != 0)
            fail_msg("%s shown as %s", text, shown);
    }
}

static const struct {
    const char *text;
    enum time_format format;
    bool good;
    int64_t us;
} counts[] = {
    {"0", TIME_UNIX_S, true, 0},
    {"1700000000", TIME_UNIX_S, true, 1700000000 * S},
    {"1700000000.5", TIME_UNIX_S, true, 1700000000 * S + 500000},
    {"1700000000.1234567", TIME_UNIX_S, true, 1700000000 * S + 123456},
    {"1700000000.999999999999999999999", TIME_UNIX_S, true, 1700000000 * S + 999999},
    {"1.7e9", TIME_UNIX_S, true, 1700000000 * S},
    {"1700000000123", TIME_UNIX_MS, true, 1700000000 * S + 123000},
    {"1700000000123.4567", TIME_UNIX_MS, true, 1700000000 * S + 123456},
    {"1700000000123456", TIME_UNIX_US, true, 1700000000 * S + 123456},
    {"1700000000123456.9", TIME_UNIX_US, true, 1700000000 * S + 123456},
    {"1700000000123456789", TIME_UNIX_NS, true, 1700000000 * S + 123456},
    {"-1", TIME_UNIX_S, true, -S},
    {"-0.5", TIME_UNIX_US, true, -1}, // down, not towards 1970
    {"-1", TIME_UNIX_NS, true, -1},
    {"-1000", TIME_UNIX_NS, true, -1},
    {"-1001", TIME_UNIX_NS, true, -2},
    {"0e999999", TIME_UNIX_S, true, 0},
    {"1e-999999", TIME_UNIX_S, true, 0},
    {"-1e-999999", TIME_UNIX_S, true, -1},
    {"253402300799", TIME_UNIX_S, true, 253402300799 * S},
    {"253402300800", TIME_UNIX_S, false, 0},
    {"-62135596800", TIME_UNIX_S, true, TIME_MIN_US},
    {"-62135596800.0000001", TIME_UNIX_S, false, 0},
    {"1e999999", TIME_UNIX_S, false, 0},
    {"18446744073709551616", TIME_UNIX_NS, true, 18446744073709551},
    {"9223372036854775807", TIME_UNIX_NS, true, 9223372036854775},
};

static void counts_are_exact(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct number number;
        int64_t us = 0;
        number_read(counts[i].text, (uint32_t)strlen(counts[i].text), &number);
        bool good = time_from_number(&number, counts[i].format, &us);
        if (good != counts[i].good || (good && us != counts[i].us))
            fail_msg("%s as %s: %lld", counts[i].text, time_format_name(counts[i].format),
                     (long long)us);
    }
}

static const struct {
    int64_t us;
    const char *text;
} shown[] = {
    {0, "1970-01-01T00:00:00Z"},
    {500000, "1970-01-01T00:00:00.5Z"},
    {-1, "1969-12-31T23:59:59.999999Z"},
    {1, "1970-01-01T00:00:00.000001Z"},
    {120, "1970-01-01T00:00:00.00012Z"},
    {TIME_MIN_US, "0001-01-01T00:00:00Z"},
    {TIME_MAX_US, "9999-12-31T23:59:59.999999Z"},
    {TIME_MAX_US + 1, "253402300800000000 us since 1970"},
    {INT64_MIN, "-9223372036854775808 us since 1970"},
};

static void times_are_shown_to_people(void **state)
{
    (void)state;
    char buffer[TIME_TEXT];
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
        assert_string_equal(time_text(shown[i].us, buffer), shown[i].text);
}

static void formats_have_names(void **state)
{
    (void)state;
    enum time_format format;
    for (int i = TIME_RFC3339; i <= TIME_UNIX_NS; i++) {
        assert_true(time_format_parse(time_format_name((enum time_format)i), &format));
        assert_int_equal(format, i);
    }
    assert_false(time_format_parse("unix", &format));
    assert_false(time_format_parse("RFC3339", &format));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_rfc3339),
        cmocka_unit_test(refuses_what_is_no_rfc3339),
        cmocka_unit_test(agrees_with_the_calendar_of_libc),
        cmocka_unit_test(counts_are_exact),
        cmocka_unit_test(times_are_shown_to_people),
        cmocka_unit_test(formats_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
