// The tables of the spool's file. STRICT, with checks, so that a damaged file is seen; no check is
// narrower than what the daemon can write.
#include "spool/spool_schema.h"

#include <sqlite3.h>

#include "spool/spool_record.h"

static const char version_1[] =
    "CREATE TABLE spool ("
    " id TEXT PRIMARY KEY NOT NULL CHECK (length(id) = 32)," // PostgreSQL knows the file by it
    " gone INTEGER NOT NULL CHECK (gone >= 0)"               // the last of those that were deleted
    ") WITHOUT ROWID, STRICT;"
    "INSERT INTO spool (id, gone) VALUES (lower(hex(randomblob(16))), 0);"
    "CREATE TABLE entry ("
    " number INTEGER PRIMARY KEY CHECK (number > 0)," // in the order in which they came
    " cost INTEGER NOT NULL CHECK (cost BETWEEN 0 AND 1099511627776)," // bytes of this file
    " received_us INTEGER NOT NULL,"
    " flags INTEGER NOT NULL CHECK (flags BETWEEN 0 AND 31)," // QoS, 4 DUP, 8 RETAIN, 16 unsure
    " doubt INTEGER,"
    " session INTEGER,"
    " packet_id INTEGER CHECK (packet_id BETWEEN 0 AND 65535),"
    " content INTEGER,"
    " full_length INTEGER," // NULL: that of the payload
    " origin TEXT,"
    " only_for TEXT,"
    " topic TEXT NOT NULL,"
    " client_id TEXT,"
    " flaw TEXT,"
    " flaw_detail TEXT,"
    " properties BLOB,"
    " payload BLOB NOT NULL"
    ") STRICT;"
    "CREATE INDEX entry_doubt ON entry (doubt) WHERE doubt IS NOT NULL;"
    // Transactions of which it is not known whether they have committed.
    "CREATE TABLE doubt ("
    " id INTEGER PRIMARY KEY CHECK (id > 0),"
    " writer TEXT NOT NULL,"
    " epoch INTEGER NOT NULL,"
    " lane INTEGER NOT NULL CHECK (lane BETWEEN 0 AND 4294967295),"
    " seq INTEGER NOT NULL"
    ") STRICT;"
    // QoS 2 identifiers.
    "CREATE TABLE exchange ("
    " session INTEGER NOT NULL CHECK (session <> 0),"
    " packet_id INTEGER NOT NULL CHECK (packet_id BETWEEN 0 AND 65535),"
    " what INTEGER NOT NULL CHECK (what BETWEEN 1 AND 2)," // 1 stored, 2 void
    " content INTEGER NOT NULL,"
    " PRIMARY KEY (session, packet_id)"
    ") WITHOUT ROWID, STRICT;";

const char *const spool_migrations[SPOOL_VERSION] = {version_1};

#define COLUMNS                                                                                    \
    "number, cost, received_us, flags, doubt, session, packet_id, content, full_length,"           \
    " origin, only_for, topic, client_id, flaw, flaw_detail, properties, payload"
enum { FIRST_FIELD = 9 }; // among them, from 0

const char spool_columns[] = COLUMNS;

// All can be repeated.
static const char *const texts[SPOOL_STATEMENTS] = {
    [SPOOL_PUT] = "INSERT OR REPLACE INTO entry (" COLUMNS
                  ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [SPOOL_READ] = "SELECT " COLUMNS " FROM entry WHERE number > ? ORDER BY number",
    [SPOOL_MEASURE] = "SELECT number, cost FROM entry WHERE number > ? AND number <= ?"
                      " ORDER BY number",
    [SPOOL_CUT] = "DELETE FROM entry WHERE number > ? AND number <= ?",
    [SPOOL_GONE] = "UPDATE spool SET gone = max(gone, ?)",
    [SPOOL_FIRST] = "SELECT number, received_us FROM entry ORDER BY number LIMIT 1",
    [SPOOL_DOUBT] = "INSERT OR REPLACE INTO doubt (id, epoch, lane, seq, writer)"
                    " VALUES (?, ?, ?, ?, ?)",
    [SPOOL_DOUBTED] = "SELECT count(*), coalesce(sum(cost), 0), coalesce(max(number), 0)"
                      " FROM entry WHERE doubt = ?",
    [SPOOL_CUT_DOUBT] = "DELETE FROM entry WHERE doubt = ?",
    [SPOOL_KEEP_DOUBT] = "UPDATE entry SET doubt = NULL WHERE doubt = ?",
    [SPOOL_DROP_DOUBT] = "DELETE FROM doubt WHERE id = ?",
    [SPOOL_SET_EXCHANGE] = "INSERT OR REPLACE INTO exchange (session, packet_id, what, content)"
                           " VALUES (?, ?, ?, ?)",
    [SPOOL_DROP_EXCHANGE] = "DELETE FROM exchange WHERE session = ? AND packet_id = ?",
    [SPOOL_RENEW] = "UPDATE spool SET id = ?",
};

