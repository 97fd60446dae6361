// What the files of the sessions share; nobody else includes it.
#pragma once

#include "broker/router.h"
#include "broker/session.h"

// ---- session.c ----
// In the tables, with this id, and nothing said to the state.
struct session *session_make(struct sessions *sessions, uint64_t id, struct bytes client_id,
                             const char *username, uint8_t version, uint32_t expiry);
// Writes the session's row; ended_us 0: somebody is there.
void session_put(struct session *session, int64_t ended_us);
void session_start_expiry(struct session *session, int64_t elapsed_ms);

// ---- session_subscribe.c ----
// Replaces the options of the filter's subscription or makes one.
void subscription_set(struct session *session, struct bytes filter,
                      const struct subscription_entry *options);
void subscriptions_clear(struct session *session);

// ---- session_queue.c ----
enum delivered {
    DELIVERED,         // or not, for good: there is nothing to wait for
    DELIVERED_DURABLY, // it is on its way into the state file
    DELIVERY_REFUSED,  // a quota is exhausted
};
// Sends a copy of a publication, or queues it; of the delivery its publication, ids (borrowed),
// qos, retain and snapshot count.
enum delivered session_deliver(struct session *session, const struct delivery *copy);
// Whether its queue takes one more.
bool session_has_room(const struct session *session, const struct delivery *copy);
// By the ACL.
bool session_may_receive(const struct session *session, const struct publication *publication);
// Appends what the state file held; its packet identifier is the latest.
void queue_load(struct session *session, const struct delivery *stored);
// The connection has ended: what was in flight is to be sent again, QoS 0 is forgotten.
void queue_rewind(struct session *session);
// Somebody comes, perhaps another user, perhaps after a reload of the ACL: what the session may not
// receive any more is dropped. Nothing is in flight.
void queue_judge(struct session *session);
void queue_clear(struct session *session);

// ---- session_publish.c ----
struct fanout *fanout_new(void);
void fanout_free(struct fanout *fanout);
