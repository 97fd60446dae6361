// A mapping compiled for decoding: what is known before the first message comes is done before it.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "core/topic.h"
#include "pipeline/convert.h"
#include "pipeline/json.h"
#include "pipeline/pipeline.h"
#include "pipeline/text.h"
#include "pipeline/units.h"

// Nobody's reading is older than this; a clock that was never set is.
#define YEAR_2000_US INT64_C(946684800000000)

struct plan_column {
    const struct field *field;
    const char *name;
    struct convert convert;
    struct value preset; // the constant, or the default
    bool has_preset, required;
    int slot; // of FROM_POINTER, and FROM_VALUE of json
};

struct plan {
    const struct mapping *mapping;
    struct plan_column *columns;
    size_t count;
    struct json_paths *paths; // of json
    struct datum *slots;
    bool takes_value, takes_unit;
    struct arena presets;
};

// One message while it is decoded.
struct decoding {
    const struct plan *plan;
    const struct message *message;
    const char *text; // the payload, trimmed
    size_t length;
    struct reading reading; // where has_reading
    bool has_reading;
};

// Sources of a known kind go into columns of a kind that can take them; all others are seen as
// messages come.
static bool source_fits(enum value_source from, enum column_type type)
{
    switch (from) {
    case FROM_RECEIVED_AT:
        return type == COLUMN_TIMESTAMPTZ || type == COLUMN_TEXT;
    case FROM_QOS:
        return convert_type_is_number(type) || type == COLUMN_TEXT || type == COLUMN_JSONB;
    case FROM_DUP:
    case FROM_RETAIN:
        return type == COLUMN_BOOL || type == COLUMN_TEXT || type == COLUMN_JSONB;
    default:
        return true;
    }
}

static bool check_field(const struct field *field, enum column_type type,
                        struct decode_error *error)
{
    char from[DECODE_SAMPLE];

    if (!source_fits(field->from, type))
        return decode_fail(error, "wrong kind of value", "%s does not go into %s",
                           mapping_from_text(field, from, sizeof from), column_type_name(type));
    if (convert_type_is_number(type))
        return true;
    if (field->unit)
        return decode_fail(error, "unit without number", "a column of type %s has no unit",
                           column_type_name(type));
    if (field->has_min || field->has_max)
        return decode_fail(error, "bound without number", "a column of type %s has no min or max",
                           column_type_name(type));
    return true;
}

// Constants and defaults write times as RFC 3339 whatever the format of the payload.
static bool set_preset(struct plan *plan, struct plan_column *column, const char *text,
                       struct decode_error *error)
{
    struct convert convert;
    bool good;

    convert_init(&convert, column->convert.type, TIME_RFC3339);
    text = arena_copy(&plan->presets, text, strlen(text));
    good = convert_text(&convert, text, &plan->presets, &column->preset, error);
    convert_fini(&convert);
    column->has_preset = good;
    return good;
}

static bool set_slot(struct plan *plan, struct plan_column *column, struct decode_error *error)
{
    const struct field *field = column->field;

    if (!plan->paths || (field->from != FROM_POINTER && field->from != FROM_VALUE))
        return true;
    column->slot = json_paths_add(plan->paths, field->from == FROM_POINTER ? field->name : "");
    return column->slot >= 0 || decode_fail(error, "not a JSON Pointer", "'%s'", field->name);
}

static bool set_unit(struct plan_column *column, struct decode_error *error)
{
    const char *why;

    if (!column->field->unit)
        return true;
    column->convert.unit = unit_converter_new(column->field->unit, &why);
    return column->convert.unit ||
           decode_fail(error, "unknown unit", "'%s': %s", column->field->unit, why);
}

static bool compile_column(struct plan *plan, struct plan_column *column,
                           struct decode_error *error)
{
    const struct field *field = column->field;

    if (field->has_min)
        convert_set_min(&column->convert, field->min);
    if (field->has_max)
        convert_set_max(&column->convert, field->max);
    column->convert.unit_kept = plan->takes_unit;
    if (!check_field(field, column->convert.type, error) || !set_slot(plan, column, error) ||
        !set_unit(column, error))
        return false;
    if (field->from == FROM_CONSTANT)
        return set_preset(plan, column, field->constant, error);
    return !field->fallback || set_preset(plan, column, field->fallback, error);
}

