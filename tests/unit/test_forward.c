// Forwarding by paho to an upstream broker, which is played here, on the loop of the test.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <unistd.h>

#include "base/mem.h"
#include "forward/forward.h"
#include "forward/properties.h"
#include "mqtt/packet.h"

enum { PATIENCE_SECONDS = 60, WINDOW = 5 };

// What the upstream does with what comes.
enum manner {
    ANSWERS,
    MUTE,           // takes messages and acknowledges none
    REFUSES_5,      // answers MQTT 5 as a server of 3.1.1 does
    REFUSES_USER,   // CONNACK 0x86
    HANGS_UP,       // at CONNECT
    LITTLE,         // CONNACK with small limits
    REFUSES_TOPICS, // PUBACK 0x87
    OUT_OF_QUOTA,   // PUBACK 0x97 to the first message of its life, then it answers
    DISCONNECTS,    // DISCONNECT at the first message of its life, then it answers
};

struct fixture {
    struct loop *loop;
    struct worker *names, *paho;
    struct forward_options options;
    struct forward *forward;
    struct evconnlistener *listener;
    struct bufferevent *peer; // the newest connection; NULL: none
    enum manner manner;
    uint8_t version; // of the newest connection
    unsigned connects, messages;
    bool open, stopped;
    unsigned opens, closes;
    char seen[4000];      // what the upstream has got: "topic=payload qos retain" ...
    char done[400];       // packet identifiers that are done
    bool disconnect_seen; // a DISCONNECT packet
};

// paho leaks what it has not begun to write when a connection ends.
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libpaho-mqtt3as";
}

// ---- the upstream ----

static void answer(struct fixture *f, struct packet *packet)
{
    uint8_t bytes[200];
    packet->version = f->version;
    struct bytes_writer writer = bytes_writer(bytes, sizeof bytes);
    packet_write(&writer, packet);
    assert_false(writer.bad);
    bufferevent_write(f->peer, bytes, writer.length);
}

static void hang_up(struct fixture *f)
{
    bufferevent_free(f->peer);
    f->peer = NULL;
}

static void take_connect(struct fixture *f, const struct packet *packet)
{
    f->version = packet->version;
    struct packet connack = {.type = PACKET_CONNACK};
    f->connects++;
    if (f->manner == HANGS_UP) {
        hang_up(f);
    } else if (f->manner == REFUSES_5 && packet->version == PACKET_V5) {
        bufferevent_write(f->peer, (const uint8_t[]){0x20, 2, 0, 1}, 4);
    } else {
        if (f->manner == REFUSES_USER)
            connack.connack.reason = REASON_BAD_USER_OR_PASSWORD;
        if (f->manner == LITTLE)
            connack.properties =
                (struct property_set){.present = PROPERTY_BIT(PROPERTY_MAXIMUM_PACKET_SIZE) |
                                                 PROPERTY_BIT(PROPERTY_MAXIMUM_QOS) |
                                                 PROPERTY_BIT(PROPERTY_RETAIN_AVAILABLE),
                                      .maximum_packet_size = 100};
        answer(f, &connack);
    }
}

