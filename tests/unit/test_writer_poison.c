// The batch writer and batches with rows at fault: few or many, found in few round trips; deferred
// constraints; errors that are no row's fault in the midst of it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "writer_rig.h"

enum { ROWS = 10000 };

// As many as a batch takes, by a way that counts round trips. None is sent before the writer
// starts.
static struct rig *rig_full(void **state, int target)
{
    rig_need_postgres();
    struct rig *rig = *state;
    rig->way = way_new(rig->loop);
    static char where[80]; // options.conninfo is not copied
    snprintf(where, sizeof where, "host=%s dbname=%s", rig->way->directory, rig_database);
    rig_with(state, (struct writer_options){.conninfo = where, .max_rows = ROWS});
    rig_feed_range(rig, target, 0, ROWS);
    return rig;
}

// The round trips until all have ended.
static unsigned send_all(struct rig *rig)
{
    writer_start(rig->writer);
    rig_wait_usable(rig, 1);
    unsigned before = rig->way->syncs;
    rig_wait_all(rig);
    assert_int_equal(writer_counters(rig->writer)->commits, 1);
    return rig->way->syncs - before;
}

// 2 * log2(10000) + 2 = 28.6, beside the one that a good batch takes. The rows are sent while the
// connection opens, so the count has some of its round trips too, or none.
static void one_bad_row_costs_few_round_trips(void **state)
{
    static const struct {
        int target;
        int64_t n;
    } cases[] = {{PLAIN, 0},        {PLAIN, 1}, {PLAIN, 4999}, {PLAIN, 5000},
                 {PLAIN, ROWS - 1}, {KEYED, 0}, {KEYED, 7777}, {KEYED, ROWS - 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (i)
            rig_setup(state);
        struct rig *rig = rig_full(state, cases[i].target);
        char *fault =
            mem_printf("ALTER TABLE @ ADD CONSTRAINT lucky CHECK (n <> %d)", (int)cases[i].n);
        rig_run_on(rig, fault, cases[i].target);
        free(fault);
        assert_in_range(send_all(rig), 10, 1 + 28);
        assert_int_equal(rig->verdicts[cases[i].n], VERDICT_REJECTED);
        rig_assert_text(rig->server, "SELECT count(*), min(sqlstate) FROM sensorlog.reject",
                        "1|23514");
        assert_int_equal(rig->targets[cases[i].target].books.verdicts[VERDICT_STORED], ROWS - 1);
        if (i + 1 < sizeof cases / sizeof *cases)
            rig_teardown(state);
    }
}

// Each fault is a row's own, whatever is to blame; every third row has it.
static void many_bad_rows_cost_few_round_trips(void **state)
{
    static const struct {
        const char *fault, *sqlstate, *detail;
    } cases[] = {
        {"ALTER TABLE @ ADD CONSTRAINT third CHECK (n % 3 <> 0)", "23514", "\"third\""},
        {"ALTER TABLE @ ALTER n TYPE int2 USING n; CREATE FUNCTION telemetry.grow() RETURNS trigger"
         " LANGUAGE plpgsql AS $$ BEGIN IF NEW.n % 3 = 0 THEN NEW.n := 40000; END IF; RETURN NEW;"
         " END $$; CREATE TRIGGER grow BEFORE INSERT ON @ FOR EACH ROW EXECUTE FUNCTION"
         " telemetry.grow()",
         "22003", "out of range"},
        {"CREATE FUNCTION telemetry.clear() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
         " IF NEW.n % 3 = 0 THEN NEW.note := NULL; ELSE NEW.note = 'x'; END IF; RETURN NEW; END $$;"
         "CREATE TRIGGER clear BEFORE INSERT ON @ FOR EACH ROW EXECUTE FUNCTION telemetry.clear();"
         "ALTER TABLE @ ALTER note SET NOT NULL",
         "23502", "null value in column \"note\""},
        {"CREATE TABLE telemetry.known AS SELECT n::int8 FROM generate_series(0, 10000) n WHERE n % 3 <> 0;"
         "ALTER TABLE telemetry.known ADD PRIMARY KEY (n);"
         "ALTER TABLE @ ADD CONSTRAINT known FOREIGN KEY (n) REFERENCES telemetry.known",
         "23503", "foreign key constraint \"known\""},
        {"CREATE TABLE telemetry.known AS SELECT n::int8 FROM generate_series(0, 10000) n WHERE n % 3 <> 0;"
         "ALTER TABLE telemetry.known ADD PRIMARY KEY (n);"
         "ALTER TABLE @ ADD CONSTRAINT known FOREIGN KEY (n) REFERENCES telemetry.known"
         " DEFERRABLE INITIALLY DEFERRED",
         "23503", "foreign key constraint \"known\""},
        {"CREATE UNIQUE INDEX once ON @ ((CASE WHEN n % 3 = 0 THEN -1 ELSE n END));"
         "INSERT INTO @ VALUES ('2000-01-01', -1)",
         "23505", "\"once\""},
        {"ALTER TABLE @ ADD CONSTRAINT apart EXCLUDE"
         " ((CASE WHEN n % 3 = 0 THEN -1 ELSE n END) WITH =);"
         "INSERT INTO @ VALUES ('2000-01-01', -1)",
         "23P01", "\"apart\""},
        {"CREATE FUNCTION telemetry.raise() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
         " IF NEW.n % 3 = 0 THEN RAISE EXCEPTION 'no % here', NEW.n USING DETAIL = 'ask again';"
         " END IF; RETURN NULL; END $$;"
         "CREATE TRIGGER raise AFTER INSERT ON @ FOR EACH ROW EXECUTE FUNCTION telemetry.raise()",
         "P0001", " here: ask again"},
        {"CREATE FUNCTION telemetry.raise() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
         " ASSERT NEW.n % 3 <> 0, 'never'; RETURN NULL; END $$;"
         "CREATE TRIGGER raise AFTER INSERT ON @ FOR EACH ROW EXECUTE FUNCTION telemetry.raise()",
         "P0004", "never"},
        {"CREATE DOMAIN telemetry.number AS int8 CHECK (VALUE % 3 <> 0);"
         "ALTER TABLE @ ALTER n TYPE telemetry.number",
         "23514", "telemetry.number"},
    };
    static const int targets[] = {PLAIN, KEYED};
    for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
        if (i)
            rig_setup(state);
        int target = targets[i % 2];
        struct rig *rig = rig_full(state, target);
        rig_run_on(rig, cases[i / 2].fault, target);
        assert_in_range(send_all(rig), 2, 1 + 28 + 14);
        for (uint64_t n = 0; n < ROWS; n++)
            if (rig->verdicts[n] != (n % 3 == 0 ? VERDICT_REJECTED : VERDICT_STORED))
                fail_msg("case %zu, row %d: %s", i, (int)n,
                         verdict_name((enum verdict)rig->verdicts[n]));
        char *query = mem_printf("SELECT count(*), bool_and(sqlstate = '%s'),"
                                 " bool_and(strpos(detail, $d$%s$d$) > 0) FROM sensorlog.reject",
                                 cases[i / 2].sqlstate, cases[i / 2].detail);
        rig_assert_text(rig->server, query, "3334|t|t");
        free(query);
        query = mem_printf("SELECT count(*) FROM telemetry.%s WHERE time > '2020-01-01'",
                           rig->targets[target].table);
        rig_assert_text(rig->server, query, "6666");
        free(query);
        if (i + 1 < 2 * sizeof cases / sizeof *cases)
            rig_teardown(state);
    }
}

