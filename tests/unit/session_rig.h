// Sessions with sinks that write down what they are given, with or without a state file that can be
// opened again as after a clean end or a crash.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "broker/session.h"
#include "broker/state.h"

#define RIG_FOREVER UINT32_MAX

struct rig {
    struct loop *loop;
    struct wheel *wheel;
    struct budget budget;
    struct state *state;
    struct sessions *sessions;
    struct session_limits limits;
    char *directory, *path; // of the state file; NULL: there is none
    unsigned crashes;
    char ended[200]; // client ids of sessions that have ended
    char wills[200]; // topics of wills that were published
};

// Somebody who is there. What it is sent is told as "QOS#ID TOPIC PAYLOAD", with " dup", " retain"
// and Subscription Identifiers behind, or "rel#ID"; "; " between them.
struct peer {
    struct sink sink;
    struct session *session;
    char seen[4000];
    bool blocked;
    size_t largest; // payload that it takes; 0: any
    bool eager;     // acknowledges QoS 1 from within
    bool silent;    // writes nothing down
    size_t count;
};

// ---- peers ----

static inline void peer_note(struct peer *peer, const char *text)
{
    size_t used = strlen(peer->seen);
    peer->count++;
    if (!peer->silent)
        snprintf(peer->seen + used, sizeof peer->seen - used, "%s%s", used ? "; " : "", text);
}

static inline bool peer_publish(struct sink *sink, const struct delivery *delivery)
{
    struct peer *peer = list_entry(sink, struct peer, sink);
    const struct publication *publication = delivery->publication;
    if (peer->largest && publication->payload.length > peer->largest)
        return false;
    char text[300], ids[100] = "";
    for (uint16_t i = 0; i < delivery->id_count; i++)
        snprintf(ids + strlen(ids), sizeof ids - strlen(ids), " %u", delivery->ids[i]);
    snprintf(text, sizeof text, "%u#%u %.*s %.*s%s%s%s", delivery->qos, delivery->packet_id,
             (int)publication->topic.length, (const char *)publication->topic.data,
             (int)publication->payload.length, (const char *)publication->payload.data,
             delivery->dup ? " dup" : "", delivery->retain ? " retain" : "", ids);
    peer_note(peer, text);
    if (peer->eager && delivery->qos == 1)
        session_take_ack(peer->session, PACKET_PUBACK, delivery->packet_id, 0);
    return true;
}

static inline void peer_pubrel(struct sink *sink, uint16_t packet_id)
{
    char text[20];
    snprintf(text, sizeof text, "rel#%u", packet_id);
    peer_note(list_entry(sink, struct peer, sink), text);
}

static inline bool peer_ready(struct sink *sink)
{
    return !list_entry(sink, struct peer, sink)->blocked;
}

static inline struct peer peer_make(uint16_t window)
{
    static const struct sink_calls calls = {peer_publish, peer_pubrel, peer_ready};
    return (struct peer){.sink = {&calls, window}};
}

// What it has been sent since the last look.
#define assert_seen(peer, text)                                                                    \
    do {                                                                                           \
        assert_string_equal((peer)->seen, text);                                                   \
        (peer)->seen[0] = '\0';                                                                    \
    } while (0)

// ---- the broker's part ----

static inline void rig_ended(void *arg, struct session *session)
{
    struct rig *rig = arg;
    snprintf(rig->ended + strlen(rig->ended), sizeof rig->ended - strlen(rig->ended), "%s ",
             session->client_id);
}

static inline void rig_will(void *arg, struct session *session, struct publication *message)
{
    struct rig *rig = arg;
    (void)session;
    snprintf(rig->wills + strlen(rig->wills), sizeof rig->wills - strlen(rig->wills), "%.*s ",
             (int)message->topic.length, (const char *)message->topic.data);
}

static inline void rig_open(struct rig *rig)
{
    char *error = NULL;
    rig->budget = (struct budget){.limit = 64 << 20};
    rig->state = state_open(rig->loop, &rig->budget, rig->path, &error);
    if (!rig->state)
        fail_msg("%s", error);
    rig->sessions = sessions_new(rig->wheel, rig->state, &rig->budget, &rig->limits);
    rig->sessions->ended = rig_ended;
    rig->sessions->will = rig_will;
    rig->sessions->arg = rig;
    if (!sessions_load(rig->sessions, &error))
        fail_msg("%s", error);
}

static inline void rig_close(struct rig *rig)
{
    state_close(rig->state);
    sessions_free(rig->sessions);
    assert_int_equal(rig->budget.used, 0);
}

static inline struct rig *rig_new(bool with_file)
{
    struct rig *rig = mem_zalloc(sizeof *rig);
    log_init(LOG_LEVEL_ERROR);
    rig->loop = loop_new();
    rig->wheel = wheel_new(rig->loop);
    rig->limits = (struct session_limits){.subscriptions = 100,
                                          .queued_messages = 100,
                                          .queued_bytes = 1 << 20};
    if (with_file) {
        rig->directory = mem_strdup("/tmp/test-session-XXXXXX");
        assert_non_null(mkdtemp(rig->directory));
        rig->path = mem_printf("%s/0.db", rig->directory);
    }
    rig_open(rig);
    return rig;
}

static inline void rig_free(struct rig *rig)
{
    rig_close(rig);
    wheel_free(rig->wheel);
    loop_free(rig->loop);
    if (rig->directory) {
        char *command = mem_printf("rm -r %s", rig->directory);
        assert_int_equal(system(command), 0);
        free(command);
    }
    free(rig->directory);
    free(rig->path);
    free(rig);
}

static inline int rig_set_up(void **state)
{
    *state = rig_new(false);
    return 0;
}

