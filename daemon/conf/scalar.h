// Single values as the configuration writes them: numbers, durations, sizes, names.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Decimal digits alone.
bool scalar_number(const char *text, int64_t *value);
// A number and ms, s, m, h or d, to microseconds: "7d".
bool scalar_duration(const char *text, int64_t *microseconds);
// A number of bytes, or with KiB, MiB, GiB: "64MiB".
bool scalar_size(const char *text, int64_t *bytes);
bool scalar_bool(const char *text, bool *value);
// The shortest of the forms that are read above; the caller frees.
char *scalar_duration_text(int64_t microseconds);
char *scalar_size_text(int64_t bytes);
// The shortest decimal form that reads back as the same number; the caller frees.
char *scalar_real_text(double value);
// Why the text is no name for a schema, table or column (static text), or NULL where it is one.
const char *scalar_identifier_flaw(const char *text);
// Why the text is no name for a subscriber or mapping (static text), or NULL where it is one.
const char *scalar_name_flaw(const char *text);
