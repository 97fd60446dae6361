// One connection to PostgreSQL, against a real server.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/pg.h"
#include "store_rig.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

enum { MANY = 1000, BIG = 3 << 20 };

static const char database[] = "unit_pg";
static char *conninfo; // NULL without PostgreSQL
static PGconn *server; // the test's own connection

struct rig {
    struct loop *loop;
    struct worker *worker;
    struct pg *pg;
    unsigned ups, downs, notices;
    char why[512];
    char notice[64];
    // What results said, by spaces: the first value or the tag, "!42P01", "skipped".
    char story[16384];
    unsigned results, wanted;
    void (*then)(struct rig *rig); // after the first result
    bool connect_when_down;
};

static void now_up(void *arg)
{
    struct rig *rig = arg;
    rig->ups++;
    assert_true(pg_connected(rig->pg));
}

static void now_down(void *arg, const char *why)
{
    struct rig *rig = arg;
    rig->downs++;
    assert_false(pg_connected(rig->pg));
    snprintf(rig->why, sizeof rig->why, "%s", why);
    if (rig->connect_when_down)
        pg_connect(rig->pg);
}

static void notice(void *arg, const char *text)
{
    struct rig *rig = arg;
    rig->notices++;
    snprintf(rig->notice, sizeof rig->notice, "%s", text);
}

static int setup(void **state)
{
    struct rig *rig = mem_zalloc(sizeof *rig);
    rig->loop = loop_new();
    rig->worker = worker_new(rig->loop, 1);
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;
    pg_free(rig->pg);
    worker_free(rig->worker);
    loop_free(rig->loop);
    free(rig);
    return 0;
}

static bool settled(void *arg)
{
    const struct rig *rig = arg;
    return rig->ups + rig->downs > 0;
}

static bool is_down(void *arg)
{
    return ((const struct rig *)arg)->downs > 0;
}

static bool has_results(void *arg)
{
    const struct rig *rig = arg;
    return rig->results >= rig->wanted || rig->downs > 0;
}

static void start(struct rig *rig, const char *where, bool pipeline)
{
    const struct pg_calls calls = {.up = now_up, .down = now_down, .notice = notice, .arg = rig};
    rig->pg = pg_new(rig->loop, rig->worker, where, "unit test", pipeline, &calls);
    pg_connect(rig->pg);
    assert_int_equal(rig->ups + rig->downs, 0);
    assert_true(rig_until(rig->loop, settled, rig));
}

static struct rig *connected(void **state, bool pipeline)
{
    rig_need_postgres();
    struct rig *rig = *state;
    start(rig, conninfo, pipeline);
    if (rig->ups != 1)
        fail_msg("%s", rig->why);
    return rig;
}

static void tell(void *arg, const struct pg_result *result)
{
    struct rig *rig = arg;
    size_t used = strlen(rig->story);
    char *at = rig->story + used;
    size_t room = sizeof rig->story - used;
    const char *space = used ? " " : "";
    if (result->skipped)
        snprintf(at, room, "%sskipped", space);
    else if (!result->ok)
        snprintf(at, room, "%s!%s", space, result->sqlstate);
    else if (result->rows > 0)
        snprintf(at, room, "%s%.40s", space, pg_value(result, 0, 0) ? pg_value(result, 0, 0) : "~");
    else
        snprintf(at, room, "%s%s", space, *result->tag ? result->tag : "sync");
    rig->results++;
    if (rig->then && rig->results == 1)
        rig->then(rig);
}

static void wait_for_results(struct rig *rig, unsigned count)
{
    rig->wanted = count;
    assert_true(rig_until(rig->loop, has_results, rig));
    if (rig->downs)
        fail_msg("%s", rig->why);
    assert_int_equal(rig->results, count);
}

// ---- queries ----

static void connects_and_answers(void **state)
{
    for (int pipeline = 0; pipeline < 2; pipeline++) {
        if (pipeline)
            setup(state);
        struct rig *rig = connected(state, pipeline);
        char backend[16];
        snprintf(backend, sizeof backend, "%d", pg_backend_pid(rig->pg));
        assert_true(pg_server_version(rig->pg) >= 130000);
        static const char *const sql[] = {
            "SELECT pg_backend_pid()",
            "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()",
            "SELECT NULL",
            "SHOW client_encoding",
            "CREATE TEMP TABLE t (n int)",
            "INSERT INTO t VALUES (1), (2), (3)",
            "SELECT n FROM t WHERE n > 5",
            "",
        };
        for (unsigned i = 0; i < COUNT(sql); i++) {
            assert_true(pg_query(rig->pg, sql[i], NULL, tell, rig));
            if (pipeline)
                assert_true(pg_sync(rig->pg, NULL, NULL));
            wait_for_results(rig, i + 1);
        }
        char *expected =
            mem_printf("%s unit test ~ UTF8 CREATE TABLE INSERT 0 3 SELECT 0 sync", backend);
        assert_string_equal(rig->story, expected);
        free(expected);
        if (!pipeline)
            teardown(state);
    }
}

