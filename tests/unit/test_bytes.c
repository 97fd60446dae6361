// Bytes in and out of buffers that end in time, and UTF-8.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/utf8.h"
#include "packet_guard.h"

static struct bytes_reader reader_of(const char *data, size_t length)
{
    return bytes_reader(guard_copy((struct bytes){(const uint8_t *)data, length}));
}

static void reads_in_network_order(void **state)
{
    (void)state;
    struct bytes_reader r = reader_of("\x01\xF2\x03\x84\x05\x06\x07\0\2hi!", 12);
    assert_int_equal(bytes_read_u8(&r), 0x01);
    assert_int_equal(bytes_read_u16(&r), 0xF203);
    assert_int_equal(bytes_read_u32(&r), 0x84050607);
    assert_true(bytes_equal(bytes_read_counted(&r), bytes_of("hi")));
    assert_int_equal(bytes_left(&r), 1);
    assert_true(bytes_equal(bytes_read(&r, 1), bytes_of("!")));
    assert_int_equal(bytes_left(&r), 0);
    assert_false(r.bad);
}

static void reading_past_the_end_sticks(void **state)
{
    (void)state;
    struct bytes_reader r = reader_of("\x01\x02\x03", 3);
    assert_int_equal(bytes_read_u32(&r), 0x01020000);
    assert_true(r.bad);
    assert_int_equal(bytes_read_u8(&r), 0);
    assert_int_equal(bytes_read_counted(&r).length, 0);
    assert_int_equal(bytes_left(&r), 0);
    assert_true(r.bad);

    r = reader_of("\0\4abc", 5);
    assert_int_equal(bytes_read_counted(&r).length, 0);
    assert_true(r.bad);

    r = reader_of("abc", 3);
    assert_int_equal(bytes_read(&r, SIZE_MAX).length, 0);
    assert_true(r.bad);

    r = bytes_reader((struct bytes){0});
    assert_int_equal(bytes_read(&r, 0).length, 0);
    assert_false(r.bad);
    assert_int_equal(bytes_read_u8(&r), 0);
    assert_true(r.bad);
}

static const struct {
    uint32_t value;
    const char *bytes;
    size_t length;
} varints[] = {
    {0, "\x00", 1},
    {127, "\x7F", 1},
    {128, "\x80\x01", 2},
    {16383, "\xFF\x7F", 2},
    {16384, "\x80\x80\x01", 3},
    {2097151, "\xFF\xFF\x7F", 3},
    {2097152, "\x80\x80\x80\x01", 4},
    {268435455, "\xFF\xFF\xFF\x7F", 4},
};

static void varints_both_ways(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(varints) / sizeof(varints[0]); i++) {
        struct bytes_reader r = reader_of(varints[i].bytes, varints[i].length);
        assert_int_equal(bytes_read_varint(&r), varints[i].value);
        assert_false(r.bad);
        assert_int_equal(bytes_left(&r), 0);
        for (size_t cut = 0; cut < varints[i].length; cut++) {
            r = reader_of(varints[i].bytes, cut);
            assert_int_equal(bytes_read_varint(&r), 0);
            assert_true(r.bad);
        }
        uint8_t buffer[4];
        struct bytes_writer w = bytes_writer(buffer, sizeof(buffer));
        bytes_write_varint(&w, varints[i].value);
        assert_false(w.bad);
        assert_int_equal(w.length, varints[i].length);
        assert_true(memcmp(buffer, varints[i].bytes, varints[i].length) == 0);
    }
}

static void varints_that_are_none(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "\x80\x80\x80\x80\x01", "\xFF\xFF\xFF\xFF\x7F", "\x81\0", "\x80\0",
        "\x80\x80\0",           "\xFF\x80\x80\0"};
    static const size_t lengths[] = {5, 5, 2, 2, 3, 4};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct bytes_reader r = reader_of(bad[i], lengths[i]);
        assert_int_equal(bytes_read_varint(&r), 0);
        assert_true(r.bad);
    }
    uint8_t buffer[8];
    struct bytes_writer w = bytes_writer(buffer, sizeof(buffer));
    bytes_write_varint(&w, BYTES_VARINT_MAX + (size_t)1);
    assert_true(w.bad);
    assert_int_equal(w.length, 0);
}

