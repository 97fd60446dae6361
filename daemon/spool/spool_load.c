// What the spool's file says when it is opened.
#include <inttypes.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "disk/disk_file.h"
#include "spool/spool_file_internal.h"

struct loading {
    struct spool_file *file;
    const struct disk_options *options;
    char *problem; // or NULL
};

typedef void row_fn(struct loading *loading, sqlite3_stmt *row);

static bool each_row(struct loading *loading, const char *sql, row_fn *fn)
{
    struct sqlite3 *database = disk_database(loading->file->disk);
    sqlite3_stmt *row;
    int result = sqlite3_prepare_v2(database, sql, -1, &row, NULL);
    if (result == SQLITE_OK)
        while ((result = sqlite3_step(row)) == SQLITE_ROW && !loading->problem)
            fn(loading, row);
    if (result != SQLITE_DONE && !loading->problem)
        loading->problem = disk_file_problem(database, loading->options);
    sqlite3_finalize(row);
    return !loading->problem;
}

static void take_spool(struct loading *loading, sqlite3_stmt *row)
{
    struct spool_file *file = loading->file;
    const char *id = (const char *)sqlite3_column_text(row, 0);
    free(file->id);
    bool whole = id && strspn(id, "0123456789abcdef") == SPOOL_ID_LENGTH;
    file->id = whole ? mem_strdup(id) : NULL;
    file->last = sqlite3_column_int64(row, 1);
}

static void take_totals(struct loading *loading, sqlite3_stmt *row)
{
    struct spool_file *file = loading->file;
    int64_t last = sqlite3_column_int64(row, 2);
    file->count = (uint64_t)sqlite3_column_int64(row, 0);
    file->bytes = (uint64_t)sqlite3_column_int64(row, 1);
    if (last > file->last)
        file->last = last;
    file->durable = file->durable_told = file->last;
}

static void take_first(struct loading *loading, sqlite3_stmt *row)
{
    loading->file->first = sqlite3_column_int64(row, 0);
    loading->file->first_us = sqlite3_column_int64(row, 1);
}

// PostgreSQL would refuse the question whether it has committed, each time anew.
static char *damaged_doubt(const struct spool_file *file, int64_t id, int64_t count)
{
    return mem_printf("what it says of transaction %" PRId64 ", which was cut off, is damaged: "
                      "whether its %" PRId64 " message(s) are stored cannot be found out. This "
                      "command, which needs the package sqlite3, has them stored, maybe twice: "
                      "sqlite3 '%s' 'UPDATE entry SET doubt = NULL WHERE doubt = %" PRId64
                      "; DELETE FROM doubt WHERE id = %" PRId64 "'",
                      id, count, file->path, id, id);
}

static void take_doubt(struct loading *loading, sqlite3_stmt *row)
{
    const char *writer = (const char *)sqlite3_column_text(row, 1);
    int64_t lane = sqlite3_column_int64(row, 3), count = sqlite3_column_int64(row, 5);
    struct spool_doubt doubt = {
        .id = sqlite3_column_int64(row, 0),
        .epoch = sqlite3_column_int64(row, 2),
        .lane = (unsigned)lane,
        .seq = sqlite3_column_int64(row, 4),
    };
    size_t length = (size_t)sqlite3_column_bytes(row, 1);
    if (!writer || !utf8_valid(writer, length) || lane > INT32_MAX) {
        loading->problem = damaged_doubt(loading->file, doubt.id, count);
        return;
    }
    doubt.writer = mem_strdup(writer);
    spool_file_add_doubt(loading->file, &doubt, (uint64_t)count);
    free(doubt.writer);
}

static void take_exchange(struct loading *loading, sqlite3_stmt *row)
{
    struct spool_file *file = loading->file;
    bool stored = sqlite3_column_int64(row, 2) == SPOOL_EXCHANGE_STORED;
    struct exchange_set *set = stored ? &file->stored : &file->voids;
    exchange_set_add(set, (uint64_t)sqlite3_column_int64(row, 0),
                     (uint16_t)sqlite3_column_int64(row, 1))
        ->content = (uint64_t)sqlite3_column_int64(row, 3);
}

static bool load(struct loading *loading)
{
    return each_row(loading, "SELECT id, gone FROM spool", take_spool) &&
           each_row(loading,
                    "SELECT count(*), coalesce(sum(cost), 0), coalesce(max(number), 0) FROM entry",
                    take_totals) &&
           each_row(loading, "SELECT number, received_us FROM entry ORDER BY number LIMIT 1",
                    take_first) &&
           each_row(loading,
                    "SELECT id, writer, epoch, lane, seq,"
                    " (SELECT count(*) FROM entry WHERE entry.doubt = doubt.id)"
                    " FROM doubt ORDER BY id",
                    take_doubt) &&
           each_row(loading, "SELECT session, packet_id, what, content FROM exchange",
                    take_exchange);
}

bool spool_file_load(struct spool_file *file, const struct disk_options *options, char **error)
{
    struct loading loading = {.file = file, .options = options};
    struct sqlite3 *database = disk_database(file->disk);
    if (load(&loading) && !file->id)
        loading.problem = mem_strdup("it has lost its identifier, by which PostgreSQL knows what "
                                     "is stored of it. Move it away: a new one is made then, and "
                                     "what is in this one must be seen to by hand");
    if (!loading.problem && !spool_sql_prepare(file->sql, database))
        loading.problem = disk_file_problem(database, options);
    if (!loading.problem)
        return true;
    *error = mem_printf("spool %s: %s", file->path, loading.problem);
    free(loading.problem);
    return false;
}
