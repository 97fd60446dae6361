// Mappings: what they own, and how the configuration names a column's source.
#include "pipeline/mapping.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "pipeline/convert.h"
#include "pipeline/json.h"

enum { LEVEL_MAX = 32767 }; // a topic has 65,535 bytes

static const struct {
    const char *text;
    enum value_source from;
} plain_sources[] = {
    {"topic", FROM_TOPIC},
    {"value", FROM_VALUE},
    {"unit", FROM_UNIT},
    {"payload", FROM_PAYLOAD},
    {"received_at", FROM_RECEIVED_AT},
    {"qos", FROM_QOS},
    {"dup", FROM_DUP},
    {"retain", FROM_RETAIN},
    {"client_id", FROM_CLIENT_ID},
};

static void target_fini(struct target *target)
{
    for (size_t i = 0; i < target->column_count; i++)
        free(target->columns[i].name);
    free(target->columns);
    free(target->schema);
    free(target->table);
}

static void field_fini(struct field *field)
{
    free(field->name);
    free(field->constant);
    free(field->fallback);
    free(field->unit);
}

void mapping_fini(struct mapping *mapping)
{
    for (size_t i = 0; mapping->fields && i < mapping->target.column_count; i++)
        field_fini(&mapping->fields[i]);
    free(mapping->fields);
    if (mapping->target.mapping != mapping->name)
        free(mapping->target.mapping);
    target_fini(&mapping->target);
    for (size_t i = 0; i < mapping->source_count; i++)
        free(mapping->sources[i]);
    free(mapping->sources);
    free(mapping->name);
    free(mapping->filter);
    free(mapping->where);
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_field(const struct field *a, const struct field *b)
{
    return a->from == b->from && a->level == b->level && a->required == b->required &&
           a->has_min == b->has_min && a->has_max == b->has_max && a->format == b->format &&
           (!a->has_min || a->min == b->min) && (!a->has_max || a->max == b->max) &&
           same_text(a->name, b->name) && same_text(a->constant, b->constant) &&
           same_text(a->fallback, b->fallback) && same_text(a->unit, b->unit);
}

static bool same_column(const struct target_column *a, const struct target_column *b)
{
    return a->type == b->type && a->required == b->required && a->key == b->key &&
           same_text(a->name, b->name);
}

static bool same_target(const struct target *a, const struct target *b)
{
    bool same = a->column_count == b->column_count && a->partition == b->partition &&
                a->on_conflict == b->on_conflict && same_text(a->schema, b->schema) &&
                same_text(a->table, b->table);
    for (size_t i = 0; same && i < a->column_count; i++)
        same = same_column(&a->columns[i], &b->columns[i]);
    return same;
}

static bool same_sources(const struct mapping *a, const struct mapping *b)
{
    bool same = a->source_count == b->source_count;
    for (size_t i = 0; same && i < a->source_count; i++)
        same = same_text(a->sources[i], b->sources[i]);
    return same;
}

bool mapping_same(const struct mapping *a, const struct mapping *b)
{
    bool same = a->decoder == b->decoder && a->qos == b->qos && a->retained == b->retained &&
                a->max_age_us == b->max_age_us && a->max_ahead_us == b->max_ahead_us &&
                same_text(a->name, b->name) && same_text(a->filter, b->filter) &&
                same_sources(a, b) && same_target(&a->target, &b->target);
    for (size_t i = 0; same && i < a->target.column_count; i++)
        same = same_field(&a->fields[i], &b->fields[i]);
    return same;
}

static bool set_source(struct field *field, enum value_source from, const char *name)
{
    field->from = from;
    field->name = name ? mem_strdup(name) : NULL;
    return true;
}

static bool parse_pointer(const char *text, enum decoder_kind decoder, struct field *field,
                          const char **error)
{
    struct json_paths *paths;
    bool good;

    *error = "a JSON Pointer needs decoder = \"json\"";
    if (decoder != DECODER_JSON)
        return false;
    *error = "not a JSON Pointer: ~ is written ~0 and / within a name ~1";
    paths = json_paths_new();
    good = json_paths_add(paths, text) >= 0;
    json_paths_free(paths);
    return good && set_source(field, FROM_POINTER, text);
}

static bool parse_level(const char *text, struct field *field, const char **error)
{
    unsigned level = 0;
    const char *p = text;

    *error = "a level of the topic is written topic[N], counted from 0";
    for (; *p >= '0' && *p <= '9' && level <= LEVEL_MAX; p++)
        level = level * 10 + (unsigned)(*p - '0');
    if (p == text || level > LEVEL_MAX || strcmp(p, "]") != 0)
        return false;
    field->level = level;
    return set_source(field, FROM_TOPIC_LEVEL, NULL);
}

static bool parse_property(const char *name, struct field *field, const char **error)
{
    *error = "property. needs the name of a user property";
    return *name != '\0' && set_source(field, FROM_PROPERTY, name);
}

bool mapping_parse_from(const char *text, enum decoder_kind decoder, struct field *field,
                        const char **error)
{
    if (text[0] == '/')
        return parse_pointer(text, decoder, field, error);
    if (strncmp(text, "topic[", 6) == 0)
        return parse_level(text + 6, field, error);
    if (strncmp(text, "property.", 9) == 0)
        return parse_property(text + 9, field, error);
    for (size_t i = 0; i < sizeof plain_sources / sizeof *plain_sources; i++) {
        if (strcmp(text, plain_sources[i].text) != 0)
            continue;
        *error = "unit needs decoder = \"text\"";
        if (plain_sources[i].from == FROM_UNIT && decoder != DECODER_TEXT)
            return false;
        return set_source(field, plain_sources[i].from, NULL);
    }
    *error = "allowed are value, unit, payload, topic, topic[N], /json/pointer, property.NAME, "
             "received_at, qos, dup, retain, client_id";
    return false;
}

bool mapping_check_constant(const char *text, enum column_type type, const char **error)
{
    struct decode_error why = {0};
    struct convert convert;
    struct arena arena;
    struct value value;
    bool good;

    convert_init(&convert, type, TIME_RFC3339);
    arena_init(&arena);
    good = convert_text(&convert, text, &arena, &value, &why);
    arena_fini(&arena);
    convert_fini(&convert);
    *error = good ? NULL : why.reason;
    return good;
}

const char *mapping_from_text(const struct field *field, char *buffer, size_t size)
{
    const char *name = "constant";

    for (size_t i = 0; i < sizeof plain_sources / sizeof *plain_sources; i++) {
        if (plain_sources[i].from == field->from)
            name = plain_sources[i].text;
    }
    if (field->from == FROM_TOPIC_LEVEL)
        snprintf(buffer, size, "topic[%u]", field->level);
    else if (field->from == FROM_PROPERTY)
        snprintf(buffer, size, "property.%s", field->name);
    else
        snprintf(buffer, size, "%s", field->from == FROM_POINTER ? field->name : name);
    return buffer;
}
