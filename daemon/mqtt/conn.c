// A byte stream to an MQTT peer: its life.
#include "mqtt/conn.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "mqtt/conn_internal.h"

static void conn_closed(struct conn *conn, const char *why)
{
    conn->state = CONN_CLOSED;
    if (conn->fd != CONN_NO_FD)
        conn->carrier->stop(conn);
    conn->calls->closed(conn->arg, why);
}

void conn_over(struct conn *conn, const char *why)
{
    if (conn->state != CONN_CLOSED)
        conn_closed(conn, why);
}

void conn_ended(struct conn *conn, int number)
{
    char why[160];
    const char *when = conn->state != CONN_SHAKING ? ""
                       : conn->carried             ? " in the WebSocket handshake"
                                                   : " in the TLS handshake";
    snprintf(why, sizeof why, "%s%s", number ? strerror(number) : "closed by the peer", when);
    conn_over(conn, why);
}

void conn_take(struct conn *conn, uint8_t *bytes, size_t length)
{
    if (conn->websocket)
        conn_websocket_take(conn, bytes, length);
    else
        conn_input(conn, (struct bytes){bytes, length});
}

void conn_flushed(struct conn *conn)
{
    if (conn->state == CONN_OPEN && conn->calls->drained)
        conn->calls->drained(conn->arg);
    else if (conn->state == CONN_CLOSING)
        conn_closed(conn, conn->why);
    else if (conn->state == CONN_FINISHING && !conn->ended) {
        conn->ended = true;
        conn->carrier->end(conn);
    }
}

void conn_opened(struct conn *conn)
{
    bool told = conn->opening;
    conn->state = CONN_OPEN;
    conn_opening_free(conn);
    if (told)
        conn->calls->open(conn->arg);
}

void conn_carried(struct conn *conn)
{
    conn->carried = true;
    if (conn->websocket)
        conn_websocket_start(conn);
    else
        conn_opened(conn);
}

void conn_start(struct conn *conn, int fd)
{
    int on = 1;
    // A socket that is no TCP one does without.
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    conn->fd = fd;
    conn->state = CONN_SHAKING;
    conn->carrier = conn->ssl ? &conn_tls : &conn_socket;
    conn->carrier->start(conn);
}

struct conn *conn_new(struct loop *loop, const struct conn_limits *limits,
                      const struct conn_calls *calls, void *arg)
{
    struct conn *conn = mem_zalloc(sizeof *conn);
    list_init(&conn->due);
    conn->shared = conn_loop_hold(loop);
    conn->limits = limits;
    conn->calls = calls;
    conn->arg = arg;
    conn->fd = CONN_NO_FD;
    return conn;
}

void conn_free(struct conn *conn)
{
    if (!conn)
        return;
    conn_opening_free(conn);
    if (conn->fd != CONN_NO_FD)
        conn->carrier->free(conn);
    conn_websocket_free(conn);
    conn_input_free(conn);
    free(conn->out.data);
    free(conn->peer_name);
    free(conn->why);
    list_remove(&conn->due);
    conn_loop_release(conn->shared);
    free(conn);
}

void conn_attach(struct conn *conn, int fd, const struct conn_transport *transport)
{
    if (transport && transport->websocket)
        conn_websocket_new(conn, WEBSOCKET_SERVER);
    if (transport && transport->tls)
        conn->ssl = tls_session(transport->tls, NULL, transport->websocket);
    conn_start(conn, fd);
}

void conn_write(struct conn *conn, struct bytes bytes)
{
    if (conn->state != CONN_OPEN || bytes.length == 0)
        return;
    if (conn->websocket)
        conn_websocket_write(conn, bytes);
    else
        conn_buffer_add(&conn->out, bytes);
    conn_flush_later(conn);
}

size_t conn_unsent(const struct conn *conn)
{
    if (conn->fd == CONN_NO_FD)
        return 0;
    return conn_buffer_length(&conn->out) + conn->carrier->unsent(conn);
}

void conn_resume(struct conn *conn)
{
    if (conn->held && !conn->deaf)
        conn_resume_later(conn);
}

void conn_finish(struct conn *conn)
{
    if (conn->state != CONN_OPEN)
        return;
    if (conn->websocket)
        conn_websocket_finish(conn);
    conn->state = CONN_FINISHING;
    conn->held = false; // the input stays: the caller may be dealing with a packet in it
    conn->carrier->read(conn, true); // for the peer's end
    conn_flush_later(conn);
}

bool conn_peer_ended(const struct conn *conn)
{
    struct pollfd poll_fd = {.fd = conn->fd, .events = POLLRDHUP};
    return poll(&poll_fd, 1, 0) == 1;
}

const char *conn_peer_name(const struct conn *conn)
{
    return conn->peer_name;
}

const char *conn_peer_address(const struct conn *conn, char text[CONN_ADDRESS_SIZE])
{
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    char host[INET6_ADDRSTRLEN + 16], port[8];
    bool known = getpeername(conn->fd, (struct sockaddr *)&address, &length) == 0 &&
                 (address.ss_family == AF_INET || address.ss_family == AF_INET6) &&
                 getnameinfo((struct sockaddr *)&address, length, host, sizeof host, port,
                             sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) == 0;
    if (!known)
        snprintf(text, CONN_ADDRESS_SIZE, "unknown");
    else
        snprintf(text, CONN_ADDRESS_SIZE, address.ss_family == AF_INET6 ? "[%.48s]:%s" : "%.48s:%s",
                 host, port);
    return text;
}
