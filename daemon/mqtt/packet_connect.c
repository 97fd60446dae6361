// CONNECT, CONNACK, DISCONNECT and AUTH (3.1, 3.2, 3.14, 3.15): how a connection begins and ends.
#include "core/topic.h"
#include "mqtt/packet_internal.h"

enum connect_flag {
    FLAG_RESERVED = 0x01,
    FLAG_CLEAN_START = 0x02,
    FLAG_WILL = 0x04,
    FLAG_WILL_QOS = 0x18,
    FLAG_WILL_RETAIN = 0x20,
    FLAG_PASSWORD = 0x40,
    FLAG_USERNAME = 0x80,
};

#define WILL_QOS_SHIFT 3

// Sets the version to the level asked for, known or not, so that a refusal can be in its form.
static bool protocol_read(struct packet_input *in, struct packet *packet)
{
    struct bytes name = bytes_read_counted(&in->r);
    uint8_t level = bytes_read_u8(&in->r);
    bool old = bytes_equal(name, bytes_of("MQIsdp")); // MQTT 3.1
    if (!old && !bytes_equal(name, bytes_of("MQTT")))
        return packet_malformed(in, "protocol name is not MQTT");
    packet->version = level;
    if (old || (level != PACKET_V311 && level != PACKET_V5)) // [MQTT-3.1.2-2]
        return packet_fail(in->error, REASON_UNSUPPORTED_VERSION, "unknown protocol level");
    return true;
}

static bool flags_check(struct packet_input *in, uint8_t flags, uint8_t version)
{
    unsigned will_qos = (flags & (unsigned)FLAG_WILL_QOS) >> WILL_QOS_SHIFT;
    if (flags & FLAG_RESERVED) // [MQTT-3.1.2-3]
        return packet_malformed(in, "reserved connect flag is set");
    if (!(flags & FLAG_WILL) && flags & (FLAG_WILL_QOS | FLAG_WILL_RETAIN))
        return packet_malformed(in, "will QoS or will retain without a will");
    if (will_qos == 3) // [MQTT-3.1.2-12]
        return packet_malformed(in, "will with QoS 3");
    if (version == PACKET_V311 && flags & FLAG_PASSWORD && !(flags & FLAG_USERNAME))
        return packet_malformed(in, "password without user name"); // 3.1.1: [MQTT-3.1.2-22]
    return true;
}

static bool will_read(struct packet_input *in, const struct packet *packet,
                      struct packet_will *will)
{
    will->properties.present = 0;
    if (packet->version == PACKET_V5 &&
        !property_parse(&in->r, PROPERTY_PLACE_WILL, in->from, &will->properties, in->error))
        return false;
    if (!packet_read_string(in, &will->topic, "will topic is not well-formed UTF-8"))
        return false;
    if (!topic_name_valid((const char *)will->topic.data, will->topic.length))
        return packet_malformed(in, "will topic is empty or has a wildcard");
    will->payload = bytes_read_counted(&in->r);
    return true;
}

static void flags_take(struct packet_connect *connect, uint8_t flags)
{
    connect->clean_start = flags & FLAG_CLEAN_START;
    connect->has_will = flags & FLAG_WILL;
    connect->has_username = flags & FLAG_USERNAME;
    connect->has_password = flags & FLAG_PASSWORD;
    connect->will.qos = (uint8_t)((flags & FLAG_WILL_QOS) >> WILL_QOS_SHIFT);
    connect->will.retain = flags & FLAG_WILL_RETAIN;
}

bool packet_parse_connect(struct packet_input *in, struct packet *packet)
{
    struct packet_connect *connect = &packet->connect;
    if (!protocol_read(in, packet))
        return false;
    uint8_t flags = bytes_read_u8(&in->r);
    if (!flags_check(in, flags, packet->version))
        return false;
    flags_take(connect, flags);
    connect->keep_alive = bytes_read_u16(&in->r);
    connect->username = connect->password = (struct bytes){0};
    if (!packet_read_properties(in, packet))
        return false;
    if (!packet_read_string(in, &connect->client_id, "client identifier is not well-formed UTF-8"))
        return false;
    if (connect->has_will && !will_read(in, packet, &connect->will))
        return false;
    if (connect->has_username &&
        !packet_read_string(in, &connect->username, "user name is not well-formed UTF-8"))
        return false;
    if (connect->has_password)
        connect->password = bytes_read_counted(&in->r);
    return true;
}

