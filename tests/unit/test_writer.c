// The batch writer when all goes well: what is committed together, and when.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "writer_rig.h"

// Rows per transaction, in the order of the transactions.
static const char transactions[] =
    "SELECT string_agg(c::text, ' ' ORDER BY n) FROM"
    " (SELECT min(n) AS n, count(*) AS c FROM telemetry.plain GROUP BY xmin::text) t";

static void rows_are_committed(void **state)
{
    struct rig *rig = rig_up(state, (struct writer_options){0});
    const struct part part = {PLAIN, 7, "\xc3\xa4 'x'"};
    rig_feed_message(rig, &part, 1, NULL);
    assert_int_equal(rig->settled, 0);
    rig_wait_all(rig);
    assert_int_equal(rig->verdicts[0], VERDICT_STORED);
    rig_assert_text(rig->server, "SELECT * FROM telemetry.plain",
                    "2023-11-14 22:13:27+00|7|\xc3\xa4 'x'");
    rig_assert_text(rig->server, "SELECT writer, epoch, lane, seq FROM sensorlog.writer_progress",
                    "edge|1|0|1");
    const struct writer_counters *counters = writer_counters(rig->writer);
    assert_int_equal(counters->rows, 1);
    assert_int_equal(counters->commits, 1);
    assert_int_equal(counters->rejects, 0);
    assert_int_equal(counters->failures, 0);
    assert_int_equal(rig->targets[PLAIN].books.verdicts[VERDICT_STORED], 1);
}

static void what_came_before_the_connection_is_one_batch(void **state)
{
    struct rig *rig = rig_with(state, (struct writer_options){0});
    rig_feed_range(rig, PLAIN, 0, 50);
    assert_int_equal(writer_usable(rig->writer), 0);
    writer_start(rig->writer);
    writer_start(rig->writer);
    rig_wait_all(rig);
    rig_assert_text(rig->server, transactions, "50");
}

static void a_key_tells_what_is_there_already(void **state)
{
    struct rig *rig = rig_up(state, (struct writer_options){0});
    static const struct {
        const char *readings, *verdicts; // a letter each: Stored, Deduplicated
    } batches[] = {{"12", "SS"}, {"2343", "DSSD"}, {"1234", "DDDD"}, {"555", "SDD"}};
    for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
        uint64_t first = rig->received;
        for (const char *n = batches[i].readings; *n; n++)
            rig_feed(rig, KEYED, *n - '0');
        rig_wait_all(rig);
        for (size_t k = 0; batches[i].verdicts[k]; k++)
            assert_int_equal(rig->verdicts[first + k],
                             batches[i].verdicts[k] == 'S' ? VERDICT_STORED : VERDICT_DEDUPLICATED);
    }
    assert_int_equal(writer_counters(rig->writer)->commits, 4);
    assert_int_equal(rig->targets[KEYED].books.verdicts[VERDICT_STORED], 5);
    assert_int_equal(rig->targets[KEYED].books.verdicts[VERDICT_DEDUPLICATED], 8);
    rig_assert_text(rig->server, "SELECT string_agg(n::text, '' ORDER BY n) FROM telemetry.keyed",
                    "12345");
}

