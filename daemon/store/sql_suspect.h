// The SQL that asks a constraint which rows it would refuse, without inserting them.
#pragma once

#include "store/sql_text.h"
#include "store/target.h"

// All are the caller's to free.

// What an error says of itself.
struct sql_fault {
    const char *sqlstate;
    const char *constraint, *column; // or ""
};

// Whether it may be known beforehand who else is at fault: a CHECK constraint of the table or of a
// column's domain, NOT NULL, or a foreign key.
bool sql_may_suspect(const struct sql_fault *fault);
// How to ask: a row of (condition, accusation) for sql_suspects, or none where the answer would not
// be certain.
char *sql_suspicion(const struct target *target, const struct sql_fault *fault);
// Those of the rows that are refused, (ordinal, detail), in order. The columns' arrays are $1...
char *sql_suspects(const struct target *target, const struct sql_fault *fault, struct sql_span span,
                   const char *condition, const char *accusation);