static uint8_t connect_flags(const struct packet_connect *connect)
{
    unsigned flags = 0;
    if (connect->clean_start)
        flags |= FLAG_CLEAN_START;
    if (connect->has_username)
        flags |= FLAG_USERNAME;
    if (connect->has_password)
        flags |= FLAG_PASSWORD;
    if (connect->has_will)
        flags |= FLAG_WILL | (unsigned)connect->will.qos << WILL_QOS_SHIFT |
                 (connect->will.retain ? FLAG_WILL_RETAIN : 0);
    return (uint8_t)flags;
}

void packet_body_connect(struct bytes_writer *w, const struct packet *packet)
{
    const struct packet_connect *connect = &packet->connect;
    bytes_write_counted(w, bytes_of("MQTT"));
    bytes_write_u8(w, packet->version);
    bytes_write_u8(w, connect_flags(connect));
    bytes_write_u16(w, connect->keep_alive);
    packet_write_properties(w, packet);
    bytes_write_counted(w, connect->client_id);
    if (connect->has_will) {
        if (packet->version == PACKET_V5)
            property_write(w, &connect->will.properties);
        bytes_write_counted(w, connect->will.topic);
        bytes_write_counted(w, connect->will.payload);
    }
    if (connect->has_username)
        bytes_write_counted(w, connect->username);
    if (connect->has_password)
        bytes_write_counted(w, connect->password);
}

bool packet_parse_connack(struct packet_input *in, struct packet *packet)
{
    struct packet_connack *connack = &packet->connack;
    uint8_t flags = bytes_read_u8(&in->r);
    connack->reason = bytes_read_u8(&in->r);
    connack->session_present = flags & 1;
    if (flags & ~1U) // [MQTT-3.2.2-1]
        return packet_malformed(in, "reserved acknowledge flags are set");
    if (connack->session_present && connack->reason != REASON_SUCCESS) // [MQTT-3.2.2-6]
        return packet_protocol_error(in, "session present in a refusal");
    // MQTT 5 has a property length here; a refusal without one is from a server of 3.1.1 alone.
    if (bytes_left(&in->r) == 0 && connack->reason != REASON_SUCCESS)
        packet->version = PACKET_V311;
    return packet_check_reason(in, packet->version, connack->reason) &&
           packet_read_properties(in, packet);
}

void packet_body_connack(struct bytes_writer *w, const struct packet *packet)
{
    bytes_write_u8(w, packet->connack.session_present);
    bytes_write_u8(w, packet->connack.reason);
    packet_write_properties(w, packet);
}

// Without a body: normal disconnection; MQTT 5 may also leave out the properties alone (3.14.2).
bool packet_parse_disconnect(struct packet_input *in, struct packet *packet)
{
    packet->reason.reason = REASON_SUCCESS;
    if (packet->version != PACKET_V5 || bytes_left(&in->r) == 0)
        return true;
    packet->reason.reason = bytes_read_u8(&in->r);
    if (!packet_check_reason(in, packet->version, packet->reason.reason))
        return false;
    return bytes_left(&in->r) == 0 || packet_read_properties(in, packet);
}

void packet_body_disconnect(struct bytes_writer *w, const struct packet *packet)
{
    bool properties = packet->properties.present != 0;
    if (packet->version != PACKET_V5 || (packet->reason.reason == REASON_SUCCESS && !properties))
        return;
    bytes_write_u8(w, packet->reason.reason);
    if (properties)
        packet_write_properties(w, packet);
}

// Without a body: success (3.15.2.1); otherwise the method is a must (3.15.2.2.2).
bool packet_parse_auth(struct packet_input *in, struct packet *packet)
{
    packet->reason.reason = REASON_SUCCESS;
    if (bytes_left(&in->r) > 0) {
        packet->reason.reason = bytes_read_u8(&in->r);
        if (!packet_read_properties(in, packet))
            return false;
        if (!property_has(&packet->properties, PROPERTY_AUTH_METHOD))
            return packet_protocol_error(in, "AUTH without Authentication Method");
    }
    return packet_check_reason(in, packet->version, packet->reason.reason);
}

void packet_body_auth(struct bytes_writer *w, const struct packet *packet)
{
    if (packet->reason.reason == REASON_SUCCESS && packet->properties.present == 0)
        return;
    bytes_write_u8(w, packet->reason.reason);
    packet_write_properties(w, packet);
}
