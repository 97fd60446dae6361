// What of the sessions outlives the process: after a clean end, and after a crash.
#include "session_rig.h"

#include "broker/incoming.h"
#include "broker/retained.h"

static void again(struct rig *rig, bool crash)
{
    if (crash)
        rig_settle(rig);
    (crash ? rig_crash : rig_restart)(rig);
}

// Each story twice: after a clean end of the process, and after a crash.
#define TWICE(name)                                                                                \
    static void name##_after_an_end(void **state)                                                  \
    {                                                                                              \
        name(*state, false);                                                                       \
    }                                                                                              \
    static void name##_after_a_crash(void **state)                                                 \
    {                                                                                              \
        name(*state, true);                                                                        \
    }

// [MQTT-4.1.0-1]
static void sessions_come_back(struct rig *rig, bool crash)
{
    struct peer peer = peer_make(10);
    struct session *session =
        session_new(rig->sessions, bytes_of("ann's"), "ann", PACKET_V311, 1000);
    uint64_t id = session->id;
    session_attach(session, &peer.sink);
    struct packet_filter options = {.filter = bytes_of("a/+"),
                                    .qos = 2,
                                    .no_local = true,
                                    .retain_as_published = true};
    bool is_new;
    session_subscribe(session, &options, 77, &is_new);
    rig_subscribe(session, "gone", 1, 0);
    rig_subscribe(session, "changed", 1, 3);
    rig_subscribe(session, "changed", 0, 4);
    rig_subscribe(session, "$share/g/b", 1, 5);
    session_unsubscribe(session, bytes_of("gone"));
    session_detach(rig_connect(rig, &peer, "ended", 1000));
    session_end(rig_find(rig, "ended"));
    session_detach(rig_connect(rig, &peer, "forever", RIG_FOREVER));
    rig_connect(rig, &peer, "of the connection", 0);
    again(rig, crash);

    assert_int_equal(rig->sessions->count, 2);
    assert_non_null(rig_find(rig, "forever"));
    session = rig_find(rig, "ann's");
    assert_int_equal(session->id, id);
    assert_string_equal(session->username, "ann");
    assert_int_equal(session->version, PACKET_V311);
    assert_int_equal(session->expiry, 1000);
    assert_true(session->durable && wheel_started(&session->expires));
    assert_int_equal(session->subscription_count, 3);
    peer = peer_make(10);
    rig_connect(rig, &peer, "ann's", 1000);
    struct publication *own = rig_message(rig, "a/x", "own", 1);
    own->publisher = id;
    rig_send(rig, own);
    rig_retain(rig, "a/x", "1", 1);
    rig_publish(rig, "changed", "2", 1);
    rig_publish(rig, "gone", "3", 1);
    rig_publish(rig, "b", "4", 1);
    assert_seen(&peer, "1#1 a/x 1 retain 77; 0#0 changed 2 4; 1#2 b 4 5");
}

// [MQTT-4.4.0-1]
static void deliveries_come_back(struct rig *rig, bool crash)
{
    struct peer peer = peer_make(4);
    struct session *session = rig_connect(rig, &peer, "client", 1000);
    rig_subscribe(session, "#", 2, 300);
    rig_subscribe(session, "t", 2, 4);
    rig_publish(rig, "t", "a", 1);
    rig_publish(rig, "t", "b", 2);
    rig_publish(rig, "t", "c", 2);
    rig_settle(rig);
    rig_publish(rig, "u", "d", 1);
    rig_publish(rig, "t", "e", 1); // the window is full
    assert_seen(&peer, "1#1 t a 4 300; 2#2 t b 4 300; 2#3 t c 4 300; 1#4 u d 300");
    assert_int_equal(rig_ack(&peer, PACKET_PUBREC, 2), SESSION_ACK_OK);
    assert_int_equal(rig_ack(&peer, PACKET_PUBACK, 4), SESSION_ACK_OK);
    session_detach(session);
    rig_publish(rig, "t", "f", 2);
    rig_publish(rig, "t", "not kept", 0);
    rig_retain(rig, "t", "g", 1);
    again(rig, crash);

    session = rig_find(rig, "client");
    assert_int_equal(session->queue_count, 6);
    assert_int_equal(rig->sessions->queued, 6);
    rig_publish(rig, "t", "h", 1);
    peer = peer_make(100);
    rig_connect(rig, &peer, "client", 1000);
    assert_string_equal(peer.seen,
                        "1#1 t a dup 4 300; rel#2; 2#3 t c dup 4 300; "
                        "1#5 t e dup 4 300; 2#6 t f 4 300; 1#7 t g 4 300; 1#8 t h 4 300");
    for (uint16_t id = 1; id <= 8; id++)
        if (id == 2)
            assert_int_equal(rig_ack(&peer, PACKET_PUBCOMP, id), SESSION_ACK_OK);
        else if (id != 3 && id != 6 && id != 4)
            assert_int_equal(rig_ack(&peer, PACKET_PUBACK, id), SESSION_ACK_OK);
    again(rig, crash);

    peer = peer_make(100);
    session = rig_connect(rig, &peer, "client", 1000);
    assert_seen(&peer, "2#3 t c dup 4 300; 2#6 t f dup 4 300");
    assert_int_equal(rig_ack(&peer, PACKET_PUBREC, 3), SESSION_ACK_OK);
    assert_int_equal(rig_ack(&peer, PACKET_PUBREC, 6), SESSION_ACK_OK);
    rig_settle(rig);
    assert_seen(&peer, "rel#3; rel#6");
    assert_int_equal(rig_ack(&peer, PACKET_PUBCOMP, 6), SESSION_ACK_OK);
    assert_int_equal(rig_ack(&peer, PACKET_PUBCOMP, 3), SESSION_ACK_OK);
    again(rig, crash);
    assert_int_equal(rig_find(rig, "client")->queue_count, 0);
}

