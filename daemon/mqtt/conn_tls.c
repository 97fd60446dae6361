// A connection's bytes over TLS, by libevent's bufferevent_openssl.
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "mqtt/conn_internal.h"

static void came(struct bufferevent *stream, void *arg)
{
    struct conn *conn = arg;
    struct evbuffer *in = bufferevent_get_input(stream);
    for (size_t length; (length = evbuffer_get_contiguous_space(in)) > 0;) {
        conn_take(conn, evbuffer_pullup(in, (ssize_t)length), length);
        evbuffer_drain(in, length);
    }
}

static void written(struct bufferevent *stream, void *arg)
{
    struct conn *conn = arg;
    // It is called late: more may have been queued, or be waiting for this turn's flush.
    if (!conn->out.data && evbuffer_get_length(bufferevent_get_output(stream)) == 0)
        conn_flushed(conn);
}

static void shaken(struct conn *conn)
{
    // The server's side says nothing now: a client that gathers small segments would wait for a
    // delayed ACK of its last one before it sends its CONNECT.
    int on = 1;
    setsockopt(conn->fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
    conn->peer_name = tls_peer_name(bufferevent_openssl_get_ssl(conn->stream));
    conn_carried(conn);
}

static void failed(struct conn *conn, int number)
{
    char why[200];
    const char *host = conn->opening ? conn_opening_host(conn) : NULL;
    unsigned long error = bufferevent_get_openssl_error(conn->stream);
    if (!error) {
        conn_ended(conn, number);
        return;
    }
    tls_explain(bufferevent_openssl_get_ssl(conn->stream), host, error, why, sizeof why);
    conn_over(conn, why);
}

static void happened(struct bufferevent *stream, short events, void *arg)
{
    (void)stream;
    struct conn *conn = arg;
    int number = errno;
    if (events & BEV_EVENT_CONNECTED)
        shaken(conn);
    else if (events & BEV_EVENT_EOF)
        conn_ended(conn, 0);
    else if (events & BEV_EVENT_ERROR)
        failed(conn, number);
}

static void tls_start(struct conn *conn)
{
    enum bufferevent_ssl_state state =
        conn->opening ? BUFFEREVENT_SSL_CONNECTING : BUFFEREVENT_SSL_ACCEPTING;
    conn->stream = bufferevent_openssl_socket_new(loop_base(conn_loop_of(conn)), conn->fd,
                                                  conn->ssl, state, BEV_OPT_CLOSE_ON_FREE);
    bufferevent_openssl_set_allow_dirty_shutdown(conn->stream, 1);
    bufferevent_setcb(conn->stream, came, written, happened, conn);
    bufferevent_setwatermark(conn->stream, EV_READ, 0, CONN_READ_CHUNK); // of one reading
    bufferevent_enable(conn->stream, EV_READ | EV_WRITE);
}

static void release(const void *data, size_t length, void *arg)
{
    (void)data, (void)length;
    free(arg);
}

static void tls_flush(struct conn *conn)
{
    struct evbuffer *out = bufferevent_get_output(conn->stream);
    struct bytes bytes = conn_buffer_bytes(&conn->out);
    if (bytes.length > 0)
        evbuffer_add_reference(out, bytes.data, bytes.length, release, conn->out.data);
    conn->out = (struct conn_buffer){0};
    if (evbuffer_get_length(out) == 0)
        conn_flushed(conn);
}

static size_t tls_unsent(const struct conn *conn)
{
    return evbuffer_get_length(bufferevent_get_output(conn->stream));
}

static void tls_read(struct conn *conn, bool on)
{
    if (on)
        bufferevent_enable(conn->stream, EV_READ);
    else
        bufferevent_disable(conn->stream, EV_READ);
}

static void tls_end(struct conn *conn)
{
    SSL_shutdown(bufferevent_openssl_get_ssl(conn->stream)); // close_notify
    shutdown(conn->fd, SHUT_WR);
}

static void tls_stop(struct conn *conn)
{
    bufferevent_disable(conn->stream, EV_READ | EV_WRITE);
    bufferevent_setcb(conn->stream, NULL, NULL, NULL, NULL);
}

static void tls_free_stream(struct conn *conn)
{
    tls_stop(conn);
    bufferevent_free(conn->stream);
}

const struct conn_carrier conn_tls = {
    .start = tls_start,
    .flush = tls_flush,
    .unsent = tls_unsent,
    .read = tls_read,
    .end = tls_end,
    .stop = tls_stop,
    .free = tls_free_stream,
};
