// The spool's file where the disk fails, the process dies, or the file is not what it should be:
// what was told to be durable is there, in order, once.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <event2/event.h>
#include <sys/wait.h>

#include "base/log.h"
#include "spool/spool_file_internal.h"
#include "spool_file_rig.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static void assert_entries(struct rig *rig, int64_t first, int64_t last)
{
    read_all(rig);
    assert_int_equal(rig->read_count, last - first + 1);
    for (size_t i = 0; i < rig->read_count; i++) {
        assert_int_equal(rig->entries[i].number, first + (int64_t)i);
        assert_int_equal(value_of(rig->read[i]), first + (int64_t)i);
    }
}

static void wait_until_failing(struct rig *rig)
{
    while (!status_of(rig).failing)
        usleep(1000);
}

// ---- a disk that fails ----

static void nothing_is_told_while_the_disk_fails(void **state)
{
    static const struct {
        int error;
        const char *said;
    } cases[] = {
        {SQLITE_FULL, "the disk is full"},
        {SQLITE_IOERR_WRITE, "kernel's log"},
        {SQLITE_IOERR_FSYNC, "kernel's log"},
        {SQLITE_READONLY, "cannot be written"},
    };
    struct rig *rig = *state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        open_file(rig);
        rig->durable = 0;
        put(rig, 1);
        wait_durable(rig, 1);
        disk_faults.fail = cases[i].error;
        put(rig, 2);
        put(rig, 3);
        wait_until_failing(rig);
        assert_non_null(strstr(status_of(rig).error, cases[i].said));
        event_base_loop(loop_base(rig->loop), EVLOOP_NONBLOCK);
        assert_int_equal(rig->durable, 1);
        disk_faults_clear();
        wait_durable(rig, 3);
        assert_int_equal(rig->unsynced, 0);
        assert_false(status_of(rig).failing);
        assert_entries(rig, 1, 3);
        close_file(rig);
        assert_int_equal(unlink(rig->path), 0);
    }
}

// What is there can be stored elsewhere meanwhile.
static void what_is_there_is_read_while_the_disk_fails(void **state)
{
    struct rig *rig = *state;
    open_file(rig);
    for (int64_t i = 1; i <= 3; i++)
        put(rig, i);
    wait_durable(rig, 3);
    disk_faults.fail = SQLITE_FULL;
    put(rig, 4);
    wait_until_failing(rig);
    read_after(rig, 0, READ_MAX, SIZE_MAX);
    assert_int_equal(rig->read_count, 3);
    assert_false(rig->all);
    spool_file_delete(rig->file, 3);
    read_after(rig, 1, 1, SIZE_MAX);
    assert_int_equal(rig->entries[0].number, 2);
    begin_read(rig, 3, READ_MAX, SIZE_MAX); // there is nothing else yet
    for (int64_t began = loop_now_ms(); loop_now_ms() < began + 50;)
        event_base_loop(loop_base(rig->loop), EVLOOP_NONBLOCK);
    assert_true(rig->reading);
    assert_int_equal(rig->durable, 3);
    disk_faults_clear();
    while (rig->reading)
        loop_run(rig->loop);
    assert_int_equal(rig->entries[rig->read_count - 1].number, 4);
    assert_true(rig->all);
}

// It waits for what cannot be written.
static void a_reading_that_waits_can_be_given_up(void **state)
{
    struct rig *rig = *state;
    open_file(rig);
    disk_faults.fail = SQLITE_FULL;
    put(rig, 1);
    wait_until_failing(rig);
    begin_read(rig, 0, READ_MAX, SIZE_MAX);
    for (int64_t began = loop_now_ms(); loop_now_ms() < began + 50;)
        event_base_loop(loop_base(rig->loop), EVLOOP_NONBLOCK);
    spool_file_read_no_more(rig->file);
    disk_faults_clear();
    wait_durable(rig, 1);
    assert_true(rig->reading); // it has not been told
    assert_int_equal(rig->read_count, 0);
    assert_entries(rig, 1, 1);
}

