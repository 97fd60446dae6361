// QoS 2 identifiers: stored with the rows or rejects of their message and no other way, whatever
// happens to the connection.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/exchange_set.h"
#include "store/exchange.h"
#include "writer_rig.h"

enum { SESSION = 1001, TOLD_MAX = 64 };

// All identifiers of the writer as PostgreSQL has them: "session.packet_id ...".
static const char table[] =
    "SELECT coalesce(string_agg(session || '.' || packet_id, ' ' ORDER BY session, packet_id), '')"
    " FROM sensorlog.exchange WHERE writer = 'edge'";

// What the writer has said.
static struct {
    unsigned loaded;
    uint16_t told[TOLD_MAX]; // packet identifiers that were forgotten
    size_t count;
} said;

static void note_loaded(void *arg)
{
    (void)arg;
    said.loaded++;
}

static void note_forgotten(void *arg, uint64_t session, uint16_t packet_id)
{
    (void)arg;
    assert_int_equal(session, SESSION);
    assert_true(said.count < TOLD_MAX);
    said.told[said.count++] = packet_id;
}

static bool told(void *arg)
{
    return said.count >= *(size_t *)arg;
}

static void wait_told(struct rig *rig, size_t count)
{
    if (!rig_until(rig->loop, told, &count))
        fail_msg("%zu of %zu identifiers were forgotten", said.count, count);
    assert_int_equal(said.count, count);
}

static struct rig *listening(struct rig *rig)
{
    memset(&said, 0, sizeof said);
    writer_on_exchanges(rig->writer, note_loaded, NULL);
    writer_on_forgotten(rig->writer, note_forgotten, NULL);
    return rig;
}

// A message of QoS 2: the reading n, by the packet identifier.
static void feed(struct rig *rig, int target, int64_t n, uint16_t packet_id)
{
    rig->session = SESSION;
    rig->packet_id = packet_id;
    rig_feed(rig, target, n);
    rig->session = 0;
}

static void forget(struct rig *rig, uint16_t packet_id)
{
    writer_exchange_forget(rig->writer, SESSION, packet_id);
}

static void assert_stored(const struct rig *rig, uint16_t first, uint16_t last, bool stored)
{
    for (uint16_t id = first; id < last; id++)
        if (writer_exchange_stored(rig->writer, SESSION, id) != stored)
            fail_msg("identifier %u is %sstored", id, stored ? "not " : "");
}

// ---- the set ----

static void the_set_is_one(void **state)
{
    (void)state;
    enum { SESSIONS = 3, IDS = 150, STEPS = 20000 };
    static bool model[SESSIONS][IDS];
    struct exchange_set set = {0};
    size_t count = 0;
    uint32_t seed = 7;
    assert_false(exchange_set_has(&set, 1, 1));
    exchange_set_remove(&set, 1, 1);
    for (int step = 0; step < STEPS; step++) {
        seed = seed * 1664525 + 1013904223;
        uint32_t draw = seed >> 8;
        uint64_t session = draw % SESSIONS;
        uint16_t id = (uint16_t)(draw / SESSIONS % IDS);
        bool add = draw / SESSIONS / IDS % 2, *there = &model[session][id];
        if (add)
            exchange_set_add(&set, session + 1, id);
        else
            exchange_set_remove(&set, session + 1, id);
        count += (size_t)add - (size_t)*there;
        *there = add;
        assert_int_equal(set.count, count);
        if (step % 100 > 0)
            continue;
        for (uint64_t s = 0; s < SESSIONS; s++)
            for (uint16_t i = 0; i < IDS; i++)
                assert_int_equal(exchange_set_has(&set, s + 1, i), model[s][i]);
    }
    exchange_set_fini(&set);
    assert_false(exchange_set_has(&set, 1, 1));
}

