// One table says what each property is and where it may stand; reading and writing follow it.
#include "mqtt/property.h"

#include "base/utf8.h"
#include "core/topic.h"
#include "mqtt/packet_internal.h"

#define WILL PACKET_BIT(PROPERTY_PLACE_WILL)
#define CONNECT PACKET_BIT(PACKET_CONNECT)
#define CONNACK PACKET_BIT(PACKET_CONNACK)
#define PUBLISH PACKET_BIT(PACKET_PUBLISH)
#define ACKS                                                                                       \
    (PACKET_BIT(PACKET_PUBACK) | PACKET_BIT(PACKET_PUBREC) | PACKET_BIT(PACKET_PUBREL) |           \
     PACKET_BIT(PACKET_PUBCOMP))
#define SUBSCRIBE PACKET_BIT(PACKET_SUBSCRIBE)
#define SUBACKS (PACKET_BIT(PACKET_SUBACK) | PACKET_BIT(PACKET_UNSUBACK))
#define DISCONNECT PACKET_BIT(PACKET_DISCONNECT)
#define AUTH PACKET_BIT(PACKET_AUTH)
#define EVERYWHERE                                                                                 \
    (WILL | CONNECT | CONNACK | PUBLISH | ACKS | SUBSCRIBE | SUBACKS |                             \
     PACKET_BIT(PACKET_UNSUBSCRIBE) | DISCONNECT | AUTH)

enum kind {
    KIND_FLAG, // a byte, 0 or 1
    KIND_U16,
    KIND_U32,
    KIND_VARINT,
    KIND_STRING,
    KIND_TOPIC, // a string that is a topic name
    KIND_BINARY,
    KIND_PAIR, // two strings
};

struct property {
    enum kind kind;
    size_t offset; // of the field in struct property_set; unused for KIND_PAIR
    unsigned places;
    const char *misplaced, *twice, *range;
    unsigned server_only, client_only; // of the places
    bool nonzero;                      // 0 is out of range
    uint8_t range_reason;              // where it is not the usual one
};

#define ROW(name, kind_, field, places_)                                                           \
    .kind = kind_, .offset = offsetof(struct property_set, field), .places = places_,              \
    .misplaced = name " is not allowed in this packet", .twice = name " is given twice",           \
    .range = name " is out of range"

