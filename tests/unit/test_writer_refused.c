// The batch writer and what PostgreSQL refuses: rows at fault, mappings at fault, partitions that
// are not there, and what cures itself.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "writer_rig.h"

// Savepoints have numbers of their own: the transaction's is kept with each row.
static const char keep_transactions[] =
    "ALTER TABLE telemetry.plain ADD x xid8 DEFAULT pg_current_xact_id();"
    "ALTER TABLE telemetry.other ADD x xid8 DEFAULT pg_current_xact_id();"
    "ALTER TABLE telemetry.keyed ADD x xid8 DEFAULT pg_current_xact_id();"
    "ALTER TABLE sensorlog.reject ADD x xid8 DEFAULT pg_current_xact_id()";

// Those that have left something.
static const char transactions[] =
    "SELECT count(DISTINCT x::text) FROM (SELECT x FROM telemetry.plain WHERE time < '2024-01-01'"
    " UNION ALL SELECT x FROM telemetry.other UNION ALL SELECT x FROM telemetry.keyed"
    " UNION ALL SELECT x FROM sensorlog.reject) t";

// Counts the INSERTs that were tried; a sequence takes nothing back.
static const char count_tries[] =
    "CREATE SEQUENCE telemetry.tries;"
    "CREATE FUNCTION telemetry.count() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN PERFORM nextval('telemetry.tries'); RETURN NULL; END $$;"
    "CREATE TRIGGER count BEFORE INSERT ON telemetry.plain EXECUTE FUNCTION telemetry.count()";

static const char tries[] =
    "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM telemetry.tries";

// ---- rows at fault ----

