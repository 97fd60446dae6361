// A connection cuts the stream into packets, however the bytes come; over a pair of sockets.
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
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "mqtt/conn.h"

#define PACKET_LIMIT 100000
#define KEEP 1000

// A connection, its peer's socket, and what has come of it, as a text such as "PUBLISH 5/5 PINGRESP
// 0/0 closed".
struct fixture {
    struct loop *loop;
    struct conn *conn;
    int peer;
    char seen[4000];
    unsigned calls;   // since the last look
    unsigned hold_at; // holds the packet of this number, from 1; 0: none
    unsigned packets;
    bool counting;      // packets are numbered from 0 and only noted where they are wrong
    uint8_t last[KEEP]; // body of the last packet
};

static void note(struct fixture *f, const char *text)
{
    size_t used = strlen(f->seen);
    snprintf(f->seen + used, sizeof f->seen - used, "%s%s", used ? " " : "", text);
    f->calls++;
}

static enum conn_next count_packet(struct fixture *f, struct bytes body)
{
    if (body.length != f->packets % 300)
        note(f, "wrong length");
    for (size_t i = 0; i < body.length; i++)
        if (body.data[i] != (uint8_t)f->packets)
            note(f, "wrong byte");
    f->packets++;
    f->calls++;
    return CONN_NEXT;
}

static enum conn_next packet(void *arg, const struct packet_frame *frame, struct bytes body)
{
    struct fixture *f = arg;
    char text[64];
    if (f->counting)
        return count_packet(f, body);
    if (++f->packets == f->hold_at) {
        f->packets--;
        note(f, "held");
        return CONN_HOLD;
    }
    snprintf(text, sizeof text, "%s %zu/%u", packet_type_name(frame->type), body.length,
             frame->body_length);
    memcpy(f->last, body.data, body.length < KEEP ? body.length : KEEP);
    note(f, text);
    return CONN_NEXT;
}

static void malformed(void *arg, const struct packet_error *error)
{
    char text[100];
    snprintf(text, sizeof text, "malformed %02x", error->reason);
    note(arg, text);
}

static void closed(void *arg, const char *why)
{
    (void)why;
    note(arg, "closed");
}

static void opened(void *arg)
{
    note(arg, "open");
}

// Another connection in place of the one there is.
static void renew(struct fixture *f)
{
    struct conn_limits limits = {PACKET_LIMIT, KEEP};
    struct conn_calls calls = {opened, packet, malformed, closed, f};
    conn_free(f->conn);
    f->conn = conn_new(f->loop, &limits, &calls);
}

static int set_up(void **state)
{
    struct fixture *f = mem_zalloc(sizeof *f);
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    f->loop = loop_new();
    renew(f);
    f->peer = fds[1];
    conn_attach(f->conn, fds[0]);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    conn_free(f->conn);
    loop_free(f->loop);
    if (f->peer >= 0)
        close(f->peer);
    free(f);
    return 0;
}

// Runs what is due, until nothing is.
static void run(struct fixture *f)
{
    unsigned calls;
    do {
        calls = f->calls;
        for (int i = 0; i < 4; i++)
            event_base_loop(loop_base(f->loop), EVLOOP_NONBLOCK);
    } while (calls != f->calls);
}

// Waits for what other threads and the kernel do; alarm() ends a test that waits in vain.
static void run_until(struct fixture *f, const char *text)
{
    alarm(30);
    while (strcmp(f->seen, text) != 0)
        event_base_loop(loop_base(f->loop), EVLOOP_ONCE);
    alarm(0);
}

// Sends all of it, the loop reading meanwhile.
static void feed(struct fixture *f, const void *bytes, size_t length)
{
    const uint8_t *at = bytes;
    while (length > 0) {
        ssize_t sent = send(f->peer, at, length, MSG_NOSIGNAL);
        if (sent > 0) {
            at += sent;
            length -= (size_t)sent;
        }
        event_base_loop(loop_base(f->loop), EVLOOP_NONBLOCK);
    }
    run(f);
}

static void expect(struct fixture *f, const char *text)
{
    assert_string_equal(f->seen, text);
}

static const uint8_t three[] = "\x30\x05\0\1tab"         // PUBLISH
                               "\xD0\0"                  // PINGRESP
                               "\x32\x0A\0\3a/b\0\7xyz"; // PUBLISH of QoS 1
#define THREE "PUBLISH 5/5 PINGRESP 0/0 PUBLISH 10/10"

static void glued_packets_come_one_by_one(void **state)
{
    struct fixture *f = *state;
    feed(f, three, sizeof three - 1);
    expect(f, THREE);
    assert_memory_equal(f->last, "\0\3a/b\0\7xyz", 10);
}

static void packets_may_be_split_anywhere(void **state)
{
    struct fixture *f = *state;
    for (size_t at = 0; at <= sizeof three - 1; at++) {
        f->seen[0] = '\0';
        feed(f, three, at);
        feed(f, three + at, sizeof three - 1 - at);
        expect(f, THREE);
    }
    f->seen[0] = '\0';
    for (size_t at = 0; at < sizeof three - 1; at++)
        feed(f, three + at, 1);
    expect(f, THREE);
}