// What is there already makes a transaction fail only where nothing spoke for it; after that it is
// looked for, until it has not been found for long.
static void that_nothing_is_there_is_taken_for_granted(void **state)
{
    enum { WARY = 256 };
    struct rig *rig = rig_up(state, (struct writer_options){0});
    const struct writer_counters *counters = writer_counters(rig->writer);
    for (int64_t n = 0; n < 3; n++) {
        rig_feed(rig, KEYED, n);
        rig_wait_all(rig);
    }
    rig->dup = true;
    rig_feed(rig, KEYED, 2);
    rig_feed(rig, KEYED, 3);
    rig_wait_all(rig);
    rig->dup = false;
    rig_assert_verdicts(rig, 3, 4, VERDICT_DEDUPLICATED);
    rig_assert_verdicts(rig, 4, 5, VERDICT_STORED);
    assert_int_equal(writer_counters(rig->writer)->failures, 0);
    int64_t n = 4;
    for (; n < 4 + WARY + 1; n++) {
        rig_feed(rig, KEYED, n);
        rig_wait_all(rig);
    }
    // The flag does not say so, and the batch has new rows too.
    for (int again = 0; again < 3; again++) {
        uint64_t first = rig->received;
        rig_feed(rig, KEYED, n++);
        rig_feed(rig, KEYED, 2);
        rig_feed(rig, KEYED, n++);
        rig_wait_all(rig);
        assert_int_equal(rig->verdicts[first], VERDICT_STORED);
        assert_int_equal(rig->verdicts[first + 1], VERDICT_DEDUPLICATED);
        assert_int_equal(rig->verdicts[first + 2], VERDICT_STORED);
        assert_int_equal(writer_counters(rig->writer)->failures, 1);
    }
    assert_int_equal(counters->rejects, 0);
    rig_assert_text(rig->server, "SELECT count(*), count(DISTINCT n) FROM telemetry.keyed",
                    "267|267");
}

// Not the key's.
static void another_unique_index_refuses_a_row(void **state)
{
    struct rig *rig = rig_up(state, (struct writer_options){0});
    rig_run(rig->server, "CREATE UNIQUE INDEX lucky ON telemetry.keyed (note)");
    for (int64_t n = 0; n < 2; n++) {
        const struct part parts[] = {{KEYED, 4 * n, "a"}, {KEYED, 4 * n + 1, NULL}};
        rig_feed_message(rig, parts, 1, NULL);
        rig_feed_message(rig, parts + 1, 1, NULL);
        rig_wait_all(rig);
    }
    rig_assert_verdicts(rig, 0, 2, VERDICT_STORED);
    assert_int_equal(rig->verdicts[2], VERDICT_REJECTED);
    assert_int_equal(rig->verdicts[3], VERDICT_STORED);
    rig_assert_text(rig->server,
                    "SELECT sqlstate, strpos(detail, 'lucky') > 0 FROM sensorlog.reject",
                    "23505|t");
}

static void while_one_commits_the_next_gathers(void **state)
{
    struct rig *rig = rig_up(state, (struct writer_options){0});
    uint64_t timers = loop_counters(rig->loop)->timer_events;
    rig_run(rig->other, "BEGIN; LOCK TABLE telemetry.plain IN EXCLUSIVE MODE");
    rig_feed(rig, PLAIN, 0);
    rig_wait_blocked(rig, 1);
    rig_feed_range(rig, PLAIN, 1, 200);
    assert_int_equal(rig->settled, 0);
    rig_run(rig->other, "COMMIT");
    rig_wait_all(rig);
    rig_assert_text(rig->server, transactions, "1 199");
    assert_int_equal(writer_counters(rig->writer)->commits, 2);
    assert_int_equal(writer_counters(rig->writer)->commits_by_timer, 0);
    assert_int_equal(loop_counters(rig->loop)->timer_events, timers);
    for (uint64_t i = 0; i < 200; i++)
        assert_int_equal(rig->order[i], i);
}

static void batches_have_a_size(void **state)
{
    struct rig *rig = rig_up(state, (struct writer_options){.max_rows = 10});
    rig_run(rig->other, "BEGIN; LOCK TABLE telemetry.plain IN EXCLUSIVE MODE");
    rig_feed(rig, PLAIN, 0);
    rig_wait_blocked(rig, 1);
    rig_feed_range(rig, PLAIN, 1, 20);
    // One that would not fit stays together.
    const struct part parts[] = {{PLAIN, 20, NULL}, {PLAIN, 21, NULL}, {PLAIN, 22, NULL}};
    rig_feed_message(rig, parts, 3, NULL);
    rig_feed_range(rig, PLAIN, 23, 30);
    rig_run(rig->other, "COMMIT");
    rig_wait_all(rig);
    rig_assert_text(rig->server, transactions, "1 10 12 7");
    rig_assert_text(rig->server, "SELECT count(*), count(DISTINCT n) FROM telemetry.plain",
                    "30|30");
}

