// What the broker's clients do with verdicts, full memory, reloads and the end: seen from the
// sockets, with a pipeline that the test plays.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/accounts.h"
#include "broker_rig.h"

#define each_version(v) for (uint8_t v = PACKET_V311; v <= PACKET_V5; v++)

static void a_verdict_becomes_a_reason(void **state)
{
    struct rig *rig = *state;
    static const struct {
        enum verdict verdict;
        uint8_t reason;
    } cases[] = {
        {VERDICT_STORED, 0},  {VERDICT_DEDUPLICATED, 0}, {VERDICT_SKIPPED, 0},
        {VERDICT_DROPPED, 0}, {VERDICT_SPOOLED, 0},      {VERDICT_REJECTED, 0x99},
    };
    rig_open(rig);
    for (uint8_t qos = 1; qos <= 2; qos++) {
        each_version(version)
        {
            struct peer peer;
            peer_connect(&peer, rig, version, "sensor", false);
            for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                char text[32];
                uint8_t reason = version == PACKET_V5 ? cases[i].reason : 0;
                uint16_t id = (uint16_t)(i + 1);
                peer_publish(&peer, "db/a", "1", qos, id, false);
                expect_nothing(&peer);
                rig_settle(rig, rig->message_count - 1, cases[i].verdict);
                snprintf(text, sizeof text, reason ? "%s %u %02x" : "%s %u",
                         qos == 1 ? "PUBACK" : "PUBREC", id, reason);
                expect(&peer, text);
            }
            peer_close(&peer);
        }
    }
}

static void nobody_and_somebody(void **state)
{
    struct rig *rig = *state;
    struct peer peer, other;
    rig_open(rig);
    peer_connect(&peer, rig, PACKET_V5, "sensor", false);
    peer_publish(&peer, "x", "1", 1, 1, false);
    expect(&peer, "PUBACK 1 10");
    peer_publish(&peer, "$SYS/broker/uptime", "1", 1, 2, false);
    expect(&peer, "PUBACK 2 87");
    peer_connect(&other, rig, PACKET_V311, "screen", false);
    peer_subscribe(&other, "#", 1);
    peer_publish(&peer, "x", "2", 1, 3, false);
    expect(&peer, "PUBACK 3");
    expect(&other, "PUBLISH 1 x=2");
    peer_publish(&peer, "db/x", "3", 1, 4, false); // before the commit
    expect(&other, "PUBLISH 2 db/x=3");
    expect_nothing(&peer);
    rig_settle(rig, 0, VERDICT_STORED);
    expect(&peer, "PUBACK 4");
    assert_int_equal(rig->message_count, 1);
    peer_close(&peer);
    peer_close(&other);
}

static void acknowledgements_keep_their_order(void **state)
{
    struct rig *rig = *state;
    struct peer peer;
    rig_open(rig);
    peer_connect(&peer, rig, PACKET_V5, "sensor", false);
    peer_publish(&peer, "db/a", "1", 1, 1, false);
    peer_publish(&peer, "db/a", "2", 2, 2, false);
    peer_publish(&peer, "x", "3", 1, 3, false);
    peer_publish(&peer, "db/a", "4", 1, 4, false);
    expect_nothing(&peer);
    rig_settle(rig, 2, VERDICT_STORED);
    rig_settle(rig, 1, VERDICT_STORED);
    expect_nothing(&peer);
    rig_settle(rig, 0, VERDICT_REJECTED);
    expect(&peer, "PUBACK 1 99");
    expect(&peer, "PUBREC 2");
    expect(&peer, "PUBACK 3 10");
    expect(&peer, "PUBACK 4");
    peer_close(&peer);
}

static void what_is_abandoned_is_never_acknowledged(void **state)
{
    struct rig *rig = *state;
    struct peer peer;
    rig_open(rig);
    peer_connect(&peer, rig, PACKET_V5, "sensor", false);
    peer_publish(&peer, "db/a", "1", 1, 1, false);
    expect_nothing(&peer);
    rig_settle(rig, 0, VERDICT_ABANDONED);
    expect(&peer, "DISCONNECT 83");
    expect(&peer, "closed");
    peer_close(&peer);
}

