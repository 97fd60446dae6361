// The subscriber's session: CONNECT, CONNACK, what the broker allows, and whither its packets go.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/failpoint.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/secret.h"
#include "mqtt/subscriber_internal.h"

const char *subscriber_client_id(const struct subscriber *sub)
{
    if (sub->assigned_id)
        return sub->assigned_id;
    return sub->options->client_id ? sub->options->client_id : "";
}

const char *subscriber_reason_text(const struct packet *packet, char *buffer, size_t size)
{
    struct bytes text = packet->properties.reason_string;
    buffer[0] = '\0';
    if (property_has(&packet->properties, PROPERTY_REASON_STRING) && text.length > 0)
        snprintf(buffer, size, " (%.*s)", (int)text.length, (const char *)text.data);
    return buffer;
}

// From CONNECT to CONNACK nobody knows whether the broker has begun a new session: if the answer
// never comes, the Session Present 1 of a later one would be of a session that has none of our
// filters.
static void doubt_session(struct subscriber *sub)
{
    for (size_t i = 0; sub->doubtful && i < sub->held.count; i++)
        sub->held.items[i].sure = false;
    sub->doubtful = true;
    subscriber_doubt(sub);
}

void subscriber_greet(struct subscriber *sub)
{
    const struct subscriber_options *options = sub->options;
    const char *client_id = subscriber_client_id(sub);
    // 3.1.1 has no password without a user name [MQTT-3.1.2-22].
    bool with_password = options->password_file && (options->username || sub->version == PACKET_V5);
    char *why = NULL, *password = NULL;
    // Read at each connect, so that a change needs no restart.
    if (with_password && !(password = secret_read(options->password_file, &why))) {
        subscriber_lost(sub, LOG_LEVEL_ERROR, "password_file: %s", why);
        free(why);
        return;
    }
    doubt_session(sub);
    // 3.1.1 has no session without a client identifier, and none that ends with the connection but
    // a clean one.
    sub->clean = options->session_expiry == 0 || (sub->version == PACKET_V311 && !*client_id);
    struct packet packet = {
        .type = PACKET_CONNECT,
        .version = sub->version,
        .properties = {.present = PROPERTY_BIT(PROPERTY_SESSION_EXPIRY) |
                                  PROPERTY_BIT(PROPERTY_RECEIVE_MAXIMUM) |
                                  PROPERTY_BIT(PROPERTY_REQUEST_PROBLEM_INFO),
                       .session_expiry = options->session_expiry,
                       .receive_maximum = sub->window.limit,
                       .request_problem_info = 1},
        .connect = {.client_id = bytes_of(client_id),
                    .keep_alive = options->keepalive,
                    .clean_start = sub->clean,
                    .has_username = options->username != NULL,
                    .has_password = with_password},
    };
    if (options->username)
        packet.connect.username = bytes_of(options->username);
    if (with_password)
        packet.connect.password = bytes_of(password);
    subscriber_send(sub, &packet);
    secret_free(password);
}

static void limits_take(struct subscriber *sub, const struct property_set *set)
{
    sub->limits.keepalive = sub->options->keepalive;
    if (property_has(set, PROPERTY_SERVER_KEEP_ALIVE)) // [MQTT-3.1.2-21]
        sub->limits.keepalive = (uint16_t)set->server_keep_alive;
    sub->limits.packet = UINT32_MAX;
    if (property_has(set, PROPERTY_MAXIMUM_PACKET_SIZE))
        sub->limits.packet = set->maximum_packet_size;
    // Maximum QoS and Receive Maximum bound what we publish, which is nothing.
    sub->limits.wildcards =
        !property_has(set, PROPERTY_WILDCARDS_AVAILABLE) || set->wildcards_available;
    sub->limits.shared = !property_has(set, PROPERTY_SHARED_AVAILABLE) || set->shared_available;
    sub->limits.retained = !property_has(set, PROPERTY_RETAIN_AVAILABLE) || set->retain_available;
    sub->limits.identifiers =
        sub->version == PACKET_V5 && (!property_has(set, PROPERTY_SUBSCRIPTION_IDS_AVAILABLE) ||
                                      set->subscription_ids_available);
    if (property_has(set, PROPERTY_SESSION_EXPIRY) &&
        set->session_expiry < sub->options->session_expiry)
        log_warn(
            "%s: the broker keeps the session for %u s only: what is published during a longer "
            "outage is lost",
            sub->source.name, set->session_expiry);
    if (property_has(set, PROPERTY_ASSIGNED_CLIENT_ID)) {
        free(sub->assigned_id);
        sub->assigned_id =
            mem_strndup((const char *)set->assigned_client_id.data, set->assigned_client_id.length);
    }
}

