// A reader for JSON, strictly by RFC 8259: recursive descent of bounded depth.
#include "pipeline/json.h"

#include <endian.h>
#include <string.h>

#include "base/utf8.h"
#include "pipeline/json_paths.h"
#include "pipeline/number.h"

// Functions that read take the position and return the one behind what they have read, NULL where
// it is not JSON: so the position stays in a register.
struct reader {
    const char *end;
    struct json_paths *paths;
    struct datum *slots;
    struct datum unwanted; // takes the values that no pointer points at
    const char *error, *error_at;
    unsigned depth;
    uint32_t nuls, wides; // \u0000 and numbers beyond numeric, so far
};

enum { LENGTH_MAX = 1 << 28 }; // more than MQTT can carry

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static const char *fail(struct reader *r, const char *p, const char *error)
{
    r->error = p == r->end ? "the document ends too early" : error;
    r->error_at = p;
    return NULL;
}

static const char *skip_space(const struct reader *r, const char *p)
{
    while (p < r->end && (unsigned char)*p <= ' ' && is_space(*p))
        p++;
    return p;
}

static bool stands(const struct reader *r, const char *p, char c)
{
    return p < r->end && *p == c;
}

static const char *read_word(struct reader *r, const char *p, const char *word, size_t length)
{
    if ((size_t)(r->end - p) < length || memcmp(p, word, length) != 0)
        return fail(r, p, "neither true, false nor null");
    return p + length;
}

// Four hexadecimal digits, or -1.
static int hex4(const char *p)
{
    int code = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return -1;
        code = code << 4 | digit;
    }
    return code;
}

static bool is_high_surrogate(int code)
{
    return code >= 0xD800 && code <= 0xDBFF;
}

static bool is_low_surrogate(int code)
{
    return code >= 0xDC00 && code <= 0xDFFF;
}

// The code of the \uXXXX at p, or -1.
static int unicode_escape(const struct reader *r, const char *p)
{
    if (r->end - p < 6 || p[0] != '\\' || p[1] != 'u')
        return -1;
    return hex4(p + 2);
}

// A \uXXXX, or two that are a surrogate pair; one half alone is no character.
static const char *read_unicode(struct reader *r, const char *p, struct datum *string)
{
    int code = unicode_escape(r, p);
    if (code < 0)
        return fail(r, p, "\\u without four hexadecimal digits");
    if (is_low_surrogate(code))
        return fail(r, p, "half a surrogate pair");
    p += 6;
    if (code == 0) {
        r->nuls++;
        string->flags |= DATUM_NUL;
    }
    if (!is_high_surrogate(code))
        return p;
    if (!is_low_surrogate(unicode_escape(r, p)))
        return fail(r, p, "half a surrogate pair");
    return p + 6;
}

static const char *read_escape(struct reader *r, const char *p, struct datum *string)
{
    string->flags |= DATUM_ESCAPED;
    if (stands(r, p + 1, 'u'))
        return read_unicode(r, p, string);
    p++;
    if (p == r->end || *p == '\0' || !strchr("\"\\/bfnrt", *p))
        return fail(r, p, "no such escape");
    return p + 1;
}

static const char *read_high(struct reader *r, const char *p)
{
    const char *start = p;
    while (p < r->end && (unsigned char)*p >= 0x80)
        p++;
    size_t good = utf8_span(start, (size_t)(p - start));
    return start + good == p ? p : fail(r, start + good, "not UTF-8");
}

// Skips what stands for itself in a string, eight bytes at a time: all but quotes, backslashes,
// control characters and bytes from 0x80. The lowest byte that is marked is marked rightly, and
// only that one counts.
static const char *skip_plain(const struct reader *r, const char *p)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), tops = ones << 7;
    while (r->end - p >= 8) {
        uint64_t word, quote, backslash, marks;
        memcpy(&word, p, sizeof word);
        word = le64toh(word);
        quote = word ^ ones * '"';
        backslash = word ^ ones * '\\';
        marks = ((quote - ones) & ~quote) | ((backslash - ones) & ~backslash) |
                ((word - ones * 0x20) & ~word) | word;
        if (marks & tops)
            return p + __builtin_ctzll(marks & tops) / 8;
        p += 8;
    }
    while (p < r->end && *p != '"' && *p != '\\' && (unsigned char)*p >= 0x20 &&
           (unsigned char)*p < 0x80)
        p++;
    return p;
}

// A string from its first byte that does not stand for itself, at p.
static const char *read_special_string(struct reader *r, const char *p, struct datum *string)
{
    while (p < r->end && *p != '"') {
        if (*p == '\\')
            p = read_escape(r, p, string);
        else if ((unsigned char)*p >= 0x80)
            p = read_high(r, p);
        else
            return fail(r, p, "a control character in a string");
        if (!p)
            return NULL;
        p = skip_plain(r, p);
    }
    if (p == r->end)
        return fail(r, p, "");
    string->length = (uint32_t)(p - string->text);
    return p + 1;
}

// The rest of a string, behind its opening quote.
static const char *read_string(struct reader *r, const char *p, struct datum *string)
{
    const char *start = p;

    p = skip_plain(r, p);
    string->text = start;
    string->kind = DATUM_STRING;
    string->flags = 0;
    if (!stands(r, p, '"'))
        return read_special_string(r, p, string);
    string->length = (uint32_t)(p - start);
    return p + 1;
}

static const char *read_number(struct reader *r, const char *p, struct datum *value)
{
    size_t size = number_scan_json(p, (size_t)(r->end - p), &value->number);

    if (size == 0)
        return fail(r, p, "a value is missing");
    value->kind = DATUM_NUMBER;
    value->flags = 0;
    if (!number_fits_numeric(&value->number)) {
        value->flags = DATUM_WIDE;
        r->wides++;
    }
    return p + size;
}