// Counts the INSERTs of rows; a sequence takes nothing back.
static const char count_inserts[] =
    "CREATE SEQUENCE telemetry.inserts;"
    "CREATE FUNCTION telemetry.count() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN PERFORM nextval('telemetry.inserts'); RETURN NULL; END $$;"
    "CREATE TRIGGER count BEFORE INSERT ON @ EXECUTE FUNCTION telemetry.count()";

static const char inserts[] = "SELECT last_value FROM telemetry.inserts";

// What the columns' types refuse is found without an INSERT per row, whatever triggers there are.
static void values_that_do_not_fit_their_columns(void **state)
{
    static const struct {
        const char *table, *type, *sqlstate, *detail;
        const char *bad, *good;
    } cases[] = {
        {"ALTER TABLE @ ALTER note TYPE varchar(3)", "character varying(3)", "22001",
         "value too long for type character varying(3)", "long", "ok"},
        {"CREATE DOMAIN telemetry.short AS varchar(3) CHECK (VALUE <> 'no');"
         "ALTER TABLE @ ALTER note TYPE telemetry.short",
         "telemetry.short", "22001", "value too long for type character varying(3)", "long", "ok"},
        {"CREATE DOMAIN telemetry.\"Short\" AS varchar(3);"
         "ALTER TABLE @ ALTER note TYPE telemetry.\"Short\"",
         "telemetry.\"Short\"", "22001", "value too long for type character varying(3)", "long",
         "   "},
        // The spaces are cut off, as an INSERT does.
        {"ALTER TABLE @ ALTER note TYPE varchar(3)", "character varying(3)", "22001",
         "value too long for type character varying(3)", "lo ng", "ok      "},
    };
    static const int targets[] = {PLAIN, KEYED};
    for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
        if (i)
            rig_setup(state);
        rig_need_postgres();
        struct rig *rig = rig_with(state, (struct writer_options){.max_rows = ROWS});
        int target = targets[i % 2];
        struct target_column columns[3];
        memcpy(columns, rig->targets[target].columns, sizeof columns);
        columns[2].live_type = mem_strdup(cases[i / 2].type);
        rig->targets[target].columns = columns;
        rig_run_on(rig, cases[i / 2].table, target);
        rig_run_on(rig, count_inserts, target);
        rig_run(rig->server, "CREATE FUNCTION telemetry.mend() RETURNS trigger LANGUAGE plpgsql AS"
                             " $$ BEGIN NEW.note := 'new'; RETURN NEW; END $$");
        rig_run_on(rig,
                   "CREATE TRIGGER mend BEFORE INSERT ON @ FOR EACH ROW EXECUTE FUNCTION"
                   " telemetry.mend()",
                   target);
        for (int64_t n = 0; n < 1000; n++) {
            const struct part part = {target, n, n % 3 ? cases[i / 2].good : cases[i / 2].bad};
            rig_feed_message(rig, &part, 1, NULL);
        }
        writer_start(rig->writer);
        rig_wait_all(rig);
        for (uint64_t n = 0; n < 1000; n++)
            assert_int_equal(rig->verdicts[n], n % 3 ? VERDICT_STORED : VERDICT_REJECTED);
        char *expected = mem_printf("334|%s|%s", cases[i / 2].sqlstate, cases[i / 2].detail);
        rig_assert_text(rig->server,
                        "SELECT count(*), min(sqlstate), max(detail) FROM sensorlog.reject"
                        " WHERE sqlstate = '22001'",
                        expected);
        free(expected);
        assert_in_range(rig_number(rig->server, inserts), 3, 30);
        free(columns[2].live_type);
        if (i + 1 < 2 * sizeof cases / sizeof *cases)
            rig_teardown(state);
    }
}

