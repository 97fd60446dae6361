// Who gets a publication, and how: subscriptions, shared ones, retained messages, wills, the ACL.
#include "session_rig.h"

#include "broker/acl.h"
#include "broker/retained.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static uint8_t subscribe_with(struct session *session, const struct packet_filter *options)
{
    bool is_new;
    uint8_t reason = session_subscribe(session, options, 0, &is_new);
    session_send_retained(session, options, 0, is_new);
    return reason;
}

// ---- subscriptions ----

// [MQTT-3.3.4-2], [MQTT-3.8.4-8]
static void the_lower_qos_counts(void **state)
{
    struct rig *rig = *state;
    for (uint8_t published = 0; published <= 2; published++) {
        for (uint8_t granted = 0; granted <= 2; granted++) {
            struct peer peer = peer_make(10);
            rig_join(rig, &peer, "client", 0, "t", granted);
            struct routed routed = rig_publish(rig, "t", "x", published);
            assert_int_equal(routed.matched, 1);
            assert_false(routed.stored);
            uint8_t qos = published < granted ? published : granted;
            char seen[30];
            snprintf(seen, sizeof seen, "%u#%u t x", qos, qos > 0);
            assert_seen(&peer, seen);
            session_detach(peer.session);
        }
    }
}

// [MQTT-3.3.4-2 to -4]
static void a_session_gets_one_copy(void **state)
{
    struct rig *rig = *state;
    struct peer peer = peer_make(10), other = peer_make(10);
    struct session *session = rig_connect(rig, &peer, "client", 0);
    rig_subscribe(session, "a/#", 0, 7);
    rig_subscribe(session, "a/+", 2, 300000);
    rig_subscribe(session, "a/b", 1, 0);
    rig_subscribe(session, "+/b", 1, 9);
    rig_subscribe(session, "c", 1, 10);
    rig_join(rig, &other, "other", 0, "#", 1);
    assert_int_equal(rig_publish(rig, "a/b", "x", 2).matched, 5);
    assert_true(strncmp(peer.seen, "2#1 a/b x ", 10) == 0);
    assert_non_null(strstr(peer.seen, " 7"));
    assert_non_null(strstr(peer.seen, " 9"));
    assert_non_null(strstr(peer.seen, " 300000"));
    assert_int_equal(peer.count, 1);
    assert_seen(&other, "1#1 a/b x");
    peer.seen[0] = '\0';
    rig_publish(rig, "a/c/d", "y", 2);
    assert_seen(&peer, "0#0 a/c/d y 7");
}

static void the_retain_flag_is_for_those_who_ask(void **state)
{
    struct rig *rig = *state;
    struct peer plain = peer_make(10), as_published = peer_make(10);
    rig_join(rig, &plain, "plain", 0, "#", 1);
    struct session *session = rig_join(rig, &as_published, "as-published", 0, "t", 1);
    struct packet_filter options = {.filter = bytes_of("#"), .qos = 1, .retain_as_published = true};
    subscribe_with(session, &options);
    rig_retain(rig, "t", "x", 1);
    rig_publish(rig, "t", "y", 1);
    assert_seen(&plain, "1#1 t x; 1#2 t y");               // [MQTT-3.3.1-12]
    assert_seen(&as_published, "1#1 t x retain; 1#2 t y"); // [MQTT-3.3.1-13]
}

// [MQTT-3.8.3-3]
static void no_local_keeps_ones_own_away(void **state)
{
    struct rig *rig = *state;
    struct peer peer = peer_make(10), other = peer_make(10);
    struct session *session = rig_connect(rig, &peer, "client", 0);
    struct packet_filter options = {.filter = bytes_of("#"), .qos = 1, .no_local = true};
    subscribe_with(session, &options);
    subscribe_with(rig_connect(rig, &other, "other", 0), &options);
    struct publication *own = rig_message(rig, "t", "own", 1);
    own->publisher = session->id;
    own->retain = true;
    rig_send(rig, own);
    rig_publish(rig, "t", "other's", 1);
    assert_seen(&peer, "1#1 t other's");
    assert_seen(&other, "1#1 t own; 1#2 t other's");
    subscribe_with(session, &options);
    assert_seen(&peer, "");
    rig_subscribe(session, "t", 0, 0); // this one has no such option
    assert_seen(&peer, "0#0 t own retain");
}

