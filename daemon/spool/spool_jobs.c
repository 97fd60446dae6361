// The disk thread's half of the spool's file.
#include "spool/spool_jobs.h"

#include <sqlite3.h>
#include <stdlib.h>

#include "base/failpoint.h"

// The entry and its QoS 2 identifier are durable together: else, after a crash between the two, a
// repetition would be taken for new.
bool spool_job_put(struct sqlite3 *database, void *arg)
{
    (void)database;
    struct spool_put_op *op = arg;
    const struct spool_record *record = &op->record;
    const int64_t exchange[] = {(int64_t)record->session, (int64_t)record->packet_id,
                                SPOOL_EXCHANGE_STORED, (int64_t)record->content};
    bool put = spool_sql_put(op->op.sql, record) &&
               (record->session == 0 || spool_sql_run(op->op.sql, SPOOL_SET_EXCHANGE, 4, exchange));
    FAILPOINT("spool-write");
    return put;
}

bool spool_job_renew(struct sqlite3 *database, void *arg)
{
    (void)database;
    const struct spool_renew_op *op = arg;
    return spool_sql_renew(op->op.sql, op->id);
}

// ---- entries that go ----

static bool note_first(struct spool_sql *sql, struct spool_cut *cut)
{
    sqlite3_stmt *row = spool_sql_begin(sql, SPOOL_FIRST, 0, NULL);
    int result = sqlite3_step(row);
    cut->first = result == SQLITE_ROW ? sqlite3_column_int64(row, 0) : 0;
    cut->first_us = result == SQLITE_ROW ? sqlite3_column_int64(row, 1) : 0;
    if (result != SQLITE_ROW && result != SQLITE_DONE)
        return false;
    sqlite3_reset(row);
    return true;
}

static bool measure(struct spool_cut_op *op)
{
    struct spool_cut *cut = &op->cut;
    int64_t read_to = op->unread ? op->op.sql->read_to : 0;
    *cut = (struct spool_cut){.after = read_to > op->after ? read_to : op->after};
    const int64_t range[] = {cut->after, op->through};
    sqlite3_stmt *row = spool_sql_begin(op->op.sql, SPOOL_MEASURE, 2, range);
    int result;
    while ((result = sqlite3_step(row)) == SQLITE_ROW) {
        cut->through = sqlite3_column_int64(row, 0);
        cut->cost += (uint64_t)sqlite3_column_int64(row, 1);
        cut->count++;
        if ((op->chunk > 0 && cut->count >= op->chunk) || (op->cost > 0 && cut->cost >= op->cost))
            break;
    }
    if (result != SQLITE_ROW && result != SQLITE_DONE)
        return false;
    sqlite3_reset(row);
    return cut->measured = true;
}

// Whether what was measured has gone after all, in an attempt that seemed to have failed. Else more
// may have been read since.
static bool see_whether_gone(struct spool_cut_op *op)
{
    const int64_t last[] = {op->cut.through - 1, op->cut.through};
    sqlite3_stmt *row = spool_sql_begin(op->op.sql, SPOOL_MEASURE, 2, last);
    int result = sqlite3_step(row);
    if (result != SQLITE_ROW && result != SQLITE_DONE)
        return false;
    op->cut.measured = result == SQLITE_DONE;
    sqlite3_reset(row);
    return true;
}

bool spool_job_cut(struct sqlite3 *database, void *arg)
{
    (void)database;
    struct spool_cut_op *op = arg;
    struct spool_sql *sql = op->op.sql;
    if (op->cut.measured && !see_whether_gone(op))
        return false;
    if (!op->cut.measured && !measure(op))
        return false;
    const int64_t range[] = {op->cut.after, op->cut.through};
    return (op->cut.count == 0 || spool_sql_run(sql, SPOOL_CUT, 2, range)) &&
           spool_sql_run(sql, SPOOL_GONE, 1, &op->through) && note_first(sql, &op->cut);
}

// ---- doubts ----

bool spool_job_doubt(struct sqlite3 *database, void *arg)
{
    (void)database;
    struct spool_doubt_op *op = arg;
    const struct spool_doubt *doubt = &op->doubt;
    const int64_t numbers[] = {doubt->id, doubt->epoch, doubt->lane, doubt->seq};
    sqlite3_stmt *statement = spool_sql_begin(op->op.sql, SPOOL_DOUBT, 4, numbers);
    if (sqlite3_bind_text(statement, 5, doubt->writer, -1, SQLITE_STATIC) != SQLITE_OK ||
        sqlite3_step(statement) != SQLITE_DONE)
        return false;
    sqlite3_reset(statement);
    return true;
}