static void the_set_keeps_contents(void **state)
{
    (void)state;
    struct exchange_set set = {0};
    for (uint16_t id = 1; id <= 1000; id++)
        exchange_set_add(&set, 1, id)->content = id * UINT64_C(3);
    for (uint16_t id = 2; id <= 1000; id += 2)
        exchange_set_remove(&set, 1, id);
    for (uint16_t id = 1; id <= 1000; id += 2)
        assert_int_equal(exchange_set_find(&set, 1, id)->content, id * UINT64_C(3));
    assert_null(exchange_set_find(&set, 1, 2));
    exchange_set_fini(&set);
}

// ---- with the rows ----

static void they_are_loaded_at_the_start(void **state)
{
    struct rig *rig = listening(rig_with(state, (struct writer_options){.connections = 2}));
    rig_run(rig->server, "INSERT INTO sensorlog.exchange (writer, session, packet_id) VALUES"
                         " ('edge', 1001, 1), ('edge', 1001, 65535), ('other', 1001, 2),"
                         " ('edge', 9223372036854775807, 3)");
    assert_false(writer_exchanges_known(rig->writer));
    writer_start(rig->writer);
    rig_wait_usable(rig, 2);
    assert_true(writer_exchanges_known(rig->writer));
    assert_int_equal(said.loaded, 1);
    assert_true(writer_exchange_stored(rig->writer, SESSION, 1));
    assert_true(writer_exchange_stored(rig->writer, SESSION, 65535));
    assert_true(writer_exchange_stored(rig->writer, INT64_MAX, 3));
    assert_false(writer_exchange_stored(rig->writer, SESSION, 2));
    assert_false(writer_exchange_stored(rig->writer, SESSION, 3));
}

// A message with a content repeats another only if it was sent again and, where that is known, the same
// content: a broker that was set back gives an identifier again.
static void contents_are_compared(void **state)
{
    struct rig *rig = listening(rig_up(state, (struct writer_options){0}));
    const struct {
        uint64_t stored, came;
        bool resent, repeats;
    } cases[] = {{0, 0, false, true}, {5, 0, false, true},  {0, 5, true, true},  {5, 5, true, true},
                 {5, 6, true, false}, {5, 5, false, false}, {0, 5, false, false}};
    enum { CASES = sizeof cases / sizeof *cases };
    for (uint16_t i = 0; i < CASES; i++) {
        rig->content = cases[i].stored;
        feed(rig, PLAIN, i, i + 1);
    }
    rig_wait_settled(rig, CASES);
    for (uint16_t i = 0; i < CASES; i++) {
        const struct message message = {.session = SESSION,
                                        .packet_id = i + 1,
                                        .content = cases[i].came,
                                        .resent = cases[i].resent};
        assert_int_equal(writer_message_stored(rig->writer, &message), cases[i].repeats);
    }
    const struct message other = {.session = SESSION, .packet_id = 77};
    assert_false(writer_message_stored(rig->writer, &other));
    rig_assert_text(rig->server,
                    "SELECT string_agg(hash::text, ' ' ORDER BY packet_id) FROM sensorlog.exchange",
                    "0 5 0 5 5 5 0");
}

// A transaction of the process before may still commit: its identifier is not missed.
static void an_earlier_transaction_is_waited_for(void **state)
{
    struct rig *rig = rig_with(state, (struct writer_options){0});
    listening(rig);
    rig_run(rig->other, "DO $$BEGIN PERFORM sensorlog.raise_epoch('edge');"
                        " PERFORM sensorlog.advance('edge', 1, 0, 1); END$$;"
                        "BEGIN; SELECT sensorlog.advance('edge', 1, 0, 2);"
                        "INSERT INTO sensorlog.exchange (writer, session, packet_id)"
                        " VALUES ('edge', 1001, 7)");
    writer_start(rig->writer);
    rig_wait_blocked(rig, 1);
    assert_false(writer_exchanges_known(rig->writer));
    rig_run(rig->other, "COMMIT");
    rig_wait_usable(rig, 1);
    assert_true(writer_exchange_stored(rig->writer, SESSION, 7));
    assert_int_equal(said.loaded, 1);
}

