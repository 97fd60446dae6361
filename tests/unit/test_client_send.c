// Deliveries as packets on the wire: read back with the codec from the other end of a pair of
// sockets.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "broker/client_send.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

struct fixture {
    struct loop *loop;
    struct budget budget;
    struct sessions sessions; // for its counters and budget alone
    struct conn *conn;
    struct client_send send;
    int peer;
    uint8_t wire[300000]; // what came last, and text of it
    size_t length;
    char seen[2000];
};

static enum conn_next packet(void *arg, const struct packet_frame *frame, struct bytes body)
{
    (void)arg, (void)frame, (void)body;
    return CONN_NEXT;
}

static void malformed(void *arg, const struct packet_error *error)
{
    (void)arg, (void)error;
}

static void closed(void *arg, const char *why)
{
    (void)arg, (void)why;
}

static int set_up(void **state)
{
    static const struct conn_limits limits = {.packet = 1000};
    static const struct conn_calls calls = {.packet = packet,
                                            .malformed = malformed,
                                            .closed = closed};
    static const struct conn_transport plain;
    struct fixture *f = mem_zalloc(sizeof *f);
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    f->budget.limit = SIZE_MAX;
    f->sessions.budget = &f->budget;
    f->loop = loop_new();
    f->conn = conn_new(f->loop, &limits, &calls, f);
    conn_attach(f->conn, fds[0], &plain);
    f->peer = fds[1];
    f->send = (struct client_send){.conn = f->conn,
                                   .sessions = &f->sessions,
                                   .packet_max = UINT32_MAX,
                                   .unsent_max = 1000,
                                   .version = PACKET_V5};
    client_send_init(&f->send);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    client_send_fini(&f->send);
    conn_free(f->conn);
    close(f->peer);
    loop_free(f->loop);
    assert_int_equal(f->budget.used, 0);
    free(f);
    return 0;
}

// ---- the other end ----

static void stop(void *arg)
{
    loop_stop(arg);
}

// Until the wire has a whole packet.
static struct packet_frame receive(struct fixture *f)
{
    struct packet_frame frame = {0};
    struct packet_error error;
    f->length = 0;
    for (int64_t end = loop_now_ms() + 10000; loop_now_ms() < end;) {
        struct loop_timer *timer = loop_timer_new(f->loop, stop, f->loop);
        loop_timer_start(timer, 1);
        loop_run(f->loop);
        loop_timer_free(timer);
        ssize_t got = read(f->peer, f->wire + f->length, sizeof f->wire - f->length);
        f->length += got > 0 ? (size_t)got : 0;
        struct bytes input = {f->wire, f->length};
        if (packet_frame(input, &frame, &error) == PACKET_OK &&
            frame.header_length + frame.body_length <= f->length)
            break;
    }
    assert_int_equal(frame.header_length + frame.body_length, f->length);
    return frame;
}

#define TELL(f, ...)                                                                               \
    snprintf((f)->seen + strlen((f)->seen), sizeof(f)->seen - strlen((f)->seen), __VA_ARGS__)

static void tell_properties(struct fixture *f, const struct property_set *set)
{
    struct bytes name, value;
    uint32_t id;
    if (property_has(set, PROPERTY_MESSAGE_EXPIRY))
        TELL(f, " expiry=%u", set->message_expiry);
    if (property_has(set, PROPERTY_TOPIC_ALIAS))
        TELL(f, " alias=%u", set->topic_alias);
    if (property_has(set, PROPERTY_CONTENT_TYPE))
        TELL(f, " type=%.*s", (int)set->content_type.length, (const char *)set->content_type.data);
    for (size_t at = 0; property_next_subscription_id(set, &at, &id);)
        TELL(f, " id=%u", id);
    for (size_t at = 0; property_next_user(set, &at, &name, &value);)
        TELL(f, " %.*s=%.*s", (int)name.length, (const char *)name.data, (int)value.length,
             (const char *)value.data);
}

// What came, as "QOS#ID TOPIC PAYLOAD" and what else is in it; a payload of more than 20 bytes as
// its length.
static const char *seen(struct fixture *f)
{
    struct packet_frame frame = receive(f);
    struct packet packet;
    struct packet_error error;
    f->seen[0] = '\0';
    if (!packet_parse(&frame, f->wire + frame.header_length, f->send.version, PACKET_FROM_SERVER,
                      &packet, &error))
        fail_msg("%s", error.text);
    if (packet.type == PACKET_PUBREL) {
        TELL(f, "rel#%u %u", packet.ack.packet_id, packet.ack.reason);
        return f->seen;
    }
    const struct packet_publish *publish = &packet.publish;
    TELL(f, "%u#%u %.*s ", publish->qos, publish->packet_id, (int)publish->topic.length,
         (const char *)publish->topic.data);
    if (publish->payload.length > 20)
        TELL(f, "(%zu)", publish->payload.length);
    else
        TELL(f, "%.*s", (int)publish->payload.length, (const char *)publish->payload.data);
    TELL(f, "%s%s", publish->dup ? " dup" : "", publish->retain ? " retain" : "");
    tell_properties(f, &packet.properties);
    return f->seen;
}

