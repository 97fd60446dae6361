// A tap takes from its session what is published, and says when it is done; and the $SYS topics.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <event2/event.h>
#include <unistd.h>

#include "base/mem.h"
#include "broker/broker_internal.h"
#include "broker/retained.h"

struct fixture {
    struct loop *loop;
    struct broker broker; // as much of it as a tap needs
    struct broker_tap *tap;
    char directory[40], file[60];
    char seen[2000]; // what came: "1:topic=payload" or "0:..." with the packet identifier, then "r"
                     // if retained
};

static void deliver(void *arg, const struct publication *publication, uint8_t qos, bool retain,
                    uint16_t packet_id)
{
    struct fixture *f = arg;
    size_t used = strlen(f->seen);
    assert_int_equal(qos > 0, packet_id > 0);
    snprintf(f->seen + used, sizeof f->seen - used, "%s%u:%.*s=%.*s%s", used ? " " : "", packet_id,
             (int)publication->topic.length, (const char *)publication->topic.data,
             (int)publication->payload.length, (const char *)publication->payload.data,
             retain ? "r" : "");
}

static void open_broker(struct fixture *f)
{
    static const struct session_limits limits = {100, 100, 1 << 20};
    char *error = NULL;
    f->broker = (struct broker){.loop = f->loop, .memory = {.limit = 1 << 20}};
    f->broker.wheel = wheel_new(f->loop);
    f->broker.state = state_open(f->loop, &f->broker.memory, f->file[0] ? f->file : NULL, &error);
    if (!f->broker.state)
        fail_msg("%s", error);
    f->broker.sessions = sessions_new(f->broker.wheel, f->broker.state, &f->broker.memory, &limits);
    if (!sessions_load(f->broker.sessions, &error))
        fail_msg("%s", error);
}

static void close_broker(struct fixture *f)
{
    broker_tap_free(f->tap);
    f->tap = NULL;
    assert_int_equal(f->broker.counters.taps, 0);
    sessions_free(f->broker.sessions);
    state_close(f->broker.state);
    wheel_free(f->broker.wheel);
    assert_int_equal(f->broker.memory.used, 0);
}

static void tap(struct fixture *f, const char *filter, uint8_t qos, uint16_t window)
{
    const char *filters[] = {filter, "also/this"};
    const struct broker_tap_calls calls = {.deliver = deliver, .arg = f};
    f->tap = broker_tap_new(&f->broker, "test", filters, 2, qos, window, &calls);
}

static int set_up(void **state)
{
    struct fixture *f = mem_zalloc(sizeof *f);
    f->loop = loop_new();
    open_broker(f);
    *state = f;
    return 0;
}

static int set_up_with_file(void **state)
{
    struct fixture *f = mem_zalloc(sizeof *f);
    f->loop = loop_new();
    strcpy(f->directory, "/tmp/test_tap.XXXXXX");
    assert_non_null(mkdtemp(f->directory));
    snprintf(f->file, sizeof f->file, "%s/broker.db", f->directory);
    open_broker(f);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    close_broker(f);
    loop_free(f->loop);
    if (f->directory[0]) {
        char *command = mem_printf("rm -r %s", f->directory);
        assert_int_equal(system(command), 0);
        free(command);
    }
    free(f);
    return 0;
}

static struct routed publish_as(struct fixture *f, const char *topic, const char *payload,
                                uint8_t qos, bool retain)
{
    const struct publication_parts parts = {.topic = bytes_of(topic),
                                            .payload = bytes_of(payload),
                                            .expires_ms = INT64_MAX,
                                            .received_us = loop_wall_us(),
                                            .qos = qos,
                                            .retain = retain};
    struct publication *publication = publication_new(&f->broker.memory, &parts);
    struct routed routed = sessions_publish(f->broker.sessions, publication);
    publication_release(publication);
    return routed;
}

static void publish(struct fixture *f, const char *topic, const char *payload, uint8_t qos)
{
    publish_as(f, topic, payload, qos, false);
}

static void expect(struct fixture *f, const char *seen)
{
    alarm(20);
    while (strlen(f->seen) < strlen(seen))
        event_base_loop(loop_base(f->loop), EVLOOP_ONCE);
    event_base_loop(loop_base(f->loop), EVLOOP_NONBLOCK);
    alarm(0);
    assert_string_equal(f->seen, seen);
    f->seen[0] = '\0';
}

