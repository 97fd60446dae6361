// Messages into records and back.
#include "spool/spool_record.h"

#include <string.h>

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

static bool read_property(struct bytes_reader *r, struct message_property *property)
{
    uint8_t kind = bytes_read_u8(r);
    property->kind = (enum message_property_kind)kind;
    property->name_length = bytes_read_u32(r);
    property->value_length = bytes_read_u32(r);
    struct bytes name = bytes_read(r, property->name_length);
    property->value = (const char *)bytes_read(r, property->value_length).data;
    property->name = kind == MESSAGE_USER_PROPERTY ? (const char *)name.data : NULL;
    return !r->bad && kind <= MESSAGE_EXPIRY;
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

static const char *read_text(struct arena *arena, struct bytes field)
{
    return field.data ? arena_copy(arena, field.data, field.length) : NULL;
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

static uint32_t length_of(struct bytes field)
{
    return field.length < UINT32_MAX ? (uint32_t)field.length : UINT32_MAX;
}

void spool_record_read(const struct spool_record *record, struct arena *arena,
                       struct spool_entry *entry)
{
    const struct bytes *fields = record->fields;
    uint8_t qos = record->flags & FLAG_QOS;
    *entry = (struct spool_entry){
        .number = record->number,
        .session = record->session,
        .content = record->content,
        .packet_id = record->packet_id,
        .unsure = record->flags & FLAG_UNSURE,
    };
    struct message_parts *parts = &entry->parts;
    *parts = (struct message_parts){
        .topic = (const char *)fields[SPOOL_TOPIC].data,
        .topic_length = length_of(fields[SPOOL_TOPIC]),
        .client_id = (const char *)fields[SPOOL_CLIENT_ID].data,
        .client_id_length = length_of(fields[SPOOL_CLIENT_ID]),
        .origin = read_text(arena, fields[SPOOL_ORIGIN]),
        .only = read_text(arena, fields[SPOOL_ONLY]),
        .received_us = record->received_us,
        .entry = record->number,
        .entry_kind = MESSAGE_OF_SPOOL,
        .payload = fields[SPOOL_PAYLOAD].data,
        .payload_length = fields[SPOOL_PAYLOAD].length,
        .full_length = record->full_length,
        .flaw = keep_flaw(read_text(arena, fields[SPOOL_FLAW])),
        .flaw_detail = read_text(arena, fields[SPOOL_FLAW_DETAIL]),
        .qos = qos <= 2 ? qos : 0,
        .dup = record->flags & FLAG_DUP,
        .retain = record->flags & FLAG_RETAIN,
    };
    bool good = read_properties(fields[SPOOL_PROPERTIES], arena, parts) && record->flags <= FLAGS &&
                qos <= 2 && parts->topic_length <= UINT16_MAX &&
                parts->client_id_length <= UINT16_MAX;
    if (!good)
        parts->flaw = "damaged in the spool";
}