// ---- this end ----

static struct publication *message(struct fixture *f, const char *topic, struct bytes payload)
{
    uint8_t properties[200];
    struct bytes_writer w = bytes_writer(properties, sizeof properties);
    bytes_write_u8(&w, PROPERTY_CONTENT_TYPE);
    bytes_write_counted(&w, bytes_of("text"));
    property_write_user(&w, bytes_of("b"), bytes_of("1"));
    property_write_user(&w, bytes_of("a"), bytes_of("2"));
    property_write_user(&w, bytes_of("b"), bytes_of("1"));
    struct publication_parts parts = {
        .topic = bytes_of(topic),
        .payload = payload,
        .properties = {properties, w.length},
        .expires_ms = INT64_MAX,
    };
    return publication_new(&f->budget, &parts);
}

static bool publish(struct fixture *f, const struct delivery *delivery)
{
    return f->send.sink.calls->publish(&f->send.sink, delivery);
}

// A plain message; whether it is sent.
static bool publish_text(struct fixture *f, const char *topic, const char *payload)
{
    struct publication_parts parts = {.topic = bytes_of(topic),
                                      .payload = bytes_of(payload),
                                      .expires_ms = INT64_MAX};
    struct delivery delivery = {.publication = publication_new(&f->budget, &parts)};
    bool sent = publish(f, &delivery);
    publication_release(delivery.publication);
    return sent;
}

// ---- tests ----

static void all_that_a_message_has(void **state)
{
    struct fixture *f = *state;
    uint32_t ids[] = {1, 127, 128, 268435455};
    struct delivery delivery = {
        .publication = message(f, "a/b", bytes_of("hello")),
        .ids = ids,
        .id_count = COUNT(ids),
        .packet_id = 0x1234,
        .qos = 2,
        .retain = true,
        .dup = true,
    };
    delivery.publication->expires_ms = loop_now_ms() + 9990; // room for a busy machine
    assert_true(publish(f, &delivery));
    assert_string_equal(seen(f), "2#4660 a/b hello dup retain expiry=10 type=text id=1 id=127 "
                                 "id=128 id=268435455 b=1 a=2 b=1");
    assert_int_equal(f->sessions.counters.sent, 1);
    assert_int_equal(f->sessions.counters.sent_bytes, f->length);
    f->send.version = PACKET_V311;
    assert_true(publish(f, &delivery));
    assert_string_equal(seen(f), "2#4660 a/b hello dup retain");
    assert_int_equal(f->length, 2 + 2 + 3 + 2 + 5);
    publication_release(delivery.publication);
}

// [MQTT-3.3.2-6]
static void what_is_left_of_the_interval(void **state)
{
    static const struct {
        int64_t left_ms;
        uint32_t expiry;
    } cases[] = {
        {10990, 11}, {11990, 12}, {990, 1}, {-1, 0}, {INT64_C(5000000000000), UINT32_MAX},
    };
    struct fixture *f = *state;
    struct delivery delivery = {.publication = message(f, "t", bytes_of(""))};
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[60];
        delivery.publication->expires_ms = loop_now_ms() + cases[i].left_ms;
        assert_true(publish(f, &delivery));
        snprintf(text, sizeof text, "0#0 t  expiry=%u type=text b=1 a=2 b=1", cases[i].expiry);
        assert_string_equal(seen(f), text);
    }
    publication_release(delivery.publication);
}

static void packets_of_all_sizes(void **state)
{
    static const size_t sizes[] = {0, 21, 100, 127, 128, 2000, 2048, 16000, 16384, 70000, 200000};
    struct fixture *f = *state;
    uint8_t *payload = mem_alloc(200000);
    for (size_t i = 0; i < 200000; i++)
        payload[i] = (uint8_t)(i * 7);
    char topic[4001] = "";
    memset(topic, 't', sizeof topic - 1);
    for (size_t i = 0; i < 2 * COUNT(sizes); i++) {
        size_t size = sizes[i / 2];
        struct delivery delivery = {
            .publication = message(f, i % 2 ? topic : "t", (struct bytes){payload, size}),
            .packet_id = 7,
            .qos = 1,
        };
        assert_true(publish(f, &delivery));
        receive(f);
        assert_memory_equal(f->wire + f->length - size, payload, size);
        struct packet_frame frame;
        struct packet packet;
        struct packet_error error;
        assert_int_equal(packet_frame((struct bytes){f->wire, f->length}, &frame, &error),
                         PACKET_OK);
        assert_true(packet_parse(&frame, f->wire + frame.header_length, PACKET_V5,
                                 PACKET_FROM_SERVER, &packet, &error));
        assert_int_equal(packet.publish.payload.length, size);
        assert_int_equal(packet.publish.topic.length, i % 2 ? sizeof topic - 1 : 1);
        publication_release(delivery.publication);
    }
    free(payload);
}

