// Messages into records and back.
#include "spool/spool_record.h"

#include <string.h>

#include "base/utf8.h"
#include "spool/spool_schema.h"

enum { FLAG_QOS = 3, FLAG_DUP = 4, FLAG_RETAIN = 8, FLAG_UNSURE = 16, FLAGS = 31 };

// ---- what an entry takes in the file ----

// SQLite's table leaves (https://www.sqlite.org/fileformat.html, 1.6): a row that fits into a page
// is there whole, of a longer one the rest is in pages of its own. Pages of rows of one size have a
// rest at their end in which no other fits: it is theirs too.
enum {
    PAGE = SPOOL_PAGE_SIZE,
    PAGE_ROOM = PAGE - 8,
    LOCAL_MAX = PAGE - 35,
    LOCAL_MIN = (PAGE - 12) * 32 / 255 - 23,
    SPILL_ROOM = PAGE - 4,
    ROW_BYTES = 48, // numbers, header of the record, pointer to the cell
};

static int64_t cost_of(size_t size)
{
    size += ROW_BYTES;
    if (size <= LOCAL_MAX)
        return (int64_t)(PAGE / (PAGE_ROOM / size));
    size_t pages = (size - LOCAL_MIN + SPILL_ROOM - 1) / SPILL_ROOM;
    size_t local = LOCAL_MIN + (size - LOCAL_MIN) % SPILL_ROOM;
    if (local > LOCAL_MAX)
        return (int64_t)(pages * PAGE + PAGE / (PAGE_ROOM / LOCAL_MIN));
    return (int64_t)((pages - 1) * PAGE + PAGE / (PAGE_ROOM / local));
}

// ---- properties: kind, lengths of name and value, both ----

static void write_properties(struct bytes_writer *w, const struct message *message)
{
    for (uint32_t i = 0; i < message->property_count; i++) {
        const struct message_property *property = &message->properties[i];
        size_t name_length = property->name ? property->name_length : 0;
        bytes_write_u8(w, (uint8_t)property->kind);
        bytes_write_u32(w, (uint32_t)name_length);
        bytes_write_u32(w, property->value_length);
        bytes_write(w, (struct bytes){(const uint8_t *)property->name, name_length});
        bytes_write(w, (struct bytes){(const uint8_t *)property->value, property->value_length});
    }
}

// As JSON has it: without zeros before it.
static bool is_decimal_u32(const char *digits, uint32_t length)
{
    uint64_t number = 0;
    if (length == 0 || length > strlen("4294967295") || (digits[0] == '0' && length > 1))
        return false;
    for (uint32_t i = 0; i < length; i++) {
        if (digits[i] < '0' || digits[i] > '9')
            return false;
        number = number * 10 + (uint64_t)(digits[i] - '0');
    }
    return number <= UINT32_MAX;
}

static bool value_valid(const struct message_property *property)
{
    const char *value = property->value;
    switch (property->kind) {
    case MESSAGE_CORRELATION_DATA:
        return true;
    case MESSAGE_PAYLOAD_FORMAT:
        return property->value_length == 1 && (*value == '0' || *value == '1');
    case MESSAGE_EXPIRY:
        return is_decimal_u32(value, property->value_length);
    default:
        return utf8_valid(value, property->value_length);
    }
}

static bool property_valid(const struct message_property *property)
{
    bool named = property->name ? utf8_valid(property->name, property->name_length)
                                : property->name_length == 0;
    return property->kind <= MESSAGE_EXPIRY && named && property->name_length <= UINT16_MAX &&
           property->value_length <= UINT16_MAX && value_valid(property);
}

static bool read_property(struct bytes_reader *r, struct message_property *property)
{
    uint8_t kind = bytes_read_u8(r);
    property->kind = (enum message_property_kind)kind;
    property->name_length = bytes_read_u32(r);
    property->value_length = bytes_read_u32(r);
    struct bytes name = bytes_read(r, property->name_length);
    property->value = (const char *)bytes_read(r, property->value_length).data;
    property->name = kind == MESSAGE_USER_PROPERTY ? (const char *)name.data : NULL;
    return !r->bad && property_valid(property);
}

static bool count_properties(struct bytes encoded, uint32_t *count)
{
    struct message_property property;
    struct bytes_reader r = bytes_reader(encoded);
    uint32_t found = 0;
    for (; bytes_left(&r) > 0; found++)
        if (!read_property(&r, &property))
            return false;
    *count = found;
    return true;
}

