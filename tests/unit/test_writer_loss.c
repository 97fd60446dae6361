// The batch writer when connections are lost: nothing is lost, and nothing comes twice, not even
// without a key.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "writer_rig.h"

// All backends of the writer end; how many there were.
static long terminate_all(struct rig *rig)
{
    return rig_number(rig->server, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                                   " WHERE application_name = 'sensorlogd'"
                                   " AND datname = current_database()");
}

static void assert_once_each(struct rig *rig, long count)
{
    char *expected = mem_printf("%ld|%ld", count, count);
    rig_assert_text(rig->server, "SELECT count(*), count(DISTINCT n) FROM telemetry.plain",
                    expected);
    free(expected);
    rig_assert_verdicts(rig, 0, rig->received, VERDICT_STORED);
}

static const char visible[] = "SELECT count(*) FROM telemetry.plain";

// A COMMIT waits until nobody holds the lock 1 any more.
static const char slow_commit[] =
    "CREATE FUNCTION telemetry.wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END $$;"
    "CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON telemetry.plain DEFERRABLE INITIALLY DEFERRED"
    " FOR EACH ROW EXECUTE FUNCTION telemetry.wait()";

static void hold_commits(struct rig *rig)
{
    rig_run(rig->server, slow_commit);
    rig_run(rig->other, "SELECT pg_advisory_lock(1)");
}

static void let_commits_go(struct rig *rig)
{
    rig_run(rig->other, "SELECT pg_advisory_unlock(1)");
}

// ---- cut off ----

static void while_idle(void **state)
{
    struct rig *rig = rig_up(state, (struct writer_options){.connections = 2});
    rig_feed(rig, PLAIN, 0);
    rig_wait_all(rig);
    assert_int_equal(terminate_all(rig), 2);
    rig_wait_usable(rig, 0);
    assert_non_null(strstr(writer_state(rig->writer), "administrator command"));
    rig_feed_range(rig, PLAIN, 1, 10);
    rig_wait_usable(rig, 2);
    rig_wait_all(rig);
    assert_once_each(rig, 10);
    // Nothing was in the balance, so the epoch is the same.
    assert_int_equal(rig_number(rig->server, "SELECT epoch FROM sensorlog.writer"), 1);
    assert_int_equal(writer_counters(rig->writer)->resolved_committed, 0);
    assert_int_equal(writer_counters(rig->writer)->resolved_repeated, 0);
}

static void before_the_commit(void **state)
{
    struct rig *rig = rig_up(state, (struct writer_options){0});
    rig_run(rig->other, "BEGIN; LOCK TABLE telemetry.plain IN EXCLUSIVE MODE");
    rig_feed_range(rig, PLAIN, 0, 5);
    rig_wait_blocked(rig, 1);
    terminate_all(rig);
    rig_wait_usable(rig, 0);
    rig_feed_range(rig, PLAIN, 5, 10);
    rig_run(rig->other, "COMMIT");
    rig_wait_all(rig);
    assert_once_each(rig, 10);
    assert_int_equal(writer_counters(rig->writer)->resolved_committed, 0);
    assert_int_equal(writer_counters(rig->writer)->resolved_repeated, 1);
    assert_int_equal(rig_number(rig->server, "SELECT epoch FROM sensorlog.writer"), 2);
}

static void within_the_commit(void **state)
{
    struct rig *rig = rig_up(state, (struct writer_options){0});
    hold_commits(rig);
    rig_feed_range(rig, PLAIN, 0, 5);
    rig_wait_blocked(rig, 1);
    terminate_all(rig);
    rig_wait_usable(rig, 0);
    let_commits_go(rig);
    rig_wait_all(rig);
    assert_once_each(rig, 5);
    assert_int_equal(writer_counters(rig->writer)->resolved_repeated, 1);
}

static void after_the_commit(void **state)
{
    struct rig *rig = rig_up_by_way(state, 1);
    way_hold(rig->way, true);
    rig_feed_range(rig, PLAIN, 0, 5);
    rig_wait_number(rig, rig->server, visible, 5);
    assert_int_equal(rig->settled, 0);
    way_cut(rig->way);
    way_hold(rig->way, false);
    rig_feed_range(rig, PLAIN, 5, 10);
    rig_wait_all(rig);
    assert_once_each(rig, 10);
    assert_int_equal(writer_counters(rig->writer)->resolved_committed, 1);
    assert_int_equal(writer_counters(rig->writer)->resolved_repeated, 0);
    assert_int_equal(writer_counters(rig->writer)->commits, 2);
    assert_int_equal(writer_counters(rig->writer)->rows, 10);
}