// [MQTT-3.8.4-3]
static void the_same_filter_replaces(void **state)
{
    struct rig *rig = *state;
    struct peer peer = peer_make(10);
    struct session *session = rig_connect(rig, &peer, "client", 0);
    struct packet_filter options = {.filter = bytes_of("a/+"), .qos = 1};
    bool is_new = false;
    assert_int_equal(session_subscribe(session, &options, 5, &is_new), 1);
    assert_true(is_new);
    rig_publish(rig, "a/b", "x", 2);
    options.qos = 2;
    assert_int_equal(session_subscribe(session, &options, 6, &is_new), 2);
    assert_false(is_new);
    rig_publish(rig, "a/b", "y", 2);
    assert_seen(&peer, "1#1 a/b x 5; 2#2 a/b y 6");
    assert_int_equal(session->subscription_count, 1);
}

// [MQTT-3.10.4-2 to -4]
static void unsubscribing_leaves_what_is_in_flight(void **state)
{
    struct rig *rig = *state;
    struct peer peer = peer_make(1);
    struct session *session = rig_join(rig, &peer, "client", 0, "a", 2);
    rig_subscribe(session, "a/b", 2, 0);
    rig_publish(rig, "a", "x", 2);
    rig_publish(rig, "a", "y", 1);
    assert_false(session_unsubscribe(session, bytes_of("b")));
    assert_false(session_unsubscribe(session, bytes_of("a/")));
    assert_true(session_unsubscribe(session, bytes_of("a")));
    assert_false(session_unsubscribe(session, bytes_of("a")));
    assert_int_equal(rig_publish(rig, "a", "z", 2).matched, 0);
    rig_ack(&peer, PACKET_PUBREC, 1);
    rig_ack(&peer, PACKET_PUBCOMP, 1);
    assert_seen(&peer, "2#1 a x; rel#1; 1#2 a y");
    assert_true(sessions_want(rig->sessions, bytes_of("a/b")));
    assert_false(sessions_want(rig->sessions, bytes_of("a")));
}

static void a_subscription_may_be_refused(void **state)
{
    struct rig *rig = *state;
    rig->sessions->limits.subscriptions = 2;
    struct peer peer = peer_make(1);
    struct session *session = rig_connect(rig, &peer, "client", 0);
    char deep[2 * 128 + 2] = "a";
    for (unsigned i = 1; i < 128; i++)
        strcat(deep, "/a");
    assert_int_equal(rig_subscribe(session, "a/#/b", 1, 0), REASON_TOPIC_FILTER_INVALID);
    assert_int_equal(rig_subscribe(session, "", 1, 0), REASON_TOPIC_FILTER_INVALID);
    assert_int_equal(rig_subscribe(session, "$share/g", 1, 0), REASON_TOPIC_FILTER_INVALID);
    assert_int_equal(rig_subscribe(session, deep, 2, 0), 2);
    strcat(deep, "/");
    assert_int_equal(rig_subscribe(session, deep, 2, 0), REASON_QUOTA_EXCEEDED);
    assert_int_equal(rig_subscribe(session, "one", 0, 0), 0);
    assert_int_equal(rig_subscribe(session, "two", 0, 0), REASON_QUOTA_EXCEEDED);
    assert_int_equal(rig_subscribe(session, "one", 1, 0), 1);
    assert_true(session_unsubscribe(session, bytes_of("one")));
    assert_int_equal(rig_subscribe(session, "two", 0, 0), 0);
    assert_int_equal(rig->sessions->subscription_count, 2);
}

// ---- the ACL ----

static struct acl *acl_of(const char *text)
{
    char path[] = "/tmp/test-session-acl-XXXXXX", *error = NULL;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    struct acl *acl = acl_load(path, &error);
    unlink(path);
    if (!acl)
        fail_msg("%s", error);
    return acl;
}

