// From what a decoder gives to a value that fits its column exactly, or not at all.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"
#include "core/row.h"
#include "pipeline/datum.h"
#include "pipeline/decode_error.h"
#include "pipeline/time.h"

struct unit_converter;
struct json_paths;

struct convert {
    enum column_type type;
    enum time_format format;      // of timestamptz
    double min, max;              // inclusive; infinite where there is none
    int64_t whole_min, whole_max; // the same for int2, int4 and int8
    struct unit_converter *unit;  // owned; NULL: the column has none
    bool unit_kept; // another column takes the unit, so that a number without its unit is whole
    struct json_paths *document; // checks text that goes to jsonb
};

void convert_init(struct convert *convert, enum column_type type, enum time_format format);
void convert_fini(struct convert *convert);
void convert_set_min(struct convert *convert, double min);
void convert_set_max(struct convert *convert, double max);
bool convert_type_is_number(enum column_type type);
// Fits a datum that is neither missing nor null; what has to be written anew goes to the arena.
// False with error filled where it does not fit: values are never cut, rounded to whole numbers, or
// wrapped.
bool convert_value(const struct convert *convert, const struct datum *datum, struct arena *arena,
                   struct value *value, struct decode_error *error);
// Fits what the configuration writes: DATUM_TEXT of a C string.
bool convert_text(const struct convert *convert, const char *text, struct arena *arena,
                  struct value *value, struct decode_error *error);
