// A state in a directory of its own, and what it gives back, as text.
#pragma once

#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/mem.h"
#include "base/memtext.h"
#include "broker/state.h"
#include "disk_faults.h"

struct state_rig {
    struct loop *loop;
    struct budget budget;
    struct state *state;
    char directory[32], path[64];
    struct memtext told; // by state_load
    char *dump;
};

static inline int state_rig_setup(void **state)
{
    static struct state_rig rig;
    rig = (struct state_rig){.loop = loop_new(), .budget = {.limit = 1 << 30}};
    strcpy(rig.directory, "/tmp/test_state.XXXXXX");
    assert_non_null(mkdtemp(rig.directory));
    snprintf(rig.path, sizeof rig.path, "%s/broker.db", rig.directory);
    disk_faults_clear();
    *state = &rig;
    return 0;
}

static inline void rig_close(struct state_rig *rig)
{
    state_close(rig->state);
    rig->state = NULL;
}

static inline int state_rig_teardown(void **state)
{
    struct state_rig *rig = *state;
    disk_faults_clear();
    rig_close(rig);
    assert_int_equal(rig->budget.used, 0);
    loop_free(rig->loop);
    free(rig->dump);
    char *command = mem_printf("rm -rf '%s'", rig->directory);
    assert_int_equal(system(command), 0);
    free(command);
    return 0;
}

static inline void rig_open(struct state_rig *rig)
{
    char *error = NULL;
    rig->state = state_open(rig->loop, &rig->budget, rig->path, &error);
    if (!rig->state)
        fail_msg("%s", error);
}

// ---- what is given back ----

static inline void tell_publication(FILE *out, const struct publication *publication)
{
    if (!publication) {
        fputs(" nothing\n", out);
        return;
    }
    fprintf(out, " %.*s=%.*s", (int)publication->topic.length,
            (const char *)publication->topic.data, (int)publication->payload.length,
            (const char *)publication->payload.data);
    int64_t left_ms = publication->expires_ms - loop_now_ms();
    if (publication->expires_ms != INT64_MAX)
        fprintf(out, " %+" PRId64 "s", (left_ms + (left_ms < 0 ? -500 : 500)) / 1000);
    fprintf(out, "%s\n", publication->retain ? " R" : "");
}

static inline void tell_session(void *arg, const struct state_session *session)
{
    fprintf(arg, "session %" PRIu64 " %s %s %u %" PRId64 " %d v%d\n", session->id,
            session->client_id, session->username ? session->username : "-", session->expiry,
            session->ended_us, session->next_packet_id, session->version);
}

static inline void tell_subscription(void *arg, uint64_t session,
                                     const struct state_subscription *subscription)
{
    fprintf(arg, "%" PRIu64 " subscription %s id %u qos %d rh %d%s%s\n", session,
            subscription->filter, subscription->id, subscription->qos,
            subscription->retain_handling, subscription->no_local ? " nl" : "",
            subscription->retain_as_published ? " rap" : "");
}

static inline void tell_will(void *arg, uint64_t session, struct publication *will, uint32_t delay)
{
    fprintf(arg, "%" PRIu64 " will after %u", session, delay);
    tell_publication(arg, will);
}

static inline void tell_delivery(void *arg, uint64_t session, const struct state_delivery *delivery,
                                 struct publication *publication)
{
    fprintf(arg, "%" PRIu64 " delivery %d qos %d%s%s%s", session, delivery->packet_id,
            delivery->qos, delivery->phase == STATE_RELEASED ? " released" : "",
            delivery->retain ? " retain" : "", delivery->sent ? " sent" : "");
    for (size_t i = 0; i < delivery->subscription_ids.length; i++)
        fprintf(arg, " %02x", delivery->subscription_ids.data[i]);
    tell_publication(arg, publication);
}

