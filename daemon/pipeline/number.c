// Decimal numbers as they are written, and what they are worth, exactly.
#include "pipeline/number.h"

#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    SURE_DIGITS = 19,           // always fit a mantissa
    EXPONENT_MAX = 1 << 28,     // saturation: beyond every type, and sums of it fit an int32_t
    NUMERIC_WHOLE_MAX = 131072, // digits, PostgreSQL's limits
    NUMERIC_SCALE_MAX = 16383,
    PAD_MAX = 1000, // zeros that one exponent may add to a text: "1e100000" must not cost 100 kB
    SLOW_TEXT_MAX = 1000, // of a number that strtod has to read
};

static const uint64_t MANTISSA_FULL = 1000000000000000000u; // from here no further digit fits

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

// Takes the digits at p into the mantissa; step is what a digit with room adds to the exponent (0
// before the point, -1 behind it), and a digit without room adds one more.
static const char *take_digits(const char *p, const char *end, struct number *number, int step)
{
    for (; p < end && is_digit(*p); p++) {
        unsigned digit = (unsigned)(*p - '0');
        if (number->mantissa < MANTISSA_FULL) {
            number->mantissa = number->mantissa * 10 + digit;
            number->exponent += step;
        } else {
            number->exponent += step + 1;
            number->inexact |= digit != 0;
        }
    }
    return p;
}

// The exponent at p, which stands on its e; p itself where no digits follow.
static const char *take_exponent(const char *p, const char *end, int32_t *exponent)
{
    const char *q = p + 1;
    bool negative = false;

    *exponent = 0;
    if (q < end && (*q == '+' || *q == '-'))
        negative = *q++ == '-';
    if (q == end || !is_digit(*q))
        return p;
    for (; q < end && is_digit(*q); q++) {
        if (*exponent < EXPONENT_MAX / 10)
            *exponent = *exponent * 10 + (*q - '0');
    }
    if (negative)
        *exponent = -*exponent;
    return q;
}

// The digits at p; what the mantissa has no room for makes it wrap around.
static const char *take_few_digits(const char *p, const char *end, uint64_t *mantissa)
{
    uint64_t sum = *mantissa;
    for (unsigned digit; p < end && (digit = (unsigned char)*p - (unsigned)'0') <= 9; p++)
        sum = sum * 10 + digit;
    *mantissa = sum;
    return p;
}

// Reads the digits again, of which there are more than the mantissa may have room for.
static void retake_digits(const char *p, const char *end, struct number *number)
{
    number->mantissa = 0;
    number->exponent = 0;
    p = take_digits(p, end, number, 0);
    if (p < end)
        take_digits(p + 1, end, number, -1);
}

// Behind the digits and the point at p; number gets what they are worth. p itself where there is
// not one digit.
static const char *take_decimal(const char *p, const char *end, struct number *number, bool json)
{
    const char *start = p, *point, *fraction;

    point = take_few_digits(p, json && p < end && *p == '0' ? p + 1 : end, &number->mantissa);
    p = point;
    if (p < end && *p == '.' && !(json && (p == start || p + 1 == end || !is_digit(p[1])))) {
        fraction = p + 1;
        p = take_few_digits(fraction, end, &number->mantissa);
        number->scale = (int32_t)(p - fraction);
        number->exponent = -number->scale;
    }
    if (point == start && number->scale == 0)
        return start;
    if (p - start > SURE_DIGITS)
        retake_digits(start, p, number);
    return p;
}

static inline size_t scan(const char *text, size_t length, struct number *number, bool json)
{
    const char *p = text, *end = text + length, *start;
    int32_t exponent;

    if (length > EXPONENT_MAX)
        return 0;
    *number = (struct number){.text = text};
    if (p < end && (*p == '-' || (*p == '+' && !json)))
        number->negative = *p++ == '-';
    start = p;
    p = take_decimal(p, end, number, json);
    if (p == start)
        return 0;
    if (p < end && (*p == 'e' || *p == 'E')) {
        p = take_exponent(p, end, &exponent);
        number->exponent += exponent;
        number->scale -= exponent;
    }
    number->length = (uint32_t)(p - text);
    return number->length;
}

size_t number_scan(const char *text, size_t length, struct number *number)
{
    return scan(text, length, number, false);
}

size_t number_scan_json(const char *text, size_t length, struct number *number)
{
    return scan(text, length, number, true);
}

void number_read(const char *text, uint32_t length, struct number *number)
{
    if (number_scan(text, length, number) != length)
        *number = (struct number){.text = "0", .length = 1};
}

static bool to_magnitude(uint64_t magnitude, bool negative, int64_t *value)
{
    uint64_t limit = (uint64_t)INT64_MAX + negative;
    if (magnitude > limit)
        return false;
    *value = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return true;
}

enum number_result number_to_integer(const struct number *number, int64_t *value)
{
    uint64_t magnitude = number->mantissa;
    int32_t exponent = number->exponent;

    if (number->inexact && exponent <= 0)
        return NUMBER_NOT_WHOLE;
    for (; exponent > 0 && magnitude != 0; exponent--) {
        if (__builtin_mul_overflow(magnitude, 10, &magnitude))
            return NUMBER_OUT_OF_RANGE;
    }
    for (; exponent < 0 && magnitude != 0; exponent++) {
        if (magnitude % 10 != 0)
            return NUMBER_NOT_WHOLE;
        magnitude /= 10;
    }
    return to_magnitude(magnitude, number->negative, value) ? NUMBER_OK : NUMBER_OUT_OF_RANGE;
}

// The "C" locale whatever the process has, made once and kept.
static locale_t c_locale(void)
{
    static locale_t locale;
    if (!locale)
        locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    return locale;
}

