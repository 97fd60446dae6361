// What a PUBLISH becomes: a publication for the broker's own subscribers, a message for the
// mappings.
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "broker/client_internal.h"
#include "mqtt/message_properties.h"

// Those that go on to the subscribers as they came [MQTT-3.3.2-4, -15, -16, -17, -18, -20].
#define PASSED_ON                                                                                  \
    (PROPERTY_BIT(PROPERTY_PAYLOAD_FORMAT) | PROPERTY_BIT(PROPERTY_CONTENT_TYPE) |                 \
     PROPERTY_BIT(PROPERTY_RESPONSE_TOPIC) | PROPERTY_BIT(PROPERTY_CORRELATION_DATA) |             \
     PROPERTY_BIT(PROPERTY_USER))

// Encoded, without their length; valid until the next call. As they came where nothing is to be
// left out.
static struct bytes properties_passed(struct broker *broker, const struct property_set *set)
{
    struct property_set passed;
    if ((set->present & PASSED_ON) == 0)
        return (struct bytes){0};
    if ((set->present & ~PASSED_ON) == 0)
        return set->users;
    passed = *set;
    passed.present &= PASSED_ON;
    struct bytes_writer counter = bytes_counter();
    property_write(&counter, &passed);
    while (broker->scratch_capacity < counter.length)
        broker->scratch =
            mem_grow(broker->scratch, broker->scratch_capacity, &broker->scratch_capacity, 1);
    struct bytes_writer writer = bytes_writer(broker->scratch, broker->scratch_capacity);
    property_write(&writer, &passed);
    struct bytes_reader reader = bytes_reader((struct bytes){broker->scratch, writer.length});
    bytes_read_varint(&reader);
    return bytes_read(&reader, bytes_left(&reader));
}

static int64_t expires_ms(const struct property_set *set)
{
    if (!property_has(set, PROPERTY_MESSAGE_EXPIRY))
        return INT64_MAX;
    return loop_now_ms() + (int64_t)set->message_expiry * 1000;
}

static struct publication *publication_of(struct client *client, struct publication_parts *parts,
                                          const struct property_set *set)
{
    parts->properties = properties_passed(client->broker, set);
    parts->publisher = client->session->id;
    parts->received_us = loop_wall_us();
    parts->expires_ms = expires_ms(set);
    return publication_new(&client->broker->memory, parts);
}

struct publication *client_publication(struct client *client, const struct arrival *arrival)
{
    const struct packet_publish *publish = &arrival->packet->publish;
    struct publication_parts parts = {.topic = arrival->topic,
                                      .payload = publish->payload,
                                      .qos = publish->qos,
                                      .retain = publish->retain};
    return publication_of(client, &parts, &arrival->packet->properties);
}

struct publication *client_will(struct client *client, const struct packet_will *will)
{
    struct publication_parts parts = {.topic = will->topic,
                                      .payload = will->payload,
                                      .qos = will->qos,
                                      .retain = will->retain};
    return publication_of(client, &parts, &will->properties);
}

static struct message *message_of(struct broker *broker, const char *client_id, struct bytes topic,
                                  const struct packet_publish *publish,
                                  const struct property_set *set)
{
    struct message_parts parts = {
        .topic = (const char *)topic.data,
        .topic_length = (uint32_t)topic.length,
        .client_id = client_id,
        .client_id_length = (uint32_t)strlen(client_id),
        .payload = publish->payload.data,
        .payload_length = publish->payload.length,
        .full_length = publish->payload.length,
        .qos = publish->qos,
        .dup = publish->dup,
        .retain = false, // it is no retained copy, but one that is to be retained [MQTT-3.3.1-12]
    };
    if (set->present) {
        parts.property_count = message_properties_take(&broker->properties, set);
        parts.properties = broker->properties.items;
    }
    return message_new(&broker->source, broker->budget, &parts);
}

struct message *client_message(struct client *client, const struct arrival *arrival,
                               uint64_t ticket)
{
    const struct packet *packet = arrival->packet;
    struct message *message = message_of(client->broker, client->session->client_id, arrival->topic,
                                         &packet->publish, &packet->properties);
    message->ticket = ticket;
    message->generation = client->id;
    return message;
}

// Reads encoded properties back; what they point into is the caller's to free.
static uint8_t *properties_read(struct bytes encoded, struct property_set *set)
{
    struct packet_error error;
    size_t size = encoded.length + BYTES_VARINT_SIZE_MAX;
    uint8_t *block = mem_alloc(size);
    struct bytes_writer writer = bytes_writer(block, size);
    bytes_write_varint(&writer, encoded.length);
    bytes_write(&writer, encoded);
    struct bytes_reader reader = bytes_reader((struct bytes){block, writer.length});
    if (!property_parse(&reader, PACKET_PUBLISH, PACKET_FROM_CLIENT, set, &error))
        set->present = 0;
    return block;
}

void client_publish_will(struct broker *broker, const char *client_id,
                         const struct publication *will)
{
    struct packet_publish publish = {.payload = will->payload,
                                     .qos = will->qos,
                                     .retain = will->retain};
    struct property_set set;
    if (broker->quiet ||
        !broker->calls.wants(broker->calls.arg, (const char *)will->topic.data, will->topic.length))
        return;
    uint8_t *block = properties_read(will->properties, &set);
    struct message *message = message_of(broker, client_id, will->topic, &publish, &set);
    free(block);
    broker->calls.message(broker->calls.arg, message);
}
