// A disk of numbers in a directory of its own.
#pragma once

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/mem.h"
#include "disk/disk.h"
#include "disk_faults.h"

enum { NUMBERS_MAX = 4096 };

struct rig {
    struct loop *loop;
    struct disk *disk;
    char directory[32], path[64];
    pthread_t loop_thread;
    int64_t done[NUMBERS_MAX]; // in the order in which they were told
    size_t done_count, wanted;
    unsigned unsynced; // told while something was not synced
};

struct number {
    struct rig *rig;
    int64_t value;
    atomic_uint worked;
    bool on_loop;
};

static const char *const migrations[] = {
    "CREATE TABLE number (value INTEGER PRIMARY KEY, payload BLOB)",
    "ALTER TABLE number ADD COLUMN more TEXT DEFAULT 'new'",
    "INSERT INTO number (value) VALUES (-1)",
};

static const struct disk_options some_options = {
    .what = "test numbers",
    .holds = "all numbers",
    .lacks = "no numbers",
    .application_id = 0x12345678,
    .migrations = migrations,
    .migration_count = 1,
};

static inline int setup(void **state)
{
    static struct rig rig;
    rig = (struct rig){.loop = loop_new(), .loop_thread = pthread_self()};
    strcpy(rig.directory, "/tmp/test_disk.XXXXXX");
    assert_non_null(mkdtemp(rig.directory));
    snprintf(rig.path, sizeof rig.path, "%s/numbers.db", rig.directory);
    disk_faults_clear();
    *state = &rig;
    return 0;
}

static inline void remove_directory(const char *directory)
{
    char *command = mem_printf("rm -rf '%s'", directory);
    assert_int_equal(system(command), 0);
    free(command);
}

static inline int teardown(void **state)
{
    struct rig *rig = *state;
    disk_faults_clear();
    disk_close(rig->disk);
    loop_free(rig->loop);
    remove_directory(rig->directory);
    return 0;
}

static inline struct disk *try_open(struct rig *rig, size_t version, char **error)
{
    struct disk_options options = some_options;
    options.path = rig->path;
    options.migration_count = version;
    return disk_open(rig->loop, &options, error);
}

static inline void open_disk(struct rig *rig)
{
    char *error = NULL;
    rig->disk = try_open(rig, 1, &error);
    if (!rig->disk)
        fail_msg("%s", error);
}

static inline void close_disk(struct rig *rig)
{
    assert_true(disk_close(rig->disk));
    rig->disk = NULL;
}

static inline bool run_sql(struct sqlite3 *db, const char *sql)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK;
}

// The file by another connection, as a user would have it.
static inline struct sqlite3 *open_as_user(const char *path)
{
    struct sqlite3 *db;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    assert_int_equal(sqlite3_open_v2(path, &db, flags, "unix"), SQLITE_OK);
    return db;
}

static inline void edit(const char *path, const char *sql)
{
    struct sqlite3 *db = open_as_user(path);
    if (!run_sql(db, sql))
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    sqlite3_close(db);
}

static inline int64_t ask(const char *path, const char *sql)
{
    struct sqlite3 *db = open_as_user(path);
    sqlite3_stmt *statement;
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    int64_t answer = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return answer;
}

// ---- jobs: each writes its number ----

static inline bool write_number(struct sqlite3 *db, void *arg)
{
    struct number *number = arg;
    number->worked++;
    number->on_loop |= pthread_equal(pthread_self(), number->rig->loop_thread) != 0;
    char sql[128];
    snprintf(sql, sizeof sql, "INSERT OR REPLACE INTO number (value, payload) VALUES (%lld, %s)",
             (long long)number->value, "zeroblob(3000)");
    return run_sql(db, sql);
}

static inline void told(void *arg)
{
    struct number *number = arg;
    struct rig *rig = number->rig;
    assert_true(pthread_equal(pthread_self(), rig->loop_thread));
    assert_true(rig->done_count < NUMBERS_MAX);
    rig->done[rig->done_count++] = number->value;
    rig->unsynced += disk_faults.unsynced;
    if (rig->done_count == rig->wanted)
        loop_stop(rig->loop);
}

static inline void submit(struct rig *rig, struct number *number, int64_t value)
{
    *number = (struct number){.rig = rig, .value = value};
    disk_submit(rig->disk, write_number, told, number);
}

static inline void wait_for(struct rig *rig, size_t count)
{
    rig->wanted = count;
    if (rig->done_count < count)
        loop_run(rig->loop);
}