static bool copy_for_libc(const struct number *number, char buffer[SLOW_TEXT_MAX + 1])
{
    if (number->length > SLOW_TEXT_MAX)
        return false;
    memcpy(buffer, number->text, number->length);
    buffer[number->length] = '\0';
    return true;
}

// The text decides, so that there is one rounding only.
static bool slow_double(const struct number *number, double *value)
{
    char buffer[SLOW_TEXT_MAX + 1];
    if (!copy_for_libc(number, buffer))
        return false;
    *value = strtod_l(buffer, NULL, c_locale());
    return isfinite(*value) && (*value != 0 || number->mantissa == 0);
}

// Clinger's fast path: mantissa and power of ten are both exact doubles, so that one operation
// rounds once. It needs arithmetic in the type's own precision (no x87).
bool number_to_double(const struct number *number, double *value)
{
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    double mantissa = (double)number->mantissa;

    if (FLT_EVAL_METHOD != 0 || number->inexact || number->mantissa > (uint64_t)1 << 53 ||
        number->exponent < -22 || number->exponent > 22)
        return slow_double(number, value);
    if (number->exponent < 0)
        mantissa /= powers[-number->exponent];
    else
        mantissa *= powers[number->exponent];
    *value = number->negative ? -mantissa : mantissa;
    return true;
}

static bool slow_float(const struct number *number, double *value)
{
    char buffer[SLOW_TEXT_MAX + 1];
    if (!copy_for_libc(number, buffer))
        return false;
    *value = (double)strtof_l(buffer, NULL, c_locale());
    return isfinite(*value) && (*value != 0 || number->mantissa == 0);
}

bool number_to_float(const struct number *number, double *value)
{
    static const float powers[] = {1e0F, 1e1F, 1e2F, 1e3F, 1e4F, 1e5F,
                                   1e6F, 1e7F, 1e8F, 1e9F, 1e10F};
    float mantissa = (float)number->mantissa;

    if (FLT_EVAL_METHOD != 0 || number->inexact || number->mantissa > (uint64_t)1 << 24 ||
        number->exponent < -10 || number->exponent > 10)
        return slow_float(number, value);
    if (number->exponent < 0)
        mantissa /= powers[-number->exponent];
    else
        mantissa *= powers[number->exponent];
    *value = (double)(number->negative ? -mantissa : mantissa);
    return true;
}

bool number_fits_numeric(const struct number *number)
{
    int32_t digits = 0;
    if (number->scale > NUMERIC_SCALE_MAX)
        return false;
    if (number->exponent <= NUMERIC_WHOLE_MAX - SURE_DIGITS)
        return true;
    for (uint64_t rest = number->mantissa; rest != 0; rest /= 10)
        digits++;
    return digits + number->exponent <= NUMERIC_WHOLE_MAX;
}

// Digits, perhaps a point between digits, no exponent, no zero in front that says nothing.
static bool is_plain(const struct number *number)
{
    const char *p = number->text, *end = p + number->length;
    if (*p == '+')
        return false;
    p += *p == '-';
    if (!is_digit(*p) || (*p == '0' && p + 1 < end && p[1] != '.'))
        return false;
    while (p < end && is_digit(*p))
        p++;
    if (p == end)
        return true;
    if (*p != '.' || p + 1 == end)
        return false;
    for (p++; p < end && is_digit(*p); p++)
        ;
    return p == end;
}

// Writes count digits with the point behind the first `whole` of them, with zeros where there are
// no digits.
static size_t place_point(char *out, const char *digits, int32_t count, int32_t whole)
{
    char *p = out;
    int32_t before = whole < count ? whole : count;

    if (before <= 0)
        *p++ = '0';
    for (int32_t i = 0; i < before; i++)
        *p++ = digits[i];
    for (int32_t i = count; i < whole; i++)
        *p++ = '0';
    if (count > whole)
        *p++ = '.';
    for (int32_t i = whole; i < 0; i++)
        *p++ = '0';
    for (int32_t i = before > 0 ? before : 0; i < count; i++)
        *p++ = digits[i];
    return (size_t)(p - out);
}

// The digits alone, without those zeros in front that stand before the point.
static int32_t bare_digits(const struct number *number, char *out)
{
    const char *p = number->text, *end = p + number->length;
    int32_t count = 0, skip = 0;

    for (; p < end && *p != 'e' && *p != 'E'; p++) {
        if (is_digit(*p))
            out[count++] = *p;
    }
    while (skip < count - number->scale && skip < count && out[skip] == '0')
        skip++;
    memmove(out, out + skip, (size_t)(count - skip));
    return count - skip;
}

// Zeros that are not among the digits.
static int32_t padding(int32_t count, int32_t scale)
{
    return scale < 0 ? -scale : scale > count ? scale - count : 0;
}

bool number_to_numeric(const struct number *number, struct arena *arena, const char **text,
                       uint32_t *length)
{
    char *digits, *out;
    size_t used = 0;
    int32_t count;

    if (!number_fits_numeric(number))
        return false;
    if (is_plain(number)) {
        bool minus_zero = number->negative && number->mantissa == 0;
        *text = number->text + minus_zero;
        *length = number->length - minus_zero;
        return true;
    }
    if (number->mantissa == 0 && number->scale <= 0) {
        *text = "0";
        *length = 1;
        return true;
    }
    digits = arena_alloc(arena, number->length);
    count = bare_digits(number, digits);
    if (padding(count, number->scale) > PAD_MAX)
        return false;
    out = arena_alloc(arena, (size_t)count + (size_t)padding(count, number->scale) + sizeof "-0.");
    if (number->negative && number->mantissa != 0)
        out[used++] = '-';
    used += place_point(out + used, digits, count, count - number->scale);
    *text = out;
    *length = (uint32_t)used;
    return true;
}
