// What of the server's settings weakens the promise that an acknowledged reading stays.
#pragma once

#include "store/pg.h"

enum { LOOK_COUNT = 7 };

// A query without parameters, of one row.
const char *look_sql(void);
// Of its result: a bit for each finding that holds.
unsigned look_findings(const struct pg_result *result);
// Of finding number index, below LOOK_COUNT: a few words, and what it means. Static text.
const char *look_name(unsigned index);
const char *look_meaning(unsigned index);