static const struct property properties[] = {
    [PROPERTY_PAYLOAD_FORMAT] = {ROW("Payload Format Indicator", KIND_FLAG, payload_format,
                                     PUBLISH | WILL)},
    [PROPERTY_MESSAGE_EXPIRY] = {ROW("Message Expiry Interval", KIND_U32, message_expiry,
                                     PUBLISH | WILL)},
    [PROPERTY_CONTENT_TYPE] = {ROW("Content Type", KIND_STRING, content_type, PUBLISH | WILL)},
    [PROPERTY_RESPONSE_TOPIC] = {ROW("Response Topic", KIND_TOPIC, response_topic, PUBLISH | WILL)},
    [PROPERTY_CORRELATION_DATA] = {ROW("Correlation Data", KIND_BINARY, correlation_data,
                                       PUBLISH | WILL)},
    [PROPERTY_SUBSCRIPTION_ID] = {ROW("Subscription Identifier", KIND_VARINT, subscription_id,
                                      PUBLISH | SUBSCRIBE),
                                  .server_only = PUBLISH, .nonzero = true}, // [MQTT-3.3.4-6]
    [PROPERTY_SESSION_EXPIRY] = {ROW("Session Expiry Interval", KIND_U32, session_expiry,
                                     CONNECT | CONNACK | DISCONNECT),
                                 .client_only = DISCONNECT}, // [MQTT-3.14.2-2]
    [PROPERTY_ASSIGNED_CLIENT_ID] = {ROW("Assigned Client Identifier", KIND_STRING,
                                         assigned_client_id, CONNACK)},
    [PROPERTY_SERVER_KEEP_ALIVE] = {ROW("Server Keep Alive", KIND_U16, server_keep_alive, CONNACK)},
    [PROPERTY_AUTH_METHOD] = {ROW("Authentication Method", KIND_STRING, auth_method,
                                  CONNECT | CONNACK | AUTH)},
    [PROPERTY_AUTH_DATA] = {ROW("Authentication Data", KIND_BINARY, auth_data,
                                CONNECT | CONNACK | AUTH)},
    [PROPERTY_REQUEST_PROBLEM_INFO] = {ROW("Request Problem Information", KIND_FLAG,
                                           request_problem_info, CONNECT)},
    [PROPERTY_WILL_DELAY] = {ROW("Will Delay Interval", KIND_U32, will_delay, WILL)},
    [PROPERTY_REQUEST_RESPONSE_INFO] = {ROW("Request Response Information", KIND_FLAG,
                                            request_response_info, CONNECT)},
    [PROPERTY_RESPONSE_INFO] = {ROW("Response Information", KIND_STRING, response_info, CONNACK)},
    [PROPERTY_SERVER_REFERENCE] = {ROW("Server Reference", KIND_STRING, server_reference,
                                       CONNACK | DISCONNECT),
                                   .server_only = DISCONNECT},
    [PROPERTY_REASON_STRING] = {ROW("Reason String", KIND_STRING, reason_string,
                                    CONNACK | ACKS | SUBACKS | DISCONNECT | AUTH)},
    [PROPERTY_RECEIVE_MAXIMUM] = {ROW("Receive Maximum", KIND_U16, receive_maximum,
                                      CONNECT | CONNACK),
                                  .nonzero = true},
    [PROPERTY_TOPIC_ALIAS_MAXIMUM] = {ROW("Topic Alias Maximum", KIND_U16, topic_alias_maximum,
                                          CONNECT | CONNACK)},
    [PROPERTY_TOPIC_ALIAS] = {ROW("Topic Alias", KIND_U16, topic_alias, PUBLISH), .nonzero = true,
                              .range_reason = REASON_TOPIC_ALIAS_INVALID}, // [MQTT-3.3.2-8]
    [PROPERTY_MAXIMUM_QOS] = {ROW("Maximum QoS", KIND_FLAG, maximum_qos, CONNACK)},
    [PROPERTY_RETAIN_AVAILABLE] = {ROW("Retain Available", KIND_FLAG, retain_available, CONNACK)},
    [PROPERTY_USER] = {ROW("User Property", KIND_PAIR, users, EVERYWHERE)},
    [PROPERTY_MAXIMUM_PACKET_SIZE] = {ROW("Maximum Packet Size", KIND_U32, maximum_packet_size,
                                          CONNECT | CONNACK),
                                      .nonzero = true},
    [PROPERTY_WILDCARDS_AVAILABLE] = {ROW("Wildcard Subscription Available", KIND_FLAG,
                                          wildcards_available, CONNACK)},
    [PROPERTY_SUBSCRIPTION_IDS_AVAILABLE] = {ROW("Subscription Identifiers Available", KIND_FLAG,
                                                 subscription_ids_available, CONNACK)},
    [PROPERTY_SHARED_AVAILABLE] = {ROW("Shared Subscription Available", KIND_FLAG, shared_available,
                                       CONNACK)},
};

struct value {
    uint32_t number;
    struct bytes text, second;
};

static const struct property *property_find(uint32_t id)
{
    bool known = id < sizeof(properties) / sizeof(properties[0]) && properties[id].places != 0;
    return known ? &properties[id] : NULL;
}

static bool is_number(const struct property *property)
{
    return property->kind <= KIND_VARINT;
}

static struct value value_read(struct bytes_reader *r, const struct property *property)
{
    struct value value = {0};
    switch (property->kind) {
    case KIND_FLAG:
        value.number = bytes_read_u8(r);
        break;
    case KIND_U16:
        value.number = bytes_read_u16(r);
        break;
    case KIND_U32:
        value.number = bytes_read_u32(r);
        break;
    case KIND_VARINT:
        value.number = bytes_read_varint(r);
        break;
    default:
        value.text = bytes_read_counted(r);
        if (property->kind == KIND_PAIR)
            value.second = bytes_read_counted(r);
        break;
    }
    return value;
}