// Values that fit, and others, and a trigger that fails in the same way; a domain that no variable
// can be of, for it is never null.
static void values_that_fit_are_no_promise(void **state)
{
    static const char *const types[] = {"character varying(4)", "telemetry.always"};
    for (size_t i = 0; i < 2; i++) {
        if (i)
            rig_setup(state);
        rig_need_postgres();
        struct rig *rig = rig_with(state, (struct writer_options){0});
        struct target_column columns[3];
        memcpy(columns, rig->targets[PLAIN].columns, sizeof columns);
        columns[2].live_type = mem_strdup(types[i]);
        rig->targets[PLAIN].columns = columns;
        char *sql = mem_printf("CREATE DOMAIN telemetry.always AS varchar(4) NOT NULL;"
                               "ALTER TABLE telemetry.plain ALTER note TYPE %s;"
                               "CREATE FUNCTION telemetry.f() RETURNS trigger LANGUAGE plpgsql AS"
                               " $$ DECLARE small varchar(3); BEGIN small := NEW.note; RETURN NEW;"
                               " END $$;"
                               "CREATE TRIGGER f BEFORE INSERT ON telemetry.plain FOR EACH ROW"
                               " EXECUTE FUNCTION telemetry.f()",
                               types[i]);
        rig_run(rig->server, sql);
        free(sql);
        static const char *const notes[] = {"fits", "does not", "ok"};
        for (int64_t n = 0; n < 300; n++) {
            const struct part part = {PLAIN, n, notes[n % 3]};
            rig_feed_message(rig, &part, 1, NULL);
        }
        writer_start(rig->writer);
        rig_wait_all(rig);
        for (uint64_t n = 0; n < 300; n++)
            assert_int_equal(rig->verdicts[n], n % 3 == 2 ? VERDICT_STORED : VERDICT_REJECTED);
        rig_assert_text(rig->server,
                        "SELECT detail, sqlstate, count(*) FROM sensorlog.reject GROUP BY 1, 2"
                        " ORDER BY 1",
                        "value too long for type character varying(3)|22001|100\n"
                        "value too long for type character varying(4)|22001|100");
        free(columns[2].live_type);
        if (i == 0)
            rig_teardown(state);
    }
}

