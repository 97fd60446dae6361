// Rows whose key is there already: redeliveries are deduplicated, others conflict.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "writer_rig.h"

// Of one column of each kind; what is left out is null.
enum { TIME, N, REAL, SINGLE, EXACT, TEXT, JSON, INSTANT, BYTES, ARRIVAL, COLUMNS };

static const struct target_column columns[COLUMNS] = {
    {.name = "time", .type = COLUMN_TIMESTAMPTZ, .required = true, .key = true},
    {.name = "n", .type = COLUMN_INT8, .required = true, .key = true},
    {.name = "real", .type = COLUMN_FLOAT8, .compared = true},
    {.name = "single", .type = COLUMN_FLOAT4, .compared = true},
    {.name = "exact", .type = COLUMN_NUMERIC, .compared = true},
    {.name = "te\"xt", .type = COLUMN_TEXT, .compared = true},
    {.name = "json", .type = COLUMN_JSONB, .compared = true},
    {.name = "instant", .type = COLUMN_TIMESTAMPTZ, .compared = true},
    {.name = "bytes", .type = COLUMN_BYTEA, .compared = true},
    {.name = "arrival", .type = COLUMN_TIMESTAMPTZ}, // differs each time
};

static struct target_column here[COLUMNS]; // of the test that runs

static char exact_type[] = "numeric(6,2)", text_type[] = "telemetry.short",
            instant_type[] = "timestamp(3) with time zone";

static const char table[] =
    "DROP TABLE telemetry.keyed;"
    "CREATE DOMAIN telemetry.short AS varchar(20);"
    "CREATE TABLE telemetry.keyed (time timestamptz NOT NULL, n int8 NOT NULL, \"real\" float8,"
    " single float4, exact numeric(6,2), \"te\"\"xt\" telemetry.short, json jsonb,"
    " instant timestamptz(3), bytes bytea, arrival timestamptz, UNIQUE (n, time))";

struct reading {
    int64_t n;
    int column; // that has a value
    struct value value;
};

#define REALLY(number)                                                                             \
    {                                                                                              \
        .real = (number)                                                                           \
    }
#define AT(us)                                                                                     \
    {                                                                                              \
        .integer = (us)                                                                            \
    }
#define BYTES_OF(text)                                                                             \
    {                                                                                              \
        .bytes = (text), .length = sizeof(text) - 1                                                \
    }
#define NIL                                                                                        \
    {                                                                                              \
        .null = true                                                                               \
    }

static struct rig *rig_for(void **state, enum on_conflict on_conflict)
{
    struct rig *rig = rig_with(state, (struct writer_options){0});
    struct target *target = &rig->targets[KEYED];
    memcpy(here, columns, sizeof columns);
    here[EXACT].live_type = exact_type;
    here[TEXT].live_type = text_type;
    here[INSTANT].live_type = instant_type;
    target->columns = here;
    target->column_count = COLUMNS;
    target->on_conflict = on_conflict;
    rig_run(rig->server, table);
    return rig;
}

static void feed(struct rig *rig, const struct reading *reading)
{
    struct target *target = &rig->targets[KEYED];
    const struct message_parts parts = {.topic = "a", .topic_length = 1};
    struct message *message = message_new(&rig->source, &rig->budget, &parts);
    message->ticket = rig->received++;
    struct batch *batch = writer_begin(rig->writer);
    books_receive(&target->books);
    struct value *row = batch_reserve_row(batch, target);
    for (int i = 0; i < COLUMNS; i++)
        row[i] = (struct value){.null = true};
    row[TIME] = (struct value){.integer = rig_time(reading->n)};
    row[N] = (struct value){.integer = reading->n};
    row[reading->column] = reading->value;
    row[ARRIVAL] = (struct value){.integer = rig_time((int64_t)rig->received)};
    batch_keep_row(batch, target, message);
    message_release(message, VERDICT_NONE, NULL);
    writer_end(rig->writer);
}

static void real(struct rig *rig, int64_t n, double value)
{
    const struct reading reading = {n, REAL, REALLY(value)};
    feed(rig, &reading);
}

static const char rejects[] = "SELECT mapping, reason, detail, sqlstate FROM sensorlog.reject"
                              " ORDER BY id";

