// What an SQLSTATE means for a batch: one table, of classes and single codes. sensorlogd(8) has the
// same one.
#include "store/sqlstate.h"

#include <string.h>

// The first that the code begins with counts. A row is at fault where none does: a trigger may
// raise any code.
static const struct {
    const char *prefix;
    enum sql_action action;
} actions[] = {
    // sensorlogd's own functions
    {"SL001", SQL_FENCED}, // another daemon has taken over the writer's name
    {"SL002", SQL_WAIT},   // the transaction's number was used before
    {"SL003", SQL_TAKEN},  // the spool's entries are stored already
    {"SL004", SQL_TAKEN},  // an entry of the reject table is gone
    // it will do as soon as others are out of the way
    {"40", SQL_RETRY}, // serialization failure, deadlock
    // the server, the connection, or an administrator
    {"08", SQL_WAIT},     // connection
    {"25", SQL_WAIT},     // read-only (a standby), idle_in_transaction_session_timeout
    {"26", SQL_WAIT},     // the session has lost its prepared statements
    {"28", SQL_WAIT},     // authentication
    {"53200", SQL_SPLIT}, // out of memory, or of room for locks: a partition takes two or three
    {"53", SQL_WAIT},     // disk full, too many connections
    {"55P03", SQL_WAIT},  // lock_timeout
    {"57", SQL_WAIT},     // shutdown, crash, cancelled, statement_timeout
    {"58", SQL_WAIT},     // I/O error
    {"XX", SQL_WAIT},     // corruption, internal error; after five attempts the mapping stops
    // a row
    {"21", SQL_ISOLATE}, // cardinality
    {"22", SQL_ISOLATE}, // data: out of range, invalid text
    {"23", SQL_ISOLATE}, // constraint; 23514 without its name: no partition for the row
    {"27", SQL_ISOLATE}, // triggered data change
    {"38", SQL_ISOLATE}, // a trigger's function
    {"39", SQL_ISOLATE}, // the same
    {"44", SQL_ISOLATE}, // WITH CHECK OPTION
    {"54", SQL_ISOLATE}, // too large for an index, or another limit
    {"P0", SQL_ISOLATE}, // RAISE in a trigger
    // the mapping
    {"0A", SQL_STOP}, // not supported: a view that cannot be written
    {"3F", SQL_STOP}, // schema gone
    {"42", SQL_STOP}, // table or column gone, no permission
    {"55", SQL_STOP}, // no state for this: a materialized view
};

const char *sql_state(size_t index, enum sql_action *action)
{
    if (index >= sizeof actions / sizeof *actions)
        return NULL;
    *action = actions[index].action;
    return actions[index].prefix;
}

enum sql_action sql_action_of(const char *sqlstate, const char *constraint)
{
    if (strcmp(sqlstate, "23514") == 0 && !*constraint)
        return SQL_PARTITION;
    enum sql_action action;
    const char *prefix;
    for (size_t i = 0; (prefix = sql_state(i, &action)); i++)
        if (strncmp(sqlstate, prefix, strlen(prefix)) == 0)
            return action;
    return SQL_ISOLATE;
}