// A row that is there already violates a unique index of the site's own too, which PostgreSQL may
// look at first: among rows at fault, as elsewhere, it is a redelivery.
static void redeliveries_beside_a_unique_index(void **state)
{
    static const char *const faults[] = {
        "CREATE FUNCTION telemetry.raise() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.n % 3 = 0 THEN RAISE 'bad'; END IF; RETURN NULL; END $$;"
        "CREATE TRIGGER raise AFTER INSERT ON telemetry.keyed FOR EACH ROW EXECUTE FUNCTION"
        " telemetry.raise()",
        "INSERT INTO telemetry.keyed (time, n, note) SELECT '2000-01-01', n, n"
        " FROM generate_series(0, 299) n WHERE n % 3 = 0",
    };
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        if (i)
            rig_setup(state);
        struct rig *rig = rig_with(state, (struct writer_options){0});
        rig_run(rig->server,
                "DROP TABLE telemetry.keyed; CREATE TABLE telemetry.keyed (LIKE telemetry.plain);"
                "CREATE UNIQUE INDEX first ON telemetry.keyed (note);"
                "ALTER TABLE telemetry.keyed ADD UNIQUE (n, time)");
        rig_run(rig->server,
                "INSERT INTO telemetry.keyed (time, n, note)"
                " SELECT to_timestamp(1700000000 + n), n, n FROM generate_series(0, 299) n"
                " WHERE n % 3 = 1");
        rig_run(rig->server, faults[i]);
        for (int64_t n = 0; n < 300; n++) {
            char note[16];
            snprintf(note, sizeof note, "%d", (int)n);
            const struct part part = {KEYED, n, note};
            rig_feed_message(rig, &part, 1, NULL);
        }
        writer_start(rig->writer);
        rig_wait_all(rig);
        static const enum verdict verdicts[] = {VERDICT_REJECTED, VERDICT_DEDUPLICATED,
                                                VERDICT_STORED};
        for (uint64_t n = 0; n < 300; n++)
            if (rig->verdicts[n] != verdicts[n % 3])
                fail_msg("case %zu, row %d: %s", i, (int)n,
                         verdict_name((enum verdict)rig->verdicts[n]));
        if (i + 1 < sizeof faults / sizeof *faults)
            rig_teardown(state);
    }
}