// ---- what is the same ----

static void values_are_compared_as_the_table_has_them(void **state)
{
    static const struct {
        int column;
        struct value first, second;
        const char *detail; // NULL: the same
    } cases[] = {
        {REAL, REALLY(0.1), REALLY(0.1), NULL},
        {REAL, REALLY(21.5), REALLY(22.7), "real: 21.5 is stored, 22.7 came"},
        {REAL, REALLY(NAN), REALLY(NAN), NULL},
        {REAL, REALLY(NAN), REALLY(1), "real: NaN is stored, 1 came"},
        {REAL, REALLY(0.0), REALLY(-0.0), NULL},
        {REAL, NIL, NIL, NULL},
        {REAL, NIL, REALLY(0), "real: null is stored, 0 came"},
        {REAL, REALLY(0), NIL, "real: 0 is stored, null came"},
        {REAL, REALLY(INFINITY), REALLY(-INFINITY), "real: Infinity is stored, -Infinity came"},
        {SINGLE, REALLY(0.1), REALLY(0.1), NULL},
        {SINGLE, REALLY(0.1), REALLY(0.1 + 1e-12), NULL},
        {SINGLE, REALLY(0.1), REALLY(0.2), "single: 0.1 is stored, 0.2 came"},
        {EXACT, BYTES_OF("1.005"), BYTES_OF("1.0049"), "exact: 1.01 is stored, 1.00 came"},
        {EXACT, BYTES_OF("1.004"), BYTES_OF("1.0041"), NULL},
        {EXACT, BYTES_OF("1.5"), BYTES_OF("1.50"), NULL},
        {TEXT, BYTES_OF("x"), BYTES_OF("x"), NULL},
        {TEXT, BYTES_OF(""), NIL, "te\"xt:  is stored, null came"},
        {TEXT, BYTES_OF("x"), BYTES_OF("X"), "te\"xt: x is stored, X came"},
        {JSON, BYTES_OF("{\"a\": 1, \"b\": 2}"), BYTES_OF("{\"b\":2,\"a\":1}"), NULL},
        {JSON, BYTES_OF("{\"a\": 1}"), BYTES_OF("{\"a\": 1.0}"), NULL},
        {JSON, BYTES_OF("[1]"), BYTES_OF("[2]"), "json: [1] is stored, [2] came"},
        {JSON, BYTES_OF("null"), NIL, "json: null is stored, null came"},
        {INSTANT, AT(1700000000000100), AT(1700000000000499), NULL},
        {INSTANT, AT(1700000000000000), AT(1700000000001000),
         "instant: 2023-11-14 22:13:20+00 is stored, 2023-11-14 22:13:20.001+00 came"},
        {BYTES, BYTES_OF("\0\1"), BYTES_OF("\0\1"), NULL},
        {BYTES, BYTES_OF("\0\1"), BYTES_OF("\0\2"), "bytes: \\x0001 is stored, \\x0002 came"},
    };
    rig_need_postgres();
    // The same in one batch, and in one after the other.
    for (int together = 0; together < 2; together++) {
        if (together)
            rig_setup(state);
        struct rig *rig = rig_for(state, CONFLICT_REJECT);
        rig_run(rig->other, "ALTER DATABASE unit_writer SET TimeZone = 'UTC'");
        writer_start(rig->writer);
        rig_wait_usable(rig, 1);
        uint64_t conflicts = 0;
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            const struct reading first = {(int64_t)i, cases[i].column, cases[i].first};
            const struct reading second = {(int64_t)i, cases[i].column, cases[i].second};
            rig_run(rig->server, "TRUNCATE sensorlog.reject");
            feed(rig, &first);
            if (!together)
                rig_wait_all(rig);
            feed(rig, &second);
            rig_wait_all(rig);
            assert_int_equal(rig->verdicts[2 * i], VERDICT_STORED);
            char *expected = mem_printf("keyed|conflict|%s|~", cases[i].detail);
            rig_assert_text(rig->server, rejects, cases[i].detail ? expected : "");
            free(expected);
            assert_int_equal(rig->verdicts[2 * i + 1],
                             cases[i].detail ? VERDICT_REJECTED : VERDICT_DEDUPLICATED);
            conflicts += cases[i].detail != NULL;
            assert_int_equal(rig->targets[KEYED].conflicts, conflicts);
        }
        if (!together)
            rig_teardown(state);
    }
}

