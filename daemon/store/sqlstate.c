// What an SQLSTATE means for a batch: one table, the first prefix that fits counts.
#include "store/sqlstate.h"

#include <string.h>

static const struct {
    const char *prefix;
    enum sql_action action;
} actions[] = {
    {"SL001", SQL_FENCED}, {"SL003", SQL_TAKEN}, // the spool's sequence is another one
    {"SL004", SQL_TAKEN},                        // an entry of the reject table is gone
    {"40001", SQL_RETRY},                        // serialization failure
    {"40P01", SQL_RETRY},                        // deadlock
    {"08", SQL_WAIT},                            // connection
    {"53", SQL_WAIT},                            // out of disk, memory, connections
    {"57", SQL_WAIT},                            // shutdown, crash, cancelled (statement_timeout)
    {"58", SQL_WAIT},                            // I/O error
    {"55P03", SQL_WAIT},                         // lock_timeout
    {"25", SQL_WAIT},    // read-only (a standby), or idle_in_transaction_session_timeout
    {"26", SQL_WAIT},    // the session has lost its prepared statements
    {"28", SQL_WAIT},    // authentication
    {"XX", SQL_WAIT},    // corruption or an internal error: an administrator must look
    {"22", SQL_ISOLATE}, // data exception
    {"23", SQL_ISOLATE}, // constraint
    {"44", SQL_ISOLATE}, // check option
    {"P0", SQL_ISOLATE}, // raised by a trigger
    {"21", SQL_ISOLATE}, // cardinality
    {"54", SQL_ISOLATE}, // too large for an index, or another limit
    {"27", SQL_ISOLATE}, // triggered data change
    {"38", SQL_ISOLATE}, // a trigger's function
    {"39", SQL_ISOLATE}, // the same
    {"42", SQL_STOP},    // table or column gone, no permission
    {"3F", SQL_STOP},    // schema gone
    {"0A", SQL_STOP},    // feature not supported, e.g. a view that cannot be written
    {"55", SQL_STOP},    // object not in a state for this, e.g. a materialized view
};

enum sql_action sql_action_of(const char *sqlstate, const char *constraint)
{
    if (strcmp(sqlstate, "23514") == 0 && !*constraint)
        return SQL_PARTITION;
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
        if (strncmp(sqlstate, actions[i].prefix, strlen(actions[i].prefix)) == 0)
            return actions[i].action;
    return SQL_ISOLATE;
}
