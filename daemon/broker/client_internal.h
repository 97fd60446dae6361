// What the files of the client share; nobody else includes it.
#pragma once

#include "broker/broker_internal.h"
#include "broker/client.h"
#include "broker/client_send.h"
#include "broker/incoming.h"
#include "mqtt/conn.h"
#include "mqtt/packet.h"
#include "mqtt/window.h"

#define CLIENT_TEXT_SIZE 160 // of the text that client_text writes

enum client_state {
    CLIENT_NEW,      // no CONNECT yet
    CLIENT_CHECKING, // its password is being checked; the connection holds the CONNECT
    CLIENT_ADMITTED, // the password is right; CONNECT is about to come once more
    CLIENT_DENIED,   // the password is wrong; CONNECT is about to come once more
    CLIENT_GREETING, // the session is there; CONNACK waits until it is in the state file
    CLIENT_UP,
    CLIENT_CLOSING, // nothing is taken any more, the last bytes are on their way
    CLIENT_OVER,    // freed by the end of this turn of the loop
};

struct topic_alias {
    uint8_t *topic; // NULL: not set
    size_t length;
};

// The answer to a SUBSCRIBE or UNSUBSCRIBE that the connection holds until it is durable.
struct answer {
    bool durable;
    size_t count;
    uint8_t codes[]; // and as many flags: whether the subscription is new
};

// Idle clients are many: what only some need is allocated when it is needed.
struct client {
    struct client_send send; // first: a session's sink is its client
    struct broker *broker;
    struct conn *conn;
    struct list node, turn_node, stall_node; // in the broker's lists
    uint64_t id;
    struct session *session; // while it is greeting or up
    struct conn_limits limits;
    struct wheel_entry timer; // CONNECT, keepalive or closing, as the state has it
    int64_t seen_ms;          // the last packet
    char *username;           // as which it has logged in; NULL: anonymous
    struct accounts_check *check;
    struct window window;        // of its PUBLISHes
    struct topic_alias *aliases; // alias_count of them, or NULL before the first
    struct answer *answer;
    size_t received_bytes; // of messages in the window
    uint16_t outstanding;  // PUBLISHes that count for our Receive Maximum [MQTT-3.3.4-7]
    uint16_t alias_count;  // the Topic Alias Maximum that it was given
    uint16_t keepalive;    // seconds; 0: never ends for silence
    uint8_t state, version;
    bool held;            // its connection holds a packet
    bool by_password;     // it has logged in by the password file
    bool abandoned;       // a message was, so only a new connection brings it again
    bool session_present; // for CONNACK
    bool assigned;        // its client identifier is ours
    uint16_t asked_keepalive;
    uint32_t asked_expiry; // seconds
};

// A PUBLISH that is being dealt with.
struct arrival {
    const struct packet *packet;
    struct bytes topic;
    size_t size; // of the packet
    bool allowed, mapped;
};

// The client whose connection the session delivers to; NULL: it is not there, or not greeted yet.
// Not for sessions of the process itself.
static inline struct client *client_of(const struct session *session)
{
    struct client *client = (struct client *)(void *)session->sink;
    return client && client->state == CLIENT_UP ? client : NULL;
}

// ---- client.c ----
// Has the rest done at the end of this turn of the loop: once for all that is settled in it.
void client_later(struct client *client);
// Keeps the packet in the connection until client_resume.
enum conn_next client_hold(struct client *client);
void client_resume(struct client *client);
// "client 'altimeter-7' at 192.0.2.1:50000"; returns text.
const char *client_text(const struct client *client, char text[CLIENT_TEXT_SIZE]);
// Sends a packet. False: it is larger than the client takes.
bool client_send_packet(struct client *client, const struct packet *packet);
void client_send_ack(struct client *client, enum packet_type type, uint16_t packet_id,
                     uint8_t reason);
// From now on client_by_id does not find it.
void client_forget_id(struct client *client);

// ---- client_end.c ----
// Lets the session go and closes, when the last bytes have left. A reason of 0x80 or more is told
// to a client of MQTT 5; why is for people.
void client_end(struct client *client, uint8_t reason, const char *why);
// The same for a client that breaks the protocol; for the packet's sake returns CONN_HOLD.
enum conn_next client_refuse(struct client *client, uint8_t reason, const char *why);
// Lets the session go and closes, without a word.
void client_close(struct client *client);
void client_take_disconnect(struct client *client, const struct packet *packet);
// The stream is closed already.
void client_closed(struct client *client, const char *why);
void client_free(struct client *client);

// ---- client_connect.c, client_greet.c ----
enum conn_next client_take_connect(struct client *client, const struct packet_frame *frame,
                                   struct bytes body);
// CONNECT is allowed: takes over, finds or makes the session.
void client_admit(struct client *client, const struct packet *packet);
// Answers a CONNECT (NULL: it is malformed) by a refusal, in the form of the client's version, and
// closes.
void client_reject(struct client *client, const struct packet_connect *connect, uint8_t reason,
                   enum connack_code code, const char *why);

// ---- client_keepalive.c ----
void client_timer_due(struct wheel_entry *entry);
void client_keep_alive(struct client *client);
// Looks now and then whether a client that is held, perhaps for long, is there still.
void client_watch_held(struct client *client);

// ---- client_message.c ----
// What a PUBLISH or a will is for the broker's own subscribers; the caller's to release.
struct publication *client_publication(struct client *client, const struct arrival *arrival);
struct publication *client_will(struct client *client, const struct packet_will *will);
// What it is for the mappings; held by the caller.
struct message *client_message(struct client *client, const struct arrival *arrival,
                               uint64_t ticket);

// ---- client_publish.c ----
enum conn_next client_take_publish(struct client *client, const struct packet *packet, size_t size);
// Whether anybody, or the retained messages, would get it.
bool client_is_wanted(struct client *client, const struct arrival *arrival);
// Whether there is no memory for publications, which is logged.
bool client_memory_full(struct client *client);
void client_free_aliases(struct client *client);
// Counts a message that no mapping gets.
void client_count_unmapped(struct client *client, enum verdict verdict);
// Takes a message into the window.
void client_push(struct client *client, const struct arrival *arrival, uint8_t waits,
                 uint8_t reason, uint64_t *ticket);

// ---- client_exchange.c ----
enum conn_next client_take_exactly_once(struct client *client, const struct arrival *arrival);
enum conn_next client_take_pubrel(struct client *client, const struct packet *packet);
void exchange_settled(struct broker *broker, const struct message *message);

// ---- client_acks.c ----
// Writes the acknowledgements that are due.
void client_release(struct client *client);
enum conn_next client_take_ack(struct client *client, const struct packet *packet);

// ---- client_subscribe.c ----
enum conn_next client_take_subscribe(struct client *client, const struct packet *packet);
