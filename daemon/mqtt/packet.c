// Framing, and what all packets share: who may send them, reading and writing as a whole.
#include "mqtt/packet.h"

#include "base/utf8.h"
#include "mqtt/packet_internal.h"

#define CLIENT (1U << PACKET_FROM_CLIENT)
#define SERVER (1U << PACKET_FROM_SERVER)

struct packet_codec {
    const char *name;
    uint8_t senders_v311, senders_v5;
    bool (*parse)(struct packet_input *in, struct packet *packet);
    void (*body)(struct bytes_writer *w, const struct packet *packet);
};

static bool parse_empty(struct packet_input *in, struct packet *packet)
{
    (void)in;
    (void)packet;
    return true;
}

static void body_empty(struct bytes_writer *w, const struct packet *packet)
{
    (void)w;
    (void)packet;
}

static const struct packet_codec codecs[16] = {
    [PACKET_CONNECT] = {"CONNECT", CLIENT, CLIENT, packet_parse_connect, packet_body_connect},
    [PACKET_CONNACK] = {"CONNACK", SERVER, SERVER, packet_parse_connack, packet_body_connack},
    [PACKET_PUBLISH] = {"PUBLISH", CLIENT | SERVER, CLIENT | SERVER, packet_parse_publish,
                        packet_body_publish},
    [PACKET_PUBACK] = {"PUBACK", CLIENT | SERVER, CLIENT | SERVER, packet_parse_ack,
                       packet_body_ack},
    [PACKET_PUBREC] = {"PUBREC", CLIENT | SERVER, CLIENT | SERVER, packet_parse_ack,
                       packet_body_ack},
    [PACKET_PUBREL] = {"PUBREL", CLIENT | SERVER, CLIENT | SERVER, packet_parse_ack,
                       packet_body_ack},
    [PACKET_PUBCOMP] = {"PUBCOMP", CLIENT | SERVER, CLIENT | SERVER, packet_parse_ack,
                        packet_body_ack},
    [PACKET_SUBSCRIBE] = {"SUBSCRIBE", CLIENT, CLIENT, packet_parse_subscribe,
                          packet_body_subscribe},
    [PACKET_SUBACK] = {"SUBACK", SERVER, SERVER, packet_parse_suback, packet_body_suback},
    [PACKET_UNSUBSCRIBE] = {"UNSUBSCRIBE", CLIENT, CLIENT, packet_parse_subscribe,
                            packet_body_subscribe},
    [PACKET_UNSUBACK] = {"UNSUBACK", SERVER, SERVER, packet_parse_suback, packet_body_suback},
    [PACKET_PINGREQ] = {"PINGREQ", CLIENT, CLIENT, parse_empty, body_empty},
    [PACKET_PINGRESP] = {"PINGRESP", SERVER, SERVER, parse_empty, body_empty},
    [PACKET_DISCONNECT] = {"DISCONNECT", CLIENT, CLIENT | SERVER, packet_parse_disconnect,
                           packet_body_disconnect},
    [PACKET_AUTH] = {"AUTH", 0, CLIENT | SERVER, packet_parse_auth, packet_body_auth},
};

const char *packet_type_name(enum packet_type type)
{
    return type >= PACKET_CONNECT && type <= PACKET_AUTH ? codecs[type].name : "reserved";
}

// The low four bits of the first byte [MQTT-2.1.3-1].
static bool flags_check(enum packet_type type, uint8_t flags, struct packet_error *error)
{
    if (type == PACKET_PUBLISH) {
        unsigned qos = flags >> 1 & 3;
        if (qos == 3) // [MQTT-3.3.1-4]
            return packet_fail(error, REASON_MALFORMED_PACKET, "PUBLISH with QoS 3");
        if (qos == 0 && flags & 8) // [MQTT-3.3.1-2]
            return packet_fail(error, REASON_PROTOCOL_ERROR, "PUBLISH with DUP and QoS 0");
        return true;
    }
    bool two = type == PACKET_PUBREL || type == PACKET_SUBSCRIBE || type == PACKET_UNSUBSCRIBE;
    if (flags != (two ? 2 : 0))
        return packet_fail(error, REASON_MALFORMED_PACKET, "reserved flags in the fixed header");
    return true;
}

enum packet_status packet_frame(struct bytes input, struct packet_frame *frame,
                                struct packet_error *error)
{
    if (input.length == 0)
        return PACKET_MORE;
    frame->type = input.data[0] >> 4;
    frame->flags = input.data[0] & 0x0F;
    if (frame->type < PACKET_CONNECT) {
        packet_fail(error, REASON_MALFORMED_PACKET, "reserved packet type 0");
        return PACKET_MALFORMED;
    }
    if (!flags_check(frame->type, frame->flags, error))
        return PACKET_MALFORMED;
    uint32_t length = 0;
    for (uint8_t i = 0; i < BYTES_VARINT_SIZE_MAX; i++) {
        if (input.length < i + 2U)
            return PACKET_MORE;
        uint8_t byte = input.data[i + 1];
        length |= (uint32_t)(byte & 0x7F) << 7 * i;
        if (!(byte & 0x80)) {
            frame->header_length = (uint8_t)(i + 2);
            frame->body_length = length;
            return PACKET_OK;
        }
    }
    packet_fail(error, REASON_MALFORMED_PACKET, "Remaining Length of more than four bytes");
    return PACKET_MALFORMED;
}