static const char *advice(uint8_t version, uint8_t reason)
{
    if (version == PACKET_V311) {
        if (reason == CONNACK_IDENTIFIER_REJECTED)
            return ": choose another client_id";
        return reason >= CONNACK_BAD_USER_OR_PASSWORD ? ": check username and password_file" : "";
    }
    switch (reason) {
    case REASON_CLIENT_ID_NOT_VALID:
        return ": choose another client_id";
    case REASON_BAD_USER_OR_PASSWORD:
    case REASON_NOT_AUTHORIZED:
        return ": check username and password_file";
    default:
        return "";
    }
}

// packet->version is that of the answer: a server of 3.1.1 alone refuses MQTT 5 in its own way.
static void refused(struct subscriber *sub, const struct packet *packet)
{
    uint8_t reason = packet->connack.reason;
    bool version = packet->version == PACKET_V311 ? reason == CONNACK_UNACCEPTABLE_VERSION
                                                  : reason == REASON_UNSUPPORTED_VERSION;
    if (version && sub->version == PACKET_V5) {
        subscriber_fall_back(sub);
        return;
    }
    char text[120];
    subscriber_lost(sub, LOG_LEVEL_ERROR, "refused: %s%s%s",
                    packet_reason_name(packet->version, PACKET_CONNACK, reason),
                    subscriber_reason_text(packet, text, sizeof text),
                    advice(packet->version, reason));
}

// For a session that is new to the broker, or of which nothing is remembered. It is durable before
// it is used: identifiers under a number that a restart does not know would say nothing.
static void number_session(struct subscriber *sub)
{
    uint64_t ended = sub->number;
    sub->number = hash_seed() | 1; // not 0
    if (!subscriber_memorise(sub)) {
        sub->number = 0;
        subscriber_forget_memory(sub);
    }
    if (ended != 0)
        sub->calls.session_ended(sub->calls.arg, ended);
}

static void take_connack(struct subscriber *sub, const struct packet *packet)
{
    bool present = packet->connack.session_present;
    sub->doubtful = false;
    if (packet->connack.reason != REASON_SUCCESS) {
        subscriber_believe(sub);
        refused(sub, packet);
        return;
    }
    if (present && sub->clean) { // [MQTT-3.2.2-4]
        subscriber_refuse(sub, REASON_PROTOCOL_ERROR, "session present after a clean start");
        return;
    }
    loop_timer_stop(sub->timer);
    limits_take(sub, &packet->properties);
    sub->state = SUBSCRIBER_UP;
    sub->up_since_ms = loop_now_ms();
    sub->unanswered = 0;
    sub->resending = present;
    sub->down[0] = '\0';
    sub->connects++;
    log_info("%s: connected to %s:%u as %s, MQTT %s, %s", sub->source.name, sub->options->host,
             sub->options->port, subscriber_client_id(sub),
             sub->version == PACKET_V5 ? "5" : "3.1.1",
             present ? "session present" : "new session");
    subscriber_keep_alive(sub);
    if (present) {
        subscriber_believe(sub);
    } else {
        FAILPOINT("session");
        subscriber_forget_exchanges(sub);
        filters_clear(&sub->held);
    }
    if (!present || sub->number == 0)
        number_session(sub);
    subscriber_subscribe(sub);
}

static void take_disconnect(struct subscriber *sub, const struct packet *packet)
{
    char text[200];
    bool taken_over = packet->reason.reason == REASON_SESSION_TAKEN_OVER;
    subscriber_lost(sub, LOG_LEVEL_WARN, "the broker says: %s%s%s",
                    packet_reason_name(sub->version, PACKET_DISCONNECT, packet->reason.reason),
                    taken_over ? " (does another client use the same client_id?)" : "",
                    subscriber_reason_text(packet, text, sizeof text));
}

void subscriber_take_packet(struct subscriber *sub, const struct packet *packet)
{
    char text[60];
    if (sub->state == SUBSCRIBER_GREETING) {
        if (packet->type == PACKET_CONNACK)
            take_connack(sub, packet);
        else
            subscriber_refuse(sub, REASON_PROTOCOL_ERROR, "another packet before CONNACK");
        return;
    }
    switch (packet->type) {
    case PACKET_PUBREL:
        subscriber_take_pubrel(sub, packet);
        return;
    case PACKET_PINGRESP:
        return;
    case PACKET_SUBACK:
        subscriber_take_suback(sub, packet);
        return;
    case PACKET_UNSUBACK:
        subscriber_take_unsuback(sub, packet);
        return;
    case PACKET_DISCONNECT:
        take_disconnect(sub, packet);
        return;
    default:
        snprintf(text, sizeof text, "%s, which answers nothing", packet_type_name(packet->type));
        subscriber_refuse(sub, REASON_PROTOCOL_ERROR, text);
    }
}
