// PUBLISH and its acknowledgements (3.3 to 3.7): the packets of which there are many.
#include "core/topic.h"
#include "mqtt/packet_internal.h"

static bool topic_check(struct packet_input *in, const struct packet *packet)
{
    struct bytes topic = packet->publish.topic;
    if (topic.length == 0 && packet->version == PACKET_V5) {
        if (property_has(&packet->properties, PROPERTY_TOPIC_ALIAS))
            return true;
        return packet_protocol_error(in, "empty topic name without a topic alias");
    }
    if (!topic_name_valid((const char *)topic.data, topic.length)) // [MQTT-3.3.2-2], [MQTT-4.7.3-1]
        return packet_malformed(in, "topic name is empty or has a wildcard");
    return true;
}

static void flags_read(const struct packet_frame *frame, struct packet_publish *publish)
{
    publish->retain = frame->flags & 1;
    publish->qos = frame->flags >> 1 & 3;
    publish->dup = frame->flags >> 3 & 1;
    publish->packet_id = 0;
}

bool packet_parse_publish(struct packet_input *in, struct packet *packet)
{
    struct packet_publish *publish = &packet->publish;
    flags_read(in->frame, publish);
    if (!packet_read_string(in, &publish->topic, "topic name is not well-formed UTF-8"))
        return false;
    if (publish->qos > 0 && !packet_read_id(in, &publish->packet_id))
        return false;
    if (!packet_read_properties(in, packet) || in->r.bad || !topic_check(in, packet))
        return false;
    publish->payload = bytes_read(&in->r, bytes_left(&in->r));
    return true;
}

bool packet_salvage_publish(const struct packet_frame *frame, struct bytes start, uint8_t version,
                            struct packet *packet)
{
    struct packet_publish *publish = &packet->publish;
    struct bytes_reader r = bytes_reader(start);
    packet->type = PACKET_PUBLISH;
    packet->version = version;
    packet->properties.present = 0;
    flags_read(frame, publish);
    publish->topic = bytes_read_counted(&r);
    if (publish->qos > 0)
        publish->packet_id = bytes_read_u16(&r);
    publish->payload = bytes_read(&r, bytes_left(&r));
    return !r.bad && (publish->qos == 0 || publish->packet_id != 0);
}

void packet_body_publish(struct bytes_writer *w, const struct packet *packet)
{
    const struct packet_publish *publish = &packet->publish;
    bytes_write_counted(w, publish->topic);
    if (publish->qos > 0)
        bytes_write_u16(w, publish->packet_id);
    packet_write_properties(w, packet);
    bytes_write(w, publish->payload);
}

// MQTT 5 leaves out what is success and empty (3.4.2.1); 3.1.1 has the packet identifier alone.
bool packet_parse_ack(struct packet_input *in, struct packet *packet)
{
    packet->ack.reason = REASON_SUCCESS;
    if (!packet_read_id(in, &packet->ack.packet_id))
        return false;
    if (packet->version != PACKET_V5 || bytes_left(&in->r) == 0)
        return true;
    packet->ack.reason = bytes_read_u8(&in->r);
    if (!packet_check_reason(in, packet->version, packet->ack.reason))
        return false;
    return bytes_left(&in->r) == 0 || packet_read_properties(in, packet);
}

void packet_body_ack(struct bytes_writer *w, const struct packet *packet)
{
    bytes_write_u16(w, packet->ack.packet_id);
    bool properties = packet->properties.present != 0;
    if (packet->version != PACKET_V5 || (packet->ack.reason == REASON_SUCCESS && !properties))
        return;
    bytes_write_u8(w, packet->ack.reason);
    if (properties)
        packet_write_properties(w, packet);
}

void packet_write_ack(struct bytes_writer *w, enum packet_type type, uint8_t version,
                      uint16_t packet_id, uint8_t reason)
{
    bool with_reason = version == PACKET_V5 && reason != REASON_SUCCESS;
    uint8_t *room = bytes_reserve(w, with_reason ? 5 : 4);
    if (!room)
        return;
    room[0] = (uint8_t)((unsigned)type << 4 | (type == PACKET_PUBREL ? 2 : 0));
    room[1] = with_reason ? 3 : 2;
    room[2] = (uint8_t)(packet_id >> 8);
    room[3] = (uint8_t)packet_id;
    if (with_reason)
        room[4] = reason;
}
