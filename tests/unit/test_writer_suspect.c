// The batch writer and constraints that refuse many rows of a batch: they are asked which, and the
// others go in together. Where what a constraint would say cannot be known beforehand, each row is
// tried as it is.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "writer_rig.h"

enum { ROWS = 300, HALVINGS = 2 * 9 };

// A statement's trigger, which a sequence takes nothing back of: BEFORE, or AFTER those that do not
// fail.
static const char count_tries[] =
    "CREATE SEQUENCE telemetry.tries;"
    "CREATE FUNCTION telemetry.count() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN PERFORM nextval('telemetry.tries'); RETURN NULL; END $$;"
    "CREATE TRIGGER count %1$s INSERT ON telemetry.plain EXECUTE FUNCTION telemetry.count();"
    "CREATE TRIGGER count %1$s INSERT ON telemetry.keyed EXECUTE FUNCTION telemetry.count()";

static const char tries[] =
    "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM telemetry.tries";

// Every third row has a note.
static void feed(struct rig *rig, int target, const char *note)
{
    for (int64_t n = 0; n < ROWS; n++) {
        const struct part part = {target, n, n % 3 == 0 ? note : NULL};
        rig_feed_message(rig, &part, 1, NULL);
    }
}

// The INSERTs that it takes.
static long send_counting(struct rig *rig, const char *when)
{
    char *sql = mem_printf(count_tries, when);
    rig_run(rig->server, sql);
    free(sql);
    writer_start(rig->writer);
    rig_wait_all(rig);
    assert_int_equal(writer_counters(rig->writer)->commits, 1);
    return rig_number(rig->server, tries);
}

static long send_all(struct rig *rig)
{
    return send_counting(rig, "BEFORE");
}

// The rows that PostgreSQL, asked one by one, would refuse are refused, by the constraint that it
// would name.
static void assert_refused(struct rig *rig, const char *refused, const char *sqlstate)
{
    char *query =
        mem_printf("SELECT count(*), bool_and(sqlstate = '%s') FROM sensorlog.reject", sqlstate);
    char *count =
        mem_printf("SELECT count(*) FROM generate_series(0, %d) n WHERE %s", ROWS - 1, refused);
    char *expected = mem_printf("%ld|t", rig_number(rig->server, count));
    rig_assert_text(rig->server, query, expected);
    free(expected);
    free(count);
    free(query);
    for (int64_t n = 0; n < ROWS; n++) {
        query = mem_printf("SELECT CASE WHEN %s THEN 1 ELSE 0 END FROM (SELECT %d AS n) r", refused,
                           (int)n);
        bool is_refused = rig_number(rig->server, query) > 0;
        free(query);
        if (is_refused != (rig->verdicts[n] == VERDICT_REJECTED))
            fail_msg("row %d: %s", (int)n, verdict_name((enum verdict)rig->verdicts[n]));
    }
}

static const char partitions[] =
    "DROP TABLE @; CREATE TABLE @ (note text, n int8, time timestamptz NOT NULL, UNIQUE (n, time))"
    " PARTITION BY RANGE (time);"
    "CREATE TABLE telemetry.early (time timestamptz NOT NULL, x int, n int8, note text);"
    "ALTER TABLE telemetry.early DROP x;"
    "ALTER TABLE @ ATTACH PARTITION telemetry.early FOR VALUES FROM (MINVALUE)"
    " TO ('2023-11-14 22:15:00+00');"
    "CREATE TABLE telemetry.late PARTITION OF @ FOR VALUES FROM ('2023-11-14 22:15:00+00')"
    " TO (MAXVALUE);";

struct fault {
    const char *table;   // how it is changed before
    const char *fault;   // what refuses
    const char *refused; // which n
    const char *sqlstate;
    const char *detail; // of each reject, or NULL
};

// A trigger before a statement may bring what a reference needs, so it is not known who lacks it.
static const char *moment(const struct fault *fault)
{
    return strcmp(fault->sqlstate, "23503") == 0 ? "AFTER" : "BEFORE";
}

