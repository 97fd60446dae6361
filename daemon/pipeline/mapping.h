// A mapping: which topics, how the payload is decoded, and what goes into which column.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/message.h"
#include "core/row.h"
#include "pipeline/time.h"
#include "store/target.h"

enum decoder_kind { DECODER_TEXT, DECODER_JSON };

// What a column's value is taken from.
enum value_source {
    FROM_CONSTANT,
    FROM_TOPIC,
    FROM_TOPIC_LEVEL, // topic[N]
    FROM_VALUE,       // text: the number, or the text; json: the whole document
    FROM_UNIT,        // text: the unit as it was sent
    FROM_POINTER,     // json: an RFC 6901 pointer, "/a/b/0"
    FROM_PAYLOAD,     // the bytes as they came
    FROM_RECEIVED_AT,
    FROM_QOS,
    FROM_DUP,
    FROM_RETAIN,
    FROM_CLIENT_ID,
    FROM_PROPERTY, // property.NAME, an MQTT 5 user property
};

// Filled by the configuration; names and texts are owned by it. Column i of target.columns has
// field i; field 0 is the time (FROM_RECEIVED_AT, or FROM_POINTER/FROM_VALUE/FROM_PROPERTY/... with
// a format).
struct field {
    enum value_source from;
    char *name;     // of FROM_POINTER: the pointer; FROM_PROPERTY: the property
    unsigned level; // of FROM_TOPIC_LEVEL
    char *constant; // of FROM_CONSTANT: as text, already checked against the column's type
    char *fallback; // "default": as text, already checked against the column's type; or NULL
    bool required;  // missing or null is a reject
    bool has_min, has_max;
    double min, max;         // inclusive
    char *unit;              // udunits2 name of the column's unit, or NULL
    enum time_format format; // of timestamptz columns that come from payload, topic or property
};

struct mapping {
    char *name;
    char *filter; // as configured; may be $share/NAME/FILTER
    enum decoder_kind decoder;
    char **sources; // names of the sources it takes messages from; NULL: all
    size_t source_count;
    int8_t qos;    // of the subscription; -1: the subscriber's default
    bool retained; // "retained = true": store retained copies sent on (re)subscription too
    uint32_t subscription_id;         // 1 + index of the first mapping that has the same filter
    int64_t max_age_us, max_ahead_us; // a time further from the clock than this is a reject
    struct field *fields;             // target.column_count of them
    struct target target;
    // Where it stands, for messages: "file:line".
    char *where;
};

// Frees every string and array, those of target too; target.mapping may be name itself,
// target.stopped is the store's.
void mapping_fini(struct mapping *mapping);
// Whether both say the same; where they stand, indexes and identifiers do not count.
bool mapping_same(const struct mapping *a, const struct mapping *b);
// Parses "topic[2]", "/a/b", "property.x", ...; fills from, name, level. False with *error set
// (static text) where it is none of them, or the decoder does not give it.
bool mapping_parse_from(const char *text, enum decoder_kind decoder, struct field *field,
                        const char **error);
// Checks a constant or default against type (and time format); *error is static text.
bool mapping_check_constant(const char *text, enum column_type type, const char **error);
// Names as the configuration has them.
const char *mapping_from_text(const struct field *field, char *buffer, size_t size);
