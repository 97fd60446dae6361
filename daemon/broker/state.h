// What the broker must know after a crash: sessions, subscriptions, deliveries, incoming QoS 2
// identifiers, retained messages, wills. Kept in memory by others; here it becomes durable.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/loop.h"
#include "broker/publication.h"

struct state;

struct state_session {
    uint64_t id; // random, never 0: a session of the same client that is begun anew has another one
    const char *client_id, *username; // username may be NULL
    uint32_t expiry;         // seconds; UINT32_MAX: never. 0: it is here for its will alone
    int64_t ended_us;        // wall clock: when its connection ended; 0: connected
    uint16_t next_packet_id; // may lag behind: what deliveries say counts too
    uint8_t version;
};

struct state_subscription {
    const char *filter; // with $share/NAME/
    uint32_t id;        // Subscription Identifier, 0: none
    uint8_t qos, retain_handling;
    bool no_local, retain_as_published;
};

enum state_phase {
    STATE_QUEUED,   // to be sent, or sent and not acknowledged
    STATE_RELEASED, // PUBREC has come: only PUBREL is repeated
};

struct state_delivery {
    uint16_t packet_id;
    uint8_t qos; // 1 or 2
    uint8_t phase;
    bool retain;
    bool sent;                     // may have been: DUP is set from then on
    struct bytes subscription_ids; // encoded properties, for PUBLISH
};

struct state_incoming { // QoS 2: PUBLISH has come, PUBREL has not
    uint16_t packet_id;
    bool mapped; // PostgreSQL has, or will have, its rows and its identifier
};

// How the stored is given back, in this order: sessions, each with its subscriptions, will,
// deliveries in their order, and incoming; then retained messages. publication is held by the
// callee if it wants to keep it. Writes are allowed, such as dropping a session that has expired.
struct state_load_calls {
    void (*session)(void *arg, const struct state_session *session);
    void (*subscription)(void *arg, uint64_t session, const struct state_subscription *);
    void (*will)(void *arg, uint64_t session, struct publication *will, uint32_t delay);
    // publication NULL: STATE_RELEASED.
    void (*delivery)(void *arg, uint64_t session, const struct state_delivery *,
                     struct publication *publication);
    // publication NULL: nobody was to get it, or it has expired.
    void (*incoming)(void *arg, uint64_t session, const struct state_incoming *,
                     struct publication *publication);
    void (*retained)(void *arg, struct publication *);
    void *arg;
};

// path NULL: nothing is kept, everything is durable at once. Otherwise as disk_open: *error names
// the file and what to do.
struct state *state_open(struct loop *loop, struct budget *budget, const char *path, char **error);
void state_close(struct state *state); // makes durable what is written, see disk_close
// Once, before anything is written. What has expired meanwhile is not given, but for wills, and
// deliveries of QoS 2 that may have been sent [MQTT-4.3.3-7]: these have a time that is past. What
// makes no sense is left out and logged. False with *error where the file cannot be read.
bool state_load(struct state *state, const struct state_load_calls *calls, char **error);

// Writes: in order, and those of one turn of the loop become durable together. Strings are copied,
// publications held until they are written. Publications are stored once, however many refer to
// them; they go with the last reference. In drops, publication is what was put (NULL: not known).
void state_put_session(struct state *state, const struct state_session *session); // new or changed
void state_drop_session(struct state *state, uint64_t session); // and all that belongs to it
void state_put_subscription(struct state *state, uint64_t session,
                            const struct state_subscription *subscription);
void state_drop_subscription(struct state *state, uint64_t session, const char *filter);
void state_put_will(struct state *state, uint64_t session, struct publication *will,
                    uint32_t delay); // in place of the one before
void state_drop_will(struct state *state, uint64_t session);
// Once; the packet identifier may be put again after the drop.
void state_put_delivery(struct state *state, uint64_t session, const struct state_delivery *,
                        struct publication *publication);
// PUBREC has come: from now on only PUBREL is repeated, and the publication is not needed.
void state_release_delivery(struct state *state, uint64_t session, uint16_t packet_id);
// Costs nothing where the put has not gone to the disk yet.
void state_drop_delivery(struct state *state, uint64_t session, uint16_t packet_id,
                         struct publication *publication);
void state_put_incoming(struct state *state, uint64_t session, const struct state_incoming *,
                        struct publication *publication); // may be NULL
void state_drop_incoming(struct state *state, uint64_t session, uint16_t packet_id,
                         struct publication *publication);
void state_put_retained(struct state *state, struct publication *publication);
void state_drop_retained(struct state *state, struct bytes topic);

// Whether all that was written is durable: nothing need be waited for.
bool state_is_durable(const struct state *state);
// Calls fn(arg, a, b) from the loop, never from within this call, once all that was written until
// now is durable; the calls come in order. They never come after state_close.
typedef void state_fn(void *arg, uint64_t a, uint64_t b);
void state_when_durable(struct state *state, state_fn *fn, void *arg, uint64_t a, uint64_t b);

struct state_status {
    uint64_t commits;
    bool failing;
    const char *error; // why; valid until the next call
};
void state_status(struct state *state, struct state_status *status);