static void init_columns(struct plan *plan)
{
    for (size_t i = 0; i < plan->count; i++) {
        const struct target_column *target = &plan->mapping->target.columns[i];
        const struct field *field = &plan->mapping->fields[i];
        struct plan_column *column = &plan->columns[i];

        column->field = field;
        column->name = target->name;
        column->required = field->required || target->required;
        convert_init(&column->convert, target->type, field->format);
        plan->takes_value |= field->from == FROM_VALUE;
        plan->takes_unit |= field->from == FROM_UNIT;
    }
}

struct plan *plan_new(const struct mapping *mapping, struct decode_error *error)
{
    struct plan *plan = mem_zalloc(sizeof *plan);

    plan->mapping = mapping;
    plan->count = mapping->target.column_count;
    plan->columns = mem_zalloc(plan->count * sizeof *plan->columns);
    arena_init(&plan->presets);
    if (mapping->decoder == DECODER_JSON)
        plan->paths = json_paths_new();
    init_columns(plan);
    for (size_t i = 0; i < plan->count; i++) {
        if (!compile_column(plan, &plan->columns[i], error)) {
            decode_error_locate(error, plan->columns[i].name);
            plan_free(plan);
            return NULL;
        }
    }
    if (plan->paths)
        plan->slots = mem_zalloc(json_paths_count(plan->paths) * sizeof *plan->slots);
    return plan;
}

void plan_free(struct plan *plan)
{
    if (!plan)
        return;
    for (size_t i = 0; i < plan->count; i++)
        convert_fini(&plan->columns[i].convert);
    free(plan->columns);
    json_paths_free(plan->paths);
    free(plan->slots);
    arena_fini(&plan->presets);
    free(plan);
}

static bool open_json(struct plan *plan, const struct decoding *d, struct decode_error *error)
{
    struct json_error json;
    if (json_read(plan->paths, d->text, d->length, plan->slots, &json))
        return true;
    return decode_fail(error, "not JSON", "byte %zu: %s", json.offset, json.what);
}

static bool open_text(struct decoding *d, struct decode_error *error)
{
    struct decode_error ignored;

    text_trim(&d->text, &d->length);
    if (d->length == 0 && d->plan->takes_value)
        return decode_fail(error, "empty payload", "there is no value in it");
    if (d->plan->takes_unit)
        d->has_reading = text_read(d->text, d->length, &d->reading, &ignored);
    return true;
}

// With the unit in a column of its own the value is the number alone.
static struct datum text_value(const struct decoding *d, const struct plan_column *column)
{
    struct datum datum = {.kind = DATUM_TEXT, .text = d->text, .length = (uint32_t)d->length};
    if (d->has_reading && column->convert.type == COLUMN_TEXT)
        datum.length = d->reading.number.length;
    return datum;
}

static struct datum text_unit(const struct decoding *d)
{
    if (!d->has_reading || d->reading.unit_length == 0)
        return (struct datum){.kind = DATUM_MISSING};
    return (struct datum){.kind = DATUM_TEXT,
                          .text = d->reading.unit,
                          .length = d->reading.unit_length};
}

static struct datum topic_level_datum(const struct message *message, unsigned index)
{
    const char *level;
    size_t length;
    if (!topic_level(message->topic, message->topic_length, index, &level, &length))
        return (struct datum){.kind = DATUM_MISSING};
    return (struct datum){.kind = DATUM_TEXT, .text = level, .length = (uint32_t)length};
}

static bool is_property(const struct message_property *property, const char *name, size_t length)
{
    return property->kind == MESSAGE_USER_PROPERTY && property->name_length == length &&
           memcmp(property->name, name, length) == 0;
}

// MQTT 5 allows a name to come twice, but then it says nothing of which one counts.
static bool property_datum(const struct message *message, const char *name, struct datum *datum,
                           struct decode_error *error)
{
    size_t length = strlen(name);

    datum->kind = DATUM_MISSING;
    for (uint32_t i = 0; i < message->property_count; i++) {
        const struct message_property *property = &message->properties[i];
        if (!is_property(property, name, length))
            continue;
        if (datum->kind != DATUM_MISSING)
            return decode_fail(error, "ambiguous property", "it was sent twice");
        *datum = (struct datum){.kind = DATUM_TEXT,
                                .text = property->value,
                                .length = property->value_length};
    }
    return true;
}

static bool fetch(const struct decoding *d, const struct plan_column *column, struct datum *datum,
                  struct decode_error *error)
{
    const struct message *message = d->message;