static void check_faults(void **state, const struct fault *faults, size_t count, bool together)
{
    static const int targets[] = {PLAIN, KEYED};
    for (size_t i = 0; i < 2 * count; i++) {
        if (i)
            rig_setup(state);
        const struct fault *fault = &faults[i / 2];
        struct rig *rig = rig_with(state, (struct writer_options){0});
        int target = targets[i % 2];
        if (*fault->table)
            rig_run_on(rig, fault->table, target);
        rig_run_on(rig, fault->fault, target);
        feed(rig, target, "bad");
        long inserts = send_counting(rig, moment(fault));
        if (inserts > HALVINGS + 8 ? together : !together)
            fail_msg("%ld INSERTs: %s", inserts, fault->fault);
        assert_refused(rig, fault->refused, fault->sqlstate);
        char *query = mem_printf("SELECT count(*) FROM sensorlog.reject WHERE detail !~ $d$%s$d$",
                                 fault->detail ? fault->detail : "");
        assert_int_equal(rig_number(rig->server, query), 0);
        free(query);
        if (i + 1 < 2 * count)
            rig_teardown(state);
    }
}

// ---- known beforehand ----

static void a_constraint_tells_all_rows_at_once(void **state)
{
    static const struct fault faults[] = {
        {"", "ALTER TABLE @ ADD CONSTRAINT third CHECK (n % 3 <> 0)", "n % 3 = 0", "23514",
         "^new row for relation \"(plain|keyed)\" violates check constraint \"third\":"
         " Failing row contains .*2023-11-14 22:1.*, bad\\)\\.$"},
        // Nothing is known of who is null: it passes.
        {"", "ALTER TABLE @ ADD CONSTRAINT good CHECK (note <> 'bad')", "n % 3 = 0", "23514",
         "\"good\""},
        {"INSERT INTO @ VALUES ('2000-01-01', -3);",
         "ALTER TABLE @ ADD CONSTRAINT third CHECK (n % 3 <> 0) NOT VALID", "n % 3 = 0", "23514",
         "\"third\""},
        {"", "ALTER TABLE @ ADD CONSTRAINT third CHECK (n % 3 <> 0) NO INHERIT", "n % 3 = 0",
         "23514", "\"third\""},
        {"",
         "ALTER TABLE @ ADD CONSTRAINT b CHECK (n % 3 <> 0), ADD CONSTRAINT a CHECK (n % 5 <> 1),"
         " ADD CONSTRAINT \"the \"\"third\"\" 'one'\" CHECK (n % 7 <> 2)",
         "n % 3 = 0 OR n % 5 = 1 OR n % 7 = 2", "23514", "\"(a|b|the \"third\" 'one')\""},
        {"", "ALTER TABLE @ ADD CONSTRAINT past CHECK (time < now() AND note IS NULL)", "n % 3 = 0",
         "23514", "\"past\""},
        {"", "ALTER TABLE @ ADD CONSTRAINT never CHECK (false) NOT VALID", "true", "23514",
         "\"never\""},
        {partitions, "ALTER TABLE @ ADD CONSTRAINT third CHECK (n % 3 <> 0)", "n % 3 = 0", "23514",
         "\"third\""},
        {"",
         "CREATE DOMAIN telemetry.number AS int8 CONSTRAINT third CHECK (VALUE % 3 <> 0);"
         "ALTER TABLE @ ALTER n TYPE telemetry.number",
         "n % 3 = 0", "23514",
         "^value for domain telemetry.number violates check constraint \"third\""},
        {"", "ALTER TABLE @ ADD x text DEFAULT 'x', ADD CONSTRAINT third CHECK (n % 3 <> 0)",
         "n % 3 = 0", "23514", "\"third\""},
    };
    check_faults(state, faults, sizeof faults / sizeof *faults, true);
}

static void a_column_that_must_not_be_null(void **state)
{
    static const struct fault faults[] = {
        {"", "ALTER TABLE @ ALTER note SET NOT NULL", "n % 3 <> 0", "23502",
         "^null value in column \"note\" of relation \"(plain|keyed)\" violates not-null constraint:"
         " Failing row contains .*, null\\)\\.$"},
    };
    check_faults(state, faults, sizeof faults / sizeof *faults, true);
}