// What speaks up only after all rows of a try are in is not let in by halves more than it must.
static void a_sample_shows_whether_many_are_at_fault(void **state)
{
    static const struct {
        int64_t every, least, most; // every so many is bad; rows that a trigger has seen
    } cases[] = {
        {2, 1000, 2 * ROWS + 2000},
        {ROWS, ROWS, 5 * ROWS},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (i)
            rig_setup(state);
        rig_need_postgres();
        struct rig *rig = rig_with(state, (struct writer_options){.max_rows = ROWS});
        char *sql = mem_printf(
            "CREATE SEQUENCE telemetry.seen;"
            "CREATE FUNCTION telemetry.see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " PERFORM nextval('telemetry.seen'); RETURN NEW; END $$;"
            "CREATE FUNCTION telemetry.raise() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " IF NEW.n %% %d = 1 THEN RAISE 'bad'; END IF; RETURN NULL; END $$;"
            "CREATE TRIGGER see BEFORE INSERT ON telemetry.plain FOR EACH ROW EXECUTE FUNCTION"
            " telemetry.see();"
            "CREATE TRIGGER raise AFTER INSERT ON telemetry.plain FOR EACH ROW EXECUTE FUNCTION"
            " telemetry.raise()",
            (int)cases[i].every);
        rig_run(rig->server, sql);
        free(sql);
        rig_feed_range(rig, PLAIN, 0, ROWS);
        writer_start(rig->writer);
        rig_wait_all(rig);
        for (uint64_t n = 0; n < ROWS; n++)
            assert_int_equal(rig->verdicts[n],
                             (int64_t)n % cases[i].every == 1 ? VERDICT_REJECTED : VERDICT_STORED);
        assert_in_range(rig_number(rig->server, "SELECT last_value FROM telemetry.seen"),
                        cases[i].least, cases[i].most);
        if (i + 1 < sizeof cases / sizeof *cases)
            rig_teardown(state);
    }
}

// ---- deferred constraints ----

// n refers to the row n + 1 of its own table, or of the other one: what they refer to comes later
// in the batch. One refers to nothing.
static void rows_may_refer_to_later_ones(void **state)
{
    static const char *const faults[] = {
        "ALTER TABLE telemetry.plain ADD UNIQUE (n), ADD next int8 GENERATED ALWAYS AS"
        " (CASE WHEN n = 499 THEN NULL WHEN n = 250 THEN 77777 ELSE n + 1 END) STORED;"
        "ALTER TABLE telemetry.plain ADD FOREIGN KEY (next) REFERENCES telemetry.plain (n)"
        " DEFERRABLE INITIALLY DEFERRED",
        "ALTER TABLE telemetry.other ADD UNIQUE (n);"
        "ALTER TABLE telemetry.plain ADD next int8 GENERATED ALWAYS AS"
        " (CASE WHEN n = 250 THEN 77777 ELSE n END) STORED;"
        "ALTER TABLE telemetry.plain ADD FOREIGN KEY (next) REFERENCES telemetry.other (n)"
        " DEFERRABLE INITIALLY DEFERRED",
    };
    // In the chain who refers to the one that is refused is refused too.
    static const uint64_t first_refused[] = {0, 250};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        if (i)
            rig_setup(state);
        struct rig *rig = rig_with(state, (struct writer_options){0});
        rig_run(rig->server, faults[i]);
        for (int64_t n = 0; n < 500; n++) {
            const struct part parts[] = {{PLAIN, n, NULL}, {OTHER, n, NULL}};
            rig_feed_message(rig, parts, 2, NULL);
        }
        writer_start(rig->writer);
        rig_wait_all(rig);
        rig_assert_verdicts(rig, 0, first_refused[i], VERDICT_STORED);
        rig_assert_verdicts(rig, first_refused[i], 251, VERDICT_REJECTED);
        rig_assert_verdicts(rig, 251, 500, VERDICT_STORED);
        assert_int_equal(rig_number(rig->server, "SELECT count(*) FROM telemetry.other"), 500);
        assert_int_equal(writer_counters(rig->writer)->commits, 1);
        if (i + 1 < sizeof faults / sizeof *faults)
            rig_teardown(state);
    }
}

// All refer to each other, and another table's row is at fault.
static void good_references_outlive_a_bad_row_elsewhere(void **state)
{
    struct rig *rig = rig_with(state, (struct writer_options){0});
    rig_run(rig->server,
            "ALTER TABLE telemetry.plain ADD UNIQUE (n), ADD next int8 GENERATED ALWAYS AS"
            " ((n + 1) % 50) STORED;"
            "ALTER TABLE telemetry.plain ADD FOREIGN KEY (next) REFERENCES telemetry.plain (n)"
            " DEFERRABLE INITIALLY DEFERRED;"
            "ALTER TABLE telemetry.other ADD CHECK (n <> 25 AND n <> 30 AND n <> 35)");
    for (int64_t n = 0; n < 50; n++) {
        const struct part parts[] = {{PLAIN, n, NULL}, {OTHER, n, NULL}};
        rig_feed_message(rig, parts, 2, NULL);
    }
    writer_start(rig->writer);
    rig_wait_all(rig);
    assert_int_equal(rig_number(rig->server, "SELECT count(*) FROM telemetry.plain"), 50);
    assert_int_equal(rig_number(rig->server, "SELECT count(*) FROM telemetry.other"), 47);
    assert_int_equal(rig_number(rig->server, "SELECT count(*) FROM sensorlog.reject"), 3);
}

