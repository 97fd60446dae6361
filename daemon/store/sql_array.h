// A one-dimensional array in PostgreSQL's binary format, element by element.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/row.h"

struct sql_array {
    uint8_t *bytes;
    size_t length, capacity;
    bool has_null;
};

void sql_array_fini(struct sql_array *array);
// Begins an array of count elements of a type.
void sql_array_start(struct sql_array *array, enum column_type type, size_t count);
void sql_array_add(struct sql_array *array, enum column_type type, const struct value *value);
// After the last element.
void sql_array_end(struct sql_array *array);
// The OID of type[] [pg_type.dat].
uint32_t sql_array_oid(enum column_type type);