// Of one row several may be said; that it is refused is what counts.
static void different_constraints_in_turn(void **state)
{
    struct rig *rig = rig_with(state, (struct writer_options){0});
    rig_run(rig->server, "ALTER TABLE telemetry.plain ALTER note SET NOT NULL,"
                         " ADD CONSTRAINT odd CHECK (n % 2 = 1)");
    feed(rig, PLAIN, "good");
    assert_in_range(send_all(rig), 3, HALVINGS + 8);
    for (int64_t n = 0; n < ROWS; n++)
        assert_int_equal(rig->verdicts[n],
                         n % 2 == 1 && n % 3 == 0 ? VERDICT_STORED : VERDICT_REJECTED);
    rig_assert_text(rig->server,
                    "SELECT bool_and(detail LIKE CASE sqlstate WHEN '23502' THEN '%, null).'"
                    " ELSE '%\"odd\"%' END), count(DISTINCT sqlstate) FROM sensorlog.reject",
                    "t|2");
}

// More constraints than it is worth asking.
static void very_many_constraints(void **state)
{
    struct rig *rig = rig_with(state, (struct writer_options){0});
    for (int i = 0; i < 12; i++) {
        char *sql = mem_printf("ALTER TABLE telemetry.plain ADD CHECK (n %% 24 <> %d)", i * 2);
        rig_run(rig->server, sql);
        free(sql);
    }
    feed(rig, PLAIN, NULL);
    send_all(rig);
    assert_refused(rig, "n % 2 = 0", "23514");
}

static struct target_column with_compared_note[] = {
    {.name = "time", .type = COLUMN_TIMESTAMPTZ, .required = true, .key = true},
    {.name = "n", .type = COLUMN_INT8, .required = true, .key = true},
    {.name = "note", .type = COLUMN_TEXT, .compared = true},
};

static void refused_beside_redeliveries_and_conflicts(void **state)
{
    struct rig *rig = rig_with(state, (struct writer_options){0});
    rig->targets[KEYED].columns = with_compared_note;
    // Every row is there, one of two with another note.
    rig_run(rig->server,
            "INSERT INTO telemetry.keyed SELECT to_timestamp(1700000000 + n), n,"
            " CASE WHEN n % 2 = 1 THEN 'other' WHEN n % 3 = 0 THEN 'note' END"
            " FROM generate_series(0, 249) n;"
            "ALTER TABLE telemetry.keyed ADD CONSTRAINT third CHECK (n % 3 <> 0) NOT VALID");
    feed(rig, KEYED, "note");
    assert_in_range(send_all(rig), 3, HALVINGS + 8);
    for (int64_t n = 0; n < ROWS; n++)
        assert_int_equal(rig->verdicts[n], n % 3 == 0   ? VERDICT_REJECTED
                                           : n >= 250   ? VERDICT_STORED
                                           : n % 2 == 1 ? VERDICT_REJECTED
                                                        : VERDICT_DEDUPLICATED);
    rig_assert_text(rig->server,
                    "SELECT reason, sqlstate, count(*) FROM sensorlog.reject GROUP BY 1, 2"
                    " ORDER BY 1",
                    "conflict|~|83\nrefused by PostgreSQL|23514|100");
}

static const char parents[] =
    "CREATE TABLE telemetry.parent (n int8 PRIMARY KEY, note text, UNIQUE (n, note));"
    "INSERT INTO telemetry.parent SELECT n, 'bad' FROM generate_series(0, 299) n WHERE n % 3 <> 0;";

