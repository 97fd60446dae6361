// Opening a database file, with an answer for each way in which that fails.
#include "disk/disk_file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <pwd.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

enum { BUSY_MS = 1000, LOCK_WAIT_MS = 20, MODE = 0600, INCREMENTAL = 2 };

struct opening {
    const struct disk_options *options;
    struct sqlite3 *db;
    char *path; // absolute: SQLite gives other names meanings of their own
    int lock_fd;
    int64_t application_id, version, tables;
    bool made_lock, foreign; // the lock's file is new; the file itself is somebody else's
    char *error;
};

// ---- what is wrong, and what to do ----

static bool ends_in(const char *path, const char *end)
{
    size_t length = strlen(path), end_length = strlen(end);
    return length >= end_length && strcmp(path + length - end_length, end) == 0;
}

static const struct passwd *daemon_user(void)
{
    return getpwuid(geteuid());
}

static char *must_be_writable(const struct disk_options *options)
{
    const struct passwd *user = daemon_user();
    return mem_printf("%s, the file beside it that ends in -wal, and its directory must belong to "
                      "the daemon's user (%s), or be writable for it",
                      options->path, user ? user->pw_name : "which has no name");
}

// Around a shell command: a user who cannot log in needs sudo. Within double quotes the command has
// nothing that they change.
static void as_daemon(char before[], size_t size, const char **after)
{
    const struct passwd *user = daemon_user();
    bool service =
        user && (ends_in(user->pw_shell, "/nologin") || ends_in(user->pw_shell, "/false"));
    *before = '\0';
    *after = "";
    if (!service)
        return;
    snprintf(before, size, "sudo -u %s sh -c \"", user->pw_name);
    *after = "\"";
}

// Debian's sqlite3 has no .recover. It ends a .dump of a damaged file with ROLLBACK, and leaves out
// what PRAGMA says.
static char *damaged(const struct disk_options *options, int64_t version, const char *detail)
{
    const char *path = options->path, *after;
    char before[128];
    as_daemon(before, sizeof before, &after);
    return mem_printf(
        "the file is damaged (%s). With the daemon stopped, what can be read of it goes into a new "
        "file by this command, which needs the package sqlite3: "
        "%s{ echo 'PRAGMA auto_vacuum=%d; PRAGMA application_id=%u; PRAGMA user_version=%lld;'; "
        "sqlite3 '%s' .dump | "
        "sed 's/^ROLLBACK.*/COMMIT;/'; } | sqlite3 '%s.new'%s; "
        "then put it in the old one's place, and remove %s-wal. Or move both away, and begin "
        "without them: %s are lost then",
        detail, before, options->shrinks ? INCREMENTAL : 0, options->application_id,
        (long long)version, path, path, after, path, options->holds);
}

static char *not_a_database(const struct disk_options *options)
{
    return mem_printf("this is not an SQLite database, or its beginning is damaged. Name another "
                      "file, or move it away: a new one is made then; %s are lost then",
                      options->holds);
}

static char *full(const char *why)
{
    return mem_printf("the disk is full (%s): make room there", why);
}

// Memory that processes share is a file too, and SQLite does not say of it that the disk is full.
static char *input_output(struct sqlite3 *db)
{
    int number = sqlite3_system_errno(db);
    const char *why = number ? strerror(number) : "no details";
    if (number == ENOSPC || number == EDQUOT)
        return full(why);
    return mem_printf("%s (%s): look at the kernel's log, the disk may be failing",
                      sqlite3_errmsg(db), why);
}

static char *no_access(const struct disk_options *options, const char *what, const char *why)
{
    char *cure = must_be_writable(options);
    char *text = mem_printf("the file %s (%s): %s", what, why, cure);
    free(cure);
    return text;
}

static char *in_use(void)
{
    return mem_strdup("the file is in use by another process: only one may have it. Stop that "
                      "one, or name another file");
}

char *disk_file_problem(struct sqlite3 *db, const struct disk_options *options)
{
    switch (sqlite3_errcode(db) & 0xFF) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return in_use();
    case SQLITE_FULL:
        return full(sqlite3_errmsg(db));
    case SQLITE_READONLY:
    case SQLITE_PERM:
        return no_access(options, "or its file system cannot be written", sqlite3_errmsg(db));
    case SQLITE_CANTOPEN:
        return no_access(options, "cannot be opened", strerror(sqlite3_system_errno(db)));
    case SQLITE_CORRUPT:
        return damaged(options, (int64_t)options->migration_count, sqlite3_errmsg(db));
    case SQLITE_NOTADB:
        return not_a_database(options);
    case SQLITE_IOERR:
        return input_output(db);
    default:
        return mem_printf("%s (SQLite error %d)", sqlite3_errmsg(db), sqlite3_extended_errcode(db));
    }
}

