// Sessions as the state file has them, at the start of the process.
#include <stdlib.h>

#include "base/mem.h"
#include "broker/incoming.h"
#include "broker/retained.h"
#include "broker/session_internal.h"
#include "broker/state.h"
#include "broker/will.h"

struct loaded {
    struct session *session;
    int64_t ended_us;        // 0: somebody was there to the last
    uint16_t next_packet_id; // when its connection began or ended
    bool unsent;             // deliveries from here on were queued after that, and sent to nobody
};

struct loading {
    struct sessions *sessions;
    struct loaded *list;
    size_t count, capacity;
};

static void load_session(void *arg, const struct state_session *row)
{
    struct loading *loading = arg;
    struct session *session = session_make(loading->sessions, row->id, bytes_of(row->client_id),
                                           row->username, row->version, row->expiry);
    session->stored = true;
    if (row->next_packet_id != 0)
        session->next_packet_id = row->next_packet_id;
    loading->list =
        mem_grow(loading->list, loading->count, &loading->capacity, sizeof *loading->list);
    loading->list[loading->count++] =
        (struct loaded){session, row->ended_us, session->next_packet_id, false};
}

// What belongs to a session comes right after it; NULL where it is not that one.
static struct loaded *last_loaded(struct loading *loading, uint64_t session)
{
    struct loaded *last = loading->count > 0 ? &loading->list[loading->count - 1] : NULL;
    return last && last->session->id == session ? last : NULL;
}

static void load_subscription(void *arg, uint64_t session, const struct state_subscription *row)
{
    const struct loaded *loaded = last_loaded(arg, session);
    struct subscription_entry options = {
        .id = row->id,
        .qos = row->qos,
        .no_local = row->no_local,
        .retain_as_published = row->retain_as_published,
    };
    if (loaded)
        subscription_set(loaded->session, bytes_of(row->filter), &options);
}

static void load_will(void *arg, uint64_t session, struct publication *message, uint32_t delay)
{
    const struct loaded *loaded = last_loaded(arg, session);
    if (loaded)
        will_set(loaded->session, message, delay);
}

// Whether a client may have it already: unless it was queued after the last connection's end.
static bool may_be_sent(struct loaded *loaded, const struct state_delivery *row)
{
    if (!row->sent && row->packet_id == loaded->next_packet_id)
        loaded->unsent = true;
    return !loaded->unsent;
}

// The identifiers, which the caller frees, as the state has them: encoded.
static uint32_t *decode_ids(struct bytes encoded, uint16_t *count)
{
    struct property_set set = {
        .present = PROPERTY_BIT(PROPERTY_SUBSCRIPTION_ID),
        .subscription_ids = encoded,
    };
    uint32_t *ids = mem_alloc(encoded.length * sizeof *ids), id;
    *count = 0;
    for (size_t at = 0; *count < UINT16_MAX && property_next_subscription_id(&set, &at, &id);)
        ids[(*count)++] = id;
    return ids;
}

static void load_delivery(void *arg, uint64_t session, const struct state_delivery *row,
                          struct publication *publication)
{
    struct loaded *loaded = last_loaded(arg, session);
    bool released = row->phase == STATE_RELEASED;
    if (!loaded || (!released && !publication))
        return;
    struct delivery delivery = {
        .packet_id = row->packet_id,
        .qos = row->qos,
        .retain = row->retain,
        .dup = may_be_sent(loaded, row),
        .ready = true,
    };
    if (!released) {
        delivery.publication = publication;
        delivery.ids = decode_ids(row->subscription_ids, &delivery.id_count);
    }
    queue_load(loaded->session, &delivery);
    free(delivery.ids);
}

static void load_incoming(void *arg, uint64_t session, const struct state_incoming *row,
                          struct publication *publication)
{
    const struct loaded *loaded = last_loaded(arg, session);
    if (loaded)
        incoming_load(loaded->session, row, publication);
}

static void load_retained(void *arg, struct publication *publication)
{
    struct loading *loading = arg;
    retained_set(loading->sessions->retained, publication);
}

// ---- time has gone on ----

static int64_t elapsed_ms(const struct loaded *loaded, int64_t now_us)
{
    bool known = loaded->ended_us != 0 && loaded->ended_us < now_us;
    return known ? (now_us - loaded->ended_us) / 1000 : 0;
}

static bool is_over(const struct loaded *loaded, int64_t now_us)
{
    uint32_t expiry = loaded->session->expiry;
    return expiry != UINT32_MAX && elapsed_ms(loaded, now_us) >= (int64_t)expiry * 1000;
}

// The connections that there were have ended with the process before.
static void go_on(const struct loading *loading)
{
    int64_t now_us = loop_wall_us();
    for (size_t i = 0; i < loading->count; i++)
        if (is_over(&loading->list[i], now_us))
            subscriptions_clear(loading->list[i].session); // no will of another comes to it
    for (size_t i = 0; i < loading->count; i++) {
        const struct loaded *loaded = &loading->list[i];
        if (is_over(loaded, now_us)) {
            session_end(loaded->session);
            continue;
        }
        if (loaded->ended_us == 0)
            session_put(loaded->session, now_us);
        session_start_expiry(loaded->session, elapsed_ms(loaded, now_us));
        will_start(loaded->session, elapsed_ms(loaded, now_us));
    }
}

bool sessions_load(struct sessions *sessions, char **error)
{
    struct loading loading = {.sessions = sessions};
    const struct state_load_calls calls = {
        .session = load_session,
        .subscription = load_subscription,
        .will = load_will,
        .delivery = load_delivery,
        .incoming = load_incoming,
        .retained = load_retained,
        .arg = &loading,
    };
    bool loaded = state_load(sessions->state, &calls, error);
    if (loaded)
        go_on(&loading);
    free(loading.list);
    return loaded;
}
