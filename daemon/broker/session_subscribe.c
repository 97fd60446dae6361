// The subscriptions of a session, and the retained messages that each brings.
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "broker/acl.h"
#include "broker/retained.h"
#include "broker/session_internal.h"
#include "broker/state.h"

enum { LEVELS_MAX = 128 }; // of a filter: each costs memory that a stranger makes us take

// Where the subscription hangs in the session's list; *found NULL: at the end, it is not there.
static struct subscription_entry **find(struct session *session, struct bytes filter)
{
    const char *text = (const char *)filter.data;
    struct subscription_entry **at = &session->subscriptions;
    while (*at &&
           (strncmp((*at)->filter, text, filter.length) != 0 || (*at)->filter[filter.length]))
        at = &(*at)->next;
    return at;
}

// What the subscription takes of the budget: itself, and its levels in the tree.
static size_t footprint(const struct subscription_entry *entry)
{
    return sizeof *entry + 2 * strlen(entry->filter);
}

void subscription_set(struct session *session, struct bytes filter,
                      const struct subscription_entry *options)
{
    struct sessions *sessions = session->sessions;
    struct subscription_entry **at = find(session, filter), *entry = *at;
    if (!entry) {
        entry = mem_zalloc(sizeof *entry + filter.length + 1);
        memcpy(entry->filter, filter.data, filter.length);
        entry->session = session;
        *at = entry;
        session->subscription_count++;
        sessions->subscription_count++;
        budget_take(sessions->budget, footprint(entry));
        router_add(sessions->router, entry);
    }
    entry->id = options->id;
    entry->qos = options->qos;
    entry->no_local = options->no_local;
    entry->retain_as_published = options->retain_as_published;
}

static void drop(struct session *session, struct subscription_entry **at)
{
    struct sessions *sessions = session->sessions;
    struct subscription_entry *entry = *at;
    *at = entry->next;
    session->subscription_count--;
    sessions->subscription_count--;
    router_remove(sessions->router, entry);
    budget_give(sessions->budget, footprint(entry));
    free(entry);
}

void subscriptions_clear(struct session *session)
{
    while (session->subscriptions)
        drop(session, &session->subscriptions);
}

static bool too_many(const struct session *session, struct bytes filter)
{
    const struct sessions *sessions = session->sessions;
    size_t levels = 1;
    for (size_t i = 0; i < filter.length; i++)
        levels += filter.data[i] == '/';
    return session->subscription_count >= sessions->limits.subscriptions || levels > LEVELS_MAX ||
           sessions->budget->full;
}

// A reason code against the filter, or success.
static uint8_t judge(const struct session *session, struct bytes filter, bool is_new)
{
    const char *plain;
    if (!topic_filter_valid((const char *)filter.data, filter.length))
        return REASON_TOPIC_FILTER_INVALID;
    char *text = mem_strndup((const char *)filter.data, filter.length);
    if (!topic_filter_is_shared(text, &plain))
        plain = text;
    bool may = session->internal || acl_may_subscribe(session->sessions->acl, session->username,
                                                      session->client_id, plain);
    free(text);
    if (!may)
        return REASON_NOT_AUTHORIZED;
    return is_new && too_many(session, filter) ? REASON_QUOTA_EXCEEDED : REASON_SUCCESS;
}

uint8_t session_subscribe(struct session *session, const struct packet_filter *filter, uint32_t id,
                          bool *is_new)
{
    struct subscription_entry **at = find(session, filter->filter);
    *is_new = !*at;
    uint8_t reason = judge(session, filter->filter, *is_new);
    if (reason != REASON_SUCCESS)
        return reason;
    struct subscription_entry options = {
        .id = id,
        .qos = filter->qos,
        .no_local = filter->no_local,
        .retain_as_published = filter->retain_as_published,
    };
    subscription_set(session, filter->filter, &options);
    if (session->durable) {
        struct state_subscription row = {
            .filter = (*at)->filter,
            .id = id,
            .qos = filter->qos,
            .retain_handling = filter->retain_handling,
            .no_local = filter->no_local,
            .retain_as_published = filter->retain_as_published,
        };
        state_put_subscription(session->sessions->state, session->id, &row);
    }
    return filter->qos;
}

bool session_unsubscribe(struct session *session, struct bytes filter)
{
    struct subscription_entry **at = find(session, filter);
    if (!*at)
        return false;
    if (session->durable)
        state_drop_subscription(session->sessions->state, session->id, (*at)->filter);
    drop(session, at);
    return true;
}

// ---- retained messages ----

struct retained_send {
    struct session *session;
    const struct packet_filter *filter;
    uint32_t id;
};

static void send_retained(void *arg, struct publication *publication)
{
    struct retained_send *send = arg;
    if (send->filter->no_local && publication->publisher == send->session->id)
        return; // [MQTT-3.8.3-3]
    struct delivery copy = {
        .publication = publication,
        .ids = &send->id,
        .id_count = send->id ? 1 : 0,
        .qos = publication->qos < send->filter->qos ? publication->qos : send->filter->qos,
        .retain = true, // [MQTT-3.3.1-8]
        .snapshot = true,
    };
    session_deliver(send->session, &copy);
}

static void retained_expired(void *arg, struct publication *publication)
{
    struct retained_send *send = arg;
    state_drop_retained(send->session->sessions->state, publication->topic);
}

void session_send_retained(struct session *session, const struct packet_filter *filter, uint32_t id,
                           bool is_new)
{
    struct retained_send send = {.session = session, .filter = filter, .id = id};
    char *text = mem_strndup((const char *)filter->filter.data, filter->filter.length);
    bool wanted = filter->retain_handling == 0 || (filter->retain_handling == 1 && is_new);
    if (wanted && !topic_filter_is_shared(text, NULL)) // [MQTT-3.3.1-9 to -11]
        retained_match(session->sessions->retained, text, send_retained, retained_expired, &send);
    free(text);
}
