// The table of sessions, and how each begins and ends.
#include "broker/session.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/hash.h"
#include "base/mem.h"
#include "broker/incoming.h"
#include "broker/retained.h"
#include "broker/session_internal.h"
#include "broker/state.h"
#include "broker/will.h"

#define BUCKETS_MIN 64
#define LOG_INTERVAL_MS 10000

// ---- the table ----

static void tables_alloc(struct sessions *sessions, size_t count)
{
    sessions->bucket_count = count;
    sessions->buckets = mem_alloc(count * sizeof *sessions->buckets);
    sessions->ids = mem_zalloc(count * sizeof *sessions->ids);
    for (size_t i = 0; i < count; i++)
        list_init(&sessions->buckets[i]);
}

static void tables_add(struct sessions *sessions, struct session *session)
{
    size_t mask = sessions->bucket_count - 1;
    uint32_t hash = hash_bytes(sessions->seed, session->client_id, strlen(session->client_id));
    list_append(&sessions->buckets[hash & mask], &session->node);
    session->next_by_id = sessions->ids[session->id & mask];
    sessions->ids[session->id & mask] = session;
}

static void tables_remove(struct sessions *sessions, struct session *session)
{
    struct session **at = &sessions->ids[session->id & (sessions->bucket_count - 1)];
    while (*at != session)
        at = &(*at)->next_by_id;
    *at = session->next_by_id;
    list_remove(&session->node);
}

static void tables_widen(struct sessions *sessions)
{
    struct list *old = sessions->buckets;
    size_t count = sessions->bucket_count;
    free(sessions->ids);
    tables_alloc(sessions, count * 2);
    for (size_t i = 0; i < count; i++)
        for (struct list *node; (node = list_take(&old[i]));)
            tables_add(sessions, list_entry(node, struct session, node));
    free(old);
}

struct session *session_find(const struct sessions *sessions, struct bytes client_id)
{
    uint32_t hash = hash_bytes(sessions->seed, client_id.data, client_id.length);
    const struct list *head = &sessions->buckets[hash & (sessions->bucket_count - 1)];
    for (struct list *node = head->next; node != head; node = node->next) {
        struct session *session = list_entry(node, struct session, node);
        if (bytes_equal(bytes_of(session->client_id), client_id))
            return session;
    }
    return NULL;
}

struct session *session_by_id(const struct sessions *sessions, uint64_t id)
{
    struct session *session = sessions->ids[id & (sessions->bucket_count - 1)];
    while (session && session->id != id)
        session = session->next_by_id;
    return session;
}

// ---- all of them ----

struct sessions *sessions_new(struct wheel *wheel, struct state *state, struct budget *budget,
                              const struct session_limits *limits)
{
    struct sessions *sessions = mem_alloc(sizeof *sessions);
    *sessions = (struct sessions){
        .state = state,
        .wheel = wheel,
        .budget = budget,
        .limits = *limits,
        .router = router_new(),
        .retained = retained_new(),
        .seed = hash_seed(),
        .fanout = fanout_new(),
        .full_log = {.interval_ms = LOG_INTERVAL_MS},
        .will_log = {.interval_ms = LOG_INTERVAL_MS},
    };
    tables_alloc(sessions, BUCKETS_MIN);
    return sessions;
}

// What the session takes of the budget, but for its subscriptions and its queue.
static size_t footprint(const struct session *session)
{
    return sizeof *session + strlen(session->client_id) + 1;
}

static void session_free(struct session *session)
{
    struct sessions *sessions = session->sessions;
    tables_remove(sessions, session);
    sessions->count--;
    wheel_stop(&session->expires);
    subscriptions_clear(session);
    will_free(session);
    queue_clear(session);
    incoming_free(session);
    budget_give(sessions->budget, footprint(session));
    free(session->username);
    free(session);
}

void sessions_free(struct sessions *sessions)
{
    if (!sessions)
        return;
    for (size_t i = 0; i < sessions->bucket_count; i++)
        while (!list_empty(&sessions->buckets[i]))
            session_free(list_entry(sessions->buckets[i].next, struct session, node));
    retained_free(sessions->retained);
    router_free(sessions->router);
    fanout_free(sessions->fanout);
    free(sessions->buckets);
    free(sessions->ids);
    free(sessions);
}