static bool value_check(const struct property *property, const struct value *value,
                        struct packet_error *error)
{
    if (is_number(property)) {
        bool low = property->nonzero && value->number == 0;
        bool high = property->kind == KIND_FLAG && value->number > 1;
        uint8_t reason = property->range_reason ? property->range_reason : REASON_PROTOCOL_ERROR;
        return (!low && !high) || packet_fail(error, reason, property->range);
    }
    if (property->kind == KIND_BINARY)
        return true;
    if (!utf8_valid(value->text.data, value->text.length) ||
        !utf8_valid(value->second.data, value->second.length))
        return packet_fail(error, REASON_MALFORMED_PACKET,
                           "a string property is not well-formed UTF-8");
    if (property->kind == KIND_TOPIC && // [MQTT-3.3.2-14]
        !topic_name_valid((const char *)value->text.data, value->text.length))
        return packet_fail(error, REASON_MALFORMED_PACKET,
                           "Response Topic is empty or has a wildcard");
    return true;
}

static bool place_check(const struct property *property, uint32_t id, unsigned place,
                        enum packet_sender from, uint64_t present, struct packet_error *error)
{
    unsigned here = PACKET_BIT(place);
    if (!(property->places & here))
        return packet_fail(error, REASON_MALFORMED_PACKET, property->misplaced);
    if (here & (from == PACKET_FROM_CLIENT ? property->server_only : property->client_only))
        return packet_fail(error, REASON_PROTOCOL_ERROR, property->misplaced);
    // One Subscription Identifier for each subscription that matched [MQTT-3.3.4-3].
    bool repeats = id == PROPERTY_USER || (id == PROPERTY_SUBSCRIPTION_ID && here == PUBLISH);
    if ((present & PROPERTY_BIT(id)) && !repeats)
        return packet_fail(error, REASON_PROTOCOL_ERROR, property->twice);
    return true;
}

// Brokers pass on what a publisher has set out of range, and the message is good without it. Not
// dropped is what says which message it is, and what may be a reading: a User Property.
static bool can_be_dropped(uint32_t id, unsigned place, enum packet_sender from)
{
    return place == PACKET_PUBLISH && from == PACKET_FROM_SERVER && id != PROPERTY_TOPIC_ALIAS &&
           id != PROPERTY_SUBSCRIPTION_ID && id != PROPERTY_USER;
}

static bool property_parse_one(struct bytes_reader *r, unsigned place, enum packet_sender from,
                               struct property_set *set, struct packet_error *error)
{
    uint32_t id = bytes_read_varint(r);
    const struct property *property = property_find(id);
    if (!property)
        return packet_fail(error, REASON_MALFORMED_PACKET, "unknown property identifier");
    if (!place_check(property, id, place, from, set->present, error))
        return false;
    struct value value = value_read(r, property);
    if (r->bad)
        return packet_fail(error, REASON_MALFORMED_PACKET,
                           "a property runs past the end of the properties");
    if (!value_check(property, &value, error))
        return can_be_dropped(id, place, from);
    char *field = (char *)set + property->offset;
    if (is_number(property))
        memcpy(field, &value.number, sizeof(value.number));
    else if (property->kind != KIND_PAIR)
        memcpy(field, &value.text, sizeof(value.text));
    set->present |= PROPERTY_BIT(id);
    return true;
}

bool property_parse(struct bytes_reader *r, unsigned place, enum packet_sender from,
                    struct property_set *set, struct packet_error *error)
{
    set->present = 0;
    uint32_t length = bytes_read_varint(r);
    if (length == 0)
        return !r->bad;
    struct bytes block = bytes_read(r, length);
    if (r->bad)
        return false;
    set->users = set->subscription_ids = block;
    struct bytes_reader inner = bytes_reader(block);
    while (bytes_left(&inner) > 0)
        if (!property_parse_one(&inner, place, from, set, error))
            return false;
    if (property_has(set, PROPERTY_AUTH_DATA) && !property_has(set, PROPERTY_AUTH_METHOD))
        return packet_fail(error, REASON_PROTOCOL_ERROR,
                           "Authentication Data without Authentication Method");
    return true;
}

