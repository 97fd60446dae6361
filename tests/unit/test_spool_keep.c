// The spool over its file: what is settled when, and what people are told.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "spool_file_rig.h"
#include "store/spool_internal.h"

enum { MINUTE_MS = 60000, MIB = 1 << 20 };

static struct {
    struct spool spool;
    int64_t settled, durable; // messages; those that the file has said to be durable
    int64_t dropped;
    int64_t wanted;
} now;

// Nothing is acknowledged before.
static void settled_when_durable(struct message_source *source, struct message *message)
{
    (void)source;
    if (message->verdict == VERDICT_DROPPED) {
        now.dropped++;
        return;
    }
    assert_int_equal(message->verdict, VERDICT_SPOOLED);
    assert_true(++now.settled <= now.durable);
}

static void durable(void *arg, int64_t number)
{
    struct rig *rig = arg;
    now.durable = number;
    spool_durable(&now.spool, number);
    assert_int_equal(now.settled, number);
    if (number == now.wanted)
        loop_stop(rig->loop);
}

static void dropped(void *arg, uint64_t count)
{
    (void)arg;
    spool_dropped(&now.spool, count);
}

static void work(void *arg)
{
    spool_give(arg);
}

static int begin(void **state)
{
    setup(state);
    struct rig *rig = *state;
    rig->max_bytes = MIB;
    rig->source.settled = settled_when_durable;
    memset(&now, 0, sizeof now);
    now.spool = (struct spool){
        .options = {.path = "FILE", .outage_after_ms = 5000, .max_bytes = MIB},
        .state = SPOOL_KEEPING,
        .outage_limit.interval_ms = MINUTE_MS,
        .back_limit.interval_ms = MINUTE_MS,
        .full_limit.interval_ms = MINUTE_MS,
        .drop_limit.interval_ms = MINUTE_MS,
        .work = loop_task_new(rig->loop, work, &now.spool),
    };
    return 0;
}

static void open_spool(struct rig *rig, bool drop_oldest)
{
    const struct spool_file_options options = {rig->path, rig->max_bytes, drop_oldest};
    const struct spool_file_calls calls = {durable, dropped, rig};
    char *error = NULL;
    now.spool.options.drop_oldest = drop_oldest;
    rig->file = now.spool.file = spool_file_open(rig->loop, &options, &calls, &error);
    assert_non_null(rig->file);
}

static int end(void **state)
{
    spool_queue_fini(&now.spool.queue);
    loop_task_free(now.spool.work);
    return teardown(state);
}

// Each second one has QoS 0.
static void take(struct rig *rig, int64_t first, int64_t last, size_t length)
{
    for (int64_t i = first; i <= last; i++) {
        struct message *message = small_message(rig, i, length);
        message->qos = (uint8_t)(i % 2);
        spool_take(&now.spool, message, NULL);
    }
}

static void run_until(struct rig *rig, int64_t number)
{
    now.wanted = number;
    loop_run(rig->loop);
}

// ---- what is settled ----

static void nothing_is_settled_before_it_is_durable(void **state)
{
    struct rig *rig = *state;
    open_spool(rig, false);
    take(rig, 1, 100, 10);
    spool_give(&now.spool);
    assert_int_equal(now.settled, 0);
    run_until(rig, 100);
    assert_int_equal(now.spool.counters.kept, 100);
}

// One that is larger than what may be too much for a moment waits for the oldest to go.
static void large_messages_come_where_the_oldest_go(void **state)
{
    struct rig *rig = *state;
    open_spool(rig, true);
    take(rig, 1, 10, 300000);
    run_until(rig, 10);
    assert_int_equal(now.spool.counters.dropped, 7);
    assert_int_equal(now.dropped, 0);
    assert_int_equal(status_of(rig).count, 3);
}

// Of QoS 0 too, though nothing has waited for the room.
static void what_comes_when_there_is_room_again_is_kept(void **state)
{
    struct rig *rig = *state;
    open_spool(rig, false);
    take(rig, 1, 1, 2 * MIB);
    take(rig, 2, 2, 10);
    assert_int_equal(now.dropped, 1);
    run_until(rig, 1);
    spool_file_delete(rig->file, 1);
    settle(rig);
    take(rig, 2, 2, 10);
    run_until(rig, 2);
    assert_int_equal(now.dropped, 1);
}

// What waits for room is not to be overtaken, nor joined.
static void behind_what_waits_for_room_qos_0_is_dropped(void **state)
{
    struct rig *rig = *state;
    open_spool(rig, false);
    take(rig, 1, 1, 2 * MIB);
    run_until(rig, 1);
    take(rig, 3, 3, 10); // waits
    spool_file_delete(rig->file, 1);
    settle(rig);
    take(rig, 4, 4, 10);
    assert_int_equal(now.dropped, 1);
    loop_task_schedule(now.spool.work);
    run_until(rig, 2);
}

