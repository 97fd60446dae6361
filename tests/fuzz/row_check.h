// What must hold of every row and every reject that a plan makes, whatever the payload was.
#pragma once

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "pipeline/format.h"
#include "pipeline/json.h"
#include "pipeline/pipeline.h"
#include "pipeline/time.h"

#include "../unit/sample_mapping.h"

enum { ROW_COLUMNS = 16 };

// udunits2's scanner keeps the last word of a unit that it could not parse until the next one.
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:utlex\n";
}

static inline void row_must(bool holds)
{
    if (!holds)
        abort();
}

static inline struct plan *row_plan(struct mapping *mapping, enum decoder_kind decoder,
                                    const struct sample_column *columns)
{
    struct decode_error error;
    sample_mapping(mapping, "a/b", decoder, columns);
    struct plan *plan = plan_new(mapping, &error);
    row_must(plan != NULL);
    return plan;
}

// jsonb's own limits: no U+0000 and no number beyond numeric; the flags of the whole document say
// so.
static inline void row_check_jsonb(const struct value *value)
{
    static struct json_paths *whole;
    struct json_error error;
    struct datum datum;

    if (!whole) {
        whole = json_paths_new();
        json_paths_add(whole, "");
    }
    row_must(json_read(whole, value->bytes, value->length, &datum, &error));
    row_must((datum.flags & (DATUM_NUL | DATUM_WIDE)) == 0);
}

static inline void row_check_numeric(const struct value *value)
{
    struct number number;
    row_must(value->length > 0 && value->bytes[0] != '+' && value->bytes[0] != '.');
    row_must(number_scan(value->bytes, value->length, &number) == value->length);
    row_must(!memchr(value->bytes, 'e', value->length) &&
             !memchr(value->bytes, 'E', value->length));
}

static inline void row_check_value(const struct value *value, enum column_type type)
{
    char shown[64];

    value_format(value, type, shown, sizeof shown);
    row_must(utf8_valid(shown, strlen(shown)));
    if (value->null)
        return;
    switch (type) {
    case COLUMN_INT2:
        row_must(value->integer >= INT16_MIN && value->integer <= INT16_MAX);
        break;
    case COLUMN_INT4:
        row_must(value->integer >= INT32_MIN && value->integer <= INT32_MAX);
        break;
    case COLUMN_FLOAT4:
        row_must(isfinite(value->real) && (double)(float)value->real == value->real);
        break;
    case COLUMN_FLOAT8:
        row_must(isfinite(value->real));
        break;
    case COLUMN_TIMESTAMPTZ:
        row_must(value->integer >= TIME_MIN_US && value->integer <= TIME_MAX_US);
        break;
    case COLUMN_TEXT:
        row_must(utf8_valid(value->bytes, value->length));
        break;
    case COLUMN_NUMERIC:
        row_check_numeric(value);
        break;
    case COLUMN_JSONB:
        row_check_jsonb(value);
        break;
    case COLUMN_UUID:
        row_must(value->length == 16);
        break;
    default:
        break;
    }
}

// The payload stands in memory of just its size, so that a sanitizer sees a byte read too many.
static inline void row_check(struct plan *plan, const struct mapping *mapping, const uint8_t *data,
                             size_t size)
{
    static struct arena arena;
    const int64_t now_us = INT64_C(1714564800000000);
    uint8_t *payload = malloc(size ? size : 1);
    struct value values[ROW_COLUMNS];
    struct decode_error error = {0};
    struct message message = {.topic = "a/b",
                              .topic_length = 3,
                              .received_us = now_us,
                              .payload = payload,
                              .payload_length = size,
                              .full_length = size};

    row_must(payload && mapping->target.column_count <= ROW_COLUMNS);
    if (size)
        memcpy(payload, data, size);
    if (plan_decode(plan, &message, now_us, &arena, values, &error)) {
        for (size_t i = 0; i < mapping->target.column_count; i++)
            row_check_value(&values[i], mapping->target.columns[i].type);
    } else {
        row_must(error.reason && error.reason[0]);
        row_must(utf8_valid(error.detail, strlen(error.detail)));
    }
    row_must(arena.used <= 64 * size + 65536);
    arena_reset(&arena);
    free(payload);
}
