// Columns: where a value comes from, what type it has, and which of both go together.
#include "conf/mapcolumn.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "conf/scalar.h"
#include "pipeline/convert.h"
#include "pipeline/units.h"

#define US_PER_SECOND INT64_C(1000000)
#define US_PER_DAY (86400 * US_PER_SECOND)

enum { MAX_AGE_DAYS = 3650, MAX_AHEAD_DAYS = 1, LIMIT_DAYS = 36500 };

static const char *const column_keys[] = {
    "name", "type", "from", "value", "required", "default", "min", "max", "unit", "format", NULL,
};
static const char *const time_keys[] = {"from", "format", "max_age", "max_ahead", NULL};
static const char *const format_names[] = {"rfc3339", "unix_s",  "unix_ms",
                                           "unix_us", "unix_ns", NULL};

static bool is_integer(enum column_type type)
{
    return type == COLUMN_INT2 || type == COLUMN_INT4 || type == COLUMN_INT8;
}

// Every name of a filter without # has as many levels as it; with # there may be more.
static bool level_exists(const char *filter, unsigned level, unsigned *levels)
{
    *levels = 1;
    for (const char *at = filter; *at; at++)
        *levels += *at == '/';
    return level < *levels || filter[strlen(filter) - 1] == '#';
}

// What was probably meant by a text that is no source, or NULL.
static const char *near_source(const char *text)
{
    static const enum value_source plain[] = {
        FROM_TOPIC, FROM_VALUE, FROM_UNIT,   FROM_PAYLOAD,   FROM_RECEIVED_AT,
        FROM_QOS,   FROM_DUP,   FROM_RETAIN, FROM_CLIENT_ID,
    };
    static char names[sizeof plain / sizeof *plain][16];
    const char *words[sizeof plain / sizeof *plain + 1] = {NULL};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        words[i] = mapping_from_text(&(struct field){.from = plain[i]}, names[i], sizeof names[i]);
    return problems_near(text, words);
}

// Reads "from" into the field. False after a problem, or where it cannot be judged; then the field
// is as before.
static bool read_from(const struct mapcolumn_reader *reader, const config_setting_t *group,
                      struct field *field)
{
    const config_setting_t *node = config_setting_get_member(group, "from");
    const char *text = node_text(reader->file, group, "from"), *error;
    struct field parsed = *field;
    if (!text || !reader->decoder_known)
        return false;
    if (!mapping_parse_from(text, reader->mapping->decoder, &parsed, &error)) {
        const char *near = near_source(text);
        if (near && strcmp(near, text) != 0)
            node_problem(reader->file, node, "from is '%s'; did you mean '%s'?", text, near);
        else
            node_problem(reader->file, node, "from is '%s': %s", text, error);
        return false;
    }
    *field = parsed;
    unsigned levels;
    if (field->from == FROM_TOPIC_LEVEL && reader->filter &&
        !level_exists(reader->filter, field->level, &levels))
        node_problem(reader->file, node, "from is '%s'; allowed: topic[0] to topic[%u] of '%s'",
                     text, levels - 1, reader->filter);
    return true;
}

static void read_format(const struct mapcolumn_reader *reader, const config_setting_t *group,
                        struct field *field)
{
    const config_setting_t *node = config_setting_get_member(group, "format");
    int index;
    if (node_word(reader->file, group, "format", format_names, &index) &&
        !time_format_parse(format_names[index], &field->format))
        node_problem(reader->file, node, "format '%s' is not known", format_names[index]);
    if (node && (field->from == FROM_RECEIVED_AT || field->from == FROM_CONSTANT))
        node_problem(reader->file, node,
                     "format is for times that payload, topic or property give");
}

// Why this source cannot fill a column of this type, or NULL.
static const char *type_flaw(enum value_source from, enum column_type type)
{
    switch (from) {
    case FROM_TOPIC:
    case FROM_UNIT:
        return type == COLUMN_TEXT ? NULL : "text";
    case FROM_RECEIVED_AT:
        return type == COLUMN_TIMESTAMPTZ ? NULL : "timestamptz";
    case FROM_QOS:
        return is_integer(type) ? NULL : "int2, int4, int8";
    case FROM_DUP:
    case FROM_RETAIN:
        return type == COLUMN_BOOL ? NULL : "bool";
    default:
        return NULL;
    }
}