// The value of the next property with this identifier in an encoded block.
static bool property_next(struct bytes block, size_t *offset, enum property_id wanted,
                          struct value *value)
{
    if (*offset >= block.length)
        return false;
    struct bytes_reader r = bytes_reader(block);
    bytes_read(&r, *offset);
    while (bytes_left(&r) > 0) {
        uint32_t id = bytes_read_varint(&r);
        const struct property *property = property_find(id);
        if (!property)
            break;
        *value = value_read(&r, property);
        if (r.bad)
            break;
        *offset = block.length - bytes_left(&r);
        if (id == wanted)
            return true;
    }
    *offset = block.length;
    return false;
}

bool property_next_user(const struct property_set *set, size_t *offset, struct bytes *name,
                        struct bytes *value)
{
    struct value pair;
    if (!property_has(set, PROPERTY_USER) ||
        !property_next(set->users, offset, PROPERTY_USER, &pair))
        return false;
    *name = pair.text;
    *value = pair.second;
    return true;
}

bool property_next_subscription_id(const struct property_set *set, size_t *offset, uint32_t *id)
{
    struct value value;
    if (!property_has(set, PROPERTY_SUBSCRIPTION_ID) ||
        !property_next(set->subscription_ids, offset, PROPERTY_SUBSCRIPTION_ID, &value))
        return false;
    *id = value.number;
    return true;
}

void property_write_user(struct bytes_writer *w, struct bytes name, struct bytes value)
{
    bytes_write_varint(w, PROPERTY_USER);
    bytes_write_counted(w, name);
    bytes_write_counted(w, value);
}

void property_write_subscription_id(struct bytes_writer *w, uint32_t id)
{
    bytes_write_varint(w, PROPERTY_SUBSCRIPTION_ID);
    bytes_write_varint(w, id);
}

static void users_write(struct bytes_writer *w, const struct property_set *set)
{
    struct bytes name, value;
    for (size_t offset = 0; property_next_user(set, &offset, &name, &value);)
        property_write_user(w, name, value);
}

static void subscription_ids_write(struct bytes_writer *w, const struct property_set *set)
{
    if (set->subscription_ids.length == 0)
        property_write_subscription_id(w, set->subscription_id);
    uint32_t id;
    for (size_t offset = 0; property_next_subscription_id(set, &offset, &id);)
        property_write_subscription_id(w, id);
}

static void field_write(struct bytes_writer *w, uint32_t id, const struct property_set *set)
{
    const char *field = (const char *)set + properties[id].offset;
    uint32_t number = 0;
    struct bytes text = {0};
    if (is_number(&properties[id]))
        memcpy(&number, field, sizeof(number));
    else
        memcpy(&text, field, sizeof(text));
    bytes_write_varint(w, id);
    switch (properties[id].kind) {
    case KIND_FLAG:
        bytes_write_u8(w, (uint8_t)number);
        break;
    case KIND_U16:
        bytes_write_u16(w, (uint16_t)number);
        break;
    case KIND_U32:
        bytes_write_u32(w, number);
        break;
    default:
        bytes_write_counted(w, text);
        break;
    }
}

static void block_write(struct bytes_writer *w, const struct property_set *set)
{
    for (uint64_t rest = set->present; rest != 0; rest &= rest - 1) {
        uint32_t id = (uint32_t)__builtin_ctzll(rest);
        if (id == PROPERTY_USER)
            users_write(w, set);
        else if (id == PROPERTY_SUBSCRIPTION_ID)
            subscription_ids_write(w, set);
        else if (property_find(id))
            field_write(w, id, set);
    }
}

void property_write(struct bytes_writer *w, const struct property_set *set)
{
    struct bytes_writer counter = bytes_counter();
    block_write(&counter, set);
    bytes_write_varint(w, counter.length);
    block_write(w, set);
}