// One call after the other fails once.
static void any_call_may_fail(void **state)
{
    static const int errors[] = {SQLITE_FULL, SQLITE_IOERR_WRITE, SQLITE_IOERR_FSYNC};
    struct rig *rig = *state;
    for (int call = 1; call <= 30; call++) {
        open_file(rig);
        rig->durable = 0;
        disk_faults.fail_once = errors[call % 3];
        disk_faults.fail_in = call;
        int64_t doubt = spool_file_doubt(rig->file, "edge7", 1, 0, 1);
        for (int64_t i = 1; i <= 8; i++) {
            put_sized(rig, i, 10, i == 3 ? doubt : 0);
            wait_durable(rig, i);
        }
        assert_int_equal(spool_file_resolve(rig->file, doubt, true), 1);
        spool_file_delete(rig->file, 5);
        settle(rig);
        disk_faults_clear();
        do
            settle(rig);
        while (status_of(rig).count > 3);
        assert_entries(rig, 6, 8);
        uint64_t bytes = status_of(rig).bytes;
        open_again(rig);
        assert_int_equal(status_of(rig).count, 3);
        assert_int_equal(status_of(rig).bytes, bytes);
        assert_entries(rig, 6, 8);
        close_file(rig);
        assert_int_equal(unlink(rig->path), 0);
    }
}

static int refuse_to_shrink(void *arg, int action, const char *what, const char *value,
                            const char *database, const char *trigger)
{
    (void)value, (void)database, (void)trigger;
    unsigned *refused = arg;
    if (action != SQLITE_PRAGMA || strcmp(what, "incremental_vacuum") != 0)
        return SQLITE_OK;
    ++*refused;
    return SQLITE_DENY;
}

static void fill_and_empty(struct rig *rig, int64_t first, int64_t last)
{
    for (int64_t i = first; i <= last; i++)
        put_sized(rig, i, 3000, 0);
    wait_durable(rig, last);
    spool_file_delete(rig->file, last);
    do
        settle(rig);
    while (rig->file->count > 0 || rig->file->shrinking);
}

static void where_it_does_not_get_smaller_it_is_used_all_the_same(void **state)
{
    struct rig *rig = *state;
    unsigned refused = 0;
    open_file(rig);
    sqlite3_set_authorizer(disk_database(rig->file->disk), refuse_to_shrink, &refused);
    fill_and_empty(rig, 1, 700);
    assert_int_equal(refused, 1);
    assert_false(status_of(rig).failing);
    fill_and_empty(rig, 701, 1400);
    assert_int_equal(refused, 2);
}

// They are stored elsewhere, whatever the disk can be told.
static void what_had_committed_is_not_read_while_the_disk_fails(void **state)
{
    struct rig *rig = *state;
    open_file(rig);
    int64_t stored = spool_file_doubt(rig->file, "edge7", 1, 0, 1);
    int64_t lost = spool_file_doubt(rig->file, "edge7", 1, 1, 1);
    for (int64_t i = 1; i <= 6; i++)
        put_sized(rig, i, 10, i <= 2 ? stored : i <= 4 ? lost : 0);
    wait_durable(rig, 6);
    disk_faults.fail = SQLITE_FULL;
    assert_int_equal(spool_file_resolve(rig->file, stored, true), 2);
    assert_int_equal(spool_file_resolve(rig->file, lost, false), 2);
    wait_until_failing(rig);
    assert_entries(rig, 3, 6);
    read_after(rig, 0, 1, SIZE_MAX);
    assert_int_equal(rig->entries[0].number, 3);
    disk_faults_clear();
    while (status_of(rig).count > 4)
        settle(rig);
    assert_entries(rig, 3, 6);
}

// ---- a process that dies ----