// A constant or default: checked and copied. A fraction that libconfig has rounded to a double must
// not become the digits of a text or numeric.
static char *read_constant(const struct mapcolumn_reader *reader, const config_setting_t *group,
                           const char *name, enum column_type type)
{
    const config_setting_t *node = config_setting_get_member(group, name);
    char *text = node_scalar_text(reader->file, group, name);
    const char *error;
    if (!text)
        return NULL;
    bool fraction = config_setting_type(node) == CONFIG_TYPE_FLOAT;
    if (fraction && type != COLUMN_FLOAT4 && type != COLUMN_FLOAT8)
        node_problem(reader->file, node,
                     "%s of a column of type %s with a fraction stands in quotes", name,
                     column_type_name(type));
    else if (!mapping_check_constant(text, type, &error))
        node_problem(reader->file, node, "%s '%s' of a column of type %s: %s", name, text,
                     column_type_name(type), error);
    else
        return text;
    free(text);
    return NULL;
}

static void read_bounds(const struct mapcolumn_reader *reader, const config_setting_t *group,
                        struct field *field)
{
    field->has_min = node_real(reader->file, group, "min", &field->min);
    field->has_max = node_real(reader->file, group, "max", &field->max);
    if (field->has_min && field->has_max && field->min > field->max)
        node_problem(reader->file, config_setting_get_member(group, "min"),
                     "min is greater than max; nothing would be stored");
    if (!field->fallback || (!field->has_min && !field->has_max))
        return;
    double fallback = strtod(field->fallback, NULL);
    if ((field->has_min && fallback < field->min) || (field->has_max && fallback > field->max))
        node_problem(reader->file, config_setting_get_member(group, "default"),
                     "default is not between min and max");
}

// Complains where the member is there.
static void refuse(const struct mapcolumn_reader *reader, const config_setting_t *group,
                   const char *name, const char *why)
{
    const config_setting_t *node = config_setting_get_member(group, name);
    if (node)
        node_problem(reader->file, node, "%s %s", name, why);
}

static void read_unit(const struct mapcolumn_reader *reader, const config_setting_t *group,
                      enum column_type type, struct field *field)
{
    const char *unit = node_text(reader->file, group, "unit"), *why;
    if (!convert_type_is_number(type) || field->from == FROM_QOS) {
        refuse(reader, group, "unit", "is for columns of numbers that are measured");
        return;
    }
    if (!unit)
        return;
    struct unit_converter *converter = unit_converter_new(unit, &why);
    if (converter)
        field->unit = mem_strdup(unit);
    else
        node_problem(reader->file, config_setting_get_member(group, "unit"), "unit '%s': %s", unit,
                     why);
    unit_converter_free(converter);
}

static void read_options(const struct mapcolumn_reader *reader, const config_setting_t *group,
                         enum column_type type, struct field *field)
{
    if (field->required)
        refuse(reader, group, "default", "is never used, since the column is required");
    else
        field->fallback = read_constant(reader, group, "default", type);
    if (convert_type_is_number(type)) {
        read_bounds(reader, group, field);
    } else {
        refuse(reader, group, "min", "is for columns of numbers");
        refuse(reader, group, "max", "is for columns of numbers");
    }
    read_unit(reader, group, type, field);
    if (type == COLUMN_TIMESTAMPTZ)
        read_format(reader, group, field);
    else
        refuse(reader, group, "format", "is for columns of type timestamptz");
}

// type is NULL where it is not known.
static void read_source(const struct mapcolumn_reader *reader, const config_setting_t *group,
                        const enum column_type *type, struct field *field)
{
    const config_setting_t *from = config_setting_get_member(group, "from");
    field->from = FROM_VALUE; // the least restricted, where it cannot be read
    bool read = read_from(reader, group, field);
    if (!type)
        return;
    const char *fitting = read ? type_flaw(field->from, *type) : NULL;
    if (fitting)
        node_problem(reader->file, from, "from is '%s', which does not fit type %s; allowed: %s",
                     config_setting_get_string(from), column_type_name(*type), fitting);
    read_options(reader, group, *type, field);
}

static void read_fixed(const struct mapcolumn_reader *reader, const config_setting_t *group,
                       enum column_type type, struct field *field)
{
    static const char *const useless[] = {"default", "min", "max", "unit", "format", NULL};
    field->from = FROM_CONSTANT;
    field->constant = read_constant(reader, group, "value", type);
    for (const char *const *name = useless; *name; name++)
        refuse(reader, group, *name, "is of no use beside value");
}

