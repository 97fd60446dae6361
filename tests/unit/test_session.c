// Sessions, what they queue and send, and the acknowledgements of their clients.
#include "session_rig.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

// ---- the table ----

static void sessions_are_found(void **state)
{
    struct rig *rig = *state;
    char name[20];
    uint64_t ids[500];
    for (unsigned i = 0; i < COUNT(ids); i++) {
        snprintf(name, sizeof name, "client-%u", i);
        struct session *session =
            session_new(rig->sessions, bytes_of(name), "ann", PACKET_V311, i % 2 ? 60 : 0);
        assert_string_equal(session->client_id, name);
        assert_string_equal(session->username, "ann");
        assert_true(session->durable == (i % 2 == 1));
        ids[i] = session->id;
        assert_true(ids[i] > 0 && ids[i] <= INT64_MAX);
    }
    assert_int_equal(rig->sessions->count, COUNT(ids));
    for (unsigned i = 0; i < COUNT(ids); i++) {
        snprintf(name, sizeof name, "client-%u", i);
        assert_ptr_equal(rig_find(rig, name), session_by_id(rig->sessions, ids[i]));
        if (i % 3 == 0)
            session_end(rig_find(rig, name));
    }
    for (unsigned i = 0; i < COUNT(ids); i++) {
        snprintf(name, sizeof name, "client-%u", i);
        assert_int_equal(rig_find(rig, name) != NULL, i % 3 != 0);
        assert_int_equal(session_by_id(rig->sessions, ids[i]) != NULL, i % 3 != 0);
    }
    assert_null(rig_find(rig, "client-"));
    assert_null(rig_find(rig, "nobody"));
    assert_null(session_by_id(rig->sessions, 0));
}

// [MQTT-3.1.2-23]
static void a_session_ends_with_its_connection_or_later(void **state)
{
    struct rig *rig = *state;
    struct peer peer = peer_make(10);
    session_detach(rig_connect(rig, &peer, "at-once", 0));
    assert_null(rig_find(rig, "at-once"));
    assert_string_equal(rig->ended, "at-once ");
    session_detach(rig_connect(rig, &peer, "soon", 1));
    session_detach(rig_connect(rig, &peer, "back", 1));
    session_detach(rig_connect(rig, &peer, "never", RIG_FOREVER));
    assert_int_equal(rig->sessions->count, 3);
    rig_connect(rig, &peer, "back", 1);
    rig_wait(rig, !rig_find(rig, "soon"));
    assert_string_equal(rig->ended, "at-once soon ");
    assert_non_null(rig_find(rig, "back"));
    assert_non_null(rig_find(rig, "never"));
}

static void the_expiry_of_the_last_word_counts(void **state)
{
    struct rig *rig = *state;
    struct peer peer = peer_make(10);
    struct session *session = rig_connect(rig, &peer, "client", 1000);
    session_set_expiry(session, 0);
    session_detach(session);
    assert_null(rig_find(rig, "client"));
    session_detach(rig_connect(rig, &peer, "client", 1000));
    session_detach(rig_connect(rig, &peer, "client", 0));
    assert_null(rig_find(rig, "client"));
}

// ---- packet identifiers, window ----

static void identifiers_count_from_one(void **state)
{
    struct rig *rig = *state;
    struct peer peer = peer_make(3);
    rig_join(rig, &peer, "client", 0, "#", 2);
    rig_publish(rig, "t", "a", 1);
    rig_publish(rig, "t", "b", 2);
    rig_publish(rig, "t", "c", 0);
    rig_publish(rig, "t", "d", 1);
    rig_publish(rig, "t", "e", 1);
    assert_seen(&peer, "1#1 t a; 2#2 t b; 0#0 t c; 1#3 t d");
    assert_int_equal(rig_ack(&peer, PACKET_PUBACK, 3), SESSION_ACK_OK);
    rig_publish(rig, "t", "f", 1);
    assert_seen(&peer, "1#4 t e");
    assert_int_equal(rig_ack(&peer, PACKET_PUBACK, 1), SESSION_ACK_OK);
    assert_seen(&peer, "1#5 t f");
    assert_int_equal(rig->sessions->queued, 3);
}