// The verdict of a connection that is gone says nothing to the next one.
static void verdicts_come_too_late(void **state)
{
    struct rig *rig = *state;
    rig_open(rig);
    each_version(version)
    {
        struct peer peer;
        size_t first = rig->message_count;
        peer_connect(&peer, rig, version, "sensor", true);
        peer_publish(&peer, "db/a", "1", 1, 1, false);
        rig_wait(rig, rig->message_count == first + 1);
        peer_close(&peer);
        peer_connect(&peer, rig, version, "sensor", true);
        peer_publish(&peer, "db/a", "1", 1, 1, true);
        rig_wait(rig, rig->message_count == first + 2);
        rig_settle(rig, first, VERDICT_STORED);
        expect_nothing(&peer);
        rig_settle(rig, first + 1, VERDICT_STORED);
        expect(&peer, "PUBACK 1");
        peer_close(&peer);
    }
}

static void the_same_again_while_it_is_pending(void **state)
{
    struct rig *rig = *state;
    struct peer peer;
    rig_open(rig);
    peer_connect(&peer, rig, PACKET_V5, "sensor", false);
    for (uint8_t qos = 1; qos <= 2; qos++) {
        peer_publish(&peer, "db/a", "1", qos, qos, false);
        peer_publish(&peer, "db/a", "1", qos, qos, true);
        expect_nothing(&peer);
        assert_int_equal(rig->message_count, qos);
        rig_settle(rig, qos - 1U, VERDICT_STORED);
        expect(&peer, qos == 1 ? "PUBACK 1" : "PUBREC 2");
    }
    peer_publish(&peer, "db/a", "1", 1, 7, false);
    peer_publish(&peer, "db/a", "another", 1, 7, true);
    expect(&peer, "DISCONNECT 82");
    peer_close(&peer);
}

static void receive_maximum(void **state)
{
    struct rig *rig = *state;
    struct peer peer;
    rig->options.window = 3;
    rig_open(rig);
    peer_connect(&peer, rig, PACKET_V5, "sensor", false);
    for (uint16_t id = 1; id <= 3; id++)
        peer_publish(&peer, "db/a", "1", id == 2 ? 2 : 1, id, false);
    expect_nothing(&peer);
    assert_true(rig->windows_full > 0);
    for (size_t i = 0; i < 3; i++)
        rig_settle(rig, i, VERDICT_STORED);
    expect(&peer, "PUBACK 1");
    expect(&peer, "PUBREC 2"); // counts until PUBCOMP
    expect(&peer, "PUBACK 3");
    peer_publish(&peer, "db/a", "1", 1, 4, false);
    peer_publish(&peer, "db/a", "1", 1, 5, false);
    expect_nothing(&peer);
    peer_publish(&peer, "db/a", "1", 1, 6, false);
    expect(&peer, "DISCONNECT 93");
    peer_close(&peer);
}

// 3.1.1 has no Receive Maximum: its socket is not read for a while. Others are.
static void bytes_without_acknowledgement(void **state)
{
    struct rig *rig = *state;
    struct peer peer, other;
    char payload[1001];
    memset(payload, 'x', 1000);
    payload[1000] = '\0';
    rig_open(rig);
    peer_connect(&peer, rig, PACKET_V311, "sensor", false);
    peer_connect(&other, rig, PACKET_V311, "other", false);
    for (uint16_t id = 1; id <= 15; id++)
        peer_publish(&peer, "db/a", payload, 1, id, false);
    rig_wait(rig, rig->windows_full > 0);
    peer_publish(&other, "x", "1", 1, 1, false);
    expect(&other, "PUBACK 1");
    assert_int_equal(rig->message_count, 9);
    for (uint16_t id = 1; id <= 15; id++) {
        char text[32];
        rig_wait(rig, rig->message_count >= id);
        rig_settle(rig, id - 1U, VERDICT_STORED);
        snprintf(text, sizeof text, "PUBACK %u", id);
        expect(&peer, text);
    }
    peer_close(&peer);
    peer_close(&other);
}

static void a_full_budget_stops_only_mapped_messages(void **state)
{
    struct rig *rig = *state;
    struct peer peer, other;
    rig->budget.limit = 1000;
    rig_open(rig);
    peer_connect(&peer, rig, PACKET_V5, "sensor", false);
    peer_connect(&other, rig, PACKET_V5, "other", false);
    peer_publish(&peer, "db/a", "1", 1, 1, false);
    peer_publish(&peer, "db/a", "2", 1, 2, false);
    expect_nothing(&peer);
    assert_true(rig->budget.full);
    peer_publish(&other, "db/a", "dropped", 0, 0, false);
    peer_publish(&other, "x", "3", 1, 1, false);
    expect(&other, "PUBACK 1 10");
    peer_publish(&peer, "x", "4", 1, 3, false);
    peer_publish(&peer, "db/a", "5", 1, 4, false); // held
    expect_nothing(&other);
    assert_int_equal(rig->message_count, 2);
    assert_int_equal(broker_source(rig->broker)->books.verdicts[VERDICT_DROPPED], 1);
    rig_settle(rig, 0, VERDICT_STORED);
    rig_settle(rig, 1, VERDICT_STORED);
    expect(&peer, "PUBACK 1");
    expect(&peer, "PUBACK 2");
    expect(&peer, "PUBACK 3 10");
    rig_wait(rig, rig->message_count == 3);
    rig_settle(rig, 2, VERDICT_STORED);
    expect(&peer, "PUBACK 4");
    peer_close(&peer);
    peer_close(&other);
}

