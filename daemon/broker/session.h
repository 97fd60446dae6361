// Sessions: subscriptions, the queue of deliveries, what they outlive. Knows nothing of
// connections: it delivers to a sink.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/list.h"
#include "base/log.h"
#include "base/wheel.h"
#include "broker/publication.h"
#include "core/topic.h"
#include "mqtt/packet.h"

struct acl;
struct fanout;   // session_publish.c
struct incoming; // QoS 2 identifiers of what the client publishes: incoming.h
struct retained;
struct router;
struct state;
struct will;

struct delivery {
    struct publication *publication; // held; NULL: PUBREC has come, PUBREL is due or sent
    uint32_t *ids;                   // Subscription Identifiers that matched, owned; NULL: none
    uint16_t id_count;
    uint16_t packet_id; // 0 with QoS 0; given when it is queued
    uint8_t qos;
    bool retain, sent; // sent: in flight on this connection
    bool dup;          // it may have been sent on an earlier connection
    bool ready;        // false: QoS 2 of a durable session; the state file must have it first
    bool snapshot;     // a retained message sent on subscription: no bound of the queue counts it
};

// What a session delivers to while somebody is there; embedded in a client's connection or a tap.
// The calls must not publish, nor detach, end or free a session; an acknowledgement may come from
// within them, as the last thing that they do.
struct sink;
struct sink_calls {
    // Sends it. False: it is larger than the peer takes, so it counts as sent [MQTT-3.1.2-25].
    bool (*publish)(struct sink *sink, const struct delivery *delivery);
    void (*pubrel)(struct sink *sink, uint16_t packet_id);
    // Whether the peer reads: otherwise QoS 0 is dropped and QoS 1 and 2 wait for session_pump.
    bool (*ready)(struct sink *sink);
};
struct sink {
    const struct sink_calls *calls;
    uint16_t window; // deliveries of QoS 1 and 2 in flight at most: Receive Maximum
};

struct session {
    struct list node;           // in the table
    struct session *next_by_id; // in the other table
    struct sessions *sessions;
    uint64_t id; // random, never 0; another one for each new session of a client
    char *client_id;
    char *username;    // as which it subscribed, for the ACL; NULL: anonymous
    struct sink *sink; // NULL: nobody is there
    uint32_t expiry;   // seconds; 0: it ends with the connection; UINT32_MAX: never
    bool durable;      // expiry > 0: it is in the state file, with all that belongs to it
    bool internal;     // of the process itself: no ACL applies
    bool stored;       // it is in the state file, be it for its will alone
    uint8_t version;
    struct will *will;
    struct incoming *incoming;                // NULL: none; owned by incoming.c
    struct subscription_entry *subscriptions; // session_subscribe.c
    uint32_t subscription_count;
    struct delivery *queue; // a ring, oldest first; NULL while empty
    uint32_t queue_first, queue_count, queue_capacity;
    uint32_t sent_count; // deliveries at the front of the queue that are sent: of the sink's window
    uint32_t zero_count, snapshot_count; // deliveries in the queue with QoS 0, of snapshots
    size_t queued_bytes;                 // but for snapshots
    uint64_t dropped;
    uint16_t next_packet_id;    // 1 at first
    uint16_t free_ids;          // from next_packet_id on, so many are known to be in no delivery
    struct wheel_entry expires; // after the connection's end
    // Scratch of one publication's way: which of its subscriptions have matched.
    uint64_t match_turn;
    uint32_t match_index;
};

struct session_limits {
    unsigned subscriptions, queued_messages;
    size_t queued_bytes;
};

struct sessions_counters {
    uint64_t dropped_full, dropped_slow, dropped_expired, dropped_denied;
    uint64_t sent, sent_bytes; // PUBLISH packets to clients; the sinks count them
};