static void after_a_commit_with_rejects_and_duplicates(void **state)
{
    struct rig *rig = rig_up_by_way(state, 1);
    rig_run(rig->server, "ALTER TABLE telemetry.plain ADD CONSTRAINT lucky CHECK (n <> 13)");
    rig_feed(rig, KEYED, 1);
    rig_wait_all(rig);
    way_hold(rig->way, true);
    rig->dup = true;
    rig_feed(rig, KEYED, 1);
    rig->dup = false;
    rig_feed(rig, KEYED, 2);
    rig_wait_number(rig, rig->server, "SELECT count(*) FROM telemetry.keyed", 2);
    way_cut(rig->way);
    way_hold(rig->way, false);
    rig_feed(rig, PLAIN, 13);
    rig_wait_all(rig);
    // Whether each row was new is not known any more: stored is what is claimed of all.
    rig_assert_verdicts(rig, 0, 3, VERDICT_STORED);
    assert_int_equal(rig->verdicts[3], VERDICT_REJECTED);
    assert_int_equal(rig_number(rig->server, "SELECT count(*) FROM sensorlog.reject"), 1);
}

// ---- PostgreSQL does not know yet that the connection is lost ----

static void an_old_commit_is_waited_for(void **state)
{
    struct rig *rig = rig_up_by_way(state, 1);
    hold_commits(rig);
    rig_feed_range(rig, PLAIN, 0, 5);
    rig_wait_blocked(rig, 1);
    way_cut_writer(rig->way);
    rig_wait_blocked(rig, 2); // the old one, and the successor that raises the epoch
    assert_int_equal(rig->settled, 0);
    let_commits_go(rig);
    rig_wait_all(rig);
    assert_once_each(rig, 5);
    assert_int_equal(writer_counters(rig->writer)->resolved_committed, 1);
}

static bool has_repeated(void *arg)
{
    return writer_counters(((const struct rig *)arg)->writer)->resolved_repeated > 0;
}

static void an_old_commit_that_hangs_is_ended(void **state)
{
    struct rig *rig = rig_up_by_way(state, 1);
    hold_commits(rig);
    rig_feed_range(rig, PLAIN, 0, 5);
    rig_wait_blocked(rig, 1);
    way_cut_writer(rig->way);
    // Nobody lets it go, and yet the successor comes to try the rows again.
    assert_true(rig_until(rig->loop, has_repeated, rig));
    rig_wait_blocked(rig, 1);
    assert_int_equal(rig->settled, 0);
    let_commits_go(rig);
    rig_wait_all(rig);
    assert_once_each(rig, 5);
    assert_int_equal(rig->way->opened, 2);
    // It goes on by the same connection: nothing is left that would close it.
    uint64_t timers = loop_counters(rig->loop)->timer_events;
    for (int64_t n = 5; n < 50; n++) {
        rig_feed(rig, PLAIN, n);
        rig_wait_all(rig);
    }
    assert_once_each(rig, 50);
    assert_int_equal(rig->way->opened, 2);
    assert_int_equal(loop_counters(rig->loop)->timer_events, timers);
}

static void one_of_several_does_not_stop_the_others(void **state)
{
    struct rig *rig = rig_up_by_way(state, 3);
    rig_run(rig->other, "BEGIN; LOCK TABLE telemetry.plain IN EXCLUSIVE MODE");
    for (unsigned i = 0; i < 3; i++) {
        rig_feed(rig, PLAIN, i);
        rig_wait_blocked(rig, i + 1);
    }
    rig_feed_range(rig, PLAIN, 3, 20);
    rig_number(rig->server, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                            " WHERE application_name = 'sensorlogd' AND wait_event_type = 'Lock'"
                            " AND datname = current_database() LIMIT 1");
    rig_wait_usable(rig, 2);
    rig_run(rig->other, "COMMIT");
    rig_wait_all(rig);
    assert_once_each(rig, 20);
    rig_wait_usable(rig, 3);
    assert_int_equal(writer_counters(rig->writer)->resolved_repeated, 1);
}

static void all_of_several_are_resolved(void **state)
{
    struct rig *rig = rig_up_by_way(state, 3);
    way_hold(rig->way, true);
    for (unsigned i = 0; i < 3; i++) {
        rig_feed(rig, PLAIN, i);
        rig_wait_number(rig, rig->server, visible, i + 1);
    }
    way_cut(rig->way);
    way_hold(rig->way, false);
    rig_feed_range(rig, PLAIN, 3, 20);
    rig_wait_all(rig);
    assert_once_each(rig, 20);
    assert_int_equal(writer_counters(rig->writer)->resolved_committed, 3);
    rig_wait_usable(rig, 3);
}