static void check_values(void *arg, const struct pg_result *result)
{
    struct rig *rig = arg;
    assert_true(result->ok);
    assert_int_equal(result->rows, 2);
    assert_int_equal(result->columns, 3);
    assert_string_equal(pg_value(result, 1, 0), "b");
    assert_null(pg_value(result, 0, 1));
    assert_int_equal(pg_integer(result, 0, 1), 0);
    assert_true(pg_integer(result, 1, 1) == INT64_MIN);
    assert_string_equal(pg_value(result, 0, 2), "\xc3\xa4");
    assert_string_equal(result->sqlstate, "");
    assert_string_equal(result->message, "");
    rig->results++;
}

static void parameters_and_values(void **state)
{
    struct rig *rig = connected(state, true);
    static const uint32_t types[] = {20, 0};
    static const char *const texts[] = {"\x80\0\0\0\0\0\0\0", "\xc3\xa4"};
    static const int lengths[] = {8, 0}, formats[] = {1, 0};
    const struct pg_params params = {2, types, texts, lengths, formats};
    assert_true(
        pg_query(rig->pg, "VALUES ('a', NULL, $2), ('b', $1, $2)", &params, check_values, rig));
    assert_true(pg_sync(rig->pg, NULL, NULL));
    wait_for_results(rig, 1);
}

struct expected_error {
    struct rig *rig;
    const char *sql, *sqlstate, *message, *detail, *constraint, *table, *column;
};

static void check_error(void *arg, const struct pg_result *result)
{
    const struct expected_error *expected = arg;
    assert_false(result->ok);
    assert_false(result->skipped);
    assert_string_equal(result->sqlstate, expected->sqlstate);
    assert_string_equal(result->message, expected->message);
    assert_string_equal(result->detail, expected->detail);
    assert_string_equal(result->constraint, expected->constraint);
    assert_string_equal(result->table, expected->table);
    assert_string_equal(result->column, expected->column);
    expected->rig->results++;
}

static void errors_say_what_and_where(void **state)
{
    struct expected_error cases[] = {
        {NULL, "INSERT INTO e VALUES (1, 1)", "23505",
         "duplicate key value violates unique constraint \"e_key\"", "Key (n)=(1) already exists.",
         "e_key", "e", ""},
        {NULL, "INSERT INTO e VALUES (NULL, 1)", "23502",
         "null value in column \"n\" of relation \"e\" violates not-null constraint",
         "Failing row contains (null, 1).", "", "e", "n"},
        {NULL, "INSERT INTO e VALUES (2, -1)", "23514",
         "new row for relation \"e\" violates check constraint \"positive\"",
         "Failing row contains (2, -1).", "positive", "e", ""},
        {NULL, "SELECT 'x'::int4", "22P02", "invalid input syntax for type integer: \"x\"", "", "",
         "", ""},
    };
    struct rig *rig = connected(state, false);
    assert_true(pg_script(rig->pg,
                          "CREATE TEMP TABLE e (n int NOT NULL CONSTRAINT e_key UNIQUE,"
                          " m int CONSTRAINT positive CHECK (m > 0)); INSERT INTO e VALUES (1, 1)",
                          tell, rig));
    wait_for_results(rig, 1);
    for (unsigned i = 0; i < COUNT(cases); i++) {
        cases[i].rig = rig;
        assert_true(pg_query(rig->pg, cases[i].sql, NULL, check_error, &cases[i]));
        wait_for_results(rig, i + 2);
    }
    assert_true(pg_query(rig->pg, "SELECT 'alive'", NULL, tell, rig));
    wait_for_results(rig, COUNT(cases) + 2);
    assert_string_equal(rig->story, "INSERT 0 1 alive");
}

