// From what a decoder gives to a value that fits its column exactly, or not at all.
#include "pipeline/convert_number.h"

#include <math.h>
#include <string.h>

#include "base/utf8.h"
#include "pipeline/json.h"
#include "pipeline/text.h"
#include "pipeline/units.h"

void convert_init(struct convert *convert, enum column_type type, enum time_format format)
{
    *convert = (struct convert){
        .type = type,
        .format = format,
        .min = -INFINITY,
        .max = INFINITY,
        .whole_min = INT64_MIN,
        .whole_max = INT64_MAX,
    };
    if (type == COLUMN_JSONB) {
        convert->document = json_paths_new();
        json_paths_add(convert->document, "");
    }
}

void convert_fini(struct convert *convert)
{
    json_paths_free(convert->document);
    unit_converter_free(convert->unit);
}

// 2^63 is a double, INT64_MAX is none.
void convert_set_min(struct convert *convert, double min)
{
    convert->min = min;
    convert->whole_min = min >= 0x1p63    ? INT64_MAX
                         : min <= -0x1p63 ? INT64_MIN
                                          : (int64_t)ceil(min);
}

void convert_set_max(struct convert *convert, double max)
{
    convert->max = max;
    convert->whole_max = max >= 0x1p63    ? INT64_MAX
                         : max <= -0x1p63 ? INT64_MIN
                                          : (int64_t)floor(max);
}

bool convert_type_is_number(enum column_type type)
{
    return type >= COLUMN_INT2 && type <= COLUMN_NUMERIC;
}

bool convert_fail_kind(const struct convert *convert, const struct datum *datum,
                       struct decode_error *error)
{
    static const char *const kinds[] = {
        [DATUM_MISSING] = "nothing",
        [DATUM_NULL] = "null",
        [DATUM_BOOL] = "true or false",
        [DATUM_TIME] = "a time",
        [DATUM_NUMBER] = "a number",
        [DATUM_STRING] = "a string",
        [DATUM_DOCUMENT] = "an object or array",
        [DATUM_TEXT] = "text",
        [DATUM_BYTES] = "bytes",
    };
    return decode_fail(error, "wrong kind of value", "%s is no %s", kinds[datum->kind],
                       column_type_name(convert->type));
}

// For the failures of one text: reason, and the text itself.
static bool fail_text(const char *reason, const struct datum *datum, struct decode_error *error)
{
    char sample[DECODE_SAMPLE];
    return decode_fail(error, reason, "'%s'", decode_sample(datum->text, datum->length, sample));
}

static bool to_bool(const struct convert *convert, const struct datum *datum, struct arena *arena,
                    struct value *value, struct decode_error *error)
{
    const char *text = datum->text;
    size_t length = datum->length;
    (void)arena;

    if (datum->kind == DATUM_BOOL) {
        value->boolean = datum->integer != 0;
        return true;
    }
    if (datum->kind != DATUM_TEXT && datum->kind != DATUM_NUMBER)
        return convert_fail_kind(convert, datum, error);
    text_trim(&text, &length);
    return text_to_bool(text, length, &value->boolean) ||
           fail_text("neither true nor false", datum, error);
}

static bool to_text(const struct convert *convert, const struct datum *datum, struct arena *arena,
                    struct value *value, struct decode_error *error)
{
    char time[TIME_TEXT];

    switch (datum->kind) {
    case DATUM_BOOL:
        value->bytes = datum->integer ? "true" : "false";
        break;
    case DATUM_TIME:
        time_text(datum->integer, time);
        value->bytes = arena_copy(arena, time, strlen(time));
        break;
    case DATUM_TEXT:
        if (!(datum->flags & DATUM_CHECKED) && !utf8_valid(datum->text, datum->length))
            return fail_text(memchr(datum->text, 0, datum->length) ? "U+0000 in text" : "not UTF-8",
                             datum, error);
        // fall through
    case DATUM_NUMBER:
    case DATUM_DOCUMENT:
        value->bytes = datum->text;
        value->length = datum->length;
        return true;
    default:
        return convert_fail_kind(convert, datum, error);
    }
    value->length = (uint32_t)strlen(value->bytes);
    return true;
}

// JSON text with what jsonb refuses left out: jsonb takes strings as text and numbers as numeric.
static bool to_jsonb(const struct convert *convert, const struct datum *datum, struct arena *arena,
                     struct value *value, struct decode_error *error)
{
    struct json_error json;
    struct datum document;

    if (datum->flags & DATUM_NUL)
        return decode_fail(error, "U+0000 in text", "\\u0000 has no place in jsonb");
    if (datum->flags & DATUM_WIDE)
        return decode_fail(error, "out of range", "a number in it does not fit jsonb");
    value->bytes = datum->text;
    value->length = datum->length;
    switch (datum->kind) {
    case DATUM_NULL:
        value->bytes = "null";
        value->length = 4;
        return true;
    case DATUM_BOOL:
        return to_text(convert, datum, arena, value, error);
    case DATUM_STRING: // with its quotes
        value->bytes--;
        value->length += 2;
        return true;
    case DATUM_NUMBER:
    case DATUM_DOCUMENT:
        return true;
    case DATUM_TEXT:
        if (!json_read(convert->document, datum->text, datum->length, &document, &json))
            return decode_fail(error, "not JSON", "byte %zu: %s", json.offset, json.what);
        return to_jsonb(convert, &document, arena, value, error);
    default:
        return convert_fail_kind(convert, datum, error);
    }
}