// Takes the text; the first error counts. Always false.
static bool refuse(struct opening *opening, char *text)
{
    if (opening->error)
        free(text);
    else
        opening->error = text;
    return false;
}

// The last call on the database has failed.
static bool refuse_failure(struct opening *opening)
{
    opening->foreign = (sqlite3_errcode(opening->db) & 0xFF) == SQLITE_NOTADB;
    return refuse(opening, disk_file_problem(opening->db, opening->options));
}

static bool run(struct opening *opening, const char *sql)
{
    return sqlite3_exec(opening->db, sql, NULL, NULL, NULL) == SQLITE_OK || refuse_failure(opening);
}

static bool query_number(struct opening *opening, const char *sql, int64_t *number)
{
    sqlite3_stmt *statement;
    bool ok = sqlite3_prepare_v2(opening->db, sql, -1, &statement, NULL) == SQLITE_OK &&
              sqlite3_step(statement) == SQLITE_ROW;
    if (ok)
        *number = sqlite3_column_int64(statement, 0);
    else
        refuse_failure(opening);
    sqlite3_finalize(statement);
    return ok;
}

// ---- the steps ----

static bool sync_directory(const char *path)
{
    char *copy = mem_strdup(path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(copy);
    bool synced = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    return synced;
}

static char *cannot_create(const struct disk_options *options, int number)
{
    if (number != ENOENT)
        return no_access(options, "cannot be created", strerror(number));
    return mem_printf("the file cannot be created (%s): its directory must be there",
                      strerror(number));
}

static bool is_empty(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 ? status.st_size == 0 : errno == ENOENT;
}

// SQLite takes a log beside a file that is missing or empty for a remnant, and deletes it: what was
// committed and has not been moved into the file yet would be gone.
static bool has_its_log(struct opening *opening)
{
    const struct disk_options *options = opening->options;
    char *path = realpath(options->path, NULL); // beside that one is the log
    char *log = mem_printf("%s-wal", path ? path : options->path);
    bool alone = is_empty(options->path) && !is_empty(log);
    free(path);
    if (alone)
        refuse(opening,
               mem_printf("the file is missing or empty, but its log %s is there, which is of no "
                          "use without it: move the file back beside it, both as they were "
                          "together. Or move the log away too, and begin anew: %s are lost then",
                          log, options->holds));
    free(log);
    return !alone;
}

static bool is_regular(struct opening *opening)
{
    struct stat status;
    if (!opening->path || stat(opening->path, &status) != 0)
        return refuse(opening, mem_printf("the file cannot be found (%s)", strerror(errno)));
    return S_ISREG(status.st_mode) ||
           refuse(opening, mem_printf("this is %s: name another file",
                                      S_ISDIR(status.st_mode) ? "a directory" : "no regular file"));
}

// A file that is there is not opened here: closing it would drop the locks that this process may
// have on it.
static bool make_file(struct opening *opening)
{
    const char *path = opening->options->path;
    if (!has_its_log(opening))
        return false;
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, MODE);
    if (fd < 0 && errno != EEXIST)
        return refuse(opening, cannot_create(opening->options, errno));
    if (fd >= 0) {
        close(fd);
        if (!sync_directory(path))
            return refuse(opening,
                          mem_printf("its directory cannot be synced (%s)", strerror(errno)));
    }
    opening->path = realpath(path, NULL);
    return is_regular(opening);
}

// What keeps a second daemon out where others may read: SQLite's own locks are theirs too then. On
// a file of its own, since closing one drops all of SQLite's locks on it.
static bool take_lock(struct opening *opening)
{
    if (!opening->options->readable)
        return true;
    char *path = mem_printf("%s-lock", opening->path);
    opening->made_lock = access(path, F_OK) != 0;
    opening->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, MODE);
    int number = errno;
    bool locked = false;
    // Who looks whether it is locked has it for a moment.
    for (int ms = 0; opening->lock_fd >= 0 && !locked && ms < BUSY_MS; ms += LOCK_WAIT_MS) {
        locked = flock(opening->lock_fd, LOCK_EX | LOCK_NB) == 0;
        if (!locked)
            usleep(LOCK_WAIT_MS * 1000);
    }
    if (opening->lock_fd < 0)
        refuse(opening, mem_printf("the file %s, which keeps other processes out, cannot be opened "
                                   "(%s)",
                                   path, strerror(number)));
    else if (!locked)
        refuse(opening, in_use());
    free(path);
    return locked;
}

// Nothing is left beside a file that is none of ours.
static void give_up_lock(struct opening *opening)
{
    char *path = mem_printf("%s-lock", opening->path);
    if (opening->made_lock && opening->foreign)
        unlink(path);
    free(path);
    close(opening->lock_fd);
}

