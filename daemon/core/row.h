// Typed values: what a decoder makes of a payload and what the store writes.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum column_type {
    COLUMN_BOOL,
    COLUMN_INT2,
    COLUMN_INT4,
    COLUMN_INT8,
    COLUMN_FLOAT4,
    COLUMN_FLOAT8,
    COLUMN_NUMERIC,
    COLUMN_TEXT,
    COLUMN_JSONB,
    COLUMN_TIMESTAMPTZ,
    COLUMN_UUID,
    COLUMN_BYTEA,
    COLUMN_TYPE_COUNT,
};

// A value that already fits the type of its column. Bytes are not owned: they live in the message,
// the mapping or the batch's arena, as long as the row.
struct value {
    union {
        bool boolean;
        int64_t integer;   // int2, int4, int8; timestamptz: microseconds since 1970-01-01 UTC
        double real;       // float4, float8
        const char *bytes; // text, jsonb (checked JSON text), bytea, uuid (16 bytes), numeric
                           // (decimal text)
    };
    uint32_t length; // of bytes
    bool null;
};

// The SQL name ("float8"), and back; false where there is no such type.
const char *column_type_name(enum column_type type);
bool column_type_parse(const char *name, enum column_type *type);
// Whether the value is in the member bytes.
bool column_type_is_bytes(enum column_type type);