static void a_reference_to_what_is_not_there(void **state)
{
    static const struct fault faults[] = {
        {parents, "ALTER TABLE @ ADD CONSTRAINT known FOREIGN KEY (n) REFERENCES telemetry.parent",
         "n % 3 = 0", "23503",
         "^insert or update on table \"(plain|keyed)\" violates foreign key constraint \"known\":"
         " (Failing row contains .*2023-11-14 22:1.*, bad\\)|Key \\(n\\)=\\(0\\) is not .*)\\.$"},
        // Who refers to nothing passes.
        {"CREATE TABLE telemetry.parent (\"the \"\"note\"\"\" text UNIQUE);",
         "ALTER TABLE @ ADD CONSTRAINT \"the 'known'\" FOREIGN KEY (note)"
         " REFERENCES telemetry.parent (\"the \"\"note\"\"\")",
         "n % 3 = 0", "23503", "\"the 'known'\""},
        {parents,
         "ALTER TABLE @ ADD CONSTRAINT known FOREIGN KEY (n, note)"
         " REFERENCES telemetry.parent (n, note)",
         "n % 3 = 0", "23503", "\"known\""},
        {"CREATE TABLE telemetry.parent (x int8, y text, UNIQUE (y, x));"
         "INSERT INTO telemetry.parent SELECT n, 'bad' FROM generate_series(0, 150) n;",
         "ALTER TABLE @ ADD CONSTRAINT known FOREIGN KEY (note, n)"
         " REFERENCES telemetry.parent (y, x) MATCH FULL",
         "n % 3 <> 0 OR n > 150", "23503", "\"known\""},
        {parents,
         "CREATE TABLE telemetry.child () INHERITS (telemetry.parent);"
         "INSERT INTO telemetry.child SELECT n FROM generate_series(0, 299) n;"
         "ALTER TABLE @ ADD CONSTRAINT known FOREIGN KEY (n) REFERENCES telemetry.parent",
         "n % 3 = 0", "23503", "\"known\""},
        {partitions,
         "CREATE TABLE telemetry.parent (n int8 PRIMARY KEY) PARTITION BY HASH (n);"
         "CREATE TABLE telemetry.only PARTITION OF telemetry.parent"
         " FOR VALUES WITH (MODULUS 1, REMAINDER 0);"
         "INSERT INTO telemetry.parent SELECT n FROM generate_series(0, 299) n WHERE n % 3 <> 0;"
         "ALTER TABLE @ ADD CONSTRAINT known FOREIGN KEY (n) REFERENCES telemetry.parent",
         "n % 3 = 0", "23503", "\"known\""},
        {parents,
         "CREATE DOMAIN telemetry.number AS int8; ALTER TABLE @ ALTER n TYPE telemetry.number,"
         " ADD CONSTRAINT known FOREIGN KEY (n) REFERENCES telemetry.parent",
         "n % 3 = 0", "23503", "\"known\""},
    };
    check_faults(state, faults, sizeof faults / sizeof *faults, true);
}

// What is not inserted refers to nothing.
static void a_reference_beside_redeliveries_and_conflicts(void **state)
{
    struct rig *rig = rig_with(state, (struct writer_options){0});
    rig->targets[KEYED].columns = with_compared_note;
    rig_run(rig->server, "CREATE TABLE telemetry.parent (note text UNIQUE);"
                         "INSERT INTO telemetry.parent VALUES ('good');"
                         "INSERT INTO telemetry.keyed SELECT to_timestamp(1700000000 + n), n,"
                         " CASE WHEN n % 2 = 1 THEN 'good' WHEN n % 3 = 0 THEN 'bad' END"
                         " FROM generate_series(0, 149) n;"
                         "ALTER TABLE telemetry.keyed ADD CONSTRAINT known FOREIGN KEY (note)"
                         " REFERENCES telemetry.parent (note) NOT VALID");
    feed(rig, KEYED, "bad");
    for (int64_t n = 0; n < ROWS; n++) { // the second of its key, whoever is the first
        const struct part part = {KEYED, n, n % 2 ? "bad" : "good"};
        rig_feed_message(rig, &part, 1, NULL);
    }
    send_counting(rig, "AFTER");
    rig_assert_text(rig->server,
                    "SELECT reason, sqlstate, count(*) FROM sensorlog.reject GROUP BY 1, 2"
                    " ORDER BY 1",
                    "conflict|~|325\nrefused by PostgreSQL|23503|75");
    rig_assert_text(rig->server,
                    "SELECT note, count(*) FROM telemetry.keyed WHERE n >= 150 GROUP BY 1"
                    " ORDER BY 1",
                    "good|25\n~|100");
}

// ---- not known beforehand ----