static void while_bad_rows_are_looked_for(void **state)
{
    struct rig *rig = rig_up_by_way(state, 1);
    rig_run(
        rig->server,
        "ALTER TABLE telemetry.plain ADD CONSTRAINT lucky CHECK (n <> 1);"
        "CREATE FUNCTION telemetry.wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM pg_advisory_xact_lock_shared(1) FROM new WHERE n = 9 HAVING (SELECT count(*) FROM new) < 4;"
        " RETURN NULL; END $$;"
        "CREATE TRIGGER wait AFTER INSERT ON telemetry.plain REFERENCING NEW TABLE AS new"
        " EXECUTE FUNCTION telemetry.wait()");
    rig_run(rig->other, "SELECT pg_advisory_lock(1)");
    for (int64_t n = 0; n < 10; n++)
        rig_feed(rig, PLAIN, n);
    rig_wait_blocked(rig, 1);
    way_cut(rig->way);
    let_commits_go(rig);
    rig_wait_all(rig);
    rig_assert_text(rig->server, "SELECT string_agg(n::text, '' ORDER BY n) FROM telemetry.plain",
                    "023456789");
    rig_assert_text(rig->server, "SELECT count(*) FROM sensorlog.reject", "1");
    assert_int_equal(rig->verdicts[1], VERDICT_REJECTED);
}

// ---- the epoch ----

static void cut_while_the_epoch_is_raised(void **state)
{
    struct rig *rig = rig_up_by_way(state, 2);
    rig_feed(rig, PLAIN, 0);
    rig_wait_all(rig);
    // One transaction is lost, and its lane, back again, waits to raise the epoch.
    hold_commits(rig);
    rig_feed(rig, PLAIN, 1);
    rig_wait_blocked(rig, 1);
    rig_run(rig->server, "BEGIN; SELECT FROM sensorlog.writer FOR UPDATE");
    terminate_all(rig);
    rig_wait_usable(rig, 0);
    rig_wait_number(rig, rig->other,
                    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sensorlogd'"
                    " AND datname = current_database() AND wait_event_type = 'Lock'"
                    " AND query LIKE '%raise_epoch%'",
                    1);
    way_cut(rig->way);
    rig_run(rig->server, "COMMIT");
    let_commits_go(rig);
    rig_feed_range(rig, PLAIN, 2, 10);
    rig_wait_all(rig);
    assert_once_each(rig, 10);
    rig_wait_usable(rig, 2);
}

static void somebody_holds_the_writers_row(void **state)
{
    struct rig *rig = rig_with(state, (struct writer_options){.connections = 2});
    rig_run(rig->other, "INSERT INTO sensorlog.writer VALUES ('edge', 7);"
                        "BEGIN; SELECT FROM sensorlog.writer FOR UPDATE");
    rig_feed(rig, PLAIN, 0);
    writer_start(rig->writer);
    rig_wait_blocked(rig, 1);
    rig_wait_state(rig, "waiting for an earlier transaction");
    assert_int_equal(rig->settled, 0);
    rig_run(rig->other, "COMMIT");
    rig_wait_usable(rig, 2);
    rig_wait_all(rig);
    assert_once_each(rig, 1);
    rig_assert_text(rig->server, "SELECT epoch FROM sensorlog.writer", "8");
}

// One connection has raised the epoch while the other's transaction was on its way: that is no
// other daemon's doing.
static void connections_of_one_writer_do_not_fence_each_other(void **state)
{
    struct rig *rig = rig_up_by_way(state, 2);
    hold_commits(rig);
    rig_feed(rig, PLAIN, 0);
    rig_wait_blocked(rig, 1);
    way_hold_requests(rig->way, true);
    rig_feed(rig, PLAIN, 1);
    event_base_loop(loop_base(rig->loop), EVLOOP_NONBLOCK); // it is sent
    rig_number(rig->server, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                            " WHERE application_name = 'sensorlogd' AND wait_event_type = 'Lock'"
                            " AND datname = current_database()");
    let_commits_go(rig);
    rig_wait_settled(rig, 1);
    rig_assert_text(rig->server, "SELECT n FROM telemetry.plain", "0");
    way_hold_requests(rig->way, false);
    rig_wait_all(rig);
    assert_once_each(rig, 2);
    assert_int_equal(rig_number(rig->server, "SELECT epoch FROM sensorlog.writer"), 2);
    rig_wait_usable(rig, 2);
}

