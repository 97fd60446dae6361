// Names of the column types.
#include "core/row.h"

#include <string.h>

static const char *const type_names[COLUMN_TYPE_COUNT] = {
    [COLUMN_BOOL] = "bool",       [COLUMN_INT2] = "int2",
    [COLUMN_INT4] = "int4",       [COLUMN_INT8] = "int8",
    [COLUMN_FLOAT4] = "float4",   [COLUMN_FLOAT8] = "float8",
    [COLUMN_NUMERIC] = "numeric", [COLUMN_TEXT] = "text",
    [COLUMN_JSONB] = "jsonb",     [COLUMN_TIMESTAMPTZ] = "timestamptz",
    [COLUMN_UUID] = "uuid",       [COLUMN_BYTEA] = "bytea",
};

const char *column_type_name(enum column_type type)
{
    return type_names[type];
}

bool column_type_parse(const char *name, enum column_type *type)
{
    for (int i = 0; i < COLUMN_TYPE_COUNT; i++) {
        if (strcmp(name, type_names[i]) == 0) {
            *type = (enum column_type)i;
            return true;
        }
    }
    return false;
}

bool column_type_is_bytes(enum column_type type)
{
    switch (type) {
    case COLUMN_NUMERIC:
    case COLUMN_TEXT:
    case COLUMN_JSONB:
    case COLUMN_UUID:
    case COLUMN_BYTEA:
        return true;
    default:
        return false;
    }
}