// ---- tests ----

static void what_is_subscribed_comes_while_it_is_open(void **state)
{
    struct fixture *f = *state;
    tap(f, "a/#", 2, 10);
    publish(f, "a/1", "lost", 0); // nobody is there
    publish(f, "a/1", "kept", 1);
    expect(f, "");
    broker_tap_open(f->tap);
    publish(f, "a/2", "zero", 0);
    publish(f, "a/3", "two", 2);
    publish(f, "b", "other", 1);
    publish(f, "also/this", "x", 1);
    expect(f, "1:a/1=kept 0:a/2=zero 2:a/3=two 3:also/this=x");
    assert_int_equal(broker_tap_queued(f->tap), 3);
    for (uint16_t id = 1; id <= 3; id++)
        broker_tap_done(f->tap, id);
    assert_int_equal(broker_tap_queued(f->tap), 0);
    broker_tap_close(f->tap);
    publish(f, "a/4", "zero", 0);
    publish(f, "a/4", "one", 1);
    expect(f, "");
    broker_tap_open(f->tap);
    expect(f, "4:a/4=one");
}

static void no_more_than_the_window_at_a_time(void **state)
{
    struct fixture *f = *state;
    tap(f, "#", 1, 2);
    broker_tap_open(f->tap);
    publish(f, "a", "1", 1);
    publish(f, "a", "2", 2); // comes as QoS 1
    publish(f, "a", "3", 1);
    publish(f, "a", "4", 1);
    expect(f, "1:a=1 2:a=2");
    broker_tap_done(f->tap, 2);
    expect(f, "3:a=3");
    broker_tap_done(f->tap, 1);
    expect(f, "4:a=4");
}

static void what_is_not_done_comes_again_in_order(void **state)
{
    struct fixture *f = *state;
    tap(f, "#", 2, 10);
    broker_tap_open(f->tap);
    publish(f, "a", "1", 1);
    publish(f, "a", "2", 2);
    publish(f, "a", "3", 1);
    expect(f, "1:a=1 2:a=2 3:a=3");
    broker_tap_close(f->tap);
    broker_tap_done(f->tap, 2); // after the close: it counts all the same
    broker_tap_open(f->tap);
    expect(f, "1:a=1 3:a=3");
    broker_tap_done(f->tap, 2); // of nothing any more
    broker_tap_open(f->tap);    // without a close
    expect(f, "1:a=1 3:a=3");
}

static void what_is_not_done_outlives_the_process(void **state)
{
    struct fixture *f = *state;
    tap(f, "a/#", 2, 10);
    broker_tap_open(f->tap);
    publish(f, "a/1", "1", 1);
    publish(f, "a/2", "2", 2);
    publish(f, "a/3", "3", 2);
    expect(f, "1:a/1=1 2:a/2=2 3:a/3=3");
    broker_tap_done(f->tap, 2);
    publish(f, "a/4", "4", 1);
    expect(f, "4:a/4=4");
    close_broker(f);
    open_broker(f);
    publish(f, "a/5", "before the tap is there", 1);
    tap(f, "b/#", 2, 10); // other filters
    publish(f, "a/6", "gone", 1);
    publish(f, "b/7", "new", 1);
    publish(f, "also/this", "x", 1);
    broker_tap_open(f->tap);
    expect(f, "1:a/1=1 3:a/3=3 4:a/4=4 5:a/5=before the tap is there 6:b/7=new 7:also/this=x");
    assert_int_equal(f->broker.sessions->count, 1);
    assert_int_equal(f->broker.sessions->subscription_count, 2);
}

static void what_nobody_taps_any_more_is_dropped(void **state)
{
    struct fixture *f = *state;
    tap(f, "#", 1, 10);
    broker_taps_made(&f->broker);
    publish(f, "a", "1", 1);
    assert_int_equal(broker_tap_queued(f->tap), 1);
    session_new(f->broker.sessions, bytes_of("$forward"), NULL, 5, 100); // a client's
    close_broker(f);
    open_broker(f);
    publish(f, "a", "2", 1);
    assert_int_equal(f->broker.sessions->queued, 2);
    broker_taps_made(&f->broker);
    assert_int_equal(f->broker.sessions->queued, 0);
    assert_int_equal(f->broker.sessions->count, 1);
}