static void the_acl_is_asked_for_each_delivery(void **state)
{
    struct rig *rig = *state;
    struct peer peer = peer_make(10);
    struct session *session = session_new(rig->sessions, bytes_of("client"), "ann", PACKET_V5, 0);
    session_attach(session, &peer.sink);
    rig_subscribe(session, "#", 1, 0);
    rig_publish(rig, "secret/x", "a", 1);
    struct acl *acl = acl_of("user ann\ntopic read open/#\n");
    rig->sessions->acl = acl;
    rig_publish(rig, "secret/x", "b", 1);
    rig_publish(rig, "secret/x", "c", 0);
    rig_publish(rig, "open/x", "d", 1);
    assert_seen(&peer, "1#1 secret/x a; 1#2 open/x d");
    assert_int_equal(rig->sessions->counters.dropped_denied, 2);
    assert_int_equal(rig_subscribe(session, "secret/#", 1, 0), REASON_NOT_AUTHORIZED);
    assert_int_equal(rig_subscribe(session, "$share/g/secret/#", 1, 0), REASON_NOT_AUTHORIZED);
    assert_int_equal(rig_subscribe(session, "$share/g/open/#", 1, 0), 1);
    session->internal = true; // the broker itself may
    rig_publish(rig, "secret/x", "e", 1);
    assert_seen(&peer, "1#3 secret/x e");
    assert_int_equal(rig_subscribe(session, "secret/#", 1, 0), 1);
    rig->sessions->acl = NULL;
    acl_free(acl);
}

// ---- shared subscriptions ----

// [MQTT-4.8.2-4]
static void a_group_shares_in_turn(void **state)
{
    struct rig *rig = *state;
    struct peer peers[3], outside = peer_make(20);
    for (unsigned i = 0; i < 3; i++) {
        char name[] = {(char)('a' + i), 0};
        peers[i] = peer_make(10);
        rig_subscribe(rig_connect(rig, &peers[i], name, 0), "$share/g/t/#", 1, i);
    }
    rig_join(rig, &outside, "outside", 0, "t/#", 1);
    rig_subscribe(outside.session, "$share/h/t/+", 1, 4);
    for (const char *payload = "123456"; *payload; payload++)
        assert_int_equal(rig_publish(rig, "t/x", (char[]){*payload, 0}, 1).matched, 3);
    assert_seen(&peers[0], "1#1 t/x 1; 1#2 t/x 4");
    assert_seen(&peers[1], "1#1 t/x 2 1; 1#2 t/x 5 1");
    assert_seen(&peers[2], "1#1 t/x 3 2; 1#2 t/x 6 2");
    assert_int_equal(outside.count, 12); // by itself, and as the only one of its group
}

static void a_group_prefers_those_who_read(void **state)
{
    struct rig *rig = *state;
    struct peer a = peer_make(1), b = peer_make(10), away = peer_make(10);
    rig_join(rig, &a, "a", 0, "$share/g/t", 1);
    rig_join(rig, &b, "b", 0, "$share/g/t", 1);
    rig_join(rig, &away, "away", 100, "$share/g/t", 1);
    session_detach(away.session);
    rig_publish_each(rig, "t", "123");
    assert_seen(&a, "1#1 t 1"); // its window is full
    assert_seen(&b, "1#1 t 2; 1#2 t 3");
    b.blocked = true;
    rig_publish(rig, "t", "4", 0);
    assert_seen(&a, "0#0 t 4");
    rig_publish(rig, "t", "5", 1); // somebody who is there will get it sooner
    assert_int_equal(away.session->queue_count, 0);
    assert_int_equal(a.session->queue_count + b.session->queue_count, 4);
    session_detach(a.session);
    session_detach(b.session);
    assert_int_equal(rig_publish(rig, "t", "6", 0).matched, 0); // nobody is there
    rig_publish(rig, "t", "7", 1);
    assert_int_equal(away.session->queue_count, 1);
    rig_connect(rig, &away, "away", 100);
    assert_seen(&away, "1#1 t 7");
}

static void a_group_of_nobody_keeps_nothing(void **state)
{
    struct rig *rig = *state;
    struct peer peer = peer_make(10);
    struct session *session = rig_join(rig, &peer, "client", 100, "$share/g/t", 1);
    assert_true(sessions_want(rig->sessions, bytes_of("t")));
    rig_publish(rig, "t", "x", 1);
    session_end(session); // [MQTT-4.8.2-5]
    assert_false(sessions_want(rig->sessions, bytes_of("t")));
    assert_int_equal(rig_publish(rig, "t", "y", 1).matched, 0);
    session = rig_join(rig, &peer, "client", 100, "$share/g/t", 1);
    assert_seen(&peer, "1#1 t x");
    assert_true(session_unsubscribe(session, bytes_of("$share/g/t")));
    assert_int_equal(rig_publish(rig, "t", "z", 1).matched, 0);
}

