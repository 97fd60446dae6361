// A connection under test, its peer's socket, and what has come of it.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <event2/event.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "mqtt/conn.h"

#define RIG_PACKET_LIMIT 100000
#define RIG_KEEP 1000

struct rig {
    struct loop *loop;
    struct conn *conn;
    int peer;           // or -1
    char seen[4000];    // a text such as "PUBLISH 5/5 PINGRESP 0/0 closed"
    char why[300];      // it was closed
    unsigned calls;     // that came
    unsigned hold_at;   // holds the packet of this number, from 1; 0: none
    unsigned packets;   // that were taken
    bool tells_drained; // in seen
    void (*take)(struct rig *rig, struct bytes body); // a packet, instead of noting it; or NULL
    uint8_t last[RIG_KEEP];                           // body of the last packet
};

static inline void rig_note(struct rig *rig, const char *text)
{
    size_t used = strlen(rig->seen);
    snprintf(rig->seen + used, sizeof rig->seen - used, "%s%s", used ? " " : "", text);
    rig->calls++;
}

static inline enum conn_next rig_packet(void *arg, const struct packet_frame *frame,
                                        struct bytes body)
{
    struct rig *rig = arg;
    char text[64];
    if (rig->take) {
        rig->take(rig, body);
        rig->packets++;
        rig->calls++;
        return CONN_NEXT;
    }
    if (++rig->packets == rig->hold_at) {
        rig->packets--;
        rig_note(rig, "held");
        return CONN_HOLD;
    }
    snprintf(text, sizeof text, "%s %zu/%u", packet_type_name(frame->type), body.length,
             frame->body_length);
    if (body.length > 0)
        memcpy(rig->last, body.data, body.length < RIG_KEEP ? body.length : RIG_KEEP);
    rig_note(rig, text);
    return CONN_NEXT;
}

static inline void rig_malformed(void *arg, const struct packet_error *error)
{
    char text[100];
    snprintf(text, sizeof text, "malformed %02x", error->reason);
    rig_note(arg, text);
}

static inline void rig_drained(void *arg)
{
    struct rig *rig = arg;
    if (rig->tells_drained)
        rig_note(rig, "drained");
}

static inline void rig_closed(void *arg, const char *why)
{
    struct rig *rig = arg;
    snprintf(rig->why, sizeof rig->why, "%s", why);
    rig_note(rig, "closed");
}

static inline void rig_opened(void *arg)
{
    rig_note(arg, "open");
}

// Another connection in place of the one there is.
static inline void rig_renew(struct rig *rig)
{
    static const struct conn_limits limits = {.packet = RIG_PACKET_LIMIT, .keep = RIG_KEEP};
    static const struct conn_calls calls = {.open = rig_opened,
                                            .packet = rig_packet,
                                            .malformed = rig_malformed,
                                            .drained = rig_drained,
                                            .closed = rig_closed};
    conn_free(rig->conn);
    rig->conn = conn_new(rig->loop, &limits, &calls, rig);
}

static inline int rig_set_up_with(void **state, const struct conn_transport *transport)
{
    struct rig *rig = mem_zalloc(sizeof *rig);
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    rig->loop = loop_new();
    rig_renew(rig);
    rig->peer = fds[1];
    conn_attach(rig->conn, fds[0], transport);
    *state = rig;
    return 0;
}

static inline int rig_set_up(void **state)
{
    return rig_set_up_with(state, NULL);
}

static inline void rig_peer_ends(struct rig *rig)
{
    close(rig->peer);
    rig->peer = -1;
}

static inline int rig_tear_down(void **state)
{
    struct rig *rig = *state;
    conn_free(rig->conn);
    loop_free(rig->loop);
    if (rig->peer >= 0)
        close(rig->peer);
    free(rig);
    return 0;
}

// Runs what is due, until nothing is.
static inline void rig_run(struct rig *rig)
{
    unsigned calls;
    do {
        calls = rig->calls;
        for (int i = 0; i < 4; i++)
            event_base_loop(loop_base(rig->loop), EVLOOP_NONBLOCK);
    } while (calls != rig->calls);
}

// Waits for what other threads and the kernel do; alarm() ends a test that waits in vain.
static inline void rig_run_until(struct rig *rig, const char *text)
{
    alarm(30);
    while (strcmp(rig->seen, text) != 0)
        event_base_loop(loop_base(rig->loop), EVLOOP_ONCE);
    alarm(0);
}

// Sends all of it, the loop reading meanwhile.
static inline void rig_feed(struct rig *rig, const void *bytes, size_t length)
{
    const uint8_t *at = bytes;
    while (length > 0) {
        ssize_t sent = write(rig->peer, at, length);
        if (sent > 0) {
            at += sent;
            length -= (size_t)sent;
        }
        event_base_loop(loop_base(rig->loop), EVLOOP_NONBLOCK);
    }
    rig_run(rig);
}

static inline void rig_expect(struct rig *rig, const char *text)
{
    assert_string_equal(rig->seen, text);
}

// A socket on a port of the loopback that is free; it does not listen yet.
static inline int rig_bind(uint16_t *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, length), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

static const uint8_t rig_three[] = "\x30\x05\0\1tab"         // PUBLISH
                                   "\xD0\0"                  // PINGRESP
                                   "\x32\x0A\0\3a/b\0\7xyz"; // PUBLISH of QoS 1
#define RIG_THREE_SIZE (sizeof rig_three - 1)
#define RIG_THREE "PUBLISH 5/5 PINGRESP 0/0 PUBLISH 10/10"