static void all_columns_that_differ_are_named_in_bounds(void **state)
{
    struct rig *rig = rig_for(state, CONFLICT_REJECT);
    char *note = mem_printf("%0*d", 200, 7);
    rig_run(rig->server, "ALTER TABLE telemetry.keyed ALTER \"te\"\"xt\" TYPE text");
    here[TEXT].live_type = NULL;
    rig_run(rig->server, "INSERT INTO telemetry.keyed VALUES"
                         " (to_timestamp(1700000001), 1, 5, 6, NULL, 'short')");
    const struct reading second = {1, TEXT, {.bytes = note, .length = 200}};
    feed(rig, &second);
    writer_start(rig->writer);
    rig_wait_all(rig);
    char *expected = mem_printf("real: 5 is stored, null came; single: 6 is stored, null came;"
                                " te\"xt: short is stored, %.80s came",
                                note);
    rig_assert_text(rig->server, "SELECT detail FROM sensorlog.reject", expected);
    free(expected);
    free(note);
}

// A key that the table rounds is the key that it has.
static void a_key_is_taken_as_the_table_has_it(void **state)
{
    struct rig *rig = rig_for(state, CONFLICT_REJECT);
    rig_run(rig->server, "ALTER TABLE telemetry.keyed ALTER time TYPE timestamptz(0)");
    static char time_type[] = "timestamp(0) with time zone";
    here[TIME].live_type = time_type;
    rig->targets[KEYED].looks++;
    for (int64_t n = 0; n < 4; n++) {
        real(rig, n, 1);
        struct batch *batch = writer_begin(rig->writer);
        batch->groups[KEYED].values[(size_t)n * COLUMNS + TIME].integer += 1234;
    }
    real(rig, 1, 1);
    real(rig, 2, 2);
    writer_start(rig->writer);
    rig_wait_all(rig);
    rig_assert_verdicts(rig, 0, 4, VERDICT_STORED);
    rig_assert_verdicts(rig, 4, 5, VERDICT_DEDUPLICATED);
    rig_assert_verdicts(rig, 5, 6, VERDICT_REJECTED);
}

// The statement says between which times it looks, where these can be said.
static void times_of_any_year(void **state)
{
    static const int64_t times_us[] = {0, 1700000000000000, 568971820800000000, -60000000000000000};
    for (size_t last = 1; last <= 4; last++) {
        if (last > 1)
            rig_setup(state);
        struct rig *rig = rig_for(state, CONFLICT_REJECT);
        writer_start(rig->writer);
        for (int round = 0; round < 3; round++) {
            for (size_t i = 0; i < last; i++) {
                real(rig, (int64_t)i, round == 2 ? 2 : 1);
                struct batch *batch = writer_begin(rig->writer);
                batch->groups[KEYED].values[i * COLUMNS + TIME].integer = times_us[i];
            }
            rig_wait_all(rig);
        }
        rig_assert_verdicts(rig, 0, last, VERDICT_STORED);
        rig_assert_verdicts(rig, last, 2 * last, VERDICT_DEDUPLICATED);
        rig_assert_verdicts(rig, 2 * last, 3 * last, VERDICT_REJECTED);
        if (last < 4)
            rig_teardown(state);
    }
}

// ---- what becomes of it ----

static const char reals[] = "SELECT \"real\" FROM telemetry.keyed ORDER BY n";

