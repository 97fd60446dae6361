// CONNECT: whether it is well-formed, and who sends it.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "broker/client_internal.h"

// ---- refusals ----

#define SHOWN_MAX 64 // bytes of a name

static int shown(struct bytes name)
{
    return name.length < SHOWN_MAX ? (int)name.length : SHOWN_MAX;
}

// Names of strangers: they are what they say.
static void log_refusal(struct client *client, const struct packet_connect *connect,
                        const char *why)
{
    char address[CONN_ADDRESS_SIZE], more[LOG_MORE_SIZE], name[SHOWN_MAX + 16] = "no user name";
    struct bytes id = connect ? connect->client_id : bytes_of("");
    struct bytes user = connect && connect->has_username ? connect->username : bytes_of("");
    const char *certified = conn_peer_name(client->conn);
    uint64_t suppressed;
    if (!log_cause_pass(&client->broker->refusals, why, &suppressed))
        return;
    if (user.length == 0 && certified)
        user = bytes_of(certified);
    if (user.length > 0)
        snprintf(name, sizeof name, "user '%.*s'", shown(user), (const char *)user.data);
    conn_peer_address(client->conn, address);
    log_warn("%s: client '%.*s' at %s, %s, is refused: %s%s", client->broker->source.name,
             shown(id), (const char *)id.data, address, name, why, log_more(suppressed, more));
}

void client_reject(struct client *client, const struct packet_connect *connect, uint8_t reason,
                   enum connack_code code, const char *why)
{
    bool v5 = client->version == PACKET_V5;
    struct packet packet = {.type = PACKET_CONNACK, .version = client->version};
    packet.connack.reason = v5 ? reason : (uint8_t)code;
    if (v5)
        packet.properties = (struct property_set){.present = PROPERTY_BIT(PROPERTY_REASON_STRING),
                                                  .reason_string = bytes_of(why)};
    client->broker->refused++;
    log_refusal(client, connect, why);
    if (!client_send_packet(client, &packet)) {
        packet.properties.present = 0;
        client_send_packet(client, &packet);
    }
    client_close(client);
}

// The bytes make no CONNECT. A client of MQTT 5 is told [MQTT-4.13.1-1]; to one of 3.1.1 there is
// nothing to say, but where it wants another version [MQTT-3.1.2-2].
static void reject_malformed(struct client *client, const struct packet *packet,
                             const struct packet_error *error)
{
    if (error->reason == REASON_UNSUPPORTED_VERSION) {
        client->version = packet->version > PACKET_V5 ? PACKET_V5 : PACKET_V311;
        client_reject(client, NULL, error->reason, CONNACK_UNACCEPTABLE_VERSION, error->text);
    } else if (packet->version == PACKET_V5) {
        client->version = PACKET_V5;
        client_reject(client, NULL, error->reason, CONNACK_ACCEPTED, error->text);
    } else {
        client_end(client, error->reason, error->text);
    }
}

// ---- who it is ----

static enum conn_next admit(struct client *client, const struct packet *packet)
{
    client_admit(client, packet);
    return client->state >= CLIENT_CLOSING ? CONN_HOLD : CONN_NEXT;
}

static enum conn_next not_authorized(struct client *client, const struct packet_connect *connect,
                                     const char *why)
{
    client_reject(client, connect, REASON_NOT_AUTHORIZED, CONNACK_NOT_AUTHORIZED, why);
    return CONN_HOLD;
}

// The CONNECT, which its connection holds, comes again.
static void checked(void *arg, bool ok)
{
    struct client *client = arg;
    client->check = NULL;
    client->state = ok ? CLIENT_ADMITTED : CLIENT_DENIED;
    client_resume(client);
}

