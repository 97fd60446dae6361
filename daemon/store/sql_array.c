// A one-dimensional array in PostgreSQL's binary format.
#include "store/sql_array.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

// array_recv: dimensions, has nulls, element type, then per dimension its size and lower bound.
enum { HEADER_BYTES = 20, HAS_NULL_OFFSET = 4, NUMERIC_BASE = 10000, NUMERIC_BASE_DIGITS = 4 };

static const int64_t unix_to_pg_us = 946684800000000; // 1970 to 2000

static const struct {
    uint32_t oid, array_oid;
} types[COLUMN_TYPE_COUNT] = {
    [COLUMN_BOOL] = {16, 1000},      [COLUMN_INT2] = {21, 1005},
    [COLUMN_INT4] = {23, 1007},      [COLUMN_INT8] = {20, 1016},
    [COLUMN_FLOAT4] = {700, 1021},   [COLUMN_FLOAT8] = {701, 1022},
    [COLUMN_NUMERIC] = {1700, 1231}, [COLUMN_TEXT] = {25, 1009},
    [COLUMN_JSONB] = {3802, 3807},   [COLUMN_TIMESTAMPTZ] = {1184, 1185},
    [COLUMN_UUID] = {2950, 2951},    [COLUMN_BYTEA] = {17, 1001},
};

uint32_t sql_array_oid(enum column_type type)
{
    return types[type].array_oid;
}

void sql_array_fini(struct sql_array *array)
{
    free(array->bytes);
    *array = (struct sql_array){0};
}

// Room for more bytes at the end, which are then taken.
static uint8_t *extend(struct sql_array *array, size_t more)
{
    if (array->capacity - array->length < more) {
        size_t capacity = array->capacity * 2;
        if (capacity < array->length + more)
            capacity = array->length + more + 64;
        array->bytes = mem_realloc(array->bytes, capacity, 1);
        array->capacity = capacity;
    }
    uint8_t *here = array->bytes + array->length;
    array->length += more;
    return here;
}

static void put16(uint8_t *at, uint16_t number)
{
    number = htobe16(number);
    memcpy(at, &number, sizeof number);
}

static void put32(uint8_t *at, uint32_t number)
{
    number = htobe32(number);
    memcpy(at, &number, sizeof number);
}

static void put64(uint8_t *at, uint64_t number)
{
    number = htobe64(number);
    memcpy(at, &number, sizeof number);
}

void sql_array_start(struct sql_array *array, enum column_type type, size_t count)
{
    array->length = 0;
    array->has_null = false;
    uint8_t *header = extend(array, HEADER_BYTES);
    put32(header, 1);
    put32(header + HAS_NULL_OFFSET, 0);
    put32(header + 8, types[type].oid);
    put32(header + 12, (uint32_t)count);
    put32(header + 16, 1);
}

void sql_array_end(struct sql_array *array)
{
    put32(array->bytes + HAS_NULL_OFFSET, array->has_null);
}

static void add_bytes(struct sql_array *array, const void *bytes, uint32_t length)
{
    uint8_t *at = extend(array, 4 + (size_t)length);
    put32(at, length);
    if (length)
        memcpy(at + 4, bytes, length);
}

static void add64(struct sql_array *array, uint64_t number)
{
    uint8_t *at = extend(array, 12);
    put32(at, 8);
    put64(at + 4, number);
}

static void add32(struct sql_array *array, uint32_t number)
{
    uint8_t *at = extend(array, 8);
    put32(at, 4);
    put32(at + 4, number);
}

// A decimal number in the form -?[0-9]+(.[0-9]+)?, taken apart.
struct decimal {
    const char *whole, *fraction;
    size_t whole_length, fraction_length;
    bool negative;
};

static struct decimal decimal_split(const char *text, size_t length)
{
    struct decimal decimal = {.negative = length > 0 && *text == '-'};
    text += decimal.negative;
    length -= decimal.negative;
    const char *point = memchr(text, '.', length);
    decimal.whole = text;
    decimal.whole_length = point ? (size_t)(point - text) : length;
    while (decimal.whole_length > 0 && *decimal.whole == '0')
        decimal.whole++, decimal.whole_length--;
    if (point) {
        decimal.fraction = point + 1;
        decimal.fraction_length = length - (size_t)(point + 1 - text);
    }
    return decimal;
}