static void identifiers_in_use_are_not_given_again(void **state)
{
    struct rig *rig = *state;
    struct peer peer = peer_make(10);
    peer.silent = true;
    struct session *session = rig_join(rig, &peer, "client", 0, "#", 1);
    for (unsigned i = 1; i <= 65535; i++) {
        rig_publish(rig, "t", "x", 1);
        if (i != 1 && i != 2 && i != 5)
            assert_int_equal(rig_ack(&peer, PACKET_PUBACK, (uint16_t)i), SESSION_ACK_OK);
    }
    peer.silent = false;
    for (unsigned i = 0; i < 4; i++)
        rig_publish(rig, "t", "y", 1);
    assert_seen(&peer, "1#3 t y; 1#4 t y; 1#6 t y; 1#7 t y");
    assert_int_equal(session->queue_count, 7);
    assert_int_equal(rig_ack(&peer, PACKET_PUBACK, 5), SESSION_ACK_OK);
    assert_int_equal(rig_ack(&peer, PACKET_PUBACK, 5), SESSION_ACK_UNKNOWN);
}

// [MQTT-3.3.4-9], [MQTT-4.6.0-6]
static void order_is_kept_through_queueing(void **state)
{
    struct rig *rig = *state;
    struct peer peer = peer_make(2);
    struct session *session = rig_join(rig, &peer, "client", 100, "#", 1);
    rig_publish_each(rig, "t", "abcdef");
    assert_seen(&peer, "1#1 t a; 1#2 t b");
    peer.blocked = true;
    rig_ack(&peer, PACKET_PUBACK, 1);
    rig_ack(&peer, PACKET_PUBACK, 2);
    assert_seen(&peer, "");
    peer.blocked = false;
    session_pump(session);
    assert_seen(&peer, "1#3 t c; 1#4 t d");
    session_detach(session);
    rig_publish(rig, "t", "g", 1);
    peer.sink.window = 100;
    rig_connect(rig, &peer, "client", 100);
    assert_seen(&peer, "1#3 t c dup; 1#4 t d dup; 1#5 t e; 1#6 t f; 1#7 t g");
}

static void an_acknowledgement_from_within_is_taken(void **state)
{
    struct rig *rig = *state;
    struct peer peer = peer_make(1);
    struct session *session = rig_join(rig, &peer, "client", 100, "#", 1);
    session_detach(session);
    rig_publish_each(rig, "t", "abcdefghijkl");
    peer.eager = true;
    rig_connect(rig, &peer, "client", 100);
    assert_int_equal(peer.count, 12);
    assert_int_equal(session->queue_count, 0);
    assert_int_equal(session->queue_capacity, 0);
}

// ---- the two exchanges ----