static void of_one_batch_the_first_is_stored_or_the_last(void **state)
{
    static const struct {
        enum on_conflict on_conflict;
        const char *stored;
        enum verdict verdicts[6];
    } cases[] = {
        {CONFLICT_REJECT,
         "1\n5",
         {VERDICT_STORED, VERDICT_REJECTED, VERDICT_DEDUPLICATED, VERDICT_STORED, VERDICT_REJECTED,
          VERDICT_REJECTED}},
        {CONFLICT_IGNORE,
         "1\n5",
         {VERDICT_STORED, VERDICT_DEDUPLICATED, VERDICT_DEDUPLICATED, VERDICT_STORED,
          VERDICT_DEDUPLICATED, VERDICT_DEDUPLICATED}},
        {CONFLICT_UPDATE,
         "1\n7",
         {VERDICT_STORED, VERDICT_STORED, VERDICT_STORED, VERDICT_STORED, VERDICT_STORED,
          VERDICT_STORED}},
    };
    static const struct {
        int64_t n;
        double value;
    } rows[] = {{1, 1}, {1, 2}, {1, 1}, {2, 5}, {2, 6}, {2, 7}};
    rig_need_postgres();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (i)
            rig_setup(state);
        struct rig *rig = rig_for(state, cases[i].on_conflict);
        for (size_t k = 0; k < 6; k++)
            real(rig, rows[k].n, rows[k].value);
        writer_start(rig->writer);
        rig_wait_all(rig);
        rig_assert_text(rig->server, reals, cases[i].stored);
        for (size_t k = 0; k < 6; k++)
            if (rig->verdicts[k] != cases[i].verdicts[k])
                fail_msg("case %zu, row %zu: %s", i, k,
                         verdict_name((enum verdict)rig->verdicts[k]));
        assert_int_equal(rig->targets[KEYED].conflicts, 3);
        rig_assert_text(rig->server, "SELECT count(*) FROM sensorlog.reject",
                        cases[i].on_conflict == CONFLICT_REJECT ? "3" : "0");
        assert_int_equal(writer_counters(rig->writer)->commits, 1);
        if (i + 1 < sizeof cases / sizeof *cases)
            rig_teardown(state);
    }
}

static void an_update_changes_all_but_the_key(void **state)
{
    struct rig *rig = rig_for(state, CONFLICT_UPDATE);
    rig_run(
        rig->server,
        "ALTER TABLE telemetry.keyed ADD mine text DEFAULT 'mine';"
        "INSERT INTO telemetry.keyed (time, n, \"real\", arrival) SELECT to_timestamp(1700000000 + n),"
        " n, n, '2000-01-01' FROM generate_series(1, 3) n");
    real(rig, 1, 1); // the same: the time of arrival does not count
    real(rig, 2, 20);
    const struct reading other = {3, SINGLE, REALLY(33)};
    feed(rig, &other);
    writer_start(rig->writer);
    rig_wait_all(rig);
    rig_assert_verdicts(rig, 0, 1, VERDICT_DEDUPLICATED);
    rig_assert_verdicts(rig, 1, 3, VERDICT_STORED);
    rig_assert_text(rig->server,
                    "SELECT n, \"real\", single, arrival > '2001-01-01', mine FROM telemetry.keyed"
                    " ORDER BY n",
                    "1|1|~|f|mine\n2|20|~|t|mine\n3|~|33|t|mine");
    assert_int_equal(rig->targets[KEYED].conflicts, 2);
}

// The update of one row is refused: by a trigger, which the INSERT has not met.
static void an_update_that_is_refused(void **state)
{
    struct rig *rig = rig_for(state, CONFLICT_UPDATE);
    rig_run(
        rig->server,
        "INSERT INTO telemetry.keyed (time, n, \"real\") SELECT to_timestamp(1700000000 + n), n, n"
        " FROM generate_series(0, 9) n;"
        "CREATE FUNCTION telemetry.raise() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.n = 7 THEN RAISE 'not %', NEW.n; END IF; RETURN NEW; END $$;"
        "CREATE TRIGGER raise BEFORE UPDATE ON telemetry.keyed FOR EACH ROW"
        " EXECUTE FUNCTION telemetry.raise()");
    for (int64_t n = 0; n < 10; n++)
        real(rig, n, 100 + (double)n);
    writer_start(rig->writer);
    rig_wait_all(rig);
    rig_assert_text(
        rig->server,
        "SELECT count(*) FILTER (WHERE \"real\" = 100 + n), count(*) FROM telemetry.keyed", "9|10");
    rig_assert_text(rig->server, rejects, "keyed|refused by PostgreSQL|not 7|P0001");
    rig_assert_verdicts(rig, 7, 8, VERDICT_REJECTED);
}