static void one_goes_with_the_rows_of_its_message(void **state)
{
    struct rig *rig = listening(rig_up(state, (struct writer_options){0}));
    rig_run(rig->other, "BEGIN; LOCK TABLE telemetry.plain IN EXCLUSIVE MODE");
    const struct part parts[] = {{PLAIN, 1, NULL}, {OTHER, 2, NULL}, {PLAIN, 3, NULL}};
    rig->session = SESSION;
    rig->packet_id = 1;
    rig_feed_message(rig, parts, 3, NULL);
    rig->packet_id = 2;
    rig_feed_message(rig, NULL, 0, "malformed");
    rig->session = SESSION + 1;
    rig_feed_message(rig, parts, 1, "one part is bad");
    rig->session = 0;
    rig_feed(rig, PLAIN, 4);
    rig_wait_blocked(rig, 1);
    assert_stored(rig, 1, 4, false);
    rig_run(rig->other, "COMMIT");
    rig_wait_all(rig);
    rig_assert_text(rig->server, table, "1001.1 1001.2 1002.2");
    rig_assert_text(rig->server,
                    "SELECT count(DISTINCT x) FROM (SELECT xmin::text AS x FROM telemetry.plain"
                    " UNION ALL SELECT xmin::text FROM sensorlog.reject"
                    " UNION ALL SELECT xmin::text FROM sensorlog.exchange) t",
                    "1");
    assert_stored(rig, 1, 3, true);
    assert_stored(rig, 3, 5, false);
}

static void refused_rows_keep_theirs(void **state)
{
    struct rig *rig = listening(rig_up(state, (struct writer_options){0}));
    rig_run(rig->server, "ALTER TABLE telemetry.plain ADD CONSTRAINT lucky CHECK (n <> 3)");
    for (uint16_t id = 1; id < 8; id++)
        feed(rig, PLAIN, id, id);
    rig_wait_all(rig);
    assert_int_equal(rig->verdicts[2], VERDICT_REJECTED);
    assert_int_equal(rig->verdicts[3], VERDICT_STORED);
    rig_assert_text(rig->server, table, "1001.1 1001.2 1001.3 1001.4 1001.5 1001.6 1001.7");
    assert_stored(rig, 1, 8, true);
}

static void a_stopped_mapping_keeps_them(void **state)
{
    struct rig *rig = listening(rig_up(state, (struct writer_options){0}));
    rig_run(rig->server, "DROP TABLE telemetry.plain");
    feed(rig, PLAIN, 1, 1);
    feed(rig, OTHER, 2, 2);
    rig_wait_all(rig);
    assert_int_equal(rig->verdicts[0], VERDICT_REJECTED);
    rig_assert_text(rig->server, table, "1001.1 1001.2");
}

static void nothing_is_paid_where_none_are_kept(void **state)
{
    ((struct rig *)*state)->exchanges = false;
    struct rig *rig = rig_with(state, (struct writer_options){0});
    rig_run(rig->server, "DROP TABLE sensorlog.exchange");
    writer_start(rig->writer);
    rig_wait_usable(rig, 1);
    rig_feed(rig, PLAIN, 1);
    rig_wait_all(rig);
    assert_int_equal(rig->verdicts[0], VERDICT_STORED);
}

// ---- forgetting ----

static void one_is_forgotten_alone(void **state)
{
    struct rig *rig = listening(rig_up(state, (struct writer_options){0}));
    feed(rig, PLAIN, 1, 1);
    feed(rig, PLAIN, 2, 2);
    rig_wait_all(rig);
    forget(rig, 1);
    assert_int_equal(said.count, 0);
    assert_stored(rig, 1, 3, true);
    wait_told(rig, 1);
    assert_int_equal(said.told[0], 1);
    assert_stored(rig, 1, 2, false);
    assert_stored(rig, 2, 3, true);
    rig_assert_text(rig->server, table, "1001.2");
    forget(rig, 99); // which was never there
    wait_told(rig, 2);
}