static void write_all_kinds(struct bytes_writer *w)
{
    bytes_write_u8(w, 0x01);
    bytes_write_u16(w, 0xF203);
    bytes_write_u32(w, 0x84050607);
    bytes_write_counted(w, bytes_of("hi"));
    bytes_write_counted(w, (struct bytes){0});
    bytes_write_varint(w, 300);
    bytes_write(w, bytes_of("!"));
}

static const char all_kinds[] = "\x01\xF2\x03\x84\x05\x06\x07\0\2hi\0\0\xAC\x02!";
#define ALL_KINDS (sizeof(all_kinds) - 1)

static void writes_in_network_order_and_counts_the_same(void **state)
{
    (void)state;
    uint8_t buffer[ALL_KINDS];
    struct bytes_writer w = bytes_writer(buffer, sizeof(buffer));
    write_all_kinds(&w);
    assert_false(w.bad);
    assert_int_equal(w.length, ALL_KINDS);
    assert_int_equal(bytes_room(&w), 0);
    assert_memory_equal(buffer, all_kinds, ALL_KINDS);

    struct bytes_writer counter = bytes_counter();
    write_all_kinds(&counter);
    assert_false(counter.bad);
    assert_int_equal(counter.length, ALL_KINDS);
}

static void overflow_sticks_at_every_length(void **state)
{
    (void)state;
    uint8_t zeros[ALL_KINDS] = {0};
    for (size_t room = 0; room < ALL_KINDS; room++) {
        struct bytes guarded = guard_copy((struct bytes){zeros, room});
        struct bytes_writer w = bytes_writer((uint8_t *)guarded.data, room);
        write_all_kinds(&w);
        assert_true(w.bad);
        assert_true(w.length <= room);
        assert_true(memcmp(guarded.data, all_kinds, w.length) == 0);
        size_t before = w.length;
        bytes_write(&w, (struct bytes){0});
        bytes_write_u8(&w, 1);
        assert_int_equal(w.length, before);
        assert_int_equal(bytes_room(&w), 0);
        assert_true(w.bad);
    }
}

static void counted_ends_at_65535(void **state)
{
    (void)state;
    static uint8_t long_text[65536];
    struct bytes_writer w = bytes_counter();
    bytes_write_counted(&w, (struct bytes){long_text, 65535});
    assert_false(w.bad);
    assert_int_equal(w.length, 65537);
    bytes_write_counted(&w, (struct bytes){long_text, 65536});
    assert_true(w.bad);
}

static void equal_compares_length_and_bytes(void **state)
{
    (void)state;
    assert_true(bytes_equal((struct bytes){0}, bytes_of("")));
    assert_true(bytes_equal(bytes_of("abc"), bytes_of("abc")));
    assert_false(bytes_equal(bytes_of("abc"), bytes_of("abd")));
    assert_false(bytes_equal(bytes_of("abc"), bytes_of("ab")));
}