bool packet_read_string(struct packet_input *in, struct bytes *string, const char *malformed)
{
    *string = bytes_read_counted(&in->r);
    if (!utf8_valid(string->data, string->length))
        return packet_malformed(in, malformed);
    return true;
}

bool packet_read_id(struct packet_input *in, uint16_t *packet_id)
{
    *packet_id = bytes_read_u16(&in->r);
    if (*packet_id == 0)
        return packet_protocol_error(in, "packet identifier 0");
    return true;
}

bool packet_read_properties(struct packet_input *in, struct packet *packet)
{
    packet->properties.present = 0;
    if (packet->version != PACKET_V5)
        return true;
    return property_parse(&in->r, packet->type, in->from, &packet->properties, in->error);
}

static bool sender_check(struct packet_input *in, enum packet_type type, uint8_t version)
{
    const struct packet_codec *codec = &codecs[type];
    uint8_t senders = version == PACKET_V5 ? codec->senders_v5 : codec->senders_v311;
    if (senders & 1U << in->from)
        return true;
    if (senders == 0)
        return packet_malformed(in, "AUTH is no packet of MQTT 3.1.1");
    return packet_protocol_error(in, in->from == PACKET_FROM_CLIENT
                                         ? "a packet that only servers send"
                                         : "a packet that only clients send");
}

// Whether Remaining Length takes no needless bytes; 3.1.1 does not ask for that [MQTT-1.5.5-1].
static bool length_check(const struct packet_frame *frame, uint8_t version)
{
    unsigned spare = 7U * (frame->header_length - 2U);
    return version != PACKET_V5 || spare == 0 || frame->body_length >> spare != 0;
}

static bool input_parse(struct packet_input *in, uint8_t version, struct packet *packet)
{
    packet->type = in->frame->type;
    packet->version = version;
    packet->properties.present = 0;
    if (!sender_check(in, packet->type, version) || !codecs[packet->type].parse(in, packet))
        return false;
    if (in->r.bad)
        return false;
    if (!length_check(in->frame, packet->version))
        return packet_malformed(in, "Remaining Length in more bytes than it takes");
    return true;
}

bool packet_parse(const struct packet_frame *frame, const uint8_t *body, uint8_t version,
                  enum packet_sender from, struct packet *packet, struct packet_error *error)
{
    struct packet_input in = {bytes_reader((struct bytes){body, frame->body_length}), frame, from,
                              error};
    bool ok = input_parse(&in, version, packet);
    if (in.r.bad)
        return packet_malformed(&in, "a field runs past the end of the packet");
    if (ok && bytes_left(&in.r) > 0)
        return packet_malformed(&in, "bytes behind the last field of the packet");
    return ok;
}

enum packet_status packet_parse_publish_start(const struct packet_frame *frame, struct bytes start,
                                              uint8_t version, enum packet_sender from,
                                              struct packet *packet, struct packet_error *error)
{
    struct packet_input in = {bytes_reader(start), frame, from, error};
    bool ok = input_parse(&in, version, packet);
    if (in.r.bad && start.length < frame->body_length)
        return PACKET_MORE;
    if (in.r.bad)
        packet_malformed(&in, "a field runs past the end of the packet");
    return ok ? PACKET_OK : PACKET_MALFORMED;
}

static uint8_t header_flags(const struct packet *packet)
{
    switch (packet->type) {
    case PACKET_PUBLISH:
        return (uint8_t)(packet->publish.dup << 3 | packet->publish.qos << 1 |
                         packet->publish.retain);
    case PACKET_PUBREL:
    case PACKET_SUBSCRIBE:
    case PACKET_UNSUBSCRIBE:
        return 2;
    default:
        return 0;
    }
}

void packet_write(struct bytes_writer *w, const struct packet *packet)
{
    const struct packet_codec *codec = &codecs[packet->type];
    struct bytes_writer counter = bytes_counter();
    codec->body(&counter, packet);
    bytes_write_u8(w, (uint8_t)((unsigned)packet->type << 4 | header_flags(packet)));
    bytes_write_varint(w, counter.length);
    codec->body(w, packet);
}

size_t packet_size(const struct packet *packet)
{
    struct bytes_writer counter = bytes_counter();
    packet_write(&counter, packet);
    return counter.length;
}