// A PUBLISH of this many bytes as a whole, its body counting 0 to 250 again and again.
static uint8_t *publish_of(size_t size, size_t *body)
{
    uint8_t *bytes = mem_alloc(size);
    struct bytes_writer writer = bytes_writer(bytes, size);
    for (size_t header = 2; header <= 5; header++) {
        writer.length = 0;
        bytes_write_u8(&writer, 0x30);
        bytes_write_varint(&writer, size - header);
        if (writer.length == header)
            break;
    }
    *body = size - writer.length;
    for (size_t i = 0; i < *body; i++)
        bytes[writer.length + i] = (uint8_t)(i % 251);
    return bytes;
}

static void a_publish_above_the_limit_is_read_through(void **state)
{
    struct fixture *f = *state;
    static const size_t sizes[] = {PACKET_LIMIT - 1, PACKET_LIMIT, PACKET_LIMIT + 1,
                                   3 * PACKET_LIMIT, 20 * 1024 * 1024};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char text[100];
        size_t body, here;
        uint8_t *bytes = publish_of(sizes[i], &body);
        here = sizes[i] > PACKET_LIMIT ? KEEP : body;
        snprintf(text, sizeof text, "PINGRESP 0/0 PUBLISH %zu/%zu PINGRESP 0/0", here, body);
        f->seen[0] = '\0';
        feed(f, "\xD0\0", 2);
        feed(f, bytes, sizes[i]);
        feed(f, "\xD0\0", 2);
        expect(f, text);
        free(bytes);
        for (size_t j = 0; j < KEEP; j++)
            assert_int_equal(f->last[j], j % 251);
    }
}

static void an_oversize_publish_waits_for_its_last_byte(void **state)
{
    struct fixture *f = *state;
    size_t body, size = 2 * PACKET_LIMIT;
    uint8_t *bytes = publish_of(size, &body);
    feed(f, bytes, size - 1);
    expect(f, "");
    // Glued to what follows it, and held, it keeps its place.
    f->hold_at = 1;
    uint8_t rest[3] = {bytes[size - 1], 0xD0, 0};
    feed(f, rest, sizeof rest);
    expect(f, "held");
    f->hold_at = 0;
    conn_resume(f->conn);
    run(f);
    char text[100];
    snprintf(text, sizeof text, "held PUBLISH %u/%zu PINGRESP 0/0", KEEP, body);
    expect(f, text);
    free(bytes);
}

static void a_held_packet_stops_reading_until_resume(void **state)
{
    struct fixture *f = *state;
    f->hold_at = 2;
    feed(f, three, sizeof three - 1);
    expect(f, "PUBLISH 5/5 held");
    conn_resume(f->conn); // still no room
    expect(f, "PUBLISH 5/5 held");
    run(f);
    expect(f, "PUBLISH 5/5 held held");
    f->hold_at = 0;
    conn_resume(f->conn);
    expect(f, "PUBLISH 5/5 held held"); // not from within the call
    run(f);
    expect(f, "PUBLISH 5/5 held held PINGRESP 0/0 PUBLISH 10/10");
}

static void a_hold_bounds_what_is_read(void **state)
{
    struct fixture *f = *state;
    size_t body, size = 50000, sent = 0;
    uint8_t *bytes = publish_of(size, &body);
    f->hold_at = 1;
    feed(f, bytes, size);
    expect(f, "held");
    for (;;) {
        ssize_t count = send(f->peer, bytes, size, MSG_NOSIGNAL);
        if (count < 0)
            break;
        sent += (size_t)count;
        run(f);
    }
    // What the sockets hold is the kernel's: the same again is not taken.
    assert_true(sent < 100 * size);
    run(f);
    assert_true(send(f->peer, bytes, size, MSG_NOSIGNAL) < 0);
    expect(f, "held");
    free(bytes);
}

static const struct {
    const char *bytes;
    size_t length;
    const char *seen;
} wrong[] = {
    {"\xD0\0\x00\0\xD0\0", 6, "PINGRESP 0/0 malformed 81"},
    {"\xD0\0\xD1\0", 4, "PINGRESP 0/0 malformed 81"},
    {"\x30\xFF\xFF\xFF\xFF\x01", 6, "malformed 81"},
    {"\x36\x05\0\1tab", 7, "malformed 81"},
    {"\x90\xFF\xFF\x7F", 4, "malformed 95"}, // a SUBACK of 2 MiB
};

static void what_makes_no_packet_ends_the_framing(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        void *fresh;
        set_up(&fresh);
        struct fixture *f = fresh;
        feed(f, wrong[i].bytes, wrong[i].length);
        expect(f, wrong[i].seen);
        feed(f, "\xD0\0", 2);
        expect(f, wrong[i].seen);
        // There is still a way to say why.
        conn_write(f->conn, bytes_of("bye"));
        conn_finish(f->conn);
        run(f);
        char said[10] = "";
        assert_int_equal(read(f->peer, said, sizeof said), 3);
        assert_string_equal(said, "bye");
        assert_int_equal(read(f->peer, said, sizeof said), 0);
        tear_down(&fresh);
    }
}

