// Any bytes as a text payload, into columns of all types: what is taken must be what PostgreSQL can
// store.
#include <stdint.h>

#include "../unit/sample_mapping.h"
#include "pipeline/pipeline.h"
#include "row_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ARRIVAL                                                                                    \
    {                                                                                              \
        .name = "time", .type = "timestamptz", .from = "received_at"                               \
    }

// A bad value in one column ends a row, so that each type has a mapping of its own.
static const struct sample_column lists[][4] = {
    {ARRIVAL,
     {.name = "v", .type = "float8", .from = "value", .unit = "m"},
     {.name = "t", .type = "text", .from = "value"}},
    {ARRIVAL,
     {.name = "v", .type = "float8", .from = "value", .unit = "degC", .min = -90, .max = 60}},
    {ARRIVAL,
     {.name = "v", .type = "float4", .from = "value"},
     {.name = "u", .type = "text", .from = "unit"}},
    {ARRIVAL, {.name = "v", .type = "int4", .from = "value", .unit = "km/h"}},
    {ARRIVAL, {.name = "v", .type = "int8", .from = "value"}},
    {ARRIVAL, {.name = "v", .type = "numeric", .from = "value", .unit = "%"}},
    {ARRIVAL, {.name = "v", .type = "bool", .from = "value"}},
    {ARRIVAL, {.name = "v", .type = "jsonb", .from = "value"}},
    {ARRIVAL,
     {.name = "v", .type = "text", .from = "payload"},
     {.name = "b", .type = "bytea", .from = "payload"}},
    {ARRIVAL, {.name = "v", .type = "uuid", .from = "value"}},
    {ARRIVAL, {.name = "v", .type = "bytea", .from = "value"}},
    {{.name = "time", .type = "timestamptz", .from = "value", .format = "rfc3339"}},
    {{.name = "time", .type = "timestamptz", .from = "value", .format = "unix_ns"}},
};

enum { LISTS = sizeof lists / sizeof *lists };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mapping mappings[LISTS];
    static struct plan *plans[LISTS];

    for (int i = 0; i < LISTS; i++) {
        if (!plans[i])
            plans[i] = row_plan(&mappings[i], DECODER_TEXT, lists[i]);
        row_check(plans[i], &mappings[i], data, size);
    }
    return 0;
}