static void connections_commit_side_by_side(void **state)
{
    struct rig *rig = rig_up(state, (struct writer_options){.connections = 3});
    rig_run(rig->other, "BEGIN; LOCK TABLE telemetry.plain IN EXCLUSIVE MODE");
    for (unsigned i = 0; i < 3; i++) {
        rig_feed(rig, PLAIN, i);
        rig_wait_blocked(rig, i + 1);
    }
    rig_feed_range(rig, PLAIN, 3, 100);
    const struct part other = {OTHER, 1, NULL};
    rig_feed_message(rig, &other, 1, NULL);
    assert_int_equal(rig->settled, 0);
    rig_run(rig->other, "COMMIT");
    rig_wait_all(rig);
    assert_int_equal(writer_counters(rig->writer)->commits, 4);
    rig_assert_text(rig->server, transactions, "1 1 1 97");
    rig_assert_text(rig->server,
                    "SELECT string_agg(lane::text, ' ' ORDER BY lane), sum(seq)"
                    " FROM sensorlog.writer_progress WHERE epoch = 1",
                    "0 1 2|4");
    rig_assert_verdicts(rig, 0, 101, VERDICT_STORED);
}

static void a_message_is_one_transaction(void **state)
{
    struct rig *rig = rig_up(state, (struct writer_options){0});
    const struct part parts[] = {{PLAIN, 1, "a"},
                                 {OTHER, 2, NULL},
                                 {KEYED, 3, ""},
                                 {PLAIN, 4, NULL}};
    rig_feed_message(rig, parts, 4, NULL);
    rig_feed_message(rig, NULL, 0, "malformed");
    rig_wait_all(rig);
    assert_int_equal(rig->verdicts[0], VERDICT_STORED);
    assert_int_equal(rig->verdicts[1], VERDICT_REJECTED);
    rig_assert_text(
        rig->server,
        "SELECT count(DISTINCT x), count(*) FROM (SELECT xmin::text AS x FROM telemetry.plain"
        " UNION ALL SELECT xmin::text FROM telemetry.other"
        " UNION ALL SELECT xmin::text FROM telemetry.keyed"
        " UNION ALL SELECT xmin::text FROM sensorlog.reject) t",
        "1|5");
    rig_assert_text(rig->server, "SELECT n, note FROM telemetry.plain ORDER BY n", "1|a\n4|~");
    rig_assert_text(rig->server,
                    "SELECT source, mapping, topic, reason, payload FROM sensorlog.reject",
                    "site|~|sensors/x|malformed|\\x31");
    assert_int_equal(writer_counters(rig->writer)->rows, 4);
    assert_int_equal(writer_counters(rig->writer)->rejects, 1);
}

// A reload: another mapping has the number of one that is gone, on connections that know the
// first one's statement and in batches that have its memory.
static void another_target_takes_over_a_number(void **state)
{
    enum { COLUMNS = 12, ROWS = 40 };
    struct rig *rig = rig_up(state, (struct writer_options){.connections = 2});
    static struct target_column wide[COLUMNS];
    static char names[COLUMNS][16];
    memcpy(wide, rig_columns, sizeof rig_columns);
    for (int i = 3; i < COLUMNS; i++) {
        snprintf(names[i], sizeof names[i], "more%d", i);
        wide[i] = (struct target_column){.name = names[i], .type = COLUMN_INT8};
    }
    rig_run(rig->server,
            "CREATE TABLE telemetry.wide (LIKE telemetry.plain, more3 int8, more4 int8,"
            " more5 int8, more6 int8, more7 int8, more8 int8, more9 int8,"
            " more10 int8, more11 int8)");
    for (unsigned serial = 1; serial < 7; serial++) {
        bool is_wide = serial % 2;
        rig->targets[OTHER].serial = serial;
        rig->targets[OTHER].table = is_wide ? (char[]){"wide"} : (char[]){"other"};
        rig->targets[OTHER].columns = is_wide ? wide : rig_columns;
        rig->targets[OTHER].column_count = is_wide ? COLUMNS : 3;
        for (int64_t n = 0; n < ROWS; n++) {
            rig_feed(rig, OTHER, n);
            if (n % 8 == 0)
                event_base_loop(loop_base(rig->loop), EVLOOP_NONBLOCK);
        }
        rig_wait_all(rig);
    }
    rig_assert_verdicts(rig, 0, rig->received, VERDICT_STORED);
    rig_assert_text(rig->server, "SELECT count(*), count(DISTINCT n) FROM telemetry.wide",
                    "120|40");
    rig_assert_text(rig->server, "SELECT count(*), count(DISTINCT n) FROM telemetry.other",
                    "120|40");
    assert_int_equal(writer_counters(rig->writer)->failures, 0);
}