// A script: P publishes with QoS 2, p with QoS 1, R a PUBREC, E one that is an error, C a PUBCOMP,
// A a PUBACK, of identifier 1; D breaks the connection and comes again.
static const struct {
    const char *name, *script, *seen;
    enum session_ack last; // of the script's last acknowledgement
    unsigned left;         // in the queue
} exchanges[] = {
    {"QoS 1", "pA", "1#1 t x", SESSION_ACK_OK, 0},
    {"QoS 1 again", "pDA", "1#1 t x; 1#1 t x dup", SESSION_ACK_OK, 0},
    {"QoS 1, acknowledged twice", "pAA", "1#1 t x", SESSION_ACK_UNKNOWN, 0},
    {"QoS 1, PUBREC", "pR", "1#1 t x", SESSION_ACK_WRONG, 1},
    {"QoS 1, PUBCOMP", "pC", "1#1 t x", SESSION_ACK_WRONG, 1},
    {"QoS 2", "PRC", "2#1 t x; rel#1", SESSION_ACK_OK, 0},
    {"QoS 2, nothing came", "PDRC", "2#1 t x; 2#1 t x dup; rel#1", SESSION_ACK_OK, 0},
    {"QoS 2, PUBREC came", "PRDC", "2#1 t x; rel#1; rel#1", SESSION_ACK_OK, 0},
    {"QoS 2, PUBREC twice", "PRRC", "2#1 t x; rel#1; rel#1", SESSION_ACK_OK, 0},
    {"QoS 2, PUBCOMP too soon", "PC", "2#1 t x", SESSION_ACK_WRONG, 1},
    {"QoS 2, PUBACK", "PA", "2#1 t x", SESSION_ACK_WRONG, 1},
    {"QoS 2, PUBACK after PUBREC", "PRA", "2#1 t x; rel#1", SESSION_ACK_WRONG, 1},
    {"QoS 2, refused", "PE", "2#1 t x", SESSION_ACK_OK, 0},
    {"QoS 2, refused, and on", "PER", "2#1 t x", SESSION_ACK_UNKNOWN, 0},
    {"QoS 2, refused after all", "PRE", "2#1 t x; rel#1", SESSION_ACK_OK, 0},
    {"nothing is in flight", "R", "", SESSION_ACK_UNKNOWN, 0},
    {"nothing is in flight, PUBACK", "A", "", SESSION_ACK_UNKNOWN, 0},
};

static enum session_ack play(struct rig *rig, struct peer *peer, char step)
{
    switch (step) {
    case 'P':
    case 'p':
        rig_publish(rig, "t", "x", step == 'P' ? 2 : 1);
        break;
    case 'D':
        session_detach(peer->session);
        rig_connect(rig, peer, "client", 100);
        break;
    case 'R':
        return rig_ack(peer, PACKET_PUBREC, 1);
    case 'E':
        return session_take_ack(peer->session, PACKET_PUBREC, 1, REASON_QUOTA_EXCEEDED);
    case 'C':
        return rig_ack(peer, PACKET_PUBCOMP, 1);
    case 'A':
        return rig_ack(peer, PACKET_PUBACK, 1);
    }
    return SESSION_ACK_OK;
}

static void play_exchange(struct rig *rig, size_t i)
{
    struct peer peer = peer_make(10);
    rig_join(rig, &peer, "client", 100, "#", 2);
    enum session_ack last = SESSION_ACK_OK;
    for (const char *step = exchanges[i].script; *step; step++)
        last = play(rig, &peer, *step);
    if (last != exchanges[i].last || strcmp(peer.seen, exchanges[i].seen) != 0 ||
        peer.session->queue_count != exchanges[i].left)
        fail_msg("%s: %d, '%s', %u left", exchanges[i].name, last, peer.seen,
                 peer.session->queue_count);
    session_end(peer.session);
}

static void exchanges_go_their_way(void **state)
{
    for (size_t i = 0; i < COUNT(exchanges); i++)
        play_exchange(*state, i);
}

// [MQTT-4.4.0-1]
static void what_is_unacknowledged_comes_again_in_order(void **state)
{
    struct rig *rig = *state;
    struct peer peer = peer_make(4);
    struct session *session = rig_join(rig, &peer, "client", 100, "#", 2);
    rig_publish(rig, "t", "a", 1);
    rig_publish(rig, "t", "b", 2);
    rig_publish(rig, "t", "c", 2);
    rig_publish(rig, "t", "d", 1);
    rig_publish(rig, "t", "e", 2);
    rig_ack(&peer, PACKET_PUBREC, 2);
    session_detach(session);
    peer.seen[0] = '\0';
    rig_connect(rig, &peer, "client", 100);
    assert_seen(&peer, "1#1 t a dup; rel#2; 2#3 t c dup; 1#4 t d dup");
    rig_ack(&peer, PACKET_PUBCOMP, 2);
    assert_seen(&peer, "2#5 t e");
    session_detach(session);
    peer.sink.window = 1; // the new connection takes less
    rig_connect(rig, &peer, "client", 100);
    assert_seen(&peer, "1#1 t a dup");
    rig_ack(&peer, PACKET_PUBACK, 1);
    assert_seen(&peer, "2#3 t c dup");
}

