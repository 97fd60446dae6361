// Reason codes (MQTT 5, 2.4; 3.1.1, 3.2.2.3 and 3.9.3): their names, and where they may stand.
#include "mqtt/packet_internal.h"

#define CONNACK PACKET_BIT(PACKET_CONNACK)
#define PUBLISHED (PACKET_BIT(PACKET_PUBACK) | PACKET_BIT(PACKET_PUBREC))
#define RELEASED (PACKET_BIT(PACKET_PUBREL) | PACKET_BIT(PACKET_PUBCOMP))
#define SUBACK PACKET_BIT(PACKET_SUBACK)
#define UNSUBACK PACKET_BIT(PACKET_UNSUBACK)
#define DISCONNECT PACKET_BIT(PACKET_DISCONNECT)
#define AUTH PACKET_BIT(PACKET_AUTH)

struct reason_row {
    uint8_t code;
    unsigned packets;
    const char *name;
    unsigned server_only, client_only; // of the packets
};

static const struct reason_row reasons_v5[] = {
    {REASON_SUCCESS, CONNACK | PUBLISHED | RELEASED | UNSUBACK | AUTH, "success", AUTH, 0},
    {REASON_SUCCESS, DISCONNECT, "normal disconnection", 0, 0},
    {REASON_SUCCESS, SUBACK, "granted QoS 0", 0, 0},
    {REASON_GRANTED_QOS_1, SUBACK, "granted QoS 1", 0, 0},
    {REASON_GRANTED_QOS_2, SUBACK, "granted QoS 2", 0, 0},
    {REASON_DISCONNECT_WITH_WILL, DISCONNECT, "disconnect with will message", 0, DISCONNECT},
    {REASON_NO_MATCHING_SUBSCRIBERS, PUBLISHED, "no matching subscribers", 0, 0},
    {REASON_NO_SUBSCRIPTION_EXISTED, UNSUBACK, "no subscription existed", 0, 0},
    {REASON_CONTINUE_AUTHENTICATION, AUTH, "continue authentication", 0, 0},
    {REASON_RE_AUTHENTICATE, AUTH, "re-authenticate", 0, AUTH},
    {REASON_UNSPECIFIED_ERROR, CONNACK | PUBLISHED | SUBACK | UNSUBACK | DISCONNECT,
     "unspecified error", 0, 0},
    {REASON_MALFORMED_PACKET, CONNACK | DISCONNECT, "malformed packet", 0, 0},
    {REASON_PROTOCOL_ERROR, CONNACK | DISCONNECT, "protocol error", 0, 0},
    {REASON_IMPLEMENTATION_SPECIFIC, CONNACK | PUBLISHED | SUBACK | UNSUBACK | DISCONNECT,
     "implementation specific error", 0, 0},
    {REASON_UNSUPPORTED_VERSION, CONNACK, "unsupported protocol version", 0, 0},
    {REASON_CLIENT_ID_NOT_VALID, CONNACK, "client identifier not valid", 0, 0},
    {REASON_BAD_USER_OR_PASSWORD, CONNACK, "bad user name or password", 0, 0},
    {REASON_NOT_AUTHORIZED, CONNACK | PUBLISHED | SUBACK | UNSUBACK | DISCONNECT, "not authorized",
     DISCONNECT, 0},
    {REASON_SERVER_UNAVAILABLE, CONNACK, "server unavailable", 0, 0},
    {REASON_SERVER_BUSY, CONNACK | DISCONNECT, "server busy", DISCONNECT, 0},
    {REASON_BANNED, CONNACK, "banned", 0, 0},
    {REASON_SERVER_SHUTTING_DOWN, DISCONNECT, "server shutting down", DISCONNECT, 0},
    // 2.4 lists it for DISCONNECT, 3.14.2.1 does not.
    {REASON_BAD_AUTHENTICATION_METHOD, CONNACK | DISCONNECT, "bad authentication method", 0, 0},
    {REASON_KEEP_ALIVE_TIMEOUT, DISCONNECT, "keep alive timeout", DISCONNECT, 0},
    {REASON_SESSION_TAKEN_OVER, DISCONNECT, "session taken over", DISCONNECT, 0},
    {REASON_TOPIC_FILTER_INVALID, SUBACK | UNSUBACK | DISCONNECT, "topic filter invalid",
     DISCONNECT, 0},
    {REASON_TOPIC_NAME_INVALID, CONNACK | PUBLISHED | DISCONNECT, "topic name invalid", 0, 0},
    {REASON_PACKET_ID_IN_USE, PUBLISHED | SUBACK | UNSUBACK, "packet identifier in use", 0, 0},
    {REASON_PACKET_ID_NOT_FOUND, RELEASED, "packet identifier not found", 0, 0},
    {REASON_RECEIVE_MAXIMUM_EXCEEDED, DISCONNECT, "receive maximum exceeded", 0, 0},
    {REASON_TOPIC_ALIAS_INVALID, DISCONNECT, "topic alias invalid", 0, 0},
    {REASON_PACKET_TOO_LARGE, CONNACK | DISCONNECT, "packet too large", 0, 0},
    {REASON_MESSAGE_RATE_TOO_HIGH, DISCONNECT, "message rate too high", 0, 0},
    {REASON_QUOTA_EXCEEDED, CONNACK | PUBLISHED | SUBACK | DISCONNECT, "quota exceeded", 0, 0},
    {REASON_ADMINISTRATIVE_ACTION, DISCONNECT, "administrative action", 0, 0},
    {REASON_PAYLOAD_FORMAT_INVALID, CONNACK | PUBLISHED | DISCONNECT, "payload format invalid", 0,
     0},
    {REASON_RETAIN_NOT_SUPPORTED, CONNACK | DISCONNECT, "retain not supported", DISCONNECT, 0},
    {REASON_QOS_NOT_SUPPORTED, CONNACK | DISCONNECT, "QoS not supported", DISCONNECT, 0},
    {REASON_USE_ANOTHER_SERVER, CONNACK | DISCONNECT, "use another server", DISCONNECT, 0},
    {REASON_SERVER_MOVED, CONNACK | DISCONNECT, "server moved", DISCONNECT, 0},
    {REASON_SHARED_NOT_SUPPORTED, SUBACK | DISCONNECT, "shared subscriptions not supported",
     DISCONNECT, 0},
    {REASON_CONNECTION_RATE_EXCEEDED, CONNACK | DISCONNECT, "connection rate exceeded", DISCONNECT,
     0},
    {REASON_MAXIMUM_CONNECT_TIME, DISCONNECT, "maximum connect time", DISCONNECT, 0},
    {REASON_SUBSCRIPTION_IDS_NOT_SUPPORTED, SUBACK | DISCONNECT,
     "subscription identifiers not supported", DISCONNECT, 0},
    {REASON_WILDCARDS_NOT_SUPPORTED, SUBACK | DISCONNECT, "wildcard subscriptions not supported",
     DISCONNECT, 0},
};