static bool read_properties(struct bytes encoded, struct arena *arena, struct message_parts *parts)
{
    if (!count_properties(encoded, &parts->property_count))
        return false;
    if (parts->property_count == 0)
        return true;
    struct message_property *properties =
        arena_alloc(arena, parts->property_count * sizeof *properties);
    struct bytes_reader r = bytes_reader(encoded);
    for (uint32_t i = 0; i < parts->property_count; i++)
        read_property(&r, &properties[i]);
    parts->properties = properties;
    return true;
}

// ---- messages into records ----

static struct bytes text(const char *text_or_null)
{
    return text_or_null ? bytes_of(text_or_null) : (struct bytes){0};
}

static struct bytes properties_to_be(const struct message *message)
{
    struct bytes_writer counter = bytes_counter();
    write_properties(&counter, message);
    return (struct bytes){.length = counter.length};
}

static uint32_t flags_of(const struct message *message, bool unsure)
{
    return (message->qos & (uint32_t)FLAG_QOS) | (message->dup ? FLAG_DUP : 0U) |
           (message->retain ? FLAG_RETAIN : 0U) | (unsure ? FLAG_UNSURE : 0U);
}

void spool_record_of(struct spool_record *record, const struct message *message, const char *only,
                     bool unsure)
{
    *record = (struct spool_record){
        .received_us = message->received_us,
        .session = message->session,
        .content = message->content,
        .packet_id = message->packet_id,
        .full_length = message->full_length,
        .flags = flags_of(message, unsure),
    };
    struct bytes *fields = record->fields;
    fields[SPOOL_ORIGIN] = text(message->origin);
    fields[SPOOL_ONLY] = text(only ? only : message->only);
    fields[SPOOL_TOPIC] = (struct bytes){(const uint8_t *)message->topic, message->topic_length};
    if (message->client_id)
        fields[SPOOL_CLIENT_ID] =
            (struct bytes){(const uint8_t *)message->client_id, message->client_id_length};
    fields[SPOOL_FLAW] = text(message->flaw);
    fields[SPOOL_FLAW_DETAIL] = text(message->flaw ? message->flaw_detail : NULL);
    fields[SPOOL_PROPERTIES] = properties_to_be(message);
    fields[SPOOL_PAYLOAD] = (struct bytes){message->payload, message->payload_length};
    record->cost = cost_of(spool_record_size(record));
}

size_t spool_record_size(const struct spool_record *record)
{
    size_t size = 0;
    for (size_t i = 0; i < SPOOL_FIELDS; i++)
        size += record->fields[i].length;
    return size;
}

void spool_record_copy(struct spool_record *record, const struct message *message, uint8_t *memory)
{
    for (size_t i = 0; i < SPOOL_FIELDS; i++) {
        struct bytes *field = &record->fields[i];
        if (i == SPOOL_PROPERTIES && field->length > 0) {
            struct bytes_writer writer = bytes_writer(memory, field->length);
            write_properties(&writer, message);
            field->data = memory;
        } else if (field->data) {
            if (field->length > 0)
                memcpy(memory, field->data, field->length);
            field->data = memory;
        }
        memory += field->length;
    }
}

// ---- and back ----

// A record may hold anything. What PostgreSQL would refuse must not reach it: each try would end
// alike, and nothing behind it would ever come out.
enum { ESCAPED_TOPIC_MAX = UINT16_MAX * 4 }; // of a PUBLISH that came with a flaw, as \xHH

static const int64_t time_max_us = INT64_MAX / 1000; // a clock counts nanoseconds

struct reading {
    const struct spool_record *record;
    struct arena *arena;
    struct spool_entry *entry;
    const char *damaged; // the columns, or NULL
};

static void note_damaged(struct reading *reading, const char *column)
{
    reading->damaged = reading->damaged
                           ? arena_printf(reading->arena, "%s, %s", reading->damaged, column)
                           : column;
}

// NULL where there is none, or none that is text.
static const char *read_text(struct reading *reading, enum spool_field which, const char *column)
{
    struct bytes field = reading->record->fields[which];
    if (!field.data)
        return NULL;
    if (utf8_valid(field.data, field.length))
        return arena_copy(reading->arena, field.data, field.length);
    note_damaged(reading, column);
    return NULL;
}

// A message has its flaw as static text. There are a few; another release's may be others.
static const char *keep_flaw(const char *flaw)
{
    enum { FLAWS_MAX = 32 };
    static char *flaws[FLAWS_MAX];
    if (!flaw)
        return NULL;
    for (size_t i = 0; i < FLAWS_MAX; i++) {
        if (!flaws[i])
            flaws[i] = mem_strdup(flaw);
        if (strcmp(flaws[i], flaw) == 0)
            return flaws[i];
    }
    return "flawed when it came";
}