static void silence_counts_only_while_we_read(void **state)
{
    struct rig *rig = *state;
    struct peer held, silent;
    struct packet packet = connect_packet(PACKET_V5, "held", false);
    rig->budget.limit = 1000;
    rig_open(rig);
    packet.connect.keep_alive = 1;
    peer_open(&held, rig, PACKET_V5);
    peer_send(&held, &packet);
    expect(&held, "CONNACK 00");
    for (uint16_t id = 1; id <= 3; id++)
        peer_publish(&held, "db/a", "1", 1, id, false);
    rig_wait(rig, rig->message_count == 2);
    packet.connect.client_id = bytes_of("silent");
    peer_open(&silent, rig, PACKET_V5);
    peer_send(&silent, &packet);
    expect(&silent, "CONNACK 00");
    expect(&silent, "DISCONNECT 8d");
    rig_settle(rig, 0, VERDICT_STORED);
    rig_settle(rig, 1, VERDICT_STORED);
    expect(&held, "PUBACK 1");
    expect(&held, "PUBACK 2");
    expect(&held, "DISCONNECT 8d");
    peer_close(&held);
    peer_close(&silent);
}

// Whose end cannot be read because it is behind what is held is noticed all the same.
static void who_is_held_and_goes_is_let_go(void **state)
{
    struct rig *rig = *state;
    struct peer peer;
    struct broker_status status;
    struct packet packet = connect_packet(PACKET_V311, "sensor", false);
    rig->budget.limit = 1000;
    rig_open(rig);
    packet.connect.keep_alive = 1;
    peer_open(&peer, rig, PACKET_V311);
    peer_send(&peer, &packet);
    expect(&peer, "CONNACK 00");
    for (uint16_t id = 1; id <= 3; id++)
        peer_publish(&peer, "db/a", "1", 1, id, false);
    rig_wait(rig, rig->message_count == 2);
    peer_close(&peer);
    rig_wait(rig, (broker_status(rig->broker, &status), status.clients == 0));
    assert_int_equal(rig->message_count, 2);
}

static void a_will_reaches_the_mappings(void **state)
{
    struct rig *rig = *state;
    struct peer peer;
    struct packet packet = connect_packet(PACKET_V5, "sensor", false);
    packet.connect.has_will = true;
    packet.connect.will =
        (struct packet_will){.topic = bytes_of("db/gone"), .payload = bytes_of("gone"), .qos = 2};
    packet.connect.will.properties.present = PROPERTY_BIT(PROPERTY_CONTENT_TYPE);
    packet.connect.will.properties.content_type = bytes_of("text/plain");
    rig_open(rig);
    peer_open(&peer, rig, PACKET_V5);
    peer_send(&peer, &packet);
    expect(&peer, "CONNACK 00");
    peer_close(&peer);
    rig_wait(rig, rig->message_count == 1);
    const struct message *message = rig->messages[0];
    assert_int_equal(message->topic_length, 7);
    assert_memory_equal(message->payload, "gone", 4);
    assert_memory_equal(message->client_id, "sensor", 6);
    assert_int_equal(message->property_count, 1);
    assert_int_equal(message->properties[0].kind, MESSAGE_CONTENT_TYPE);
    rig_settle(rig, 0, VERDICT_STORED);
}

static void log_in(struct peer *peer, struct rig *rig, const char *name, const char *password)
{
    struct packet packet = connect_packet(PACKET_V5, name, false);
    packet.connect.has_username = packet.connect.has_password = true;
    packet.connect.username = bytes_of(name);
    packet.connect.password = bytes_of(password);
    peer_open(peer, rig, PACKET_V5);
    peer_send(peer, &packet);
}