static const struct reason_row reasons_v311[] = {
    {CONNACK_ACCEPTED, CONNACK, "connection accepted", 0, 0},
    {CONNACK_UNACCEPTABLE_VERSION, CONNACK, "unacceptable protocol version", 0, 0},
    {CONNACK_IDENTIFIER_REJECTED, CONNACK, "identifier rejected", 0, 0},
    {CONNACK_SERVER_UNAVAILABLE, CONNACK, "server unavailable", 0, 0},
    {CONNACK_BAD_USER_OR_PASSWORD, CONNACK, "bad user name or password", 0, 0},
    {CONNACK_NOT_AUTHORIZED, CONNACK, "not authorized", 0, 0},
    {REASON_SUCCESS, SUBACK, "granted QoS 0", 0, 0},
    {REASON_GRANTED_QOS_1, SUBACK, "granted QoS 1", 0, 0},
    {REASON_GRANTED_QOS_2, SUBACK, "granted QoS 2", 0, 0},
    {SUBACK_FAILURE, SUBACK, "failure", 0, 0},
};

static const struct reason_row *row_find(uint8_t version, enum packet_type type, uint8_t reason)
{
    const struct reason_row *row = version == PACKET_V5 ? reasons_v5 : reasons_v311;
    size_t count = version == PACKET_V5 ? sizeof(reasons_v5) / sizeof(reasons_v5[0])
                                        : sizeof(reasons_v311) / sizeof(reasons_v311[0]);
    for (; count > 0; row++, count--)
        if (row->code == reason && row->packets & PACKET_BIT(type))
            return row;
    return NULL;
}

const char *packet_reason_name(uint8_t version, enum packet_type type, uint8_t reason)
{
    const struct reason_row *row = row_find(version, type, reason);
    return row ? row->name : "unknown reason";
}

bool packet_check_reason(struct packet_input *in, uint8_t version, uint8_t reason)
{
    enum packet_type type = in->frame->type;
    const struct reason_row *row = row_find(version, type, reason);
    if (!row)
        return packet_malformed(in, "a reason code that this packet cannot have");
    unsigned other = in->from == PACKET_FROM_CLIENT ? row->server_only : row->client_only;
    if (other & PACKET_BIT(type))
        return packet_protocol_error(in, "a reason code that this side cannot send");
    return true;
}