    switch (column->field->from) {
    case FROM_CONSTANT:
        *datum = (struct datum){.kind = DATUM_MISSING};
        return true;
    case FROM_TOPIC:
        *datum = (struct datum){.kind = DATUM_TEXT,
                                .text = message->topic,
                                .length = message->topic_length};
        return true;
    case FROM_TOPIC_LEVEL:
        *datum = topic_level_datum(message, column->field->level);
        return true;
    case FROM_VALUE:
    case FROM_POINTER:
        *datum = d->plan->paths ? d->plan->slots[column->slot] : text_value(d, column);
        return true;
    case FROM_UNIT:
        *datum = text_unit(d);
        return true;
    case FROM_PAYLOAD:
        *datum = (struct datum){.kind = DATUM_BYTES,
                                .text = (const char *)message->payload,
                                .length = (uint32_t)message->payload_length};
        return true;
    case FROM_RECEIVED_AT:
        *datum = (struct datum){.kind = DATUM_TIME, .integer = message->received_us};
        return true;
    case FROM_QOS:
        datum->kind = DATUM_NUMBER;
        datum->flags = 0;
        number_read(&"012"[message->qos % 3], 1, &datum -> number);
        return true;
    case FROM_DUP:
        *datum = (struct datum){.kind = DATUM_BOOL, .integer = message->dup};
        return true;
    case FROM_RETAIN:
        *datum = (struct datum){.kind = DATUM_BOOL, .integer = message->retain};
        return true;
    case FROM_CLIENT_ID:
        *datum = (struct datum){.kind = message->client_id ? DATUM_TEXT : DATUM_MISSING,
                                .text = message->client_id,
                                .length = message->client_id_length};
        return true;
    case FROM_PROPERTY:
        return property_datum(message, column->field->name, datum, error);
    }
    return decode_fail(error, "missing value", "the column has no source");
}

static bool decode_column(const struct decoding *d, const struct plan_column *column,
                          struct arena *arena, struct value *value, struct decode_error *error)
{
    char from[DECODE_SAMPLE];
    struct datum datum;

    if (!fetch(d, column, &datum, error))
        return false;
    if (datum.kind > DATUM_NULL)
        return convert_value(&column->convert, &datum, arena, value, error);
    if (column->has_preset) {
        *value = column->preset;
        return true;
    }
    if (column->required)
        return decode_fail(error, "missing value", "%s is %s",
                           mapping_from_text(column->field, from, sizeof from),
                           datum.kind == DATUM_NULL ? "null" : "not there");
    *value = (struct value){.null = true};
    return true;
}

// Saturating, for max_age and max_ahead may be as long as anything.
static int64_t shift(int64_t time_us, int64_t by_us)
{
    int64_t sum;
    if (__builtin_add_overflow(time_us, by_us, &sum))
        return by_us < 0 ? INT64_MIN : INT64_MAX;
    return sum;
}

// A partition is made for whatever time a row has, so it has to be a sane one. The time of arrival
// is not the sensor's: it is only held to be later than 2000.
static bool check_time(const struct plan *plan, int64_t time_us, int64_t now_us,
                       struct decode_error *error)
{
    const struct mapping *mapping = plan->mapping;
    bool arrival = mapping->fields[0].from == FROM_RECEIVED_AT;
    int64_t first = arrival ? INT64_MIN : shift(now_us, -mapping->max_age_us);
    int64_t last = arrival ? TIME_MAX_US : shift(now_us, mapping->max_ahead_us);
    char time[TIME_TEXT], bound[TIME_TEXT];

    if (first < YEAR_2000_US)
        first = YEAR_2000_US;
    if (time_us < first)
        return decode_fail(error, "time out of bounds", "%s is before %s", time_text(time_us, time),
                           time_text(first, bound));
    if (time_us > last)
        return decode_fail(error, "time out of bounds", "%s is after %s", time_text(time_us, time),
                           time_text(last, bound));
    return true;
}

bool plan_decode(struct plan *plan, const struct message *message, int64_t now_us,
                 struct arena *arena, struct value *values, struct decode_error *error)
{
    struct decoding d = {
        .plan = plan,
        .message = message,
        .text = message->payload ? (const char *)message->payload : "",
        .length = message->payload_length,
    };
    size_t i;

    if (!(plan->paths ? open_json(plan, &d, error) : open_text(&d, error)))
        return false;
    for (i = 0; i < plan->count; i++) {
        if (!decode_column(&d, &plan->columns[i], arena, &values[i], error) ||
            (i == 0 && !check_time(plan, values[0].integer, now_us, error))) {
            decode_error_locate(error, plan->columns[i].name);
            return false;
        }
    }
    return true;
}
