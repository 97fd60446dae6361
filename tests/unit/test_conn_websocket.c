// A connection over WebSocket, as the server and as the client; the peer is a bare socket.
#include "conn_rig.h"

#include <signal.h>

#include "base/worker.h"
#include "mqtt/websocket.h"

#define REQUEST                                                                                    \
    "GET /mqtt HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"               \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"                 \
    "Sec-WebSocket-Protocol: mqtt\r\n\r\n"
#define KEY "\x11\x22\x33\x44"
#define FIN 0x80

static int set_up(void **state)
{
    return rig_set_up_with(state, &(struct conn_transport){.websocket = true});
}

// What the peer finds in its socket, as a text.
static char *heard(struct rig *f)
{
    static char text[70000];
    ssize_t got = read(f->peer, text, sizeof text - 1);
    text[got > 0 ? got : 0] = '\0';
    return text;
}

static void expect_heard(struct rig *f, const void *bytes, size_t length)
{
    char got[200];
    rig_run(f);
    assert_int_equal(read(f->peer, got, sizeof got), length);
    assert_memory_equal(got, bytes, length);
}

static void expect_end(struct rig *f)
{
    char byte;
    rig_run(f);
    assert_int_equal(read(f->peer, &byte, 1), 0);
}

static void shake_hands(struct rig *f)
{
    rig_feed(f, REQUEST, strlen(REQUEST));
    assert_non_null(strstr(heard(f), "HTTP/1.1 101 Switching Protocols\r\n"));
    rig_expect(f, "");
}

// Writes a client's frame; its end.
static uint8_t *put_frame(uint8_t *at, uint8_t first, const void *payload, size_t length)
{
    static const uint8_t key[] = KEY;
    size_t start = websocket_write_header(at, WEBSOCKET_BINARY, length, key);
    at[0] = first;
    if (length > 0)
        memcpy(at + start, payload, length);
    websocket_mask(at + start, length, key, 0);
    return at + start + length;
}

static void feed_frame(struct rig *f, uint8_t first, const void *payload, size_t length)
{
    uint8_t frame[200];
    rig_feed(f, frame, (size_t)(put_frame(frame, first, payload, length) - frame));
}

// Three packets in frames whose borders are not theirs, with a ping between: cut at each place.
static void packets_cross_frames_and_reads(void **state)
{
    (void)state;
    uint8_t bytes[300], *end = bytes;
    end = put_frame(end, WEBSOCKET_BINARY, rig_three, 3);
    end = put_frame(end, FIN | WEBSOCKET_PING, "hi", 2);
    end = put_frame(end, WEBSOCKET_CONTINUATION, rig_three + 3, 0);
    end = put_frame(end, FIN | WEBSOCKET_CONTINUATION, rig_three + 3, 7);
    end = put_frame(end, FIN | WEBSOCKET_BINARY, rig_three + 10, RIG_THREE_SIZE - 10);
    end = put_frame(end, FIN | WEBSOCKET_BINARY, rig_three, RIG_THREE_SIZE);
    size_t length = (size_t)(end - bytes);
    for (size_t cut = 0; cut <= length; cut++) {
        void *fresh;
        set_up(&fresh);
        struct rig *f = fresh;
        shake_hands(f);
        rig_feed(f, bytes, cut);
        rig_feed(f, bytes + cut, length - cut);
        rig_expect(f, RIG_THREE " " RIG_THREE);
        expect_heard(f, "\x8A\2hi", 4);
        rig_tear_down(&fresh);
    }
}

// The request may come in parts, and frames with its end.
static void the_handshake_may_be_cut(void **state)
{
    (void)state;
    uint8_t bytes[600];
    memcpy(bytes, REQUEST, strlen(REQUEST));
    uint8_t *end =
        put_frame(bytes + strlen(REQUEST), FIN | WEBSOCKET_BINARY, rig_three, RIG_THREE_SIZE);
    size_t length = (size_t)(end - bytes);
    for (size_t cut = 1; cut <= length; cut += 7) {
        void *fresh;
        set_up(&fresh);
        struct rig *f = fresh;
        conn_write(f->conn, bytes_of("too early"));
        rig_feed(f, bytes, cut);
        rig_feed(f, bytes + cut, length - cut);
        rig_expect(f, RIG_THREE);
        char *text = heard(f);
        assert_int_equal(strncmp(text, "HTTP/1.1 101 ", 13), 0);
        assert_string_equal(text + strlen(text) - 4, "\r\n\r\n");
        rig_tear_down(&fresh);
    }
}