// All sessions by client id, with the tree of their subscriptions and the retained messages.
struct sessions {
    struct state *state;
    struct wheel *wheel;
    struct budget *budget;
    const struct acl *acl; // NULL: everything is allowed; changed by a reload
    struct session_limits limits;
    struct router *router;     // subscriptions of all: router.h
    struct retained *retained; // retained.h
    struct sessions_counters counters;
    size_t count, subscription_count;
    uint64_t queued;                     // deliveries in all queues
    struct list *buckets;                // hash table by client id
    struct session **ids;                // and by id
    size_t bucket_count;                 // of both
    uint64_t seed;                       // of the hash
    struct fanout *fanout;               // scratch of sessions_publish
    struct log_limit full_log, will_log; // of lines about full queues, and wills that are denied
    // Either may be NULL. A session is about to be freed; a will is published (also at load).
    void (*ended)(void *arg, struct session *session);
    void (*will)(void *arg, struct session *session, struct publication *message);
    void *arg;
};

struct sessions *sessions_new(struct wheel *wheel, struct state *state, struct budget *budget,
                              const struct session_limits *limits);
// Says nothing to state. What waits for durability then never comes: state_close first, or at once.
void sessions_free(struct sessions *sessions);
// What the state file holds: sessions, queues, retained, wills; incoming through incoming_load.
bool sessions_load(struct sessions *sessions, char **error);

// ---- life: sessions and their subscriptions are charged to the budget ----
struct session *session_by_id(const struct sessions *sessions, uint64_t id);
struct session *session_find(const struct sessions *sessions, struct bytes client_id);
// A new one, connected to nobody; there is none of this client id.
struct session *session_new(struct sessions *sessions, struct bytes client_id, const char *username,
                            uint8_t version, uint32_t expiry);
// For a client that comes back: what may have changed; clears expiry and a delayed will.
void session_resume(struct session *session, const char *username, uint8_t version,
                    uint32_t expiry);
void session_set_expiry(struct session *session, uint32_t expiry);
// The will of this connection; message is held. delay in seconds [MQTT-3.1.2-8].
void session_set_will(struct session *session, struct publication *message, uint32_t delay);
void session_drop_will(struct session *session);
// Somebody is there: repeats what is unacknowledged, in order [MQTT-4.4.0-1], then goes on.
void session_attach(struct session *session, struct sink *sink);
// The connection has ended: publishes the will now or after its delay, starts the expiry or ends
// the session. It may be freed within.
void session_detach(struct session *session);
// Ends and frees it: a will that waits is published, subscriptions and queue are gone. Shared
// deliveries that were not sent are not given to others [MQTT-4.8.2-5].
void session_end(struct session *session);

// ---- subscriptions ----
// One filter of a SUBSCRIBE; id its Subscription Identifier or 0. A reason code: granted QoS, or
// why not (0x87, 0x8F, 0x97, ...). Call session_send_retained for it after SUBACK is written.
uint8_t session_subscribe(struct session *session, const struct packet_filter *filter, uint32_t id,
                          bool *is_new);
void session_send_retained(struct session *session, const struct packet_filter *filter, uint32_t id,
                           bool is_new);
bool session_unsubscribe(struct session *session, struct bytes filter); // whether there was one

// ---- publishing ----
struct routed {
    uint32_t matched; // subscriptions
    uint32_t refused; // deliveries not queued because a quota was exhausted
    bool stored;      // something was written to the state: it may be waited for
};
// To all who subscribe, and into the retained messages where retain is set [MQTT-3.3.1-5].
struct routed sessions_publish(struct sessions *sessions, struct publication *publication);
// Whether anybody would get it: otherwise no publication need be made.
bool sessions_want(const struct sessions *sessions, struct bytes topic);

// ---- the sender's half of QoS 1 and 2 ----
enum session_ack { SESSION_ACK_OK, SESSION_ACK_UNKNOWN, SESSION_ACK_WRONG };
// PUBACK, PUBREC or PUBCOMP. UNKNOWN: no such identifier is in flight (a PUBREC then gets a PUBREL
// with 0x92). WRONG: it is of another kind [MQTT-4.8.0-1]: close.
enum session_ack session_take_ack(struct session *session, enum packet_type type,
                                  uint16_t packet_id, uint8_t reason);
// Sends what can be sent: after room in the socket, durability, or an acknowledgement.
void session_pump(struct session *session);
