// A connection cuts the stream into packets, however the bytes come; over a pair of sockets.
#include "conn_rig.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

static void glued_packets_come_one_by_one(void **state)
{
    struct rig *f = *state;
    rig_feed(f, rig_three, RIG_THREE_SIZE);
    rig_expect(f, RIG_THREE);
    assert_memory_equal(f->last, "\0\3a/b\0\7xyz", 10);
}

static void packets_may_be_split_anywhere(void **state)
{
    struct rig *f = *state;
    for (size_t at = 0; at <= RIG_THREE_SIZE; at++) {
        f->seen[0] = '\0';
        rig_feed(f, rig_three, at);
        rig_feed(f, rig_three + at, RIG_THREE_SIZE - at);
        rig_expect(f, RIG_THREE);
    }
    f->seen[0] = '\0';
    for (size_t at = 0; at < RIG_THREE_SIZE; at++)
        rig_feed(f, rig_three + at, 1);
    rig_expect(f, RIG_THREE);
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
    struct rig *f = *state;
    static const size_t sizes[] = {RIG_PACKET_LIMIT - 1, RIG_PACKET_LIMIT, RIG_PACKET_LIMIT + 1,
                                   3 * RIG_PACKET_LIMIT, 20 * 1024 * 1024};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char text[100];
        size_t body, here;
        uint8_t *bytes = publish_of(sizes[i], &body);
        here = sizes[i] > RIG_PACKET_LIMIT ? RIG_KEEP : body;
        snprintf(text, sizeof text, "PINGRESP 0/0 PUBLISH %zu/%zu PINGRESP 0/0", here, body);
        f->seen[0] = '\0';
        rig_feed(f, "\xD0\0", 2);
        rig_feed(f, bytes, sizes[i]);
        rig_feed(f, "\xD0\0", 2);
        rig_expect(f, text);
        free(bytes);
        for (size_t j = 0; j < RIG_KEEP; j++)
            assert_int_equal(f->last[j], j % 251);
    }
}

static void an_oversize_publish_waits_for_its_last_byte(void **state)
{
    struct rig *f = *state;
    size_t body, size = 2 * RIG_PACKET_LIMIT;
    uint8_t *bytes = publish_of(size, &body);
    rig_feed(f, bytes, size - 1);
    rig_expect(f, "");
    // Glued to what follows it, and held, it keeps its place.
    f->hold_at = 1;
    uint8_t rest[3] = {bytes[size - 1], 0xD0, 0};
    rig_feed(f, rest, sizeof rest);
    rig_expect(f, "held");
    f->hold_at = 0;
    conn_resume(f->conn);
    rig_run(f);
    char text[100];
    snprintf(text, sizeof text, "held PUBLISH %u/%zu PINGRESP 0/0", RIG_KEEP, body);
    rig_expect(f, text);
    free(bytes);
}

static void a_held_packet_stops_reading_until_resume(void **state)
{
    struct rig *f = *state;
    f->hold_at = 2;
    rig_feed(f, rig_three, RIG_THREE_SIZE);
    rig_expect(f, "PUBLISH 5/5 held");
    conn_resume(f->conn); // still no room
    rig_expect(f, "PUBLISH 5/5 held");
    rig_run(f);
    rig_expect(f, "PUBLISH 5/5 held held");
    f->hold_at = 0;
    conn_resume(f->conn);
    rig_expect(f, "PUBLISH 5/5 held held"); // not from within the call
    rig_run(f);
    rig_expect(f, "PUBLISH 5/5 held held PINGRESP 0/0 PUBLISH 10/10");
}

