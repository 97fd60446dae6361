// Parses and prints single values of the configuration, without silent overflow or rounding.
#include "conf/scalar.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct suffix {
    const char *text;
    int64_t factor;
};

// Greatest first; the last is what 0 is printed with.
static const struct suffix duration_suffixes[] = {
    {"d", INT64_C(86400000000)},
    {"h", INT64_C(3600000000)},
    {"m", 60000000},
    {"s", 1000000},
    {"ms", 1000},
    {NULL, 0},
};
static const struct suffix size_suffixes[] = {
    {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"", 1}, {NULL, 0},
};

// Digits at the start of text; NULL where there are none or too many.
static const char *digits(const char *text, int64_t *value)
{
    *value = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (__builtin_mul_overflow(*value, 10, value) ||
            __builtin_add_overflow(*value, *at - '0', value))
            return NULL;
    }
    return at == text ? NULL : at;
}

static bool with_suffix(const char *text, const struct suffix *suffixes, int64_t *value)
{
    int64_t number;
    const char *end = digits(text, &number);
    if (!end)
        return false;
    while (*end == ' ')
        end++;
    for (; suffixes->text; suffixes++) {
        if (strcmp(end, suffixes->text) == 0)
            return !__builtin_mul_overflow(number, suffixes->factor, value);
    }
    return false;
}

static char *suffixed_text(int64_t value, const struct suffix *suffixes)
{
    while (suffixes[1].text && (value == 0 || value % suffixes->factor != 0))
        suffixes++;
    return mem_printf("%" PRId64 "%s", value / suffixes->factor, suffixes->text);
}

bool scalar_number(const char *text, int64_t *value)
{
    const char *end = digits(text, value);
    return end && *end == '\0';
}

bool scalar_duration(const char *text, int64_t *microseconds)
{
    return with_suffix(text, duration_suffixes, microseconds);
}

bool scalar_size(const char *text, int64_t *bytes)
{
    return with_suffix(text, size_suffixes, bytes);
}

bool scalar_bool(const char *text, bool *value)
{
    *value = strcmp(text, "true") == 0;
    return *value || strcmp(text, "false") == 0;
}

char *scalar_duration_text(int64_t microseconds)
{
    return suffixed_text(microseconds, duration_suffixes);
}

char *scalar_size_text(int64_t bytes)
{
    return suffixed_text(bytes, size_suffixes);
}

char *scalar_real_text(double value)
{
    for (int precision = 15;; precision++) {
        char *text = mem_printf("%.*g", precision, value);
        if (precision >= 17 || strtod(text, NULL) == value)
            return text;
        free(text);
    }
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

const char *scalar_identifier_flaw(const char *text)
{
    enum { IDENTIFIER_MAX = 63 }; // PostgreSQL cuts longer ones silently
    if (*text == '\0')
        return "is empty";
    if (strlen(text) > IDENTIFIER_MAX)
        return "is longer than 63 characters";
    bool good = is_letter(*text);
    for (const char *at = text; *at; at++)
        good = good && (is_letter(*at) || is_digit(*at) || *at == '$');
    return good ? NULL : "is no identifier; allowed: letters, digits, _ and $, not a digit first";
}

const char *scalar_name_flaw(const char *text)
{
    enum { NAME_MAX_LENGTH = 38 }; // "subscriber " and this is what a section name may have
    if (*text == '\0')
        return "is empty";
    if (strlen(text) > NAME_MAX_LENGTH)
        return "is longer than 38 characters";
    for (const char *at = text; *at; at++) {
        if (!is_letter(*at) && !is_digit(*at) && *at != '-' && *at != '.')
            return "is no name; allowed: letters, digits, _, - and .";
    }
    return NULL;
}