// Who was there when the process ended may have been sent anything.
static void what_was_in_flight_is_a_duplicate(struct rig *rig, bool crash)
{
    struct peer peer = peer_make(10), other = peer_make(10);
    struct session *session = rig_join(rig, &peer, "client", 1000, "#", 2);
    session_detach(session);
    rig_publish(rig, "t", "a", 1);
    rig_connect(rig, &peer, "client", 1000);
    rig_publish(rig, "t", "b", 2);
    rig_join(rig, &other, "other", 1000, "t", 1);
    rig_publish(rig, "t", "o", 1);
    rig_settle(rig);
    assert_seen(&peer, "1#1 t a; 2#2 t b; 1#3 t o");
    again(rig, crash);
    other = peer_make(10);
    rig_connect(rig, &other, "other", 1000);
    assert_seen(&other, "1#1 t o dup");
    session_end(other.session);
    rig_publish(rig, "t", "c", 1);
    again(rig, crash);
    peer = peer_make(10);
    rig_connect(rig, &peer, "client", 1000);
    assert_seen(&peer, "1#1 t a dup; 2#2 t b dup; 1#3 t o dup; 1#4 t c");
}

// Of what has expired, QoS 2 goes on where the client may have it, and its identifier with it.
static void what_was_sent_does_not_expire(struct rig *rig, bool crash)
{
    struct peer peer = peer_make(10);
    struct session *session = rig_join(rig, &peer, "client", 1000, "#", 2);
    for (unsigned i = 0; i < 2; i++) {
        rig_publish_expiring(rig, "t", i ? "unsent" : "sent", 2, 2000);
        rig_settle(rig);
        if (i == 0)
            session_detach(session);
    }
    assert_seen(&peer, "2#1 t sent");
    rig_pass(rig, 2000);
    again(rig, crash);
    rig_connect(rig, &peer, "client", 1000);
    assert_seen(&peer, "2#1 t sent dup");
}

static void retained_messages_come_back(struct rig *rig, bool crash)
{
    struct peer peer = peer_make(10);
    assert_true(rig_retain(rig, "t/1", "first", 1).stored);
    assert_true(rig_retain(rig, "t/1", "second", 2).stored);
    assert_true(rig_retain(rig, "t/2", "gone", 1).stored);
    assert_true(rig_retain(rig, "t/2", "", 1).stored);
    assert_false(rig_retain(rig, "$SYS/broker/uptime", "1", 0).stored);
    struct publication *soon = rig_message(rig, "t/3", "soon", 0);
    soon->retain = true;
    soon->expires_ms = loop_now_ms() + 30000;
    rig_send(rig, soon);
    assert_false(rig_publish(rig, "t/4", "not retained", 1).stored);
    again(rig, crash);

    assert_int_equal(retained_count(rig->sessions->retained), 2);
    rig_join(rig, &peer, "client", 0, "#", 2);
    assert_seen(&peer, "2#1 t/1 second retain; 0#0 t/3 soon retain");
}