static void a_hold_bounds_what_is_read(void **state)
{
    struct rig *f = *state;
    size_t body, size = 50000, sent = 0;
    uint8_t *bytes = publish_of(size, &body);
    f->hold_at = 1;
    rig_feed(f, bytes, size);
    rig_expect(f, "held");
    for (;;) {
        ssize_t count = send(f->peer, bytes, size, MSG_NOSIGNAL);
        if (count < 0)
            break;
        sent += (size_t)count;
        rig_run(f);
    }
    // What the sockets hold is the kernel's: the same again is not taken.
    assert_true(sent < 100 * size);
    rig_run(f);
    assert_true(send(f->peer, bytes, size, MSG_NOSIGNAL) < 0);
    rig_expect(f, "held");
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
        rig_set_up(&fresh);
        struct rig *f = fresh;
        rig_feed(f, wrong[i].bytes, wrong[i].length);
        rig_expect(f, wrong[i].seen);
        rig_feed(f, "\xD0\0", 2);
        rig_expect(f, wrong[i].seen);
        // There is still a way to say why.
        conn_write(f->conn, bytes_of("bye"));
        conn_finish(f->conn);
        rig_run(f);
        char said[10] = "";
        assert_int_equal(read(f->peer, said, sizeof said), 3);
        assert_string_equal(said, "bye");
        assert_int_equal(read(f->peer, said, sizeof said), 0);
        rig_tear_down(&fresh);
    }
}

static void the_end_comes_after_the_packets_before_it(void **state)
{
    struct rig *f = *state;
    assert_int_equal(send(f->peer, rig_three, RIG_THREE_SIZE, MSG_NOSIGNAL), RIG_THREE_SIZE);
    rig_peer_ends(f);
    rig_run(f);
    rig_expect(f, RIG_THREE " closed");
    conn_write(f->conn, bytes_of("nobody there"));
    rig_run(f);
    rig_expect(f, RIG_THREE " closed");
}

static void writes_of_a_turn_leave_together(void **state)
{
    struct rig *f = *state;
    char got[10] = "";
    conn_write(f->conn, bytes_of("ab"));
    conn_write(f->conn, bytes_of("cd"));
    assert_int_equal(conn_unsent(f->conn), 4);
    rig_run(f);
    assert_int_equal(conn_unsent(f->conn), 0);
    assert_int_equal(read(f->peer, got, sizeof got), 4);
    assert_string_equal(got, "abcd");
}

static void finish_at_once(struct rig *f, struct bytes body)
{
    (void)body;
    rig_note(f, "last");
    conn_finish(f->conn);
}

// Within the call for a packet that came in parts, or that was read through.
static void a_packet_may_be_the_last(void **state)
{
    (void)state;
    static const size_t sizes[] = {10, 2 * RIG_PACKET_LIMIT};
    for (size_t i = 0; i < 2; i++) {
        void *fresh;
        rig_set_up(&fresh);
        struct rig *f = fresh;
        size_t body;
        uint8_t *bytes = publish_of(sizes[i], &body);
        f->take = finish_at_once;
        rig_feed(f, bytes, 5);
        rig_feed(f, bytes + 5, sizes[i] - 5);
        rig_feed(f, rig_three, RIG_THREE_SIZE);
        rig_peer_ends(f);
        rig_run(f);
        rig_expect(f, "last closed");
        free(bytes);
        rig_tear_down(&fresh);
    }
}

// More than the sockets hold is written on while the peer reads; then the end; the peer's end
// closes. What the peer sends meanwhile is dropped.
static void finishing_sends_all_and_waits_for_the_peer(void **state)
{
    struct rig *f = *state;
    size_t body, size = 4 * 1024 * 1024, got = 0;
    uint8_t *bytes = publish_of(size, &body);
    conn_write(f->conn, (struct bytes){bytes, size});
    conn_finish(f->conn);
    conn_write(f->conn, bytes_of("too late"));
    rig_feed(f, rig_three, RIG_THREE_SIZE);
    for (ssize_t count = 1; count != 0; rig_run(f)) {
        uint8_t piece[65536];
        count = read(f->peer, piece, sizeof piece);
        if (count > 0) {
            assert_memory_equal(piece, bytes + got, (size_t)count);
            got += (size_t)count;
        }
    }
    assert_int_equal(got, size);
    rig_expect(f, "");
    rig_peer_ends(f);
    rig_run(f);
    rig_expect(f, "closed");
    free(bytes);
}

static void count_packet(struct rig *f, struct bytes body)
{
    if (body.length != f->packets % 300)
        rig_note(f, "wrong length");
    for (size_t i = 0; i < body.length; i++)
        if (body.data[i] != (uint8_t)f->packets)
            rig_note(f, "wrong byte");
}

