// One connection to PostgreSQL on the loop, never blocking: the only user of libpq.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/loop.h"
#include "base/worker.h"

struct pg;

struct pg_result {
    bool ok;
    bool skipped;         // not run, since a query before it in the same pipeline failed
    const char *sqlstate; // five letters; "" where ok or skipped
    const char *message;  // PostgreSQL's primary message, without newline
    const char *detail;   // or ""
    const char *constraint, *table, *column; // named by the error, or ""
    const char *tag;                         // of the command: "INSERT 0 3", "COMMIT"
    int rows, columns;
    void *native;
};

// A value as text, NULL where it is null; valid during the callback.
const char *pg_value(const struct pg_result *result, int row, int column);
int64_t pg_integer(const struct pg_result *result, int row, int column);

typedef void pg_result_fn(void *arg, const struct pg_result *result);

struct pg_calls {
    void (*up)(void *arg); // connected
    void (*down)(void *arg,
                 const char *why); // not connected, or no more; queries without result have none
    void (*notice)(void *arg, const char *text); // a NOTICE or WARNING of the server; may be NULL
    void *arg;
};

struct pg_params {
    int count;
    const uint32_t *types; // OIDs; NULL or 0: the server infers
    const char *const *values;
    const int *lengths; // of the binary ones; NULL where all are text
    const int *formats; // 0 text, 1 binary; NULL: all text
};

// conninfo is copied. pipeline: queries queue up, each pg_sync ends a unit; else one query at a
// time.
struct pg *pg_new(struct loop *loop, struct worker *worker, const char *conninfo,
                  const char *application_name, bool pipeline, const struct pg_calls *calls);
void pg_free(struct pg *pg); // closes; calls nothing; not from within a callback of the same pg
// Starts to connect; up or down is called later, from the loop. Also after down.
void pg_connect(struct pg *pg);
// Closes at once; calls nothing. May be called from a callback.
void pg_disconnect(struct pg *pg);
bool pg_connected(const struct pg *pg);
int pg_backend_pid(const struct pg *pg);
int pg_server_version(const struct pg *pg); // 150003

// Each sends one statement; fn is called with its result unless the connection goes down first.
// False where the connection is unusable: down follows from the loop.
bool pg_query(struct pg *pg, const char *sql, const struct pg_params *params, pg_result_fn *fn,
              void *arg);
bool pg_prepare(struct pg *pg, const char *name, const char *sql, const struct pg_params *types,
                pg_result_fn *fn, void *arg);
bool pg_execute(struct pg *pg, const char *name, const struct pg_params *params, pg_result_fn *fn,
                void *arg);
// Pipeline only: the end of a unit; fn (may be NULL) is called when the server has reached it.
bool pg_sync(struct pg *pg, pg_result_fn *fn, void *arg);
// Without pipeline only: several statements in one text, without parameters; fn gets the last
// result or the first error.
bool pg_script(struct pg *pg, const char *sql, pg_result_fn *fn, void *arg);
// Quoted as an SQL identifier or literal; the caller frees.
char *pg_quote_identifier(const char *name);
void pg_put_identifier(FILE *out, const char *name);
char *pg_quote_literal(const char *text);
// conninfo without its password, for log lines; the caller frees. NULL with *error (caller frees)
// if it is malformed.
char *pg_conninfo_masked(const char *conninfo, char **error);