static void incoming_exchanges_come_back(struct rig *rig, bool crash)
{
    struct peer peer = peer_make(10);
    struct session *session = rig_connect(rig, &peer, "client", 1000);
    struct publication *message = rig_message(rig, "t", "x", 2);
    struct state_incoming row = {.packet_id = 12};
    state_put_incoming(rig->state, session->id, &row, message);
    publication_release(message);
    again(rig, crash);
    struct exchange *exchange = incoming_find(rig_find(rig, "client"), 12);
    assert_non_null(exchange);
    assert_int_equal(exchange->publication->qos, 2);
}

// Connections end with the process; what is to come then, comes at the next start or later.
static void wills_come_true(struct rig *rig, bool crash)
{
    struct peer watch = peer_make(10), peer = peer_make(10);
    struct session *session = rig_join(rig, &watch, "watch", 1000, "#", 1);
    session_detach(session);
    rig_leave_will(rig, rig_connect(rig, &peer, "ends", 0), "will/ends", 1000);
    rig_leave_will(rig, rig_connect(rig, &peer, "no-delay", 1000), "will/no-delay", 0);
    rig_leave_will(rig, rig_connect(rig, &peer, "delay", 1000), "will/delay", 1);
    rig_leave_will(rig, rig_connect(rig, &peer, "back", 1000), "will/back", 1000);
    session = rig_connect(rig, &peer, "good-bye", 0);
    rig_leave_will(rig, session, "will/good-bye", 0);
    session_drop_will(session);
    session = rig_connect(rig, &peer, "published", 1000);
    rig_leave_will(rig, session, "will/published", 0);
    session_detach(session);
    again(rig, crash);

    assert_null(rig_find(rig, "ends"));
    assert_null(rig_find(rig, "good-bye"));
    watch = peer_make(10);
    rig_connect(rig, &watch, "watch", 1000);
    assert_int_equal(watch.count, 3);
    assert_non_null(strstr(watch.seen, "will/published"));
    assert_non_null(strstr(watch.seen, "will/ends"));
    assert_non_null(strstr(watch.seen, "will/no-delay"));
    rig_connect(rig, &peer, "back", 1000);
    rig_wait(rig, watch.count == 4);
    assert_non_null(strstr(watch.seen, "will/delay bye"));
    session_end(rig_find(rig, "no-delay"));
    session_end(rig_find(rig, "back"));
    assert_int_equal(watch.count, 4);
    again(rig, crash);
    assert_int_equal(rig_find(rig, "watch")->queue_count, 4); // none a second time
}

// It goes on while nobody runs. What those who are over leave comes to none of them, though they
// share with one who is not.
static void expiry_goes_on(struct rig *rig, bool crash)
{
    enum { OVER = 8 };
    struct peer watch = peer_make(OVER), peer = peer_make(10);
    struct session *session = rig_join(rig, &watch, "watch", 1000, "$share/g/#", 1);
    session_detach(session);
    for (char i = 0; i < OVER; i++) {
        session = rig_connect(rig, &peer, (char[]){(char)('a' + i), 0}, 1);
        rig_leave_will(rig, session, "will", 1000);
        rig_subscribe(session, "$share/g/#", 1, 0);
        session_detach(session);
    }
    rig_connect(rig, &peer, "later", 1);
    if (crash)
        rig_settle(rig);
    int64_t end = loop_now_ms() + 1000;
    while (loop_now_ms() <= end) // the loop does not run, as if the process did not
        usleep(10000);
    again(rig, crash);
    assert_int_equal(rig->sessions->count, 2);
    assert_non_null(rig_find(rig, "later"));
    session = rig_find(rig, "watch");
    assert_true(session->expires.due_ms <= end + 999500);
    watch = peer_make(OVER);
    rig_connect(rig, &watch, "watch", 1000);
    assert_int_equal(watch.count, OVER);
    rig_wait(rig, !rig_find(rig, "later"));
    again(rig, crash);
    assert_int_equal(rig->sessions->count, 1);
}

// A session that is begun anew has nothing of the one before.
static void a_new_session_is_another(struct rig *rig, bool crash)
{
    struct peer peer = peer_make(10);
    struct session *session = rig_join(rig, &peer, "client", 1000, "#", 1);
    rig_publish(rig, "t", "a", 1);
    session_end(session);
    session = rig_join(rig, &peer, "client", 1000, "t", 1);
    rig_publish(rig, "t", "b", 1);
    again(rig, crash);
    session = rig_find(rig, "client");
    assert_int_equal(session->subscription_count, 1);
    assert_int_equal(session->queue_count, 1);
    assert_int_equal(session->next_packet_id, 2);
}

