// A byte stream to an MQTT peer, cut into packets. Nobody else knows what carries the bytes: TCP,
// TLS, WebSocket, or WebSocket over TLS.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/loop.h"
#include "base/worker.h"
#include "core/budget.h"
#include "mqtt/packet.h"
#include "mqtt/tls.h"

#define CONN_ADDRESS_SIZE 64 // of the text that conn_peer_address writes

struct conn;

enum conn_next {
    CONN_NEXT, // the packet is dealt with
    CONN_HOLD, // it is not: it stays, and nothing more is read, until conn_resume
};

// A PUBLISH of more than packet bytes is read through: of its body only the first keep bytes are
// kept, which bounds the memory. Other packets must not be larger; with keep 0 no packet must.
// With a budget, a packet of more than CONN_SMALL bytes that does not come at once is charged to it
// until it is dealt with; where that is full it counts as malformed (0x97).
#define CONN_SMALL 4096
struct conn_limits {
    size_t packet, keep;
    struct budget *unfinished; // or NULL
};

// None of them may free the connection.
struct conn_calls {
    void (*open)(void *arg); // conn_connect has succeeded; never after conn_attach
    // body is a start of the frame's body, all of it but for a PUBLISH that was read through.
    enum conn_next (*packet)(void *arg, const struct packet_frame *frame, struct bytes body);
    // Framing has ended: the bytes make no packet, or no WebSocket frame. The connection still
    // stands, for a DISCONNECT.
    void (*malformed)(void *arg, const struct packet_error *error);
    // All that was queued has left; from the loop, never from within conn_write. May be NULL.
    void (*drained)(void *arg);
    // The last call: it is closed, or could not be opened. why is short, for people, valid within
    // the call.
    void (*closed)(void *arg, const char *why);
};

// What carries the bytes; NULL or zeros: plain TCP.
struct conn_transport {
    struct tls *tls; // NULL: none; the connection holds it
    bool websocket;
    const char *path; // of the WebSocket where it connects; NULL: /mqtt
};

// The limits and calls must outlive it; arg goes to the calls.
struct conn *conn_new(struct loop *loop, const struct conn_limits *limits,
                      const struct conn_calls *calls, void *arg);
// Closes at once what is open; no further calls come.
void conn_free(struct conn *conn);
// Resolves host and tries its addresses one after the other, on the loop; then the handshakes.
void conn_connect(struct conn *conn, struct worker *worker, const char *host, uint16_t port,
                  const struct conn_transport *transport);
// Takes a connected non-blocking socket over instead, as the server: packets come when the
// handshakes are done, whose time the caller bounds. What is written before is dropped.
void conn_attach(struct conn *conn, int fd, const struct conn_transport *transport);

// Queues bytes; all that one turn of the loop writes leaves together. Nothing where it is not open.
void conn_write(struct conn *conn, struct bytes bytes);
// Bytes queued that the peer has not taken.
size_t conn_unsent(const struct conn *conn);
// Ends a hold; the packet comes again later, not from within this call.
void conn_resume(struct conn *conn);
// Hands over no more packets, sends what is queued and the end of the stream, and waits for the
// peer's end, so that no RST overtakes the last bytes; then closed is called. The caller bounds the
// time by conn_free. Nothing where it is not open (yet): conn_free alone ends the handshakes.
void conn_finish(struct conn *conn);

// Whether the peer has ended its stream, which a connection that is held does not come to read.
bool conn_peer_ended(const struct conn *conn);

// The Common Name of the peer's certificate, which was verified; NULL without one. Valid as long as
// the connection.
const char *conn_peer_name(const struct conn *conn);
// "192.0.2.1:50000", "[2001:db8::1]:50000" or, where there is none, "unknown"; returns text.
const char *conn_peer_address(const struct conn *conn, char text[CONN_ADDRESS_SIZE]);
