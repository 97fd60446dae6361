// The operations as SQL. All of it can be repeated: a row that is there already is replaced, one
// that is gone already is not missed.
#include "broker/state_write.h"

#include <sqlite3.h>
#include <stdlib.h>

#include "base/loop.h"
#include "base/mem.h"
#include "broker/state_batch.h"
#include "broker/state_refs.h"
#include "broker/state_sql.h"

struct state_writer {
    struct state_sql sql;
    struct state_refs refs;
    bool counted;      // refs and position are what the tables say
    uint64_t position; // of the last delivery
};

struct state_writer *state_writer_new(struct sqlite3 *database)
{
    struct state_writer *writer = mem_zalloc(sizeof *writer);
    if (state_sql_prepare(&writer->sql, database))
        return writer;
    free(writer);
    return NULL;
}

void state_writer_free(struct state_writer *writer)
{
    if (!writer)
        return;
    state_refs_clear(&writer->refs);
    free(writer);
}

// ---- publications ----

static int64_t wall_clock(int64_t expires_ms)
{
    return loop_wall_us() + (expires_ms - loop_now_ms()) * 1000;
}

static bool put_publication(struct state_sql *sql, const struct publication *publication)
{
    state_bind(sql, PUT_PUBLICATION, 1, publication->id);
    state_bind(sql, PUT_PUBLICATION, 2, (int64_t)publication->publisher);
    state_bind(sql, PUT_PUBLICATION, 3, publication->received_us);
    if (publication->expires_ms == INT64_MAX)
        state_bind_id(sql, PUT_PUBLICATION, 4, 0);
    else
        state_bind(sql, PUT_PUBLICATION, 4, wall_clock(publication->expires_ms));
    state_bind(sql, PUT_PUBLICATION, 5, publication->qos);
    state_bind(sql, PUT_PUBLICATION, 6, publication->retain);
    state_bind_text(sql, PUT_PUBLICATION, 7, publication->topic);
    state_bind_blob(sql, PUT_PUBLICATION, 8, publication->properties);
    state_bind_blob(sql, PUT_PUBLICATION, 9, publication->payload);
    return state_run(sql, PUT_PUBLICATION);
}

// A row is about to refer to it; NULL is nothing.
static bool refer(struct state_writer *writer, const struct publication *publication)
{
    return !publication || state_refs_add(&writer->refs, publication->id) > 1 ||
           put_publication(&writer->sql, publication);
}

static bool unrefer(struct state_writer *writer, int64_t id)
{
    if (id == 0 || state_refs_remove(&writer->refs, id) > 0)
        return true;
    state_bind(&writer->sql, DROP_PUBLICATION, 1, id);
    return state_run(&writer->sql, DROP_PUBLICATION);
}

// What the rows that this finds refer to. After a failure within it is not reset: that would hide
// the error from the disk.
static bool unrefer_found(struct state_writer *writer, enum state_statement which)
{
    int result;
    while ((result = state_step(&writer->sql, which)) == SQLITE_ROW)
        if (!unrefer(writer, sqlite3_column_int64(writer->sql.statements[which], 0)))
            return false;
    state_reset(&writer->sql, which);
    return result == SQLITE_DONE;
}

static bool count_references(struct state_writer *writer)
{
    struct state_sql *sql = &writer->sql;
    state_refs_clear(&writer->refs);
    int result;
    while ((result = state_step(sql, ALL_REFERENCES)) == SQLITE_ROW) {
        int64_t id = sqlite3_column_int64(sql->statements[ALL_REFERENCES], 0);
        if (id != 0)
            state_refs_add(&writer->refs, id);
    }
    state_reset(sql, ALL_REFERENCES);
    if (result != SQLITE_DONE)
        return false;
    result = state_step(sql, LAST_POSITION);
    writer->position = (uint64_t)sqlite3_column_int64(sql->statements[LAST_POSITION], 0);
    state_reset(sql, LAST_POSITION);
    return result == SQLITE_ROW;
}

// ---- sessions ----

static bool run_for_session(struct state_sql *sql, enum state_statement which, uint64_t session)
{
    state_bind(sql, which, 1, (int64_t)session);
    return state_run(sql, which);
}

static bool put_session(struct state_writer *writer, const struct state_session *session)
{
    struct state_sql *sql = &writer->sql;
    struct bytes username = {0};
    if (session->username)
        username = bytes_of(session->username);
    state_bind(sql, PUT_SESSION, 1, (int64_t)session->id);
    state_bind_text(sql, PUT_SESSION, 2, bytes_of(session->client_id));
    state_bind_text(sql, PUT_SESSION, 3, username);
    state_bind(sql, PUT_SESSION, 4, session->expiry);
    state_bind(sql, PUT_SESSION, 5, session->ended_us);
    state_bind(sql, PUT_SESSION, 6, session->next_packet_id);
    state_bind(sql, PUT_SESSION, 7, session->version);
    return state_run(sql, PUT_SESSION);
}