static inline int rig_set_up_durable(void **state)
{
    *state = rig_new(true);
    return 0;
}

static inline int rig_tear_down(void **state)
{
    rig_free(*state);
    return 0;
}

static inline void rig_stop(void *arg, uint64_t a, uint64_t b)
{
    (void)a, (void)b;
    loop_stop(arg);
}

// Runs the loop until all that was written is durable, and who waited for it has been told.
static inline void rig_settle(struct rig *rig)
{
    state_when_durable(rig->state, rig_stop, rig->loop, 0, 0);
    loop_run(rig->loop);
}

// As after a clean end of the process.
static inline void rig_restart(struct rig *rig)
{
    rig_close(rig);
    rig_open(rig);
}

// As after a crash, with what is durable at this moment: a copy of the files as they lie there.
static inline void rig_crash(struct rig *rig)
{
    char *path = mem_printf("%s/%u.db", rig->directory, ++rig->crashes);
    char *command = mem_printf("cp %s %s && { ! [ -e %s-wal ] || cp %s-wal %s-wal; }", rig->path,
                               path, rig->path, rig->path, path);
    assert_int_equal(system(command), 0);
    free(command);
    rig_close(rig);
    free(rig->path);
    rig->path = path;
    rig_open(rig);
}

static inline void rig_tick_check(void *arg)
{
    loop_stop(arg);
}

// Runs the loop for a while, for what a condition waits for.
static inline void rig_turn(struct rig *rig)
{
    struct loop_timer *timer = loop_timer_new(rig->loop, rig_tick_check, rig->loop);
    loop_timer_start(timer, 10);
    loop_run(rig->loop);
    loop_timer_free(timer);
}

#define rig_wait(rig, condition)                                                                   \
    do {                                                                                           \
        int64_t rig_end = loop_now_ms() + 30000;                                                   \
        while (!(condition) && loop_now_ms() < rig_end)                                            \
            rig_turn(rig);                                                                         \
        assert_true(condition);                                                                    \
    } while (0)

// Lets what has an end in so many milliseconds come to it.
static inline void rig_pass(struct rig *rig, int64_t ms)
{
    int64_t end = loop_now_ms() + ms;
    rig_wait(rig, loop_now_ms() > end);
}

// ---- what clients do ----

static inline struct session *rig_find(struct rig *rig, const char *client_id)
{
    return session_find(rig->sessions, bytes_of(client_id));
}

// Connects: to the session that there is, or to a new one.
static inline struct session *rig_connect(struct rig *rig, struct peer *peer, const char *client_id,
                                          uint32_t expiry)
{
    struct session *session = rig_find(rig, client_id);
    if (session)
        session_resume(session, NULL, PACKET_V5, expiry);
    else
        session = session_new(rig->sessions, bytes_of(client_id), NULL, PACKET_V5, expiry);
    peer->session = session;
    session_attach(session, &peer->sink);
    return session;
}

static inline uint8_t rig_subscribe(struct session *session, const char *filter, uint8_t qos,
                                    uint32_t id)
{
    struct packet_filter options = {.filter = bytes_of(filter), .qos = qos};
    bool is_new;
    uint8_t reason = session_subscribe(session, &options, id, &is_new);
    if (reason <= 2)
        session_send_retained(session, &options, id, is_new);
    return reason;
}

// Connects, and subscribes to one filter.
static inline struct session *rig_join(struct rig *rig, struct peer *peer, const char *client_id,
                                       uint32_t expiry, const char *filter, uint8_t qos)
{
    struct session *session = rig_connect(rig, peer, client_id, expiry);
    rig_subscribe(session, filter, qos, 0);
    return session;
}

static inline struct publication *rig_message(struct rig *rig, const char *topic,
                                              const char *payload, uint8_t qos)
{
    struct publication_parts parts = {
        .topic = bytes_of(topic),
        .payload = bytes_of(payload),
        .received_us = loop_wall_us(),
        .expires_ms = INT64_MAX,
        .qos = qos,
    };
    return publication_new(&rig->budget, &parts);
}

static inline struct routed rig_send(struct rig *rig, struct publication *publication)
{
    struct routed routed = sessions_publish(rig->sessions, publication);
    publication_release(publication);
    return routed;
}

static inline struct routed rig_publish(struct rig *rig, const char *topic, const char *payload,
                                        uint8_t qos)
{
    return rig_send(rig, rig_message(rig, topic, payload, qos));
}

// Each letter in a message of its own, with QoS 1.
static inline void rig_publish_each(struct rig *rig, const char *topic, const char *letters)
{
    for (; *letters; letters++)
        rig_publish(rig, topic, (char[]){*letters, 0}, 1);
}

// One that expires in so many milliseconds.
static inline void rig_publish_expiring(struct rig *rig, const char *topic, const char *payload,
                                        uint8_t qos, int64_t ms)
{
    struct publication *publication = rig_message(rig, topic, payload, qos);
    publication->expires_ms = loop_now_ms() + ms;
    rig_send(rig, publication);
}

static inline struct routed rig_retain(struct rig *rig, const char *topic, const char *payload,
                                       uint8_t qos)
{
    struct publication *publication = rig_message(rig, topic, payload, qos);
    publication->retain = true;
    return rig_send(rig, publication);
}

static inline enum session_ack rig_ack(struct peer *peer, enum packet_type type, uint16_t id)
{
    return session_take_ack(peer->session, type, id, REASON_SUCCESS);
}

// delay: in seconds.
static inline void rig_leave_will(struct rig *rig, struct session *session, const char *topic,
                                  uint32_t delay)
{
    struct publication *will = rig_message(rig, topic, "bye", 1);
    session_set_will(session, will, delay);
    publication_release(will);
}
