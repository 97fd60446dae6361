// PUBLISH packets are put together by hand: most of what a broker does is this.
#include "broker/client_send.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/list.h"
#include "base/mem.h"

enum {
    PIECE = 2048,        // a packet of up to so many bytes is written in one piece
    ALIAS_PROPERTY = 3,  // bytes that the alias takes
    ALIAS_TOPIC_MIN = 8, // a shorter topic gains nothing worth an alias
    EXPIRY_PROPERTY = 5,
};

// ---- topic aliases: the first topics that come get one, for as long as the connection stands ----

struct alias {
    char *topic; // NULL: the place is free
    uint32_t hash;
    uint16_t length, number;
};

struct alias_table {
    struct budget *budget;
    size_t charged; // bytes of the budget
    uint64_t seed;
    uint32_t mask;
    uint16_t count;
    struct alias places[]; // a power of two of them, at most half in use
};

// Where the topic is, or could be put.
static struct alias *alias_place(struct alias_table *table, struct bytes topic, uint32_t hash)
{
    uint32_t at = hash & table->mask;
    for (;; at = (at + 1) & table->mask) {
        struct alias *place = &table->places[at];
        if (!place->topic || (place->hash == hash && place->length == topic.length &&
                              memcmp(place->topic, topic.data, topic.length) == 0))
            return place;
    }
}

static void charge(struct alias_table *table, size_t bytes)
{
    table->charged += bytes;
    budget_take(table->budget, bytes);
}

static struct alias_table *alias_table_new(struct budget *budget, uint16_t alias_max)
{
    uint32_t size = 4;
    while (size < 2 * (uint32_t)alias_max)
        size *= 2;
    size_t bytes = sizeof(struct alias_table) + size * sizeof(struct alias);
    struct alias_table *table = mem_zalloc(bytes);
    table->budget = budget;
    table->seed = hash_seed();
    table->mask = size - 1;
    charge(table, bytes);
    return table;
}

static void alias_table_free(struct alias_table *table)
{
    if (!table)
        return;
    for (uint32_t i = 0; i <= table->mask; i++)
        free(table->places[i].topic);
    budget_give(table->budget, table->charged);
    free(table);
}

// What the topic goes by on this connection; NULL: by its name alone. Without a topic of its own it
// is a free place, to be taken if the packet is sent.
static struct alias *alias_of(struct client_send *send, struct bytes topic)
{
    if (send->alias_max == 0 || topic.length < ALIAS_TOPIC_MIN)
        return NULL;
    if (!send->aliases)
        send->aliases = alias_table_new(send->sessions->budget, send->alias_max);
    struct alias_table *table = send->aliases;
    uint32_t hash = hash_bytes(table->seed, topic.data, topic.length);
    struct alias *alias = alias_place(table, topic, hash);
    if (alias->topic)
        return alias;
    if (table->count == send->alias_max)
        return NULL;
    alias->hash = hash;
    alias->number = (uint16_t)(table->count + 1);
    return alias;
}

static void alias_take(struct alias_table *table, struct alias *alias, struct bytes topic)
{
    alias->topic = mem_strndup((const char *)topic.data, topic.length);
    alias->length = (uint16_t)topic.length;
    table->count++;
    charge(table, topic.length + 1);
}

// ---- PUBLISH ----

// What goes into the packet besides what the publication has.
struct shape {
    struct bytes topic;
    uint16_t alias; // 0: none
    bool expires;
    uint32_t expiry;         // seconds that are left
    size_t properties, body; // lengths
};

static size_t varint_size(size_t value)
{
    return value < 1 << 7 ? 1 : value < 1 << 14 ? 2 : value < 1 << 21 ? 3 : 4;
}

static size_t ids_size(const struct delivery *delivery)
{
    size_t size = 0;
    for (uint16_t i = 0; i < delivery->id_count; i++)
        size += 1 + varint_size(delivery->ids[i]);
    return size;
}

static size_t packet_length(const struct shape *shape)
{
    return 1 + varint_size(shape->body) + shape->body;
}

// What has been waited counts from the interval, in whole seconds [MQTT-3.3.2-6].
static uint32_t expiry_left(int64_t expires_ms)
{
    int64_t left_ms = expires_ms - loop_now_ms();
    int64_t seconds = left_ms > 0 ? (left_ms + 999) / 1000 : 0;
    return seconds < UINT32_MAX ? (uint32_t)seconds : UINT32_MAX;
}

