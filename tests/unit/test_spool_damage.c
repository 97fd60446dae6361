// A page of the spool's file that gets damaged while the file is in use: what can be read is read,
// what comes is kept, and when the page is whole again nothing is missing.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <event2/event.h>
#include <stdatomic.h>

#include "base/log.h"
#include "spool_file_rig.h"

enum { PAGE = 4096, ENTRIES = 1000, LENGTH = 300, MORE = 20 };

static struct {
    long at;
    char before[PAGE];
    int64_t first, last; // entries on it
} page;

static atomic_uint failures; // of statements, because the file is damaged

static void note_failure(void *arg, int code, const char *text)
{
    (void)arg;
    failures += (code & 0xFF) == SQLITE_CORRUPT && strstr(text, "aborts") != NULL;
}

// ---- damage ----

static int64_t number(struct sqlite3 *db, const char *sql)
{
    sqlite3_stmt *row;
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &row, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(row), SQLITE_ROW);
    int64_t value = sqlite3_column_int64(row, 0);
    sqlite3_finalize(row);
    return value;
}

// The page of entries that stands in the middle.
static void find_page(struct sqlite3 *db)
{
    sqlite3_stmt *row;
    const char *sql = "SELECT pageno, ncell FROM dbstat WHERE name = 'entry' AND pagetype = 'leaf'"
                      " ORDER BY path";
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &row, NULL), SQLITE_OK);
    for (page.last = 0; page.last < ENTRIES / 2;) {
        assert_int_equal(sqlite3_step(row), SQLITE_ROW);
        page.at = (sqlite3_column_int64(row, 0) - 1) * PAGE;
        page.first = page.last + 1;
        page.last += sqlite3_column_int64(row, 1);
    }
    sqlite3_finalize(row);
}

static void write_page(struct rig *rig, const char *bytes)
{
    FILE *file = fopen(rig->path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, page.at, SEEK_SET), 0);
    if (!bytes) {
        assert_int_equal(fread(page.before, 1, PAGE, file), PAGE);
        assert_int_equal(fseek(file, page.at, SEEK_SET), 0);
    }
    static const char zeros[PAGE];
    assert_int_equal(fwrite(bytes ? bytes : zeros, 1, PAGE, file), PAGE);
    fclose(file);
}

// The page is read from the file after that: it is no longer in the log, and what the spool's
// connection remembers is void, since another one was here. sql: what else this one does, NULL or
// with the number of the last entry before the page.
static void damage_and(struct rig *rig, const char *sql)
{
    struct sqlite3 *db;
    assert_int_equal(sqlite3_open_v2(rig->path, &db, SQLITE_OPEN_READWRITE, "unix"), SQLITE_OK);
    find_page(db);
    if (sql) {
        char *text = sqlite3_mprintf(sql, page.first - 1);
        assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
        sqlite3_free(text);
    }
    assert_int_equal(number(db, "PRAGMA wal_checkpoint(TRUNCATE)"), 0);
    sqlite3_close(db);
    write_page(rig, NULL);
    failures = 0;
}

static void damage(struct rig *rig)
{
    damage_and(rig, NULL);
}

static void mend(struct rig *rig)
{
    write_page(rig, page.before);
}

// ---- what the tests share ----

// doubt: of each entry, or 0.
static void fill(struct rig *rig, int64_t doubt)
{
    for (int64_t i = 1; i <= ENTRIES; i++)
        put_sized(rig, i, LENGTH, doubt);
    wait_durable(rig, ENTRIES);
}

static void wait_failures(struct rig *rig, unsigned count)
{
    while (failures < count)
        event_base_loop(loop_base(rig->loop), EVLOOP_NONBLOCK);
}

static void wait_until_well(struct rig *rig)
{
    do
        settle(rig);
    while (status_of(rig).failing);
}