// As the topic of a malformed PUBLISH is.
static struct bytes escape(struct arena *arena, struct bytes text)
{
    char *escaped = arena_alloc(arena, text.length * UTF8_ESCAPE);
    return (struct bytes){(const uint8_t *)escaped, utf8_escape(escaped, text.data, text.length)};
}

// After the flaw, with which it may be longer.
static void read_topic(struct reading *reading)
{
    struct message_parts *parts = &reading->entry->parts;
    struct bytes topic = reading->record->fields[SPOOL_TOPIC];
    bool valid = utf8_valid(topic.data, topic.length);
    if (!valid || topic.length > (parts->flaw ? ESCAPED_TOPIC_MAX : UINT16_MAX))
        note_damaged(reading, "topic");
    if (topic.length > ESCAPED_TOPIC_MAX) {
        topic.length = ESCAPED_TOPIC_MAX;
        valid = utf8_valid(topic.data, topic.length);
    }
    if (!valid)
        topic = escape(reading->arena, topic);
    parts->topic = (const char *)topic.data;
    parts->topic_length = (uint32_t)topic.length;
}

static void read_client_id(struct reading *reading)
{
    struct message_parts *parts = &reading->entry->parts;
    struct bytes id = reading->record->fields[SPOOL_CLIENT_ID];
    if (id.length > UINT16_MAX || !utf8_valid(id.data, id.length)) {
        note_damaged(reading, "client_id");
        return;
    }
    parts->client_id = (const char *)id.data;
    parts->client_id_length = (uint32_t)id.length;
}

static void read_texts(struct reading *reading)
{
    struct message_parts *parts = &reading->entry->parts;
    parts->origin = read_text(reading, SPOOL_ORIGIN, "origin");
    parts->only = read_text(reading, SPOOL_ONLY, "only_for");
    parts->flaw = keep_flaw(read_text(reading, SPOOL_FLAW, "flaw"));
    parts->flaw_detail = read_text(reading, SPOOL_FLAW_DETAIL, "flaw_detail");
    read_topic(reading);
    read_client_id(reading);
    if (!read_properties(reading->record->fields[SPOOL_PROPERTIES], reading->arena, parts))
        note_damaged(reading, "properties");
}

static void read_flags(struct reading *reading)
{
    const struct spool_record *record = reading->record;
    struct message_parts *parts = &reading->entry->parts;
    uint8_t qos = record->flags & FLAG_QOS;
    if (qos > 2 || record->flags > FLAGS)
        note_damaged(reading, "flags");
    parts->qos = qos <= 2 ? qos : 0;
    parts->dup = record->flags & FLAG_DUP;
    parts->retain = record->flags & FLAG_RETAIN;
    reading->entry->unsure = record->flags & FLAG_UNSURE;
}

static void read_numbers(struct reading *reading)
{
    const struct spool_record *record = reading->record;
    struct spool_entry *entry = reading->entry;
    struct message_parts *parts = &entry->parts;
    read_flags(reading);
    parts->received_us = record->received_us;
    if (record->received_us < 0 || record->received_us > time_max_us) {
        note_damaged(reading, "received_us");
        parts->received_us = 0; // now
    }
    parts->full_length = record->full_length;
    if (record->full_length > BYTES_VARINT_MAX) { // more than a packet of MQTT
        note_damaged(reading, "full_length");
        parts->full_length = parts->payload_length;
    }
    entry->session = record->session;
    entry->content = record->content;
    entry->packet_id = (uint16_t)record->packet_id;
    if (record->packet_id > UINT16_MAX || (record->session != 0 && record->packet_id == 0)) {
        note_damaged(reading, "packet_id");
        entry->session = entry->packet_id = 0;
    }
}

void spool_record_read(const struct spool_record *record, struct arena *arena,
                       struct spool_entry *entry)
{
    struct reading reading = {.record = record, .arena = arena, .entry = entry};
    struct message_parts *parts = &entry->parts;
    *entry = (struct spool_entry){.number = record->number};
    parts->entry = record->number;
    parts->entry_kind = MESSAGE_OF_SPOOL;
    parts->payload = record->fields[SPOOL_PAYLOAD].data;
    parts->payload_length = record->fields[SPOOL_PAYLOAD].length;
    read_texts(&reading);
    read_numbers(&reading);
    if (reading.damaged) {
        parts->flaw = "damaged in the spool";
        parts->flaw_detail = reading.damaged;
    }
}