static void retained_messages_come_as_such(void **state)
{
    struct fixture *f = *state;
    publish_as(f, "a/old", "1", 1, true);
    tap(f, "a/#", 1, 10);
    publish_as(f, "a/new", "2", 1, true);
    publish(f, "a/new", "3", 1);
    broker_tap_open(f->tap);
    expect(f, "1:a/old=1r 2:a/new=2r 3:a/new=3");
    broker_tap_free(f->tap);
    tap(f, "a/#", 1, 10); // subscribed already
    broker_tap_open(f->tap);
    expect(f, "1:a/old=1r 2:a/new=2r 3:a/new=3");
}

static void access_rules_are_for_clients(void **state)
{
    struct fixture *f = *state;
    char *error = NULL;
    FILE *file;
    char path[] = "/tmp/test_tap.XXXXXX";
    int fd = mkstemp(path);
    assert_non_null(file = fdopen(fd, "w"));
    fputs("user somebody\ntopic #\n", file);
    fclose(file);
    struct acl *acl = acl_load(path, &error);
    assert_non_null(acl);
    unlink(path);
    f->broker.sessions->acl = acl;
    tap(f, "a", 1, 10);
    broker_tap_open(f->tap);
    publish(f, "a", "1", 1);
    expect(f, "1:a=1");
    f->broker.sessions->acl = NULL;
    acl_free(acl);
}

// ---- $SYS ----

static void step(struct fixture *f)
{
    alarm(20);
    event_base_loop(loop_base(f->loop), EVLOOP_ONCE);
    alarm(0);
}

static void sys_publishes_what_has_changed(void **state)
{
    struct fixture *f = *state;
    struct sys_counters *counters = &f->broker.counters;
    struct sys *sys = sys_new(f->loop, f->broker.sessions, counters, 1);
    tap(f, "$SYS/broker/clients/+", 1, 10);
    broker_tap_open(f->tap);
    expect(f, "0:$SYS/broker/clients/total=0r 0:$SYS/broker/clients/connected=0r "
              "0:$SYS/broker/clients/disconnected=0r 0:$SYS/broker/clients/maximum=0r "
              "0:$SYS/broker/clients/expired=0r");
    size_t retained = retained_count(f->broker.sessions->retained);
    assert_in_range(retained, 40, 60);
    counters->expired = 7;
    expect(f, "0:$SYS/broker/clients/expired=7r");
    for (int i = 0; i < 3; i++)
        step(f);
    expect(f, "");
    assert_int_equal(retained_count(f->broker.sessions->retained), retained);
    sys_set_interval(sys, 0);
    counters->expired = 8;
    event_base_loop(loop_base(f->loop), EVLOOP_NONBLOCK);
    sys_set_interval(sys, 3600); // begins at once
    expect(f, "0:$SYS/broker/clients/expired=8r");
    sys_free(sys);
}

static void sys_load_is_smoothed(void **state)
{
    struct fixture *f = *state;
    struct sys_counters *counters = &f->broker.counters;
    struct sys *sys = sys_new(f->loop, f->broker.sessions, counters, 1);
    tap(f, "$SYS/broker/load/messages/received/1min", 1, 10);
    broker_tap_open(f->tap);
    expect(f, "0:$SYS/broker/load/messages/received/1min=0.00r");
    counters->packets_received =
        100; // in one second: 6000 a minute, of which 1 - exp(-1/60) at once
    while (!f->seen[0])
        step(f);
    double load = atof(strchr(f->seen, '=') + 1);
    assert_true(load > 98 && load < 100);
    sys_free(sys);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(what_is_subscribed_comes_while_it_is_open),
        TEST(no_more_than_the_window_at_a_time),
        TEST(what_is_not_done_comes_again_in_order),
        cmocka_unit_test_setup_teardown(what_is_not_done_comes_again_in_order, set_up_with_file,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_is_not_done_outlives_the_process, set_up_with_file,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_nobody_taps_any_more_is_dropped, set_up_with_file,
                                        tear_down),
        TEST(retained_messages_come_as_such),
        TEST(access_rules_are_for_clients),
        TEST(sys_publishes_what_has_changed),
        TEST(sys_load_is_smoothed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