static struct shape shape_of(const struct client_send *send, const struct delivery *delivery,
                             const struct alias *alias)
{
    const struct publication *publication = delivery->publication;
    struct shape shape = {.topic = publication->topic};
    if (alias) {
        shape.alias = alias->number;
        shape.topic.length = alias->topic ? 0 : shape.topic.length;
    }
    shape.body = 2 + shape.topic.length + (delivery->qos > 0 ? 2 : 0) + publication->payload.length;
    if (send->version == PACKET_V5) {
        shape.expires = publication->expires_ms != INT64_MAX;
        shape.expiry = shape.expires ? expiry_left(publication->expires_ms) : 0;
        shape.properties = publication->properties.length + ids_size(delivery) +
                           (shape.alias ? ALIAS_PROPERTY : 0) +
                           (shape.expires ? EXPIRY_PROPERTY : 0);
        shape.body += varint_size(shape.properties) + shape.properties;
    }
    return shape;
}

static void write_properties(struct bytes_writer *w, const struct delivery *delivery,
                             const struct shape *shape)
{
    bytes_write_varint(w, shape->properties);
    if (shape->expires) {
        bytes_write_u8(w, PROPERTY_MESSAGE_EXPIRY);
        bytes_write_u32(w, shape->expiry);
    }
    if (shape->alias) {
        bytes_write_u8(w, PROPERTY_TOPIC_ALIAS);
        bytes_write_u16(w, shape->alias);
    }
    for (uint16_t i = 0; i < delivery->id_count; i++)
        property_write_subscription_id(w, delivery->ids[i]);
    bytes_write(w, delivery->publication->properties);
}

// All but the payload.
static void write_head(struct bytes_writer *w, uint8_t version, const struct delivery *delivery,
                       const struct shape *shape)
{
    bytes_write_u8(w, (uint8_t)(PACKET_PUBLISH << 4 | delivery->dup << 3 | delivery->qos << 1 |
                                delivery->retain));
    bytes_write_varint(w, shape->body);
    bytes_write_counted(w, shape->topic);
    if (delivery->qos > 0)
        bytes_write_u16(w, delivery->packet_id);
    if (version == PACKET_V5)
        write_properties(w, delivery, shape);
}

static void write_packet(const struct client_send *send, const struct delivery *delivery,
                         const struct shape *shape)
{
    struct bytes payload = delivery->publication->payload;
    size_t length = packet_length(shape), head = length - payload.length;
    uint8_t piece[PIECE];
    uint8_t *large = head > sizeof piece ? mem_alloc(head) : NULL;
    struct bytes_writer w = bytes_writer(large ? large : piece, large ? head : sizeof piece);
    write_head(&w, send->version, delivery, shape);
    if (length <= sizeof piece)
        bytes_write(&w, payload);
    conn_write(send->conn, (struct bytes){w.data, w.length});
    if (length > sizeof piece)
        conn_write(send->conn, payload);
    free(large);
}

static bool send_publish(struct sink *sink, const struct delivery *delivery)
{
    struct client_send *send = list_entry(sink, struct client_send, sink);
    struct bytes topic = delivery->publication->topic;
    struct alias *alias = alias_of(send, topic);
    struct shape shape = shape_of(send, delivery, alias);
    if (alias && !alias->topic && packet_length(&shape) > send->packet_max) {
        alias = NULL;
        shape = shape_of(send, delivery, NULL);
    }
    if (packet_length(&shape) > send->packet_max || shape.body > BYTES_VARINT_MAX)
        return false; // [MQTT-3.1.2-24], [MQTT-3.1.2-25]
    write_packet(send, delivery, &shape);
    if (alias && !alias->topic)
        alias_take(send->aliases, alias, topic);
    send->sessions->counters.sent++;
    send->sessions->counters.sent_bytes += packet_length(&shape);
    return true;
}

static void send_pubrel(struct sink *sink, uint16_t packet_id)
{
    struct client_send *send = list_entry(sink, struct client_send, sink);
    uint8_t bytes[PACKET_ACK_MAX];
    struct bytes_writer w = bytes_writer(bytes, sizeof bytes);
    packet_write_ack(&w, PACKET_PUBREL, send->version, packet_id, REASON_SUCCESS);
    conn_write(send->conn, (struct bytes){w.data, w.length});
}

static bool send_ready(struct sink *sink)
{
    const struct client_send *send = list_entry(sink, struct client_send, sink);
    return conn_unsent(send->conn) < send->unsent_max;
}

void client_send_init(struct client_send *send)
{
    static const struct sink_calls calls = {send_publish, send_pubrel, send_ready};
    send->sink.calls = &calls;
    send->aliases = NULL;
}

void client_send_fini(struct client_send *send)
{
    alias_table_free(send->aliases);
    send->aliases = NULL;
}