// Nothing that a redelivery shares is stored beside the key: nothing can conflict, nothing is
// asked.
static void a_key_alone_never_conflicts(void **state)
{
    struct rig *rig = rig_for(state, CONFLICT_REJECT);
    for (int i = 0; i < COLUMNS; i++)
        here[i].compared = false;
    real(rig, 1, 1);
    real(rig, 1, 2);
    writer_start(rig->writer);
    rig_wait_all(rig);
    assert_int_equal(rig->verdicts[1], VERDICT_DEDUPLICATED);
    assert_int_equal(rig->targets[KEYED].conflicts, 0);
}

// ---- beside others ----

static void begin_elsewhere(struct rig *rig, const char *value)
{
    char *sql = mem_printf("BEGIN; INSERT INTO telemetry.keyed (time, n, \"real\") VALUES"
                           " (to_timestamp(1700000001), 1, %s)",
                           value);
    rig_run(rig->other, sql);
    free(sql);
}

// Another session commits, or takes back, the same key while the batch waits for it.
static void another_writer_commits_the_key_between(void **state)
{
    static const struct {
        const char *value, *end;
        enum on_conflict on_conflict;
        enum verdict verdict;
        const char *stored;
    } cases[] = {
        {"5", "COMMIT", CONFLICT_REJECT, VERDICT_REJECTED, "5"},
        {"1", "COMMIT", CONFLICT_REJECT, VERDICT_DEDUPLICATED, "1"},
        {"5", "ROLLBACK", CONFLICT_REJECT, VERDICT_STORED, "1"},
        {"5", "COMMIT", CONFLICT_UPDATE, VERDICT_STORED, "1"},
        {"5", "COMMIT", CONFLICT_IGNORE, VERDICT_DEDUPLICATED, "5"},
        {"1", "ROLLBACK", CONFLICT_UPDATE, VERDICT_STORED, "1"},
    };
    rig_need_postgres();
    for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
        if (i)
            rig_setup(state);
        struct rig *rig = rig_for(state, cases[i / 2].on_conflict);
        rig->targets[KEYED].trust = i % 2 ? 100 : 0; // sent as keyed, or not
        begin_elsewhere(rig, cases[i / 2].value);
        real(rig, 1, 1);
        writer_start(rig->writer);
        rig_wait_blocked(rig, 1);
        rig_run(rig->other, cases[i / 2].end);
        rig_wait_all(rig);
        assert_int_equal(rig->verdicts[0], cases[i / 2].verdict);
        rig_assert_text(rig->server, reals, cases[i / 2].stored);
        if (i + 1 < 2 * sizeof cases / sizeof *cases)
            rig_teardown(state);
    }
}

static bool has_failed(void *arg)
{
    return writer_counters(((const struct rig *)arg)->writer)->failures >= 2;
}

// The reject table is away, so nothing is committed; what is stored changes; then it is judged
// anew.
static void a_conflict_is_judged_anew_with_each_attempt(void **state)
{
    struct rig *rig = rig_for(state, CONFLICT_REJECT);
    rig_run(rig->server, "INSERT INTO telemetry.keyed (time, n, \"real\") SELECT"
                         " to_timestamp(1700000000 + n), n, 5 FROM generate_series(1, 3) n;"
                         "ALTER TABLE sensorlog.reject RENAME TO away");
    for (int64_t n = 1; n <= 3; n++)
        real(rig, n, 1);
    writer_start(rig->writer);
    assert_true(rig_until(rig->loop, has_failed, rig));
    assert_int_equal(rig->settled, 0);
    rig_run(rig->server, "UPDATE telemetry.keyed SET \"real\" = 1 WHERE n = 1;"
                         "DELETE FROM telemetry.keyed WHERE n = 2;"
                         "ALTER TABLE sensorlog.away RENAME TO reject");
    rig_wait_all(rig);
    assert_int_equal(rig->verdicts[0], VERDICT_DEDUPLICATED);
    assert_int_equal(rig->verdicts[1], VERDICT_STORED);
    assert_int_equal(rig->verdicts[2], VERDICT_REJECTED);
    rig_assert_text(rig->server, rejects, "keyed|conflict|real: 5 is stored, 1 came|~");
    assert_int_equal(rig->targets[KEYED].conflicts, 1);
}

