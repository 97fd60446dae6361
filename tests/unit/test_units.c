// Units: what payloads name, in the unit of a column.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "pipeline/units.h"

static const struct {
    const char *column;
    double value;
    const char *from;
    enum unit_result result;
    double converted;
} conversions[] = {
    {"m", 300, "feet", UNIT_CONVERTED, 91.44},
    {"m", 300, "ft", UNIT_CONVERTED, 91.44},
    {"m", 300, "Feet", UNIT_CONVERTED, 91.44},
    {"m", 5, "m", UNIT_SAME, 5},
    {"m", 5, "metre", UNIT_SAME, 5},
    {"hPa", 1013, "mbar", UNIT_SAME, 1013},
    {"hPa", 101300, "Pa", UNIT_CONVERTED, 1013},
    {"m/s", 36, "km/h", UNIT_CONVERTED, 10},
    {"m/s", 10, "kt", UNIT_CONVERTED, 5.144444444444444},
    {"1", 12, "%", UNIT_CONVERTED, 0.12},
    {"%", 0.5, "1", UNIT_CONVERTED, 50},
    {"um", 1, "mm", UNIT_CONVERTED, 1000},
    {"um", 7, "\xC2\xB5m", UNIT_SAME, 7},
    // temperatures have an origin
    {"degC", 68, "degF", UNIT_CONVERTED, 20},
    {"degC", -40, "degF", UNIT_CONVERTED, -40},
    {"degC", 273.15, "K", UNIT_CONVERTED, 0},
    {"K", 0, "degC", UNIT_CONVERTED, 273.15},
    {"\xC2\xB0"
     "C",
     21, "celsius", UNIT_SAME, 21},
    // what sensors write
    {"degC", 21.5, "C", UNIT_SAME, 21.5},
    {"degC", 212, "F", UNIT_CONVERTED, 100},
    {"K", 0, "C", UNIT_CONVERTED, 273.15},
    {"m/s", 100, "mph", UNIT_CONVERTED, 44.704},
    {"m/s", 36, "kph", UNIT_CONVERTED, 10},
    {"kW.h", 2000, "Wh", UNIT_CONVERTED, 2},
    {"l", 1, "gal", UNIT_CONVERTED, 3.785412},
    {"%", 45, "%RH", UNIT_SAME, 45},
    {"rad", 180, "deg", UNIT_CONVERTED, 3.141592653589793},
    {"degC", 21.5, "\xC2\xB0 C", UNIT_SAME, 21.5},
    {"degC", 21.5, "deg C", UNIT_SAME, 21.5},
    {"m/s2", 2, "g", UNIT_CONVERTED, 19.6133},
    {"m/s2", 500, "mg", UNIT_CONVERTED, 4.903325},
    {"uT", 0.5, "G", UNIT_CONVERTED, 50},
    {"uT", 0.5, "Gs", UNIT_CONVERTED, 50},
    {"g", 1, "oz", UNIT_CONVERTED, 28.34952},
    {"ml", 1, "fl oz", UNIT_CONVERTED, 29.57353125},
    {"l/min", 1, "gal/min", UNIT_CONVERTED, 3.785412},
    {"bar", 1, "kg/cm2", UNIT_CONVERTED, 0.980665},
    {"Hz", 60, "cps", UNIT_SAME, 60},
    {"rad/s", 180, "deg/s", UNIT_CONVERTED, 3.141592653589793},
    // which udunits2 takes for nano-miles, centitonnes, femtometres, millitonnes
    {"m", 300, "nmi", UNIT_CONVERTED, 555600},
    {"m", 1, "NM", UNIT_CONVERTED, 1852},
    {"m/s", 36, "nmi/h", UNIT_CONVERTED, 18.52},
    {"mg", 5, "ct", UNIT_CONVERTED, 1000},
    {"m", 10, "fm", UNIT_CONVERTED, 18.2880365760732},
    {"kg", 2, "mt", UNIT_CONVERTED, 2000},
    {"um", 1000, "nm", UNIT_CONVERTED, 1}, // no miles, those
    // a column means the same by them
    {"nmi", 1852, "m", UNIT_CONVERTED, 1},
    {"kWh", 3.6e6, "J", UNIT_CONVERTED, 1},
    {"kWh", 5, "kWh", UNIT_SAME, 5},
    {"C", 21, "C", UNIT_SAME, 21},
    {"C", 68, "F", UNIT_CONVERTED, 20},
    {"F", 20, "degC", UNIT_CONVERTED, 68},
    {"mph", 44.704, "m/s", UNIT_CONVERTED, 100},
    {"mph", 7, "mph", UNIT_SAME, 7},
    {"gal", 3.785412, "l", UNIT_CONVERTED, 1},
    {"gal", 1, "gal", UNIT_SAME, 1},
    {"mb", 1, "hPa", UNIT_SAME, 1},
    {"%RH", 45, "%", UNIT_SAME, 45},
    {"g", 1, "g", UNIT_SAME, 1},
    // and what they mean where it is meant
    {"coulomb", 3, "C", UNIT_SAME, 3},
    {"farad", 1, "F", UNIT_SAME, 1},
    {"lux", 1, "mph", UNIT_CONVERTED, 10},
    {"kg", 1, "mg", UNIT_CONVERTED, 1e-6},
    {"Gal", 1, "gal", UNIT_SAME, 1},
    // unknown, or of another kind
    {"m", 1, "parrots", UNIT_UNKNOWN, 0},
    {"m", 1, "", UNIT_UNKNOWN, 0},
    {"m", 1, "s", UNIT_OTHER_KIND, 0},
    {"m", 1, "C", UNIT_OTHER_KIND, 0},
    {"degC", 1, "%", UNIT_OTHER_KIND, 0},
    {"m", 1, "mph", UNIT_OTHER_KIND, 0},
    {"Hz", 5, "s", UNIT_OTHER_KIND, 0},    // a reciprocal
    {"Hz", 60, "rpm", UNIT_OTHER_KIND, 0}, // radians are no revolutions
    {"rad/s", 60, "rpm", UNIT_CONVERTED, 6.283185307179586},
    {"1", 1, "rad", UNIT_OTHER_KIND, 0},
    // logarithms
    {"mW", 30, "dBm", UNIT_CONVERTED, 1000},
    {"dBm", 1000, "mW", UNIT_CONVERTED, 30},
    {"dBm", -1, "mW", UNIT_NO_RESULT, 0},
    {"mm", 1e306, "km", UNIT_NO_RESULT, 0},
};