static bool read_type(const struct mapcolumn_reader *reader, const config_setting_t *group,
                      enum column_type *type)
{
    const char *names[COLUMN_TYPE_COUNT + 1] = {NULL};
    for (int i = 0; i < COLUMN_TYPE_COUNT; i++)
        names[i] = column_type_name((enum column_type)i);
    int index;
    if (!config_setting_get_member(group, "type"))
        node_problem(reader->file, group, "type is missing");
    if (!node_word(reader->file, group, "type", names, &index))
        return false;
    *type = (enum column_type)index;
    return true;
}

// The column's name, checked; NULL after a problem.
static const char *read_name(const struct mapcolumn_reader *reader, const config_setting_t *group)
{
    static const char *const system[] = {"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid", NULL};
    const config_setting_t *node = config_setting_get_member(group, "name");
    const char *name = node_text_required(reader->file, group, "name");
    const struct target *target = &reader->mapping->target;
    if (!name)
        return NULL;
    const char *flaw = scalar_identifier_flaw(name);
    for (const char *const *word = system; *word && !flaw; word++)
        flaw = strcmp(*word, name) == 0 ? "is the name of a column of PostgreSQL's own" : NULL;
    if (strcmp(name, "time") == 0)
        flaw = "is there already; its source is set by the mapping's time = { ... }";
    for (size_t i = 1; i < target->column_count && !flaw; i++)
        flaw = strcmp(target->columns[i].name, name) == 0 ? "is given twice" : NULL;
    if (!flaw)
        return name;
    node_problem(reader->file, node, "column '%s' %s", name, flaw);
    return NULL;
}

void mapcolumn_read(const struct mapcolumn_reader *reader, const config_setting_t *group)
{
    struct target *target = &reader->mapping->target;
    bool from = config_setting_get_member(group, "from");
    bool value = config_setting_get_member(group, "value");
    struct target_column column = {.type = COLUMN_TEXT};
    struct field field = {.from = FROM_CONSTANT};
    node_allow(reader->file, group, column_keys);
    const char *name = read_name(reader, group);
    bool type_known = read_type(reader, group, &column.type);
    node_bool(reader->file, group, "required", &column.required);
    field.required = column.required;
    if (from == value)
        node_problem(reader->file, group,
                     from ? "a column has either from or value, not both" : "from is missing");
    else if (from)
        read_source(reader, group, type_known ? &column.type : NULL, &field);
    else if (type_known)
        read_fixed(reader, group, column.type, &field);
    column.name = mem_strdup(name ? name : "");
    target->columns[target->column_count] = column;
    reader->mapping->fields[target->column_count++] = field;
}

static void read_time_group(const struct mapcolumn_reader *reader, const config_setting_t *group,
                            struct field *field)
{
    struct mapping *mapping = reader->mapping;
    node_allow(reader->file, group, time_keys);
    node_duration(reader->file, group, "max_age", US_PER_SECOND, LIMIT_DAYS * US_PER_DAY,
                  &mapping->max_age_us);
    node_duration(reader->file, group, "max_ahead", 0, LIMIT_DAYS * US_PER_DAY,
                  &mapping->max_ahead_us);
    const config_setting_t *from = config_setting_get_member(group, "from");
    if (!from)
        node_problem(reader->file, group, "from is missing");
    field->from = FROM_VALUE;
    if (!from || !read_from(reader, group, field)) {
        read_format(reader, group, field);
        return;
    }
    switch (field->from) {
    case FROM_POINTER:
    case FROM_VALUE:
    case FROM_TOPIC_LEVEL:
    case FROM_PROPERTY:
    case FROM_RECEIVED_AT:
        read_format(reader, group, field);
        break;
    default:
        node_problem(reader->file, from,
                     "from is '%s', which gives no time; allowed: a JSON Pointer, "
                     "value, topic[N], property.NAME, received_at",
                     config_setting_get_string(from));
    }
}

void mapcolumn_read_time(const struct mapcolumn_reader *reader, const config_setting_t *mapping)
{
    struct target *target = &reader->mapping->target;
    struct field field = {.from = FROM_RECEIVED_AT, .required = true};
    reader->mapping->max_age_us = MAX_AGE_DAYS * US_PER_DAY;
    reader->mapping->max_ahead_us = MAX_AHEAD_DAYS * US_PER_DAY;
    const config_setting_t *group = node_group(reader->file, mapping, "time");
    if (group)
        read_time_group(reader, group, &field);
    target->columns[0] = (struct target_column){.name = mem_strdup("time"),
                                                .type = COLUMN_TIMESTAMPTZ,
                                                .required = true};
    reader->mapping->fields[0] = field;
    target->column_count = 1;
}