static void a_group_passes_over_a_full_queue(void **state)
{
    struct rig *rig = *state;
    rig->sessions->limits.queued_messages = 1;
    struct peer a = peer_make(10), b = peer_make(10);
    rig_join(rig, &a, "a", 100, "$share/g/t", 1);
    rig_join(rig, &b, "b", 100, "$share/g/t", 1);
    rig_subscribe(a.session, "only-a", 1, 0);
    session_detach(a.session);
    session_detach(b.session);
    rig_publish(rig, "only-a", "x", 1);
    assert_int_equal(rig_publish(rig, "t", "1", 1).refused, 0);
    assert_int_equal(b.session->queue_count, 1);
    assert_int_equal(rig_publish(rig, "t", "2", 1).refused, 1);
}

static void no_retained_message_for_a_group(void **state)
{
    struct rig *rig = *state;
    struct peer peer = peer_make(10);
    rig_retain(rig, "t", "x", 1);
    rig_retain(rig, "$share/g/t", "not that either", 1);
    rig_join(rig, &peer, "client", 0, "$share/g/t", 1);
    assert_seen(&peer, "");
}

// ---- retained messages ----

// [MQTT-3.3.1-5 to -8]
static void retained_messages_come_with_the_subscription(void **state)
{
    struct rig *rig = *state;
    struct peer peer = peer_make(10);
    struct session *session = rig_connect(rig, &peer, "client", 0);
    rig_retain(rig, "a/1", "old", 1);
    rig_retain(rig, "a/1", "new", 1);
    rig_retain(rig, "a/2", "zero", 0);
    rig_retain(rig, "a/3", "gone", 2);
    rig_subscribe(session, "a/3", 2, 8);
    assert_seen(&peer, "2#1 a/3 gone retain 8");
    rig_retain(rig, "a/3", "", 1);
    assert_seen(&peer, "1#2 a/3  8"); // the empty one is delivered, and is no retained message
    assert_int_equal(retained_count(rig->sessions->retained), 2);
    rig_subscribe(session, "a/+", 1, 0);
    assert_seen(&peer, "1#3 a/1 new retain; 0#0 a/2 zero retain");
    rig_subscribe(session, "a/+", 0, 0); // each time [MQTT-3.8.4-3]
    assert_seen(&peer, "0#0 a/1 new retain; 0#0 a/2 zero retain");
    assert_false(rig_retain(rig, "none", "", 0).stored);
}

static void retain_handling(void **state)
{
    static const struct {
        uint8_t handling;
        const char *first, *second;
    } cases[] = {
        {0, "0#0 t x retain", "0#0 t x retain"},
        {1, "0#0 t x retain", ""},
        {2, "", ""},
    };
    struct rig *rig = *state;
    rig_retain(rig, "t", "x", 1);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct peer peer = peer_make(10);
        struct session *session = rig_connect(rig, &peer, "client", 0);
        struct packet_filter options = {.filter = bytes_of("t"),
                                        .retain_handling = cases[i].handling};
        subscribe_with(session, &options);
        assert_seen(&peer, cases[i].first);
        subscribe_with(session, &options);
        assert_seen(&peer, cases[i].second);
        session_detach(session);
    }
}

static void an_expired_retained_message_is_gone(void **state)
{
    struct rig *rig = *state;
    struct peer peer = peer_make(10);
    struct publication *message = rig_message(rig, "t", "x", 1);
    message->retain = true;
    message->expires_ms = loop_now_ms() + 20;
    int64_t end = message->expires_ms;
    rig_send(rig, message);
    rig_wait(rig, loop_now_ms() >= end);
    rig_join(rig, &peer, "client", 0, "t", 1);
    assert_seen(&peer, "");
    assert_int_equal(retained_count(rig->sessions->retained), 0);
}

