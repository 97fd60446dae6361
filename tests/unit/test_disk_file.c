// The disk's file: made, brought up to date, and every one that cannot be opened.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pwd.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/log.h"
#include "disk_rig.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static void a_file_is_made_for_its_user_alone(void **state)
{
    struct rig *rig = *state;
    umask(0);
    open_disk(rig);
    struct number number;
    submit(rig, &number, 0);
    wait_for(rig, 1);
    struct stat file;
    assert_int_equal(stat(rig->path, &file), 0);
    assert_int_equal(file.st_mode & 07777, 0600);
    char *log = mem_printf("%s-wal", rig->path);
    assert_int_equal(stat(log, &file), 0);
    assert_int_equal(file.st_mode & 07777, 0600);
    free(log);
    close_disk(rig);
    assert_int_equal(ask(rig->path, "PRAGMA application_id"), 0x12345678);
    assert_int_equal(ask(rig->path, "PRAGMA user_version"), 1);
}

static void an_older_file_is_brought_up_to_date(void **state)
{
    struct rig *rig = *state;
    open_disk(rig);
    struct number number;
    submit(rig, &number, 7);
    wait_for(rig, 1);
    close_disk(rig);
    char *error = NULL;
    rig->disk = try_open(rig, 3, &error);
    assert_non_null(rig->disk);
    close_disk(rig);
    assert_int_equal(ask(rig->path, "PRAGMA user_version"), 3);
    assert_int_equal(ask(rig->path, "SELECT count(*) FROM number WHERE more = 'new'"), 2);
    assert_int_equal(ask(rig->path, "SELECT min(value) FROM number"), -1);
}

// A step that fails leaves the version that was.
static void a_migration_is_whole_or_not_at_all(void **state)
{
    struct rig *rig = *state;
    open_disk(rig);
    close_disk(rig);
    static const char *const steps[] = {
        "CREATE TABLE number (value INTEGER PRIMARY KEY, payload BLOB)",
        "CREATE TABLE one_more (a)",
        "INSERT INTO nowhere VALUES (1)",
    };
    struct disk_options options = some_options;
    options.path = rig->path;
    options.migrations = steps;
    options.migration_count = COUNT(steps);
    char *error = NULL;
    assert_null(disk_open(rig->loop, &options, &error));
    assert_non_null(strstr(error, "nowhere"));
    free(error);
    assert_int_equal(ask(rig->path, "PRAGMA user_version"), 1);
    assert_int_equal(ask(rig->path, "SELECT count(*) FROM sqlite_schema"), 1);
}

static char *read_file(const char *path, size_t *length)
{
    enum { FILE_MAX = 2 * 1024 * 1024 };
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    char *bytes = mem_alloc(FILE_MAX);
    *length = fread(bytes, 1, FILE_MAX, file);
    fclose(file);
    return bytes;
}

static void write_file(const char *path, const void *bytes, size_t length)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    fclose(file);
}

static void assert_refused(struct rig *rig, const char *said)
{
    char *error = NULL;
    rig->disk = try_open(rig, 1, &error);
    assert_null(rig->disk);
    assert_non_null(error);
    if (!strstr(error, said) || !strstr(error, rig->path) || !strstr(error, "test numbers"))
        fail_msg("'%s' does not say '%s'", error, said);
    free(error);
}

// Not beside what is somebody else's.
static void assert_no_lock_is_left(struct rig *rig)
{
    struct disk_options options = some_options;
    options.path = rig->path;
    options.readable = true;
    char *error = NULL, *lock = mem_printf("%s-lock", rig->path);
    assert_null(disk_open(rig->loop, &options, &error));
    assert_int_equal(access(lock, F_OK), strstr(error, "newer release") ? 0 : -1);
    unlink(lock);
    free(lock);
    free(error);
}