static void scripts_end_at_their_first_error(void **state)
{
    static const struct {
        const char *sql, *story;
    } cases[] = {
        {"SELECT 1; SELECT 2; SELECT 3", "3"},
        {"SELECT 1; SELECT nothing; SELECT 3", "!42703"},
        {"CREATE TEMP TABLE s (n int); INSERT INTO s VALUES (1)", "INSERT 0 1"},
        {"INSERT INTO s VALUES (2); SELECT 1/0", "!22012"},
        {"SELECT count(*) FROM s", "1"},
        {"", "sync"},
        {"DO $$ BEGIN RAISE NOTICE 'a word'; END $$", "DO"},
    };
    struct rig *rig = connected(state, false);
    for (size_t i = 0; i < COUNT(cases); i++) {
        rig->story[0] = '\0';
        rig->results = 0;
        assert_true(pg_script(rig->pg, cases[i].sql, tell, rig));
        wait_for_results(rig, 1);
        assert_string_equal(rig->story, cases[i].story);
    }
    assert_int_equal(rig->notices, 1);
    assert_string_equal(rig->notice, "a word");
}

// ---- the pipeline ----

static void an_error_skips_the_rest_of_its_unit(void **state)
{
    static const struct pg_params none = {0};
    struct rig *rig = connected(state, true);
    struct pg *pg = rig->pg;
    assert_true(pg_query(pg, "SELECT 1", NULL, tell, rig));
    assert_true(pg_query(pg, "SELECT nothing", NULL, tell, rig));
    assert_true(pg_query(pg, "SELECT 3", NULL, tell, rig));
    assert_true(pg_prepare(pg, "p", "SELECT 4", &none, tell, rig));
    assert_true(pg_execute(pg, "p", &none, tell, rig));
    assert_true(pg_sync(pg, tell, rig));
    assert_true(pg_prepare(pg, "p", "SELECT 5", &none, tell, rig));
    assert_true(pg_execute(pg, "p", &none, tell, rig));
    assert_true(pg_sync(pg, tell, rig));
    wait_for_results(rig, 9);
    assert_string_equal(rig->story, "1 !42703 skipped skipped skipped sync sync 5 sync");
}

static void send_more(struct rig *rig)
{
    for (unsigned i = 0; i < 40; i++)
        assert_true(pg_query(rig->pg, "SELECT 'more'", NULL, i == 39 ? tell : NULL, rig));
    assert_true(pg_sync(rig->pg, tell, rig));
}

static void callbacks_may_send_more(void **state)
{
    struct rig *rig = connected(state, true);
    rig->then = send_more;
    for (int i = 0; i < 10; i++)
        assert_true(pg_query(rig->pg, "SELECT 'first'", NULL, i == 9 ? tell : NULL, rig));
    assert_true(pg_sync(rig->pg, tell, rig));
    wait_for_results(rig, 4);
    assert_string_equal(rig->story, "first sync more sync");
}

static void many_units_keep_their_order(void **state)
{
    struct rig *rig = connected(state, true);
    char *expected = mem_strdup("");
    for (int i = 0; i < MANY; i++) {
        char sql[32];
        snprintf(sql, sizeof sql, "SELECT %d", i);
        assert_true(pg_query(rig->pg, sql, NULL, tell, rig));
        if (i % 7 == 0)
            assert_true(pg_sync(rig->pg, NULL, NULL));
        char *longer = mem_printf("%s%s%d", expected, i ? " " : "", i);
        free(expected);
        expected = longer;
    }
    assert_true(pg_sync(rig->pg, NULL, NULL));
    wait_for_results(rig, MANY);
    assert_string_equal(rig->story, expected);
    free(expected);
}

static void check_big(void *arg, const struct pg_result *result)
{
    struct rig *rig = arg;
    assert_true(result->ok);
    const char *value = pg_value(result, 0, 0);
    assert_int_equal(strlen(value), BIG);
    assert_int_equal(strspn(value, "x"), BIG);
    rig->results++;
}

// More than sockets and the server's buffers hold, both ways at once.
static void big_values_pass_without_blocking(void **state)
{
    enum { TIMES = 8 };
    char *big = mem_alloc(BIG + 1);
    memset(big, 'x', BIG);
    big[BIG] = '\0';
    for (int pipeline = 0; pipeline < 2; pipeline++) {
        if (pipeline)
            setup(state);
        struct rig *rig = connected(state, pipeline);
        const char *const values[] = {big};
        const struct pg_params params = {.count = 1, .values = values};
        for (unsigned i = 0; i < TIMES; i++) {
            int64_t began = loop_now_ms();
            assert_true(
                pg_query(rig->pg, "SELECT $1::text, pg_sleep(0.01)", &params, check_big, rig));
            if (!pipeline)
                wait_for_results(rig, i + 1);
            else
                assert_in_range(loop_now_ms() - began, 0, RIG_TIMEOUT_MS);
        }
        if (pipeline) {
            assert_true(pg_sync(rig->pg, NULL, NULL));
            assert_int_equal(rig->results, 0);
            wait_for_results(rig, TIMES);
        } else {
            teardown(state);
        }
    }
    free(big);
}

