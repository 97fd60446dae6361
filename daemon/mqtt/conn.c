// A byte stream to an MQTT peer, cut into packets: plain TCP through libevent's bufferevent.
#include "mqtt/conn.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "base/resolve.h"

#define LIBEVENT_READ 4096
#define READ_CHUNK (60 * 1024) // what libevent holds in one piece of 64 KiB
#define ATTEMPT_MS 10000       // for one address

struct address {
    struct sockaddr_storage storage;
    socklen_t length;
};

enum conn_state { CONN_IDLE, CONN_OPENING, CONN_OPEN, CONN_FINISHING, CONN_CLOSED };

// A PUBLISH that is being read through; kept is NULL where there is none.
struct oversize {
    struct packet_frame frame;
    uint8_t *kept;
    size_t kept_length;
    uint32_t left; // bytes of the body still to come
};

struct conn {
    struct loop *loop;
    struct conn_limits limits;
    struct conn_calls calls;
    enum conn_state state;
    struct bufferevent *stream;
    struct loop_task *again; // goes on with what is in the input
    bool held;
    size_t need; // input bytes below which there is no whole packet
    struct oversize oversize;
    // Opening:
    struct resolve *resolve;
    struct address *addresses;
    size_t address_count, address_next;
    struct loop_timer *attempt; // ends the attempt at one address
    char why[160];              // the last attempt failed
};

static void conn_closed(struct conn *conn, const char *why)
{
    if (conn->state == CONN_CLOSED)
        return;
    conn->state = CONN_CLOSED;
    loop_timer_stop(conn->attempt);
    if (conn->stream)
        bufferevent_disable(conn->stream, EV_READ | EV_WRITE);
    conn->calls.closed(conn->calls.arg, why);
}

static void hold(struct conn *conn)
{
    conn->held = true;
    bufferevent_disable(conn->stream, EV_READ);
}

// Hands a packet over; false where it is held or the connection is no longer open.
static bool hand_over(struct conn *conn, const struct packet_frame *frame, struct bytes body)
{
    if (conn->calls.packet(conn->calls.arg, frame, body) == CONN_NEXT)
        return true;
    if (conn->state == CONN_OPEN)
        hold(conn);
    return false;
}

static size_t malformed(struct conn *conn, const struct packet_error *error)
{
    hold(conn);
    conn->calls.malformed(conn->calls.arg, error);
    return 0;
}

static size_t oversize_begin(struct conn *conn, const struct packet_frame *frame)
{
    if (frame->type != PACKET_PUBLISH) {
        struct packet_error error = {REASON_PACKET_TOO_LARGE, "packet is too large"};
        return malformed(conn, &error);
    }
    conn->need = 0;
    conn->oversize = (struct oversize){.frame = *frame, .left = frame->body_length};
    conn->oversize.kept = mem_alloc(conn->limits.keep);
    return frame->header_length;
}

// Deals with the packet at the start of the input; how many bytes it took, 0 to stop.
static size_t take_packet(struct conn *conn, struct bytes input)
{
    struct packet_frame frame;
    struct packet_error error;
    enum packet_status status = packet_frame(input, &frame, &error);
    if (status == PACKET_MALFORMED)
        return malformed(conn, &error);
    if (status == PACKET_MORE) {
        conn->need = input.length + 1;
        return 0;
    }
    size_t size = frame.header_length + (size_t)frame.body_length;
    if (size > conn->limits.packet)
        return oversize_begin(conn, &frame);
    conn->need = size;
    if (size > input.length)
        return 0;
    struct bytes body = {input.data + frame.header_length, frame.body_length};
    if (!hand_over(conn, &frame, body))
        return 0;
    conn->need = 0;
    return size;
}

// Takes packets out of the input, piece by piece as it lies in memory; only a packet that lies
// across a border is made one piece first. True where there may be more to take.
static bool read_packets(struct conn *conn, struct evbuffer *in)
{
    size_t piece = evbuffer_get_contiguous_space(in);
    if (piece < conn->need)
        piece = conn->need;
    if (piece == 0 || piece > evbuffer_get_length(in))
        return false;
    struct bytes rest = {evbuffer_pullup(in, (ssize_t)piece), piece};
    size_t size = 1;
    while (size > 0 && rest.length > 0 && conn->state == CONN_OPEN && !conn->oversize.kept) {
        size = take_packet(conn, rest);
        rest.data += size;
        rest.length -= size;
    }
    evbuffer_drain(in, piece - rest.length);
    return true;
}

