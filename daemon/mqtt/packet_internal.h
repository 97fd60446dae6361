// What the files of the packet codec share; nobody else includes it.
#pragma once

#include "mqtt/packet.h"

// A body being parsed. A reader gone bad outweighs what error says: the body was too short.
struct packet_input {
    struct bytes_reader r;
    const struct packet_frame *frame;
    enum packet_sender from;
    struct packet_error *error;
};

// Sets *error; false, for the caller to return.
static inline bool packet_fail(struct packet_error *error, uint8_t reason, const char *text)
{
    *error = (struct packet_error){reason, text};
    return false;
}

static inline bool packet_malformed(struct packet_input *in, const char *text)
{
    return packet_fail(in->error, REASON_MALFORMED_PACKET, text);
}

static inline bool packet_protocol_error(struct packet_input *in, const char *text)
{
    return packet_fail(in->error, REASON_PROTOCOL_ERROR, text);
}

// A string in UTF-8 [MQTT-1.5.4-1, -2]; what is said otherwise is the text malformed.
bool packet_read_string(struct packet_input *in, struct bytes *string, const char *malformed);
// A packet identifier, which is never 0 [MQTT-2.2.1-3].
bool packet_read_id(struct packet_input *in, uint16_t *packet_id);
// The properties of the packet, none in 3.1.1.
bool packet_read_properties(struct packet_input *in, struct packet *packet);
// Whether this code may come in this packet from this side.
bool packet_check_reason(struct packet_input *in, uint8_t version, uint8_t reason);

static inline void packet_write_properties(struct bytes_writer *w, const struct packet *packet)
{
    if (packet->version == PACKET_V5)
        property_write(w, &packet->properties);
}

// The body of each family of packets, read and written without the fixed header.
bool packet_parse_connect(struct packet_input *in, struct packet *packet);
bool packet_parse_connack(struct packet_input *in, struct packet *packet);
bool packet_parse_publish(struct packet_input *in, struct packet *packet);
bool packet_parse_ack(struct packet_input *in, struct packet *packet);
bool packet_parse_subscribe(struct packet_input *in, struct packet *packet); // and UNSUBSCRIBE
bool packet_parse_suback(struct packet_input *in, struct packet *packet);    // and UNSUBACK
bool packet_parse_disconnect(struct packet_input *in, struct packet *packet);
bool packet_parse_auth(struct packet_input *in, struct packet *packet);

void packet_body_connect(struct bytes_writer *w, const struct packet *packet);
void packet_body_connack(struct bytes_writer *w, const struct packet *packet);
void packet_body_publish(struct bytes_writer *w, const struct packet *packet);
void packet_body_ack(struct bytes_writer *w, const struct packet *packet);
void packet_body_subscribe(struct bytes_writer *w, const struct packet *packet);
void packet_body_suback(struct bytes_writer *w, const struct packet *packet);
void packet_body_disconnect(struct bytes_writer *w, const struct packet *packet);
void packet_body_auth(struct bytes_writer *w, const struct packet *packet);
