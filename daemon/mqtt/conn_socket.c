// A connection's bytes over a socket alone. An idle one costs one event; a turn that reads and
// answers costs one recv and one send, and no change of what is polled.
#include <errno.h>
#include <event2/event.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mqtt/conn_internal.h"

static void readable(evutil_socket_t fd, short events, void *arg)
{
    (void)events;
    struct conn *conn = arg;
    if (conn->resume_due) // what was held comes first, in this turn
        return;
    if (conn->held) { // only now: most holds end before more has come
        event_del(&conn->readable);
        conn->paused = true;
        return;
    }
    uint8_t *chunk = conn_loop_chunk(conn);
    ssize_t got = recv(fd, chunk, CONN_READ_CHUNK, 0);
    if (got > 0)
        conn_take(conn, chunk, (size_t)got);
    else if (got == 0)
        conn_ended(conn, 0);
    else if (errno != EAGAIN && errno != EINTR)
        conn_ended(conn, errno);
}

static void socket_start(struct conn *conn)
{
    event_assign(&conn->readable, loop_base(conn_loop_of(conn)), conn->fd, EV_READ | EV_PERSIST,
                 readable, conn);
    event_add(&conn->readable, NULL);
    conn_carried(conn);
}

static void socket_read(struct conn *conn, bool on)
{
    if (!on || !conn->paused)
        return;
    conn->paused = false;
    event_add(&conn->readable, NULL);
}

static void drop_writable(struct conn *conn)
{
    if (conn->writable)
        event_free(conn->writable);
    conn->writable = NULL;
}

// Sends once; true where the socket took all.
static bool send_out(struct conn *conn)
{
    struct bytes bytes = conn_buffer_bytes(&conn->out);
    ssize_t sent = send(conn->fd, bytes.data, bytes.length, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        conn_ended(conn, errno);
        return false;
    }
    if (sent > 0)
        conn_buffer_drop(&conn->out, (size_t)sent);
    return !conn->out.data;
}

static void writable(evutil_socket_t fd, short events, void *arg)
{
    (void)fd, (void)events;
    struct conn *conn = arg;
    if (!send_out(conn))
        return;
    drop_writable(conn);
    conn_flushed(conn);
}

static void socket_flush(struct conn *conn)
{
    if (conn->writable) // the socket takes no more
        return;
    if (!conn->out.data || send_out(conn)) {
        conn_flushed(conn);
        return;
    }
    if (conn->state == CONN_CLOSED)
        return;
    conn->writable =
        event_new(loop_base(conn_loop_of(conn)), conn->fd, EV_WRITE | EV_PERSIST, writable, conn);
    event_add(conn->writable, NULL);
}

static size_t socket_unsent(const struct conn *conn)
{
    (void)conn;
    return 0;
}

static void socket_end(struct conn *conn)
{
    shutdown(conn->fd, SHUT_WR);
}

static void socket_stop(struct conn *conn)
{
    event_del(&conn->readable);
    drop_writable(conn);
}

static void socket_free(struct conn *conn)
{
    socket_stop(conn);
    close(conn->fd);
}

const struct conn_carrier conn_socket = {
    .start = socket_start,
    .flush = socket_flush,
    .unsent = socket_unsent,
    .read = socket_read,
    .end = socket_end,
    .stop = socket_stop,
    .free = socket_free,
};