static void a_reload_ends_those_who_are_not_allowed_any_more(void **state)
{
    struct rig *rig = *state;
    struct peer kept, changed, anonymous;
    char *error = NULL;
    rig->options.password_file = rig->accounts;
    assert_true(accounts_set(rig->accounts, "kept", bytes_of("1"), &error));
    assert_true(accounts_set(rig->accounts, "changed", bytes_of("2"), &error));
    rig_open(rig);
    log_in(&kept, rig, "kept", "2");
    expect(&kept, "CONNACK 86");
    peer_close(&kept);
    log_in(&kept, rig, "kept", "1");
    expect(&kept, "CONNACK 00");
    log_in(&changed, rig, "changed", "2");
    expect(&changed, "CONNACK 00");
    peer_connect(&anonymous, rig, PACKET_V5, "anonymous", false);
    assert_true(accounts_set(rig->accounts, "changed", bytes_of("3"), &error));
    struct broker_options options = rig->options;
    options.allow_anonymous = false;
    assert_true(broker_reload(rig->broker, &options, &error));
    expect(&changed, "DISCONNECT 98");
    expect(&anonymous, "DISCONNECT 98");
    expect_nothing(&kept);
    options.password_file = rig->state; // there is no such file
    assert_false(broker_reload(rig->broker, &options, &error));
    free(error);
    expect_nothing(&kept);
    peer_close(&kept);
    peer_close(&changed);
    peer_close(&anonymous);
    rig_close(rig);
}

// A password that is being checked when its file changes is checked by the new one.
static void a_reload_begins_checks_anew(void **state)
{
    struct rig *rig = *state;
    struct peer peer;
    char *error = NULL;
    rig->options.password_file = rig->accounts;
    assert_true(accounts_set(rig->accounts, "user", bytes_of("old"), &error));
    rig_open(rig);
    log_in(&peer, rig, "user", "old");
    for (int i = 0; i < 20; i++)
        rig_run(rig);
    assert_true(accounts_set(rig->accounts, "user", bytes_of("new"), &error));
    assert_true(broker_reload(rig->broker, &rig->options, &error));
    const char *next = peer_next(&peer); // the check may have ended before the reload
    if (strcmp(next, "CONNACK 00") == 0)
        next = peer_next(&peer);
    assert_true(strcmp(next, "CONNACK 86") == 0 || strcmp(next, "DISCONNECT 98") == 0);
    peer_close(&peer);
    rig_close(rig);
}

static void has_stopped(void *arg)
{
    ((struct rig *)arg)->stopped = true;
}

static void the_stop_tells_everybody(void **state)
{
    struct rig *rig = *state;
    struct peer peer, old;
    rig_open(rig);
    peer_connect(&peer, rig, PACKET_V5, "sensor", false);
    peer_connect(&old, rig, PACKET_V311, "old", true);
    peer_publish(&peer, "db/a", "1", 1, 1, false);
    peer_publish(&peer, "db/a", "2", 1, 2, false);
    expect_nothing(&peer);
    broker_quiesce(rig->broker);
    peer_publish(&peer, "db/a", "3", 1, 3, false); // no longer taken
    for (int i = 0; i < 20; i++)
        rig_run(rig);
    assert_int_equal(rig->message_count, 2);
    rig_settle(rig, 0, VERDICT_STORED);
    broker_stop(rig->broker, has_stopped, rig);
    expect(&peer, "PUBACK 1");
    expect(&peer, "DISCONNECT 8b");
    expect(&peer, "closed");
    expect(&old, "closed");
    peer_close(&peer);
    peer_close(&old);
    rig_wait(rig, rig->stopped);
    rig_settle(rig, 1, VERDICT_STORED); // too late for an acknowledgement
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_set_up, rig_tear_down)
        TEST(a_verdict_becomes_a_reason),
        TEST(nobody_and_somebody),
        TEST(acknowledgements_keep_their_order),
        TEST(what_is_abandoned_is_never_acknowledged),
        TEST(verdicts_come_too_late),
        TEST(the_same_again_while_it_is_pending),
        TEST(receive_maximum),
        TEST(bytes_without_acknowledgement),
        TEST(a_full_budget_stops_only_mapped_messages),
        TEST(silence_counts_only_while_we_read),
        TEST(who_is_held_and_goes_is_let_go),
        TEST(a_will_reaches_the_mappings),
        TEST(a_reload_ends_those_who_are_not_allowed_any_more),
        TEST(a_reload_begins_checks_anew),
        TEST(the_stop_tells_everybody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
