// A PUBLISH as the subscriber has it: what the codec reads, or what is wrong with it.
#include <stdio.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "mqtt/subscriber_internal.h"

// The topic as text for PostgreSQL: bytes that are none are written as \xHH.
static void topic_escape(struct subscriber *sub, struct bytes *topic)
{
    if (utf8_valid(topic->data, topic->length))
        return;
    sub->topic = mem_realloc(sub->topic, topic->length, UTF8_ESCAPE);
    size_t length = utf8_escape(sub->topic, topic->data, topic->length);
    *topic = (struct bytes){(const uint8_t *)sub->topic, length};
}

static void malformed(struct subscriber *sub, struct received *received, const char *text)
{
    received->flaw = "malformed PUBLISH";
    snprintf(received->detail, sizeof received->detail, "%s", text);
    if (log_limit_pass(&sub->flaw_limit, NULL))
        log_warn("%s: the broker breaks the protocol: a malformed PUBLISH, which is rejected: %s",
                 sub->source.name, text);
}

// What is there of the payload so far begins with the properties, which end behind it.
static void skip_properties(struct subscriber *sub, struct received *received)
{
    struct bytes *payload = &received->packet.publish.payload;
    struct bytes_reader r = bytes_reader(*payload);
    uint32_t length = bytes_read_varint(&r);
    uint64_t behind = received->full_length - (payload->length - bytes_left(&r));
    if (r.bad || length > behind) {
        malformed(sub, received, "a field runs past the end of the packet");
        return;
    }
    received->flaw = "properties too large";
    snprintf(received->detail, sizeof received->detail,
             "%u bytes, of which the first %zu were read; the payload behind them was not kept",
             length, bytes_left(&r));
    received->full_length = behind - length;
    payload->length = 0;
}

// MORE: the properties are not whole.
static enum packet_status parse(struct subscriber *sub, const struct packet_frame *frame,
                                struct bytes body, struct packet *packet,
                                struct packet_error *error)
{
    enum packet_status status =
        packet_parse_publish_start(frame, body, sub->version, PACKET_FROM_SERVER, packet, error);
    if (status != PACKET_OK || !property_has(&packet->properties, PROPERTY_TOPIC_ALIAS))
        return status;
    *error = (struct packet_error){REASON_TOPIC_ALIAS_INVALID, // [MQTT-3.3.2-11]
                                   "a topic alias, none are allowed"};
    return PACKET_MALFORMED;
}

static void payload_cut(const struct subscriber *sub, struct received *received)
{
    struct bytes *payload = &received->packet.publish.payload;
    size_t most = sub->options->max_payload;
    if (received->full_length > most && most > PAYLOAD_KEEP)
        most = PAYLOAD_KEEP;
    if (payload->length > most)
        payload->length = most;
}

bool subscriber_parse_publish(struct subscriber *sub, const struct packet_frame *frame,
                              struct bytes body, struct received *received)
{
    struct packet *packet = &received->packet;
    struct packet_error error = {REASON_MALFORMED_PACKET, "a PUBLISH without an end of its topic"};
    enum packet_status status = parse(sub, frame, body, packet, &error);
    received->flaw = NULL;
    if (status != PACKET_OK && !packet_salvage_publish(frame, body, sub->version, packet)) {
        subscriber_refuse(sub, error.reason, error.text);
        return false;
    }
    received->full_length = packet->publish.payload.length + (frame->body_length - body.length);
    if (status == PACKET_MALFORMED)
        malformed(sub, received, error.text);
    else if (status == PACKET_MORE)
        skip_properties(sub, received);
    if (received->flaw)
        topic_escape(sub, &packet->publish.topic);
    payload_cut(sub, received);
    return true;
}