static void note(char *text, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void note(char *text, size_t size, const char *format, ...)
{
    size_t used = strlen(text);
    va_list args;
    va_start(args, format);
    vsnprintf(text + used, size - used, format, args);
    va_end(args);
}

static void note_publish(struct fixture *f, const struct packet *packet)
{
    const struct packet_publish *publish = &packet->publish;
    const struct property_set *set = &packet->properties;
    struct bytes name, value;
    note(f->seen, sizeof f->seen, "%s%.*s=%.*s %u%s", f->seen[0] ? ", " : "",
         (int)publish->topic.length, (const char *)publish->topic.data,
         (int)publish->payload.length, (const char *)publish->payload.data, publish->qos,
         publish->retain ? " retain" : "");
    if (property_has(set, PROPERTY_PAYLOAD_FORMAT))
        note(f->seen, sizeof f->seen, " format=%u", set->payload_format);
    if (property_has(set, PROPERTY_MESSAGE_EXPIRY))
        note(f->seen, sizeof f->seen, " expiry=%u", set->message_expiry);
    if (property_has(set, PROPERTY_CONTENT_TYPE))
        note(f->seen, sizeof f->seen, " type=%.*s", (int)set->content_type.length,
             (const char *)set->content_type.data);
    if (property_has(set, PROPERTY_RESPONSE_TOPIC))
        note(f->seen, sizeof f->seen, " response=%.*s", (int)set->response_topic.length,
             (const char *)set->response_topic.data);
    if (property_has(set, PROPERTY_CORRELATION_DATA))
        note(f->seen, sizeof f->seen, " correlation=%.*s", (int)set->correlation_data.length,
             (const char *)set->correlation_data.data);
    for (size_t at = 0; property_next_user(set, &at, &name, &value);)
        note(f->seen, sizeof f->seen, " %.*s:%.*s", (int)name.length, (const char *)name.data,
             (int)value.length, (const char *)value.data);
}

static void take_publish(struct fixture *f, const struct packet *packet)
{
    note_publish(f, packet);
    bool first = f->messages++ == 0;
    struct packet ack = {.type = packet->publish.qos == 2 ? PACKET_PUBREC : PACKET_PUBACK,
                         .ack = {.packet_id = packet->publish.packet_id}};
    struct packet disconnect = {.type = PACKET_DISCONNECT,
                                .reason.reason = REASON_SERVER_SHUTTING_DOWN};
    if (f->manner == REFUSES_TOPICS)
        ack.ack.reason = REASON_NOT_AUTHORIZED;
    if (f->manner == OUT_OF_QUOTA && first)
        ack.ack.reason = REASON_QUOTA_EXCEEDED;
    if (f->manner == DISCONNECTS && first)
        answer(f, &disconnect);
    else if (packet->publish.qos > 0 && f->manner != MUTE)
        answer(f, &ack);
}

static void take(struct fixture *f, const struct packet *packet)
{
    struct packet ack = {.type = PACKET_PUBCOMP, .ack.packet_id = packet->ack.packet_id};
    struct packet ping = {.type = PACKET_PINGRESP};
    switch (packet->type) {
    case PACKET_CONNECT:
        take_connect(f, packet);
        break;
    case PACKET_PUBLISH:
        take_publish(f, packet);
        break;
    case PACKET_PUBREL:
        answer(f, &ack);
        break;
    case PACKET_PINGREQ:
        answer(f, &ping);
        break;
    case PACKET_DISCONNECT:
        f->disconnect_seen = true;
        break;
    default:
        fail_msg("the upstream gets a %s", packet_type_name(packet->type));
    }
}

static void readable(struct bufferevent *peer, void *arg)
{
    struct fixture *f = arg;
    struct evbuffer *input = bufferevent_get_input(peer);
    struct packet_frame frame;
    struct packet_error error;
    struct packet packet;
    while (f->peer == peer) {
        struct bytes bytes = {evbuffer_pullup(input, -1), evbuffer_get_length(input)};
        if (packet_frame(bytes, &frame, &error) != PACKET_OK ||
            bytes.length < frame.header_length + frame.body_length)
            return;
        if (!packet_parse(&frame, bytes.data + frame.header_length, f->version, PACKET_FROM_CLIENT,
                          &packet, &error))
            fail_msg("the upstream gets a bad packet: %s", error.text);
        take(f, &packet);
        if (f->peer == peer)
            evbuffer_drain(input, frame.header_length + frame.body_length);
    }
}

static void peer_event(struct bufferevent *peer, short what, void *arg)
{
    struct fixture *f = arg;
    (void)what;
    if (f->peer == peer)
        f->peer = NULL;
    bufferevent_free(peer);
}

static void accepted(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
                     int length, void *arg)
{
    struct fixture *f = arg;
    (void)address;
    (void)length;
    f->peer = bufferevent_socket_new(evconnlistener_get_base(listener), fd, BEV_OPT_CLOSE_ON_FREE);
    bufferevent_setcb(f->peer, readable, NULL, peer_event, f);
    bufferevent_enable(f->peer, EV_READ | EV_WRITE);
}

static void listen_on(struct fixture *f, uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    f->listener = evconnlistener_new_bind(loop_base(f->loop), accepted, f,
                                          LEV_OPT_CLOSE_ON_FREE | LEV_OPT_REUSEABLE, 10,
                                          (struct sockaddr *)&address, sizeof address);
    assert_non_null(f->listener);
    getsockname(evconnlistener_get_fd(f->listener), (struct sockaddr *)&address, &length);
    f->options.port = ntohs(address.sin_port);
}

static void upstream_stop(struct fixture *f)
{
    evconnlistener_free(f->listener);
    f->listener = NULL;
    if (f->peer)
        hang_up(f);
}

// ---- the forward's calls ----

static void is_open(void *arg)
{
    struct fixture *f = arg;
    assert_false(f->open);
    f->open = true;
    f->opens++;
}

static void is_closed(void *arg)
{
    struct fixture *f = arg;
    assert_true(f->open);
    f->open = false;
    f->closes++;
}

static void is_done(void *arg, uint16_t packet_id)
{
    struct fixture *f = arg;
    assert_true(f->open);
    note(f->done, sizeof f->done, "%u ", packet_id);
}

static void is_stopped(void *arg)
{
    struct fixture *f = arg;
    f->stopped = true;
}

static int set_up(void **state)
{
    struct fixture *f = mem_zalloc(sizeof *f);
    f->loop = loop_new();
    f->names = worker_new(f->loop, 1);
    f->paho = worker_new(f->loop, 1);
    f->options = (struct forward_options){.name = "test",
                                          .uri = "mqtt://upstream",
                                          .host = "127.0.0.1",
                                          .client_id = "edge",
                                          .prefix = "site/7/",
                                          .qos = 2,
                                          .window = WINDOW,
                                          .keepalive = 60};
    listen_on(f, 0);
    const struct forward_calls calls = {.open = is_open,
                                        .close = is_closed,
                                        .done = is_done,
                                        .arg = f};
    f->forward = forward_new(f->loop, f->names, f->paho, &f->options, &calls);
    *state = f;
    return 0;
}

static void nothing(void *arg)
{
    (void)arg;
}

static bool wait_for(struct fixture *f, const bool *flag)
{
    int64_t end = loop_now_ms() + PATIENCE_SECONDS * 1000;
    while (!*flag && loop_now_ms() < end) {
        event_base_loop(loop_base(f->loop), EVLOOP_NONBLOCK);
        usleep(1000);
    }
    return *flag;
}

// What paho still does is waited for: worker_free would, for a second, and then leave it.
static int tear_down(void **state)
{
    struct fixture *f = *state;
    forward_free(f->forward);
    f->stopped = false;
    worker_submit(f->paho, nothing, is_stopped, nothing, f);
    assert_true(wait_for(f, &f->stopped));
    worker_free(f->paho);
    worker_free(f->names);
    if (f->listener)
        upstream_stop(f);
    loop_free(f->loop);
    free(f);
    return 0;
}

static void wait_text(struct fixture *f, const char *text, const char *expected)
{
    int64_t end = loop_now_ms() + PATIENCE_SECONDS * 1000;
    while (strcmp(text, expected) != 0 && loop_now_ms() < end) {
        event_base_loop(loop_base(f->loop), EVLOOP_NONBLOCK);
        usleep(1000);
    }
    assert_string_equal(text, expected);
}

static void start(struct fixture *f)
{
    forward_start(f->forward);
    assert_true(wait_for(f, &f->open));
}

static void deliver(struct fixture *f, const char *topic, const char *payload, uint8_t qos,
                    uint16_t packet_id)
{
    const struct forward_message message = {.topic = bytes_of(topic),
                                            .payload = bytes_of(payload),
                                            .qos = qos,
                                            .packet_id = packet_id,
                                            .expires_ms = INT64_MAX};
    forward_deliver(f->forward, &message);
}

static void wait_state(struct fixture *f, const char *part)
{
    struct forward_status status;
    int64_t end = loop_now_ms() + PATIENCE_SECONDS * 1000;
    do {
        event_base_loop(loop_base(f->loop), EVLOOP_NONBLOCK);
        usleep(1000);
        forward_status(f->forward, &status);
    } while (!strstr(status.state, part) && loop_now_ms() < end);
    if (!strstr(status.state, part))
        fail_msg("the state is '%s', not '%s'", status.state, part);
}

static void stop(struct fixture *f)
{
    forward_stop(f->forward, is_stopped, f);
    assert_false(f->stopped);
    assert_true(wait_for(f, &f->stopped));
}

// ---- tests ----

static void all_qos_arrive_with_prefix(void **state)
{
    struct fixture *f = *state;
    struct forward_status status;
    start(f);
    assert_int_equal(f->version, PACKET_V5);
    deliver(f, "a", "zero", 0, 0);
    deliver(f, "b", "one", 1, 7);
    deliver(f, "c", "two", 2, 8);
    deliver(f, "d", "", 1, 9);
    wait_text(f, f->seen, "site/7/a=zero 0, site/7/b=one 1, site/7/c=two 2, site/7/d= 1");
    wait_text(f, f->done, "7 9 8 "); // QoS 2 takes two round trips
    forward_status(f->forward, &status);
    assert_true(status.connected);
    assert_int_equal(status.forwarded, 4);
    assert_int_equal(status.dropped, 0);
    stop(f);
    assert_true(f->disconnect_seen);
}

static void properties_and_retain_arrive(void **state)
{
    struct fixture *f = *state;
    uint8_t bytes[200];
    struct bytes_writer writer = bytes_writer(bytes, sizeof bytes);
    bytes_write_u8(&writer, PROPERTY_PAYLOAD_FORMAT);
    bytes_write_u8(&writer, 1);
    property_write_user(&writer, bytes_of("b"), bytes_of("2"));
    property_write_user(&writer, bytes_of("a"), bytes_of(""));
    bytes_write_u8(&writer, PROPERTY_CONTENT_TYPE);
    bytes_write_counted(&writer, bytes_of("text"));
    bytes_write_u8(&writer, PROPERTY_RESPONSE_TOPIC);
    bytes_write_counted(&writer, bytes_of("r/t"));
    bytes_write_u8(&writer, PROPERTY_CORRELATION_DATA);
    bytes_write_counted(&writer, bytes_of("xyz"));
    property_write_user(&writer, bytes_of("b"), bytes_of("3"));
    const struct forward_message message = {.topic = bytes_of("t"),
                                            .payload = bytes_of("x"),
                                            .properties = {bytes, writer.length},
                                            .qos = 1,
                                            .retain = true,
                                            .packet_id = 1,
                                            .expires_ms = loop_now_ms() + 3600 * 1000};
    start(f);
    forward_deliver(f->forward, &message);
    wait_text(f, f->done, "1 ");
    const char *beginning = "site/7/t=x 1 retain format=1 expiry=";
    const char *end = " type=text response=r/t correlation=xyz b:2 a: b:3";
    assert_memory_equal(f->seen, beginning, strlen(beginning));
    int left = atoi(f->seen + strlen(beginning));
    assert_in_range(left, 3500, 3600);
    assert_string_equal(strchr(f->seen + strlen(beginning), ' '), end);
}

static void an_upstream_of_3_1_1_is_spoken_to_in_it(void **state)
{
    struct fixture *f = *state;
    uint8_t type[] = {PROPERTY_CONTENT_TYPE, 0, 1, 'x'};
    const struct forward_message message = {.topic = bytes_of("t"),
                                            .payload = bytes_of("x"),
                                            .properties = {type, sizeof type},
                                            .qos = 2,
                                            .packet_id = 3,
                                            .expires_ms = loop_now_ms() + 10000};
    f->manner = REFUSES_5;
    start(f);
    assert_int_equal(f->version, PACKET_V311);
    assert_int_equal(f->connects, 2);
    forward_deliver(f->forward, &message);
    wait_text(f, f->done, "3 ");
    assert_string_equal(f->seen, "site/7/t=x 2");
    stop(f);
    assert_true(f->disconnect_seen);
}

// However the threads take turns: bursts of a window each, handed over while the last is
// acknowledged.
static void bursts_arrive_whole(void **state)
{
    struct fixture *f = *state;
    struct forward_status status;
    start(f);
    for (unsigned burst = 1; burst <= 500; burst++) {
        for (uint16_t id = 1; id <= WINDOW; id++) {
            deliver(f, "a", "1", 1, id);
            usleep(burst % 4 * 50); // the others go on, and the loop does not
        }
        int64_t end = loop_now_ms() + PATIENCE_SECONDS * 1000;
        do {
            event_base_loop(loop_base(f->loop), EVLOOP_NONBLOCK);
            forward_status(f->forward, &status);
        } while (status.forwarded < burst * WINDOW && loop_now_ms() < end);
        assert_int_equal(status.forwarded, burst * WINDOW);
        f->seen[0] = f->done[0] = '\0';
    }
}

static void what_is_not_acknowledged_is_not_done(void **state)
{
    struct fixture *f = *state;
    f->manner = MUTE;
    start(f);
    deliver(f, "a", "1", 1, 1);
    wait_text(f, f->seen, "site/7/a=1 1");
    f->manner = ANSWERS; // those that come after it
    deliver(f, "a", "2", 1, 2);
    wait_text(f, f->done, "2 ");
    stop(f); // in spite of the one that nobody answers
    assert_string_equal(f->done, "2 ");
}

static void an_outage_closes_and_opens_again(void **state)
{
    struct fixture *f = *state;
    f->manner = MUTE;
    start(f);
    deliver(f, "a", "1", 1, 1);
    deliver(f, "a", "2", 2, 2);
    wait_text(f, f->seen, "site/7/a=1 1, site/7/a=2 2");
    upstream_stop(f);
    wait_state(f, "down: ");
    assert_false(f->open);
    assert_string_equal(f->done, "");
    f->manner = ANSWERS;
    f->seen[0] = '\0';
    listen_on(f, f->options.port);
    assert_true(wait_for(f, &f->open));
    assert_int_equal(f->opens, 2);
    assert_string_equal(f->seen, ""); // nothing of the old connection comes by itself
    deliver(f, "a", "1", 1, 1);
    wait_text(f, f->done, "1 ");
    wait_text(f, f->seen, "site/7/a=1 1");
}

static void a_refusal_says_why(void **state)
{
    struct fixture *f = *state;
    f->manner = REFUSES_USER;
    forward_start(f->forward);
    wait_state(f, "down: Bad User Name or Password");
    f->manner = HANGS_UP;
    wait_state(f, "closes the connection");
    upstream_stop(f);
    wait_state(f, "refused");
    assert_int_equal(f->opens, 0);
    stop(f); // while it waits
}

static void a_stop_before_the_upstream_answers(void **state)
{
    struct fixture *f = *state;
    upstream_stop(f);
    forward_start(f->forward);
    stop(f);
}

static void it_may_be_freed_at_any_time(void **state)
{
    struct fixture *f = *state;
    f->manner = MUTE;
    start(f);
    for (uint16_t i = 1; i <= WINDOW; i++)
        deliver(f, "a", "1", 1, i);
    for (int i = 0; i < 100; i++)
        deliver(f, "b", "2", 0, 0);
}

static void what_the_upstream_never_takes_is_given_up(void **state)
{
    struct fixture *f = *state;
    struct forward_status status;
    f->manner = REFUSES_TOPICS;
    start(f);
    deliver(f, "a", "1", 1, 1);
    deliver(f, "a", "2", 2, 2);
    wait_text(f, f->done, "1 2 ");
    forward_status(f->forward, &status);
    assert_int_equal(status.dropped, 2);
    assert_int_equal(status.forwarded, 0);
    assert_int_equal(f->connects, 1);
}

static void limits_of_the_upstream_are_kept(void **state)
{
    struct fixture *f = *state;
    struct forward_status status;
    char large[101];
    memset(large, 'x', sizeof large);
    large[sizeof large - 1] = '\0';
    const struct forward_message retained = {.topic = bytes_of("t"),
                                             .payload = bytes_of("x"),
                                             .qos = 2,
                                             .packet_id = 2,
                                             .retain = true,
                                             .expires_ms = INT64_MAX};
    f->manner = LITTLE;
    start(f);
    deliver(f, "a", large, 1, 1);
    forward_deliver(f->forward, &retained);
    wait_text(f, f->done, "1 2 ");
    wait_text(f, f->seen, "site/7/t=x 0");
    forward_status(f->forward, &status);
    assert_int_equal(status.dropped, 1);
    assert_int_equal(status.forwarded, 1);
}

static void a_passing_refusal_begins_anew(void **state)
{
    struct fixture *f = *state;
    f->manner = OUT_OF_QUOTA;
    start(f);
    deliver(f, "a", "1", 1, 1);
    wait_state(f, "0x97");
    assert_string_equal(f->done, "");
    assert_int_equal(f->closes, 1);
    assert_true(wait_for(f, &f->open));
    deliver(f, "a", "1", 1, 1);
    wait_text(f, f->done, "1 ");
}

static void a_disconnect_says_why(void **state)
{
    struct fixture *f = *state;
    f->manner = DISCONNECTS;
    start(f);
    deliver(f, "a", "1", 1, 1);
    wait_state(f, "Server shutting down");
    assert_string_equal(f->done, "");
    assert_true(wait_for(f, &f->open));
    deliver(f, "a", "1", 1, 1);
    wait_text(f, f->done, "1 ");
}

// A peer that reads nothing: what is QoS 0 is bounded in memory.
static void too_much_of_qos_0_is_dropped(void **state)
{
    struct fixture *f = *state;
    struct forward_status status;
    start(f);
    bufferevent_disable(f->peer, EV_READ);
    char *payload = mem_alloc(100001);
    memset(payload, 'x', 100000);
    payload[100000] = '\0';
    for (int i = 0; i < 2000; i++)
        deliver(f, "a", payload, 0, 0);
    free(payload);
    forward_status(f->forward, &status);
    assert_true(status.dropped > 1500);
    stop(f);
}

static void a_password_file_that_is_missing_is_waited_for(void **state)
{
    struct fixture *f = *state;
    char path[] = "/tmp/test_forward.XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    unlink(path);
    f->options.username = "logger";
    f->options.password_file = path;
    forward_start(f->forward);
    wait_state(f, "No such file");
    FILE *file = fopen(path, "w");
    fputs("feet\n", file);
    fclose(file);
    assert_true(wait_for(f, &f->open));
    unlink(path);
    close(fd);
}

static void properties_end_before_what_is_none(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint8_t bytes[8];
        size_t length;
        uint32_t expiry;
        int count;
    } cases[] = {
        {"none", {0}, 0, UINT32_MAX, 0},
        {"expiry alone", {0}, 0, 5, 1},
        {"payload format", {1, 0}, 2, UINT32_MAX, 1},
        {"cut short", {1, 0, 3, 0, 9, 'x'}, 6, UINT32_MAX, 1},
        {"a user property without its value", {38, 0, 1, 'a', 0}, 5, UINT32_MAX, 0},
        {"not of a message", {1, 0, 35, 0, 1}, 5, UINT32_MAX, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        MQTTProperties list =
            properties_list((struct bytes){cases[i].bytes, cases[i].length}, cases[i].expiry);
        if (list.count != cases[i].count)
            fail_msg("%s: %d properties", cases[i].name, list.count);
        free(list.array);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(all_qos_arrive_with_prefix),
        TEST(properties_and_retain_arrive),
        TEST(an_upstream_of_3_1_1_is_spoken_to_in_it),
        TEST(bursts_arrive_whole),
        TEST(what_is_not_acknowledged_is_not_done),
        TEST(an_outage_closes_and_opens_again),
        TEST(a_refusal_says_why),
        TEST(a_stop_before_the_upstream_answers),
        TEST(it_may_be_freed_at_any_time),
        TEST(what_the_upstream_never_takes_is_given_up),
        TEST(limits_of_the_upstream_are_kept),
        TEST(a_passing_refusal_begins_anew),
        TEST(a_disconnect_says_why),
        TEST(too_much_of_qos_0_is_dropped),
        TEST(a_password_file_that_is_missing_is_waited_for),
        cmocka_unit_test(properties_end_before_what_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
