// Text as both MQTT [MQTT-1.5.4-1, -2] and PostgreSQL want it: well-formed UTF-8 without U+0000.
#pragma once

#include <stdbool.h>
#include <stddef.h>

// How many bytes of text, from its start, are whole, well-formed, no surrogate and not U+0000.
size_t utf8_span(const void *text, size_t length);

static inline bool utf8_valid(const void *text, size_t length)
{
    return utf8_span(text, length) == length;
}

// Writes any bytes as such text: what utf8_span does not take, byte by byte, as \xHH. Returns the
// length; escaped has room for UTF8_ESCAPE times that of the input, and gets no NUL.
enum { UTF8_ESCAPE = 4 };
size_t utf8_escape(char *escaped, const void *text, size_t length);