static void a_bad_row_goes_to_the_reject_table(void **state)
{
    static const struct {
        const char *fault; // n = 13 becomes bad
        const char *sqlstate, *detail;
    } cases[] = {
        {"ALTER TABLE telemetry.plain ADD CONSTRAINT lucky CHECK (n <> 13)", "23514",
         "new row for relation \"plain\" violates check constraint \"lucky\": Failing row contains"
         " (2023-11-14 22:13:33+00, 13, null"},
        {"CREATE UNIQUE INDEX lucky ON telemetry.plain ((CASE WHEN n = 12 THEN 13 ELSE n END))",
         "23505", "duplicate key value violates unique constraint \"lucky\""},
        {"ALTER TABLE telemetry.plain ALTER n TYPE int2 USING n;"
         "CREATE FUNCTION telemetry.grow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
         " IF NEW.n = 13 THEN NEW.n := 40000; END IF; RETURN NEW; END $$;"
         "CREATE TRIGGER grow BEFORE INSERT ON telemetry.plain FOR EACH ROW"
         " EXECUTE FUNCTION telemetry.grow()",
         "22003", "out of range"},
        {"CREATE FUNCTION telemetry.raise() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
         " IF NEW.n = 13 THEN RAISE EXCEPTION 'no % here', NEW.n USING DETAIL = 'ask again'; END IF;"
         " RETURN NEW; END $$;"
         "CREATE TRIGGER raise BEFORE INSERT ON telemetry.plain FOR EACH ROW"
         " EXECUTE FUNCTION telemetry.raise()",
         "P0001", "no 13 here: ask again"},
        // These speak up at COMMIT.
        {"CREATE TABLE telemetry.twelve (n int8); INSERT INTO telemetry.plain VALUES (now(), 13);"
         "ALTER TABLE telemetry.plain ADD CONSTRAINT once UNIQUE (n) DEFERRABLE INITIALLY DEFERRED",
         "23505",
         "duplicate key value violates unique constraint \"once\": Key (n)=(13) already exists."},
        {"CREATE TABLE telemetry.known (n int8 PRIMARY KEY);"
         "INSERT INTO telemetry.known SELECT n FROM generate_series(0, 100) n WHERE n <> 13;"
         "ALTER TABLE telemetry.plain ADD CONSTRAINT known FOREIGN KEY (n)"
         " REFERENCES telemetry.known DEFERRABLE INITIALLY DEFERRED",
         "23503", "violates foreign key constraint \"known\": Key (n)=(13) is not present"},
        {"CREATE FUNCTION telemetry.late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
         " IF NEW.n = 13 THEN RAISE EXCEPTION 'too late' USING ERRCODE = 'ZZ013'; END IF;"
         " RETURN NULL; END $$;"
         "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON telemetry.plain DEFERRABLE INITIALLY DEFERRED"
         " FOR EACH ROW EXECUTE FUNCTION telemetry.late()",
         "ZZ013", "too late"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (i)
            rig_setup(state);
        struct rig *rig = rig_with(state, (struct writer_options){0});
        rig_run(rig->server, cases[i].fault);
        rig_run(rig->server, count_tries);
        rig_run(rig->server, keep_transactions);
        rig_feed_range(rig, PLAIN, 0, 100);
        writer_start(rig->writer);
        rig_wait_all(rig);
        rig_assert_verdicts(rig, 0, 13, VERDICT_STORED);
        rig_assert_verdicts(rig, 13, 14, VERDICT_REJECTED);
        rig_assert_verdicts(rig, 14, 100, VERDICT_STORED);
        assert_int_equal(rig->targets[PLAIN].books.verdicts[VERDICT_STORED], 99);
        assert_int_equal(rig->targets[PLAIN].books.verdicts[VERDICT_REJECTED], 1);
        rig_assert_text(rig->server, "SELECT count(DISTINCT n) FROM telemetry.plain WHERE n <> 13",
                        "99");
        char *expected = mem_printf("plain|refused by PostgreSQL|%s|t", cases[i].sqlstate);
        char *query = mem_printf("SELECT mapping, reason, sqlstate, strpos(detail, $d$%s$d$) > 0"
                                 " FROM sensorlog.reject",
                                 cases[i].detail);
        rig_assert_text(rig->server, query, expected);
        free(expected);
        free(query);
        rig_assert_text(rig->server, transactions, "1");
        // The whole, once for each of the seven times that 100 is halved, and the rest. What speaks
        // up at COMMIT is looked for row by row, and has a second go.
        assert_in_range(rig_number(rig->server, tries), 2, i >= 4 ? 1 + 100 + 1 : 2 + 1 + 7);
        assert_int_equal(writer_counters(rig->writer)->commits, 1);
        assert_int_equal(writer_counters(rig->writer)->rows, 99);
        assert_int_equal(writer_counters(rig->writer)->rejects, 1);
        if (i + 1 < sizeof cases / sizeof *cases)
            rig_teardown(state);
    }
}

// The statement of before is to go where the table has changed; what takes it away may be skipped,
// since the row of another mapping fails before it.
static void a_table_changes_while_another_refuses(void **state)
{
    struct rig *rig = rig_with(state, (struct writer_options){0});
    const struct part first[] = {{PLAIN, 1, NULL}, {OTHER, 1, NULL}, {KEYED, 1, NULL}};
    const struct part second[] = {{PLAIN, 2, NULL}, {OTHER, 2, NULL}, {KEYED, 2, NULL}};
    rig_feed_message(rig, first, 3, NULL);
    writer_start(rig->writer);
    rig_wait_all(rig);
    rig_run(rig->server, "ALTER TABLE telemetry.plain ADD CONSTRAINT one CHECK (n = 1)");
    rig->targets[OTHER].looks++;
    rig->targets[KEYED].looks++;
    rig_feed_message(rig, second, 3, NULL);
    rig_wait_all(rig);
    rig_assert_text(rig->server, "SELECT mapping, sqlstate FROM sensorlog.reject", "plain|23514");
    rig_assert_text(rig->server, "SELECT count(*) FROM telemetry.other", "2");
    rig_assert_text(rig->server, "SELECT count(*) FROM telemetry.keyed", "2");
    assert_null(rig->targets[OTHER].stopped);
}

static void several_bad_rows_in_several_tables(void **state)
{
    struct rig *rig = rig_with(state, (struct writer_options){0});
    rig_run(rig->server, "ALTER TABLE telemetry.plain ADD CONSTRAINT odd CHECK (n % 2 = 1);"
                         "ALTER TABLE telemetry.keyed ADD CONSTRAINT three CHECK (n % 3 <> 0)");
    rig_run(rig->server, keep_transactions);
    const struct part again = {KEYED, 1, NULL};
    for (int64_t n = 0; n < 30; n++) {
        const struct part parts[] = {{PLAIN, n, NULL}, {OTHER, n, NULL}, {KEYED, n, NULL}};
        rig_feed_message(rig, parts, 3, NULL);
    }
    rig_feed_message(rig, &again, 1, NULL);
    writer_start(rig->writer);
    rig_wait_all(rig);
    for (uint64_t n = 0; n < 30; n++)
        assert_int_equal(rig->verdicts[n],
                         n % 2 == 1 && n % 3 != 0 ? VERDICT_STORED : VERDICT_REJECTED);
    assert_int_equal(rig->verdicts[30], VERDICT_DEDUPLICATED);
    rig_assert_text(
        rig->server,
        "SELECT (SELECT count(*) FROM telemetry.plain), (SELECT count(*) FROM telemetry.other),"
        " (SELECT count(*) FROM telemetry.keyed), (SELECT count(*) FROM sensorlog.reject)",
        "15|30|20|25");
    rig_assert_text(
        rig->server,
        "SELECT mapping, count(*) FROM sensorlog.reject GROUP BY mapping ORDER BY mapping",
        "keyed|10\nplain|15");
    rig_assert_text(rig->server, transactions, "1");
    const struct books *books = &rig->targets[KEYED].books;
    assert_int_equal(books->verdicts[VERDICT_STORED], 20);
    assert_int_equal(books->verdicts[VERDICT_REJECTED], 10);
    assert_int_equal(books->verdicts[VERDICT_DEDUPLICATED], 1);
}

static void nothing_but_bad_rows(void **state)
{
    enum { ROWS = 300 };
    struct rig *rig = rig_with(state, (struct writer_options){0});
    rig_run(rig->server, "ALTER TABLE telemetry.plain ADD CONSTRAINT never CHECK (n < 0)");
    rig_run(rig->server, count_tries);
    rig_feed_range(rig, PLAIN, 0, ROWS);
    writer_start(rig->writer);
    rig_wait_all(rig);
    rig_assert_verdicts(rig, 0, ROWS, VERDICT_REJECTED);
    assert_int_equal(rig_number(rig->server, "SELECT count(*) FROM sensorlog.reject"), ROWS);
    // The first attempt, one row by halving, and the others: then it is known that all are bad.
    assert_in_range(rig_number(rig->server, tries), 3, 1 + 10 + 1);
    rig_feed(rig, OTHER, 1);
    rig_wait_all(rig);
    assert_int_equal(rig->verdicts[ROWS], VERDICT_STORED);
}

// The message of the error is cut where it is too long, but not within a character: the reject
// could not be written.
static void a_long_error_is_cut_between_characters(void **state)
{
    struct rig *rig = rig_with(state, (struct writer_options){0});
    rig_run(
        rig->server,
        "CREATE FUNCTION telemetry.raise() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.n < 4 THEN RAISE EXCEPTION '%', repeat('x', NEW.n::int) || repeat(U&'\\+01F321', 500);"
        " END IF; RETURN NEW; END $$;"
        "CREATE TRIGGER raise BEFORE INSERT ON telemetry.plain FOR EACH ROW"
        " EXECUTE FUNCTION telemetry.raise()");
    rig_feed_range(rig, PLAIN, 0, 6);
    writer_start(rig->writer);
    rig_wait_all(rig);
    rig_assert_verdicts(rig, 0, 4, VERDICT_REJECTED);
    rig_assert_verdicts(rig, 4, 6, VERDICT_STORED);
    rig_assert_text(rig->server,
                    "SELECT bool_and(length(detail) > 100 AND detail ~ U&'^x*\\+01F321+$')"
                    " FROM sensorlog.reject",
                    "t");
}

static void text_that_is_none_for_postgresql(void **state)
{
    struct rig *rig = rig_with(state, (struct writer_options){0});
    static const char *const notes[] = {"good", "\xff", "\xc3", "good too"};
    for (int64_t n = 0; n < 4; n++) {
        const struct part part = {PLAIN, n, notes[n]};
        rig_feed_message(rig, &part, 1, NULL);
    }
    writer_start(rig->writer);
    rig_wait_all(rig);
    rig_assert_text(rig->server, "SELECT note FROM telemetry.plain ORDER BY n", "good\ngood too");
    rig_assert_text(rig->server, "SELECT sqlstate FROM sensorlog.reject", "22021\n22021");
}

// ---- mappings at fault ----

static void a_missing_table_stops_its_mapping_alone(void **state)
{
    static const struct {
        const char *fault, *sqlstate;
    } cases[] = {
        {"DROP TABLE telemetry.plain", "42P01"},
        {"ALTER TABLE telemetry.plain DROP COLUMN note", "42703"},
        {"ALTER TABLE telemetry.plain ALTER note TYPE int8 USING NULL", "42804"},
        {"ALTER TABLE telemetry.plain RENAME TO p; CREATE MATERIALIZED VIEW telemetry.plain AS"
         " SELECT * FROM telemetry.p",
         "42809"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (i)
            rig_setup(state);
        struct rig *rig = rig_up(state, (struct writer_options){0});
        rig_run(rig->server, cases[i].fault);
        const struct part parts[] = {{PLAIN, 1, NULL}, {OTHER, 1, NULL}};
        rig_feed_message(rig, parts, 2, NULL);
        rig_feed(rig, OTHER, 2);
        rig_wait_all(rig);
        assert_int_equal(rig->verdicts[0], VERDICT_REJECTED);
        assert_int_equal(rig->verdicts[1], VERDICT_STORED);
        assert_int_equal(rig->catalog.stops, 1);
        assert_non_null(rig->targets[PLAIN].stopped);
        assert_non_null(strstr(rig->targets[PLAIN].stopped, "\"telemetry\".\"plain\""));
        assert_non_null(strstr(rig->targets[PLAIN].stopped, cases[i].sqlstate));
        char *expected = mem_printf("plain|mapping stopped|%s|t", cases[i].sqlstate);
        rig_assert_text(rig->server,
                        "SELECT mapping, reason, sqlstate, strpos(detail, '\"plain\"') > 0"
                        " FROM sensorlog.reject",
                        expected);
        free(expected);
        assert_int_equal(rig_number(rig->server, "SELECT count(*) FROM telemetry.other"), 2);
        if (i + 1 < sizeof cases / sizeof *cases)
            rig_teardown(state);
    }
}

static void a_keyed_mapping_needs_its_index(void **state)
{
    struct rig *rig = rig_up(state, (struct writer_options){0});
    rig_run(rig->server, "ALTER TABLE telemetry.keyed DROP CONSTRAINT keyed_n_time_key");
    rig_feed(rig, KEYED, 1);
    rig_wait_all(rig);
    assert_int_equal(rig->verdicts[0], VERDICT_REJECTED);
    rig_assert_text(rig->server, "SELECT sqlstate FROM sensorlog.reject", "42P10");
    // Mended, and the catalog has found it so.
    rig_run(rig->server, "ALTER TABLE telemetry.keyed ADD UNIQUE (time, n)");
    rig_feed(rig, KEYED, 1);
    rig_feed(rig, KEYED, 1);
    rig_wait_all(rig);
    assert_int_equal(rig->verdicts[1], VERDICT_STORED);
    assert_int_equal(rig->verdicts[2], VERDICT_DEDUPLICATED);
}

// ---- partitions ----

static const char partitioned[] =
    "DROP TABLE telemetry.plain; CREATE TABLE telemetry.plain (time timestamptz NOT NULL, n int8, note text)"
    " PARTITION BY RANGE (time); CREATE TABLE telemetry.first PARTITION OF telemetry.plain"
    " FOR VALUES FROM ('2023-11-14 22:13:20+00') TO ('2023-11-14 22:13:30+00')"; // n from 0 to 9

static const char next_partition[] =
    "CREATE TABLE telemetry.next PARTITION OF telemetry.plain"
    " FOR VALUES FROM ('2023-11-14 22:13:30+00') TO ('2023-11-14 22:13:40+00')"; // to 19

static void partitions_are_made_before(void **state)
{
    struct rig *rig = rig_up(state, (struct writer_options){0});
    rig_run(rig->server, partitioned);
    rig->catalog.missing_from = rig_time(10);
    rig->catalog.missing_to = rig_time(20);
    rig_feed_range(rig, PLAIN, 8, 12);
    rig_wait_asked(rig);
    assert_int_equal(rig->catalog.needs, 1);
    assert_int_equal(rig->catalog.needed_times, 2);
    // Meanwhile the connection is free for others.
    rig_feed(rig, OTHER, 1);
    rig_wait_settled(rig, 1);
    assert_int_equal(rig->verdicts[4], VERDICT_STORED);
    rig_run(rig->server, next_partition);
    rig->catalog.missing_from = rig->catalog.missing_to = 0;
    catalog_answer(&rig->catalog, true, "");
    rig_wait_all(rig);
    rig_assert_verdicts(rig, 0, 4, VERDICT_STORED);
    assert_int_equal(writer_counters(rig->writer)->failures, 0);
}

static void a_time_that_gets_no_partition_is_rejected(void **state)
{
    struct rig *rig = rig_up(state, (struct writer_options){0});
    rig_run(rig->server, partitioned);
    rig->catalog.missing_from = rig_time(10);
    rig->catalog.missing_to = INT64_MAX;
    rig_feed_range(rig, PLAIN, 8, 12);
    rig_wait_asked(rig);
    catalog_answer(&rig->catalog, false, "2023 is too far away");
    rig_wait_all(rig);
    rig_assert_verdicts(rig, 0, 2, VERDICT_STORED);
    rig_assert_verdicts(rig, 2, 4, VERDICT_REJECTED);
    rig_assert_text(rig->server,
                    "SELECT DISTINCT mapping, reason, detail, sqlstate FROM sensorlog.reject",
                    "plain|no partition|2023 is too far away|~");
    assert_int_equal(rig->catalog.needs, 1);
}

// Somebody has dropped the partition that the catalog knows of.
static void a_partition_that_is_gone_is_looked_for(void **state)
{
    struct rig *rig = rig_up(state, (struct writer_options){0});
    rig_run(rig->server, partitioned);
    rig_feed_range(rig, PLAIN, 8, 12);
    rig_wait_asked(rig);
    assert_int_equal(rig->catalog.refreshes, 1);
    rig_run(rig->server, next_partition);
    catalog_answer(&rig->catalog, true, "");
    rig_wait_all(rig);
    rig_assert_verdicts(rig, 0, 4, VERDICT_STORED);
    assert_int_equal(rig_number(rig->server, "SELECT count(*) FROM sensorlog.reject"), 0);
}

static bool settled_in_spite_of_answers(void *arg)
{
    struct rig *rig = arg;
    catalog_answer(&rig->catalog, true, "");
    return rig->settled > 0;
}

// It is there by the catalog, and yet no row fits: partitioned by something else below.
static void a_row_without_any_partition_is_rejected_in_the_end(void **state)
{
    struct rig *rig = rig_up(state, (struct writer_options){0});
    rig_run(rig->server, partitioned);
    rig_feed_range(rig, PLAIN, 8, 12);
    assert_true(rig_until(rig->loop, settled_in_spite_of_answers, rig));
    rig_wait_all(rig);
    rig_assert_verdicts(rig, 0, 2, VERDICT_STORED);
    rig_assert_verdicts(rig, 2, 4, VERDICT_REJECTED);
    rig_assert_text(rig->server, "SELECT DISTINCT sqlstate FROM sensorlog.reject", "23514");
    assert_in_range(rig->catalog.refreshes, 1, 5);
    assert_int_equal(rig->catalog.stops, 0);
}

// ---- what cures itself ----

static void a_deadlock_is_tried_again(void **state)
{
    struct rig *rig = rig_up(state, (struct writer_options){0});
    rig_run(
        rig->server,
        "CREATE SEQUENCE telemetry.tried; CREATE FUNCTION telemetry.fail() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN IF nextval('telemetry.tried') < 4 THEN"
        " RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01'; END IF; RETURN NULL; END $$;"
        "CREATE TRIGGER fail BEFORE INSERT ON telemetry.plain EXECUTE FUNCTION telemetry.fail()");
    uint64_t timers = loop_counters(rig->loop)->timer_events;
    rig_feed_range(rig, PLAIN, 0, 10);
    rig_wait_all(rig);
    rig_assert_verdicts(rig, 0, 10, VERDICT_STORED);
    assert_int_equal(rig_number(rig->server, "SELECT count(*) FROM telemetry.plain"), 10);
    assert_int_equal(writer_counters(rig->writer)->failures, 3);
    assert_int_equal(loop_counters(rig->loop)->timer_events, timers); // at once
}

static bool has_failed_twice(void *arg)
{
    const struct rig *rig = arg;
    return writer_counters(rig->writer)->failures >= 2;
}

// Nobody's row is to blame: wait for who can mend it, and lose nothing.
static void trouble_of_the_server_is_waited_for(void **state)
{
    static const struct {
        const char *trouble, *cure;
    } cases[] = {
        {"CREATE FUNCTION telemetry.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
         " RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;"
         "CREATE TRIGGER fail BEFORE INSERT ON telemetry.plain EXECUTE FUNCTION telemetry.fail()",
         "DROP TRIGGER fail ON telemetry.plain"},
        {"ALTER TABLE sensorlog.writer_progress RENAME TO away",
         "ALTER TABLE sensorlog.away RENAME TO writer_progress"},
        {"ALTER TABLE sensorlog.reject RENAME TO away",
         "ALTER TABLE sensorlog.away RENAME TO reject"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (i)
            rig_setup(state);
        struct rig *rig = rig_up(state, (struct writer_options){0});
        rig_run(rig->server, cases[i].trouble);
        const struct part part = {PLAIN, 1, NULL};
        rig_feed_message(rig, &part, 1, NULL);
        rig_feed_message(rig, NULL, 0, "malformed");
        assert_true(rig_until(rig->loop, has_failed_twice, rig));
        assert_int_equal(rig->settled, 0);
        rig_run(rig->server, cases[i].cure);
        rig_wait_all(rig);
        assert_int_equal(rig->verdicts[0], VERDICT_STORED);
        assert_int_equal(rig->verdicts[1], VERDICT_REJECTED);
        rig_assert_text(rig->server, "SELECT count(*) FROM telemetry.plain", "1");
        rig_assert_text(rig->server, "SELECT reason FROM sensorlog.reject", "malformed");
        assert_int_equal(rig->catalog.stops, 0);
        if (i + 1 < sizeof cases / sizeof *cases)
            rig_teardown(state);
    }
}

static bool has_begun_again(void *arg)
{
    return ((const struct rig *)arg)->catalog.beginnings > 0;
}

// As after a restore of another backup: the catalog makes it anew, and the rows come after that.
static void the_schema_is_gone(void **state)
{
    struct rig *rig = rig_up(state, (struct writer_options){.connections = 2});
    rig_feed(rig, PLAIN, 0);
    rig_wait_all(rig);
    rig_run(rig->server, "DROP SCHEMA sensorlog CASCADE");
    rig_feed_range(rig, PLAIN, 1, 10);
    assert_true(rig_until(rig->loop, has_begun_again, rig));
    assert_int_equal(rig->settled, 1);
    rig_migrate(rig->server);
    rig_wait_all(rig);
    rig_assert_verdicts(rig, 0, 10, VERDICT_STORED);
    rig_assert_text(rig->server, "SELECT count(*), count(DISTINCT n) FROM telemetry.plain",
                    "10|10");
    rig_wait_usable(rig, 2);
}

static void an_epoch_that_cannot_be_raised_yet(void **state)
{
    struct rig *rig = rig_with(state, (struct writer_options){.connections = 3});
    rig_run(rig->server, "ALTER FUNCTION sensorlog.raise_epoch RENAME TO away");
    rig_feed(rig, PLAIN, 1);
    writer_start(rig->writer);
    rig_wait_state(rig, "raise_epoch");
    rig_run(rig->server, "ALTER FUNCTION sensorlog.away RENAME TO raise_epoch");
    rig_wait_usable(rig, 3);
    rig_wait_all(rig);
    assert_int_equal(rig->verdicts[0], VERDICT_STORED);
    assert_int_equal(rig_number(rig->server, "SELECT epoch FROM sensorlog.writer"), 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_bad_row_goes_to_the_reject_table),
        TEST(several_bad_rows_in_several_tables),
        TEST(a_table_changes_while_another_refuses),
        TEST(nothing_but_bad_rows),
        TEST(a_long_error_is_cut_between_characters),
        TEST(text_that_is_none_for_postgresql),
        TEST(a_missing_table_stops_its_mapping_alone),
        TEST(a_keyed_mapping_needs_its_index),
        TEST(partitions_are_made_before),
        TEST(a_time_that_gets_no_partition_is_rejected),
        TEST(a_partition_that_is_gone_is_looked_for),
        TEST(a_row_without_any_partition_is_rejected_in_the_end),
        TEST(a_deadlock_is_tried_again),
        TEST(trouble_of_the_server_is_waited_for),
        TEST(the_schema_is_gone),
        TEST(an_epoch_that_cannot_be_raised_yet),
    };
    return cmocka_run_group_tests(tests, rig_begin, rig_end);
}