// Snapshots wait where live messages would be dropped or refused, and nothing overtakes them.
static void many_retained_messages_wait_for_a_slow_reader(void **state)
{
    struct rig *rig = *state;
    rig->sessions->limits.queued_messages = 2;
    struct peer peer = peer_make(2);
    struct session *session = rig_connect(rig, &peer, "client", 0);
    char topic[20];
    for (unsigned i = 0; i < 100; i++) {
        snprintf(topic, sizeof topic, "%s/%u", i % 2 ? "one" : "zero", i);
        rig_retain(rig, topic, "x", i % 2);
    }
    peer.blocked = true;
    rig_subscribe(session, "#", 1, 0);
    assert_int_equal(session->queue_count, 100);
    rig_publish(rig, "zero/0", "live", 0);
    rig_publish(rig, "zero/0", "live", 0);
    rig_publish(rig, "zero/0", "one too many", 0);
    assert_int_equal(rig->sessions->counters.dropped_slow, 1);
    assert_int_equal(rig_publish(rig, "one/1", "refused", 1).refused, 1);
    peer.blocked = false;
    peer.eager = true;
    peer.silent = true;
    session_pump(session);
    assert_int_equal(peer.count, 102);
    assert_int_equal(session->queue_count, 0);
    assert_int_equal(session->queued_bytes, 0);
    peer.silent = false;
    rig_publish(rig, "zero/0", "at once", 0);
    assert_seen(&peer, "0#0 zero/0 at once");
}

static void nothing_overtakes_a_snapshot(void **state)
{
    struct rig *rig = *state;
    struct peer peer = peer_make(10);
    struct session *session = rig_connect(rig, &peer, "client", 0);
    rig_retain(rig, "t", "old", 0);
    peer.blocked = true;
    rig_subscribe(session, "t", 0, 0);
    peer.blocked = false; // and nobody has pumped yet
    rig_publish(rig, "t", "new", 0);
    assert_seen(&peer, "0#0 t old retain; 0#0 t new");
}

static void a_full_queue_takes_snapshots(void **state)
{
    struct rig *rig = *state;
    rig->sessions->limits.queued_messages = 1;
    struct peer peer = peer_make(10);
    struct session *session = rig_connect(rig, &peer, "client", 0);
    rig_retain(rig, "t/1", "a", 1);
    rig_retain(rig, "t/2", "b", 1);
    peer.blocked = true;
    rig_subscribe(session, "live", 1, 0);
    rig_publish(rig, "live", "c", 1);
    assert_int_equal(rig_publish(rig, "live", "d", 1).refused, 1);
    rig_subscribe(session, "t/#", 1, 0);
    peer.blocked = false;
    session_pump(session);
    assert_seen(&peer, "1#1 live c; 1#2 t/1 a retain; 1#3 t/2 b retain");
}

static void snapshots_of_qos_0_end_with_the_connection(void **state)
{
    struct rig *rig = *state;
    struct peer peer = peer_make(2);
    struct session *session = rig_connect(rig, &peer, "client", 100);
    rig_retain(rig, "a", "zero", 0);
    rig_retain(rig, "b", "one", 1);
    peer.blocked = true;
    rig_subscribe(session, "#", 1, 0);
    session_detach(session);
    peer.blocked = false;
    rig_connect(rig, &peer, "client", 100);
    assert_seen(&peer, "1#1 b one retain");
}

// ---- wills ----

// [MQTT-3.1.2-8], [MQTT-3.1.2-10]
static void a_will_is_published_at_the_end(void **state)
{
    static const struct {
        const char *name;
        uint32_t expiry, delay;
        bool dropped, back, now, soon;
    } cases[] = {
        {"no delay", 100, 0, false, false, true, true},
        {"no delay, no session", 0, 0, false, false, true, true},
        {"the session ends first", 0, 100, false, false, true, true},
        {"the session expires first", 1, 100, false, false, false, true},
        {"delayed", 100, 1, false, false, false, true},
        {"delayed, and back in time", 100, 1, false, true, false, false},
        {"a good-bye", 0, 0, true, false, false, false},
        {"a good-bye of a session that stays", 100, 0, true, false, false, false},
    };
    struct rig *rig = *state;
    struct peer watch = peer_make(10), peer = peer_make(10);
    rig_join(rig, &watch, "watch", 0, "will/#", 1);
    watch.eager = true;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct session *session = rig_connect(rig, &peer, "client", cases[i].expiry);
        rig_leave_will(rig, session, "will/client", cases[i].delay);
        if (cases[i].dropped)
            session_drop_will(session);
        watch.count = 0;
        session_detach(session);
        if (watch.count != cases[i].now)
            fail_msg("%s: %zu at once", cases[i].name, watch.count);
        if (cases[i].back) {
            rig_connect(rig, &peer, "client", 0);
            session_detach(session);
        }
        if (cases[i].soon)
            rig_wait(rig, watch.count == 1);
        session = rig_find(rig, "client");
        if (session)
            session_end(session);
        if (watch.count != cases[i].soon)
            fail_msg("%s: %zu", cases[i].name, watch.count);
    }
    assert_int_equal(strlen(rig->wills), 5 * strlen("will/client "));
}