// ---- what is not sent ----

static void a_slow_reader_loses_qos_0_alone(void **state)
{
    struct rig *rig = *state;
    struct peer peer = peer_make(10);
    struct session *session = rig_join(rig, &peer, "client", 0, "#", 1);
    peer.blocked = true;
    rig_publish(rig, "t", "a", 0);
    rig_publish(rig, "t", "b", 1);
    assert_int_equal(rig->sessions->counters.dropped_slow, 1);
    assert_int_equal(session->dropped, 1);
    peer.blocked = false;
    session_pump(session);
    assert_seen(&peer, "1#1 t b");
}

static void qos_0_is_not_kept_for_the_absent(void **state)
{
    struct rig *rig = *state;
    struct peer peer = peer_make(10);
    struct session *session = rig_join(rig, &peer, "client", 100, "#", 2);
    session_detach(session);
    rig_publish(rig, "t", "a", 0);
    rig_publish(rig, "t", "b", 1);
    rig_connect(rig, &peer, "client", 100);
    assert_seen(&peer, "1#1 t b");
    assert_int_equal(session->dropped, 0);
}

// [MQTT-3.1.2-24], [MQTT-3.1.2-25]
static void what_is_too_large_counts_as_sent(void **state)
{
    struct rig *rig = *state;
    struct peer peer = peer_make(1);
    peer.largest = 3;
    struct session *session = rig_join(rig, &peer, "client", 100, "#", 2);
    rig_publish(rig, "t", "four", 1);
    rig_publish(rig, "t", "four", 2);
    rig_publish(rig, "t", "four", 0);
    rig_publish(rig, "t", "abc", 1);
    assert_seen(&peer, "1#3 t abc");
    assert_int_equal(session->queue_count, 1);
}

static void a_full_queue_refuses_the_newest(void **state)
{
    struct rig *rig = *state;
    struct peer peer = peer_make(1);
    rig->sessions->limits.queued_messages = 2;
    struct session *session = rig_join(rig, &peer, "client", 100, "#", 1);
    for (unsigned i = 0; i < 3; i++) // one is in flight, two wait
        assert_int_equal(rig_publish(rig, "t", "a", 1).refused, 0);
    assert_int_equal(rig_publish(rig, "t", "b", 1).refused, 1);
    assert_int_equal(rig->sessions->counters.dropped_full, 1);
    assert_int_equal(session->dropped, 1);
    rig_ack(&peer, PACKET_PUBACK, 1);
    assert_int_equal(rig_publish(rig, "t", "c", 1).refused, 0);
    assert_int_equal(session->queue_count, 3);
    peer.silent = true;
    for (uint16_t i = 2; i <= 4; i++)
        assert_int_equal(rig_ack(&peer, PACKET_PUBACK, i), SESSION_ACK_OK);
}

static void bytes_and_memory_are_bounds_too(void **state)
{
    struct rig *rig = *state;
    struct peer peer = peer_make(1);
    rig->sessions->limits.queued_bytes = 3000;
    struct session *session = rig_join(rig, &peer, "client", 100, "#", 1);
    session_detach(session);
    char large[2001] = "";
    memset(large, 'x', sizeof large - 1);
    assert_int_equal(rig_publish(rig, "t", large, 1).refused, 0);
    assert_int_equal(rig_publish(rig, "t", large, 1).refused, 1);
    assert_int_equal(rig_publish(rig, "t", "small", 1).refused, 0);
    assert_int_equal(session->queue_count, 2);
    rig->budget.limit = rig->budget.used;
    assert_int_equal(rig_publish(rig, "t", "small", 1).refused, 1);
    assert_int_equal(rig_retain(rig, "t", "small", 0).refused, 1);
    assert_int_equal(rig_subscribe(session, "more", 1, 0), REASON_QUOTA_EXCEEDED);
    assert_int_equal(rig_subscribe(session, "#", 2, 0), 2);
    rig->budget.limit = 64 << 20;
    budget_give(&rig->budget, 0);
    assert_int_equal(rig_publish(rig, "t", "small", 1).refused, 0);
}

