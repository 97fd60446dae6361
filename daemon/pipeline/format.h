// Values for people to read.
#pragma once

#include <stddef.h>

#include "core/row.h"

// Writes the value as an SQL literal: NULL, 91.44, 'it''s', '\x00ff'; one too long for the buffer
// is cut and ends in "...", so it is for showing only. Returns buffer.
const char *value_format(const struct value *value, enum column_type type, char *buffer,
                         size_t size);
