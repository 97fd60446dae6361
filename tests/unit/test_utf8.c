// Bytes that are no text, written as text; what is text: test_bytes.c.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "packet_guard.h"

static const struct {
    const char *name, *bytes;
    size_t length;
    const char *escaped;
} escapes[] = {
    {"nothing", "", 0, ""},
    {"text", "sensors/\xC3\xA4/1", 12, "sensors/\xC3\xA4/1"},
    {"a backslash is text", "\\xFF", 4, "\\xFF"},
    {"one byte", "\xFF", 1, "\\xFF"},
    {"NUL", "a\0b", 3, "a\\x00b"},
    {"both halves of a byte", "\x9A\xBC", 2, "\\x9A\\xBC"},
    {"first, between and last", "\x80xy\xC0z\xFE", 6, "\\x80xy\\xC0z\\xFE"},
    {"a character cut by the end", "a\xE2\x82", 3, "a\\xE2\\x82"},
    {"a character cut by another", "\xF0\x9F\xC3\xA4", 4, "\\xF0\\x9F\xC3\xA4"},
    {"a surrogate", "\xED\xA0\x80", 3, "\\xED\\xA0\\x80"},
};

// In no more room than is asked for: one byte less or more is an error to the sanitizer.
static void what_is_no_text_is_escaped(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof escapes / sizeof *escapes; i++) {
        struct bytes bytes =
            guard_copy((struct bytes){(const uint8_t *)escapes[i].bytes, escapes[i].length});
        char *escaped = mem_alloc(bytes.length * UTF8_ESCAPE);
        size_t length = utf8_escape(escaped, bytes.data, bytes.length);
        if (length != strlen(escapes[i].escaped) || memcmp(escaped, escapes[i].escaped, length))
            fail_msg("%s: '%.*s'", escapes[i].name, (int)length, escaped);
        assert_true(utf8_valid(escaped, length));
        free(escaped);
    }
}

static void every_byte_has_its_two_digits(void **state)
{
    (void)state;
    for (unsigned byte = 0x80; byte <= 0xFF; byte++) {
        char escaped[UTF8_ESCAPE], expected[UTF8_ESCAPE + 1];
        assert_int_equal(utf8_escape(escaped, &(uint8_t){(uint8_t)byte}, 1), UTF8_ESCAPE);
        snprintf(expected, sizeof expected, "\\x%02X", byte);
        assert_memory_equal(escaped, expected, UTF8_ESCAPE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_no_text_is_escaped),
        cmocka_unit_test(every_byte_has_its_two_digits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