static void what_may_bring_what_is_referred_to(void **state)
{
    static const char bring[] =
        "CREATE FUNCTION telemetry.bring() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO telemetry.parent SELECT n FROM generate_series(0, 299, 2) n"
        " ON CONFLICT DO NOTHING; RETURN NULL; END $$;"
        "ALTER TABLE @ ADD CONSTRAINT known FOREIGN KEY (n) REFERENCES telemetry.parent;";
    char *before = mem_printf("%sCREATE TRIGGER bring BEFORE INSERT ON @"
                              " EXECUTE FUNCTION telemetry.bring()",
                              bring);
    char *after = mem_printf("%sCREATE TRIGGER bring AFTER INSERT ON @ FOR EACH ROW"
                             " EXECUTE FUNCTION telemetry.bring()",
                             bring);
    const struct fault faults[] = {
        {parents, before, "n % 6 = 3", "23503", "\"known\""},
        // Those of the first good row, for all that come behind it.
        {parents, after, "n % 6 = 3 OR n = 0", "23503", "\"known\""},
        {parents,
         "ALTER TABLE telemetry.parent ENABLE ROW LEVEL SECURITY;"
         "ALTER TABLE @ ADD CONSTRAINT known FOREIGN KEY (n) REFERENCES telemetry.parent",
         "n % 3 = 0", "23503", "\"known\""},
        {"CREATE TABLE telemetry.parent (n int4 PRIMARY KEY);"
         "INSERT INTO telemetry.parent SELECT n FROM generate_series(0, 299) n WHERE n % 3 <> 0;",
         "ALTER TABLE @ ADD CONSTRAINT known FOREIGN KEY (n) REFERENCES telemetry.parent",
         "n % 3 = 0", "23503", "\"known\""},
        {"ALTER TABLE @ ADD id text UNIQUE DEFAULT 'x';"
         "ALTER TABLE @ ALTER id DROP DEFAULT;",
         "ALTER TABLE @ ADD CONSTRAINT known FOREIGN KEY (note) REFERENCES @ (id)", "n % 3 = 0",
         "23503", "\"known\""},
    };
    check_faults(state, faults, sizeof faults / sizeof *faults, false);
    free(after);
    free(before);
}

static void what_may_mend_a_row_is_left_to_do_so(void **state)
{
    static const struct fault faults[] = {
        {"CREATE FUNCTION telemetry.mend() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
         " IF NEW.n % 2 = 0 THEN NEW.note := 'mended'; END IF; RETURN NEW; END $$;"
         "CREATE TRIGGER mend BEFORE INSERT ON @ FOR EACH ROW EXECUTE FUNCTION telemetry.mend();",
         "ALTER TABLE @ ADD CONSTRAINT good CHECK (note <> 'bad')", "n % 6 = 3", "23514",
         "\"good\""},
        {partitions,
         "CREATE FUNCTION telemetry.mend() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
         " IF NEW.n % 2 = 0 THEN NEW.note := 'mended'; END IF; RETURN NEW; END $$;"
         "CREATE TRIGGER mend BEFORE INSERT ON telemetry.late FOR EACH ROW"
         " EXECUTE FUNCTION telemetry.mend();"
         "ALTER TABLE @ ADD CONSTRAINT good CHECK (note <> 'bad')",
         "n % 3 = 0 AND (n % 2 = 1 OR n < 100)", "23514", "\"good\""},
        // It is for its own partition alone.
        {partitions, "ALTER TABLE telemetry.late ADD CONSTRAINT good CHECK (note <> 'bad')",
         "n % 3 = 0 AND n >= 100", "23514", "\"good\""},
    };
    check_faults(state, faults, sizeof faults / sizeof *faults, false);
}

static void what_a_constraint_looks_at_may_not_be_known(void **state)
{
    static const struct fault faults[] = {
        {"ALTER TABLE @ ADD x int8 DEFAULT 3;",
         "ALTER TABLE @ ADD CONSTRAINT third CHECK (n % x <> 0)", "n % 3 = 0", "23514",
         "\"third\""},
        {"ALTER TABLE @ ADD x int8 GENERATED ALWAYS AS (n % 3) STORED;",
         "ALTER TABLE @ ADD CONSTRAINT third CHECK (x <> 0)", "n % 3 = 0", "23514", "\"third\""},
        {"ALTER TABLE @ ADD x int8 DEFAULT 3;",
         "ALTER TABLE @ ADD CONSTRAINT third CHECK ((to_jsonb(@.*) ->> 'n')::int8"
         " % (to_jsonb(@.*) ->> 'x')::int8 <> 0)",
         "n % 3 = 0", "23514", "\"third\""},
        {"ALTER TABLE @ ADD x text;", "ALTER TABLE @ ALTER x SET NOT NULL", "true", "23502",
         "\"x\""},
        {"CREATE TABLE telemetry.seen (n int8);"
         "CREATE FUNCTION telemetry.is_good(m int8) RETURNS bool LANGUAGE sql STABLE AS"
         " 'SELECT m % 3 <> 0 OR m % 2 = 0 AND m > 0'",
         "ALTER TABLE @ ADD CONSTRAINT good CHECK (telemetry.is_good(n))",
         "n % 3 = 0 AND (n % 2 = 1 OR n = 0)", "23514", "\"good\""},
        {"", "ALTER TABLE @ ADD CONSTRAINT third CHECK (n % 3 <> 0 AND random() < 2)", "n % 3 = 0",
         "23514", "\"third\""},
        // Longer ones are refused for their length.
        {"ALTER TABLE @ ALTER note TYPE varchar(3);",
         "ALTER TABLE @ ADD CONSTRAINT good CHECK (note <> 'bad')", "n % 3 = 0", "23514",
         "\"good\""},
        {"CREATE COLLATION telemetry.any_case"
         " (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
         "ALTER TABLE @ ALTER note TYPE text COLLATE telemetry.any_case;",
         "ALTER TABLE @ ADD CONSTRAINT good CHECK (note <> 'BAD')", "n % 3 = 0", "23514",
         "\"good\""},
    };
    check_faults(state, faults, sizeof faults / sizeof *faults, false);
}

