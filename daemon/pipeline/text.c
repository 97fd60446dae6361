// Payloads written as people write them: a number, perhaps with a unit; ON and OFF; plain text.
#include "pipeline/text.h"

#include <string.h>
#include <strings.h>

#include "base/utf8.h"
#include "pipeline/units.h"

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

// A letter, or a part of one beyond ASCII: °, µ, ².
static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80;
}

void text_trim(const char **text, size_t *length)
{
    while (*length > 0 && is_space(**text)) {
        ++*text;
        --*length;
    }
    while (*length > 0 && is_space((*text)[*length - 1]))
        --*length;
}

// Whether c may follow what stands before it. udunits2 takes far more: numbers as factors ("feet
// 20"), origins ("K @ 273"), dates and logarithms; none of that is a unit that somebody sends
// behind a number.
static bool unit_byte_fits(const char *unit, size_t at)
{
    char c = unit[at], before = unit[at - 1];

    if (is_letter(c) || c == ' ')
        return true;
    if (is_digit(c))
        return is_letter(before) || before == '^' || before == '-' ||
               (is_digit(before) && !is_digit(unit[at - 2]));
    while (at > 1 && before == ' ')
        before = unit[--at - 1];
    if (c == '(')
        return before == '/' || before == '*' || before == '.';
    if (c == '-' || c == '^')
        return is_letter(before) || (c == '-' && before == '^');
    return c == '/' || c == '*' || c == '.' || c == ')' || c == '%';
}

static bool is_unit(const char *unit, size_t length)
{
    size_t at = 1;
    if (length > UNIT_TEXT_MAX)
        return false;
    if (length > 2 && unit[0] == '1' && unit[1] == '/')
        at = 2;
    else if (!is_letter(unit[0]) && unit[0] != '%')
        return false;
    for (; at < length; at++) {
        if (!unit_byte_fits(unit, at))
            return false;
    }
    return utf8_valid(unit, length);
}

static bool starts_with(const char *text, size_t length, const char *word)
{
    return length >= strlen(word) && strncasecmp(text, word, strlen(word)) == 0;
}

static bool fail_number(const char *text, size_t length, struct decode_error *error)
{
    char sample[DECODE_SAMPLE];
    const char *bare = text;
    size_t left = length;

    if (length == 0)
        return decode_fail(error, "empty", "there is no text");
    if (*bare == '-' || *bare == '+') {
        bare++;
        left--;
    }
    decode_sample(text, length, sample);
    if (starts_with(bare, left, "inf") || starts_with(bare, left, "nan"))
        return decode_fail(error, "not a finite number", "'%s'", sample);
    return decode_fail(error, "not a number", "'%s'", sample);
}

static bool fail_rest(const char *text, size_t length, const char *rest, struct decode_error *error)
{
    char sample[DECODE_SAMPLE];
    decode_sample(text, length, sample);
    if (*rest == ',')
        return decode_fail(error, "comma in a number", "'%s'", sample);
    return decode_fail(error, "not a number", "'%s': neither a number nor a number with a unit",
                       sample);
}

bool text_read(const char *text, size_t length, struct reading *reading, struct decode_error *error)
{
    const char *end = text + length, *rest;
    size_t size = number_scan(text, length, &reading->number);

    if (size == 0)
        return fail_number(text, length, error);
    for (rest = text + size; rest < end && is_space(*rest); rest++)
        ;
    reading->unit = rest;
    reading->unit_length = (uint32_t)(end - rest);
    if (rest == end)
        return true;
    if (*rest == 'x' || *rest == 'X')
        return decode_fail(error, "hexadecimal number", "'%.*s...'", (int)size + 1, text);
    return is_unit(rest, (size_t)(end - rest)) || fail_rest(text, length, rest, error);
}

bool text_to_bool(const char *text, size_t length, bool *value)
{
    static const char *const words[] = {"false", "true", "f",   "t", "off",
                                        "on",    "no",   "yes", "0", "1"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strlen(words[i]) == length && strncasecmp(text, words[i], length) == 0) {
            *value = i % 2 == 1;
            return true;
        }
    }
    return false;
}
