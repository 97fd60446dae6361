// The properties of MQTT 5 packets (2.2.2): decoded fields, and encoded ones where they repeat.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "mqtt/protocol.h"

enum property_id {
    PROPERTY_PAYLOAD_FORMAT = 0x01,
    PROPERTY_MESSAGE_EXPIRY = 0x02,
    PROPERTY_CONTENT_TYPE = 0x03,
    PROPERTY_RESPONSE_TOPIC = 0x08,
    PROPERTY_CORRELATION_DATA = 0x09,
    PROPERTY_SUBSCRIPTION_ID = 0x0B,
    PROPERTY_SESSION_EXPIRY = 0x11,
    PROPERTY_ASSIGNED_CLIENT_ID = 0x12,
    PROPERTY_SERVER_KEEP_ALIVE = 0x13,
    PROPERTY_AUTH_METHOD = 0x15,
    PROPERTY_AUTH_DATA = 0x16,
    PROPERTY_REQUEST_PROBLEM_INFO = 0x17,
    PROPERTY_WILL_DELAY = 0x18,
    PROPERTY_REQUEST_RESPONSE_INFO = 0x19,
    PROPERTY_RESPONSE_INFO = 0x1A,
    PROPERTY_SERVER_REFERENCE = 0x1C,
    PROPERTY_REASON_STRING = 0x1F,
    PROPERTY_RECEIVE_MAXIMUM = 0x21,
    PROPERTY_TOPIC_ALIAS_MAXIMUM = 0x22,
    PROPERTY_TOPIC_ALIAS = 0x23,
    PROPERTY_MAXIMUM_QOS = 0x24,
    PROPERTY_RETAIN_AVAILABLE = 0x25,
    PROPERTY_USER = 0x26,
    PROPERTY_MAXIMUM_PACKET_SIZE = 0x27,
    PROPERTY_WILDCARDS_AVAILABLE = 0x28,
    PROPERTY_SUBSCRIPTION_IDS_AVAILABLE = 0x29,
    PROPERTY_SHARED_AVAILABLE = 0x2A,
};

#define PROPERTY_BIT(id) (UINT64_C(1) << (id))

// Where properties stand: a packet type, or the will of a CONNECT.
#define PROPERTY_PLACE_WILL 0

// A field means something only where present has its bit; with present 0 nothing else need be set.
struct property_set {
    uint64_t present; // mask of PROPERTY_BIT
    // Encoded properties, of which the User Properties, or Subscription Identifiers, count; a set
    // that was parsed has its whole block in both. With subscription_ids empty, subscription_id is
    // written.
    struct bytes users, subscription_ids;
    uint32_t subscription_id; // of several the last
    uint32_t payload_format;
    uint32_t message_expiry, session_expiry, will_delay; // seconds
    uint32_t server_keep_alive;                          // seconds
    uint32_t receive_maximum, maximum_packet_size;
    uint32_t topic_alias, topic_alias_maximum;
    uint32_t maximum_qos, retain_available;
    uint32_t wildcards_available, subscription_ids_available, shared_available;
    uint32_t request_problem_info, request_response_info;
    struct bytes content_type, response_topic, correlation_data;
    struct bytes auth_method, auth_data;
    struct bytes assigned_client_id, response_info, server_reference, reason_string;
};

static inline bool property_has(const struct property_set *set, enum property_id id)
{
    return (set->present & PROPERTY_BIT(id)) != 0;
}

// Reads a length and the properties, which point into the input, and checks them for this place and
// sender. On false *error says why, unless the reader is bad. [MQTT-2.2.2] Of a PUBLISH from a
// server a property with a value that is not allowed is taken for absent, where the message does
// not need it.
bool property_parse(struct bytes_reader *r, unsigned place, enum packet_sender from,
                    struct property_set *set, struct packet_error *error);
// Writes the length and the properties that are present, in order of their identifiers.
void property_write(struct bytes_writer *w, const struct property_set *set);

// The next User Property, from *offset (0 at first) on; false after the last one.
bool property_next_user(const struct property_set *set, size_t *offset, struct bytes *name,
                        struct bytes *value);
// The next Subscription Identifier, likewise.
bool property_next_subscription_id(const struct property_set *set, size_t *offset, uint32_t *id);

// Append one encoded property, to build users and subscription_ids.
void property_write_user(struct bytes_writer *w, struct bytes name, struct bytes value);
void property_write_subscription_id(struct bytes_writer *w, uint32_t id);