static bool measure_doubt(struct spool_doubt_op *op)
{
    sqlite3_stmt *row = spool_sql_begin(op->op.sql, SPOOL_DOUBTED, 1, &op->doubt.id);
    if (sqlite3_step(row) != SQLITE_ROW)
        return false;
    op->cut = (struct spool_cut){
        .measured = true,
        .count = (uint64_t)sqlite3_column_int64(row, 0),
        .cost = (uint64_t)sqlite3_column_int64(row, 1),
        .through = sqlite3_column_int64(row, 2),
    };
    sqlite3_reset(row);
    return true;
}

static bool cut_doubt(struct spool_doubt_op *op)
{
    struct spool_sql *sql = op->op.sql;
    return (op->cut.measured || measure_doubt(op)) &&
           spool_sql_run(sql, SPOOL_CUT_DOUBT, 1, &op->doubt.id) &&
           spool_sql_run(sql, SPOOL_GONE, 1, &op->cut.through);
}

bool spool_job_resolve(struct sqlite3 *database, void *arg)
{
    (void)database;
    struct spool_doubt_op *op = arg;
    struct spool_sql *sql = op->op.sql;
    bool done =
        op->committed ? cut_doubt(op) : spool_sql_run(sql, SPOOL_KEEP_DOUBT, 1, &op->doubt.id);
    return done && spool_sql_run(sql, SPOOL_DROP_DOUBT, 1, &op->doubt.id) &&
           note_first(sql, &op->cut);
}

// ---- QoS 2 identifiers ----

bool spool_job_exchange(struct sqlite3 *database, void *arg)
{
    (void)database;
    struct spool_exchange_op *op = arg;
    const struct spool_exchange_change *change = &op->change;
    const int64_t values[] = {(int64_t)change->session, change->packet_id, (int64_t)change->what,
                              (int64_t)change->content};
    bool set = change->what == SPOOL_EXCHANGE_UNKNOWN
                   ? spool_sql_run(op->op.sql, SPOOL_DROP_EXCHANGE, 2, values)
                   : spool_sql_run(op->op.sql, SPOOL_SET_EXCHANGE, 4, values);
    FAILPOINT("spool-write");
    return set;
}

// ---- the file's size ----

static int64_t free_pages(struct sqlite3 *database)
{
    sqlite3_stmt *row;
    if (sqlite3_prepare_v2(database, "PRAGMA freelist_count", -1, &row, NULL) != SQLITE_OK)
        return -1;
    int64_t count = sqlite3_step(row) == SQLITE_ROW ? sqlite3_column_int64(row, 0) : -1;
    sqlite3_finalize(row);
    return count;
}

// Gives pages back to the file system, so many at a time that puts do not wait long. A few are
// kept, for what comes next. Where that fails it is put off until the file is empty again.
bool spool_job_shrink(struct sqlite3 *database, void *arg)
{
    enum { KEPT_PAGES = 256 };
    struct spool_shrink_op *op = arg;
    int64_t count = free_pages(database);
    if (count > KEPT_PAGES)
        sqlite3_exec(database, "PRAGMA incremental_vacuum(4096)", NULL, NULL, NULL);
    // A file that was made by hand may not get smaller.
    op->more = count > KEPT_PAGES && free_pages(database) < count;
    return true;
}

// The file gets smaller only then. Where somebody reads it that is put off to the next one.
bool spool_job_checkpoint(struct sqlite3 *database, void *arg)
{
    (void)arg;
    sqlite3_wal_checkpoint_v2(database, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    return true;
}

// ---- reading ----

// Its transaction has committed, and the disk could not be told yet.
static bool is_stored(const struct spool_read_op *op, int64_t doubt)
{
    size_t i = 0;
    while (i < op->stored_count && op->stored[i] != doubt)
        i++;
    return i < op->stored_count;
}

// Up to what cannot be read, where there is something before it.
bool spool_job_read(struct sqlite3 *database, void *arg)
{
    (void)database;
    struct spool_read_op *op = arg;
    arena_reset(&op->arena);
    op->count = 0;
    if (op->unwanted)
        return true;
    sqlite3_stmt *row = spool_sql_begin(op->op.sql, SPOOL_READ, 1, &op->after);
    int result = SQLITE_ROW;
    size_t bytes = 0;
    while (op->count < op->count_max && (op->count == 0 || bytes < op->bytes_max)) {
        result = sqlite3_step(row);
        if (result != SQLITE_ROW)
            break;
        op->records = mem_grow(op->records, op->count, &op->capacity, sizeof *op->records);
        struct spool_record *record = &op->records[op->count];
        spool_sql_record(row, &op->arena, record);
        if (is_stored(op, record->doubt))
            continue;
        op->count++;
        bytes += record->fields[SPOOL_TOPIC].length + record->fields[SPOOL_PAYLOAD].length;
    }
    op->end = result == SQLITE_DONE;
    if (result != SQLITE_ROW && result != SQLITE_DONE && op->count == 0)
        return false;
    sqlite3_reset(row);
    if (op->count > 0 && op->records[op->count - 1].number > op->op.sql->read_to)
        op->op.sql->read_to = op->records[op->count - 1].number;
    return true;
}