static void a_message_without_parts_starts_nothing(void **state)
{
    struct rig *rig = rig_up(state, (struct writer_options){0});
    writer_begin(rig->writer);
    writer_end(rig->writer);
    writer_hurry(rig->writer);
    rig_feed(rig, PLAIN, 1);
    rig_wait_all(rig);
    assert_int_equal(writer_counters(rig->writer)->commits, 1);
}

// Big enough that sockets fill up on the way.
static void long_values_pass(void **state)
{
    enum { LENGTH = 1 << 20, ROWS = 10 };
    struct rig *rig = rig_up(state, (struct writer_options){0});
    char *note = mem_alloc(LENGTH + 1);
    memset(note, 'x', LENGTH);
    note[LENGTH] = '\0';
    for (int64_t n = 0; n < ROWS; n++) {
        const struct part part = {PLAIN, n, note};
        rig_feed_message(rig, &part, 1, NULL);
    }
    free(note);
    assert_true(rig->budget.used > ROWS * LENGTH);
    rig_wait_all(rig);
    rig_assert_text(rig->server, "SELECT sum(length(note)) FROM telemetry.plain", "10485760");
}

static void count_room(void *arg)
{
    ++*(unsigned *)arg;
}

static void a_commit_makes_room(void **state)
{
    struct rig *rig = rig_up(state, (struct writer_options){0});
    unsigned rooms = 0;
    rig->budget.limit = 10000;
    rig->budget.room = count_room;
    rig->budget.arg = &rooms;
    rig_run(rig->other, "BEGIN; LOCK TABLE telemetry.plain IN EXCLUSIVE MODE");
    while (!rig->budget.full)
        rig_feed(rig, PLAIN, (int64_t)rig->received);
    rig_wait_blocked(rig, 1);
    assert_int_equal(rooms, 0);
    rig_run(rig->other, "COMMIT");
    rig_wait_all(rig);
    assert_int_equal(rooms, 1);
    assert_false(rig->budget.full);
    assert_int_equal(rig->budget.used, 0);
}

// ---- linger ----

static void linger_waits_for_more(void **state)
{
    struct rig *rig = rig_up(state, (struct writer_options){.linger_ms = 40});
    rig_feed_range(rig, PLAIN, 0, 5);
    rig_wait_all(rig);
    assert_int_equal(writer_counters(rig->writer)->commits, 1);
    assert_int_equal(writer_counters(rig->writer)->commits_by_timer, 1);
    rig_feed_range(rig, PLAIN, 5, 6);
    rig_wait_all(rig);
    assert_int_equal(writer_counters(rig->writer)->commits_by_timer, 2);
    rig_assert_text(rig->server, transactions, "5 1");
}

// An hour's linger would time these tests out.
static const struct writer_options an_hour = {.linger_ms = 3600000, .max_rows = 10};

static void a_full_window_ends_the_linger(void **state)
{
    struct rig *rig = rig_up(state, an_hour);
    uint64_t timers = loop_counters(rig->loop)->timer_events;
    rig_feed_range(rig, PLAIN, 0, 3);
    writer_hurry(rig->writer);
    rig_wait_all(rig);
    rig_feed_range(rig, PLAIN, 3, 5);
    event_base_loop(loop_base(rig->loop), EVLOOP_NONBLOCK);
    assert_int_equal(rig->settled, 3);
    writer_hurry(rig->writer);
    rig_wait_all(rig);
    rig_assert_text(rig->server, transactions, "3 2");
    assert_int_equal(writer_counters(rig->writer)->commits_by_timer, 0);
    assert_int_equal(loop_counters(rig->loop)->timer_events, timers);
}