// ---- ends ----

static void terminate(struct rig *rig)
{
    char sql[64];
    snprintf(sql, sizeof sql, "SELECT pg_terminate_backend(%d)", pg_backend_pid(rig->pg));
    rig_assert_text(server, sql, "t");
}

static bool is_sleeping(void *arg)
{
    char sql[128];
    snprintf(sql, sizeof sql,
             "SELECT count(*) FROM pg_stat_activity WHERE pid = %d AND wait_event = 'PgSleep'",
             pg_backend_pid(((struct rig *)arg)->pg));
    return rig_number(server, sql) == 1;
}

// Whatever else comes is there by the time that another round trip has been made.
static void let_all_come(struct rig *rig)
{
    struct rig *other = mem_zalloc(sizeof *other);
    other->loop = rig->loop;
    other->worker = rig->worker;
    start(other, conninfo, false);
    pg_free(other->pg);
    free(other);
}

static void a_terminated_backend_is_told_once(void **state)
{
    static const struct {
        bool pipeline, busy;
    } cases[] = {{false, false}, {true, false}, {false, true}, {true, true}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        if (i)
            setup(state);
        struct rig *rig = connected(state, cases[i].pipeline);
        if (cases[i].busy) {
            assert_true(pg_query(rig->pg, "SELECT pg_sleep(60)", NULL, tell, rig));
            if (cases[i].pipeline)
                assert_true(pg_sync(rig->pg, tell, rig));
            assert_true(rig_until(rig->loop, is_sleeping, rig));
        }
        terminate(rig);
        assert_true(rig_until(rig->loop, is_down, rig));
        assert_string_equal(rig->story, "");
        if (!strstr(rig->why, "terminating connection due to administrator command"))
            fail_msg("case %zu: %s", i, rig->why);
        assert_null(strchr(rig->why, '\n'));
        assert_false(pg_query(rig->pg, "SELECT 1", NULL, tell, rig));
        let_all_come(rig);
        assert_int_equal(rig->downs, 1);
        if (i + 1 < COUNT(cases))
            teardown(state);
    }
}

static void reconnects_from_within_down(void **state)
{
    struct rig *rig = connected(state, true);
    rig->connect_when_down = true;
    rig->ups = 0;
    terminate(rig);
    assert_true(rig_until(rig->loop, is_down, rig));
    rig->downs = 0;
    assert_true(rig_until(rig->loop, settled, rig));
    assert_int_equal(rig->ups, 1);
    assert_true(pg_query(rig->pg, "SELECT 'again'", NULL, tell, rig));
    assert_true(pg_sync(rig->pg, NULL, NULL));
    wait_for_results(rig, 1);
    assert_string_equal(rig->story, "again");
}

static void disconnect(struct rig *rig)
{
    pg_disconnect(rig->pg);
}

static void disconnect_and_connect(struct rig *rig)
{
    pg_disconnect(rig->pg);
    rig->ups = 0;
    pg_connect(rig->pg);
}

static void disconnecting_from_a_callback_ends_it(void **state)
{
    for (int pipeline = 0; pipeline < 2; pipeline++) {
        if (pipeline)
            setup(state);
        struct rig *rig = connected(state, pipeline);
        rig->then = disconnect;
        assert_true(pg_query(rig->pg, "SELECT 'one'", NULL, tell, rig));
        if (pipeline) {
            assert_true(pg_query(rig->pg, "SELECT 'two'", NULL, tell, rig));
            assert_true(pg_sync(rig->pg, tell, rig));
        }
        wait_for_results(rig, 1);
        let_all_come(rig);
        assert_string_equal(rig->story, "one");
        assert_int_equal(rig->downs, 0);
        assert_false(pg_connected(rig->pg));
        assert_int_equal(pg_backend_pid(rig->pg), 0);
        if (!pipeline)
            teardown(state);
    }
}

