// The statements of the state file, prepared once, and how they are filled and run.
#pragma once

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

enum state_statement {
    PUT_PUBLICATION,
    DROP_PUBLICATION,
    PUT_SESSION,
    DROP_SESSION,
    DROP_SUBSCRIPTIONS,
    DROP_DELIVERIES,
    DROP_INCOMINGS,
    REFERENCES_OF_SESSION,
    PUT_SUBSCRIPTION,
    DROP_SUBSCRIPTION,
    PUT_WILL,
    FIND_WILL,
    DROP_WILL,
    PUT_DELIVERY,
    FIND_DELIVERY,
    RELEASE_DELIVERY,
    DROP_DELIVERY,
    DROP_DELIVERY_OF,
    PUT_INCOMING,
    FIND_INCOMING,
    DROP_INCOMING,
    DROP_INCOMING_OF,
    PUT_RETAINED,
    FIND_RETAINED,
    DROP_RETAINED,
    ALL_REFERENCES,
    LAST_POSITION,
    STATEMENTS,
};

struct state_sql {
    sqlite3_stmt *statements[STATEMENTS]; // finalized by the disk
    bool failed;                          // a value could not be bound: nothing runs any more
};

// False where the tables are not what they should be.
bool state_sql_prepare(struct state_sql *sql, struct sqlite3 *database);

void state_sql_reset(struct state_sql *sql); // after a failure

// Values, by number from 1 on; what they point to must stay until the statement has run.
void state_bind(struct state_sql *sql, enum state_statement which, int number, int64_t value);
void state_bind_id(struct state_sql *sql, enum state_statement which, int number,
                   int64_t id); // 0 is NULL
void state_bind_text(struct state_sql *sql, enum state_statement which, int number,
                     struct bytes text); // without data NULL
void state_bind_blob(struct state_sql *sql, enum state_statement which, int number,
                     struct bytes blob); // never NULL

// SQLITE_DONE, SQLITE_ROW, or what went wrong, without details.
int state_step(struct state_sql *sql, enum state_statement which);
void state_reset(struct state_sql *sql, enum state_statement which);
// All of it; it gives no rows.
bool state_run(struct state_sql *sql, enum state_statement which);