static void writes_are_binary_frames(void **state)
{
    struct rig *f = *state;
    shake_hands(f);
    conn_write(f->conn, bytes_of("ab"));
    conn_write(f->conn, bytes_of("cde"));
    expect_heard(f, "\x82\2ab\x82\3cde", 9);
}

static void a_bad_request_is_answered_and_ends(void **state)
{
    struct rig *f = *state;
    rig_feed(f, "\x10\x0C\0\4MQTT\5\2\0\x3C", 12);
    rig_expect(f, "closed");
    assert_string_equal(f->why, "WebSocket: no GET request of HTTP/1.1");
    assert_int_equal(strncmp(heard(f), "HTTP/1.1 400 Bad Request\r\n", 26), 0);
    conn_free(f->conn);
    f->conn = NULL;
    expect_end(f);
}

// Packets before it, an answer, then the end.
static void the_peers_close_is_answered(void **state)
{
    struct rig *f = *state;
    uint8_t bytes[200], *end = bytes;
    shake_hands(f);
    end = put_frame(end, FIN | WEBSOCKET_BINARY, rig_three, RIG_THREE_SIZE);
    end = put_frame(end, FIN | WEBSOCKET_CLOSE, "\x03\xE9 going away", 13);
    end = put_frame(end, FIN | WEBSOCKET_BINARY, rig_three, RIG_THREE_SIZE); // nobody hears it
    rig_feed(f, bytes, (size_t)(end - bytes));
    rig_expect(f, RIG_THREE " closed");
    assert_string_equal(f->why, "closed by the peer");
    expect_heard(f, "\x88\2\x03\xE9", 4);
}

static void what_comes_behind_a_held_packet_waits(void **state)
{
    struct rig *f = *state;
    uint8_t bytes[200], *end = bytes;
    shake_hands(f);
    f->hold_at = 2;
    end = put_frame(end, FIN | WEBSOCKET_BINARY, rig_three, RIG_THREE_SIZE);
    end = put_frame(end, FIN | WEBSOCKET_PING, "", 0);
    end = put_frame(end, FIN | WEBSOCKET_BINARY, rig_three, RIG_THREE_SIZE);
    end = put_frame(end, FIN | WEBSOCKET_CLOSE, "", 0);
    rig_feed(f, bytes, (size_t)(end - bytes));
    rig_expect(f, "PUBLISH 5/5 held");
    expect_heard(f, "\x8A\0", 2);
    f->hold_at = 0;
    conn_resume(f->conn);
    rig_run(f);
    rig_expect(f, "PUBLISH 5/5 held PINGRESP 0/0 PUBLISH 10/10 " RIG_THREE " closed");
    expect_heard(f, "\x88\0", 2);
}

static const struct {
    uint8_t frame[8];
    const char *answer; // the close frame
} wrong[] = {
    {"\x82\2ab", "\x88\2\x03\xEA"},         // no mask
    {"\x81\x81" KEY "a", "\x88\2\x03\xEB"}, // text
    {"\x80\x81" KEY "a", "\x88\2\x03\xEA"}, // a continuation of nothing
};

static void what_is_no_frame_ends_the_framing(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        void *fresh;
        set_up(&fresh);
        struct rig *f = fresh;
        shake_hands(f);
        feed_frame(f, FIN | WEBSOCKET_BINARY, "\xD0\0", 2);
        rig_feed(f, wrong[i].frame, sizeof wrong[i].frame);
        feed_frame(f, FIN | WEBSOCKET_BINARY, "\xD0\0", 2);
        rig_expect(f, "PINGRESP 0/0 malformed 82");
        conn_write(f->conn, bytes_of("bye"));
        conn_finish(f->conn);
        char answer[10] = "\x82\3bye";
        memcpy(answer + 5, wrong[i].answer, 4);
        expect_heard(f, answer, 9);
        expect_end(f);
        rig_peer_ends(f);
        rig_run(f);
        rig_expect(f, "PINGRESP 0/0 malformed 82 closed");
        rig_tear_down(&fresh);
    }
}

static void bytes_that_make_no_packet_end_the_framing(void **state)
{
    struct rig *f = *state;
    shake_hands(f);
    feed_frame(f, FIN | WEBSOCKET_BINARY, "\xD0\0\0\0\xD0\0", 6);
    rig_expect(f, "PINGRESP 0/0 malformed 81");
    conn_finish(f->conn);
    expect_heard(f, "\x88\2\x03\xE8", 4);
    expect_end(f);
}

// A peer that sends pings and reads nothing does not fill the memory.
static void pongs_are_bounded(void **state)
{
    struct rig *f = *state;
    char payload[125] = "";
    uint8_t frame[200];
    size_t length = (size_t)(put_frame(frame, FIN | WEBSOCKET_PING, payload, 125) - frame);
    shake_hands(f);
    for (int i = 0; i < 20000; i++)
        rig_feed(f, frame, length);
    assert_in_range(conn_unsent(f->conn), 1024, 70000);
}

