// One will per session at most.
#include "broker/will.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/wheel.h"
#include "broker/acl.h"
#include "broker/session.h"
#include "broker/state.h"

struct will {
    struct wheel_entry due; // while it is delayed
    struct session *session;
    struct publication *message;
    int64_t interval_ms; // until the message expires, once it is published; INT64_MAX: never
    uint32_t delay;      // seconds
};

static void will_due(struct wheel_entry *entry)
{
    will_publish(list_entry(entry, struct will, due)->session);
}

// The message says when it would expire had it been published when it was made: perhaps by another
// process, on another monotonic clock.
static int64_t interval_of(const struct publication *message)
{
    if (message->expires_ms == INT64_MAX)
        return INT64_MAX;
    int64_t age_ms = (loop_wall_us() - message->received_us) / 1000;
    return message->expires_ms - (loop_now_ms() - age_ms);
}

void will_set(struct session *session, struct publication *message, uint32_t delay)
{
    will_free(session);
    struct will *will = mem_alloc(sizeof *will);
    *will = (struct will){.session = session,
                          .message = publication_hold(message),
                          .interval_ms = interval_of(message),
                          .delay = delay};
    wheel_entry_init(&will->due, will_due);
    session->will = will;
}

void will_free(struct session *session)
{
    struct will *will = session->will;
    if (!will)
        return;
    session->will = NULL;
    wheel_stop(&will->due);
    publication_release(will->message);
    free(will);
}

void will_start(struct session *session, int64_t elapsed_ms)
{
    struct will *will = session->will;
    if (!will)
        return;
    int64_t left_ms = (int64_t)will->delay * 1000 - elapsed_ms;
    if (left_ms > 0)
        wheel_start(session->sessions->wheel, &will->due, left_ms);
    else
        will_publish(session);
}

// The message as it is published now: its time of arrival and its expiry interval begin here.
static struct publication *message_now(const struct will *will, struct budget *budget)
{
    const struct publication *message = will->message;
    bool expires = will->interval_ms != INT64_MAX;
    struct publication_parts parts = {
        .topic = message->topic,
        .payload = message->payload,
        .properties = message->properties,
        .publisher = message->publisher,
        .received_us = loop_wall_us(),
        .expires_ms = expires ? loop_now_ms() + will->interval_ms : INT64_MAX,
        .qos = message->qos,
        .retain = message->retain,
    };
    return publication_new(budget, &parts);
}

static void deny(struct session *session, struct bytes topic)
{
    if (log_limit_pass(&session->sessions->will_log, NULL))
        log_warn("client '%s' may not publish its will on '%.*s': allow it in the ACL file, or "
                 "change the client",
                 session->client_id, (int)topic.length, (const char *)topic.data);
}

void will_publish(struct session *session)
{
    struct sessions *sessions = session->sessions;
    const struct will *will = session->will;
    if (!will)
        return;
    struct bytes topic = will->message->topic;
    if (acl_allows(sessions->acl, session->username, session->client_id, ACL_WRITE,
                   (const char *)topic.data, topic.length)) {
        struct publication *message = message_now(will, sessions->budget);
        if (sessions->will)
            sessions->will(sessions->arg, session, message);
        sessions_publish(sessions, message);
        publication_release(message);
    } else {
        deny(session, topic);
    }
    state_drop_will(sessions->state, session->id);
    will_free(session);
}