// What else a will is: retained, with an interval that begins now, and no message to the dead.
static void a_will_is_a_message_like_others(void **state)
{
    struct rig *rig = *state;
    struct peer watch = peer_make(10), peer = peer_make(10);
    rig_join(rig, &watch, "watch", 0, "#", 2);
    struct session *session = rig_join(rig, &peer, "client", 0, "#", 2);
    struct publication *will = rig_message(rig, "will", "", 2);
    will->expires_ms = loop_now_ms() + 1000;
    session_set_will(session, will, 0);
    publication_release(will);
    rig_pass(rig, 50);
    int64_t before_ms = loop_now_ms();
    session_detach(session);
    assert_seen(&watch, "2#1 will ");
    assert_seen(&peer, "");
    int64_t expires_ms = watch.session->queue[watch.session->queue_first].publication->expires_ms;
    assert_true(expires_ms >= before_ms + 990 && expires_ms <= loop_now_ms() + 1010);
}

// Or it would be lost with the session.
static void a_group_does_not_ask_the_dead(void **state)
{
    struct rig *rig = *state;
    struct peer peer = peer_make(10);
    struct session *dead = rig_connect(rig, &peer, "dead", 100),
                   *away = rig_connect(rig, &peer, "away", 100);
    rig_leave_will(rig, dead, "will", 50);
    rig_subscribe(dead, "$share/g/#", 1, 0);
    rig_subscribe(away, "$share/g/#", 1, 0);
    session_detach(dead);
    session_detach(away);
    session_end(dead);
    assert_int_equal(away->queue_count, 1);
}

static void the_last_will_counts_and_the_acl_applies(void **state)
{
    struct rig *rig = *state;
    struct peer watch = peer_make(10), peer = peer_make(10);
    struct acl *acl = acl_of("topic read #\ntopic write will/open\n");
    rig_join(rig, &watch, "watch", 0, "#", 1);
    rig->sessions->acl = acl;
    struct session *session = rig_connect(rig, &peer, "client", 0);
    rig_leave_will(rig, session, "will/secret", 0);
    session_detach(session);
    session = rig_connect(rig, &peer, "client", 0);
    rig_leave_will(rig, session, "will/first", 0);
    rig_leave_will(rig, session, "will/open", 0);
    session_detach(session);
    assert_seen(&watch, "1#1 will/open bye");
    rig->sessions->acl = NULL;
    acl_free(acl);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_set_up, rig_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(the_lower_qos_counts),
        TEST(a_session_gets_one_copy),
        TEST(the_retain_flag_is_for_those_who_ask),
        TEST(no_local_keeps_ones_own_away),
        TEST(the_same_filter_replaces),
        TEST(unsubscribing_leaves_what_is_in_flight),
        TEST(a_subscription_may_be_refused),
        TEST(the_acl_is_asked_for_each_delivery),
        TEST(a_group_shares_in_turn),
        TEST(a_group_prefers_those_who_read),
        TEST(a_group_of_nobody_keeps_nothing),
        TEST(a_group_passes_over_a_full_queue),
        TEST(no_retained_message_for_a_group),
        TEST(retained_messages_come_with_the_subscription),
        TEST(retain_handling),
        TEST(an_expired_retained_message_is_gone),
        TEST(many_retained_messages_wait_for_a_slow_reader),
        TEST(nothing_overtakes_a_snapshot),
        TEST(a_full_queue_takes_snapshots),
        TEST(snapshots_of_qos_0_end_with_the_connection),
        TEST(a_will_is_published_at_the_end),
        TEST(a_will_is_a_message_like_others),
        TEST(a_group_does_not_ask_the_dead),
        TEST(the_last_will_counts_and_the_acl_applies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