static void read_in_vain(struct rig *rig, int64_t after)
{
    begin_read(rig, after, READ_MAX, SIZE_MAX);
    wait_failures(rig, 4);
    assert_true(rig->reading);
    assert_int_equal(rig->read_count, 0);
    assert_true(status_of(rig).failing);
    assert_non_null(strstr(status_of(rig).error, "the file is damaged"));
    assert_non_null(strstr(status_of(rig).error, ".dump"));
}

static void assert_read(struct rig *rig, size_t at, int64_t first, int64_t last)
{
    assert_true(rig->read_count >= at + (size_t)(last - first + 1));
    for (int64_t i = first; i <= last; i++, at++) {
        assert_int_equal(rig->entries[at].number, i);
        assert_int_equal(value_of(rig->read[at]), i);
    }
}

// None waits until something else is tried again, though it comes while another is being written.
static int64_t put_more(struct rig *rig, int64_t count)
{
    unsigned before = failures;
    for (int64_t i = 1; i <= count; i += 2) {
        disk_faults.hold = true;
        put_sized(rig, ENTRIES + i, LENGTH, 0);
        while (disk_faults.held == 0)
            usleep(100);
        put_sized(rig, ENTRIES + i + 1, LENGTH, 0);
        disk_faults.hold = false;
        wait_durable(rig, ENTRIES + i + 1);
    }
    assert_true(failures - before < count / 2);
    return ENTRIES + count;
}

// ---- tests ----

static void what_is_before_the_page_is_read(void **state)
{
    struct rig *rig = *state;
    open_file(rig);
    fill(rig, 0);
    damage(rig);
    read_after(rig, 0, READ_MAX, SIZE_MAX);
    assert_false(rig->all);
    assert_int_equal(rig->read_count, page.first - 1);
    assert_read(rig, 0, 1, page.first - 1);
    read_in_vain(rig, page.first - 1);
    mend(rig);
    while (rig->reading)
        loop_run(rig->loop);
    assert_true(rig->all);
    assert_int_equal(rig->read_count, ENTRIES - page.first + 1);
    assert_read(rig, 0, page.first, ENTRIES);
    assert_false(status_of(rig).failing);
}

static void it_is_tried_ever_less_often(void **state)
{
    struct rig *rig = *state;
    open_file(rig);
    fill(rig, 0);
    damage(rig);
    int64_t began = loop_now_ms();
    begin_read(rig, page.first - 1, READ_MAX, SIZE_MAX);
    wait_failures(rig, 5);
    assert_true(loop_now_ms() - began >= 100 + 200 + 400 + 800);
    mend(rig);
    while (rig->reading)
        loop_run(rig->loop);
}

static void what_comes_is_kept_meanwhile(void **state)
{
    struct rig *rig = *state;
    open_file(rig);
    fill(rig, 0);
    damage(rig);
    read_in_vain(rig, page.first - 1);
    int64_t last = put_more(rig, MORE);
    assert_true(rig->reading);
    put_sized(rig, last + 1, LENGTH, 0);
    close_file(rig); // waits for it
    mend(rig);
    open_file(rig);
    read_all(rig);
    assert_int_equal(rig->read_count, last + 1);
    assert_read(rig, 0, 1, last + 1);
}

// What is before the page cannot be taken out of the tree without looking at it.
static void what_is_stored_goes_later(void **state)
{
    struct rig *rig = *state;
    open_file(rig);
    fill(rig, 0);
    damage(rig);
    spool_file_delete(rig->file, page.first - 1);
    wait_failures(rig, 4);
    int64_t last = put_more(rig, MORE);
    spool_file_delete(rig->file, page.first);
    settle(rig);
    assert_int_equal(status_of(rig).count, last);
    mend(rig);
    do
        settle(rig);
    while (status_of(rig).count > (uint64_t)(last - page.first));
    read_all(rig);
    assert_int_equal(rig->read_count, last - page.first);
    assert_read(rig, 0, page.first + 1, last);
    uint64_t bytes = status_of(rig).bytes;
    open_again(rig);
    assert_int_equal(status_of(rig).count, last - page.first);
    assert_int_equal(status_of(rig).bytes, bytes);
}