// A deferred trigger whose table is gone stops its mapping, and not the others.
static void a_deferred_trigger_is_at_fault(void **state)
{
    struct rig *rig = rig_with(state, (struct writer_options){0});
    rig_run(rig->server,
            "CREATE FUNCTION telemetry.look() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM * FROM telemetry.nowhere; RETURN NULL; END $$;"
            "CREATE CONSTRAINT TRIGGER look AFTER INSERT ON telemetry.plain DEFERRABLE INITIALLY"
            " DEFERRED FOR EACH ROW EXECUTE FUNCTION telemetry.look()");
    rig_feed_range(rig, PLAIN, 0, 10);
    rig_feed_range(rig, OTHER, 0, 10);
    writer_start(rig->writer);
    rig_wait_all(rig);
    rig_assert_verdicts(rig, 0, 10, VERDICT_REJECTED);
    rig_assert_verdicts(rig, 10, 20, VERDICT_STORED);
    assert_int_equal(rig->catalog.stops, 1);
    rig_assert_text(rig->server, "SELECT DISTINCT mapping, reason, sqlstate FROM sensorlog.reject",
                    "plain|mapping stopped|42P01");
}

// ---- in the midst of it ----

static void raise_at(struct rig *rig, const char *sqlstate, const char *when)
{
    char *sql = mem_printf(
        "ALTER TABLE telemetry.plain ADD CONSTRAINT third CHECK (n %% 3 <> 0);"
        "CREATE SEQUENCE telemetry.tried;"
        "CREATE FUNCTION telemetry.raise() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.n = 50 AND %s THEN RAISE EXCEPTION 'in the midst' USING ERRCODE = '%s'; END IF;"
        " RETURN NEW; END $$;"
        "CREATE TRIGGER raise BEFORE INSERT ON telemetry.plain FOR EACH ROW"
        " EXECUTE FUNCTION telemetry.raise()",
        when, sqlstate);
    rig_run(rig->server, sql);
    free(sql);
}

// Bad rows all around, and one that meets trouble which passes: it is not refused for that.
static void trouble_in_the_midst_is_no_rows_fault(void **state)
{
    static const char *const sqlstates[] = {"40P01", "55P03", "53100", "57014", "58030", "40001"};
    for (size_t i = 0; i < sizeof sqlstates / sizeof *sqlstates; i++) {
        if (i)
            rig_setup(state);
        struct rig *rig = rig_with(state, (struct writer_options){0});
        raise_at(rig, sqlstates[i], "nextval('telemetry.tried') < 3");
        rig_feed_range(rig, PLAIN, 0, 100);
        writer_start(rig->writer);
        rig_wait_all(rig);
        for (uint64_t n = 0; n < 100; n++)
            assert_int_equal(rig->verdicts[n], n % 3 == 0 ? VERDICT_REJECTED : VERDICT_STORED);
        rig_assert_text(rig->server,
                        "SELECT count(*), min(sqlstate), max(sqlstate) FROM"
                        " sensorlog.reject",
                        "34|23514|23514");
        assert_int_equal(rig->catalog.stops, 0);
        if (i + 1 < sizeof sqlstates / sizeof *sqlstates)
            rig_teardown(state);
    }
}

