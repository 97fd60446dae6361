// Points in time: what payloads write, as microseconds since 1970-01-01 UTC.
#include "pipeline/time.h"

#include <stdio.h>
#include <string.h>

#define SECOND_US INT64_C(1000000)
#define DAY_S INT64_C(86400)

static const char *const format_names[] = {
    [TIME_RFC3339] = "rfc3339", [TIME_UNIX_S] = "unix_s",   [TIME_UNIX_MS] = "unix_ms",
    [TIME_UNIX_US] = "unix_us", [TIME_UNIX_NS] = "unix_ns",
};

enum { FORMAT_COUNT = sizeof format_names / sizeof *format_names };

struct civil {
    int year, month, day, hour, minute, second;
};

// What is left of the text.
struct cursor {
    const char *p, *end;
};

static bool is_leap(int year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int days_in_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return days[month - 1] + (month == 2 && is_leap(year));
}

// Days since 1970-01-01 in the Gregorian calendar. Years begin in March here, so that the leap day
// is the last one and the months before it have a regular length: day (153 m + 2) / 5 begins month
// m.
static int64_t days_from_civil(int year, int month, int day)
{
    int64_t y = month > 2 ? year : year - 1;
    int64_t m = month > 2 ? month - 3 : month + 9;
    return y * 365 + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719468;
}

// The inverse, for days in year 1 and later.
static void civil_from_days(int64_t days, struct civil *civil)
{
    int64_t since_march_0 = days + 719468;
    int64_t year = since_march_0 * 400 / 146097;
    int64_t rest = days - days_from_civil((int)year, 3, 1);

    if (rest < 0)
        rest = days - days_from_civil((int)--year, 3, 1);
    else if (days >= days_from_civil((int)year + 1, 3, 1))
        rest = days - days_from_civil((int)++year, 3, 1);
    int64_t month = (5 * rest + 2) / 153;
    civil->day = (int)(rest - (153 * month + 2) / 5) + 1;
    civil->month = (int)(month < 10 ? month + 3 : month - 9);
    civil->year = (int)(month < 10 ? year : year + 1);
}

// Exactly count digits.
static bool take_digits(struct cursor *c, int count, int *value)
{
    *value = 0;
    for (; count > 0; count--, c->p++) {
        if (c->p == c->end || *c->p < '0' || *c->p > '9')
            return false;
        *value = *value * 10 + (*c->p - '0');
    }
    return true;
}

static bool take_one_of(struct cursor *c, const char *allowed)
{
    if (c->p == c->end || *c->p == '\0' || !strchr(allowed, *c->p))
        return false;
    c->p++;
    return true;
}

static bool take_date_time(struct cursor *c, struct civil *t)
{
    if (!take_digits(c, 4, &t->year) || !take_one_of(c, "-") || !take_digits(c, 2, &t->month) ||
        !take_one_of(c, "-") || !take_digits(c, 2, &t->day) || !take_one_of(c, "Tt ") ||
        !take_digits(c, 2, &t->hour) || !take_one_of(c, ":") || !take_digits(c, 2, &t->minute) ||
        !take_one_of(c, ":") || !take_digits(c, 2, &t->second))
        return false;
    return t->month >= 1 && t->month <= 12 && t->day >= 1 &&
           t->day <= days_in_month(t->year, t->month) && t->hour <= 23 && t->minute <= 59 &&
           t->second <= 60;
}

// "." and at least one digit, or nothing.
static bool take_fraction(struct cursor *c, int64_t *us)
{
    int64_t unit = SECOND_US;
    int digit;

    *us = 0;
    if (!take_one_of(c, "."))
        return true;
    if (!take_digits(c, 1, &digit))
        return false;
    do {
        unit /= 10;
        *us += digit * unit;
    } while (c->p < c->end && take_digits(c, 1, &digit));
    return true;
}