static bool drop_will(struct state_writer *writer, uint64_t session)
{
    state_bind(&writer->sql, FIND_WILL, 1, (int64_t)session);
    return unrefer_found(writer, FIND_WILL) && run_for_session(&writer->sql, DROP_WILL, session);
}

static bool drop_session(struct state_writer *writer, uint64_t session)
{
    struct state_sql *sql = &writer->sql;
    state_bind(sql, REFERENCES_OF_SESSION, 1, (int64_t)session);
    return unrefer_found(writer, REFERENCES_OF_SESSION) && drop_will(writer, session) &&
           run_for_session(sql, DROP_DELIVERIES, session) &&
           run_for_session(sql, DROP_INCOMINGS, session) &&
           run_for_session(sql, DROP_SUBSCRIPTIONS, session) &&
           run_for_session(sql, DROP_SESSION, session);
}

static bool put_will(struct state_writer *writer, const struct state_op *op)
{
    struct state_sql *sql = &writer->sql;
    if (!refer(writer, op->publication) || !drop_will(writer, op->session))
        return false;
    if (!op->publication)
        return true;
    state_bind(sql, PUT_WILL, 1, (int64_t)op->session);
    state_bind(sql, PUT_WILL, 2, op->publication->id);
    state_bind(sql, PUT_WILL, 3, op->delay);
    return state_run(sql, PUT_WILL);
}

static bool put_subscription(struct state_sql *sql, uint64_t session,
                             const struct state_subscription *subscription)
{
    state_bind(sql, PUT_SUBSCRIPTION, 1, (int64_t)session);
    state_bind_text(sql, PUT_SUBSCRIPTION, 2, bytes_of(subscription->filter));
    state_bind(sql, PUT_SUBSCRIPTION, 3, subscription->id);
    state_bind(sql, PUT_SUBSCRIPTION, 4, subscription->qos);
    state_bind(sql, PUT_SUBSCRIPTION, 5, subscription->retain_handling);
    state_bind(sql, PUT_SUBSCRIPTION, 6, subscription->no_local);
    state_bind(sql, PUT_SUBSCRIPTION, 7, subscription->retain_as_published);
    return state_run(sql, PUT_SUBSCRIPTION);
}

static bool drop_subscription(struct state_sql *sql, const struct state_op *op)
{
    state_bind(sql, DROP_SUBSCRIPTION, 1, (int64_t)op->session);
    state_bind_text(sql, DROP_SUBSCRIPTION, 2, bytes_of(op->data));
    return state_run(sql, DROP_SUBSCRIPTION);
}

// ---- deliveries and incoming: rows with a session and a packet identifier ----

static void bind_key(struct state_sql *sql, enum state_statement which, const struct state_op *op)
{
    state_bind(sql, which, 1, (int64_t)op->session);
    state_bind(sql, which, 2, op->packet_id);
}

static bool drop_row(struct state_writer *writer, const struct state_op *op,
                     enum state_statement find, enum state_statement drop)
{
    bind_key(&writer->sql, find, op);
    bind_key(&writer->sql, drop, op);
    return unrefer_found(writer, find) && state_run(&writer->sql, drop);
}

// The statement is filled. A row with this key is there only where a batch is repeated that was
// committed after all.
static bool insert_row(struct state_writer *writer, const struct state_op *op,
                       enum state_statement put, enum state_statement find,
                       enum state_statement drop)
{
    int result = state_step(&writer->sql, put);
    state_reset(&writer->sql, put);
    if (result != SQLITE_CONSTRAINT)
        return result == SQLITE_DONE;
    return drop_row(writer, op, find, drop) && state_run(&writer->sql, put);
}

static bool put_delivery(struct state_writer *writer, const struct state_op *op)
{
    struct state_sql *sql = &writer->sql;
    if (!refer(writer, op->publication))
        return false;
    bind_key(sql, PUT_DELIVERY, op);
    state_bind(sql, PUT_DELIVERY, 3, (int64_t)++writer->position);
    state_bind_id(sql, PUT_DELIVERY, 4, op->publication ? op->publication->id : 0);
    state_bind(sql, PUT_DELIVERY, 5, op->qos);
    state_bind(sql, PUT_DELIVERY, 6, op->phase);
    state_bind(sql, PUT_DELIVERY, 7, op->retain);
    state_bind(sql, PUT_DELIVERY, 8, op->sent);
    state_bind_blob(sql, PUT_DELIVERY, 9, (struct bytes){op->data, op->length});
    return insert_row(writer, op, PUT_DELIVERY, FIND_DELIVERY, DROP_DELIVERY);
}

