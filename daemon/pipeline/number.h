// Decimal numbers as they are written, and what they are worth, exactly.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

// The value is (negative ? -1 : 1) * mantissa * 10^exponent, and a little more where inexact.
struct number {
    const char *text; // as it is written
    uint32_t length;
    int32_t exponent;
    uint64_t mantissa; // the first 19 significant digits
    int32_t scale;     // digits behind the point, the exponent applied; negative: zeros before it
    bool negative;
    bool inexact; // some digit that the mantissa has no room for is not 0
};

enum number_result { NUMBER_OK, NUMBER_NOT_WHOLE, NUMBER_OUT_OF_RANGE };

// Reads the longest number at the start: [+-] digits [. digits] [e [+-] digits]; ".5" and "5." are
// numbers. Returns the bytes it takes, 0 where there is none. "1e" is 1, followed by an e.
size_t number_scan(const char *text, size_t length, struct number *number);
// The same by the grammar of JSON: no plus sign, no further digit behind a zero in front, digits on
// both sides of a point.
size_t number_scan_json(const char *text, size_t length, struct number *number);
// Scans text that is known to be one number.
void number_read(const char *text, uint32_t length, struct number *number);

// Only whole numbers: "12.0" is 12, "12.5" is none.
enum number_result number_to_integer(const struct number *number, int64_t *value);
// Rounded once, to the nearest double or float; false where that would be infinite, or zero by
// underflow.
bool number_to_double(const struct number *number, double *value);
bool number_to_float(const struct number *number, double *value);
// Whether PostgreSQL's numeric can hold it: 131072 digits before the point, 16383 behind it.
bool number_fits_numeric(const struct number *number);
// As plain decimal text without exponent, plus sign or useless zeros in front, in the arena where
// it has to be written anew. False where numeric cannot hold it, or its exponent asks for too many
// zeros.
bool number_to_numeric(const struct number *number, struct arena *arena, const char **text,
                       uint32_t *length);