// Else, after a death between the two, a repetition would be taken for new.
static void an_identifier_is_durable_with_its_entry(void **state)
{
    struct rig *rig = *state;
    sqlite3 *other;
    open_file(rig);
    assert_int_equal(sqlite3_open(rig->path, &other), SQLITE_OK);
    for (int64_t i = 1; i <= 300; i++) {
        sqlite3_stmt *row;
        struct message *message = small_message(rig, i, 10);
        message->session = 7;
        message->packet_id = (uint16_t)i;
        assert_int_equal(spool_file_put(rig->file, message, NULL, 0, false), i);
        message_release(message, VERDICT_SPOOLED, NULL);
        wait_durable(rig, i);
        assert_int_equal(sqlite3_prepare_v2(other, "SELECT count(*) FROM exchange", -1, &row, NULL),
                         SQLITE_OK);
        assert_int_equal(sqlite3_step(row), SQLITE_ROW);
        assert_int_equal(sqlite3_column_int64(row, 0), i);
        sqlite3_finalize(row);
    }
    sqlite3_close(other);
}

// What the child has been told, as far as it came.
struct news {
    int64_t durable, deleted;
};

static void tell_parent(int fd, int64_t durable, int64_t deleted)
{
    const struct news news = {durable, deleted};
    if (write(fd, &news, sizeof news) != sizeof news)
        _exit(1);
}

enum { ROUNDS = 3, PER_ROUND = 6, DELETED = 4 };

// Puts six, deletes all but the last two, and so on, until it dies.
static void put_until_dead(struct rig *rig, int fd)
{
    rig->loop = loop_new();
    open_file(rig);
    int64_t deleted = 0;
    for (int64_t round = 0; round < ROUNDS; round++) {
        int64_t last = (round + 1) * PER_ROUND;
        for (int64_t i = last - PER_ROUND + 1; i <= last; i++)
            put_sized(rig, i, 3000, 0);
        wait_durable(rig, last);
        tell_parent(fd, last, deleted);
        deleted = last - PER_ROUND + DELETED;
        spool_file_delete(rig->file, deleted);
        settle(rig);
        tell_parent(fd, last, deleted);
    }
    close_file(rig);
    _exit(7);
}

static struct news hear(int fd)
{
    struct news last = {0, 0}, news;
    while (read(fd, &news, sizeof news) == sizeof news)
        last = news;
    close(fd);
    return last;
}

// Whether the child died in the change with this number; it was told what news has.
static bool dies_in(struct rig *rig, int change, bool tear, struct news *news)
{
    int fds[2], status;
    assert_int_equal(pipe(fds), 0);
    pid_t child = fork();
    if (child == 0) {
        disk_faults.die_in = change;
        disk_faults.tear = tear;
        put_until_dead(rig, fds[1]);
    }
    close(fds[1]);
    *news = hear(fds[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 7));
    return WEXITSTATUS(status) == 0;
}

static void check_what_is_left(struct rig *rig, const struct news *news)
{
    open_file(rig);
    read_all(rig);
    int64_t number = rig->read_count > 0 ? rig->entries[0].number : news->durable + 1;
    assert_true(number > news->deleted);
    assert_true(number <= news->deleted + PER_ROUND + 1); // the next delete may be through
    for (size_t i = 0; i < rig->read_count; i++, number++) {
        assert_int_equal(rig->entries[i].number, number);
        assert_int_equal(value_of(rig->read[i]), number);
    }
    assert_true(number > news->durable);
    assert_true(put(rig, 0) >= number);
    close_file(rig);
    assert_int_equal(unlink(rig->path), 0);
}

static void what_was_told_outlives_the_process(void **state)
{
    struct rig *rig = *state;
    for (int tear = 0; tear < 2; tear++) {
        int change = 1;
        struct news news;
        while (dies_in(rig, change, tear, &news)) {
            check_what_is_left(rig, &news);
            change += change < 40 ? 1 : 7;
        }
        check_what_is_left(rig, &news);
        assert_int_equal(news.durable, ROUNDS * PER_ROUND);
        assert_true(change > 50);
    }
}

