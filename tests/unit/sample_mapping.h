// Mappings for tests, from short lines; freed by mapping_fini.
#pragma once

#include <stdlib.h>

#include "base/mem.h"
#include "pipeline/mapping.h"

// One column; NULL and false where nothing is said. constant and from exclude each other.
struct sample_column {
    const char *name, *type, *from, *constant, *fallback, *unit, *format;
    double min, max; // both 0: none
    bool required;
};

static inline char *sample_copy(const char *text)
{
    return text ? mem_strdup(text) : NULL;
}

static inline void sample_set_column(struct mapping *mapping, size_t i,
                                     const struct sample_column *column)
{
    struct target_column *target = &mapping->target.columns[i];
    struct field *field = &mapping->fields[i];
    const char *error;

    *target = (struct target_column){.name = mem_strdup(column->name)};
    *field = (struct field){
        .constant = sample_copy(column->constant),
        .fallback = sample_copy(column->fallback),
        .unit = sample_copy(column->unit),
        .required = column->required,
        .min = column->min,
        .max = column->max,
    };
    field->has_min = field->has_max = column->min != 0 || column->max != 0;
    if (!column_type_parse(column->type, &target->type) ||
        (column->from && !mapping_parse_from(column->from, mapping->decoder, field, &error)) ||
        (column->format && !time_format_parse(column->format, &field->format)))
        abort();
    if (!column->from)
        field->from = FROM_CONSTANT;
}

// columns end with one that has no name; the first is the time.
static inline void sample_mapping(struct mapping *mapping, const char *filter,
                                  enum decoder_kind decoder, const struct sample_column *columns)
{
    size_t count = 0;
    while (columns[count].name)
        count++;
    *mapping = (struct mapping){
        .name = mem_strdup("sample"),
        .where = mem_strdup("sample.cfg:1"),
        .filter = mem_strdup(filter),
        .decoder = decoder,
        .qos = -1,
        .max_age_us = INT64_MAX,
        .max_ahead_us = INT64_C(86400) * 1000000,
        .fields = mem_zalloc(count * sizeof(struct field)),
        .target = {.schema = mem_strdup("public"),
                   .table = mem_strdup("sample"),
                   .columns = mem_zalloc(count * sizeof(struct target_column)),
                   .column_count = count},
    };
    mapping->target.mapping = mapping->name;
    for (size_t i = 0; i < count; i++)
        sample_set_column(mapping, i, &columns[i]);
    mapping->target.columns[0].required = true;
}