// Bodies of 0 to 299 bytes, each byte the low one of the packet's number; pieces of the input end
// within them.
static void a_flood_comes_whole_and_in_order(void **state)
{
    struct rig *f = *state;
    const size_t count = 3000;
    uint8_t *bytes = mem_alloc(count * 303);
    struct bytes_writer writer = bytes_writer(bytes, count * 303);
    size_t sent = 0;
    for (size_t i = 0; i < count; i++) {
        bytes_write_u8(&writer, 0x30);
        bytes_write_varint(&writer, i % 300);
        memset(bytes_reserve(&writer, i % 300), (int)i, i % 300);
    }
    f->take = count_packet;
    while (sent < writer.length) {
        ssize_t part = send(f->peer, bytes + sent, writer.length - sent, MSG_NOSIGNAL);
        if (part > 0)
            sent += (size_t)part;
        rig_run(f);
    }
    assert_int_equal(f->packets, count);
    rig_expect(f, "");
    free(bytes);
}

// A reader that takes nothing is told of when it has taken all.
static void drained_says_that_all_has_left(void **state)
{
    struct rig *f = *state;
    size_t body, size = 4 * 1024 * 1024;
    uint8_t *bytes = publish_of(size, &body), *piece = mem_alloc(size);
    f->tells_drained = true;
    conn_write(f->conn, bytes_of("hi"));
    rig_expect(f, "");
    rig_run(f);
    rig_expect(f, "drained");
    conn_write(f->conn, (struct bytes){bytes, size});
    rig_run(f);
    rig_expect(f, "drained");
    assert_in_range(conn_unsent(f->conn), 1, size - 1);
    conn_write(f->conn, bytes_of("more"));
    for (size_t got = 0; got < 2 + size + 4; rig_run(f)) {
        ssize_t count = read(f->peer, piece, size);
        got += count > 0 ? (size_t)count : 0;
    }
    rig_expect(f, "drained drained");
    assert_int_equal(conn_unsent(f->conn), 0);
    free(bytes);
    free(piece);
}

// In place of the connection there is, with these limits.
static void renew_with(struct rig *f, const struct conn_limits *limits)
{
    static const struct conn_calls calls = {.packet = rig_packet,
                                            .malformed = rig_malformed,
                                            .closed = rig_closed};
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    conn_free(f->conn);
    rig_peer_ends(f);
    f->conn = conn_new(f->loop, limits, &calls, f);
    f->peer = fds[1];
    conn_attach(f->conn, fds[0], NULL);
}

// Without a bound to read through to, no packet may be too large.
static void a_publish_above_the_limit_may_be_refused(void **state)
{
    struct rig *f = *state;
    static const struct conn_limits limits = {.packet = 100};
    renew_with(f, &limits);
    size_t body;
    uint8_t *good = publish_of(100, &body), *bad = publish_of(101, &body);
    rig_feed(f, good, 100);
    rig_feed(f, bad, 101);
    rig_expect(f, "PUBLISH 98/98 malformed 95");
    free(good);
    free(bad);
}

static void what_is_unfinished_is_charged(void **state)
{
    struct rig *f = *state;
    struct budget budget = {.limit = 3 * CONN_SMALL};
    const struct conn_limits limits = {.packet = 10 * CONN_SMALL, .unfinished = &budget};
    size_t body, size = 2 * CONN_SMALL;
    uint8_t *small = publish_of(CONN_SMALL, &body), *large = publish_of(size, &body);
    renew_with(f, &limits);
    rig_feed(f, small, CONN_SMALL - 1);
    assert_int_equal(budget.used, 0);
    rig_feed(f, small + CONN_SMALL - 1, 1);
    rig_feed(f, large, size); // at once
    assert_int_equal(budget.peak, 0);
    rig_feed(f, large, 10);
    assert_int_equal(budget.used, size);
    f->hold_at = f->packets + 1;
    rig_feed(f, large + 10, size - 10);
    assert_int_equal(budget.used, size); // it is there still
    f->hold_at = 0;
    conn_resume(f->conn);
    rig_run(f);
    assert_int_equal(budget.used, 0);
    f->seen[0] = '\0';
    budget_take(&budget, budget.limit);
    rig_feed(f, small, 10);
    rig_feed(f, small + 10, CONN_SMALL - 10);
    rig_expect(f, "PUBLISH 4093/4093");
    rig_feed(f, large, 10);
    rig_expect(f, "PUBLISH 4093/4093 malformed 97");
    budget_give(&budget, budget.limit);
    renew_with(f, &limits);
    rig_feed(f, large, 10);
    conn_free(f->conn);
    f->conn = NULL;
    assert_int_equal(budget.used, 0);
    free(small);
    free(large);
}