static void a_full_batch_ends_the_linger(void **state)
{
    struct rig *rig = rig_up(state, an_hour);
    uint64_t timers = loop_counters(rig->loop)->timer_events;
    rig_feed_range(rig, PLAIN, 0, 25);
    rig_wait_settled(rig, 20);
    assert_int_equal(rig->settled, 20);
    writer_hurry(rig->writer);
    rig_wait_all(rig);
    rig_assert_text(rig->server, transactions, "10 10 5");
    assert_int_equal(loop_counters(rig->loop)->timer_events, timers);
}

static void a_hurry_while_all_are_busy_is_not_forgotten(void **state)
{
    struct rig *rig = rig_up(state, an_hour);
    rig_run(rig->other, "BEGIN; LOCK TABLE telemetry.plain IN EXCLUSIVE MODE");
    rig_feed(rig, PLAIN, 0);
    writer_hurry(rig->writer);
    rig_wait_blocked(rig, 1);
    rig_feed_range(rig, PLAIN, 1, 4);
    writer_hurry(rig->writer);
    rig_run(rig->other, "COMMIT");
    rig_wait_all(rig);
    rig_assert_text(rig->server, transactions, "1 3");
}

// ---- drain, state, end ----

static void draining_commits_what_lingers(void **state)
{
    struct rig *rig = rig_up(state, an_hour);
    rig_feed_range(rig, PLAIN, 0, 4);
    writer_drain(rig->writer, rig_note_drained, rig);
    assert_false(rig->drained);
    assert_true(rig_until(rig->loop, rig_drained, rig));
    assert_int_equal(rig->settled, 4);
    rig_assert_verdicts(rig, 0, 4, VERDICT_STORED);
}

static void draining_waits_for_all_connections(void **state)
{
    struct rig *rig = rig_up(state, (struct writer_options){.connections = 2, .max_rows = 5});
    rig_run(rig->other, "BEGIN; LOCK TABLE telemetry.plain IN EXCLUSIVE MODE");
    rig_feed(rig, PLAIN, 0);
    rig_wait_blocked(rig, 1);
    rig_feed(rig, PLAIN, 1);
    rig_wait_blocked(rig, 2);
    rig_feed_range(rig, PLAIN, 2, 20);
    writer_drain(rig->writer, rig_note_drained, rig);
    event_base_loop(loop_base(rig->loop), EVLOOP_NONBLOCK);
    assert_false(rig->drained);
    rig_run(rig->other, "COMMIT");
    assert_true(rig_until(rig->loop, rig_drained, rig));
    assert_int_equal(rig->settled, 20);
}

static void nothing_to_drain(void **state)
{
    struct rig *rig = rig_with(state, (struct writer_options){0});
    rig_feed(rig, PLAIN, 0); // and no connection: at once
    writer_drain(rig->writer, rig_note_drained, rig);
    assert_true(rig_until(rig->loop, rig_drained, rig));
    assert_int_equal(rig->settled, 0);
    rig->drained = false;
    writer_start(rig->writer);
    rig_wait_all(rig);
    writer_drain(rig->writer, rig_note_drained, rig);
    assert_true(rig_until(rig->loop, rig_drained, rig));
}

