// Numbers, with the unit that they came with, fitted to a column of numbers.
#include "pipeline/convert_number.h"

#include <math.h>
#include <string.h>

#include "pipeline/text.h"
#include "pipeline/units.h"

// A number and what conversion to the column's unit made of it.
struct quantity {
    struct reading reading;
    double real; // where converted
    bool converted;
};

static bool fail_range(const struct convert *convert, const struct number *number,
                       struct decode_error *error)
{
    char sample[DECODE_SAMPLE];
    return decode_fail(error, "out of range", "%s does not fit %s",
                       decode_sample(number->text, number->length, sample),
                       column_type_name(convert->type));
}

static bool check_bounds(const struct convert *convert, double value, struct decode_error *error)
{
    if (value < convert->min)
        return decode_fail(error, "below min", "%.15g is below %.15g", value, convert->min);
    if (value > convert->max)
        return decode_fail(error, "above max", "%.15g is above %.15g", value, convert->max);
    return true;
}

static bool apply_unit(const struct convert *convert, struct quantity *quantity,
                       struct decode_error *error)
{
    const struct reading *reading = &quantity->reading;
    char sample[DECODE_SAMPLE];

    if (!convert->unit) {
        if (convert->unit_kept)
            return true;
        return decode_fail(error, "unit not expected", "'%s': the column has no unit to convert to",
                           decode_sample(reading->unit, reading->unit_length, sample));
    }
    if (!number_to_double(&reading->number, &quantity->real))
        return fail_range(convert, &reading->number, error);
    switch (unit_convert(convert->unit, reading->unit, reading->unit_length, &quantity->real)) {
    case UNIT_SAME:
        return true;
    case UNIT_CONVERTED:
        quantity->converted = true;
        return true;
    case UNIT_UNKNOWN:
        return decode_fail(error, "unknown unit", "'%s'",
                           decode_sample(reading->unit, reading->unit_length, sample));
    case UNIT_OTHER_KIND:
        return decode_fail(error, "unit does not convert",
                           "'%s' is another kind of unit than the column's",
                           decode_sample(reading->unit, reading->unit_length, sample));
    case UNIT_NO_RESULT:
        break;
    }
    return decode_fail(error, "out of range", "the value in '%s' has none in the column's unit",
                       decode_sample(reading->unit, reading->unit_length, sample));
}

static bool read_quantity(const struct convert *convert, const struct datum *datum,
                          struct quantity *quantity, struct decode_error *error)
{
    const char *text;
    size_t length;

    quantity->converted = false;
    if (datum->kind == DATUM_NUMBER) {
        quantity->reading.number = datum->number;
        return true;
    }
    if (datum->kind != DATUM_TEXT)
        return convert_fail_kind(convert, datum, error);
    text = datum->text;
    length = datum->length;
    text_trim(&text, &length);
    return text_read(text, length, &quantity->reading, error) &&
           (quantity->reading.unit_length == 0 || apply_unit(convert, quantity, error));
}

// What a conversion gives is known to 15 digits: as such it goes on, so that 0.1 km are 100 whole
// metres.
static void rewrite_converted(struct quantity *quantity, struct arena *arena)
{
    char *text;
    if (!quantity->converted)
        return;
    text = arena_printf(arena, "%.15g", quantity->real);
    number_read(text, (uint32_t)strlen(text), &quantity->reading.number);
}

bool convert_integer(const struct convert *convert, const struct datum *datum, struct arena *arena,
                     struct value *value, struct decode_error *error)
{
    static const int64_t limits[] = {
        [COLUMN_INT2] = INT16_MAX, [COLUMN_INT4] = INT32_MAX, [COLUMN_INT8] = INT64_MAX};
    int64_t limit = limits[convert->type];
    struct quantity quantity;
    enum number_result result;

    if (!read_quantity(convert, datum, &quantity, error))
        return false;
    rewrite_converted(&quantity, arena);
    result = number_to_integer(&quantity.reading.number, &value->integer);
    if (result == NUMBER_NOT_WHOLE) {
        char sample[DECODE_SAMPLE];
        const struct number *number = &quantity.reading.number;
        return decode_fail(error, "not a whole number", "%s",
                           decode_sample(number->text, number->length, sample));
    }
    if (result == NUMBER_OUT_OF_RANGE || value->integer > limit || value->integer < -limit - 1)
        return fail_range(convert, &quantity.reading.number, error);
    if (value->integer < convert->whole_min)
        return decode_fail(error, "below min", "%lld is below %.15g", (long long)value->integer,
                           convert->min);
    if (value->integer > convert->whole_max)
        return decode_fail(error, "above max", "%lld is above %.15g", (long long)value->integer,
                           convert->max);
    return true;
}

bool convert_float8(const struct convert *convert, const struct datum *datum, struct arena *arena,
                    struct value *value, struct decode_error *error)
{
    struct quantity quantity;
    (void)arena;

    if (!read_quantity(convert, datum, &quantity, error))
        return false;
    if (quantity.converted)
        value->real = quantity.real;
    else if (!number_to_double(&quantity.reading.number, &value->real))
        return fail_range(convert, &quantity.reading.number, error);
    return check_bounds(convert, value->real, error);
}

// The bounds apply to the number as it was sent: 0.1 is not above 0.1, though its float4 is.
bool convert_float4(const struct convert *convert, const struct datum *datum, struct arena *arena,
                    struct value *value, struct decode_error *error)
{
    struct quantity quantity;
    double real;
    (void)arena;

    if (!read_quantity(convert, datum, &quantity, error))
        return false;
    if (quantity.converted) {
        real = quantity.real;
        value->real = (double)(float)real;
        if (!isfinite(value->real) || (value->real == 0 && real != 0))
            return fail_range(convert, &quantity.reading.number, error);
    } else if (!number_to_double(&quantity.reading.number, &real) ||
               !number_to_float(&quantity.reading.number, &value->real)) {
        return fail_range(convert, &quantity.reading.number, error);
    }
    return check_bounds(convert, real, error);
}

bool convert_numeric(const struct convert *convert, const struct datum *datum, struct arena *arena,
                     struct value *value, struct decode_error *error)
{
    struct quantity quantity;
    const struct number *number = &quantity.reading.number;
    double real;

    if (!read_quantity(convert, datum, &quantity, error))
        return false;
    rewrite_converted(&quantity, arena);
    if (!number_to_numeric(number, arena, &value->bytes, &value->length))
        return fail_range(convert, number, error);
    if (!isfinite(convert->min) && !isfinite(convert->max))
        return true;
    if (!number_to_double(number, &real))
        return fail_range(convert, number, error);
    return check_bounds(convert, real, error);
}