// Two daemons of one name: the later one has taken over, and the first commits nothing behind its
// back.
static void a_second_writer_of_the_same_name(void **state)
{
    struct rig *rig = rig_up(state, (struct writer_options){0});
    rig_feed(rig, PLAIN, 0);
    rig_wait_all(rig);
    struct writer *first = rig->writer;
    rig_with(state, (struct writer_options){0});
    writer_start(rig->writer);
    rig_wait_usable(rig, 1);
    assert_int_equal(rig_number(rig->server, "SELECT epoch FROM sensorlog.writer"), 2);
    rig_feed(rig, PLAIN, 1); // to the second
    rig_wait_all(rig);

    struct writer *second = rig->writer;
    rig->writer = first;
    log_init((enum log_level)0); // what it says now is meant for people
    rig_feed(rig, PLAIN, 2);
    rig_wait_usable(rig, 0);
    log_init(LOG_LEVEL_ERROR);
    assert_non_null(strstr(writer_state(first), "another daemon uses this writer name"));
    assert_int_equal(rig->settled, 2);
    writer_free(first);
    assert_int_equal(rig->verdicts[2], VERDICT_ABANDONED);
    rig->writer = second;
    rig_feed(rig, PLAIN, 3);
    rig_wait_all(rig);
    rig_assert_text(rig->server, "SELECT string_agg(n::text, '' ORDER BY n) FROM telemetry.plain",
                    "013");
    assert_int_equal(rig_number(rig->server, "SELECT epoch FROM sensorlog.writer"), 2);
}

static void writers_of_other_names_do_not_mind(void **state)
{
    struct rig *rig = rig_up(state, (struct writer_options){0});
    struct writer *first = rig->writer;
    rig_with(state, (struct writer_options){.name = "edge2"});
    writer_start(rig->writer);
    rig_wait_usable(rig, 1);
    struct writer *both[] = {first, rig->writer};
    for (int64_t n = 0; n < 20; n++) {
        rig->writer = both[n % 2];
        rig_feed(rig, PLAIN, n);
    }
    rig_wait_all(rig);
    assert_once_each(rig, 20);
    rig_assert_text(rig->server, "SELECT writer, epoch FROM sensorlog.writer ORDER BY 1",
                    "edge|1\nedge2|1");
    writer_free(both[0]);
    rig->writer = both[1];
}

// ---- all of it ----

static uint32_t seed;

static unsigned draw(unsigned below)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % below;
}

static void cut_again_and_again(void **state)
{
    enum { CUTS = 12 };
    struct rig *rig = rig_up_by_way(state, 2);
    int64_t n = 0;
    seed = 20;
    for (int cut = 0; cut < CUTS; cut++) {
        // Somewhere between the first byte of a transaction and the answer to its COMMIT.
        int64_t until = n + 1 + draw(40);
        for (; n < until; n++) {
            rig_feed(rig, PLAIN, n);
            if (draw(3) == 0)
                event_base_loop(loop_base(rig->loop), EVLOOP_NONBLOCK);
        }
        bool hold = draw(2);
        way_hold(rig->way, hold);
        size_t enough = rig->settled + (hold ? 0 : draw(5));
        rig_wait_settled(rig, enough < rig->received ? enough : rig->received);
        for (unsigned turns = draw(20); turns > 0; turns--)
            event_base_loop(loop_base(rig->loop), EVLOOP_NONBLOCK);
        if (draw(2))
            way_cut(rig->way);
        else
            way_cut_writer(rig->way);
        way_hold(rig->way, false);
        if (draw(2))
            rig_wait_all(rig);
    }
    rig_wait_all(rig);
    assert_once_each(rig, n);
    rig_wait_usable(rig, 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        TEST(while_idle),
        TEST(before_the_commit),
        TEST(within_the_commit),
        TEST(after_the_commit),
        TEST(after_a_commit_with_rejects_and_duplicates),
        TEST(an_old_commit_is_waited_for),
        TEST(an_old_commit_that_hangs_is_ended),
        TEST(one_of_several_does_not_stop_the_others),
        TEST(all_of_several_are_resolved),
        TEST(while_bad_rows_are_looked_for),
        TEST(cut_while_the_epoch_is_raised),
        TEST(somebody_holds_the_writers_row),
        TEST(connections_of_one_writer_do_not_fence_each_other),
        TEST(a_second_writer_of_the_same_name),
        TEST(writers_of_other_names_do_not_mind),
        TEST(cut_again_and_again),
    };
    return cmocka_run_group_tests(tests, rig_begin, rig_end);
}