// If nothing else is queued, a message of any size may be.
static void one_message_may_be_larger_than_the_queue(void **state)
{
    struct rig *rig = *state;
    struct peer peer = peer_make(1);
    rig->sessions->limits.queued_bytes = 10;
    rig_join(rig, &peer, "client", 0, "#", 1);
    assert_int_equal(rig_publish(rig, "t", "longer than ten bytes", 1).refused, 0);
    assert_seen(&peer, "1#1 t longer than ten bytes");
}

// [MQTT-3.3.2-5]
static void what_has_expired_is_not_sent(void **state)
{
    struct rig *rig = *state;
    struct peer peer = peer_make(1);
    rig_join(rig, &peer, "client", 100, "#", 1);
    rig_publish(rig, "t", "a", 1);
    rig_publish_expiring(rig, "t", "soon", 1, 200);
    rig_publish(rig, "t", "b", 1);
    rig_publish_expiring(rig, "t", "past", 0, 0);
    rig_pass(rig, 200);
    assert_int_equal(rig->sessions->counters.dropped_expired, 1);
    assert_seen(&peer, "1#1 t a");
    rig_ack(&peer, PACKET_PUBACK, 1);
    assert_seen(&peer, "1#3 t b");
    assert_int_equal(rig->sessions->counters.dropped_expired, 2);
}

// A client may have it already, and its identifier with it.
static void what_has_been_sent_does_not_expire(void **state)
{
    struct rig *rig = *state;
    struct peer peer = peer_make(1);
    struct session *session = rig_join(rig, &peer, "client", 100, "#", 2);
    rig_publish_expiring(rig, "t", "soon", 2, 200);
    assert_seen(&peer, "2#1 t soon");
    session_detach(session);
    rig_pass(rig, 200);
    rig_connect(rig, &peer, "client", 100);
    assert_seen(&peer, "2#1 t soon dup");
}

// ---- memory ----

static void an_idle_session_is_small(void **state)
{
    struct rig *rig = *state;
    struct peer peer = peer_make(100);
    size_t before = rig->budget.used;
    struct session *session = rig_join(rig, &peer, "client", 0, "sensors/altimeter/1", 1);
    size_t idle = rig->budget.used;
    assert_true(idle - before < 400);
    for (unsigned i = 0; i < 50; i++)
        rig_publish(rig, "sensors/altimeter/1", "x", 1);
    assert_true(rig->budget.used > idle + 50 * sizeof(struct delivery));
    for (uint16_t i = 1; i <= 50; i++)
        assert_int_equal(rig_ack(&peer, PACKET_PUBACK, i), SESSION_ACK_OK);
    assert_int_equal(rig->budget.used, idle);
    session_end(session);
    assert_int_equal(rig->budget.used, before);
    assert_int_equal(rig->sessions->subscription_count, 0);
    assert_int_equal(rig->sessions->queued, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_set_up, rig_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(sessions_are_found),
        TEST(a_session_ends_with_its_connection_or_later),
        TEST(the_expiry_of_the_last_word_counts),
        TEST(identifiers_count_from_one),
        TEST(identifiers_in_use_are_not_given_again),
        TEST(order_is_kept_through_queueing),
        TEST(an_acknowledgement_from_within_is_taken),
        TEST(exchanges_go_their_way),
        TEST(what_is_unacknowledged_comes_again_in_order),
        TEST(a_slow_reader_loses_qos_0_alone),
        TEST(qos_0_is_not_kept_for_the_absent),
        TEST(what_is_too_large_counts_as_sent),
        TEST(a_full_queue_refuses_the_newest),
        TEST(bytes_and_memory_are_bounds_too),
        TEST(one_message_may_be_larger_than_the_queue),
        TEST(what_has_expired_is_not_sent),
        TEST(what_has_been_sent_does_not_expire),
        TEST(an_idle_session_is_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
