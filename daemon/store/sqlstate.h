// What an SQLSTATE means for a batch.
#pragma once

#include <stddef.h>

#include "store/pg.h"

enum sql_action {
    SQL_RETRY,     // the same again, at once
    SQL_WAIT,      // the same again, after a while
    SQL_SPLIT,     // in smaller transactions
    SQL_FENCED,    // the writer's epoch is over
    SQL_TAKEN,     // somebody else has stored what the batch was made of
    SQL_PARTITION, // the table has no partition for a row
    SQL_ISOLATE,   // some row is at fault: find it
    SQL_STOP,      // the mapping's statement is at fault: all its rows are
};

// For the error of a statement that writes a mapping's rows, or of COMMIT.
enum sql_action sql_action_of(const char *sqlstate, const char *constraint);

// The table itself: class or code number index, NULL after the last.
const char *sql_state(size_t index, enum sql_action *action);