// A batch that has everything: good rows, rows at fault, redeliveries and conflicts, of two tables.
static void conflicts_among_rows_at_fault(void **state)
{
    static const enum on_conflict policies[] = {CONFLICT_REJECT, CONFLICT_UPDATE, CONFLICT_IGNORE};
    rig_need_postgres();
    for (size_t i = 0; i < 3; i++) {
        if (i)
            rig_setup(state);
        struct rig *rig = rig_for(state, policies[i]);
        rig_run(
            rig->server,
            "ALTER TABLE telemetry.keyed ADD CHECK (n % 5 <> 0);"
            "ALTER TABLE telemetry.plain ADD CHECK (n <> 17);"
            "INSERT INTO telemetry.keyed (time, n, \"real\") SELECT to_timestamp(1700000000 + n), n,"
            " n % 2 FROM generate_series(0, 99) n WHERE n % 5 = 1");
        for (int64_t n = 0; n < 100; n++) {
            real(rig, n, 1); // n % 10 = 6: another value is there
            rig_feed(rig, PLAIN, n);
        }
        writer_start(rig->writer);
        rig_wait_all(rig);
        const struct books *books = &rig->targets[KEYED].books;
        assert_int_equal(books->verdicts[VERDICT_REJECTED],
                         20 + (policies[i] == CONFLICT_REJECT) * 10);
        assert_int_equal(books->verdicts[VERDICT_DEDUPLICATED],
                         10 + (policies[i] == CONFLICT_IGNORE) * 10);
        assert_int_equal(books->verdicts[VERDICT_STORED],
                         60 + (policies[i] == CONFLICT_UPDATE) * 10);
        assert_int_equal(rig->targets[KEYED].conflicts, 10);
        assert_int_equal(rig_number(rig->server, "SELECT count(*) FROM telemetry.keyed"), 80);
        assert_int_equal(rig_number(rig->server,
                                    "SELECT count(*) FROM telemetry.keyed WHERE \"real\" = 0"),
                         policies[i] == CONFLICT_UPDATE ? 0 : 10);
        assert_int_equal(rig_number(rig->server, "SELECT count(*) FROM telemetry.plain"), 99);
        if (i < 2)
            rig_teardown(state);
    }
}

// ALTER TABLE while it runs: the catalog has looked again.
static void a_column_gets_another_type(void **state)
{
    struct rig *rig = rig_for(state, CONFLICT_REJECT);
    const struct reading exact = {1, EXACT, BYTES_OF("1.2345")};
    writer_start(rig->writer);
    rig_wait_usable(rig, 1);
    feed(rig, &exact);
    feed(rig, &exact);
    rig_wait_all(rig);
    rig_run(rig->server, "ALTER TABLE telemetry.keyed ALTER exact TYPE numeric(8,4)");
    static char wider[] = "numeric(8,4)";
    here[EXACT].live_type = wider;
    rig->targets[KEYED].looks++;
    feed(rig, &exact);
    rig_wait_all(rig);
    assert_int_equal(rig->verdicts[1], VERDICT_DEDUPLICATED);
    assert_int_equal(rig->verdicts[2], VERDICT_REJECTED);
    rig_assert_text(rig->server, rejects, "keyed|conflict|exact: 1.2300 is stored, 1.2345 came|~");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        TEST(values_are_compared_as_the_table_has_them),
        TEST(all_columns_that_differ_are_named_in_bounds),
        TEST(a_key_is_taken_as_the_table_has_it),
        TEST(times_of_any_year),
        TEST(of_one_batch_the_first_is_stored_or_the_last),
        TEST(an_update_changes_all_but_the_key),
        TEST(an_update_that_is_refused),
        TEST(a_key_alone_never_conflicts),
        TEST(another_writer_commits_the_key_between),
        TEST(a_conflict_is_judged_anew_with_each_attempt),
        TEST(conflicts_among_rows_at_fault),
        TEST(a_column_gets_another_type),
    };
    return cmocka_run_group_tests(tests, rig_begin, rig_end);
}
