// The disk's thread: order, groups, faults, the end.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sched.h>
#include <sys/wait.h>

#include "base/log.h"
#include "disk_rig.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static void assert_in_order(const struct rig *rig, size_t count)
{
    assert_int_equal(rig->done_count, count);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(rig->done[i], i);
}

static void jobs_are_done_elsewhere_in_order_and_told_here(void **state)
{
    struct rig *rig = *state;
    open_disk(rig);
    enum { JOBS = 500 };
    static struct number numbers[JOBS];
    for (int64_t i = 0; i < JOBS; i++)
        submit(rig, &numbers[i], i);
    assert_int_equal(rig->done_count, 0);
    wait_for(rig, JOBS);
    assert_in_order(rig, JOBS);
    for (size_t i = 0; i < JOBS; i++) {
        assert_false(numbers[i].on_loop);
        assert_int_equal(numbers[i].worked, 1);
    }
    struct disk_status status;
    disk_status(rig->disk, &status);
    assert_int_equal(status.jobs, JOBS);
    assert_false(status.failing);
    close_disk(rig);
    assert_int_equal(ask(rig->path, "SELECT count(*) FROM number"), JOBS);
}

static void hold_disk(void)
{
    disk_faults.hold = true;
}

static void wait_until_held(void)
{
    while (!disk_faults.held)
        sched_yield();
}

static void what_waits_goes_into_one_commit(void **state)
{
    struct rig *rig = *state;
    open_disk(rig);
    enum { JOBS = 100 };
    static struct number numbers[JOBS];
    hold_disk();
    submit(rig, &numbers[0], 0);
    wait_until_held();
    for (int64_t i = 1; i < JOBS; i++)
        submit(rig, &numbers[i], i);
    disk_faults.hold = false;
    wait_for(rig, JOBS);
    assert_in_order(rig, JOBS);
    struct disk_status status;
    disk_status(rig->disk, &status);
    assert_int_equal(status.commits, 2);
}

static void nothing_is_told_before_it_is_synced(void **state)
{
    struct rig *rig = *state;
    open_disk(rig);
    struct number number;
    for (int64_t i = 0; i < 50; i++) {
        submit(rig, &number, i);
        wait_for(rig, (size_t)i + 1);
    }
    assert_int_equal(rig->unsynced, 0);
}

static void closing_waits_for_what_was_submitted(void **state)
{
    struct rig *rig = *state;
    open_disk(rig);
    static struct number numbers[20];
    for (int64_t i = 0; i < 20; i++)
        submit(rig, &numbers[i], i);
    close_disk(rig);
    assert_int_equal(rig->done_count, 0);
    assert_int_equal(ask(rig->path, "SELECT count(*) FROM number"), 20);
}

// ---- faults ----

// What the log says during a call, which is more than a person would read.
static char *log_of(void (*call)(struct rig *), struct rig *rig)
{
    char *path = mem_printf("%s/log", rig->directory);
    int old = dup(STDERR_FILENO), fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    dup2(fd, STDERR_FILENO);
    call(rig);
    dup2(old, STDERR_FILENO);
    static char text[65536];
    ssize_t length = pread(fd, text, sizeof text - 1, 0);
    text[length > 0 ? length : 0] = '\0';
    close(fd);
    close(old);
    free(path);
    return text;
}

static unsigned lines_with(const char *text, const char *word)
{
    unsigned count = 0;
    for (const char *at = text; (at = strstr(at, word)); at++)
        count++;
    return count;
}

static struct number fault_numbers[4];

// Three jobs while the disk fails: they are tried at least twice, nothing is told; then it works.
static void submit_while_it_fails(struct rig *rig)
{
    submit(rig, &fault_numbers[0], 0);
    submit(rig, &fault_numbers[1], 1);
    while (fault_numbers[0].worked < 3)
        sched_yield();
    submit(rig, &fault_numbers[2], 2);
    struct disk_status status;
    do {
        disk_status(rig->disk, &status);
    } while (!status.failing);
    assert_non_null(status.error);
    loop_run_posts(rig->loop);
    assert_int_equal(rig->done_count, 0);
    disk_faults_clear();
    wait_for(rig, 3);
    disk_status(rig->disk, &status);
    assert_false(status.failing);
    assert_null(status.error);
}

static void a_disk_that_fails_is_tried_until_it_works(void **state)
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
        open_disk(rig);
        rig->done_count = 0;
        disk_faults.fail = cases[i].error;
        const char *text = log_of(submit_while_it_fails, rig);
        assert_in_order(rig, 3);
        assert_non_null(strstr(text, cases[i].said));
        assert_non_null(strstr(text, rig->path));
        assert_int_equal(lines_with(text, "trying again"), 1); // not with each attempt
        assert_int_equal(lines_with(text, "writing again"), 1);
        close_disk(rig);
        assert_int_equal(ask(rig->path, "SELECT count(*) FROM number"), 3);
        assert_int_equal(unlink(rig->path), 0);
    }
}