static void converts_to_the_unit_of_the_column(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof conversions / sizeof *conversions; i++) {
        const char *why = NULL, *from = conversions[i].from;
        struct unit_converter *converter = unit_converter_new(conversions[i].column, &why);
        assert_non_null(converter);
        for (int round = 0; round < 2; round++) { // asked, then remembered
            double value = conversions[i].value;
            enum unit_result result = unit_convert(converter, from, strlen(from), &value);
            if (result != conversions[i].result)
                fail_msg("%s to %s: %d", from, conversions[i].column, (int)result);
            double off = fabs(value - conversions[i].converted);
            if (result <= UNIT_CONVERTED && off > 1e-12 * fmax(1000, fabs(value)))
                fail_msg("%s to %s: %.17g", from, conversions[i].column, value);
        }
        unit_converter_free(converter);
    }
}

static void three_hundred_feet_are_91_44_metres(void **state)
{
    (void)state;
    const char *why;
    struct unit_converter *metres = unit_converter_new("m", &why);
    double value = 300;
    assert_int_equal(unit_convert(metres, "feet", 4, &value), UNIT_CONVERTED);
    assert_true(value == 91.44);
    unit_converter_free(metres);
}

static void temperatures_come_without_noise(void **state)
{
    (void)state;
    static const struct {
        const char *from;
        double value, celsius;
    } lines[] = {
        {"F", 68, 20}, {"F", 32, 0}, {"degF", 98.6, 37}, {"K", 273.16, 0.01}, {"K", 300, 26.85}};
    const char *why;
    struct unit_converter *celsius = unit_converter_new("degC", &why);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        double value = lines[i].value;
        unit_convert(celsius, lines[i].from, strlen(lines[i].from), &value);
        if (value != lines[i].celsius)
            fail_msg("%g %s: %.17g", lines[i].value, lines[i].from, value);
    }
    unit_converter_free(celsius);
}

static void unknown_columns_units_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"parrots", "m/", "m^^2", "(m"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *why = NULL;
        assert_null(unit_converter_new(bad[i], &why));
        assert_non_null(why);
    }
}

// More units than the memory has places, again and again: each is still answered right.
static void forgetting_is_harmless(void **state)
{
    (void)state;
    const char *why;
    struct unit_converter *metres = unit_converter_new("m", &why);
    for (int i = 0; i < 200; i++) {
        char unknown[UNIT_TEXT_MAX];
        double value = 1;
        int length = snprintf(unknown, sizeof unknown, "parrots_%d", i);
        assert_int_equal(unit_convert(metres, unknown, (size_t)length, &value), UNIT_UNKNOWN);
        value = 2;
        assert_int_equal(unit_convert(metres, i % 2 ? "km" : "feet", i % 2 ? 2 : 4, &value),
                         UNIT_CONVERTED);
        assert_true(fabs(value - (i % 2 ? 2000 : 0.6096)) < 1e-9);
    }
    unit_converter_free(metres);
}

static void converters_share_the_database(void **state)
{
    (void)state;
    const char *why;
    struct unit_converter *a = unit_converter_new("m", &why);
    struct unit_converter *b = unit_converter_new("degC", &why);
    double value = 1;
    unit_converter_free(a);
    assert_int_equal(unit_convert(b, "K", 1, &value), UNIT_CONVERTED);
    unit_converter_free(b);
    unit_converter_free(NULL);
    a = unit_converter_new("m", &why);
    assert_int_equal(unit_convert(a, "km", 2, &value), UNIT_CONVERTED);
    unit_converter_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(converts_to_the_unit_of_the_column),
        cmocka_unit_test(three_hundred_feet_are_91_44_metres),
        cmocka_unit_test(temperatures_come_without_noise),
        cmocka_unit_test(unknown_columns_units_are_refused),
        cmocka_unit_test(forgetting_is_harmless),
        cmocka_unit_test(converters_share_the_database),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