static void a_mapping_at_fault_in_the_midst_stops(void **state)
{
    static const char *const sqlstates[] = {"42501", "42P01", "3F000", "0A000", "55000"};
    for (size_t i = 0; i < sizeof sqlstates / sizeof *sqlstates; i++) {
        if (i)
            rig_setup(state);
        struct rig *rig = rig_with(state, (struct writer_options){0});
        raise_at(rig, sqlstates[i], "true");
        rig_feed_range(rig, PLAIN, 0, 100);
        rig_feed_range(rig, OTHER, 0, 100);
        writer_start(rig->writer);
        rig_wait_all(rig);
        rig_assert_verdicts(rig, 0, 100, VERDICT_REJECTED);
        rig_assert_verdicts(rig, 100, 200, VERDICT_STORED);
        assert_int_equal(rig->catalog.stops, 1);
        char *expected = mem_printf("100|%s", sqlstates[i]);
        rig_assert_text(rig->server,
                        "SELECT count(*), max(sqlstate) FILTER (WHERE reason = 'mapping stopped')"
                        " FROM sensorlog.reject",
                        expected);
        free(expected);
        if (i + 1 < sizeof sqlstates / sizeof *sqlstates)
            rig_teardown(state);
    }
}

// Not even parameters: one by one does not go then, and halving does.
static void many_texts_that_are_none_for_postgresql(void **state)
{
    struct rig *rig = rig_with(state, (struct writer_options){0});
    for (int64_t n = 0; n < 100; n++) {
        const struct part part = {PLAIN, n, n % 3 == 0 ? "\xff" : "good"};
        rig_feed_message(rig, &part, 1, NULL);
    }
    writer_start(rig->writer);
    rig_wait_all(rig);
    rig_assert_text(rig->server, "SELECT count(*), count(DISTINCT n) FROM telemetry.plain",
                    "66|66");
    rig_assert_text(rig->server, "SELECT count(*), min(sqlstate) FROM sensorlog.reject",
                    "34|22021");
}

// A column may have any name; those of the attempt's own variables too.
static void columns_named_as_variables(void **state)
{
    static struct target_column columns[] = {
        {.name = "time", .type = COLUMN_TIMESTAMPTZ, .required = true, .key = true},
        {.name = "state", .type = COLUMN_INT8, .required = true, .key = true},
        {.name = "r", .type = COLUMN_TEXT, .compared = true},
        {.name = "stored", .type = COLUMN_TEXT, .compared = true},
        {.name = "input", .type = COLUMN_TEXT, .compared = true},
        {.name = "excluded", .type = COLUMN_TEXT, .compared = true},
    };
    struct rig *rig = rig_with(state, (struct writer_options){0});
    struct target *target = &rig->targets[KEYED];
    target->columns = columns;
    target->column_count = 6;
    target->on_conflict = CONFLICT_UPDATE;
    rig_run(rig->server,
            "DROP TABLE telemetry.keyed; CREATE TABLE telemetry.keyed (time timestamptz,"
            " state int8 CHECK (state % 3 <> 0), r text, stored text, input text, excluded text,"
            " UNIQUE (state, time))");
    for (int64_t n = 0; n < 60; n++) {
        const struct part part = {KEYED, n / 2, n % 2 ? "second" : "first"};
        rig_feed_message(rig, &part, 1, NULL);
    }
    writer_start(rig->writer);
    rig_wait_all(rig);
    rig_assert_text(rig->server, "SELECT count(*), min(r) FROM telemetry.keyed", "20|second");
    assert_int_equal(target->conflicts, 20);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        TEST(one_bad_row_costs_few_round_trips),
        TEST(many_bad_rows_cost_few_round_trips),
        TEST(values_that_do_not_fit_their_columns),
        TEST(values_that_fit_are_no_promise),
        TEST(redeliveries_beside_a_unique_index),
        TEST(a_sample_shows_whether_many_are_at_fault),
        TEST(rows_may_refer_to_later_ones),
        TEST(good_references_outlive_a_bad_row_elsewhere),
        TEST(a_deferred_trigger_is_at_fault),
        TEST(trouble_in_the_midst_is_no_rows_fault),
        TEST(a_mapping_at_fault_in_the_midst_stops),
        TEST(many_texts_that_are_none_for_postgresql),
        TEST(columns_named_as_variables),
    };
    return cmocka_run_group_tests(tests, rig_begin, rig_end);
}