static void files_that_are_not_ours_are_refused_and_stay_as_they_are(void **state)
{
    struct rig *rig = *state;
    static const struct {
        const char *sql; // NULL: it is no database
        const char *said;
    } cases[] = {
        {NULL, "not an SQLite database"},
        {"CREATE TABLE theirs (a)", "another program"},
        {"PRAGMA application_id = 1; CREATE TABLE theirs (a)",
         "another program (application_id 1)"},
        {"PRAGMA application_id = 0x12345678; PRAGMA user_version = 2; CREATE TABLE a (a)",
         "a newer release has written the file (version 2, this one knows 1)"},
        {"PRAGMA application_id = 0x12345678; PRAGMA user_version = -1; CREATE TABLE a (a)",
         "a newer release"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        if (cases[i].sql)
            edit(rig->path, cases[i].sql);
        else
            write_file(rig->path, "listen = mqtt://127.0.0.1 and many more settings\n", 49);
        size_t length, length_after;
        char *before = read_file(rig->path, &length);
        assert_refused(rig, cases[i].said);
        assert_no_lock_is_left(rig);
        char *after = read_file(rig->path, &length_after);
        assert_int_equal(length, length_after);
        assert_memory_equal(before, after, length);
        free(before);
        free(after);
        assert_int_equal(unlink(rig->path), 0);
    }
}

static void fill(struct rig *rig)
{
    open_disk(rig);
    static struct number numbers[200];
    for (int64_t i = 0; i < 200; i++)
        submit(rig, &numbers[i], i);
    wait_for(rig, 200);
    close_disk(rig);
}

// The way out that the error names works with what Debian has, and the new file is ours.
static void take_the_way_out(struct rig *rig)
{
    char *error = NULL;
    assert_null(try_open(rig, 1, &error));
    char *from = strstr(error, "{ echo"), *to = strstr(error, ".new'");
    assert_non_null(from);
    assert_non_null(to);
    char *command = mem_printf("%.*s", (int)(to + 5 - from), from);
    assert_int_equal(system(command), 0);
    free(command);
    free(error);
    char *path = mem_printf("%s.new", rig->path);
    assert_int_equal(rename(path, rig->path), 0);
    free(path);
    open_disk(rig);
    close_disk(rig);
}

static void a_damaged_file_is_refused_with_a_way_out(void **state)
{
    struct rig *rig = *state;
    fill(rig);
    size_t length;
    char *before = read_file(rig->path, &length);
    memset(before + 4096 * (length / 4096 / 2), 0x5A, 4096);
    write_file(rig->path, before, length);
    assert_refused(rig, "the file is damaged");
    assert_refused(rig, "all numbers are lost then");
    char *after = read_file(rig->path, &length);
    assert_memory_equal(before, after, length);
    free(before);
    free(after);
    if (system("command -v sqlite3 >/dev/null") != 0)
        skip();
    take_the_way_out(rig);
    assert_in_range(ask(rig->path, "SELECT count(*) FROM number"), 100, 199);
}

static void any_damage_is_an_error_or_harmless(void **state)
{
    struct rig *rig = *state;
    fill(rig);
    size_t length;
    char *bytes = read_file(rig->path, &length);
    for (unsigned seed = 1; seed <= 150; seed++) {
        char *copy = mem_alloc(length);
        memcpy(copy, bytes, length);
        unsigned random = seed;
        for (int i = 0; i < 8; i++)
            copy[(unsigned)rand_r(&random) % (seed % 2 ? 4096 : length)] = (char)rand_r(&random);
        size_t kept = seed % 5 ? length : (unsigned)rand_r(&random) % length;
        write_file(rig->path, copy, kept);
        free(copy);
        char *error = NULL;
        rig->disk = try_open(rig, 1, &error);
        assert_true(rig->disk || strstr(error, rig->path));
        free(error);
        disk_close(rig->disk);
        rig->disk = NULL;
    }
    free(bytes);
}

// With the directory in this mode; as nobody, where the tests run as root, who may write anywhere.
static void refused_in_child(struct rig *rig, mode_t mode, const char *said)
{
    assert_int_equal(chmod(rig->directory, mode), 0);
    pid_t child = fork();
    if (child == 0) {
        if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
            _exit(1);
        char *error = NULL;
        struct disk *disk = try_open(rig, 1, &error);
        if (!disk && !strstr(error, said))
            fprintf(stderr, "%s\n", error);
        _exit(!disk && strstr(error, said) ? 0 : 2);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(chmod(rig->directory, 0755), 0);
}

static void a_service_user_is_told_to_use_sudo(void **state)
{
    struct rig *rig = *state;
    if (geteuid() != 0)
        skip();
    fill(rig);
    size_t length;
    char *bytes = read_file(rig->path, &length);
    memset(bytes + 4096 * (length / 4096 / 2), 0x5A, 4096);
    write_file(rig->path, bytes, length);
    free(bytes);
    assert_int_equal(chmod(rig->path, 0666), 0);
    refused_in_child(rig, 0777, "needs the package sqlite3: sudo -u nobody sh -c \"{ echo 'PRAGMA");
}

static void places_that_cannot_be_written_are_named(void **state)
{
    struct rig *rig = *state;
    char path[64];
    strcpy(path, rig->path);
    snprintf(rig->path, sizeof rig->path, "%s/none/numbers.db", rig->directory);
    assert_refused(rig, "its directory must be there");
    strcpy(rig->path, rig->directory);
    assert_refused(rig, "this is a directory: name another file");
    strcpy(rig->path, path);
    mode_t mode = geteuid() == 0 ? 0755 : 0555;
    const struct passwd *user = getpwuid(geteuid() == 0 ? 65534 : geteuid());
    char *cure = mem_printf("%s, the file beside it that ends in -wal, and its directory must "
                            "belong to the daemon's user (%s), or be writable for it",
                            rig->path, user->pw_name);
    refused_in_child(rig, mode, cure);
    open_disk(rig);
    close_disk(rig);
    assert_int_equal(chmod(rig->path, 0444), 0);
    refused_in_child(rig, mode, cure);
    assert_int_equal(chmod(rig->path, 0666), 0);
    refused_in_child(rig, mode, cure);
    free(cure);
}

// What has become durable since the last checkpoint is in the log alone, which SQLite would delete.
static void a_log_without_its_file_is_refused_and_kept(void **state)
{
    struct rig *rig = *state;
    char *log = mem_printf("%s-wal", rig->path), *away = mem_printf("%s.away", rig->path);
    pid_t child = fork();
    if (child == 0) {
        struct number number;
        open_disk(rig);
        submit(rig, &number, 7);
        wait_for(rig, 1);
        _exit(0); // as if it were killed: the log stays
    }
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(rename(rig->path, away), 0);
    for (int empty = 0; empty <= 1; empty++) {
        if (empty)
            write_file(rig->path, "", 0);
        assert_refused(rig, "move the file back beside it");
        assert_refused(rig, "all numbers are lost then");
        assert_refused(rig, log);
        assert_int_equal(access(rig->path, F_OK), empty - 1);
    }
    assert_int_equal(rename(away, rig->path), 0);
    assert_int_equal(ask(rig->path, "SELECT value FROM number"), 7);
    open_disk(rig);
    close_disk(rig);
    free(log);
    free(away);
}

static void a_full_disk_at_the_start_is_an_error(void **state)
{
    struct rig *rig = *state;
    disk_faults.fail = SQLITE_FULL;
    assert_refused(rig, "the disk is full");
    disk_faults_clear();
    open_disk(rig); // nothing is in the way of another attempt
}

// Until it is killed.
static void hold_in_child(struct rig *rig, int told_by)
{
    open_disk(rig);
    if (write(told_by, "x", 1) == 1)
        for (;;)
            pause();
    _exit(1);
}

static void a_second_process_is_refused(void **state)
{
    struct rig *rig = *state;
    int told[2];
    assert_int_equal(pipe(told), 0);
    pid_t child = fork();
    if (child == 0)
        hold_in_child(rig, told[1]);
    char byte;
    assert_int_equal(read(told[0], &byte, 1), 1);
    assert_refused(rig, "in use by another process");
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    open_disk(rig);
    assert_non_null(rig->disk);
    close(told[0]);
    close(told[1]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_file_is_made_for_its_user_alone),
        TEST(an_older_file_is_brought_up_to_date),
        TEST(a_migration_is_whole_or_not_at_all),
        TEST(files_that_are_not_ours_are_refused_and_stay_as_they_are),
        TEST(a_damaged_file_is_refused_with_a_way_out),
        TEST(any_damage_is_an_error_or_harmless),
        TEST(a_service_user_is_told_to_use_sudo),
        TEST(places_that_cannot_be_written_are_named),
        TEST(a_log_without_its_file_is_refused_and_kept),
        TEST(a_full_disk_at_the_start_is_an_error),
        TEST(a_second_process_is_refused),
    };
    log_init(LOG_LEVEL_INFO);
    disk_faults_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
