// What the spool's file says when it is opened.
#include <sqlite3.h>
#include <stdlib.h>

#include "base/mem.h"
#include "disk/disk_file.h"
#include "spool/spool_file_internal.h"

typedef void row_fn(struct spool_file *file, sqlite3_stmt *row);

static bool each_row(struct spool_file *file, const char *sql, row_fn *fn)
{
    sqlite3_stmt *row;
    if (sqlite3_prepare_v2(disk_database(file->disk), sql, -1, &row, NULL) != SQLITE_OK)
        return false;
    int result;
    while ((result = sqlite3_step(row)) == SQLITE_ROW)
        fn(file, row);
    return sqlite3_finalize(row) == SQLITE_OK;
}

static void take_spool(struct spool_file *file, sqlite3_stmt *row)
{
    free(file->id);
    file->id = mem_strdup((const char *)sqlite3_column_text(row, 0));
    file->last = sqlite3_column_int64(row, 1);
}

static void take_totals(struct spool_file *file, sqlite3_stmt *row)
{
    int64_t last = sqlite3_column_int64(row, 2);
    file->count = (uint64_t)sqlite3_column_int64(row, 0);
    file->bytes = (uint64_t)sqlite3_column_int64(row, 1);
    if (last > file->last)
        file->last = last;
    file->durable = file->durable_told = file->last;
}

static void take_first(struct spool_file *file, sqlite3_stmt *row)
{
    file->first = sqlite3_column_int64(row, 0);
    file->first_us = sqlite3_column_int64(row, 1);
}

static void take_doubt(struct spool_file *file, sqlite3_stmt *row)
{
    char *writer = mem_strdup((const char *)sqlite3_column_text(row, 1));
    const struct spool_doubt doubt = {
        .id = sqlite3_column_int64(row, 0),
        .writer = writer,
        .epoch = sqlite3_column_int64(row, 2),
        .lane = (unsigned)sqlite3_column_int64(row, 3),
        .seq = sqlite3_column_int64(row, 4),
    };
    spool_file_add_doubt(file, &doubt, (uint64_t)sqlite3_column_int64(row, 5));
    free(writer);
}

static void take_exchange(struct spool_file *file, sqlite3_stmt *row)
{
    bool stored = sqlite3_column_int64(row, 2) == SPOOL_EXCHANGE_STORED;
    struct exchange_set *set = stored ? &file->stored : &file->voids;
    exchange_set_add(set, (uint64_t)sqlite3_column_int64(row, 0),
                     (uint16_t)sqlite3_column_int64(row, 1))
        ->content = (uint64_t)sqlite3_column_int64(row, 3);
}

static bool load(struct spool_file *file)
{
    return each_row(file, "SELECT id, gone FROM spool", take_spool) &&
           each_row(file,
                    "SELECT count(*), coalesce(sum(cost), 0), coalesce(max(number), 0) FROM entry",
                    take_totals) &&
           each_row(file, "SELECT number, received_us FROM entry ORDER BY number LIMIT 1",
                    take_first) &&
           each_row(file,
                    "SELECT id, writer, epoch, lane, seq,"
                    " (SELECT count(*) FROM entry WHERE entry.doubt = doubt.id)"
                    " FROM doubt ORDER BY id",
                    take_doubt) &&
           each_row(file, "SELECT session, packet_id, what, content FROM exchange",
                    take_exchange) &&
           spool_sql_prepare(file->sql, disk_database(file->disk));
}

bool spool_file_load(struct spool_file *file, const struct disk_options *options, char **error)
{
    bool loaded = load(file);
    if (loaded && file->id)
        return true;
    char *problem = loaded ? mem_strdup("it has lost its identifier, by which PostgreSQL knows "
                                        "what is stored of it. Move it away: a new one is made "
                                        "then, and what is in this one must be seen to by hand")
                           : disk_file_problem(disk_database(file->disk), options);
    *error = mem_printf("spool %s: %s", file->path, problem);
    free(problem);
    return false;
}
