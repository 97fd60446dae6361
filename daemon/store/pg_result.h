// libpq's results as ours; for the files of pg alone.
#pragma once

#include <libpq-fe.h>

#include "store/pg.h"

// A field of an error, or "".
const char *pg_error_field(const PGresult *native, int code);
// Valid as long as native.
void pg_result_fill(struct pg_result *result, PGresult *native);
// The error ends the connection.
bool pg_result_fatal(const PGresult *native);
// What such an error says.
const char *pg_result_last_words(const PGresult *native);