// One call after the other fails once: wherever it hits, everything is written once, in order.
static void any_call_may_fail(void **state)
{
    static const int errors[] = {SQLITE_FULL, SQLITE_IOERR_WRITE, SQLITE_IOERR_FSYNC};
    struct rig *rig = *state;
    for (int call = 1; call <= 24; call++) {
        open_disk(rig);
        disk_faults.fail_once = errors[call % 3];
        disk_faults.fail_in = call;
        rig->done_count = 0;
        static struct number numbers[6];
        for (int64_t i = 0; i < 6; i++) {
            submit(rig, &numbers[i], i);
            wait_for(rig, (size_t)i + 1);
        }
        assert_in_order(rig, 6);
        disk_faults.fail_in = 0;
        close_disk(rig);
        assert_int_equal(ask(rig->path, "SELECT count(*) FROM number"), 6);
        assert_int_equal(unlink(rig->path), 0);
    }
}

static bool refuse_once(struct sqlite3 *db, void *arg)
{
    struct number *number = arg;
    if (number->worked++ == 0)
        return run_sql(db, "INSERT INTO nowhere VALUES (1)");
    return run_sql(db, "INSERT INTO number (value) SELECT count(*) + 100 FROM number");
}

// The group is undone with the job that fails: what came before it in the group was not there when
// it ran again.
static void a_job_that_fails_undoes_its_group(void **state)
{
    struct rig *rig = *state;
    open_disk(rig);
    static struct number first, before, refused, after;
    hold_disk();
    submit(rig, &first, 0);
    wait_until_held();
    submit(rig, &before, 1);
    refused = (struct number){.rig = rig, .value = 2};
    disk_submit(rig->disk, refuse_once, told, &refused);
    submit(rig, &after, 3);
    disk_faults.hold = false;
    wait_for(rig, 4);
    assert_in_order(rig, 4);
    assert_int_equal(before.worked, 2);
    assert_int_equal(after.worked, 1);
    close_disk(rig);
    assert_int_equal(ask(rig->path, "SELECT max(value) FROM number"), 102);
}

static void a_disk_that_fails_does_not_hold_up_the_end(void **state)
{
    struct rig *rig = *state;
    open_disk(rig);
    static struct number number;
    disk_faults.fail = SQLITE_FULL;
    submit(rig, &number, 0);
    while (number.worked < 2)
        sched_yield();
    int64_t began = loop_now_ms();
    close_disk(rig);
    assert_in_range(loop_now_ms() - began, 0, 4000);
    assert_int_equal(rig->done_count, 0);
}

