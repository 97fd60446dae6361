// QoS 2 from publishers, with a database that the test plays: what each acknowledgement waits for,
// and what is left of an exchange after a restart.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker_rig.h"

// As after a stop of the daemon: what has no verdict is abandoned.
static void restart(struct peer *peer)
{
    peer_close(peer);
    rig_close(peer->rig);
    rig_open(peer->rig);
}

// A message of QoS 2 up to PUBREC.
static void receive(struct peer *peer, uint16_t packet_id)
{
    char text[32];
    rig_settle(peer->rig, peer_hand_up(peer, packet_id, false), VERDICT_STORED);
    snprintf(text, sizeof text, "PUBREC %u", packet_id);
    expect(peer, text);
}

static void a_session_that_ends_with_its_connection(void **state)
{
    struct rig *rig = *state;
    struct peer peer, screen;
    rig_open(rig);
    peer_connect(&screen, rig, PACKET_V311, "screen", false);
    peer_subscribe(&screen, "#", 0);
    peer_connect(&peer, rig, PACKET_V5, "sensor", false);
    peer_hand_up(&peer, 1, false);
    expect_nothing(&peer);
    expect_nothing(&screen); // not before PUBREL
    assert_int_equal(rig->messages[0]->session, 0);
    rig_settle(rig, 0, VERDICT_STORED);
    expect(&peer, "PUBREC 1");
    peer_publish(&peer, "db/a", "1", 2, 1, true);
    expect(&peer, "PUBREC 1");
    peer_send_ack(&peer, PACKET_PUBREL, 1);
    expect(&peer, "PUBCOMP 1");
    expect(&screen, "PUBLISH 0 db/a=1");
    peer_send_ack(&peer, PACKET_PUBREL, 1);
    expect(&peer, "PUBCOMP 1 92");
    receive(&peer, 1); // a new message
    assert_int_equal(rig->message_count, 2);
    assert_int_equal(rig->forget_count, 0);
    peer_close(&peer);
    peer_close(&screen);
}

static void pubcomp_waits_until_the_identifier_is_forgotten(void **state)
{
    struct rig *rig = *state;
    struct peer *sensor = rig_open_sensor(rig, PACKET_V5);
    peer_hand_up(sensor, 5, false);
    assert_true(rig->messages[0]->session != 0);
    assert_int_equal(rig->messages[0]->packet_id, 5);
    rig_settle(rig, 0, VERDICT_STORED);
    expect(sensor, "PUBREC 5");
    peer_send_ack(sensor, PACKET_PUBREL, 5);
    peer_send_ack(sensor, PACKET_PUBREL, 5);
    expect_nothing(sensor);
    assert_int_equal(rig->forget_count, 1);
    peer_publish(sensor, "db/a", "2", 2, 5, false); // held: its PUBCOMP goes first
    rig_forget_now(rig);
    expect(sensor, "PUBCOMP 5");
    rig_wait(rig, rig->message_count == 2);
    rig_settle(rig, 1, VERDICT_STORED);
    expect(sensor, "PUBREC 5");
}

static void nothing_is_judged_before_the_identifiers_are_known(void **state)
{
    struct rig *rig = *state;
    rig->known = false;
    struct peer *sensor = rig_open_sensor(rig, PACKET_V5);
    peer_publish(sensor, "db/a", "1", 2, 1, false);
    peer_publish(sensor, "db/a", "1", 2, 2, false);
    peer_publish(sensor, "x", "1", 1, 3, false);
    expect_nothing(sensor);
    peer_publish(sensor, "db/a", "1", 1, 4, false); // QoS 1 does not wait
    rig_wait(rig, rig->message_count == 1);
    rig->stored[rig->stored_count++] = (struct rig_id){1, 1}; // of another session
    rig->known = true;
    broker_exchanges_loaded(rig->broker);
    assert_int_equal(rig->message_count, 3);
    for (size_t i = 0; i < 3; i++)
        rig_settle(rig, i, VERDICT_STORED);
    expect(sensor, "PUBREC 1");
    expect(sensor, "PUBREC 2");
    expect(sensor, "PUBACK 3 10");
    expect(sensor, "PUBACK 4");
}