// ---- the client ----

struct listening {
    struct worker *worker;
    int socket;
};

// Connects, takes the connection and the request, and answers.
static struct listening meet(struct rig *f, const char *path, const char *response)
{
    struct listening at = {.worker = worker_new(f->loop, 1)};
    struct conn_transport transport = {.websocket = true, .path = path};
    uint16_t port;
    char start[100], *key;
    at.socket = rig_bind(&port);
    assert_int_equal(listen(at.socket, 1), 0);
    rig_peer_ends(f);
    rig_renew(f);
    conn_connect(f->conn, at.worker, "127.0.0.1", port, &transport);
    alarm(30);
    while ((f->peer = accept4(at.socket, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) < 0)
        rig_run(f);
    char *request = heard(f);
    while (!*request) {
        rig_run(f);
        request = heard(f);
    }
    alarm(0);
    snprintf(start, sizeof start, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n",
             path ? path : "/mqtt", port);
    assert_memory_equal(request, start, strlen(start));
    if (response) {
        assert_int_equal(write(f->peer, response, strlen(response)), strlen(response));
        return at;
    }
    // The server's answer, and a frame with it.
    struct websocket_reply reply;
    size_t used;
    key = strstr(request, "Sec-WebSocket-Key: ");
    assert_non_null(key);
    assert_int_equal(websocket_accept(bytes_of(request), &used, &reply), WEBSOCKET_HANDSHAKE_DONE);
    memcpy(reply.text + reply.length, "\x82\2\xD0\0", 4);
    assert_int_equal(write(f->peer, reply.text, reply.length + 4), reply.length + 4);
    return at;
}

static void part(struct listening *at)
{
    close(at->socket);
    worker_free(at->worker);
}

static void a_client_shakes_hands_and_masks(void **state)
{
    struct rig *f = *state;
    struct listening at = meet(f, NULL, NULL);
    rig_run_until(f, "open PINGRESP 0/0");
    uint8_t frame[64];
    struct websocket_reader reader = {.role = WEBSOCKET_SERVER};
    struct websocket_error error;
    struct bytes piece;
    uint8_t masks[2][4];
    for (int i = 0; i < 2; i++) {
        conn_write(f->conn, bytes_of("hello"));
        rig_run(f);
        ssize_t length = read(f->peer, frame, sizeof frame);
        struct websocket_input input = {frame, (size_t)length};
        assert_int_equal(length, 2 + 4 + 5);
        memcpy(masks[i], frame + 2, 4);
        assert_int_equal(websocket_read(&reader, &input, &piece, &error), WEBSOCKET_SEEN_DATA);
        assert_true(bytes_equal(piece, bytes_of("hello")));
    }
    assert_memory_not_equal(masks[0], masks[1], 4);
    // The server ends it.
    rig_feed(f, "\x88\0", 2);
    rig_expect(f, "open PINGRESP 0/0 closed");
    part(&at);
}

static void a_client_is_told_why_not(void **state)
{
    struct rig *f = *state;
    struct listening at = meet(f, "/else?where=1", "HTTP/1.1 404 Not Found\r\n\r\n");
    rig_run_until(f, "closed");
    assert_string_equal(
        f->why,
        "the server answers 'HTTP/1.1 404 Not Found' to the WebSocket request, check the path");
    part(&at);
    f->seen[0] = '\0';
    at = meet(f, "/", "\x20\2..");
    rig_run_until(f, "closed");
    assert_string_equal(f->why, "the answer is no HTTP: it is no WebSocket server");
    part(&at);
    f->seen[0] = '\0';
    at = meet(f, "/", "HTTP/1.1 1");
    rig_peer_ends(f);
    rig_run_until(f, "closed");
    assert_string_equal(f->why, "closed by the peer in the WebSocket handshake");
    part(&at);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, rig_tear_down)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packets_cross_frames_and_reads),
        cmocka_unit_test(the_handshake_may_be_cut),
        TEST(writes_are_binary_frames),
        TEST(a_bad_request_is_answered_and_ends),
        TEST(the_peers_close_is_answered),
        TEST(what_comes_behind_a_held_packet_waits),
        cmocka_unit_test(what_is_no_frame_ends_the_framing),
        TEST(bytes_that_make_no_packet_end_the_framing),
        TEST(pongs_are_bounded),
        TEST(a_client_shakes_hands_and_masks),
        TEST(a_client_is_told_why_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