// [MQTT-3.3.2-7 to -12]
static void the_first_topics_get_an_alias(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *topic, *seen;
    } story[] = {
        {"sensors/1", "0#0 sensors/1 x alias=1"},
        {"sensors/1", "0#0  x alias=1"},
        {"short", "0#0 short x"}, // it would save nothing
        {"sensors/2", "0#0 sensors/2 x alias=2"},
        {"sensors/1", "0#0  x alias=1"},
        {"sensors/3", "0#0 sensors/3 x"}, // all are taken
        {"sensors/2", "0#0  x alias=2"},
        {"sensors/3", "0#0 sensors/3 x"},
    };
    f->send.alias_max = 2;
    for (size_t i = 0; i < COUNT(story); i++) {
        assert_true(publish_text(f, story[i].topic, "x"));
        assert_string_equal(seen(f), story[i].seen);
    }
    client_send_fini(&f->send);
    assert_true(publish_text(f, "sensors/2", "x"));
    assert_string_equal(seen(f), "0#0 sensors/2 x alias=1");
}

static void as_many_aliases_as_there_can_be(void **state)
{
    struct fixture *f = *state;
    char topic[30], text[60];
    f->send.alias_max = UINT16_MAX;
    for (unsigned i = 1; i <= 300; i++) {
        snprintf(topic, sizeof topic, "sensors/number/%u", i);
        assert_true(publish_text(f, topic, "x"));
        receive(f);
    }
    for (unsigned i = 300; i > 0; i -= 50) {
        snprintf(topic, sizeof topic, "sensors/number/%u", i);
        snprintf(text, sizeof text, "0#0  x alias=%u", i);
        assert_true(publish_text(f, topic, "x"));
        assert_string_equal(seen(f), text);
    }
}

// [MQTT-3.1.2-24], [MQTT-3.1.2-25]
static void what_is_too_large_is_not_sent(void **state)
{
    struct fixture *f = *state;
    f->send.packet_max = 2 + 2 + 9 + 1 + 1;
    assert_true(publish_text(f, "sensors/1", "x"));
    assert_string_equal(seen(f), "0#0 sensors/1 x");
    assert_false(publish_text(f, "sensors/1", "xx"));
    f->send.alias_max = 5;
    assert_true(publish_text(f, "sensors/1", "x")); // there is no room to say the alias
    assert_string_equal(seen(f), "0#0 sensors/1 x");
    f->send.packet_max += 3;
    assert_true(publish_text(f, "sensors/1", "x"));
    assert_string_equal(seen(f), "0#0 sensors/1 x alias=1");
    assert_true(publish_text(f, "sensors/1", "123456789 "));
    assert_string_equal(seen(f), "0#0  123456789  alias=1");
    assert_int_equal(f->sessions.counters.sent, 4);
}

static void pubrel(void **state)
{
    struct fixture *f = *state;
    f->send.sink.calls->pubrel(&f->send.sink, 300);
    assert_string_equal(seen(f), "rel#300 0");
    assert_int_equal(f->length, 4);
    f->send.version = PACKET_V311;
    f->send.sink.calls->pubrel(&f->send.sink, 1);
    assert_string_equal(seen(f), "rel#1 0");
    assert_int_equal(f->sessions.counters.sent, 0);
}

static void a_reader_is_slow_from_so_many_bytes_on(void **state)
{
    struct fixture *f = *state;
    struct sink *sink = &f->send.sink;
    char payload[501] = "";
    memset(payload, 'x', sizeof payload - 1);
    assert_true(sink->calls->ready(sink));
    size_t sent = 0;
    // What the kernel takes is not counted: until it takes no more.
    for (; sink->calls->ready(sink) && sent < 100000; sent++) {
        assert_true(publish_text(f, "t", payload));
        if (conn_unsent(f->conn) > 0) {
            struct loop_timer *timer = loop_timer_new(f->loop, stop, f->loop);
            loop_timer_start(timer, 0);
            loop_run(f->loop);
            loop_timer_free(timer);
        }
    }
    assert_in_range(sent, 2, 99999);
    assert_in_range(conn_unsent(f->conn), 1000, 2000);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(all_that_a_message_has),
        TEST(what_is_left_of_the_interval),
        TEST(packets_of_all_sizes),
        TEST(the_first_topics_get_an_alias),
        TEST(as_many_aliases_as_there_can_be),
        TEST(what_is_too_large_is_not_sent),
        TEST(pubrel),
        TEST(a_reader_is_slow_from_so_many_bytes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