// PostgreSQL has the rows, but we stopped before PUBREC: the repetition makes no more.
static void what_is_stored_is_not_stored_again(void **state)
{
    struct rig *rig = *state;
    struct peer *sensor = rig_open_sensor(rig, PACKET_V5);
    peer_hand_up(sensor, 1, false);
    rig->stored[rig->stored_count++] = (struct rig_id){rig->messages[0]->session, 1};
    restart(sensor);
    rig->known = false;
    peer_come_back(sensor);
    peer_publish(sensor, "db/a", "1", 2, 1, true);
    expect_nothing(sensor);
    rig->known = true;
    broker_exchanges_loaded(rig->broker);
    expect(sensor, "PUBREC 1");
    assert_int_equal(rig->message_count, 0);
    assert_int_equal(broker_source(rig->broker)->books.verdicts[VERDICT_DEDUPLICATED], 1);
}

// Our state has the exchange, but the rows never got into PostgreSQL.
static void what_is_not_stored_is_stored_after_all(void **state)
{
    struct rig *rig = *state;
    struct peer *sensor = rig_open_sensor(rig, PACKET_V5);
    receive(sensor, 1);
    receive(sensor, 2);
    rig->stored_count = 1; // the second is lost
    restart(sensor);
    peer_come_back(sensor);
    peer_publish(sensor, "db/a", "1", 2, 1, true);
    peer_publish(sensor, "db/a", "1", 2, 2, true);
    expect(sensor, "PUBREC 1");
    expect_nothing(sensor);
    assert_int_equal(rig->message_count, 1);
    assert_int_equal(rig->messages[0]->packet_id, 2);
    rig_settle(rig, 0, VERDICT_STORED);
    expect(sensor, "PUBREC 2");
    peer_publish(sensor, "db/a", "1", 2, 2, true);
    expect(sensor, "PUBREC 2");
    assert_int_equal(rig->message_count, 1);
}

// We stop between the delivery and the end of PostgreSQL's transaction that forgets: what comes
// under the identifier later is new.
static void forgetting_goes_on_after_a_restart(void **state)
{
    struct rig *rig = *state;
    struct peer *sensor = rig_open_sensor(rig, PACKET_V5);
    struct peer screen;
    peer_connect(&screen, rig, PACKET_V5, "screen", true);
    peer_subscribe(&screen, "db/#", 1);
    receive(sensor, 1);
    peer_send_ack(sensor, PACKET_PUBREL, 1);
    expect(&screen, "PUBLISH 1 db/a=1");
    peer_send_ack(&screen, PACKET_PUBACK, 1);
    expect_nothing(&screen);
    expect_nothing(sensor);
    peer_close(&screen);
    restart(sensor);
    rig->forget_count = 0; // its transaction never was
    assert_int_equal(rig->stored_count, 1);
    peer_connect(&screen, rig, PACKET_V5, "screen", true);
    peer_come_back(sensor);
    peer_send_ack(sensor, PACKET_PUBREL, 1);
    expect_nothing(sensor);
    rig_forget_now(rig);
    expect(sensor, "PUBCOMP 1");
    expect_nothing(&screen); // not again
    receive(sensor, 1);
    assert_int_equal(rig->message_count, 1);
    peer_close(&screen);
}

// The publisher learns of it; then the exchange is over.
static void a_reject_ends_the_exchange(void **state)
{
    struct rig *rig = *state;
    struct peer *sensor = rig_open_sensor(rig, PACKET_V5);
    rig_settle(rig, peer_hand_up(sensor, 1, false), VERDICT_REJECTED);
    expect_nothing(sensor);
    rig_wait(rig, rig->forget_count == 1);
    rig_forget_now(rig);
    expect(sensor, "PUBREC 1 99");
    assert_int_equal(rig->stored_count, 0);
    peer_send_ack(sensor, PACKET_PUBREL, 1);
    expect(sensor, "PUBCOMP 1 92");
    receive(sensor, 1);
}