// ---- files ----

static void one_daemon_has_the_file(void **state)
{
    struct rig *rig = *state;
    open_file(rig);
    put(rig, 1);
    char *error = NULL;
    assert_null(try_open(rig, &error));
    assert_non_null(strstr(error, "in use by another process"));
    assert_non_null(strstr(error, rig->path));
    free(error);
    put(rig, 2);
    assert_entries(rig, 1, 2);
}

// As a copy of both files in the middle of a write.
static void the_torn_end_of_the_log_is_no_loss(void **state)
{
    struct rig *rig = *state;
    open_file(rig);
    for (int64_t i = 1; i <= 20; i++) {
        put_sized(rig, i, 3000, 0);
        wait_durable(rig, i);
    }
    char *copy = mem_printf("cp %s %s/copy.db; cp %s-wal %s/copy.db-wal", rig->path, rig->directory,
                            rig->path, rig->directory);
    assert_int_equal(system(copy), 0);
    free(copy);
    close_file(rig);
    snprintf(rig->path, sizeof rig->path, "%s/copy.db", rig->directory);
    char *log = mem_printf("%s-wal", rig->path);
    assert_int_equal(truncate(log, size_of(log) - 1000), 0);
    free(log);
    open_file(rig);
    read_all(rig);
    assert_int_equal(rig->read_count, 19); // the last commit alone is torn
}

static void assert_refused(struct rig *rig, const char *said)
{
    char *error = NULL;
    rig->file = try_open(rig, &error);
    assert_null(rig->file);
    if (!strstr(error, said) || !strstr(error, rig->path))
        fail_msg("'%s' does not say '%s'", error, said);
    free(error);
}

static void damage(const char *path, long offset, const char *bytes, size_t length)
{
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, offset, SEEK_SET), 0);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    fclose(file);
}

static void a_damaged_file_is_refused_with_a_way_out(void **state)
{
    struct rig *rig = *state;
    open_file(rig);
    for (int64_t i = 1; i <= 2000; i++)
        put_sized(rig, i, 500, 0);
    wait_durable(rig, 2000); // closing waits for a second at most
    close_file(rig);
    char zeros[4096] = {0};
    damage(rig->path, 40 * 4096, zeros, sizeof zeros);
    assert_refused(rig, "the file is damaged");
    assert_refused(rig, ".dump");
    damage(rig->path, 0, "nonsense", 8);
    assert_refused(rig, "not an SQLite database");
}

static void run_sql(const char *path, const char *sql)
{
    struct sqlite3 *db;
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, "unix"), SQLITE_OK);
    char *error = NULL;
    if (sqlite3_exec(db, sql, NULL, NULL, &error) != SQLITE_OK)
        fail_msg("%s: %s", sql, error);
    sqlite3_close(db);
}

// As one is that somebody has made of a dump. It is not tried for ever.
static void a_file_that_cannot_get_smaller_is_used(void **state)
{
    struct rig *rig = *state;
    open_file(rig);
    close_file(rig);
    run_sql(rig->path, "PRAGMA journal_mode = DELETE; PRAGMA auto_vacuum = NONE; VACUUM");
    open_file(rig);
    fill_and_empty(rig, 1, 700);
    assert_int_equal(put(rig, 1), 701);
}

static void a_file_without_its_identifier_is_refused(void **state)
{
    struct rig *rig = *state;
    open_file(rig);
    close_file(rig);
    run_sql(rig->path, "UPDATE spool SET id = replace(id, substr(id, 9, 1), CAST(x'ff' AS TEXT))");
    assert_refused(rig, "has lost its identifier");
    run_sql(rig->path, "DELETE FROM spool");
    assert_refused(rig, "has lost its identifier");
    run_sql(rig->path, "DROP TABLE spool");
    assert_refused(rig, "no such table");
}

