// Any bytes as a JSON payload: the reader must agree with jansson about what is JSON, and what
// becomes of it in columns of all types must be what PostgreSQL can store.
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/sample_mapping.h"
#include "pipeline/json.h"
#include "pipeline/pipeline.h"
#include "row_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct sample_column columns[] = {
    {.name = "time",
     .type = "timestamptz",
     .from = "/ts",
     .format = "unix_ms",
     .fallback = "2024-01-01T00:00:00Z"},
    {.name = "text", .type = "text", .from = "/t"},
    {.name = "all", .type = "jsonb", .from = "/j"},
    {.name = "small", .type = "int2", .from = "/i", .min = -100, .max = 100},
    {.name = "big", .type = "int8", .from = "/b/0"},
    {.name = "real", .type = "float8", .from = "/r", .unit = "m"},
    {.name = "single", .type = "float4", .from = "/r"},
    {.name = "exact", .type = "numeric", .from = "/n"},
    {.name = "flag", .type = "bool", .from = "/a~1b/x~0y"},
    {.name = "id", .type = "uuid", .from = "/u"},
    {.name = "bytes", .type = "bytea", .from = "/x"},
    {.name = "when", .type = "timestamptz", .from = "/w"},
    {0},
};

// What jansson refuses though it is JSON: numbers that a double cannot hold, NUL in names, and
// great depth.
static bool is_jansson_limit(const json_error_t *error)
{
    enum json_error_code code = json_error_code(error);
    return code == json_error_numeric_overflow || code == json_error_null_byte_in_key ||
           code == json_error_stack_overflow;
}

static void agree(const uint8_t *data, size_t size)
{
    static struct json_paths *none;
    struct json_error ours;
    json_error_t theirs;
    json_t *root;

    if (!none)
        none = json_paths_new();
    bool good = json_read(none, (const char *)data, size, NULL, &ours);
    row_must(good || (ours.what && ours.offset <= size));
    root = json_loadb((const char *)data, size,
                      JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &theirs);
    if (good)
        row_must(root || is_jansson_limit(&theirs));
    else // jansson takes a NUL behind the document for its end
        row_must(!root || strcmp(ours.what, "nested too deeply") == 0 || memchr(data, 0, size));
    json_decref(root);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mapping mapping;
    static struct plan *plan;

    if (!plan)
        plan = row_plan(&mapping, DECODER_JSON, columns);
    agree(data, size);
    row_check(plan, &mapping, data, size);
    return 0;
}
