// Opening a connection: the name, its addresses one after the other, and the time that it may take.
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/resolve.h"
#include "mqtt/conn_internal.h"

#define ATTEMPT_MS 10000 // for one address, and for the handshakes after it

struct address {
    struct sockaddr_storage storage;
    socklen_t length;
};

struct conn_opening {
    char *host, *path;
    uint16_t port;
    struct tls *tls;
    bool websocket;
    struct resolve *resolve;
    struct address *addresses;
    size_t address_count, address_next;
    struct loop_timer *timer;
    int fd; // of the present attempt
    struct event *connected;
    char why[160]; // the last attempt failed
};

static void attempt_end(struct conn_opening *opening)
{
    if (opening->connected)
        event_free(opening->connected);
    if (opening->fd != CONN_NO_FD)
        close(opening->fd);
    opening->connected = NULL;
    opening->fd = CONN_NO_FD;
}

// The stream is there: the handshakes have as much time again.
static void attempt_succeeded(struct conn *conn)
{
    struct conn_opening *opening = conn->opening;
    int fd = opening->fd;
    opening->fd = CONN_NO_FD;
    attempt_end(opening);
    loop_timer_start(opening->timer, ATTEMPT_MS);
    if (opening->websocket)
        conn_websocket_new(conn, WEBSOCKET_CLIENT);
    if (opening->tls)
        conn->ssl = tls_session(opening->tls, opening->host, opening->websocket);
    conn_start(conn, fd);
}

static void attempt_next(struct conn *conn);

static void attempt_failed(struct conn *conn, int error)
{
    struct conn_opening *opening = conn->opening;
    attempt_end(opening);
    snprintf(opening->why, sizeof opening->why, "%s", strerror(error));
    attempt_next(conn);
}

static void connected(evutil_socket_t fd, short events, void *arg)
{
    (void)events;
    struct conn *conn = arg;
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error)
        attempt_failed(conn, error);
    else
        attempt_succeeded(conn);
}

static void attempt_next(struct conn *conn)
{
    struct conn_opening *opening = conn->opening;
    if (opening->address_next == opening->address_count) {
        conn_over(conn, opening->why);
        return;
    }
    const struct address *address = &opening->addresses[opening->address_next++];
    loop_timer_start(opening->timer, ATTEMPT_MS);
    opening->fd = socket(address->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int status = opening->fd < 0 ? -1
                                 : connect(opening->fd, (const struct sockaddr *)&address->storage,
                                           address->length);
    if (status < 0 && errno != EINPROGRESS) {
        attempt_failed(conn, errno);
        return;
    }
    opening->connected =
        event_new(loop_base(conn_loop_of(conn)), opening->fd, EV_WRITE, connected, conn);
    event_add(opening->connected, NULL);
}

static void out_of_time(void *arg)
{
    struct conn *conn = arg;
    struct conn_opening *opening = conn->opening;
    bool attempt = opening->fd != CONN_NO_FD;
    const char *what = attempt         ? "connection"
                       : conn->carried ? "WebSocket handshake"
                                       : "TLS handshake";
    snprintf(opening->why, sizeof opening->why, "no %s within %d s", what, ATTEMPT_MS / 1000);
    if (!attempt) {
        conn_over(conn, opening->why);
        return;
    }
    attempt_end(opening);
    attempt_next(conn);
}

static void resolved(void *arg, const struct addrinfo *addresses, const char *error)
{
    struct conn *conn = arg;
    struct conn_opening *opening = conn->opening;
    opening->resolve = NULL;
    size_t capacity = 0;
    for (; addresses; addresses = addresses->ai_next) {
        opening->addresses = mem_grow(opening->addresses, opening->address_count, &capacity,
                                      sizeof *opening->addresses);
        struct address *address = &opening->addresses[opening->address_count++];
        address->length = addresses->ai_addrlen;
        memcpy(&address->storage, addresses->ai_addr, addresses->ai_addrlen);
    }
    snprintf(opening->why, sizeof opening->why, "cannot resolve the name: %s",
             error ? error : "no address");
    attempt_next(conn);
}

void conn_connect(struct conn *conn, struct worker *worker, const char *host, uint16_t port,
                  const struct conn_transport *transport)
{
    struct conn_opening *opening = mem_zalloc(sizeof *opening);
    conn->opening = opening;
    opening->host = mem_strdup(host);
    opening->port = port;
    opening->fd = CONN_NO_FD;
    if (transport && transport->tls)
        opening->tls = tls_hold(transport->tls);
    if (transport && transport->websocket) {
        opening->websocket = true;
        opening->path = mem_strdup(transport->path ? transport->path : "/mqtt");
    }
    opening->timer = loop_timer_new(conn_loop_of(conn), out_of_time, conn);
    opening->resolve = resolve_start(worker, host, port, resolved, conn);
}

void conn_opening_free(struct conn *conn)
{
    struct conn_opening *opening = conn->opening;
    if (!opening)
        return;
    conn->opening = NULL;
    resolve_cancel(opening->resolve);
    attempt_end(opening);
    loop_timer_free(opening->timer);
    tls_free(opening->tls);
    free(opening->addresses);
    free(opening->host);
    free(opening->path);
    free(opening);
}

const char *conn_opening_host(const struct conn *conn)
{
    return conn->opening->host;
}

uint16_t conn_opening_port(const struct conn *conn)
{
    return conn->opening->port;
}

const char *conn_opening_path(const struct conn *conn)
{
    return conn->opening->path;
}