// It could not be asked what has become of it; the command that the log has makes it a new one.
static void a_damaged_doubt_is_refused_with_a_way_out(void **state)
{
    static const char *const damages[] = {"UPDATE doubt SET writer = CAST(x'65ff37' AS TEXT)",
                                          "UPDATE doubt SET writer = CAST(x'650037' AS TEXT)",
                                          "UPDATE doubt SET lane = 4294967295"};
    struct rig *rig = *state;
    for (size_t i = 0; i < COUNT(damages); i++) {
        open_file(rig);
        int64_t doubt = spool_file_doubt(rig->file, "edge7", 1, 0, 1);
        for (int64_t n = 1; n <= 3; n++)
            put_sized(rig, n, 10, n == 2 ? doubt : 0);
        close_file(rig);
        run_sql(rig->path, damages[i]);
        assert_refused(rig, "transaction 1");
        char *error = NULL;
        assert_null(try_open(rig, &error));
        char *sql = strstr(error, "UPDATE entry");
        assert_non_null(sql);
        *strrchr(sql, '\'') = '\0';
        run_sql(rig->path, sql);
        free(error);
        open_file(rig);
        assert_entries(rig, 1, 3);
        const struct spool_doubt *doubts;
        assert_int_equal(spool_file_doubts(rig->file, &doubts), 0);
        close_file(rig);
        assert_int_equal(unlink(rig->path), 0);
    }
}

// It cannot be left out, since it was acknowledged: it has a flaw, and becomes a reject.
static void an_entry_that_makes_no_sense_is_given_with_a_flaw(void **state)
{
    struct rig *rig = *state;
    open_file(rig);
    for (int64_t i = 1; i <= 4; i++)
        put(rig, i);
    close_file(rig);
    run_sql(rig->path, "UPDATE entry SET properties = x'00000000ff00000000' WHERE number = 1;"
                       "UPDATE entry SET properties = x'09000000000000000100' WHERE number = 2;"
                       "UPDATE entry SET flags = 3 WHERE number = 3;");
    open_file(rig);
    read_all(rig);
    assert_int_equal(rig->read_count, 4);
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(rig->read[i]->flaw, "damaged in the spool");
        assert_int_equal(rig->read[i]->property_count, 0);
        assert_int_equal(value_of(rig->read[i]), i + 1);
    }
    assert_null(rig->read[3]->flaw);
    // While it is open nobody checks what the tables allow.
    run_sql(rig->path, "PRAGMA ignore_check_constraints = ON;"
                       "UPDATE entry SET session = 7, packet_id = 65536 + 9 WHERE number = 4;"
                       "UPDATE entry SET flags = 4294967296 + 1 WHERE number = 3");
    read_all(rig);
    assert_string_equal(rig->read[2]->flaw_detail, "flags");
    assert_string_equal(rig->read[3]->flaw_detail, "packet_id");
    assert_int_equal(rig->entries[3].session, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(nothing_is_told_while_the_disk_fails),
        TEST(what_is_there_is_read_while_the_disk_fails),
        TEST(what_had_committed_is_not_read_while_the_disk_fails),
        TEST(a_reading_that_waits_can_be_given_up),
        TEST(where_it_does_not_get_smaller_it_is_used_all_the_same),
        TEST(any_call_may_fail),
        TEST(an_identifier_is_durable_with_its_entry),
        TEST(what_was_told_outlives_the_process),
        TEST(one_daemon_has_the_file),
        TEST(the_torn_end_of_the_log_is_no_loss),
        TEST(a_damaged_file_is_refused_with_a_way_out),
        TEST(a_file_that_cannot_get_smaller_is_used),
        TEST(a_file_without_its_identifier_is_refused),
        TEST(a_damaged_doubt_is_refused_with_a_way_out),
        TEST(an_entry_that_makes_no_sense_is_given_with_a_flaw),
    };
    log_init(LOG_LEVEL_INFO);
    disk_faults_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