// Wherever a message waits, and only as long as it does.
static void the_lag_is_the_oldest_ones(void **state)
{
    struct rig *rig = rig_up(state, (struct writer_options){.max_rows = 5});
    assert_int_equal(writer_lag_ms(rig->writer), 0);
    rig->now_us = loop_wall_us() - 3600 * INT64_C(1000000);
    rig->catalog.missing_from = rig_time(10);
    rig->catalog.missing_to = rig_time(20);
    rig_feed(rig, PLAIN, 10); // waits for its partition
    assert_in_range(writer_lag_ms(rig->writer), 3600000, 3700000);
    rig_wait_asked(rig);
    assert_in_range(writer_lag_ms(rig->writer), 3600000, 3700000);
    rig->now_us += 1800 * INT64_C(1000000);
    rig_run(rig->other, "BEGIN; LOCK TABLE telemetry.other IN EXCLUSIVE MODE");
    rig_feed(rig, OTHER, 1); // is in flight
    rig_wait_blocked(rig, 1);
    rig->catalog.missing_to = 0;
    rig->now_us = 0;
    rig_feed_range(rig, OTHER, 2, 10); // waits
    assert_in_range(writer_lag_ms(rig->writer), 3600000, 3700000);
    catalog_answer(&rig->catalog, true, "");
    assert_in_range(writer_lag_ms(rig->writer), 3600000, 3700000);
    rig_run(rig->other, "COMMIT");
    rig_wait_all(rig);
    assert_int_equal(writer_lag_ms(rig->writer), 0);
    rig->now_us = loop_wall_us() - 60 * INT64_C(1000000);
    rig_run(rig->other, "BEGIN; LOCK TABLE telemetry.other IN EXCLUSIVE MODE");
    rig_feed_message(rig, NULL, 0, "malformed");
    rig->now_us = 0;
    rig_feed(rig, OTHER, 10);
    rig_wait_blocked(rig, 1);
    assert_in_range(writer_lag_ms(rig->writer), 60000, 160000);
    rig_run(rig->other, "COMMIT");
    rig_wait_all(rig);
}

static void the_state_in_words(void **state)
{
    struct rig *rig = rig_with(state, (struct writer_options){.connections = 2});
    assert_string_equal(writer_state(rig->writer), "0 of 2 connections: not connected yet");
    writer_start(rig->writer);
    rig_wait_usable(rig, 2);
    assert_string_equal(writer_state(rig->writer), "ok");
}

static void what_is_not_committed_is_abandoned(void **state)
{
    struct rig *rig = rig_up(state, (struct writer_options){.max_rows = 5});
    rig_run(rig->other, "BEGIN; LOCK TABLE telemetry.plain IN EXCLUSIVE MODE");
    rig_feed(rig, PLAIN, 0); // in flight
    rig_wait_blocked(rig, 1);
    rig->catalog.missing_from = rig_time(100);
    rig->catalog.missing_to = rig_time(200);
    rig_feed_range(rig, PLAIN, 100, 105); // a full batch
    rig_feed_range(rig, PLAIN, 1, 3);     // and one that gathers
    writer_free(rig->writer);
    rig->writer = NULL;
    rig_assert_verdicts(rig, 0, 8, VERDICT_ABANDONED);
    rig_run(rig->other, "ROLLBACK");
}

static void who_waits_for_a_partition_is_abandoned(void **state)
{
    struct rig *rig = rig_up(state, (struct writer_options){0});
    rig->catalog.missing_from = rig_time(0);
    rig->catalog.missing_to = rig_time(10);
    rig_feed(rig, PLAIN, 1);
    rig_wait_asked(rig);
    writer_free(rig->writer);
    rig->writer = NULL;
    assert_int_equal(rig->verdicts[0], VERDICT_ABANDONED);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        TEST(rows_are_committed),
        TEST(what_came_before_the_connection_is_one_batch),
        TEST(a_key_tells_what_is_there_already),
        TEST(that_nothing_is_there_is_taken_for_granted),
        TEST(another_unique_index_refuses_a_row),
        TEST(while_one_commits_the_next_gathers),
        TEST(batches_have_a_size),
        TEST(connections_commit_side_by_side),
        TEST(a_message_is_one_transaction),
        TEST(another_target_takes_over_a_number),
        TEST(a_message_without_parts_starts_nothing),
        TEST(long_values_pass),
        TEST(a_commit_makes_room),
        TEST(linger_waits_for_more),
        TEST(a_full_window_ends_the_linger),
        TEST(a_full_batch_ends_the_linger),
        TEST(a_hurry_while_all_are_busy_is_not_forgotten),
        TEST(draining_commits_what_lingers),
        TEST(draining_waits_for_all_connections),
        TEST(nothing_to_drain),
        TEST(the_lag_is_the_oldest_ones),
        TEST(the_state_in_words),
        TEST(what_is_not_committed_is_abandoned),
        TEST(who_waits_for_a_partition_is_abandoned),
    };
    return cmocka_run_group_tests(tests, rig_begin, rig_end);
}
