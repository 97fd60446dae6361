// Calendar arithmetic of partitions.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "store/partition.h"

// "2026-11-23 10:15:00.5" as microseconds.
static int64_t us(const char *text)
{
    struct tm tm = {0};
    const char *rest = strptime(text, "%Y-%m-%d %H:%M:%S", &tm);
    assert_non_null(rest);
    int64_t fraction = 0;
    if (*rest == '.') {
        int64_t unit = 100000;
        for (rest++; *rest; rest++, unit /= 10)
            fraction += (*rest - '0') * unit;
    }
    return (int64_t)timegm(&tm) * 1000000 + fraction;
}

static void ranges_and_names(void **state)
{
    (void)state;
    static const struct {
        enum partition_by by;
        const char *time, *from, *to, *name;
    } cases[] = {
        {PARTITION_DAY, "2026-11-23 10:15:00", "2026-11-23 00:00:00", "2026-11-24 00:00:00",
         "t_p2026_11_23"},
        {PARTITION_DAY, "2026-12-31 23:59:59.999999", "2026-12-31 00:00:00", "2027-01-01 00:00:00",
         "t_p2026_12_31"},
        {PARTITION_DAY, "2024-02-28 12:00:00", "2024-02-28 00:00:00", "2024-02-29 00:00:00",
         "t_p2024_02_28"},
        {PARTITION_DAY, "2025-02-28 12:00:00", "2025-02-28 00:00:00", "2025-03-01 00:00:00",
         "t_p2025_02_28"},
        {PARTITION_DAY, "1969-12-31 23:59:59.999999", "1969-12-31 00:00:00", "1970-01-01 00:00:00",
         "t_p1969_12_31"},
        {PARTITION_WEEK, "2026-11-23 00:00:00", "2026-11-23 00:00:00", "2026-11-30 00:00:00",
         "t_p2026w48"},
        {PARTITION_WEEK, "2026-11-22 23:59:59.999999", "2026-11-16 00:00:00", "2026-11-23 00:00:00",
         "t_p2026w47"},
        {PARTITION_WEEK, "2027-01-01 00:00:00", "2026-12-28 00:00:00", "2027-01-04 00:00:00",
         "t_p2026w53"},
        {PARTITION_WEEK, "2024-12-30 00:00:00", "2024-12-30 00:00:00", "2025-01-06 00:00:00",
         "t_p2025w01"},
        {PARTITION_WEEK, "1970-01-01 00:00:00", "1969-12-29 00:00:00", "1970-01-05 00:00:00",
         "t_p1970w01"},
        {PARTITION_MONTH, "2024-02-29 23:59:59.999999", "2024-02-01 00:00:00",
         "2024-03-01 00:00:00", "t_p2024_02"},
        {PARTITION_MONTH, "2026-12-01 00:00:00", "2026-12-01 00:00:00", "2027-01-01 00:00:00",
         "t_p2026_12"},
        {PARTITION_MONTH, "1969-01-31 00:00:00.000001", "1969-01-01 00:00:00",
         "1969-02-01 00:00:00", "t_p1969_01"},
        {PARTITION_MONTH, "1900-02-28 12:00:00", "1900-02-01 00:00:00", "1900-03-01 00:00:00",
         "t_p1900_02"},
        {PARTITION_YEAR, "2026-12-31 23:59:59.999999", "2026-01-01 00:00:00", "2027-01-01 00:00:00",
         "t_p2026"},
        {PARTITION_YEAR, "2000-01-01 00:00:00", "2000-01-01 00:00:00", "2001-01-01 00:00:00",
         "t_p2000"},
        {PARTITION_YEAR, "1000-01-01 00:00:00", "1000-01-01 00:00:00", "1001-01-01 00:00:00",
         "t_p1000"},
        {PARTITION_YEAR, "9998-06-01 00:00:00", "9998-01-01 00:00:00", "9999-01-01 00:00:00",
         "t_p9998"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct partition_range range;
        assert_true(partition_range_of(cases[i].by, us(cases[i].time), &range));
        assert_int_equal(range.from, us(cases[i].from));
        assert_int_equal(range.to, us(cases[i].to));
        char name[PARTITION_NAME_SIZE];
        partition_name(name, "t", cases[i].by, range.from);
        assert_string_equal(name, cases[i].name);
    }
}

static void periods_follow_each_other(void **state)
{
    (void)state;
    for (int by = PARTITION_DAY; by <= PARTITION_YEAR; by++) {
        struct partition_range range, next;
        char name[PARTITION_NAME_SIZE], last[PARTITION_NAME_SIZE] = "";
        assert_true(partition_range_of((enum partition_by)by, us("1899-01-01 00:00:00"), &range));
        for (int i = 0; i < 80000 && range.to < us("2110-01-01 00:00:00"); i++, range = next) {
            assert_true(partition_range_of((enum partition_by)by, range.to, &next));
            assert_int_equal(next.from, range.to);
            struct partition_range same;
            assert_true(partition_range_of((enum partition_by)by, next.from - 1, &same));
            assert_int_equal(same.from, range.from);
            partition_name(name, "t", (enum partition_by)by, range.from);
            assert_string_not_equal(name, last);
            strcpy(last, name);
        }
    }
}

static void years_without_partitions(void **state)
{
    (void)state;
    struct partition_range range;
    for (int by = PARTITION_DAY; by <= PARTITION_YEAR; by++) {
        assert_false(partition_range_of((enum partition_by)by, us("0999-12-31 23:59:59"), &range));
        assert_false(partition_range_of((enum partition_by)by, us("9999-01-01 00:00:00"), &range));
        assert_false(partition_range_of(PARTITION_WEEK, us("1000-01-01 00:00:00"), &range));
        assert_false(partition_range_of((enum partition_by)by, INT64_MIN, &range));
        assert_false(partition_range_of((enum partition_by)by, INT64_MAX, &range));
    }
}

static void long_names_are_cut(void **state)
{
    (void)state;
    char table[80], other[80], name[PARTITION_NAME_SIZE], name2[PARTITION_NAME_SIZE];
    for (int length = 1; length <= 63; length++) {
        memset(table, 'a', sizeof table);
        table[length] = '\0';
        strcpy(other, table);
        other[length - 1] = 'b';
        partition_name(name, table, PARTITION_DAY, us("2026-11-23 00:00:00"));
        partition_name(name2, other, PARTITION_DAY, us("2026-11-23 00:00:00"));
        assert_string_not_equal(name, name2);
        assert_true(strlen(name) <= 63);
        assert_string_equal(name + strlen(name) - 12, "_p2026_11_23");
    }
    // Two-byte characters at both parities of the cut: never half of one.
    for (int shift = 0; shift < 2; shift++) {
        strcpy(table, shift ? "x" : "");
        for (int i = 0; i < 30; i++)
            strcat(table, "ä");
        partition_name_exact(name, table, us("2026-11-23 10:15:00.000123"));
        assert_true(strlen(name) <= 63);
        const char *tail = strstr(name, "_");
        assert_int_equal((tail - name - shift) % 2, 0);
        assert_non_null(strstr(name, "_p20261123_101500_000123"));
    }
}

static void exact_names_and_bounds(void **state)
{
    (void)state;
    char name[PARTITION_NAME_SIZE], text[PARTITION_BOUND_SIZE];
    partition_name_exact(name, "t", us("2026-11-23 10:15:00"));
    assert_string_equal(name, "t_p20261123_101500");
    partition_bound(text, us("2026-11-23 10:15:00.25"));
    assert_string_equal(text, "2026-11-23 10:15:00.250000+00");
    partition_bound(text, -1);
    assert_string_equal(text, "1969-12-31 23:59:59.999999+00");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_and_names),         cmocka_unit_test(periods_follow_each_other),
        cmocka_unit_test(years_without_partitions), cmocka_unit_test(long_names_are_cut),
        cmocka_unit_test(exact_names_and_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