// Keeps the start of an oversize PUBLISH and drops the rest; true when it has been handed over.
static bool read_through(struct conn *conn, struct evbuffer *in)
{
    struct oversize *oversize = &conn->oversize;
    size_t room = conn->limits.keep - oversize->kept_length;
    size_t keep = room < oversize->left ? room : oversize->left;
    int kept = evbuffer_remove(in, oversize->kept + oversize->kept_length, keep);
    if (kept > 0) {
        oversize->kept_length += (size_t)kept;
        oversize->left -= (uint32_t)kept;
    }
    size_t length = evbuffer_get_length(in);
    size_t drop = length < oversize->left ? length : oversize->left;
    evbuffer_drain(in, drop);
    oversize->left -= (uint32_t)drop;
    if (oversize->left > 0)
        return false;
    struct bytes body = {oversize->kept, oversize->kept_length};
    if (!hand_over(conn, &oversize->frame, body))
        return false;
    free(oversize->kept);
    oversize->kept = NULL;
    return true;
}

static void read_on(struct conn *conn)
{
    struct evbuffer *in = bufferevent_get_input(conn->stream);
    while (conn->state == CONN_OPEN && !conn->held &&
           (conn->oversize.kept ? read_through(conn, in) : read_packets(conn, in)))
        ;
    if (conn->state == CONN_FINISHING)
        evbuffer_drain(in, evbuffer_get_length(in));
}

// libevent reads 4 KiB at a time and goes round the loop: where there is more, it is taken at once.
static void read_more(struct conn *conn, struct evbuffer *in)
{
    struct evbuffer_iovec space;
    evbuffer_unfreeze(in, 0);
    if (evbuffer_reserve_space(in, READ_CHUNK, &space, 1) == 1) {
        ssize_t got = recv(bufferevent_getfd(conn->stream), space.iov_base, space.iov_len, 0);
        space.iov_len = got > 0 ? (size_t)got : 0; // an end or error comes again, to libevent
        evbuffer_commit_space(in, &space, 1);
    }
    evbuffer_freeze(in, 0);
}

static void stream_read(struct bufferevent *stream, void *arg)
{
    struct conn *conn = arg;
    struct evbuffer *in = bufferevent_get_input(stream);
    if (evbuffer_get_length(in) >= LIBEVENT_READ && conn->state == CONN_OPEN)
        read_more(conn, in);
    read_on(conn);
}

static void read_again(void *arg)
{
    struct conn *conn = arg;
    if (conn->state != CONN_OPEN || conn->held)
        return;
    read_on(conn);
    if (conn->state == CONN_OPEN && !conn->held)
        bufferevent_enable(conn->stream, EV_READ);
}

// Everything is written.
static void stream_written(struct bufferevent *stream, void *arg)
{
    struct conn *conn = arg;
    if (conn->state == CONN_FINISHING)
        shutdown(bufferevent_getfd(stream), SHUT_WR);
}

static void opened(struct conn *conn)
{
    int fd = bufferevent_getfd(conn->stream), on = 1;
    // A socket that is no TCP one does without.
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    loop_timer_stop(conn->attempt);
    conn->state = CONN_OPEN;
    bufferevent_enable(conn->stream, EV_READ | EV_WRITE);
}

static void stream_event(struct bufferevent *stream, short events, void *arg)
{
    (void)stream;
    struct conn *conn = arg;
    int error = errno;
    if (conn->state == CONN_OPENING && events & BEV_EVENT_CONNECTED) {
        opened(conn);
        conn->calls.open(conn->calls.arg);
    } else if (conn->state == CONN_OPENING) {
        snprintf(conn->why, sizeof conn->why, "%s", strerror(error));
        loop_timer_start(conn->attempt, 0);
    } else if (events & BEV_EVENT_EOF) {
        conn_closed(conn, "closed by the peer");
    } else if (events & BEV_EVENT_ERROR) {
        conn_closed(conn, strerror(error));
    }
}

