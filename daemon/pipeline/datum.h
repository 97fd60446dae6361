// What a decoder or the message itself gives for a column, before it is fitted to the column's
// type.
#pragma once

#include <stdint.h>

#include "pipeline/number.h"

enum datum_kind {
    DATUM_MISSING,
    DATUM_NULL,     // JSON's
    DATUM_BOOL,     // integer is 0 or 1
    DATUM_TIME,     // integer, microseconds since 1970
    DATUM_NUMBER,   // number
    DATUM_STRING,   // text is what stands between JSON's quotes, checked
    DATUM_DOCUMENT, // text is a checked JSON object or array
    DATUM_TEXT,     // text is text as a person would write it, not checked
    DATUM_BYTES,    // text is the payload as it came
};

enum datum_flags {
    DATUM_ESCAPED = 1, // STRING: it has escapes
    DATUM_NUL = 2,     // STRING, DOCUMENT: \u0000 is in it somewhere
    DATUM_WIDE = 4,    // NUMBER, DOCUMENT: with a number that PostgreSQL's numeric cannot hold
    DATUM_CHECKED = 8, // TEXT: known to be UTF-8 without U+0000
};

// Not owned: text lives in the message, the mapping or the arena.
struct datum {
    union {
        struct {
            const char *text;
            uint32_t length;
        };
        struct number number; // NUMBER: begins with text and length, too
        int64_t integer;      // BOOL, TIME
    };
    uint8_t kind, flags;
};