static void one_is_forgotten_with_the_next_rows(void **state)
{
    struct rig *rig = listening(rig_up(state, (struct writer_options){0}));
    feed(rig, PLAIN, 1, 1);
    rig_wait_all(rig);
    forget(rig, 1);
    feed(rig, PLAIN, 2, 2);
    wait_told(rig, 1);
    rig_wait_all(rig);
    assert_int_equal(writer_counters(rig->writer)->commits, 2);
    rig_assert_text(rig->server, table, "1001.2");
}

// An identifier that is in use again belongs to another message: the order of the two counts, be
// they in one transaction or in two.
static void an_identifier_comes_again(void **state)
{
    struct rig *rig = listening(rig_up(state, (struct writer_options){0}));
    feed(rig, PLAIN, 1, 1);
    rig_wait_all(rig);
    for (int64_t n = 2; n < 10; n++) {
        forget(rig, 1);
        if (n % 2)
            wait_told(rig, (size_t)n - 1);
        feed(rig, PLAIN, n, 1);
        rig_wait_all(rig);
        assert_stored(rig, 1, 2, true);
        rig_assert_text(rig->server, table, "1001.1");
    }
    wait_told(rig, 8);
}

static void without_a_database_a_forget_waits(void **state)
{
    struct rig *rig = listening(rig_with(state, (struct writer_options){0}));
    rig_run(rig->server, "INSERT INTO sensorlog.exchange (writer, session, packet_id)"
                         " VALUES ('edge', 1001, 1)");
    forget(rig, 1);
    event_base_loop(loop_base(rig->loop), EVLOOP_NONBLOCK);
    assert_int_equal(said.count, 0);
    writer_start(rig->writer);
    wait_told(rig, 1);
    rig_assert_text(rig->server, table, "");
}

static void a_drain_waits_for_forgets(void **state)
{
    struct rig *rig = listening(rig_up(state, (struct writer_options){.linger_ms = 3600000}));
    forget(rig, 1);
    writer_drain(rig->writer, rig_note_drained, rig);
    assert_true(rig_until(rig->loop, rig_drained, rig));
    assert_int_equal(said.count, 1);
}

static void forgets_that_wait_are_bounded_like_rows(void **state)
{
    struct rig *rig = listening(rig_with(state, (struct writer_options){.max_rows = 10}));
    for (uint16_t id = 1; id <= 25; id++)
        forget(rig, id);
    writer_start(rig->writer);
    wait_told(rig, 25);
    assert_int_equal(writer_counters(rig->writer)->commits, 3);
}

// The batch that had it is given up, since somebody else has taken out a reject that it was to
// take.
static void a_forget_outlives_its_batch(void **state)
{
    struct rig *rig = listening(rig_up(state, (struct writer_options){0}));
    feed(rig, PLAIN, 1, 1);
    rig_wait_all(rig);
    struct batch *batch = writer_begin(rig->writer);
    batch->taken = mem_grow(batch->taken, 0, &batch->taken_capacity, sizeof *batch->taken);
    batch->taken[batch->taken_count++] = 1;
    forget(rig, 1);
    wait_told(rig, 1);
    assert_stored(rig, 1, 2, false);
    rig_assert_text(rig->server, table, "");
}

// ---- sessions that end ----

