// Reading the spool's file beside a daemon. The connection is read-only, leaves the log as it is,
// and has a read transaction for one piece alone.
#include "spool/spool_look.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/mem.h"
#include "spool/spool_record.h"
#include "spool/spool_schema.h"

enum { PIECE = 1000, BUSY_MS = 5000 };

struct spool_look {
    struct sqlite3 *db;
    char *path;
    struct arena arena;
};

static bool wrong(const struct spool_look *look, char **error)
{
    int code = sqlite3_errcode(look->db) & 0xFF;
    const char *cure = code == SQLITE_CANTOPEN || code == SQLITE_READONLY || code == SQLITE_PERM
                           ? ": only the daemon's user and root may read it"
                       : code == SQLITE_CORRUPT || code == SQLITE_NOTADB
                           ? ": the daemon says what to do about it when it is started"
                           : "";
    *error = mem_printf("spool %s: %s%s", look->path, sqlite3_errmsg(look->db), cure);
    return false;
}

static bool number(const struct spool_look *look, const char *sql, int64_t *value, char **error)
{
    sqlite3_stmt *row;
    bool ok = sqlite3_prepare_v2(look->db, sql, -1, &row, NULL) == SQLITE_OK &&
              sqlite3_step(row) == SQLITE_ROW;
    *value = ok ? sqlite3_column_int64(row, 0) : 0;
    if (!ok)
        wrong(look, error);
    sqlite3_finalize(row);
    return ok;
}

static bool is_ours(const struct spool_look *look, char **error)
{
    int64_t id, version, pages;
    if (!number(look, "PRAGMA page_count", &pages, error) ||
        !number(look, "PRAGMA application_id", &id, error) ||
        !number(look, "PRAGMA user_version", &version, error))
        return false;
    if ((uint32_t)id == SPOOL_APPLICATION_ID && version == SPOOL_VERSION)
        return true;
    if (pages == 0)
        *error =
            mem_printf("spool %s: the file is empty, and no spool yet: sensorlogd run makes it "
                       "one",
                       look->path);
    else
        *error =
            (uint32_t)id == SPOOL_APPLICATION_ID
                ? mem_printf("spool %s: another release has written the file (version %lld, this "
                             "one knows %d): look with that one",
                             look->path, (long long)version, SPOOL_VERSION)
                : mem_printf("spool %s: this is no spool, but a database of another program",
                             look->path);
    return false;
}

static bool open_database(struct spool_look *look, char **error)
{
    int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    if (sqlite3_open_v2(look->path, &look->db, flags, NULL) != SQLITE_OK)
        return wrong(look, error);
    sqlite3_busy_timeout(look->db, BUSY_MS);
    sqlite3_db_config(look->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_exec(look->db, "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON", NULL, NULL,
                 NULL);
    return is_ours(look, error);
}

struct spool_look *spool_look_open(const char *path, char **error)
{
    struct spool_look *look = mem_zalloc(sizeof *look);
    arena_init(&look->arena);
    look->path = realpath(path, NULL); // SQLite gives other names meanings of their own
    if (!look->path)
        *error = mem_printf("spool %s: %s", path, strerror(errno));
    else if (open_database(look, error))
        return look;
    spool_look_close(look);
    return NULL;
}

void spool_look_close(struct spool_look *look)
{
    if (!look)
        return;
    sqlite3_close(look->db);
    arena_fini(&look->arena);
    free(look->path);
    free(look);
}

// Whether a daemon has the file's lock, which a shared one would not get.
static bool is_in_use(const struct spool_look *look)
{
    char *path = mem_printf("%s-lock", look->path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool in_use = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    if (fd >= 0)
        close(fd);
    free(path);
    return in_use;
}

bool spool_look_totals(struct spool_look *look, struct spool_look_totals *totals, char **error)
{
    int64_t doubts, stored, voids;
    sqlite3_stmt *row;
    *totals = (struct spool_look_totals){.in_use = is_in_use(look)};
    if (!number(look, "SELECT count(*) FROM doubt", &doubts, error) ||
        !number(look, "SELECT count(*) FROM exchange WHERE what = 1", &stored, error) ||
        !number(look, "SELECT count(*) FROM exchange WHERE what = 2", &voids, error))
        return false;
    bool ok = sqlite3_prepare_v2(look->db, "SELECT id FROM spool", -1, &row, NULL) == SQLITE_OK &&
              sqlite3_step(row) == SQLITE_ROW;
    if (ok)
        snprintf(totals->id, sizeof totals->id, "%s", (const char *)sqlite3_column_text(row, 0));
    else
        wrong(look, error);
    sqlite3_finalize(row);
    totals->doubts = (uint64_t)doubts;
    totals->stored = (uint64_t)stored;
    totals->voids = (uint64_t)voids;
    return ok;
}

// The entries after *after, which it moves; *more: there may be others, and they are wanted.
static int read_piece(struct spool_look *look, sqlite3_stmt *row, int64_t *after, bool *more,
                      spool_look_fn *entry, void *arg)
{
    int result = SQLITE_ROW;
    sqlite3_bind_int64(row, 1, *after);
    *more = true;
    for (int count = 0; *more && count < PIECE; count++) {
        if ((result = sqlite3_step(row)) != SQLITE_ROW)
            break;
        struct spool_record record;
        struct spool_entry read;
        arena_reset(&look->arena);
        spool_sql_record(row, &look->arena, &record);
        spool_record_read(&record, &look->arena, &read);
        *after = record.number;
        *more = entry(arg, &read, record.cost);
    }
    *more = *more && result == SQLITE_ROW;
    return result;
}

bool spool_look_entries(struct spool_look *look, spool_look_fn *entry, void *arg, char **error)
{
    sqlite3_stmt *row;
    char *sql = mem_printf("SELECT %s FROM entry WHERE number > ? ORDER BY number", spool_columns);
    bool ok = sqlite3_prepare_v2(look->db, sql, -1, &row, NULL) == SQLITE_OK;
    int64_t after = 0;
    for (bool more = ok; more; sqlite3_reset(row)) {
        int result = read_piece(look, row, &after, &more, entry, arg);
        ok = result == SQLITE_ROW || result == SQLITE_DONE;
        if (!ok)
            break;
    }
    if (!ok)
        wrong(look, error);
    sqlite3_finalize(row);
    free(sql);
    return ok;
}