// ---- what the log says ----

// What is said meanwhile; the caller frees it.
static char *log_of(void (*say)(struct spool *))
{
    FILE *file = tmpfile();
    int kept = dup(STDERR_FILENO);
    fflush(stderr);
    dup2(fileno(file), STDERR_FILENO);
    say(&now.spool);
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    close(kept);
    char *text = mem_zalloc(4096);
    rewind(file);
    size_t length = fread(text, 1, 4095, file);
    assert_true(length < 4095);
    fclose(file);
    return text;
}

// text: part of its one line; NULL: it says nothing.
static void assert_says(void (*say)(struct spool *), const char *text)
{
    char *line = log_of(say);
    if (text ? !strstr(line, text) : *line)
        fail_msg("\"%s\" instead of \"%s\"", line, text ? text : "");
    free(line);
}

static void outage_begins(const char *text)
{
    now.spool.state = SPOOL_KEEPING;
    assert_says(spool_say_outage, text);
}

static void outage_ends(const char *text)
{
    now.spool.state = SPOOL_DIRECT;
    assert_says(spool_say_empty, text);
    assert_says(spool_say_kept, NULL);
}

static void the_last_word_is_true(void **state)
{
    open_spool(*state, false);
    outage_begins("messages are kept in FILE");
    assert_says(spool_say_kept, NULL);
    assert_says(spool_say_back, "PostgreSQL is back");
    outage_ends("empty");
    // One that is over before anybody has heard of it.
    outage_begins(NULL);
    now.spool.back_limit.next_ms = 0;
    assert_says(spool_say_back, NULL);
    outage_ends(NULL);
    // One that lasts.
    outage_begins(NULL);
    assert_says(spool_say_kept, "PostgreSQL is away; 0 message(s) are kept, 0.0 of 1.0 MiB");
    assert_says(spool_say_kept, NULL);
    outage_ends("empty");
    // One of which only the end is seen.
    outage_begins(NULL);
    now.spool.state = SPOOL_DRAINING;
    now.spool.back_limit.next_ms = 0;
    assert_says(spool_say_progress, "0 message(s) left");
    outage_ends("empty");
}

static void a_long_outage_is_said_again(void **state)
{
    struct rig *rig = *state;
    open_spool(rig, false);
    outage_begins("messages are kept");
    take(rig, 1, 3, 100000);
    now.spool.said_kept_ms -= 10 * MINUTE_MS - 30000;
    assert_says(spool_say_kept, NULL);
    now.spool.said_kept_ms -= 30000;
    assert_says(spool_say_kept, "FILE: PostgreSQL is away; 3 message(s) are kept, 0.3 of 1.0 MiB");
    assert_says(spool_say_kept, NULL);
    run_until(rig, 3);
}

static void the_status_says_since_when(void **state)
{
    struct rig *rig = *state;
    open_spool(rig, false);
    take(rig, 1, 1, 10); // it came a second after 1970 began
    assert_string_equal(spool_status(&now.spool),
                        "1 messages, 0.0 of 1.0 MiB, oldest of 1970-01-01T00:00:01Z; keeping");
    run_until(rig, 1);
}

// A time that no clock can have said.
static void the_lag_is_none_where_its_time_is_damaged(void **state)
{
    static const char *const times[] = {"-9223372036854775807", "-1", "9223372036854775807"};
    struct rig *rig = *state;
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        open_spool(rig, false);
        take(rig, 1, 1, 10);
        run_until(rig, 1);
        assert_true(spool_lag_ms(&now.spool) > 0);
        close_file(rig);
        struct sqlite3 *db;
        char *sql = mem_printf("UPDATE entry SET received_us = %s", times[i]);
        assert_int_equal(sqlite3_open_v2(rig->path, &db, SQLITE_OPEN_READWRITE, "unix"), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
        sqlite3_close(db);
        free(sql);
        open_spool(rig, false);
        assert_int_equal(spool_lag_ms(&now.spool), 0);
        assert_non_null(strstr(spool_status(&now.spool), "1 messages"));
        close_file(rig);
        assert_int_equal(unlink(rig->path), 0);
        now.settled = now.durable = now.spool.durable = 0;
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(nothing_is_settled_before_it_is_durable),
        TEST(large_messages_come_where_the_oldest_go),
        TEST(what_comes_when_there_is_room_again_is_kept),
        TEST(behind_what_waits_for_room_qos_0_is_dropped),
        TEST(the_last_word_is_true),
        TEST(a_long_outage_is_said_again),
        TEST(the_status_says_since_when),
        TEST(the_lag_is_none_where_its_time_is_damaged),
    };
    log_init(LOG_LEVEL_INFO);
    disk_faults_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
