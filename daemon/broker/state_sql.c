// The statements of the state file.
#include "broker/state_sql.h"

static const char *const texts[STATEMENTS] = {
    [PUT_PUBLICATION] = "INSERT OR REPLACE INTO publication (id, publisher, received_us,"
                        " expires_us, qos, retain, topic, properties, payload)"
                        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [DROP_PUBLICATION] = "DELETE FROM publication WHERE id = ?",
    [PUT_SESSION] = "INSERT OR REPLACE INTO session (id, client_id, username, expiry, ended_us,"
                    " next_packet_id, version) VALUES (?, ?, ?, ?, ?, ?, ?)",
    [DROP_SESSION] = "DELETE FROM session WHERE id = ?",
    [DROP_SUBSCRIPTIONS] = "DELETE FROM subscription WHERE session = ?",
    [DROP_DELIVERIES] = "DELETE FROM delivery WHERE session = ?",
    [DROP_INCOMINGS] = "DELETE FROM incoming WHERE session = ?",
    [REFERENCES_OF_SESSION] = "SELECT publication FROM delivery WHERE session = ?1 UNION ALL"
                              " SELECT publication FROM incoming WHERE session = ?1",
    [PUT_SUBSCRIPTION] = "INSERT OR REPLACE INTO subscription (session, filter, id, qos,"
                         " retain_handling, no_local, retain_as_published)"
                         " VALUES (?, ?, ?, ?, ?, ?, ?)",
    [DROP_SUBSCRIPTION] = "DELETE FROM subscription WHERE session = ? AND filter = ?",
    [PUT_WILL] = "INSERT INTO will (session, publication, delay) VALUES (?, ?, ?)",
    [FIND_WILL] = "SELECT publication FROM will WHERE session = ?",
    [DROP_WILL] = "DELETE FROM will WHERE session = ?",
    [PUT_DELIVERY] = "INSERT INTO delivery (session, packet_id, position, publication, qos, phase,"
                     " retain, sent, subscription_ids) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [FIND_DELIVERY] = "SELECT publication FROM delivery WHERE session = ? AND packet_id = ?",
    [RELEASE_DELIVERY] = "UPDATE delivery SET phase = 1, publication = NULL"
                         " WHERE session = ? AND packet_id = ?",
    [DROP_DELIVERY] = "DELETE FROM delivery WHERE session = ? AND packet_id = ?",
    [DROP_DELIVERY_OF] = "DELETE FROM delivery WHERE session = ? AND packet_id = ?"
                         " AND publication = ?",
    [PUT_INCOMING] = "INSERT INTO incoming (session, packet_id, publication, mapped)"
                     " VALUES (?, ?, ?, ?)",
    [FIND_INCOMING] = "SELECT publication FROM incoming WHERE session = ? AND packet_id = ?",
    [DROP_INCOMING] = "DELETE FROM incoming WHERE session = ? AND packet_id = ?",
    [DROP_INCOMING_OF] = "DELETE FROM incoming WHERE session = ? AND packet_id = ?"
                         " AND publication = ?",
    [PUT_RETAINED] = "INSERT OR REPLACE INTO retained (topic, publication) VALUES (?, ?)",
    [FIND_RETAINED] = "SELECT publication FROM retained WHERE topic = ?",
    [DROP_RETAINED] = "DELETE FROM retained WHERE topic = ?",
    [ALL_REFERENCES] = "SELECT publication FROM delivery UNION ALL"
                       " SELECT publication FROM incoming UNION ALL"
                       " SELECT publication FROM will UNION ALL"
                       " SELECT publication FROM retained",
    [LAST_POSITION] = "SELECT coalesce(max(position), 0) FROM delivery",
};

bool state_sql_prepare(struct state_sql *sql, struct sqlite3 *database)
{
    for (int i = 0; i < STATEMENTS; i++)
        if (sqlite3_prepare_v3(database, texts[i], -1, SQLITE_PREPARE_PERSISTENT,
                               &sql->statements[i], NULL) != SQLITE_OK)
            return false;
    return true;
}

void state_sql_reset(struct state_sql *sql)
{
    for (int i = 0; i < STATEMENTS; i++)
        sqlite3_reset(sql->statements[i]);
    sql->failed = false;
}

static void check(struct state_sql *sql, int result)
{
    if (result != SQLITE_OK)
        sql->failed = true;
}

void state_bind(struct state_sql *sql, enum state_statement which, int number, int64_t value)
{
    check(sql, sqlite3_bind_int64(sql->statements[which], number, value));
}

void state_bind_id(struct state_sql *sql, enum state_statement which, int number, int64_t id)
{
    if (id != 0)
        state_bind(sql, which, number, id);
    else
        check(sql, sqlite3_bind_null(sql->statements[which], number));
}

void state_bind_text(struct state_sql *sql, enum state_statement which, int number,
                     struct bytes text)
{
    check(sql, sqlite3_bind_text64(sql->statements[which], number, (const char *)text.data,
                                   text.length, SQLITE_STATIC, SQLITE_UTF8));
}

void state_bind_blob(struct state_sql *sql, enum state_statement which, int number,
                     struct bytes blob)
{
    const void *data = blob.length ? (const void *)blob.data : "";
    check(sql,
          sqlite3_bind_blob64(sql->statements[which], number, data, blob.length, SQLITE_STATIC));
}

int state_step(struct state_sql *sql, enum state_statement which)
{
    return sql->failed ? SQLITE_ERROR : sqlite3_step(sql->statements[which]) & 0xFF;
}

void state_reset(struct state_sql *sql, enum state_statement which)
{
    sqlite3_reset(sql->statements[which]);
}

bool state_run(struct state_sql *sql, enum state_statement which)
{
    int result = state_step(sql, which);
    state_reset(sql, which);
    return result == SQLITE_DONE;
}