static void a_session_that_ends_takes_its_own_with_it(void **state)
{
    struct rig *rig = listening(rig_up(state, (struct writer_options){.connections = 2}));
    feed(rig, OTHER, 1, 1);
    rig->session = SESSION + 1;
    rig_feed(rig, OTHER, 2);
    rig_wait_all(rig);
    // One more is on its way, and another one waits.
    rig_run(rig->other, "BEGIN; LOCK TABLE telemetry.plain IN EXCLUSIVE MODE");
    feed(rig, PLAIN, 3, 3);
    rig_wait_blocked(rig, 1);
    feed(rig, PLAIN, 4, 4);
    writer_session_forget(rig->writer, SESSION);
    rig_wait_blocked(rig, 2);
    rig_run(rig->other, "COMMIT");
    rig_wait_all(rig);
    rig_wait_number(rig, rig->server,
                    "SELECT count(*) FROM sensorlog.exchange WHERE session = 1001", 0);
    rig_assert_text(rig->server, table, "1002.1");
    assert_int_equal(said.count, 0);
    writer_drain(rig->writer, rig_note_drained, rig);
    assert_true(rig_until(rig->loop, rig_drained, rig));
    assert_stored(rig, 1, 5, false);
}

static bool is_not_the_session(void *arg, uint64_t session)
{
    (void)arg;
    return session != SESSION;
}

static void only_sessions_that_live_are_kept(void **state)
{
    struct rig *rig = listening(rig_with(state, (struct writer_options){0}));
    rig_run(rig->server, "INSERT INTO sensorlog.exchange (writer, session, packet_id)"
                         " SELECT 'edge', s, p FROM generate_series(1000, 1002) s,"
                         " generate_series(1, 3) p");
    writer_start(rig->writer);
    rig_wait_usable(rig, 1);
    writer_sessions_keep(rig->writer, is_not_the_session, NULL);
    writer_drain(rig->writer, rig_note_drained, rig);
    assert_true(rig_until(rig->loop, rig_drained, rig));
    rig_assert_text(rig->server, table, "1000.1 1000.2 1000.3 1002.1 1002.2 1002.3");
    assert_stored(rig, 1, 4, false);
    assert_int_equal(writer_counters(rig->writer)->commits, 1);
}

// ---- lost connections ----

static void cut_after_the_commit(void **state)
{
    struct rig *rig = listening(rig_up_by_way(state, 1));
    feed(rig, PLAIN, 1, 1);
    rig_wait_all(rig);
    way_hold(rig->way, true);
    forget(rig, 1);
    feed(rig, PLAIN, 2, 2);
    rig_wait_number(rig, rig->server, "SELECT count(*) FROM telemetry.plain", 2);
    assert_int_equal(said.count, 0);
    assert_stored(rig, 1, 2, true);
    assert_stored(rig, 2, 3, false);
    way_cut(rig->way);
    way_hold(rig->way, false);
    wait_told(rig, 1);
    rig_wait_all(rig);
    assert_int_equal(writer_counters(rig->writer)->resolved_committed, 1);
    assert_stored(rig, 1, 2, false);
    assert_stored(rig, 2, 3, true);
    rig_assert_text(rig->server, table, "1001.2");
    rig_assert_text(rig->server, "SELECT count(*) FROM telemetry.plain", "2");
    assert_int_equal(said.loaded, 0); // once, before the test listened
}

static void cut_before_the_commit(void **state)
{
    struct rig *rig = listening(rig_up(state, (struct writer_options){0}));
    feed(rig, PLAIN, 1, 1);
    rig_wait_all(rig);
    rig_run(rig->other, "BEGIN; LOCK TABLE telemetry.plain IN EXCLUSIVE MODE");
    forget(rig, 1);
    feed(rig, PLAIN, 2, 1);
    rig_wait_blocked(rig, 1);
    rig_number(rig->server, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                            " WHERE application_name = 'sensorlogd'"
                            " AND datname = current_database()");
    rig_wait_usable(rig, 0);
    rig_run(rig->other, "COMMIT");
    wait_told(rig, 1);
    rig_wait_all(rig);
    assert_int_equal(writer_counters(rig->writer)->resolved_repeated, 1);
    rig_assert_text(rig->server, table, "1001.1");
    rig_assert_text(rig->server, "SELECT count(*) FROM telemetry.plain", "2");
    assert_stored(rig, 1, 2, true);
}

