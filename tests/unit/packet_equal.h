// Whether two packets say the same, field by field.
#pragma once

#include "mqtt/packet.h"

static inline bool property_numbers_equal(const struct property_set *a,
                                          const struct property_set *b)
{
#define SAME(id, field) (!property_has(a, id) || a->field == b->field)
    return SAME(PROPERTY_PAYLOAD_FORMAT, payload_format) &&
           SAME(PROPERTY_MESSAGE_EXPIRY, message_expiry) &&
           SAME(PROPERTY_SUBSCRIPTION_ID, subscription_id) &&
           SAME(PROPERTY_SESSION_EXPIRY, session_expiry) &&
           SAME(PROPERTY_SERVER_KEEP_ALIVE, server_keep_alive) &&
           SAME(PROPERTY_REQUEST_PROBLEM_INFO, request_problem_info) &&
           SAME(PROPERTY_WILL_DELAY, will_delay) &&
           SAME(PROPERTY_REQUEST_RESPONSE_INFO, request_response_info) &&
           SAME(PROPERTY_RECEIVE_MAXIMUM, receive_maximum) &&
           SAME(PROPERTY_TOPIC_ALIAS_MAXIMUM, topic_alias_maximum) &&
           SAME(PROPERTY_TOPIC_ALIAS, topic_alias) && SAME(PROPERTY_MAXIMUM_QOS, maximum_qos) &&
           SAME(PROPERTY_RETAIN_AVAILABLE, retain_available) &&
           SAME(PROPERTY_MAXIMUM_PACKET_SIZE, maximum_packet_size) &&
           SAME(PROPERTY_WILDCARDS_AVAILABLE, wildcards_available) &&
           SAME(PROPERTY_SUBSCRIPTION_IDS_AVAILABLE, subscription_ids_available) &&
           SAME(PROPERTY_SHARED_AVAILABLE, shared_available);
#undef SAME
}

static inline bool property_texts_equal(const struct property_set *a, const struct property_set *b)
{
#define SAME(id, field) (!property_has(a, id) || bytes_equal(a->field, b->field))
    return SAME(PROPERTY_CONTENT_TYPE, content_type) &&
           SAME(PROPERTY_RESPONSE_TOPIC, response_topic) &&
           SAME(PROPERTY_CORRELATION_DATA, correlation_data) &&
           SAME(PROPERTY_ASSIGNED_CLIENT_ID, assigned_client_id) &&
           SAME(PROPERTY_AUTH_METHOD, auth_method) && SAME(PROPERTY_AUTH_DATA, auth_data) &&
           SAME(PROPERTY_RESPONSE_INFO, response_info) &&
           SAME(PROPERTY_SERVER_REFERENCE, server_reference) &&
           SAME(PROPERTY_REASON_STRING, reason_string);
#undef SAME
}

static inline bool property_users_equal(const struct property_set *a, const struct property_set *b)
{
    struct bytes name_a, name_b, value_a, value_b;
    for (size_t at_a = 0, at_b = 0;;) {
        bool more = property_next_user(a, &at_a, &name_a, &value_a);
        if (property_next_user(b, &at_b, &name_b, &value_b) != more)
            return false;
        if (!more)
            return true;
        if (!bytes_equal(name_a, name_b) || !bytes_equal(value_a, value_b))
            return false;
    }
}

static inline bool property_ids_equal(const struct property_set *a, const struct property_set *b)
{
    uint32_t id_a, id_b;
    for (size_t at_a = 0, at_b = 0;;) {
        bool more = property_next_subscription_id(a, &at_a, &id_a);
        if (property_next_subscription_id(b, &at_b, &id_b) != more)
            return false;
        if (!more)
            return true;
        if (id_a != id_b)
            return false;
    }
}

static inline bool property_equal(const struct property_set *a, const struct property_set *b)
{
    return a->present == b->present && property_numbers_equal(a, b) && property_texts_equal(a, b) &&
           property_users_equal(a, b) && property_ids_equal(a, b);
}

static inline bool packet_connect_equal(const struct packet_connect *a,
                                        const struct packet_connect *b)
{
    if (a->has_will != b->has_will ||
        (a->has_will && !(a->will.qos == b->will.qos && a->will.retain == b->will.retain &&
                          bytes_equal(a->will.topic, b->will.topic) &&
                          bytes_equal(a->will.payload, b->will.payload) &&
                          property_equal(&a->will.properties, &b->will.properties))))
        return false;
    return a->keep_alive == b->keep_alive && a->clean_start == b->clean_start &&
           a->has_username == b->has_username && a->has_password == b->has_password &&
           bytes_equal(a->client_id, b->client_id) && bytes_equal(a->username, b->username) &&
           bytes_equal(a->password, b->password);
}

static inline bool packet_publish_equal(const struct packet_publish *a,
                                        const struct packet_publish *b)
{
    return bytes_equal(a->topic, b->topic) && bytes_equal(a->payload, b->payload) &&
           a->packet_id == b->packet_id && a->qos == b->qos && a->dup == b->dup &&
           a->retain == b->retain;
}

static inline bool packet_equal(const struct packet *a, const struct packet *b)
{
    if (a->type != b->type || a->version != b->version ||
        !property_equal(&a->properties, &b->properties))
        return false;
    switch (a->type) {
    case PACKET_CONNECT:
        return packet_connect_equal(&a->connect, &b->connect);
    case PACKET_CONNACK:
        return a->connack.reason == b->connack.reason &&
               a->connack.session_present == b->connack.session_present;
    case PACKET_PUBLISH:
        return packet_publish_equal(&a->publish, &b->publish);
    case PACKET_PUBACK:
    case PACKET_PUBREC:
    case PACKET_PUBREL:
    case PACKET_PUBCOMP:
        return a->ack.packet_id == b->ack.packet_id && a->ack.reason == b->ack.reason;
    case PACKET_SUBSCRIBE:
    case PACKET_UNSUBSCRIBE:
        return a->subscribe.packet_id == b->subscribe.packet_id &&
               bytes_equal(a->subscribe.filters, b->subscribe.filters);
    case PACKET_SUBACK:
    case PACKET_UNSUBACK:
        return a->suback.packet_id == b->suback.packet_id &&
               bytes_equal(a->suback.codes, b->suback.codes);
    case PACKET_DISCONNECT:
    case PACKET_AUTH:
        return a->reason.reason == b->reason.reason;
    default:
        return true;
    }
}