static void a_reject_is_no_secret_of_mqtt_5_alone(void **state)
{
    struct rig *rig = *state;
    struct peer *sensor = rig_open_sensor(rig, PACKET_V311);
    rig_settle(rig, peer_hand_up(sensor, 1, false), VERDICT_REJECTED);
    expect(sensor, "PUBREC 1"); // 3.1.1 has no words for it
    peer_send_ack(sensor, PACKET_PUBREL, 1);
    rig_wait(rig, rig->forget_count == 1);
    rig_forget_now(rig);
    expect(sensor, "PUBCOMP 1");
}

// The verdict comes while nobody is connected, or by another connection.
static void the_exchange_outlives_the_connection(void **state)
{
    struct rig *rig = *state;
    struct peer *sensor = rig_open_sensor(rig, PACKET_V311);
    size_t first = peer_hand_up(sensor, 1, false);
    peer_close(sensor);
    rig_settle(rig, first, VERDICT_STORED);
    peer_come_back(sensor);
    peer_publish(sensor, "db/a", "1", 2, 1, true);
    expect(sensor, "PUBREC 1");

    size_t second = peer_hand_up(sensor, 2, false);
    peer_close(sensor);
    peer_come_back(sensor);
    peer_publish(sensor, "db/a", "1", 2, 2, true);
    expect_nothing(sensor);
    rig_settle(rig, second, VERDICT_STORED);
    expect(sensor, "PUBREC 2");
    assert_int_equal(rig->message_count, 2);
}

static void a_new_session_is_another_incarnation(void **state)
{
    struct rig *rig = *state;
    struct peer *sensor = rig_open_sensor(rig, PACKET_V5);
    peer_hand_up(sensor, 1, false);
    uint64_t session = rig->messages[0]->session;
    peer_close(sensor);
    struct packet packet = connect_packet(PACKET_V5, "sensor", true);
    packet.connect.clean_start = true;
    peer_open(sensor, rig, PACKET_V5);
    peer_send(sensor, &packet);
    expect(sensor, "CONNACK 00");
    assert_int_equal(rig->ended, session);
    peer_hand_up(sensor, 1, false);
    assert_true(rig->messages[1]->session != session);
    rig_settle(rig, 0, VERDICT_STORED); // of the other one
    expect_nothing(sensor);
    rig_settle(rig, 1, VERDICT_STORED);
    expect(sensor, "PUBREC 1");
}

static void what_is_abandoned_is_new_again(void **state)
{
    struct rig *rig = *state;
    struct peer *sensor = rig_open_sensor(rig, PACKET_V5);
    rig_settle(rig, peer_hand_up(sensor, 1, false), VERDICT_ABANDONED);
    expect(sensor, "DISCONNECT 83");
    peer_close(sensor);
    peer_come_back(sensor);
    rig_settle(rig, peer_hand_up(sensor, 1, true), VERDICT_STORED);
    expect(sensor, "PUBREC 1");
}

static void pubrel_before_pubrec_breaks_the_protocol(void **state)
{
    struct peer *sensor = rig_open_sensor(*state, PACKET_V5);
    peer_publish(sensor, "db/a", "1", 2, 1, false);
    peer_send_ack(sensor, PACKET_PUBREL, 1);
    expect(sensor, "DISCONNECT 82");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_set_up_durable, rig_tear_down)
        TEST(a_session_that_ends_with_its_connection),
        TEST(pubcomp_waits_until_the_identifier_is_forgotten),
        TEST(nothing_is_judged_before_the_identifiers_are_known),
        TEST(what_is_stored_is_not_stored_again),
        TEST(what_is_not_stored_is_stored_after_all),
        TEST(forgetting_goes_on_after_a_restart),
        TEST(a_reject_ends_the_exchange),
        TEST(a_reject_is_no_secret_of_mqtt_5_alone),
        TEST(the_exchange_outlives_the_connection),
        TEST(a_new_session_is_another_incarnation),
        TEST(what_is_abandoned_is_new_again),
        TEST(pubrel_before_pubrec_breaks_the_protocol),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