static bool read_time(const struct convert *convert, const struct datum *datum, const char *text,
                      size_t length, int64_t *us)
{
    struct number number;

    if (convert->format == TIME_RFC3339)
        return datum->kind == DATUM_TEXT && time_from_rfc3339(text, length, us);
    if (datum->kind == DATUM_NUMBER)
        return time_from_number(&datum->number, convert->format, us);
    return length > 0 && number_scan(text, length, &number) == length &&
           time_from_number(&number, convert->format, us);
}

static bool to_time(const struct convert *convert, const struct datum *datum, struct arena *arena,
                    struct value *value, struct decode_error *error)
{
    char sample[DECODE_SAMPLE];
    const char *text;
    size_t length;
    (void)arena;

    if (datum->kind == DATUM_TIME) {
        value->integer = datum->integer;
        return true;
    }
    if (datum->kind != DATUM_TEXT && datum->kind != DATUM_NUMBER)
        return convert_fail_kind(convert, datum, error);
    text = datum->text;
    length = datum->length;
    text_trim(&text, &length);
    if (read_time(convert, datum, text, length, &value->integer))
        return true;
    return decode_fail(error, "not a time", "'%s' is no %s time",
                       decode_sample(text, length, sample), time_format_name(convert->format));
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// 32 hexadecimal digits: bare, or in groups of 8-4-4-4-12, or those in braces.
static bool read_uuid(const char *text, size_t length, uint8_t uuid[16])
{
    size_t digits = 0;
    bool grouped;

    if (length == 38 && text[0] == '{' && text[37] == '}') {
        text++;
        length -= 2;
    }
    grouped = length == 36;
    if (!grouped && length != 32)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (grouped && (i == 8 || i == 13 || i == 18 || i == 23)) {
            if (text[i] != '-')
                return false;
            continue;
        }
        int digit = hex_digit(text[i]);
        if (digit < 0)
            return false;
        uuid[digits / 2] = (uint8_t)(digits % 2 ? uuid[digits / 2] | digit : digit << 4);
        digits++;
    }
    return true;
}

static bool to_uuid(const struct convert *convert, const struct datum *datum, struct arena *arena,
                    struct value *value, struct decode_error *error)
{
    const char *text = datum->text;
    size_t length = datum->length;
    uint8_t uuid[16];

    if (datum->kind != DATUM_TEXT)
        return convert_fail_kind(convert, datum, error);
    text_trim(&text, &length);
    if (!read_uuid(text, length, uuid))
        return fail_text("not a UUID", datum, error);
    value->bytes = arena_copy(arena, uuid, sizeof uuid);
    value->length = sizeof uuid;
    return true;
}

// The payload as it came, or text of hexadecimal digits, with or without \x in front.
static bool to_bytea(const struct convert *convert, const struct datum *datum, struct arena *arena,
                     struct value *value, struct decode_error *error)
{
    const char *text = datum->text;
    size_t length = datum->length;
    char *bytes;

    value->bytes = text;
    value->length = datum->length;
    if (datum->kind == DATUM_BYTES)
        return true;
    if (datum->kind != DATUM_TEXT)
        return convert_fail_kind(convert, datum, error);
    text_trim(&text, &length);
    if (length >= 2 && text[0] == '\\' && (text[1] == 'x' || text[1] == 'X')) {
        text += 2;
        length -= 2;
    }
    bytes = arena_alloc(arena, length / 2 + 1);
    for (size_t i = 0; i + 1 < length; i += 2) {
        int high = hex_digit(text[i]), low = hex_digit(text[i + 1]);
        if (high < 0 || low < 0)
            return fail_text("not hexadecimal", datum, error);
        bytes[i / 2] = (char)(high << 4 | low);
    }
    if (length % 2 != 0)
        return fail_text("not hexadecimal", datum, error);
    value->bytes = bytes;
    value->length = (uint32_t)(length / 2);
    return true;
}

// A string's own text in place of how JSON writes it.
static void undo_escapes(struct datum *datum, struct arena *arena)
{
    if (datum->flags & DATUM_ESCAPED) {
        char *plain = arena_alloc(arena, datum->length);
        datum->length = (uint32_t)json_unescape(datum->text, datum->length, plain);
        datum->text = plain;
    }
    datum->kind = DATUM_TEXT;
    datum->flags = datum->flags & DATUM_NUL ? 0 : DATUM_CHECKED;
}

bool convert_value(const struct convert *convert, const struct datum *datum, struct arena *arena,
                   struct value *value, struct decode_error *error)
{
    static convert_fn *const functions[COLUMN_TYPE_COUNT] = {
        [COLUMN_BOOL] = to_bool,
        [COLUMN_INT2] = convert_integer,
        [COLUMN_INT4] = convert_integer,
        [COLUMN_INT8] = convert_integer,
        [COLUMN_FLOAT4] = convert_float4,
        [COLUMN_FLOAT8] = convert_float8,
        [COLUMN_NUMERIC] = convert_numeric,
        [COLUMN_TEXT] = to_text,
        [COLUMN_JSONB] = to_jsonb,
        [COLUMN_TIMESTAMPTZ] = to_time,
        [COLUMN_UUID] = to_uuid,
        [COLUMN_BYTEA] = to_bytea,
    };
    struct datum plain = *datum;

    value->null = false;
    if (plain.kind == DATUM_STRING && convert->type != COLUMN_JSONB)
        undo_escapes(&plain, arena);
    else if (plain.kind == DATUM_BYTES && convert->type != COLUMN_BYTEA)
        plain.kind = DATUM_TEXT;
    return functions[convert->type](convert, &plain, arena, value, error);
}

bool convert_text(const struct convert *convert, const char *text, struct arena *arena,
                  struct value *value, struct decode_error *error)
{
    struct datum datum = {.kind = DATUM_TEXT, .text = text, .length = (uint32_t)strlen(text)};
    return convert_value(convert, &datum, arena, value, error);
}
