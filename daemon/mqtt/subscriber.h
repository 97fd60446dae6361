// A client of the site's broker: takes messages by QoS 0, 1 or 2 and acknowledges by their
// verdicts.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"
#include "base/worker.h"
#include "core/budget.h"
#include "core/message.h"

struct subscription {
    char *filter; // with $share/NAME/ where it is shared
    uint8_t qos;
    bool retained; // some mapping wants retained copies on subscribe
    uint32_t id;   // the mappings' subscription_id
};

// Filled by the configuration, which owns the texts.
struct subscriber_options {
    char *name; // of the section
    char *host;
    uint16_t port;
    bool tls, websocket;
    char *path; // of a WebSocket
    // TLS; NULL where not given.
    char *ca_file, *certificate_file, *key_file, *crl_file;
    bool verify; // the broker's certificate and name
    char *client_id;
    uint8_t protocol; // 5: with fall-back to 3.1.1; 4: 3.1.1 only
    char *username, *password_file;
    uint16_t keepalive;      // seconds
    uint16_t window;         // unacknowledged messages, Receive Maximum
    uint32_t session_expiry; // seconds; UINT32_MAX: never
    size_t max_payload;      // bytes; a larger PUBLISH is read through and rejected
    char *state_directory;   // keeps NAME.filters, its session; NULL: in memory only
    struct subscription *subscriptions;
    size_t subscription_count;
};

// The subscriber's calls upward, wired by main.
struct subscriber_calls {
    void (*message)(void *arg, struct message *message); // takes the one hold
    void (*window_full)(void *arg); // the sender can send no more before a commit
    // PostgreSQL's record of QoS 2 identifiers; see store/exchange.h. Not called where there is no
    // state directory.
    bool (*exchanges_known)(void *arg); // loaded: QoS 2 may be judged
    bool (*exchange_may_be_stored)(void *arg, uint64_t session, uint16_t packet_id);
    bool (*message_stored)(void *arg, const struct message *message);
    // Removes it; subscriber_exchange_forgotten follows once that is committed.
    void (*exchange_forget)(void *arg, uint64_t session, uint16_t packet_id);
    void (*session_ended)(void *arg, uint64_t session);
    void *arg;
};

struct subscriber_status {
    const char *state; // "connected", "connecting", "down: connection refused"; until the next call
    bool connected, subscribed, paused;
    size_t unacknowledged;
    uint64_t connects, window_full;
};

struct subscriber;

// The options, worker, budget must outlive it. Starts nothing yet.
struct subscriber *subscriber_new(struct loop *loop, struct worker *worker, struct budget *budget,
                                  const struct subscriber_options *options,
                                  const struct subscriber_calls *calls);
// All messages must have been settled.
void subscriber_free(struct subscriber *subscriber);
void subscriber_start(struct subscriber *subscriber);
// Reads the certificates anew, from the files that options name, for connections to come; the one
// there is stays. False with *error, which the caller frees: the old ones go on.
bool subscriber_reload_tls(struct subscriber *subscriber, const struct subscriber_options *options,
                           char **error);
// The subscriptions of its options are others now: brings the broker's to them.
void subscriber_resubscribe(struct subscriber *subscriber);
// "Room again": goes on reading if the budget had stopped it.
void subscriber_resume(struct subscriber *subscriber);
// Stops reading new messages; acknowledgements still go out.
void subscriber_quiesce(struct subscriber *subscriber);
// exchanges_known has come true.
void subscriber_exchanges_loaded(struct subscriber *subscriber);
void subscriber_exchange_forgotten(struct subscriber *subscriber, uint64_t session,
                                   uint16_t packet_id);
// Whether identifiers of this session are its own, from subscriber_start on.
bool subscriber_has_session(const struct subscriber *subscriber, uint64_t session);
// Sends what acknowledgements are due and DISCONNECT, then calls done when they are on the wire (or
// cannot be).
void subscriber_stop(struct subscriber *subscriber, loop_fn *done, void *arg);
const struct message_source *subscriber_source(const struct subscriber *subscriber);
void subscriber_status(const struct subscriber *subscriber, struct subscriber_status *status);