// A row that would be refused by what is there is good once its predecessor is in.
static void a_constraint_that_looks_at_other_rows(void **state)
{
    struct rig *rig = rig_with(state, (struct writer_options){0});
    rig_run(rig->server,
            "CREATE FUNCTION telemetry.follows(m int8) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN"
            " RETURN m % 3 <> 0 OR EXISTS (SELECT FROM telemetry.plain WHERE n = m - 1); END $$;"
            "ALTER TABLE telemetry.plain ADD CHECK (telemetry.follows(n))");
    for (int64_t n = 0; n < ROWS; n++)
        if (n % 30 != 29)
            rig_feed(rig, PLAIN, n);
    send_all(rig);
    rig_assert_text(rig->server,
                    "SELECT count(*), count(*) FILTER (WHERE n % 30 = 0) FROM telemetry.plain",
                    "280|0");
}

// The collation is the column's: by another one these would be good, and the other way round.
static void a_constraint_with_a_collation(void **state)
{
    struct rig *rig = rig_with(state, (struct writer_options){0});
    rig_run(rig->server,
            "CREATE COLLATION telemetry.any_case"
            " (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
            "ALTER TABLE telemetry.plain ALTER note TYPE text COLLATE telemetry.any_case,"
            " ADD CHECK (note = 'GOOD')");
    static const char *const notes[] = {"good", "bad", "GOOD"};
    for (int64_t n = 0; n < ROWS; n++) {
        const struct part part = {PLAIN, n, notes[n % 3]};
        rig_feed_message(rig, &part, 1, NULL);
    }
    send_all(rig);
    assert_refused(rig, "n % 3 = 1", "23514");
}

// What is too long is not cut for the constraint, which would then refuse it.
static void text_that_does_not_fit_its_column(void **state)
{
    struct rig *rig = rig_with(state, (struct writer_options){0});
    rig_run(rig->server, "ALTER TABLE telemetry.plain ALTER note TYPE varchar(3);"
                         "ALTER TABLE telemetry.plain ADD CHECK (note <> 'bad')");
    static const char *const notes[] = {"bad", "badly", "OK"};
    for (int64_t n = 0; n < ROWS; n++) {
        const struct part part = {PLAIN, n, notes[n % 3]};
        rig_feed_message(rig, &part, 1, NULL);
    }
    send_all(rig);
    rig_assert_text(rig->server, "SELECT count(*) FROM telemetry.plain", "100");
    rig_assert_text(rig->server,
                    "SELECT sqlstate, count(*) FROM sensorlog.reject GROUP BY 1 ORDER BY 1",
                    "22001|100\n23514|100");
}

// It fails for some rows, and is false for others.
static void a_constraint_that_fails(void **state)
{
    struct rig *rig = rig_with(state, (struct writer_options){0});
    rig_run(rig->server, "ALTER TABLE telemetry.plain ADD CHECK (12 / (n % 5) <> 12)");
    rig_feed_range(rig, PLAIN, 0, ROWS);
    send_all(rig);
    assert_int_equal(rig_number(rig->server, "SELECT count(*) FROM telemetry.plain"), 180);
    rig_assert_text(rig->server,
                    "SELECT sqlstate, count(*) FROM sensorlog.reject GROUP BY 1 ORDER BY 1",
                    "22012|60\n23514|60");
}