static bool put_incoming(struct state_writer *writer, const struct state_op *op)
{
    struct state_sql *sql = &writer->sql;
    if (!refer(writer, op->publication))
        return false;
    bind_key(sql, PUT_INCOMING, op);
    state_bind_id(sql, PUT_INCOMING, 3, op->publication ? op->publication->id : 0);
    state_bind(sql, PUT_INCOMING, 4, op->mapped);
    return insert_row(writer, op, PUT_INCOMING, FIND_INCOMING, DROP_INCOMING);
}

// Of what was put with this publication one look at the table is enough.
static bool drop_row_of(struct state_writer *writer, const struct state_op *op,
                        enum state_statement drop_of, enum state_statement find,
                        enum state_statement drop)
{
    struct state_sql *sql = &writer->sql;
    if (op->publication_id != 0) {
        bind_key(sql, drop_of, op);
        state_bind(sql, drop_of, 3, op->publication_id);
        if (!state_run(sql, drop_of))
            return false;
        if (sqlite3_changes(sqlite3_db_handle(sql->statements[drop_of])) > 0)
            return unrefer(writer, op->publication_id);
    }
    return drop_row(writer, op, find, drop);
}

// ---- retained ----

static bool drop_retained(struct state_writer *writer, struct bytes topic)
{
    state_bind_text(&writer->sql, FIND_RETAINED, 1, topic);
    state_bind_text(&writer->sql, DROP_RETAINED, 1, topic);
    return unrefer_found(writer, FIND_RETAINED) && state_run(&writer->sql, DROP_RETAINED);
}

static bool put_retained(struct state_writer *writer, const struct publication *publication)
{
    struct state_sql *sql = &writer->sql;
    state_bind_text(sql, FIND_RETAINED, 1, publication->topic);
    if (!refer(writer, publication) || !unrefer_found(writer, FIND_RETAINED))
        return false;
    state_bind_text(sql, PUT_RETAINED, 1, publication->topic);
    state_bind(sql, PUT_RETAINED, 2, publication->id);
    return state_run(sql, PUT_RETAINED);
}

// ---- batches ----

static bool write_op(struct state_writer *writer, const struct state_op *op)
{
    switch ((enum state_op_kind)op->kind) {
    case STATE_NOTHING:
        return true;
    case STATE_SESSION:
        return put_session(writer, op->data);
    case STATE_SESSION_GONE:
        return drop_session(writer, op->session);
    case STATE_SUBSCRIPTION:
        return put_subscription(&writer->sql, op->session, op->data);
    case STATE_SUBSCRIPTION_GONE:
        return drop_subscription(&writer->sql, op);
    case STATE_WILL:
        return put_will(writer, op);
    case STATE_DELIVERY:
        return put_delivery(writer, op);
    case STATE_DELIVERY_RELEASED:
        bind_key(&writer->sql, FIND_DELIVERY, op);
        bind_key(&writer->sql, RELEASE_DELIVERY, op);
        return unrefer_found(writer, FIND_DELIVERY) && state_run(&writer->sql, RELEASE_DELIVERY);
    case STATE_DELIVERY_GONE:
        return drop_row_of(writer, op, DROP_DELIVERY_OF, FIND_DELIVERY, DROP_DELIVERY);
    case STATE_INCOMING:
        return put_incoming(writer, op);
    case STATE_INCOMING_GONE:
        return drop_row_of(writer, op, DROP_INCOMING_OF, FIND_INCOMING, DROP_INCOMING);
    case STATE_RETAINED:
        return op->publication ? put_retained(writer, op->publication)
                               : drop_retained(writer, (struct bytes){op->data, op->length});
    }
    return true;
}

bool state_writer_run(struct sqlite3 *database, void *arg)
{
    (void)database;
    struct state_batch *batch = arg;
    struct state_writer *writer = batch->writer;
    if (batch->attempted) { // and what it did to the tables was undone
        state_sql_reset(&writer->sql);
        writer->counted = false;
    }
    batch->attempted = true;
    if (!writer->counted && !(writer->counted = count_references(writer)))
        return false;
    for (size_t i = 0; i < batch->op_count; i++)
        if (!write_op(writer, &batch->ops[i]))
            return false;
    return true;
}