static bool connect_file(struct opening *opening)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    if (sqlite3_open_v2(opening->path, &opening->db, flags, NULL) != SQLITE_OK)
        return refuse(opening, disk_file_problem(opening->db, opening->options));
    if (sqlite3_db_readonly(opening->db, "main") == 1)
        return refuse(opening, no_access(opening->options, "cannot be written", "it is read-only"));
    sqlite3_busy_timeout(opening->db, BUSY_MS);
    if (!opening->options->readable && !run(opening, "PRAGMA locking_mode = EXCLUSIVE"))
        return false;
    return (!opening->options->shrinks || run(opening, "PRAGMA auto_vacuum = INCREMENTAL")) &&
           run(opening, "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON");
}

// The first look inside; it takes the lock.
static bool is_ours(struct opening *opening)
{
    const struct disk_options *options = opening->options;
    if (!query_number(opening, "PRAGMA application_id", &opening->application_id) ||
        !query_number(opening, "PRAGMA user_version", &opening->version) ||
        !query_number(opening, "SELECT count(*) FROM sqlite_schema", &opening->tables))
        return false;
    bool blank = opening->application_id == 0 && opening->version == 0 && opening->tables == 0;
    opening->foreign = !blank && (uint32_t)opening->application_id != options->application_id;
    if (opening->foreign)
        return refuse(opening,
                      mem_printf("this is a database of another program (application_id %lld): "
                                 "name another file",
                                 (long long)opening->application_id));
    if (opening->version < 0 || (uint64_t)opening->version > options->migration_count)
        return refuse(opening, mem_printf("a newer release has written the file (version %lld, "
                                          "this one knows %zu): install that release again, or "
                                          "name another file",
                                          (long long)opening->version, options->migration_count));
    return true;
}

// The log that is kept beside the file is cut back to this after a burst.
#define WAL_LIMIT "16777216"

static bool use_wal(struct opening *opening)
{
    sqlite3_stmt *statement;
    bool ok = sqlite3_prepare_v2(opening->db, "PRAGMA journal_mode = WAL", -1, &statement, NULL) ==
                  SQLITE_OK &&
              sqlite3_step(statement) == SQLITE_ROW;
    const char *mode = ok ? (const char *)sqlite3_column_text(statement, 0) : NULL;
    if (!ok)
        refuse(opening, disk_file_problem(opening->db, opening->options));
    else if (!mode || strcmp(mode, "wal") != 0)
        ok = refuse(opening, mem_strdup("this file system cannot hold a write-ahead log: name a "
                                        "file on another one"));
    sqlite3_finalize(statement);
    return ok && run(opening, "PRAGMA synchronous = FULL; PRAGMA secure_delete = OFF;"
                              "PRAGMA journal_size_limit = " WAL_LIMIT);
}

static bool check(struct opening *opening)
{
    sqlite3_stmt *statement;
    bool ok = sqlite3_prepare_v2(opening->db, "PRAGMA quick_check(1)", -1, &statement, NULL) ==
                  SQLITE_OK &&
              sqlite3_step(statement) == SQLITE_ROW;
    const char *found = ok ? (const char *)sqlite3_column_text(statement, 0) : NULL;
    if (!ok)
        refuse(opening, disk_file_problem(opening->db, opening->options));
    else if (!found || strcmp(found, "ok") != 0)
        ok = refuse(opening, damaged(opening->options, opening->version, found ? found : "?"));
    sqlite3_finalize(statement);
    return ok;
}

// All steps in one transaction: a file is of one version or the other.
static bool migrate(struct opening *opening)
{
    const struct disk_options *options = opening->options;
    size_t version = (size_t)opening->version;
    if (version == options->migration_count)
        return true;
    bool ok = run(opening, "BEGIN IMMEDIATE");
    while (ok && version < options->migration_count)
        ok = run(opening, options->migrations[version++]);
    char *mark = mem_printf("PRAGMA application_id = %u; PRAGMA user_version = %zu; COMMIT",
                            options->application_id, options->migration_count);
    ok = ok && run(opening, mark);
    free(mark);
    if (ok && opening->version > 0)
        log_info("%s %s: brought from version %lld to %zu", options->what, options->path,
                 (long long)opening->version, options->migration_count);
    else if (ok)
        log_info("%s %s is new: %s", options->what, options->path, options->lacks);
    return ok;
}

struct sqlite3 *disk_file_open(const struct disk_options *options, int *lock_fd, char **error)
{
    struct opening opening = {.options = options, .lock_fd = -1};
    bool ok = make_file(&opening) && take_lock(&opening) && connect_file(&opening) &&
              is_ours(&opening) && use_wal(&opening) && check(&opening) && migrate(&opening);
    if (ok) {
        *lock_fd = opening.lock_fd;
        free(opening.path);
        return opening.db;
    }
    sqlite3_close(opening.db);
    if (opening.lock_fd >= 0)
        give_up_lock(&opening);
    free(opening.path);
    *error = mem_printf("%s %s: %s", options->what, options->path, opening.error);
    free(opening.error);
    return NULL;
}