static void the_end_comes_after_the_packets_before_it(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(send(f->peer, three, sizeof three - 1, MSG_NOSIGNAL), sizeof three - 1);
    close(f->peer);
    f->peer = -1;
    run(f);
    expect(f, THREE " closed");
    conn_write(f->conn, bytes_of("nobody there"));
    run(f);
    expect(f, THREE " closed");
}

static void writes_of_a_turn_leave_together(void **state)
{
    struct fixture *f = *state;
    char got[10] = "";
    conn_write(f->conn, bytes_of("ab"));
    conn_write(f->conn, bytes_of("cd"));
    assert_int_equal(conn_unsent(f->conn), 4);
    run(f);
    assert_int_equal(conn_unsent(f->conn), 0);
    assert_int_equal(read(f->peer, got, sizeof got), 4);
    assert_string_equal(got, "abcd");
}

// More than the sockets hold is written on while the peer reads; then the end; the peer's end
// closes. What the peer sends meanwhile is dropped.
static void finishing_sends_all_and_waits_for_the_peer(void **state)
{
    struct fixture *f = *state;
    size_t body, size = 4 * 1024 * 1024, got = 0;
    uint8_t *bytes = publish_of(size, &body);
    conn_write(f->conn, (struct bytes){bytes, size});
    conn_finish(f->conn);
    conn_write(f->conn, bytes_of("too late"));
    feed(f, three, sizeof three - 1);
    for (ssize_t count = 1; count != 0; run(f)) {
        uint8_t piece[65536];
        count = read(f->peer, piece, sizeof piece);
        if (count > 0) {
            assert_memory_equal(piece, bytes + got, (size_t)count);
            got += (size_t)count;
        }
    }
    assert_int_equal(got, size);
    expect(f, "");
    close(f->peer);
    f->peer = -1;
    run(f);
    expect(f, "closed");
    free(bytes);
}

// Bodies of 0 to 299 bytes, each byte the low one of the packet's number; pieces of the input end
// within them.
static void a_flood_comes_whole_and_in_order(void **state)
{
    struct fixture *f = *state;
    const size_t count = 3000;
    uint8_t *bytes = mem_alloc(count * 303);
    struct bytes_writer writer = bytes_writer(bytes, count * 303);
    size_t sent = 0;
    for (size_t i = 0; i < count; i++) {
        bytes_write_u8(&writer, 0x30);
        bytes_write_varint(&writer, i % 300);
        memset(bytes_reserve(&writer, i % 300), (int)i, i % 300);
    }
    f->counting = true;
    while (sent < writer.length) {
        ssize_t part = send(f->peer, bytes + sent, writer.length - sent, MSG_NOSIGNAL);
        if (part > 0)
            sent += (size_t)part;
        run(f);
    }
    assert_int_equal(f->packets, count);
    expect(f, "");
    free(bytes);
}

static int listen_on_loopback(uint16_t *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, length), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

// localhost may be ::1 first, where nobody listens.
static void connects_by_name(void **state)
{
    struct fixture *f = *state;
    struct worker *worker = worker_new(f->loop, 1);
    uint16_t port;
    int listener = listen_on_loopback(&port);
    assert_int_equal(listen(listener, 1), 0);
    renew(f);
    conn_connect(f->conn, worker, "localhost", port);
    run_until(f, "open");
    close(f->peer);
    f->peer = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    send(f->peer, three, sizeof three - 1, MSG_NOSIGNAL);
    run_until(f, "open " THREE);
    close(listener);
    worker_free(worker);
}

static void tells_that_it_cannot_connect(void **state)
{
    struct fixture *f = *state;
    struct worker *worker = worker_new(f->loop, 1);
    uint16_t port;
    // A label of more than 63 characters is no name, and no server is asked for it.
    char no_name[80] = "";
    memset(no_name, 'x', sizeof no_name - 1);
    int silent = listen_on_loopback(&port); // bound, but not listening
    renew(f);
    conn_connect(f->conn, worker, "127.0.0.1", port);
    run_until(f, "closed");
    renew(f);
    f->seen[0] = '\0';
    conn_connect(f->conn, worker, no_name, port);
    run_until(f, "closed");
    renew(f);
    conn_connect(f->conn, worker, "127.0.0.1", port); // freed before anything has come of it
    conn_free(f->conn);
    f->conn = NULL;
    close(silent);
    worker_free(worker);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(glued_packets_come_one_by_one),
        TEST(packets_may_be_split_anywhere),
        TEST(a_publish_above_the_limit_is_read_through),
        TEST(an_oversize_publish_waits_for_its_last_byte),
        TEST(a_held_packet_stops_reading_until_resume),
        TEST(a_hold_bounds_what_is_read),
        cmocka_unit_test(what_makes_no_packet_ends_the_framing),
        TEST(the_end_comes_after_the_packets_before_it),
        TEST(writes_of_a_turn_leave_together),
        TEST(finishing_sends_all_and_waits_for_the_peer),
        TEST(a_flood_comes_whole_and_in_order),
        TEST(connects_by_name),
        TEST(tells_that_it_cannot_connect),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
