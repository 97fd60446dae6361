// Values for people to read.
#include "pipeline/format.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "pipeline/time.h"

struct writer {
    char *buffer;
    size_t size, used;
};

static void put(struct writer *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void put(struct writer *w, const char *format, ...)
{
    va_list args;
    int length;

    va_start(args, format);
    length = vsnprintf(w->buffer + w->used, w->size - w->used, format, args);
    va_end(args);
    w->used += (size_t)length;
    if (w->used >= w->size)
        w->used = w->size - 1;
}

static bool is_full(const struct writer *w)
{
    return w->used == w->size - 1;
}

static void put_text(struct writer *w, const char *text, size_t length)
{
    put(w, "'");
    for (size_t i = 0; i < length && !is_full(w); i++)
        put(w, text[i] == '\'' ? "''" : "%c", text[i]);
    put(w, "'");
}

static void put_hex(struct writer *w, const char *bytes, size_t length)
{
    put(w, "'\\x");
    for (size_t i = 0; i < length && !is_full(w); i++)
        put(w, "%02x", (unsigned)(unsigned char)bytes[i]);
    put(w, "'");
}

static void put_uuid(struct writer *w, const char *bytes)
{
    put(w, "'");
    for (size_t i = 0; i < 16; i++)
        put(w, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
            (unsigned)(unsigned char)bytes[i]);
    put(w, "'");
}

// As few digits as bring the same number back.
static void put_real(struct writer *w, double real, bool single)
{
    char text[40];
    for (int digits = single ? 6 : 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, real);
        if (single ? (double)strtof(text, NULL) == real : strtod(text, NULL) == real)
            break;
    }
    put(w, "%s", text);
}

static void put_value(struct writer *w, const struct value *value, enum column_type type)
{
    char time[TIME_TEXT];

    switch (type) {
    case COLUMN_BOOL:
        put(w, value->boolean ? "true" : "false");
        break;
    case COLUMN_INT2:
    case COLUMN_INT4:
    case COLUMN_INT8:
        put(w, "%lld", (long long)value->integer);
        break;
    case COLUMN_FLOAT4:
    case COLUMN_FLOAT8:
        put_real(w, value->real, type == COLUMN_FLOAT4);
        break;
    case COLUMN_NUMERIC:
        put(w, "%.*s", (int)value->length, value->bytes);
        break;
    case COLUMN_TIMESTAMPTZ:
        put(w, "'%s'", time_text(value->integer, time));
        break;
    case COLUMN_UUID:
        put_uuid(w, value->bytes);
        break;
    case COLUMN_BYTEA:
        put_hex(w, value->bytes, value->length);
        break;
    default:
        put_text(w, value->bytes, value->length);
        break;
    }
}

const char *value_format(const struct value *value, enum column_type type, char *buffer,
                         size_t size)
{
    struct writer w = {.buffer = buffer, .size = size};

    if (size == 0)
        return "";
    buffer[0] = '\0';
    if (value->null)
        put(&w, "NULL");
    else
        put_value(&w, value, type);
    if (is_full(&w) && size > 4) {
        buffer[size - 4] = '\0';
        buffer[utf8_span(buffer, size - 4)] = '\0';
        strcat(buffer, "...");
    }
    return buffer;
}