static inline void tell_incoming(void *arg, uint64_t session, const struct state_incoming *incoming,
                                 struct publication *publication)
{
    fprintf(arg, "%" PRIu64 " incoming %d%s", session, incoming->packet_id,
            incoming->mapped ? " mapped" : "");
    tell_publication(arg, publication);
}

static inline void tell_retained(void *arg, struct publication *publication)
{
    fputs("retained", arg);
    tell_publication(arg, publication);
}

static inline struct state_load_calls tell_calls(FILE *out)
{
    return (struct state_load_calls){
        .session = tell_session,
        .subscription = tell_subscription,
        .will = tell_will,
        .delivery = tell_delivery,
        .incoming = tell_incoming,
        .retained = tell_retained,
        .arg = out,
    };
}

static inline const char *rig_load(struct state_rig *rig)
{
    memtext_open(&rig->told);
    const struct state_load_calls calls = tell_calls(rig->told.out);
    char *error = NULL;
    bool loaded = state_load(rig->state, &calls, &error);
    free(rig->dump);
    rig->dump = memtext_close(&rig->told);
    if (!loaded)
        fail_msg("%s", error);
    return rig->dump;
}

// What is written, as the next process finds it.
static inline const char *rig_reload(struct state_rig *rig)
{
    rig_close(rig);
    rig_open(rig);
    return rig_load(rig);
}

// ---- the loop ----

static inline void rig_stop(void *arg, uint64_t a, uint64_t b)
{
    (void)a, (void)b;
    struct state_rig *rig = arg;
    loop_stop(rig->loop);
}

// Until all that is written is durable.
static inline void rig_settle(struct state_rig *rig)
{
    state_when_durable(rig->state, rig_stop, rig, 0, 0);
    loop_run(rig->loop);
}

static inline void rig_stop_turn(void *arg)
{
    struct state_rig *rig = arg;
    loop_stop(rig->loop);
}

// One turn of the loop, with what was scheduled before.
static inline void rig_turn(struct state_rig *rig)
{
    struct loop_task *task = loop_task_new(rig->loop, rig_stop_turn, rig);
    loop_task_schedule(task);
    loop_run(rig->loop);
    loop_task_free(task);
}

// ---- what is written ----

static inline struct publication *rig_publication(struct state_rig *rig, const char *topic,
                                                  const char *payload)
{
    const struct publication_parts parts = {
        .topic = bytes_of(topic),
        .payload = bytes_of(payload),
        .received_us = loop_wall_us(),
        .expires_ms = INT64_MAX,
        .qos = 1,
    };
    return publication_new(&rig->budget, &parts);
}

static inline void rig_session(struct state_rig *rig, uint64_t id, const char *client_id)
{
    const struct state_session session = {
        .id = id, .client_id = client_id, .expiry = 60, .next_packet_id = 1, .version = 5};
    state_put_session(rig->state, &session);
}

static inline void rig_deliver(struct state_rig *rig, uint64_t session, uint16_t packet_id,
                               uint8_t qos, struct publication *publication)
{
    const struct state_delivery delivery = {.packet_id = packet_id, .qos = qos};
    state_put_delivery(rig->state, session, &delivery, publication);
}

// ---- the file, by another connection; the state is closed ----

static inline struct sqlite3 *rig_file(const struct state_rig *rig)
{
    struct sqlite3 *db;
    assert_int_equal(sqlite3_open_v2(rig->path, &db, SQLITE_OPEN_READWRITE, "unix"), SQLITE_OK);
    return db;
}

static inline void rig_edit(const struct state_rig *rig, const char *sql)
{
    struct sqlite3 *db = rig_file(rig);
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    sqlite3_close(db);
}

static inline int64_t rig_count(const struct state_rig *rig, const char *table)
{
    struct sqlite3 *db = rig_file(rig);
    char *sql = mem_printf("SELECT count(*) FROM %s", table);
    sqlite3_stmt *statement;
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    int64_t count = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    sqlite3_close(db);
    free(sql);
    return count;
}
