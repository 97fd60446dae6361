// Readings as people write them: numbers with units, switches.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "packet_guard.h"
#include "pipeline/text.h"

static bool read_exact(const char *text, size_t length, struct reading *reading,
                       struct decode_error *error)
{
    struct bytes copy = guard_copy((struct bytes){(const uint8_t *)text, length});
    const char *p = (const char *)copy.data;
    text_trim(&p, &length);
    return text_read(p, length, reading, error);
}

static const struct {
    const char *text, *number, *unit;
} good_readings[] = {
    {"300", "300", ""},
    {"300 feet", "300", "feet"},
    {"21.5C", "21.5", "C"},
    {" -4e3 Pa \r\n", "-4e3", "Pa"},
    {"12 %", "12", "%"},
    {"12%", "12", "%"},
    {"+1.5\tm/s", "+1.5", "m/s"},
    {"21.5 \xC2\xB0"
     "C",
     "21.5",
     "\xC2\xB0"
     "C"},
    {"3 \xC2\xB5m", "3", "\xC2\xB5m"},
    {"5e", "5", "e"},
    {"5 E", "5", "E"},
    {"9.81 m s-2", "9.81", "m s-2"},
    {"9.81 m.s^-2", "9.81", "m.s^-2"},
    {"9.81 m/s2", "9.81", "m/s2"},
    {"1 W/(m2.K)", "1", "W/(m2.K)"},
    {"50 1/s", "50", "1/s"},
    {"4 inH2O", "4", "inH2O"},
    {"45 %RH", "45", "%RH"},
    {"\0031", NULL, NULL},
    {"1 abcdefghijklmnopqrstuvwxyzabcdef", "1", "abcdefghijklmnopqrstuvwxyzabcdef"},
};

static void takes_numbers_with_units(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good_readings / sizeof *good_readings; i++) {
        struct reading reading;
        struct decode_error error;
        bool good =
            read_exact(good_readings[i].text, strlen(good_readings[i].text), &reading, &error);
        if (good != (good_readings[i].number != NULL))
            fail_msg("'%s'", good_readings[i].text);
        if (!good)
            continue;
        assert_int_equal(reading.number.length, strlen(good_readings[i].number));
        assert_memory_equal(reading.number.text, good_readings[i].number, reading.number.length);
        assert_int_equal(reading.unit_length, strlen(good_readings[i].unit));
        assert_memory_equal(reading.unit, good_readings[i].unit, reading.unit_length);
    }
}

static const struct {
    const char *text, *reason;
} bad_readings[] = {
    {"", "empty"},
    {" \n", "empty"},
    {"ON", "not a number"},
    {"feet", "not a number"},
    {"- 5", "not a number"},
    {"--5", "not a number"},
    {"inf", "not a finite number"},
    {"-Infinity", "not a finite number"},
    {"NaN", "not a finite number"},
    {"nan(0x7)", "not a finite number"},
    {"1,5", "comma in a number"},
    {"1,234.5", "comma in a number"},
    {"0x10", "hexadecimal number"},
    {"0X1p3", "hexadecimal number"},
    {"12 34", "not a number"},
    {"12:30", "not a number"},
    {"2024-01-01", "not a number"},
    {"192.168.1.1", "not a number"},
    {"1.2.3", "not a number"},
    {"5 +", "not a number"},
    {"5;m", "not a number"},
    {"1/2", "not a number"},
    {"5 'm", "not a number"},
    {"5 \"", "not a number"},
    {"5\x01", "not a number"},
    // What udunits2 would take, and nobody means
    {"5 feet 20", "not a number"},
    {"5 m - 3", "not a number"},
    {"5 K @ 273", "not a number"},
    {"5 K from 273", "not a number"},
    {"5 s since 2000-01-01", "not a number"},
    {"5 lg(re 1 mW)", "not a number"},
    {"5 lg (re mW)", "not a number"},
    {"5 (m)99", "not a number"},
    {"5 m/(s)2", "not a number"},
    {"5 m/(s)^2", "not a number"},
    {"5 m100", "not a number"},
    {"5 m3.5", "not a number"},
    {"5 \xC2", "not a number"},
    {"5 m\xFF", "not a number"},
    {"1 abcdefghijklmnopqrstuvwxyzabcdefg", "not a number"}, // too long for a unit
};

static void refuses_all_else_with_a_reason(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_readings / sizeof *bad_readings; i++) {
        struct reading reading;
        struct decode_error error;
        if (read_exact(bad_readings[i].text, strlen(bad_readings[i].text), &reading, &error))
            fail_msg("'%s' accepted", bad_readings[i].text);
        if (strcmp(error.reason, bad_readings[i].reason) != 0)
            fail_msg("'%s': %s", bad_readings[i].text, error.reason);
        assert_true(error.detail[0]);
    }
    struct reading reading;
    struct decode_error error;
    assert_false(read_exact("5\0", 2, &reading, &error));
    assert_false(read_exact("5 m\0", 4, &reading, &error));
}

static const struct {
    const char *text;
    int value; // -1: none
} switches[] = {
    {"true", 1}, {"TRUE", 1}, {"t", 1},   {"On", 1},   {"yes", 1},   {"1", 1},    {"false", 0},
    {"F", 0},    {"off", 0},  {"NO", 0},  {"0", 0},    {"", -1},     {"y", -1},   {"2", -1},
    {"onn", -1}, {"o", -1},   {"00", -1}, {"1.0", -1}, {"open", -1}, {"tru", -1},
};

static void switches_are_on_or_off(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof switches / sizeof *switches; i++) {
        bool value;
        bool good = text_to_bool(switches[i].text, strlen(switches[i].text), &value);
        if (good != (switches[i].value >= 0) || (good && value != switches[i].value))
            fail_msg("'%s'", switches[i].text);
    }
}

static void details_can_always_be_stored(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t length;
        const char *shown;
    } samples[] = {
        {"abc", 3, "abc"},
        {"", 0, ""},
        {"a\0b\n\x7F\x1B", 6, "a?b???"},
        {"\xC3\xA9\xFF\xC3", 4, "\xC3\xA9??"},
        {"0123456789012345678901234567890123456789xyz", 43,
         "0123456789012345678901234567890123456789xyz"},
        {"01234567890123456789012345678901234567890123456789", 50,
         "01234567890123456789012345678901234567890123..."},
    };
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        char sample[DECODE_SAMPLE];
        assert_string_equal(decode_sample(samples[i].bytes, samples[i].length, sample),
                            samples[i].shown);
    }
    // What the end of the detail cuts is cut between characters.
    struct decode_error error = {.reason = "r"};
    char name[200] = "";
    while (strlen(name) < 198)
        strcat(name, "\xC3\xA9");
    for (size_t shift = 0; shift < 4; shift++) {
        assert_false(decode_fail(&error, "r", "%.*s%s", (int)shift, "abc", name));
        assert_true((unsigned char)error.detail[strlen(error.detail) - 1] == 0xA9);
    }
    decode_error_locate(&error, "x");
    assert_memory_equal(error.detail, "column x: ", 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_numbers_with_units),
        cmocka_unit_test(refuses_all_else_with_a_reason),
        cmocka_unit_test(switches_are_on_or_off),
        cmocka_unit_test(details_can_always_be_stored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