// Where the rows cannot even be sent, nothing can be asked about them.
static void text_that_is_none_beside_others(void **state)
{
    struct rig *rig = rig_with(state, (struct writer_options){0});
    rig_run(rig->server, "ALTER TABLE telemetry.plain ADD CHECK (n % 3 <> 0)");
    for (int64_t n = 0; n < ROWS; n++) {
        const struct part part = {PLAIN, n, n % 20 == 19 ? "\xff" : "good"};
        rig_feed_message(rig, &part, 1, NULL);
    }
    send_all(rig);
    for (int64_t n = 0; n < ROWS; n++)
        assert_int_equal(rig->verdicts[n],
                         n % 3 == 0 || n % 20 == 19 ? VERDICT_REJECTED : VERDICT_STORED);
    rig_assert_text(
        rig->server,
        "SELECT count(*) FROM sensorlog.reject WHERE sqlstate NOT IN ('22021', '23514')", "0");
}

// Rows that the rule takes elsewhere never meet the constraint.
static void a_rule_takes_rows_elsewhere(void **state)
{
    struct rig *rig = rig_with(state, (struct writer_options){0});
    rig_run(rig->server,
            "CREATE RULE away AS ON INSERT TO telemetry.plain WHERE NEW.n % 3 = 0 DO INSTEAD"
            " INSERT INTO telemetry.other VALUES (NEW.*);"
            "ALTER TABLE telemetry.plain ADD CHECK (n % 3 = 2)");
    rig_feed_range(rig, PLAIN, 0, ROWS);
    send_all(rig);
    assert_refused(rig, "n % 3 = 1", "23514");
    assert_int_equal(rig_number(rig->server, "SELECT count(*) FROM telemetry.other"), 100);
}

// A trigger of the user's own may say what it likes.
static void an_error_that_names_what_is_not_there(void **state)
{
    static const char *const options[] = {
        "ERRCODE = '23514', CONSTRAINT = 'nowhere'",
        "ERRCODE = '23514', CONSTRAINT = 'any'", // it is there and refuses nobody
        "ERRCODE = '23502', COLUMN = 'nowhere'",
        "ERRCODE = '23502', COLUMN = 'note'",
        "ERRCODE = '23502'",
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        if (i)
            rig_setup(state);
        struct rig *rig = rig_with(state, (struct writer_options){0});
        char *sql = mem_printf(
            "ALTER TABLE telemetry.plain ADD CONSTRAINT \"any\" CHECK (n > -1);"
            "CREATE FUNCTION telemetry.raise() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " IF NEW.n %% 3 = 0 THEN RAISE EXCEPTION 'no' USING %s; END IF; RETURN NULL; END $$;"
            "CREATE TRIGGER raise AFTER INSERT ON telemetry.plain FOR EACH ROW"
            " EXECUTE FUNCTION telemetry.raise()",
            options[i]);
        rig_run(rig->server, sql);
        free(sql);
        rig_feed_range(rig, PLAIN, 0, ROWS);
        send_all(rig);
        assert_int_equal(rig_number(rig->server, "SELECT count(*) FROM telemetry.plain"), 200);
        assert_int_equal(rig_number(rig->server,
                                    "SELECT count(*) FROM sensorlog.reject WHERE detail = 'no'"),
                         100);
        if (i + 1 < sizeof options / sizeof *options)
            rig_teardown(state);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_constraint_tells_all_rows_at_once),
        TEST(a_column_that_must_not_be_null),
        TEST(different_constraints_in_turn),
        TEST(very_many_constraints),
        TEST(refused_beside_redeliveries_and_conflicts),
        TEST(a_reference_to_what_is_not_there),
        TEST(a_reference_beside_redeliveries_and_conflicts),
        TEST(what_may_bring_what_is_referred_to),
        TEST(what_may_mend_a_row_is_left_to_do_so),
        TEST(what_a_constraint_looks_at_may_not_be_known),
        TEST(a_constraint_that_looks_at_other_rows),
        TEST(a_constraint_with_a_collation),
        TEST(text_that_does_not_fit_its_column),
        TEST(a_constraint_that_fails),
        TEST(text_that_is_none_beside_others),
        TEST(a_rule_takes_rows_elsewhere),
        TEST(an_error_that_names_what_is_not_there),
    };
    return cmocka_run_group_tests(tests, rig_begin, rig_end);
}
