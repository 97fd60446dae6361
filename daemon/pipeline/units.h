// From the unit that a payload names to the unit of a column, by udunits2; loaded when the first
// one is needed.
#pragma once

#include <stddef.h>

enum { UNIT_TEXT_MAX = 32 }; // bytes of a unit in a payload

enum unit_result {
    UNIT_SAME,      // the value is right as it is
    UNIT_CONVERTED, // *value was changed
    UNIT_UNKNOWN,
    UNIT_OTHER_KIND, // feet are no hours
    UNIT_NO_RESULT,  // the result is infinite or not a number
};

// One column's unit, with a bounded memory of what payloads named.
struct unit_converter;

// NULL with *why (static text) where unit is none.
struct unit_converter *unit_converter_new(const char *unit, const char **why);
void unit_converter_free(struct unit_converter *converter);
// from is at most UNIT_TEXT_MAX bytes of the syntax that text_read lets through.
enum unit_result unit_convert(struct unit_converter *converter, const char *from, size_t length,
                              double *value);