static bool take_offset(struct cursor *c, int64_t *seconds)
{
    int hours, minutes;
    bool west;

    *seconds = 0;
    if (take_one_of(c, "Zz"))
        return true;
    west = c->p < c->end && *c->p == '-';
    if (!take_one_of(c, "+-") || !take_digits(c, 2, &hours) || !take_one_of(c, ":") ||
        !take_digits(c, 2, &minutes) || hours > 23 || minutes > 59)
        return false;
    *seconds = (hours * 60 + minutes) * 60;
    if (west)
        *seconds = -*seconds;
    return true;
}

bool time_from_rfc3339(const char *text, size_t length, int64_t *us)
{
    struct cursor c = {text, text + length};
    struct civil t;
    int64_t fraction, offset, seconds;

    if (!take_date_time(&c, &t) || !take_fraction(&c, &fraction))
        return false;
    // A fraction that ended on a non-digit stands on it: the offset follows.
    if (!take_offset(&c, &offset) || c.p != c.end)
        return false;
    seconds = days_from_civil(t.year, t.month, t.day) * DAY_S + (t.hour * 60 + t.minute) * 60 +
              t.second - offset;
    // Leap seconds are inserted at the end of a day of UTC only.
    if (t.second == 60 && seconds % DAY_S != 0)
        return false;
    *us = seconds * SECOND_US + fraction;
    return *us >= TIME_MIN_US && *us <= TIME_MAX_US;
}

// Digits that the mantissa has no room for are far below a microsecond for every time within the
// bounds.
bool time_from_number(const struct number *number, enum time_format format, int64_t *us)
{
    static const int powers[] = {
        [TIME_UNIX_S] = 6, [TIME_UNIX_MS] = 3, [TIME_UNIX_US] = 0, [TIME_UNIX_NS] = -3};
    int32_t exponent = number->exponent + powers[format];
    uint64_t value = number->mantissa;
    bool cut = number->inexact;

    for (; exponent < 0 && value != 0; exponent++) {
        cut |= value % 10 != 0;
        value /= 10;
    }
    for (; exponent > 0 && value != 0; exponent--) {
        if (__builtin_mul_overflow(value, 10, &value))
            return false;
    }
    if (value > (uint64_t)TIME_MAX_US)
        return false;
    *us = number->negative ? -(int64_t)value - cut : (int64_t)value;
    return *us >= TIME_MIN_US && *us <= TIME_MAX_US;
}

const char *time_text(int64_t us, char buffer[TIME_TEXT])
{
    struct civil t;
    int64_t seconds, days, rest, fraction;
    int used, digits = 6;

    if (us < TIME_MIN_US || us > TIME_MAX_US) {
        snprintf(buffer, TIME_TEXT, "%lld us since 1970", (long long)us);
        return buffer;
    }
    fraction = ((us % SECOND_US) + SECOND_US) % SECOND_US;
    seconds = (us - fraction) / SECOND_US;
    rest = ((seconds % DAY_S) + DAY_S) % DAY_S;
    days = (seconds - rest) / DAY_S;
    civil_from_days(days, &t);
    used = snprintf(buffer, TIME_TEXT, "%04d-%02d-%02dT%02d:%02d:%02d", t.year, t.month, t.day,
                    (int)(rest / 3600), (int)(rest / 60 % 60), (int)(rest % 60));
    for (; fraction != 0 && fraction % 10 == 0; fraction /= 10)
        digits--;
    if (fraction != 0)
        used += snprintf(buffer + used, (size_t)(TIME_TEXT - used), ".%0*d", digits, (int)fraction);
    snprintf(buffer + used, (size_t)(TIME_TEXT - used), "Z");
    return buffer;
}

const char *time_format_name(enum time_format format)
{
    return format_names[format];
}

bool time_format_parse(const char *text, enum time_format *format)
{
    for (int i = 0; i < FORMAT_COUNT; i++) {
        if (strcmp(text, format_names[i]) == 0) {
            *format = (enum time_format)i;
            return true;
        }
    }
    return false;
}