// The digit at a place: 0 is the first behind the point, -1 the last before it.
static unsigned decimal_digit(const struct decimal *decimal, int64_t place)
{
    if (place < 0) {
        int64_t at = (int64_t)decimal->whole_length + place;
        return at < 0 ? 0 : (unsigned)(decimal->whole[at] - '0');
    }
    return (size_t)place < decimal->fraction_length ? (unsigned)(decimal->fraction[place] - '0')
                                                    : 0;
}

static uint16_t decimal_group(const struct decimal *decimal, int64_t group)
{
    unsigned number = 0;
    for (int64_t i = 0; i < NUMERIC_BASE_DIGITS; i++)
        number = number * 10 + decimal_digit(decimal, group * NUMERIC_BASE_DIGITS + i);
    return (uint16_t)number;
}

// numeric_recv: number of base-10000 digits, weight of the first, sign, digits behind the point for
// display, the digits. Zero digits at both ends are left out.
static void add_numeric(struct sql_array *array, const char *text, size_t length)
{
    struct decimal decimal = decimal_split(text, length);
    int64_t first =
        -(int64_t)((decimal.whole_length + NUMERIC_BASE_DIGITS - 1) / NUMERIC_BASE_DIGITS);
    int64_t end =
        (int64_t)((decimal.fraction_length + NUMERIC_BASE_DIGITS - 1) / NUMERIC_BASE_DIGITS);
    while (first < end && decimal_group(&decimal, first) == 0)
        first++;
    while (end > first && decimal_group(&decimal, end - 1) == 0)
        end--;
    size_t digits = (size_t)(end - first);
    uint8_t *at = extend(array, 4 + 8 + 2 * digits);
    put32(at, (uint32_t)(8 + 2 * digits));
    put16(at + 4, (uint16_t)digits);
    put16(at + 6, (uint16_t)(digits ? -first - 1 : 0));
    put16(at + 8, decimal.negative && digits ? 0x4000 : 0);
    put16(at + 10, (uint16_t)decimal.fraction_length);
    for (size_t i = 0; i < digits; i++)
        put16(at + 12 + 2 * i, decimal_group(&decimal, first + (int64_t)i));
}

static void add_jsonb(struct sql_array *array, const char *text, uint32_t length)
{
    uint8_t *at = extend(array, 5 + (size_t)length);
    put32(at, length + 1);
    at[4] = 1; // version [jsonb_recv]
    memcpy(at + 5, text, length);
}

void sql_array_add(struct sql_array *array, enum column_type type, const struct value *value)
{
    if (value->null) {
        array->has_null = true;
        put32(extend(array, 4), UINT32_MAX);
        return;
    }
    switch (type) {
    case COLUMN_BOOL:
        add_bytes(array, value->boolean ? "\1" : "\0", 1);
        break;
    case COLUMN_INT2: {
        uint8_t *at = extend(array, 6);
        put32(at, 2);
        put16(at + 4, (uint16_t)value->integer);
        break;
    }
    case COLUMN_INT4:
        add32(array, (uint32_t)value->integer);
        break;
    case COLUMN_INT8:
        add64(array, (uint64_t)value->integer);
        break;
    case COLUMN_TIMESTAMPTZ:
        add64(array, (uint64_t)(value->integer - unix_to_pg_us));
        break;
    case COLUMN_FLOAT4: {
        float real = (float)value->real;
        uint32_t bits;
        memcpy(&bits, &real, sizeof bits);
        add32(array, bits);
        break;
    }
    case COLUMN_FLOAT8: {
        uint64_t bits;
        memcpy(&bits, &value->real, sizeof bits);
        add64(array, bits);
        break;
    }
    case COLUMN_NUMERIC:
        add_numeric(array, value->bytes, value->length);
        break;
    case COLUMN_JSONB:
        add_jsonb(array, value->bytes, value->length);
        break;
    case COLUMN_TEXT:
    case COLUMN_UUID:
    case COLUMN_BYTEA:
        add_bytes(array, value->bytes, value->length);
        break;
    case COLUMN_TYPE_COUNT:
        break;
    }
}
