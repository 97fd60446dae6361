// What the file holds in vain, or has held too long, goes before it is read.
#include <sqlite3.h>

#include "base/log.h"
#include "broker/state_internal.h"

// What nothing can be done with goes; what is refers to something that is there.
static const struct {
    const char *what; // NULL: not worth a word
    const char *sql;  // ?1: now, where it is about what has expired
} cleanings[] = {
#define NO_SESSION " WHERE session NOT IN (SELECT id FROM session)"
#define NO_PUBLICATION                                                                             \
    " WHERE publication IS NOT NULL AND publication NOT IN (SELECT id FROM publication)"
#define EXPIRED "publication IN (SELECT id FROM publication WHERE expires_us <= ?1)"
    {"subscriptions of sessions that are not there", "DELETE FROM subscription" NO_SESSION},
    {"wills of sessions that are not there", "DELETE FROM will" NO_SESSION},
    {"deliveries to sessions that are not there", "DELETE FROM delivery" NO_SESSION},
    {"QoS 2 identifiers of sessions that are not there", "DELETE FROM incoming" NO_SESSION},
    {"wills without a message", "DELETE FROM will" NO_PUBLICATION},
    {"deliveries without a message", "DELETE FROM delivery" NO_PUBLICATION},
    {"retained messages without a message", "DELETE FROM retained" NO_PUBLICATION},
    {"expired retained messages", "DELETE FROM retained WHERE " EXPIRED},
    // Not of QoS 2 where the client may know it [MQTT-4.3.3-7]: it was there when it was queued.
    {"expired messages in queues",
     "DELETE FROM delivery WHERE " EXPIRED " AND (qos = 1 OR (sent = 0 AND EXISTS"
     " (SELECT 1 FROM session, publication WHERE session.id = delivery.session AND"
     " publication.id = delivery.publication AND ended_us BETWEEN 1 AND received_us)))"},
    {"expired messages between PUBLISH and PUBREL",
     "UPDATE incoming SET publication = NULL WHERE " EXPIRED},
    {NULL, "DELETE FROM publication WHERE id NOT IN"
           " (SELECT publication FROM delivery WHERE publication IS NOT NULL UNION ALL"
           " SELECT publication FROM incoming WHERE publication IS NOT NULL UNION ALL"
           " SELECT publication FROM will UNION ALL SELECT publication FROM retained)"},
};

static bool clean(struct sqlite3 *db, const char *path, const char *sql, const char *what)
{
    sqlite3_stmt *statement;
    bool ok = sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK;
    bool expired = ok && sqlite3_bind_parameter_count(statement) > 0;
    if (expired)
        sqlite3_bind_int64(statement, 1, loop_wall_us());
    ok = ok && sqlite3_step(statement) == SQLITE_DONE;
    sqlite3_finalize(statement);
    int count = ok ? sqlite3_changes(db) : 0;
    if (count > 0 && what)
        log_write(expired ? LOG_LEVEL_INFO : LOG_LEVEL_WARN, "broker state %s: left out: %d %s",
                  path, count, what);
    return ok;
}

void state_clean(struct sqlite3 *db, const char *path)
{
    bool ok = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL) == SQLITE_OK;
    for (size_t i = 0; ok && i < sizeof cleanings / sizeof *cleanings; i++)
        ok = clean(db, path, cleanings[i].sql, cleanings[i].what);
    ok = ok && sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK;
    if (ok)
        return;
    log_warn("broker state %s: what has expired stays in the file for now: %s", path,
             sqlite3_errmsg(db));
    if (!sqlite3_get_autocommit(db))
        sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
}