// Whoever had the name meanwhile may have changed the table.
static void a_raised_epoch_loads_them_anew(void **state)
{
    struct rig *rig = listening(rig_up_by_way(state, 1));
    feed(rig, PLAIN, 1, 1);
    rig_wait_all(rig);
    rig_run(rig->server, "UPDATE sensorlog.exchange SET packet_id = 5");
    way_hold(rig->way, true);
    feed(rig, PLAIN, 2, 2);
    rig_wait_number(rig, rig->server, "SELECT count(*) FROM telemetry.plain", 2);
    way_cut(rig->way);
    way_hold(rig->way, false);
    rig_wait_all(rig);
    assert_stored(rig, 1, 2, false);
    assert_stored(rig, 2, 3, true);
    assert_stored(rig, 5, 6, true);
}

// Cut off again and again: each identifier is in the table exactly if its rows are and it was not
// forgotten, and the writer knows as much.
static void cut_again_and_again(void **state)
{
    enum { ROUNDS = 15, IDS = 30 };
    struct rig *rig = rig_up_by_way(state, 2);
    listening(rig);
    uint32_t seed = 11;
    for (int round = 0; round < ROUNDS; round++) {
        for (uint16_t id = 1; id <= IDS; id++) {
            seed = seed * 1664525 + 1013904223;
            feed(rig, PLAIN, round * IDS + id, id);
            if (seed >> 8 & 1)
                event_base_loop(loop_base(rig->loop), EVLOOP_NONBLOCK);
        }
        way_hold(rig->way, seed >> 9 & 1);
        event_base_loop(loop_base(rig->loop), EVLOOP_NONBLOCK);
        way_cut(rig->way);
        way_hold(rig->way, false);
        rig_wait_all(rig);
        assert_stored(rig, 1, IDS + 1, true);
        said.count = 0;
        for (uint16_t id = 1; id <= IDS; id++)
            forget(rig, id);
        for (int turns = seed >> 10 & 3; turns > 0; turns--)
            event_base_loop(loop_base(rig->loop), EVLOOP_NONBLOCK);
        way_cut(rig->way);
        wait_told(rig, IDS);
        assert_stored(rig, 1, IDS + 1, false);
        rig_assert_text(rig->server, table, "");
    }
    rig_assert_text(rig->server, "SELECT count(*) - count(DISTINCT n) FROM telemetry.plain", "0");
    rig_assert_verdicts(rig, 0, rig->received, VERDICT_STORED);
}

static int setup(void **state)
{
    rig_setup(state);
    if (rig_has_postgres())
        ((struct rig *)*state)->exchanges = true;
    return 0;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_set_is_one),
        cmocka_unit_test(the_set_keeps_contents),
        TEST(contents_are_compared),
        TEST(they_are_loaded_at_the_start),
        TEST(an_earlier_transaction_is_waited_for),
        TEST(one_goes_with_the_rows_of_its_message),
        TEST(refused_rows_keep_theirs),
        TEST(a_stopped_mapping_keeps_them),
        TEST(nothing_is_paid_where_none_are_kept),
        TEST(one_is_forgotten_alone),
        TEST(one_is_forgotten_with_the_next_rows),
        TEST(an_identifier_comes_again),
        TEST(without_a_database_a_forget_waits),
        TEST(a_drain_waits_for_forgets),
        TEST(forgets_that_wait_are_bounded_like_rows),
        TEST(a_forget_outlives_its_batch),
        TEST(a_session_that_ends_takes_its_own_with_it),
        TEST(only_sessions_that_live_are_kept),
        TEST(cut_after_the_commit),
        TEST(cut_before_the_commit),
        TEST(a_raised_epoch_loads_them_anew),
        TEST(cut_again_and_again),
    };
    return cmocka_run_group_tests(tests, rig_begin, rig_end);
}