// Of two that take out the same entries the second counts what the first has left, whichever could
// be done first.
static void what_goes_is_counted_once(void **state)
{
    struct rig *rig = *state;
    open_file(rig);
    fill(rig, 0);
    int64_t doubt = spool_file_doubt(rig->file, "edge7", 1, 0, 1);
    settle(rig);
    damage_and(rig, "UPDATE entry SET doubt = 1 WHERE number NOT BETWEEN 51 AND 100"
                    " AND number <= %lld");
    spool_file_resolve(rig->file, doubt, true);
    wait_failures(rig, 2);
    spool_file_delete(rig->file, 100);
    wait_failures(rig, 6);
    mend(rig);
    wait_until_well(rig);
    assert_int_equal(status_of(rig).count, ENTRIES - page.first + 1);
    assert_int_equal(status_of(rig).first, page.first);
    uint64_t bytes = status_of(rig).bytes;
    open_again(rig);
    assert_int_equal(status_of(rig).count, ENTRIES - page.first + 1);
    assert_int_equal(status_of(rig).bytes, bytes);
}

// As when PostgreSQL is away again, and what is before the page is to be read once more.
static void a_reading_in_vain_can_be_given_up(void **state)
{
    struct rig *rig = *state;
    open_file(rig);
    fill(rig, 0);
    damage(rig);
    read_in_vain(rig, page.first - 1);
    spool_file_read_no_more(rig->file);
    read_after(rig, 0, READ_MAX, SIZE_MAX);
    assert_read(rig, 0, 1, page.first - 1);
    read_in_vain(rig, page.first - 1);
    spool_file_read_no_more(rig->file);
    rig->reading = false;
    mend(rig);
    wait_until_well(rig);
    read_after(rig, page.first - 1, 5, SIZE_MAX);
    assert_int_equal(rig->read_count, 5);
    assert_read(rig, 0, page.first, page.first + 4);
    damage(rig);
    read_in_vain(rig, page.first - 1);
    spool_file_read_no_more(rig->file);
    close_file(rig); // it is under way still
    mend(rig);
}

static void check_doubt(struct rig *rig, bool committed)
{
    const struct spool_doubt *doubts;
    open_file(rig);
    fill(rig, spool_file_doubt(rig->file, "edge7", 1, 0, 1));
    damage(rig);
    assert_int_equal(spool_file_resolve(rig->file, 1, committed), ENTRIES);
    read_in_vain(rig, page.first - 1);
    int64_t last = put_more(rig, MORE), first = committed ? ENTRIES + 1 : page.first;
    mend(rig);
    while (rig->reading)
        loop_run(rig->loop);
    assert_int_equal(rig->read_count, last - first + 1);
    assert_read(rig, 0, first, last);
    wait_until_well(rig);
    assert_int_equal(status_of(rig).count, committed ? MORE : last);
    open_again(rig);
    assert_int_equal(spool_file_doubts(rig->file, &doubts), 0);
    assert_int_equal(status_of(rig).count, committed ? MORE : last);
    close_file(rig);
    assert_int_equal(unlink(rig->path), 0);
}

// Whether they are stored is known, though the file cannot be told.
static void what_was_in_doubt_holds_nothing_up(void **state)
{
    struct rig *rig = *state;
    check_doubt(rig, false);
    rig->durable = 0;
    check_doubt(rig, true);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_is_before_the_page_is_read),    TEST(it_is_tried_ever_less_often),
        TEST(what_comes_is_kept_meanwhile),       TEST(what_is_stored_goes_later),
        TEST(what_goes_is_counted_once),          TEST(a_reading_in_vain_can_be_given_up),
        TEST(what_was_in_doubt_holds_nothing_up),
    };
    sqlite3_config(SQLITE_CONFIG_LOG, note_failure, NULL); // before anything else
    log_init(LOG_LEVEL_INFO);
    disk_faults_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