static const char *read_value(struct reader *r, const char *p, struct json_node *node);

// guess is where the tree remembers what came next in the document before.
static const char *read_member(struct reader *r, const char *p, const struct json_node *node,
                               struct json_node ***guess)
{
    struct json_node *child = NULL;
    struct datum name;
    const char *start;

    if (!stands(r, p, '"'))
        return fail(r, p, "a name in quotes is missing");
    start = p + 1;
    p = read_string(r, start, &name);
    if (!p)
        return NULL;
    if (node && node->child_count > 0)
        child = json_node_member(node, guess, name.text, name.length, name.flags & DATUM_ESCAPED);
    // A name that comes twice would be a choice between two values, and different readers choose
    // differently (RFC 8259, section 4).
    if (child && child->seen == r->paths->document)
        return fail(r, start, "a name that is needed comes twice in one object");
    if (child)
        child->seen = r->paths->document;
    p = skip_space(r, p);
    if (!stands(r, p, ':'))
        return fail(r, p, "':' is missing");
    return read_value(r, p + 1, child);
}

static const char *read_object(struct reader *r, const char *p, struct json_node *node)
{
    struct json_node **guess = node ? &node->first : NULL;

    p = skip_space(r, p);
    if (stands(r, p, '}'))
        return p + 1;
    for (;;) {
        p = read_member(r, p, node, &guess);
        if (!p)
            return NULL;
        p = skip_space(r, p);
        if (stands(r, p, '}'))
            return p + 1;
        if (!stands(r, p, ','))
            return fail(r, p, "',' or '}' is missing");
        p = skip_space(r, p + 1);
    }
}

static const char *read_array(struct reader *r, const char *p, const struct json_node *node)
{
    p = skip_space(r, p);
    if (stands(r, p, ']'))
        return p + 1;
    for (int64_t index = 0;; index++) {
        p = read_value(r, p, node ? json_node_element(node, index) : NULL);
        if (!p)
            return NULL;
        p = skip_space(r, p);
        if (stands(r, p, ']'))
            return p + 1;
        if (!stands(r, p, ','))
            return fail(r, p, "',' or ']' is missing");
        p++;
    }
}

static const char *read_document(struct reader *r, const char *p, struct json_node *node,
                                 struct datum *value)
{
    uint32_t nuls = r->nuls, wides = r->wides;
    const char *start = p;

    if (r->depth == JSON_DEPTH_MAX)
        return fail(r, p, "nested too deeply");
    r->depth++;
    p = *p == '{' ? read_object(r, p + 1, node) : read_array(r, p + 1, node);
    if (!p)
        return NULL;
    r->depth--;
    *value = (struct datum){.kind = DATUM_DOCUMENT, .text = start, .length = (uint32_t)(p - start)};
    value->flags |= nuls != r->nuls ? DATUM_NUL : 0;
    value->flags |= wides != r->wides ? DATUM_WIDE : 0;
    return p;
}

static const char *read_value(struct reader *r, const char *p, struct json_node *node)
{
    struct datum *value = node && node->slot >= 0 ? &r->slots[node->slot] : &r->unwanted;

    p = skip_space(r, p);
    if (p == r->end)
        return fail(r, p, "");
    switch (*p) {
    case '{':
    case '[':
        return read_document(r, p, node, value);
    case '"':
        return read_string(r, p + 1, value);
    case 't':
        *value = (struct datum){.kind = DATUM_BOOL, .integer = 1};
        return read_word(r, p, "true", 4);
    case 'f':
        *value = (struct datum){.kind = DATUM_BOOL, .integer = 0};
        return read_word(r, p, "false", 5);
    case 'n':
        *value = (struct datum){.kind = DATUM_NULL};
        return read_word(r, p, "null", 4);
    default:
        return read_number(r, p, value);
    }
}

bool json_read(struct json_paths *paths, const char *text, size_t length, struct datum *slots,
               struct json_error *error)
{
    struct reader r = {.end = text + length, .paths = paths, .slots = slots};
    const char *p;

    for (size_t i = 0; i < paths->count; i++)
        slots[i].kind = DATUM_MISSING;
    paths->document++;
    if (length > LENGTH_MAX)
        p = fail(&r, text, "too long");
    else
        p = read_value(&r, text, &paths->root);
    if (p) {
        p = skip_space(&r, p);
        if (p == r.end)
            return true;
        fail(&r, p, "something follows the document");
    }
    *error = (struct json_error){r.error, (size_t)(r.error_at - text)};
    return false;
}

// The bytes of a code point that is no surrogate.
static size_t encode(unsigned code, char *out)
{
    static const unsigned char mark[] = {0, 0, 0xC0, 0xE0, 0xF0};
    size_t size = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = size; i-- > 1; code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3F));
    out[0] = (char)(mark[size] | code);
    return size;
}

static char plain_escape(char c)
{
    switch (c) {
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    default:
        return c;
    }
}

size_t json_unescape(const char *text, size_t length, char *out)
{
    const char *p = text, *end = text + length;
    char *q = out;

    while (p < end) {
        if (*p != '\\') {
            *q++ = *p++;
        } else if (p[1] != 'u') {
            *q++ = plain_escape(p[1]);
            p += 2;
        } else {
            int code = hex4(p + 2);
            p += 6;
            if (is_high_surrogate(code)) {
                code = 0x10000 + ((code - 0xD800) << 10) + (hex4(p + 2) - 0xDC00);
                p += 6;
            }
            q += encode((unsigned)code, q);
        }
    }
    return (size_t)(q - out);
}