// In a process of its own, which ends with the thread that is left behind.
static void a_disk_that_hangs_does_not_hold_up_the_end(void **state)
{
    struct rig *rig = *state;
    pid_t child = fork();
    if (child == 0) {
        static struct number number;
        open_disk(rig);
        hold_disk();
        submit(rig, &number, 0);
        wait_until_held();
        int64_t began = loop_now_ms();
        bool ended = disk_close(rig->disk);
        _exit(ended || loop_now_ms() - began > 8000 ? 1 : 0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

// ---- what others need not wait for ----

static atomic_bool impossible; // what is so

static bool refuse(struct sqlite3 *db)
{
    return run_sql(db, "INSERT INTO nowhere VALUES (1)");
}

static bool write_where_possible(struct sqlite3 *db, void *arg)
{
    struct number *number = arg;
    if (!impossible)
        return write_number(db, arg);
    number->worked++;
    return refuse(db);
}

static bool read_where_possible(struct sqlite3 *db, void *arg)
{
    struct number *number = arg;
    number->worked++;
    assert_true(sqlite3_get_autocommit(db));
    return !impossible || refuse(db);
}

static void submit_lazy(struct rig *rig, struct number *number, int64_t value)
{
    *number = (struct number){.rig = rig, .value = value};
    disk_submit_lazy(rig->disk, write_where_possible, told, number);
}

static void submit_read(struct rig *rig, struct number *number, int64_t value)
{
    *number = (struct number){.rig = rig, .value = value};
    disk_submit_read(rig->disk, read_where_possible, told, number);
}

static struct disk_status status_of(struct rig *rig)
{
    struct disk_status status;
    disk_status(rig->disk, &status);
    return status;
}

enum { LATER = 1000000 };

// What was impossible is done, in order.
static void assert_later(struct rig *rig, size_t count)
{
    size_t before = rig->done_count;
    impossible = false;
    wait_for(rig, before + count);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(rig->done[before + i], LATER + i);
    assert_false(status_of(rig).failing);
    assert_int_equal(rig->unsynced, 0);
}

static void wait_until_tried(const struct number *number, unsigned times)
{
    for (unsigned before = number->worked; number->worked < before + times;)
        sched_yield();
}

static struct number many[NUMBERS_MAX];

static bool read_numbers(struct sqlite3 *db, void *arg)
{
    (void)arg;
    return run_sql(db, "SELECT count(*) FROM number");
}

// A write, or a job that reads.
static void do_next(struct rig *rig)
{
    int64_t next = (int64_t)rig->done_count;
    many[next] = (struct number){.rig = rig, .value = next};
    if (next % 2)
        disk_submit(rig->disk, write_number, told, &many[next]);
    else
        disk_submit_read(rig->disk, read_numbers, told, &many[next]);
    wait_for(rig, rig->done_count + 1);
    assert_int_equal(rig->done[next], next);
}

// None is held up until that one, which cannot be done, is tried again; nor does it wait for them.
static void go_on_while_it_fails(struct rig *rig, const struct number *number)
{
    enum { COUNT = 20 };
    unsigned before = number->worked;
    for (int i = 0; i < COUNT; i++)
        do_next(rig);
    assert_true(number->worked < before + COUNT / 2);
    for (before = number->worked; number->worked < before + 2; usleep(2000))
        do_next(rig);
}

// Neither what comes with it nor what comes later.
static void a_lazy_job_holds_up_nothing_else(void **state)
{
    struct rig *rig = *state;
    open_disk(rig);
    impossible = true;
    hold_disk();
    submit(rig, &many[0], 0);
    wait_until_held();
    static struct number lazy[3];
    submit_lazy(rig, &lazy[0], LATER);
    submit(rig, &many[1], 1);
    submit_lazy(rig, &lazy[1], LATER + 1);
    disk_faults.hold = false;
    wait_for(rig, 2);
    assert_in_order(rig, 2);
    submit_lazy(rig, &lazy[2], LATER + 2);
    go_on_while_it_fails(rig, &lazy[0]);
    assert_int_equal(lazy[2].worked, 0); // it relies on the others
    assert_true(status_of(rig).failing);
    assert_false(status_of(rig).unwritable);
    assert_later(rig, 3);
    close_disk(rig);
    assert_int_equal(ask(rig->path, "SELECT count(*) FROM number WHERE value >= 1000000"), 3);
}

static bool fail_and_fill_the_disk(struct sqlite3 *db, void *arg)
{
    struct number *number = arg;
    if (number->worked++ > 0)
        return run_sql(db, "INSERT INTO number (value) SELECT count(*) + 100 FROM number");
    disk_faults.fail = SQLITE_FULL;
    return refuse(db);
}

// It may rely on that, though it does not hold up what comes after it.
static void a_lazy_job_waits_for_what_was_submitted_before_it(void **state)
{
    struct rig *rig = *state;
    open_disk(rig);
    hold_disk();
    submit(rig, &many[0], 0);
    wait_until_held();
    static struct number lazy;
    submit(rig, &many[1], 1);
    lazy = (struct number){.rig = rig, .value = 2};
    disk_submit_lazy(rig->disk, fail_and_fill_the_disk, told, &lazy);
    disk_faults.hold = false;
    wait_for(rig, 1);
    wait_until_tried(&many[1], 4);
    assert_int_equal(lazy.worked, 1);
    assert_true(status_of(rig).unwritable);
    disk_faults_clear();
    wait_for(rig, 3);
    assert_in_order(rig, 3);
    assert_false(status_of(rig).unwritable);
    close_disk(rig);
    assert_int_equal(ask(rig->path, "SELECT max(value) FROM number"), 102);
}

static void what_cannot_be_read_holds_up_nothing_else(void **state)
{
    struct rig *rig = *state;
    open_disk(rig);
    impossible = true;
    static struct number read, other;
    submit_read(rig, &read, LATER);
    go_on_while_it_fails(rig, &read);
    assert_true(status_of(rig).failing);
    assert_true(status_of(rig).unreadable);
    assert_false(status_of(rig).unwritable);
    submit_read(rig, &other, LATER + 1);
    go_on_while_it_fails(rig, &other);
    assert_later(rig, 2);
    assert_false(status_of(rig).unreadable);
}

static void what_is_lazy_does_not_hold_up_the_end(void **state)
{
    struct rig *rig = *state;
    open_disk(rig);
    impossible = true;
    static struct number lazy, read;
    submit_lazy(rig, &lazy, LATER);
    submit_read(rig, &read, LATER);
    wait_until_tried(&lazy, 2);
    submit(rig, &many[0], 0);
    submit(rig, &many[1], 1);
    close_disk(rig);
    impossible = false;
    assert_int_equal(ask(rig->path, "SELECT count(*) FROM number"), 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(jobs_are_done_elsewhere_in_order_and_told_here),
        TEST(what_waits_goes_into_one_commit),
        TEST(nothing_is_told_before_it_is_synced),
        TEST(closing_waits_for_what_was_submitted),
        TEST(a_disk_that_fails_is_tried_until_it_works),
        TEST(any_call_may_fail),
        TEST(a_job_that_fails_undoes_its_group),
        TEST(a_disk_that_fails_does_not_hold_up_the_end),
        TEST(a_disk_that_hangs_does_not_hold_up_the_end),
        TEST(a_lazy_job_holds_up_nothing_else),
        TEST(a_lazy_job_waits_for_what_was_submitted_before_it),
        TEST(what_cannot_be_read_holds_up_nothing_else),
        TEST(what_is_lazy_does_not_hold_up_the_end),
    };
    log_init(LOG_LEVEL_INFO);
    disk_faults_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