static void a_new_connection_hears_nothing_of_the_old_one(void **state)
{
    struct rig *rig = connected(state, true);
    rig->then = disconnect_and_connect;
    for (int i = 0; i < 5; i++)
        assert_true(pg_query(rig->pg, "SELECT 'old'", NULL, tell, rig));
    assert_true(pg_sync(rig->pg, tell, rig));
    wait_for_results(rig, 1);
    assert_true(rig_until(rig->loop, settled, rig));
    assert_true(pg_query(rig->pg, "SELECT 'new'", NULL, tell, rig));
    assert_true(pg_sync(rig->pg, NULL, NULL));
    wait_for_results(rig, 2);
    assert_string_equal(rig->story, "old new");
    assert_int_equal(rig->downs, 0);
}

static void may_be_freed_at_any_time(void **state)
{
    rig_need_postgres();
    struct rig *rig = *state;
    const struct pg_calls calls = {.up = now_up, .down = now_down, .arg = rig};
    for (int turns = 0; turns < 6; turns++) {
        rig->pg = pg_new(rig->loop, rig->worker, conninfo, "unit test", true, &calls);
        pg_connect(rig->pg);
        for (int i = 0; i < turns && !pg_connected(rig->pg); i++)
            event_base_loop(loop_base(rig->loop), EVLOOP_ONCE);
        if (pg_connected(rig->pg)) {
            assert_true(pg_query(rig->pg, "SELECT 1", NULL, tell, rig));
            assert_true(pg_sync(rig->pg, tell, rig));
        }
        pg_free(rig->pg);
    }
    rig->pg = NULL;
    let_all_come(rig);
    assert_int_equal(rig->downs, 0);
    assert_int_equal(rig->results, 0);
}

// ---- no connection at all ----

static const char no_name[] =
    "a2345678901234567890123456789012345678901234567890123456789012345.test";

static void failures_to_connect_are_told(void **state)
{
    static const struct {
        const char *conninfo, *why;
    } cases[] = {
        {"host=127.0.0.1 port=1 dbname=x", "refused"},
        {"host=/nonexistent/directory", "/nonexistent/directory"},
        {"host=%s dbname=x", "cannot resolve host"},
        {"host=%s,127.0.0.1 port=1", "refused"}, // one that resolves is enough
        {"nonsense", "conninfo: missing \"=\""},
        {"nosuchoption=1", "conninfo: invalid connection option \"nosuchoption\""},
        {"postgresql://u:secret@[::1", "conninfo: malformed"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        if (i)
            setup(state);
        struct rig *rig = *state;
        char where[256];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(where, sizeof where, cases[i].conninfo, no_name);
#pragma GCC diagnostic pop
        start(rig, where, i % 2);
        assert_int_equal(rig->ups, 0);
        assert_int_equal(rig->downs, 1);
        if (!strstr(rig->why, cases[i].why))
            fail_msg("'%s': %s", where, rig->why);
        assert_null(strstr(rig->why, "secret"));
        assert_null(strchr(rig->why, '\n'));
        assert_false(pg_query(rig->pg, "SELECT 1", NULL, tell, rig));
        assert_false(pg_sync(rig->pg, tell, rig));
        assert_int_equal(pg_server_version(rig->pg), 0);
        if (i + 1 < COUNT(cases))
            teardown(state);
    }
}

static void the_server_may_refuse(void **state)
{
    rig_need_postgres();
    struct rig *rig = *state;
    start(rig, "dbname=nosuchdatabase", true);
    assert_int_equal(rig->downs, 1);
    if (!strstr(rig->why, "database \"nosuchdatabase\" does not exist"))
        fail_msg("%s", rig->why);
}

static int begin(void **state)
{
    (void)state;
    if (!rig_has_postgres())
        return 0;
    conninfo = rig_create_database(database);
    server = rig_connect(conninfo);
    return 0;
}

static int end(void **state)
{
    (void)state;
    if (!conninfo)
        return 0;
    PQfinish(server);
    rig_drop_database(database);
    free(conninfo);
    return 0;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(connects_and_answers),
        TEST(parameters_and_values),
        TEST(errors_say_what_and_where),
        TEST(scripts_end_at_their_first_error),
        TEST(an_error_skips_the_rest_of_its_unit),
        TEST(callbacks_may_send_more),
        TEST(many_units_keep_their_order),
        TEST(big_values_pass_without_blocking),
        TEST(a_terminated_backend_is_told_once),
        TEST(reconnects_from_within_down),
        TEST(disconnecting_from_a_callback_ends_it),
        TEST(a_new_connection_hears_nothing_of_the_old_one),
        TEST(may_be_freed_at_any_time),
        TEST(failures_to_connect_are_told),
        TEST(the_server_may_refuse),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
