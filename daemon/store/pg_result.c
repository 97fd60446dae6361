// libpq's results as ours.
#include "store/pg_result.h"

#include <stdlib.h>
#include <string.h>

const char *pg_value(const struct pg_result *result, int row, int column)
{
    if (PQgetisnull(result->native, row, column))
        return NULL;
    return PQgetvalue(result->native, row, column);
}

int64_t pg_integer(const struct pg_result *result, int row, int column)
{
    const char *text = pg_value(result, row, column);
    return text ? strtoll(text, NULL, 10) : 0;
}

const char *pg_error_field(const PGresult *native, int code)
{
    const char *text = PQresultErrorField(native, code);
    return text ? text : "";
}

void pg_result_fill(struct pg_result *result, PGresult *native)
{
    ExecStatusType status = PQresultStatus(native);
    *result = (struct pg_result){
        .ok = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK ||
              status == PGRES_PIPELINE_SYNC || status == PGRES_EMPTY_QUERY,
        .skipped = status == PGRES_PIPELINE_ABORTED,
        .sqlstate = pg_error_field(native, PG_DIAG_SQLSTATE),
        .message = pg_error_field(native, PG_DIAG_MESSAGE_PRIMARY),
        .detail = pg_error_field(native, PG_DIAG_MESSAGE_DETAIL),
        .constraint = pg_error_field(native, PG_DIAG_CONSTRAINT_NAME),
        .table = pg_error_field(native, PG_DIAG_TABLE_NAME),
        .column = pg_error_field(native, PG_DIAG_COLUMN_NAME),
        .tag = PQcmdStatus(native),
        .rows = PQntuples(native),
        .columns = PQnfields(native),
        .native = native,
    };
}

bool pg_result_fatal(const PGresult *native)
{
    const char *severity = pg_error_field(native, PG_DIAG_SEVERITY_NONLOCALIZED);
    return strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0;
}

const char *pg_result_last_words(const PGresult *native)
{
    const char *text = pg_error_field(native, PG_DIAG_MESSAGE_PRIMARY);
    return *text ? text : PQresultErrorMessage(native);
}
