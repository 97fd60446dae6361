// What the files of the connection share; nobody else includes it.
#pragma once

#include <event2/event_struct.h>

#include "base/list.h"
#include "mqtt/conn.h"
#include "mqtt/websocket.h"

#define CONN_READ_CHUNK (64 * 1024)
#define CONN_NO_FD (-1)

// Bytes in one piece, added at the end and taken at the start. Empty, it holds no memory.
struct conn_buffer {
    uint8_t *data;
    size_t start, end, capacity;
};

enum conn_state {
    CONN_OPENING, // there is no stream yet
    CONN_SHAKING, // the handshakes of TLS and WebSocket
    CONN_OPEN,
    CONN_FINISHING, // conn_finish: all is sent, then our end, then the peer's end is waited for
    CONN_CLOSING,   // the peer has said its end: our last answer is sent
    CONN_CLOSED,
};

// What carries the bytes: a socket alone, or TLS.
struct conn_carrier {
    // Begins to carry over conn->fd; then conn_carried, conn_take and conn_over are called.
    void (*start)(struct conn *conn);
    // Takes what it can of conn->out; conn_flushed is called where nothing is left anywhere.
    void (*flush)(struct conn *conn);
    size_t (*unsent)(const struct conn *conn); // beside conn->out
    void (*read)(struct conn *conn, bool on);
    void (*end)(struct conn *conn);  // after all that was sent
    void (*stop)(struct conn *conn); // no calls come any more
    void (*free)(struct conn *conn); // closes the socket
};
extern const struct conn_carrier conn_socket, conn_tls;

struct conn_loop;      // conn_turn.c
struct conn_opening;   // conn_open.c
struct conn_oversize;  // conn_input.c
struct conn_websocket; // conn_websocket.c

// Kept small: most connections are idle. What only some need for some time is allocated then.
struct conn {
    struct list due; // in conn_loop's list where flush_due or resume_due
    struct conn_loop *shared;
    const struct conn_limits *limits;
    const struct conn_calls *calls;
    void *arg;
    const struct conn_carrier *carrier;
    char *why; // CONN_CLOSING
    int fd;
    uint8_t state;
    bool carried; // the carrier has shaken hands
    bool held;    // no packets are handed over
    bool deaf;    // nor will ever be: framing has ended
    bool paused;  // the socket is not read
    bool ended;   // our end of the stream is sent
    bool flush_due, resume_due;
    // conn_socket.c
    struct event readable;
    struct event *writable; // while the socket takes no more
    // conn_tls.c
    struct bufferevent *stream;
    struct ssl_st *ssl; // until the stream has it
    char *peer_name;
    struct conn_opening *opening;
    struct conn_websocket *websocket;
    // conn_input.c
    struct conn_oversize *oversize;
    size_t need;            // bytes at the start of a packet below which it is not whole
    size_t charged;         // to the budget of unfinished packets, for the one at the start
    struct conn_buffer in;  // what could not be handed over yet
    struct conn_buffer out; // what the carrier has not taken yet
};

// conn_buffer.c
// Room for length bytes at the end, which are part of it at once.
uint8_t *conn_buffer_extend(struct conn_buffer *buffer, size_t length);
void conn_buffer_add(struct conn_buffer *buffer, struct bytes bytes);
void conn_buffer_drop(struct conn_buffer *buffer, size_t length);

static inline size_t conn_buffer_length(const struct conn_buffer *buffer)
{
    return buffer->end - buffer->start;
}

static inline struct bytes conn_buffer_bytes(const struct conn_buffer *buffer)
{
    return (struct bytes){buffer->data + buffer->start, conn_buffer_length(buffer)};
}

// conn.c
// The stream is there: the carrier and the WebSocket begin with their handshakes.
void conn_start(struct conn *conn, int fd);
// The carrier has shaken hands.
void conn_carried(struct conn *conn);
// All have.
void conn_opened(struct conn *conn);
// Bytes have come, which may be changed.
void conn_take(struct conn *conn, uint8_t *bytes, size_t length);
// All that was queued has left.
void conn_flushed(struct conn *conn);
// The stream has ended: by this errno, or 0.
void conn_ended(struct conn *conn, int number);
// It is over, for another reason.
void conn_over(struct conn *conn, const char *why);

// conn_turn.c: what is shared, and what is done at the end of a turn of the loop.
struct conn_loop *conn_loop_hold(struct loop *loop);
void conn_loop_release(struct conn_loop *shared);
struct loop *conn_loop_of(const struct conn *conn);
uint8_t *conn_loop_chunk(const struct conn *conn); // CONN_READ_CHUNK bytes for anyone, for a moment
void conn_flush_later(struct conn *conn);
void conn_resume_later(struct conn *conn);

// conn_open.c
void conn_opening_free(struct conn *conn);
// What the peer's certificate and the WebSocket's request are to name.
const char *conn_opening_host(const struct conn *conn);
uint16_t conn_opening_port(const struct conn *conn);
const char *conn_opening_path(const struct conn *conn);

// conn_input.c
// Cuts the stream's next bytes into packets and hands them over.
void conn_input(struct conn *conn, struct bytes bytes);
// Goes on after a hold.
void conn_input_again(struct conn *conn);
void conn_input_free(struct conn *conn);
// Ends the framing.
void conn_malformed(struct conn *conn, const struct packet_error *error);

// conn_websocket.c
void conn_websocket_new(struct conn *conn, enum websocket_role role);
void conn_websocket_free(struct conn *conn);
void conn_websocket_start(struct conn *conn);
void conn_websocket_take(struct conn *conn, uint8_t *bytes, size_t length);
// Goes on with what the peer has said behind packets that were held.
void conn_websocket_again(struct conn *conn);
void conn_websocket_write(struct conn *conn, struct bytes bytes);
void conn_websocket_finish(struct conn *conn);