// A thread does it: it is meant to take long. Nothing more is read from this client meanwhile.
static enum conn_next check_password(struct client *client, const struct packet_connect *connect)
{
    struct broker *broker = client->broker;
    client->check = accounts_check(broker->accounts, broker->worker, client->username,
                                   connect->password, checked, client);
    if (!client->check) {
        client_reject(client, connect, REASON_SERVER_BUSY, CONNACK_SERVER_UNAVAILABLE,
                      "too many passwords are being checked");
        return CONN_HOLD;
    }
    client->by_password = true;
    client->state = CLIENT_CHECKING;
    return client_hold(client);
}

// A name that nobody vouches for is none: it must not open what the ACL gives to its owner.
static enum conn_next identify(struct client *client, const struct packet *packet)
{
    const struct packet_connect *connect = &packet->connect;
    struct broker *broker = client->broker;
    const char *certified =
        broker->options->certificate_as_username ? conn_peer_name(client->conn) : NULL;
    free(client->username);
    client->username = NULL;
    client->by_password = false;
    if (certified) {
        client->username = mem_strdup(certified);
        return admit(client, packet);
    }
    if (connect->has_username && broker->accounts) {
        client->username =
            mem_strndup((const char *)connect->username.data, connect->username.length);
        return check_password(client, connect);
    }
    if (broker->options->allow_anonymous)
        return admit(client, packet);
    return not_authorized(client, connect,
                          connect->has_username ? "there is no password file"
                                                : "a user name is needed");
}

// ---- the packet ----

// [MQTT-3.1.3-8]: 3.1.1 has no session without a name, so only a clean one can go without.
static bool id_check(struct client *client, const struct packet *packet)
{
    const struct packet_connect *connect = &packet->connect;
    if (connect->client_id.length > 0 || connect->clean_start || packet->version == PACKET_V5)
        return true;
    client_reject(client, connect, REASON_CLIENT_ID_NOT_VALID, CONNACK_IDENTIFIER_REJECTED,
                  "no client identifier, and no clean session");
    return false;
}

static bool take(struct client *client, const struct packet_frame *frame, struct bytes body,
                 struct packet *packet)
{
    struct packet_error error;
    if (frame->type != PACKET_CONNECT) { // [MQTT-3.1.0-1]
        client_end(client, REASON_PROTOCOL_ERROR, "its first packet is no CONNECT");
        return false;
    }
    packet->version = PACKET_V311;
    if (!packet_parse(frame, body.data, PACKET_V311, PACKET_FROM_CLIENT, packet, &error)) {
        reject_malformed(client, packet, &error);
        return false;
    }
    client->version = client->send.version = packet->version;
    if (property_has(&packet->properties, PROPERTY_MAXIMUM_PACKET_SIZE))
        client->send.packet_max = packet->properties.maximum_packet_size;
    return true;
}

enum conn_next client_take_connect(struct client *client, const struct packet_frame *frame,
                                   struct bytes body)
{
    struct packet packet;
    if (!take(client, frame, body, &packet))
        return CONN_HOLD;
    if (client->state == CLIENT_ADMITTED)
        return admit(client, &packet);
    if (client->state == CLIENT_DENIED) {
        client_reject(client, &packet.connect, REASON_BAD_USER_OR_PASSWORD,
                      CONNACK_BAD_USER_OR_PASSWORD, "bad user name or password");
        return CONN_HOLD;
    }
    client_watch_held(client);
    if (client->broker->quiet) {
        client_reject(client, &packet.connect, REASON_SERVER_UNAVAILABLE,
                      CONNACK_SERVER_UNAVAILABLE, "the broker is about to stop");
        return CONN_HOLD;
    }
    if (property_has(&packet.properties, PROPERTY_AUTH_METHOD)) { // [MQTT-4.12.0-1]
        client_reject(client, &packet.connect, REASON_BAD_AUTHENTICATION_METHOD,
                      CONNACK_NOT_AUTHORIZED, "there is no enhanced authentication");
        return CONN_HOLD;
    }
    return id_check(client, &packet) ? identify(client, &packet) : CONN_HOLD;
}