TWICE(sessions_come_back)
TWICE(deliveries_come_back)
TWICE(what_was_in_flight_is_a_duplicate)
TWICE(what_was_sent_does_not_expire)
TWICE(retained_messages_come_back)
TWICE(incoming_exchanges_come_back)
TWICE(wills_come_true)
TWICE(expiry_goes_on)
TWICE(a_new_session_is_another)

// ---- before it is durable ----

static void qos_2_waits_for_the_file(void **state)
{
    struct rig *rig = *state;
    struct peer durable = peer_make(10), other = peer_make(10);
    rig_join(rig, &durable, "durable", 1000, "#", 2);
    rig_join(rig, &other, "other", 0, "#", 2);
    assert_true(rig_publish(rig, "t", "a", 1).stored);
    assert_true(rig_publish(rig, "t", "b", 2).stored);
    rig_publish(rig, "t", "c", 1); // not before b
    assert_seen(&durable, "1#1 t a");
    assert_seen(&other, "1#1 t a; 2#2 t b; 1#3 t c");
    rig_settle(rig);
    assert_seen(&durable, "2#2 t b; 1#3 t c");
    rig_ack(&durable, PACKET_PUBREC, 2);
    rig_ack(&other, PACKET_PUBREC, 2);
    assert_seen(&durable, "");
    assert_seen(&other, "rel#2");
    rig_ack(&durable, PACKET_PUBREC, 2); // impatient
    assert_seen(&durable, "");
    rig_settle(rig);
    assert_seen(&durable, "rel#2");
    assert_int_equal(rig_ack(&durable, PACKET_PUBCOMP, 2), SESSION_ACK_OK);
}

static void a_connection_may_end_while_it_waits(void **state)
{
    struct rig *rig = *state;
    struct peer peer = peer_make(10);
    struct session *session = rig_join(rig, &peer, "client", 1000, "#", 2);
    rig_publish(rig, "t", "a", 2);
    session_detach(session);
    rig_connect(rig, &peer, "client", 1000);
    assert_seen(&peer, "");
    rig_settle(rig);
    assert_seen(&peer, "2#1 t a");
    rig_ack(&peer, PACKET_PUBREC, 1);
    session_detach(session);
    rig_settle(rig);
    assert_seen(&peer, "");
    rig_connect(rig, &peer, "client", 1000);
    assert_seen(&peer, "rel#1");
}

static void a_session_may_end_while_it_waits(void **state)
{
    struct rig *rig = *state;
    struct peer peer = peer_make(10);
    struct session *session = rig_join(rig, &peer, "client", 1000, "#", 2);
    rig_publish(rig, "t", "a", 2);
    session_end(session);
    session = rig_connect(rig, &peer, "client", 1000);
    rig_settle(rig);
    assert_seen(&peer, "");
    assert_int_equal(session->queue_count, 0);
}

static void nothing_is_stored_for_a_session_of_its_connection(void **state)
{
    struct rig *rig = *state;
    struct peer peer = peer_make(10);
    rig_settle(rig);
    struct session *session = rig_join(rig, &peer, "client", 0, "#", 2);
    assert_false(rig_publish(rig, "t", "a", 2).stored);
    rig_ack(&peer, PACKET_PUBREC, 1);
    rig_ack(&peer, PACKET_PUBCOMP, 1);
    session_detach(session);
    assert_true(state_is_durable(rig->state));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_set_up_durable, rig_tear_down)
#define BOTH(name) TEST(name##_after_an_end), TEST(name##_after_a_crash)
    const struct CMUnitTest tests[] = {
        BOTH(sessions_come_back),
        BOTH(deliveries_come_back),
        BOTH(what_was_in_flight_is_a_duplicate),
        BOTH(what_was_sent_does_not_expire),
        BOTH(retained_messages_come_back),
        BOTH(incoming_exchanges_come_back),
        BOTH(wills_come_true),
        BOTH(expiry_goes_on),
        BOTH(a_new_session_is_another),
        TEST(qos_2_waits_for_the_file),
        TEST(a_connection_may_end_while_it_waits),
        TEST(a_session_may_end_while_it_waits),
        TEST(nothing_is_stored_for_a_session_of_its_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