bool spool_sql_prepare(struct spool_sql *sql, struct sqlite3 *database)
{
    sql->database = database;
    for (int i = 0; i < SPOOL_STATEMENTS; i++)
        if (sqlite3_prepare_v3(database, texts[i], -1, SQLITE_PREPARE_PERSISTENT,
                               &sql->statements[i], NULL) != SQLITE_OK)
            return false;
    return true;
}

struct sqlite3_stmt *spool_sql_begin(struct spool_sql *sql, enum spool_statement which, int count,
                                     const int64_t *values)
{
    sqlite3_stmt *statement = sql->statements[which];
    sqlite3_reset(statement); // it may have failed before
    for (int i = 0; i < count; i++)
        sqlite3_bind_int64(statement, i + 1, values[i]);
    return statement;
}

static bool finish(sqlite3_stmt *statement)
{
    if (sqlite3_step(statement) != SQLITE_DONE)
        return false; // not reset, which would hide the error from the disk
    sqlite3_reset(statement);
    return true;
}

bool spool_sql_run(struct spool_sql *sql, enum spool_statement which, int count,
                   const int64_t *values)
{
    return finish(spool_sql_begin(sql, which, count, values));
}

static void bind_or_null(sqlite3_stmt *statement, int number, uint64_t value)
{
    if (value != 0)
        sqlite3_bind_int64(statement, number, (int64_t)value);
    else
        sqlite3_bind_null(statement, number);
}

static bool bind_field(sqlite3_stmt *statement, enum spool_field which, struct bytes field)
{
    int number = FIRST_FIELD + 1 + (int)which;
    bool blob = which == SPOOL_PROPERTIES || which == SPOOL_PAYLOAD;
    bool needed = which == SPOOL_TOPIC || which == SPOOL_PAYLOAD;
    const char *data = field.length > 0 || !field.data ? (const char *)field.data : "";
    if (!data && needed)
        data = "";
    if (!data)
        return sqlite3_bind_null(statement, number) == SQLITE_OK;
    if (blob)
        return sqlite3_bind_blob64(statement, number, data, field.length, SQLITE_STATIC) ==
               SQLITE_OK;
    return sqlite3_bind_text64(statement, number, data, field.length, SQLITE_STATIC, SQLITE_UTF8) ==
           SQLITE_OK;
}

bool spool_sql_renew(struct spool_sql *sql, const char *id)
{
    sqlite3_stmt *statement = spool_sql_begin(sql, SPOOL_RENEW, 0, NULL);
    return sqlite3_bind_text(statement, 1, id, -1, SQLITE_TRANSIENT) == SQLITE_OK &&
           sqlite3_step(statement) == SQLITE_DONE;
}

bool spool_sql_put(struct spool_sql *sql, const struct spool_record *record)
{
    const int64_t numbers[] = {record->number, record->cost, record->received_us,
                               (int64_t)record->flags};
    sqlite3_stmt *statement = spool_sql_begin(sql, SPOOL_PUT, 4, numbers);
    bool whole = record->full_length == record->fields[SPOOL_PAYLOAD].length;
    bind_or_null(statement, 5, (uint64_t)record->doubt);
    bind_or_null(statement, 6, record->session);
    bind_or_null(statement, 7, record->session ? record->packet_id : 0);
    bind_or_null(statement, 8, record->content);
    if (whole)
        sqlite3_bind_null(statement, 9);
    else
        sqlite3_bind_int64(statement, 9, (int64_t)record->full_length);
    for (int i = 0; i < SPOOL_FIELDS; i++)
        if (!bind_field(statement, (enum spool_field)i, record->fields[i]))
            return false;
    return finish(statement);
}

static struct bytes copy_column(sqlite3_stmt *row, int column, struct arena *arena)
{
    if (sqlite3_column_type(row, column) == SQLITE_NULL)
        return (struct bytes){0};
    const void *data = sqlite3_column_blob(row, column); // as it is, of text too
    int length = sqlite3_column_bytes(row, column);
    return (struct bytes){(const uint8_t *)arena_copy(arena, data ? data : "", (size_t)length),
                          (size_t)length};
}

void spool_sql_record(struct sqlite3_stmt *row, struct arena *arena, struct spool_record *record)
{
    *record = (struct spool_record){
        .number = sqlite3_column_int64(row, 0),
        .cost = sqlite3_column_int64(row, 1),
        .received_us = sqlite3_column_int64(row, 2),
        .flags = (uint64_t)sqlite3_column_int64(row, 3),
        .doubt = sqlite3_column_int64(row, 4),
        .session = (uint64_t)sqlite3_column_int64(row, 5),
        .packet_id = (uint64_t)sqlite3_column_int64(row, 6),
        .content = (uint64_t)sqlite3_column_int64(row, 7),
        .full_length = (uint64_t)sqlite3_column_int64(row, 8),
    };
    for (int i = 0; i < SPOOL_FIELDS; i++)
        record->fields[i] = copy_column(row, FIRST_FIELD + i, arena);
    if (sqlite3_column_type(row, 8) == SQLITE_NULL)
        record->full_length = record->fields[SPOOL_PAYLOAD].length;
}