// ---- one ----

static void session_expired(struct wheel_entry *entry)
{
    session_end(list_entry(entry, struct session, expires));
}

struct session *session_make(struct sessions *sessions, uint64_t id, struct bytes client_id,
                             const char *username, uint8_t version, uint32_t expiry)
{
    struct session *session = mem_zalloc(sizeof *session + client_id.length + 1);
    session->sessions = sessions;
    session->id = id;
    session->client_id = (char *)(session + 1);
    if (client_id.length > 0)
        memcpy(session->client_id, client_id.data, client_id.length);
    session->username = username ? mem_strdup(username) : NULL;
    session->version = version;
    session->expiry = expiry;
    session->durable = expiry > 0;
    session->next_packet_id = 1;
    wheel_entry_init(&session->expires, session_expired);
    budget_take(sessions->budget, footprint(session));
    if (++sessions->count > sessions->bucket_count)
        tables_widen(sessions);
    tables_add(sessions, session);
    return session;
}

static uint64_t random_id(const struct sessions *sessions)
{
    uint64_t id = 0;
    while (id == 0 || session_by_id(sessions, id)) {
        // Eight bytes come whole once the kernel has gathered randomness, which it waits for.
        while (getrandom(&id, sizeof id, 0) != sizeof id)
            ;
        id &= INT64_MAX;
    }
    return id;
}

struct session *session_new(struct sessions *sessions, struct bytes client_id, const char *username,
                            uint8_t version, uint32_t expiry)
{
    struct session *session =
        session_make(sessions, random_id(sessions), client_id, username, version, expiry);
    if (session->durable)
        session_put(session, 0);
    return session;
}

void session_put(struct session *session, int64_t ended_us)
{
    struct state_session row = {
        .id = session->id,
        .client_id = session->client_id,
        .username = session->username,
        .expiry = session->expiry,
        .ended_us = ended_us,
        .next_packet_id = session->next_packet_id,
        .version = session->version,
    };
    state_put_session(session->sessions->state, &row);
    session->stored = true;
}

void session_resume(struct session *session, const char *username, uint8_t version, uint32_t expiry)
{
    wheel_stop(&session->expires);
    session_drop_will(session);
    free(session->username);
    session->username = username ? mem_strdup(username) : NULL;
    session->version = version;
    queue_judge(session);
    session_set_expiry(session, expiry);
}

void session_set_expiry(struct session *session, uint32_t expiry)
{
    assert(session->durable || expiry == 0);
    session->expiry = expiry;
    if (session->durable)
        session_put(session, 0);
}

void session_set_will(struct session *session, struct publication *message, uint32_t delay)
{
    if (!session->stored)
        session_put(session, 0);
    will_set(session, message, delay);
    state_put_will(session->sessions->state, session->id, message, delay);
}

void session_drop_will(struct session *session)
{
    if (!session->will)
        return;
    will_free(session);
    state_drop_will(session->sessions->state, session->id);
}

void session_attach(struct session *session, struct sink *sink)
{
    session->sink = sink;
    session_pump(session);
}

void session_start_expiry(struct session *session, int64_t elapsed_ms)
{
    if (session->expiry == UINT32_MAX)
        return;
    int64_t left_ms = (int64_t)session->expiry * 1000 - elapsed_ms;
    wheel_start(session->sessions->wheel, &session->expires, left_ms > 0 ? left_ms : 0);
}

void session_detach(struct session *session)
{
    session->sink = NULL;
    queue_rewind(session);
    if (session->expiry == 0) {
        session_end(session);
        return;
    }
    session_put(session, loop_wall_us());
    session_start_expiry(session, 0);
    will_start(session, 0);
}

void session_end(struct session *session)
{
    struct sessions *sessions = session->sessions;
    session->sink = NULL;
    subscriptions_clear(session); // its own will does not come to it
    will_publish(session);
    if (sessions->ended)
        sessions->ended(sessions->arg, session);
    if (session->stored)
        state_drop_session(sessions->state, session->id);
    session_free(session);
}