static const struct {
    const char *name, *text;
    size_t length, span;
} utf8_cases[] = {
    {"nothing", "", 0, 0},
    {"one letter", "a", 1, 1},
    {"seven, eight, nine letters", "abcdefghi", 9, 9},
    {"control characters and DEL", "\x01\x1F\x7F\t\n\x01\x01\x01\x7F", 9, 9},
    {"two bytes, lowest and highest", "\xC2\x80\xDF\xBF", 4, 4},
    {"three bytes, lowest and highest", "\xE0\xA0\x80\xEF\xBF\xBF", 6, 6},
    {"around the surrogates", "\xED\x9F\xBF\xEE\x80\x80", 6, 6},
    {"four bytes, lowest and highest", "\xF0\x90\x80\x80\xF4\x8F\xBF\xBF", 8, 8},
    {"mixed with runs of ASCII",
     "temperature in \xC2\xB0"
     "C is 21 or so",
     30, 30},
    {"U+FEFF inside [MQTT-1.5.4-3]",
     "a\xEF\xBB\xBF"
     "b",
     5, 5},
    {"U+0000 [MQTT-1.5.4-2]", "\0", 1, 0},
    {"U+0000 first of eight", "\0abcdefgh", 9, 0},
    {"U+0000 last of eight", "abcdefg\0", 8, 7},
    {"U+0000 behind eight", "abcdefgh\0", 9, 8},
    {"continuation alone", "ab\x80", 3, 2},
    {"continuation among eight",
     "abcd\xBF"
     "fgh",
     8, 4},
    {"overlong two, C0", "\xC0\x80", 2, 0},
    {"overlong two, C1", "\xC1\xBF", 2, 0},
    {"overlong three", "\xE0\x9F\xBF", 3, 0},
    {"overlong four", "\xF0\x8F\xBF\xBF", 4, 0},
    {"surrogate D800 [MQTT-1.5.4-1]", "\xED\xA0\x80", 3, 0},
    {"surrogate DFFF [MQTT-1.5.4-1]", "x\xED\xBF\xBF", 4, 1},
    {"above U+10FFFF", "\xF4\x90\x80\x80", 4, 0},
    {"F5", "\xF5\x80\x80\x80", 4, 0},
    {"FF", "\xFF", 1, 0},
    {"two bytes cut", "abcdefgh\xC3", 9, 8},
    {"three bytes cut", "\xE2\x82", 2, 0},
    {"four bytes cut", "ab\xF0\x9F\x98", 5, 2},
    {"third byte no continuation", "\xE2\x82\x28", 3, 0},
    {"fourth byte no continuation", "\xF0\x9F\x98\xC0", 4, 0},
    {"second byte no continuation", "\xC3\xC3", 2, 0},
};

static void utf8_as_mqtt_wants_it(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(utf8_cases) / sizeof(utf8_cases[0]); i++) {
        struct bytes text =
            guard_copy((struct bytes){(const uint8_t *)utf8_cases[i].text, utf8_cases[i].length});
        size_t span = utf8_span(text.data, text.length);
        if (span != utf8_cases[i].span)
            fail_msg("%s: span %zu", utf8_cases[i].name, span);
        assert_int_equal(utf8_valid(text.data, text.length), span == text.length);
    }
    assert_true(utf8_valid(NULL, 0));
}

// Every code point, written out by the rule of the standard, is taken if and only if it is allowed.
static void utf8_of_every_code_point(void **state)
{
    (void)state;
    for (uint32_t c = 0; c < 0x200000; c++) {
        uint8_t text[4] = {(uint8_t)c};
        size_t length = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        static const uint8_t leads[] = {0, 0, 0xC0, 0xE0, 0xF0};
        if (length > 1) {
            for (size_t i = 0; i < length; i++)
                text[i] = (uint8_t)(0x80 | (c >> 6 * (length - 1 - i) & 0x3F));
            text[0] = (uint8_t)(leads[length] | c >> 6 * (length - 1));
        }
        bool allowed = c != 0 && !(c >= 0xD800 && c <= 0xDFFF) && c <= 0x10FFFF;
        if (utf8_valid(text, length) != allowed)
            fail_msg("U+%04X", c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_in_network_order),
        cmocka_unit_test(reading_past_the_end_sticks),
        cmocka_unit_test(varints_both_ways),
        cmocka_unit_test(varints_that_are_none),
        cmocka_unit_test(writes_in_network_order_and_counts_the_same),
        cmocka_unit_test(overflow_sticks_at_every_length),
        cmocka_unit_test(counted_ends_at_65535),
        cmocka_unit_test(equal_compares_length_and_bytes),
        cmocka_unit_test(utf8_as_mqtt_wants_it),
        cmocka_unit_test(utf8_of_every_code_point),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