// ---- system calls, which are counted here on their way ----

static unsigned receives, sends, polls_changed;

ssize_t recv(int fd, void *buffer, size_t size, int flags)
{
    receives++;
    return syscall(SYS_recvfrom, fd, buffer, size, flags, NULL, NULL);
}

ssize_t send(int fd, const void *bytes, size_t length, int flags)
{
    sends++;
    return syscall(SYS_sendto, fd, bytes, length, flags, NULL, 0);
}

int epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
    polls_changed++;
    return (int)syscall(SYS_epoll_ctl, epoll, operation, fd, event);
}

static void answer(struct rig *f, struct bytes body)
{
    conn_write(f->conn, body);
}

static void write_a_task(void *arg)
{
    struct rig *f = arg;
    conn_write(f->conn, bytes_of("task"));
}

// However many packets come and are answered, now or by a task of the same turn.
static void a_turn_costs_one_recv_and_one_send(void **state)
{
    struct rig *f = *state;
    struct loop_task *tasks[2] = {loop_task_new(f->loop, write_a_task, f),
                                  loop_task_new(f->loop, write_a_task, f)};
    uint8_t got[100];
    f->take = answer;
    event_base_loop(loop_base(f->loop), EVLOOP_NONBLOCK); // polls the socket
    for (int turn = 0; turn < 3; turn++) {
        assert_int_equal(write(f->peer, rig_three, RIG_THREE_SIZE), RIG_THREE_SIZE);
        receives = sends = polls_changed = 0;
        loop_task_schedule(tasks[0]);
        conn_write(f->conn, bytes_of("first"));
        loop_task_schedule(tasks[1]);
        event_base_loop(loop_base(f->loop), EVLOOP_NONBLOCK);
        assert_int_equal(receives, 1);
        assert_int_equal(sends, 1);
        assert_int_equal(polls_changed, 0);
        assert_int_equal(read(f->peer, got, sizeof got), 5 + 4 + 4 + 5 + 0 + 10);
    }
    loop_task_free(tasks[0]);
    loop_task_free(tasks[1]);
}

// A hold that ends before more has come leaves what is polled alone; a longer one stops the
// polling.
static void a_short_hold_costs_nothing(void **state)
{
    struct rig *f = *state;
    f->hold_at = 2;
    rig_feed(f, rig_three, RIG_THREE_SIZE);
    rig_expect(f, "PUBLISH 5/5 held");
    f->hold_at = 0;
    polls_changed = 0;
    conn_resume(f->conn);
    rig_run(f);
    rig_expect(f, "PUBLISH 5/5 held "
                  "PINGRESP 0/0 PUBLISH 10/10");
    assert_int_equal(polls_changed, 0);
    f->hold_at = f->packets + 1;
    rig_feed(f, "\xD0\0", 2);
    receives = 0;
    assert_int_equal(write(f->peer, "\xD0\0", 2), 2);
    rig_run(f);
    assert_int_equal(receives, 0);
    assert_int_equal(polls_changed, 1);
    f->hold_at = 0;
    conn_resume(f->conn);
    rig_run(f);
    rig_expect(f, "PUBLISH 5/5 held PINGRESP 0/0 PUBLISH 10/10 held PINGRESP 0/0 PINGRESP 0/0");
    assert_int_equal(polls_changed, 2);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_set_up, rig_tear_down)
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
        cmocka_unit_test(a_packet_may_be_the_last),
        TEST(finishing_sends_all_and_waits_for_the_peer),
        TEST(a_flood_comes_whole_and_in_order),
        TEST(drained_says_that_all_has_left),
        TEST(a_publish_above_the_limit_may_be_refused),
        TEST(what_is_unfinished_is_charged),
        TEST(a_turn_costs_one_recv_and_one_send),
        TEST(a_short_hold_costs_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
