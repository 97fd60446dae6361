// How the configuration names the source of a column, and what it may write as a constant.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pipeline/mapping.h"
#include "sample_mapping.h"

static const struct {
    const char *text;
    enum decoder_kind decoder;
    bool good;
    enum value_source from;
    unsigned level;
    const char *name;
} sources[] = {
    {"value", DECODER_TEXT, true, FROM_VALUE, 0, NULL},
    {"value", DECODER_JSON, true, FROM_VALUE, 0, NULL},
    {"unit", DECODER_TEXT, true, FROM_UNIT, 0, NULL},
    {"unit", DECODER_JSON, false, 0, 0, NULL},
    {"payload", DECODER_JSON, true, FROM_PAYLOAD, 0, NULL},
    {"topic", DECODER_TEXT, true, FROM_TOPIC, 0, NULL},
    {"topic[0]", DECODER_TEXT, true, FROM_TOPIC_LEVEL, 0, NULL},
    {"topic[12]", DECODER_JSON, true, FROM_TOPIC_LEVEL, 12, NULL},
    {"topic[32767]", DECODER_TEXT, true, FROM_TOPIC_LEVEL, 32767, NULL},
    {"topic[32768]", DECODER_TEXT, false, 0, 0, NULL},
    {"topic[99999999999999]", DECODER_TEXT, false, 0, 0, NULL},
    {"topic[]", DECODER_TEXT, false, 0, 0, NULL},
    {"topic[-1]", DECODER_TEXT, false, 0, 0, NULL},
    {"topic[1", DECODER_TEXT, false, 0, 0, NULL},
    {"topic[1]x", DECODER_TEXT, false, 0, 0, NULL},
    {"received_at", DECODER_TEXT, true, FROM_RECEIVED_AT, 0, NULL},
    {"qos", DECODER_TEXT, true, FROM_QOS, 0, NULL},
    {"dup", DECODER_TEXT, true, FROM_DUP, 0, NULL},
    {"retain", DECODER_TEXT, true, FROM_RETAIN, 0, NULL},
    {"client_id", DECODER_TEXT, true, FROM_CLIENT_ID, 0, NULL},
    {"property.site", DECODER_TEXT, true, FROM_PROPERTY, 0, "site"},
    {"property.a.b c", DECODER_JSON, true, FROM_PROPERTY, 0, "a.b c"},
    {"property.", DECODER_TEXT, false, 0, 0, NULL},
    {"property", DECODER_TEXT, false, 0, 0, NULL},
    {"/temp", DECODER_JSON, true, FROM_POINTER, 0, "/temp"},
    {"/a~1b/0", DECODER_JSON, true, FROM_POINTER, 0, "/a~1b/0"},
    {"/", DECODER_JSON, true, FROM_POINTER, 0, "/"},
    {"/a~2", DECODER_JSON, false, 0, 0, NULL},
    {"/temp", DECODER_TEXT, false, 0, 0, NULL},
    {"", DECODER_JSON, false, 0, 0, NULL},
    {"Value", DECODER_TEXT, false, 0, 0, NULL},
    {"constant", DECODER_TEXT, false, 0, 0, NULL},
    {"temp", DECODER_JSON, false, 0, 0, NULL},
};

static void sources_are_parsed_and_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        struct field field = {0};
        const char *error = NULL;
        char name[64];
        bool good = mapping_parse_from(sources[i].text, sources[i].decoder, &field, &error);
        if (good != sources[i].good)
            fail_msg("'%s'", sources[i].text);
        if (!good) {
            assert_non_null(error);
            assert_null(field.name);
            continue;
        }
        assert_int_equal(field.from, sources[i].from);
        assert_int_equal(field.level, sources[i].level);
        if (sources[i].name)
            assert_string_equal(field.name, sources[i].name);
        assert_string_equal(mapping_from_text(&field, name, sizeof name), sources[i].text);
        free(field.name);
    }
    struct field constant = {.from = FROM_CONSTANT};
    char name[64];
    assert_string_equal(mapping_from_text(&constant, name, sizeof name), "constant");
}

static const struct {
    const char *text;
    enum column_type type;
    const char *error; // NULL: good
} constants[] = {
    {"hangar 3", COLUMN_TEXT, NULL},
    {"", COLUMN_TEXT, NULL},
    {"\xFF", COLUMN_TEXT, "not UTF-8"},
    {"12", COLUMN_INT2, NULL},
    {"70000", COLUMN_INT2, "out of range"},
    {"1.5", COLUMN_INT4, "not a whole number"},
    {"1.5", COLUMN_FLOAT8, NULL},
    {"1.5 m", COLUMN_FLOAT8, "unit not expected"},
    {"true", COLUMN_BOOL, NULL},
    {"maybe", COLUMN_BOOL, "neither true nor false"},
    {"{\"a\":1}", COLUMN_JSONB, NULL},
    {"hangar 3", COLUMN_JSONB, "not JSON"},
    {"2024-01-01T00:00:00Z", COLUMN_TIMESTAMPTZ, NULL},
    {"1700000000", COLUMN_TIMESTAMPTZ, "not a time"},
    {"123e4567-e89b-12d3-a456-426614174000", COLUMN_UUID, NULL},
    {"x", COLUMN_UUID, "not a UUID"},
    {"\\x00ff", COLUMN_BYTEA, NULL},
    {"hello", COLUMN_BYTEA, "not hexadecimal"},
};

