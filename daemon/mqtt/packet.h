// MQTT control packets, 3.1.1 and 5.0, to and from bytes: no allocation, no copies, no state.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "mqtt/property.h"
#include "mqtt/protocol.h"

#define PACKET_HEADER_MAX 5 // bytes of the fixed header
#define PACKET_ACK_MAX 5    // bytes that packet_write_ack writes

enum packet_status { PACKET_OK, PACKET_MORE, PACKET_MALFORMED };

// The fixed header.
struct packet_frame {
    enum packet_type type;
    uint8_t flags;
    uint8_t header_length;
    uint32_t body_length; // Remaining Length
};

struct packet_will {
    struct bytes topic, payload;
    struct property_set properties;
    uint8_t qos;
    bool retain;
};

struct packet_connect {
    struct bytes client_id; // may be empty, whatever clean_start is
    struct bytes username, password;
    uint16_t keep_alive; // seconds
    bool clean_start;    // 3.1.1: clean session
    bool has_username, has_password, has_will;
    struct packet_will will; // where has_will
};

struct packet_connack {
    uint8_t reason; // 3.1.1: enum connack_code
    bool session_present;
};

struct packet_publish {
    struct bytes topic; // empty only with a topic alias
    struct bytes payload;
    uint16_t packet_id; // 0 with QoS 0
    uint8_t qos;
    bool dup, retain;
};

// PUBACK, PUBREC, PUBREL, PUBCOMP; the reason goes with MQTT 5 alone.
struct packet_ack {
    uint16_t packet_id;
    uint8_t reason;
};

// SUBSCRIBE, UNSUBSCRIBE: the list as on the wire, for packet_next_filter and packet_write_filter.
struct packet_subscribe {
    uint16_t packet_id;
    struct bytes filters;
};

// SUBACK, UNSUBACK: codes has one reason code per filter, in order; none in an UNSUBACK of 3.1.1.
struct packet_suback {
    uint16_t packet_id;
    struct bytes codes;
};

// DISCONNECT, AUTH.
struct packet_reason {
    uint8_t reason;
};

struct packet {
    enum packet_type type;
    uint8_t version;                // PACKET_V311 or PACKET_V5
    struct property_set properties; // none with 3.1.1
    union {
        struct packet_connect connect;
        struct packet_connack connack;
        struct packet_publish publish;
        struct packet_ack ack;
        struct packet_subscribe subscribe;
        struct packet_suback suback;
        struct packet_reason reason; // DISCONNECT, AUTH
    };
};

struct packet_filter {
    struct bytes filter;
    uint8_t qos;
    uint8_t retain_handling; // MQTT 5: 0 send, 1 send if the subscription is new, 2 do not
    bool no_local, retain_as_published;
};

// Reads a fixed header, whether or not the body is there yet. MORE: the header is not whole;
// MALFORMED, as soon as that shows: *error says why. [MQTT-2.1.3-1]
enum packet_status packet_frame(struct bytes input, struct packet_frame *frame,
                                struct packet_error *error) __attribute__((warn_unused_result));

// Reads the body, frame->body_length bytes, of a packet from that side; slices point into it. A
// CONNECT sets its own version, as does a 3.1.1 server that refuses MQTT 5. On false *error says
// why; if it is REASON_UNSUPPORTED_VERSION, packet->version is the level that the CONNECT asks for.
bool packet_parse(const struct packet_frame *frame, const uint8_t *body, uint8_t version,
                  enum packet_sender from, struct packet *packet, struct packet_error *error)
    __attribute__((warn_unused_result));

// As packet_parse, for a PUBLISH of which only the start of the body is there; the payload is cut.
// MORE: the payload begins behind the start.
enum packet_status packet_parse_publish_start(const struct packet_frame *frame, struct bytes start,
                                              uint8_t version, enum packet_sender from,
                                              struct packet *packet, struct packet_error *error)
    __attribute__((warn_unused_result));

// As much as can be told of a PUBLISH that is refused, or of which the start ends too soon: the
// topic, unchecked, the packet identifier and, as its payload, all bytes of start behind them.
// False where not even that much is sound.
bool packet_salvage_publish(const struct packet_frame *frame, struct bytes start, uint8_t version,
                            struct packet *packet) __attribute__((warn_unused_result));

// Writes the whole packet. The fields are the caller's to get right; bad is set if it does not fit,
// or if a string or the packet is longer than MQTT can say.
void packet_write(struct bytes_writer *w, const struct packet *packet);
// The bytes that packet_write writes.
size_t packet_size(const struct packet *packet);
// Writes PUBACK, PUBREC, PUBREL or PUBCOMP without properties; 3.1.1 leaves the reason out.
void packet_write_ack(struct bytes_writer *w, enum packet_type type, uint8_t version,
                      uint16_t packet_id, uint8_t reason);

// The next filter of a SUBSCRIBE or UNSUBSCRIBE, from *offset (at first 0); false after the last.
bool packet_next_filter(const struct packet *packet, size_t *offset, struct packet_filter *filter);
// Appends one filter to a list for struct packet_subscribe.
void packet_write_filter(struct bytes_writer *w, enum packet_type type, uint8_t version,
                         const struct packet_filter *filter);

// "PUBLISH"; static text.
const char *packet_type_name(enum packet_type type);
// "not authorized" for 0x05 in a CONNACK of 3.1.1 and for 0x87 in MQTT 5; static text, or
// "unknown reason".
const char *packet_reason_name(uint8_t version, enum packet_type type, uint8_t reason);
