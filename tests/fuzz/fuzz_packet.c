// Any bytes as packets of both versions from both sides: what is taken reads the same when written.
#include <stdlib.h>

#include "../unit/packet_equal.h"
#include "mqtt/packet.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

static bool parse_whole(struct bytes input, uint8_t version, enum packet_sender from,
                        struct packet *packet)
{
    struct packet_frame frame;
    struct packet_error error = {0, NULL};
    enum packet_status status = packet_frame(input, &frame, &error);
    if (status == PACKET_MALFORMED)
        check(error.reason >= 0x80 && error.text);
    if (status != PACKET_OK || input.length - frame.header_length < frame.body_length)
        return false;
    const uint8_t *body = input.data + frame.header_length;
    bool ok = packet_parse(&frame, body, version, from, packet, &error);
    check(ok || (error.reason >= 0x80 && error.text));
    return ok;
}

static void walk_lists(const struct packet *packet)
{
    struct packet_filter filter;
    if (packet->type == PACKET_SUBSCRIBE || packet->type == PACKET_UNSUBSCRIBE) {
        size_t count = 0;
        for (size_t at = 0; packet_next_filter(packet, &at, &filter); count++)
            check(filter.filter.length > 0 && filter.qos <= 2 && filter.retain_handling <= 2);
        check(count > 0);
    }
}

static void write_and_read_again(const struct packet *packet, enum packet_sender from)
{
    size_t size = packet_size(packet);
    uint8_t *first = malloc(size), *second = malloc(size);
    check(first && second);
    struct bytes_writer w = bytes_writer(first, size);
    packet_write(&w, packet);
    check(!w.bad && w.length == size);

    struct packet again;
    check(parse_whole((struct bytes){first, size}, packet->version, from, &again));
    check(packet_equal(packet, &again));
    w = bytes_writer(second, size);
    packet_write(&w, &again);
    check(!w.bad && w.length == size && memcmp(first, second, size) == 0);
    free(first);
    free(second);
}

// The start of a PUBLISH reads as the whole does, or asks for more, never otherwise.
static void read_start(struct bytes input, uint8_t version, enum packet_sender from,
                       const struct packet *whole)
{
    struct packet_frame frame;
    struct packet_error error;
    check(packet_frame(input, &frame, &error) == PACKET_OK);
    struct bytes start = {input.data + frame.header_length, frame.body_length / 2};
    struct packet packet;
    enum packet_status status =
        packet_parse_publish_start(&frame, start, version, from, &packet, &error);
    check(status != PACKET_MALFORMED);
    if (status == PACKET_OK)
        check(bytes_equal(packet.publish.topic, whole->publish.topic) &&
              packet.publish.packet_id == whole->publish.packet_id &&
              property_equal(&packet.properties, &whole->properties) &&
              packet.publish.payload.length <= whole->publish.payload.length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes input = {data, size};
    for (uint8_t version = PACKET_V311; version <= PACKET_V5; version++)
        for (int from = PACKET_FROM_CLIENT; from <= PACKET_FROM_SERVER; from++) {
            struct packet packet;
            if (!parse_whole(input, version, (enum packet_sender)from, &packet))
                continue;
            walk_lists(&packet);
            write_and_read_again(&packet, (enum packet_sender)from);
            if (packet.type == PACKET_PUBLISH)
                read_start(input, version, (enum packet_sender)from, &packet);
        }
    return 0;
}