static void stream_new(struct conn *conn, int fd)
{
    conn->stream = bufferevent_socket_new(loop_base(conn->loop), fd, BEV_OPT_CLOSE_ON_FREE);
    bufferevent_setcb(conn->stream, stream_read, stream_written, stream_event, conn);
    bufferevent_setwatermark(conn->stream, EV_READ, 0, conn->limits.packet + 2 * READ_CHUNK);
}

static void stream_free(struct conn *conn)
{
    if (conn->stream)
        bufferevent_free(conn->stream);
    conn->stream = NULL;
}

// The attempt's timer: fires at once when an attempt has failed, late when nothing has come of it.
static void attempt_next(void *arg)
{
    struct conn *conn = arg;
    stream_free(conn);
    if (conn->address_next == conn->address_count) {
        conn_closed(conn, conn->why);
        return;
    }
    const struct address *address = &conn->addresses[conn->address_next++];
    stream_new(conn, -1);
    snprintf(conn->why, sizeof conn->why, "no connection within %d s", ATTEMPT_MS / 1000);
    loop_timer_start(conn->attempt, ATTEMPT_MS);
    if (bufferevent_socket_connect(conn->stream, (const struct sockaddr *)&address->storage,
                                   (int)address->length) < 0) {
        snprintf(conn->why, sizeof conn->why, "%s", strerror(errno));
        loop_timer_start(conn->attempt, 0);
    }
}

static void resolved(void *arg, const struct addrinfo *addresses, const char *error)
{
    struct conn *conn = arg;
    conn->resolve = NULL;
    size_t capacity = 0;
    for (; addresses; addresses = addresses->ai_next) {
        conn->addresses =
            mem_grow(conn->addresses, conn->address_count, &capacity, sizeof *conn->addresses);
        struct address *address = &conn->addresses[conn->address_count++];
        address->length = addresses->ai_addrlen;
        memcpy(&address->storage, addresses->ai_addr, addresses->ai_addrlen);
    }
    snprintf(conn->why, sizeof conn->why, "cannot resolve the name: %s",
             error ? error : "no address");
    attempt_next(conn);
}

struct conn *conn_new(struct loop *loop, const struct conn_limits *limits,
                      const struct conn_calls *calls)
{
    struct conn *conn = mem_zalloc(sizeof *conn);
    conn->loop = loop;
    conn->limits = *limits;
    conn->calls = *calls;
    conn->again = loop_task_new(loop, read_again, conn);
    conn->attempt = loop_timer_new(loop, attempt_next, conn);
    return conn;
}

void conn_free(struct conn *conn)
{
    if (!conn)
        return;
    resolve_cancel(conn->resolve);
    stream_free(conn);
    loop_task_free(conn->again);
    loop_timer_free(conn->attempt);
    free(conn->addresses);
    free(conn->oversize.kept);
    free(conn);
}

void conn_connect(struct conn *conn, struct worker *worker, const char *host, uint16_t port)
{
    conn->state = CONN_OPENING;
    conn->resolve = resolve_start(worker, host, port, resolved, conn);
}

void conn_attach(struct conn *conn, int fd)
{
    stream_new(conn, fd);
    opened(conn);
}

void conn_write(struct conn *conn, struct bytes bytes)
{
    if (conn->state == CONN_OPEN)
        bufferevent_write(conn->stream, bytes.data, bytes.length);
}

size_t conn_unsent(const struct conn *conn)
{
    return conn->stream ? evbuffer_get_length(bufferevent_get_output(conn->stream)) : 0;
}

void conn_resume(struct conn *conn)
{
    if (!conn->held)
        return;
    conn->held = false;
    loop_task_schedule(conn->again);
}

void conn_finish(struct conn *conn)
{
    if (conn->state != CONN_OPEN)
        return;
    conn->state = CONN_FINISHING;
    bufferevent_enable(conn->stream, EV_READ);
    if (conn_unsent(conn) == 0)
        shutdown(bufferevent_getfd(conn->stream), SHUT_WR);
}