static void constants_are_checked(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++) {
        const char *error = NULL;
        bool good = mapping_check_constant(constants[i].text, constants[i].type, &error);
        if (good != (constants[i].error == NULL))
            fail_msg("'%s' as %s", constants[i].text, column_type_name(constants[i].type));
        if (!good)
            assert_string_equal(error, constants[i].error);
    }
}

static void half_filled_mappings_are_freed(void **state)
{
    (void)state;
    struct mapping mapping = {.name = mem_strdup("x")};
    mapping_fini(&mapping);

    static const struct sample_column columns[] = {
        {.name = "time", .type = "timestamptz", .from = "received_at"},
        {.name = "site", .type = "text", .constant = "a"},
        {0}};
    sample_mapping(&mapping, "a/b", DECODER_TEXT, columns);
    mapping.target.mapping = mem_strdup("of its own");
    mapping.sources = mem_alloc(sizeof(char *));
    mapping.sources[mapping.source_count++] = mem_strdup("site");
    mapping_fini(&mapping);
}

// Each change alone makes another mapping of it.
static void change(struct mapping *mapping, int what)
{
    struct field *field = &mapping->fields[1];
    struct target *target = &mapping->target;
    char **texts[] = {&mapping->name,   &mapping->filter, &target->schema,
                      &target->table,   &field->name,     &field->constant,
                      &field->fallback, &field->unit,     &target->columns[1].name};
    enum { TEXTS = sizeof texts / sizeof *texts };
    if (what < TEXTS) {
        free(*texts[what]);
        *texts[what] = mem_strdup("another");
        target->mapping = mapping->name;
        return;
    }
    switch (what - TEXTS) {
    case 0:
        mapping->decoder = DECODER_JSON;
        return;
    case 1:
        mapping->qos = 2;
        return;
    case 2:
        mapping->retained = true;
        return;
    case 3:
        mapping->max_age_us--;
        return;
    case 4:
        mapping->max_ahead_us--;
        return;
    case 5:
        target->partition = PARTITION_YEAR;
        return;
    case 6:
        target->columns[1].type = COLUMN_FLOAT4;
        return;
    case 7:
        target->columns[1].required = true;
        return;
    case 8:
        target->columns[1].key = true;
        return;
    case 9:
        field->from = FROM_UNIT;
        return;
    case 10:
        field->level = 3;
        return;
    case 11:
        field->required = true;
        return;
    case 12:
        field->min = 2;
        return;
    case 13:
        field->max = 8;
        return;
    case 14:
        field->has_min = false;
        return;
    case 15:
        field->has_max = false;
        return;
    case 16:
        field->format = TIME_UNIX_MS;
        return;
    case 17:
        mapping->sources = mem_alloc(sizeof(char *));
        mapping->sources[mapping->source_count++] = mem_strdup("site");
        return;
    case 18: // one column less
        free(target->columns[2].name);
        free(mapping->fields[2].constant);
        target->column_count--;
        return;
    case 19:
        target->on_conflict = CONFLICT_IGNORE;
        return;
    default:
        fail();
    }
}

static void what_says_the_same_is_the_same(void **state)
{
    (void)state;
    static const struct sample_column columns[] = {
        {.name = "time", .type = "timestamptz", .from = "received_at"},
        {.name = "value",
         .type = "float8",
         .from = "value",
         .fallback = "5",
         .unit = "m",
         .min = 1,
         .max = 9},
        {.name = "more", .type = "text", .constant = "x"},
        {0},
    };
    enum { CHANGES = 29 };
    for (int what = -1; what < CHANGES; what++) {
        struct mapping a, b;
        sample_mapping(&a, "a/+", DECODER_TEXT, columns);
        sample_mapping(&b, "a/+", DECODER_TEXT, columns);
        free(b.where);
        b.where = mem_strdup("elsewhere.cfg:7");
        b.subscription_id = 9;
        b.target.index = 4;
        b.target.books.received = 1;
        if (what >= 0)
            change(&b, what);
        if (mapping_same(&a, &b) != (what < 0) || mapping_same(&b, &a) != (what < 0))
            fail_msg("change %d", what);
        assert_true(mapping_same(&a, &a));
        mapping_fini(&a);
        mapping_fini(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sources_are_parsed_and_named),
        cmocka_unit_test(constants_are_checked),
        cmocka_unit_test(half_filled_mappings_are_freed),
        cmocka_unit_test(what_says_the_same_is_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
