// UTF-8 by the table of well-formed sequences (Unicode, table 3-7), eight bytes of ASCII at a time.
#include "base/utf8.h"

#include <stdint.h>
#include <string.h>

#define HIGH_BITS UINT64_C(0x8080808080808080)
#define LOW_BITS UINT64_C(0x0101010101010101)

// Whether all eight bytes are 0x01 to 0x7F: one less has the high bit set if a byte is 0.
static bool is_plain_ascii(const uint8_t *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof(word));
    return (((word - LOW_BITS) | word) & HIGH_BITS) == 0;
}

static bool is_continuation(uint8_t byte)
{
    return (byte & 0xC0) == 0x80;
}

// The length of the one character at p, of which left bytes are there; 0 if it is not allowed.
static size_t character_length(const uint8_t *p, size_t left)
{
    uint8_t lead = p[0];
    if (lead < 0x80)
        return lead != 0;
    if (lead < 0xC2 || lead > 0xF4)
        return 0;
    size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (left < length || !is_continuation(p[1]))
        return 0;
    // No overlong forms (E0, F0), no surrogates (ED), nothing above U+10FFFF (F4).
    if ((lead == 0xE0 && p[1] < 0xA0) || (lead == 0xED && p[1] > 0x9F) ||
        (lead == 0xF0 && p[1] < 0x90) || (lead == 0xF4 && p[1] > 0x8F))
        return 0;
    for (size_t i = 2; i < length; i++)
        if (!is_continuation(p[i]))
            return 0;
    return length;
}

size_t utf8_span(const void *text, size_t length)
{
    const uint8_t *p = text;
    size_t at = 0;
    while (at < length) {
        if (length - at >= 8 && is_plain_ascii(p + at)) {
            at += 8;
            continue;
        }
        size_t step = character_length(p + at, length - at);
        if (step == 0)
            break;
        at += step;
    }
    return at;
}

size_t utf8_escape(char *escaped, const void *text, size_t length)
{
    static const char digits[] = "0123456789ABCDEF";
    const uint8_t *p = text;
    size_t at = 0, written = 0;
    while (at < length) {
        size_t span = utf8_span(p + at, length - at);
        memcpy(escaped + written, p + at, span);
        written += span;
        at += span;
        if (at == length)
            break;
        const char code[UTF8_ESCAPE] = {'\\', 'x', digits[p[at] >> 4], digits[p[at] & 15]};
        memcpy(escaped + written, code, sizeof code);
        written += sizeof code;
        at++;
    }
    return written;
}
