// The part of convert that is about columns of numbers.
#pragma once

#include "pipeline/convert.h"

typedef bool convert_fn(const struct convert *convert, const struct datum *datum,
                        struct arena *arena, struct value *value, struct decode_error *error);

convert_fn convert_integer; // int2, int4, int8
convert_fn convert_float4;
convert_fn convert_float8;
convert_fn convert_numeric;

// "an object or array is no float8". Returns false.
bool convert_fail_kind(const struct convert *convert, const struct datum *datum,
                       struct decode_error *error);
