// The built-in broker: MQTT 3.1.1 and 5 over TCP, TLS and WebSocket; a source of messages.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"
#include "base/worker.h"
#include "core/budget.h"
#include "core/message.h"
#include "mqtt/tls.h"

struct publication;

struct broker_listen {
    char *text; // as configured: mqtt://127.0.0.1:1883
    char *host; // numeric address, or "*" for all
    uint16_t port;
    bool tls, websocket, loopback;
};

// Filled by the configuration, which owns the texts. Zero is no bound only where it says so.
struct broker_options {
    char *name; // of the source: "broker"
    struct broker_listen *listens;
    size_t listen_count;
    bool allow_anonymous;
    char *password_file, *acl_file; // or NULL
    char *state;                    // file, or NULL: nothing outlives the process
    // TLS, for the listeners that have it.
    char *ca_file, *certificate_file, *key_file, *crl_file;
    uint8_t client_certificates; // enum tls_clients
    bool certificate_as_username;
    // Limits.
    unsigned connections;     // at a time
    uint32_t connect_timeout; // seconds until CONNECT has come
    uint32_t packet_size;     // bytes; a larger packet ends the connection (v5: it is told)
    uint16_t window;          // Receive Maximum that publishers are given
    uint16_t inflight;        // unacknowledged deliveries to one client at most
    uint16_t topic_aliases;   // Topic Alias Maximum, both ways
    uint16_t keepalive; // seconds; a client that asks for more, or none, gets this; 0: no bound
    uint32_t session_expiry;  // seconds at most; UINT32_MAX: no bound. 3.1.1: clean session 0
    unsigned subscriptions;   // per session
    unsigned queued_messages; // per session
    size_t queued_bytes;      // per session
    size_t received_bytes;    // of a 3.1.1 publisher's messages without acknowledgement
    size_t unsent_bytes;      // a reader that is this far behind gets no QoS 0
    uint32_t write_timeout;   // seconds; a reader that takes nothing for so long is closed
    size_t memory;            // of all messages that wait for subscribers, and retained ones
    uint32_t sys_interval;    // seconds between $SYS messages; 0: none
};

// The broker's calls upward, wired by run.c.
struct broker_calls {
    // Whether some mapping takes messages of this topic from this source.
    bool (*wants)(void *arg, const char *topic, size_t length);
    void (*message)(void *arg, struct message *message); // takes the one hold
    void (*window_full)(void *arg); // a publisher can send no more before a commit
    // PostgreSQL's record of QoS 2 identifiers; see store/exchange.h.
    bool (*exchanges_known)(void *arg); // loaded: QoS 2 may be judged
    bool (*exchange_stored)(void *arg, uint64_t session, uint16_t packet_id);
    // Removes it; broker_exchange_forgotten follows once that is committed.
    void (*exchange_forget)(void *arg, uint64_t session, uint16_t packet_id);
    // A durable session is no more: all its identifiers may go.
    void (*session_ended)(void *arg, uint64_t session);
    void *arg;
};

struct broker_status {
    size_t clients, sessions, subscriptions, retained;
    uint64_t connections_total, refused_total;
    uint64_t received, sent; // PUBLISH packets
    uint64_t received_bytes, sent_bytes;
    uint64_t queued;  // deliveries that wait
    uint64_t dropped; // deliveries that were not made: queue full, slow reader, expired
    size_t memory_used, memory_peak;
    bool state_failing;
    const char *state; // "3 clients", "state: disk full"; until the next call
};

struct broker;

// budget is of messages on their way to the database. Loads accounts, ACL, certificates, state.
// NULL with *error, which the caller frees. All else must outlive it. Opens no port yet.
struct broker *broker_new(struct loop *loop, struct worker *worker, struct budget *budget,
                          const struct broker_options *options, const struct broker_calls *calls,
                          char **error);
// Opens the listeners, or takes over the sockets that systemd passes. False with *error.
bool broker_start(struct broker *broker, char **error);
// Reads accounts, ACL and certificates again; what is wrong keeps the old (*error, false). Who is
// no longer allowed is disconnected. options may be new ones; its listeners are not looked at.
bool broker_reload(struct broker *broker, const struct broker_options *options, char **error);
// "Room again" in the budget.
void broker_resume(struct broker *broker);
// PostgreSQL's identifiers are loaded; one is gone.
void broker_exchanges_loaded(struct broker *broker);
void broker_exchange_forgotten(struct broker *broker, uint64_t session, uint16_t packet_id);
// Whether there is a session of this id (struct session), connected or not.
bool broker_has_session(const struct broker *broker, uint64_t session);
// No new connections, no new messages; acknowledgements still go out.
void broker_quiesce(struct broker *broker);
// Sends what acknowledgements are due and DISCONNECT (0x8B), makes the state durable, then done.
void broker_stop(struct broker *broker, loop_fn *done, void *arg);
void broker_free(struct broker *broker); // all messages must have been settled
const struct message_source *broker_source(const struct broker *broker);
void broker_status(struct broker *broker, struct broker_status *status);

// ---- a session of the process itself: forwarding ----

// A client identifier that begins so is a tap's, and no client's.
#define BROKER_TAP_ID "$forward/"

struct broker_tap;
struct broker_tap_calls {
    // One delivery; it stays in the durable queue until broker_tap_done with this packet id. dup:
    // it was handed over before. At most window (of broker_tap_new) at a time.
    void (*deliver)(void *arg, const struct publication *publication, uint8_t qos, bool retain,
                    uint16_t packet_id);
    void *arg;
};
// The durable session BROKER_TAP_ID NAME with these filters (those of before that are not in it are
// unsubscribed); deliveries begin with broker_tap_open and begin anew after each.
struct broker_tap *broker_tap_new(struct broker *broker, const char *name,
                                  const char *const *filters, size_t count, uint8_t qos,
                                  uint16_t window, const struct broker_tap_calls *calls);
void broker_tap_open(struct broker_tap *tap);
void broker_tap_close(struct broker_tap *tap); // nothing is delivered until it is opened again
void broker_tap_done(struct broker_tap *tap, uint16_t packet_id);
size_t broker_tap_queued(const struct broker_tap *tap);
void broker_tap_free(struct broker_tap *tap); // the session stays in the state
// When all taps are made: ends the sessions of those that there were before.
void broker_taps_made(struct broker *broker);
