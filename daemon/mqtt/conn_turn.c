// What connections do together at the end of a turn of the loop, and what they share.
#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"
#include "mqtt/conn_internal.h"

struct conn_loop {
    struct loop *loop;
    unsigned users;
    struct loop_task *task;
    bool late; // the task has gone behind the turn's other tasks
    struct list due;
    uint8_t chunk[CONN_READ_CHUNK];
};

static struct conn_loop *shared; // of the process's one loop, while there are connections

static void serve(struct conn *conn)
{
    if (conn->resume_due) {
        conn->resume_due = conn->held = false;
        conn_input_again(conn);
        if (conn->websocket)
            conn_websocket_again(conn);
        if (conn->state == CONN_OPEN && !conn->held)
            conn->carrier->read(conn, true);
    }
    if (conn->flush_due && conn->state != CONN_CLOSED) {
        conn->flush_due = false;
        conn->carrier->flush(conn);
    }
}

// Goes once more to the end of the queue, so that what the turn's other tasks write leaves in the
// same system call.
static void turn_end(void *arg)
{
    struct conn_loop *here = arg;
    here->late = !here->late;
    if (here->late) {
        loop_task_schedule(here->task);
        return;
    }
    struct list now;
    list_init(&now);
    for (struct list *node; (node = list_take(&here->due));)
        list_append(&now, node);
    // A call may free other connections: they leave the list.
    for (struct list *node; (node = list_take(&now));)
        serve(list_entry(node, struct conn, due));
}

struct conn_loop *conn_loop_hold(struct loop *loop)
{
    if (!shared) {
        shared = mem_alloc(sizeof *shared);
        shared->loop = loop;
        shared->users = 0;
        shared->task = loop_task_new(loop, turn_end, shared);
        shared->late = false;
        list_init(&shared->due);
    }
    assert(shared->loop == loop);
    shared->users++;
    return shared;
}

void conn_loop_release(struct conn_loop *here)
{
    if (--here->users > 0)
        return;
    loop_task_free(here->task);
    free(here);
    shared = NULL;
}

struct loop *conn_loop_of(const struct conn *conn)
{
    return conn->shared->loop;
}

uint8_t *conn_loop_chunk(const struct conn *conn)
{
    return conn->shared->chunk;
}

static void due(struct conn *conn)
{
    list_remove(&conn->due);
    list_append(&conn->shared->due, &conn->due);
    loop_task_schedule(conn->shared->task);
}

void conn_flush_later(struct conn *conn)
{
    if (!conn->flush_due && !conn->resume_due)
        due(conn);
    conn->flush_due = true;
}

void conn_resume_later(struct conn *conn)
{
    if (!conn->flush_due && !conn->resume_due)
        due(conn);
    conn->resume_due = true;
}
