// What the tests against a real PostgreSQL share: a database of their own, a plain connection to
// look at it and to interfere, and a loop that runs until something is so. They need the PGHOST of
// tests/with_postgres.sh.
#pragma once

#include <event2/event.h>
#include <libpq-fe.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/loop.h"
#include "base/mem.h"
#include "store/migrations.h"

enum { RIG_TIMEOUT_MS = 30000, RIG_LOOK_EVERY_MS = 2 };

static inline bool rig_has_postgres(void)
{
    return getenv("PGHOST") != NULL;
}

// First in every test that needs PostgreSQL.
static inline void rig_need_postgres(void)
{
    if (rig_has_postgres())
        return;
    print_message("needs PostgreSQL: run it by tests/with_postgres.sh\n");
    skip();
}

// ---- a connection that waits for its answers ----

static inline void rig_ignore_notice(void *arg, const char *text)
{
    (void)arg, (void)text;
}

static inline PGconn *rig_connect(const char *conninfo)
{
    PGconn *conn = PQconnectdb(conninfo);
    if (PQstatus(conn) != CONNECTION_OK)
        fail_msg("%s", PQerrorMessage(conn));
    PQsetNoticeProcessor(conn, rig_ignore_notice, NULL);
    return conn;
}

// Runs one or more statements, which must succeed.
static inline void rig_run(PGconn *conn, const char *sql)
{
    PGresult *result = PQexec(conn, sql);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(conn));
    PQclear(result);
}

// All values of a query: columns by "|", rows by "\n"; null is ~. The caller frees.
static inline char *rig_text(PGconn *conn, const char *sql)
{
    PGresult *result = PQexec(conn, sql);
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(conn));
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    for (int row = 0; row < PQntuples(result); row++) {
        fputs(row ? "\n" : "", out);
        for (int column = 0; column < PQnfields(result); column++)
            fprintf(out, "%s%s", column ? "|" : "",
                    PQgetisnull(result, row, column) ? "~" : PQgetvalue(result, row, column));
    }
    fclose(out);
    PQclear(result);
    return text;
}

static inline long rig_number(PGconn *conn, const char *sql)
{
    char *text = rig_text(conn, sql);
    long number = strtol(text, NULL, 10);
    free(text);
    return number;
}

#define rig_assert_text(conn, sql, expected)                                                       \
    do {                                                                                           \
        char *rig_found = rig_text((conn), (sql));                                                 \
        assert_string_equal(rig_found, (expected));                                                \
        free(rig_found);                                                                           \
    } while (0)

// A new database for one test program; its conninfo. Both are the caller's to free and to drop.
static inline char *rig_create_database(const char *name)
{
    PGconn *conn = rig_connect("");
    char *drop = mem_printf("DROP DATABASE IF EXISTS %s WITH (FORCE)", name);
    char *create = mem_printf("CREATE DATABASE %s", name);
    rig_run(conn, drop);
    rig_run(conn, create);
    PQfinish(conn);
    free(drop);
    free(create);
    return mem_printf("dbname=%s", name);
}

static inline void rig_drop_database(const char *name)
{
    PGconn *conn = rig_connect("");
    char *drop = mem_printf("DROP DATABASE IF EXISTS %s WITH (FORCE)", name);
    rig_run(conn, drop);
    PQfinish(conn);
    free(drop);
}

static inline void rig_migrate(PGconn *conn)
{
    for (size_t i = 0; i < migration_count; i++)
        rig_run(conn, migrations[i].sql);
}

// Both schemas new and empty but for the migrations.
static inline void rig_make_schemas(PGconn *conn)
{
    rig_run(conn, "DROP SCHEMA IF EXISTS sensorlog, telemetry CASCADE; CREATE SCHEMA telemetry");
    rig_migrate(conn);
}

// ---- a loop that runs until something is so ----

typedef bool rig_predicate(void *arg);

static inline void rig_look(evutil_socket_t fd, short events, void *arg)
{
    (void)fd, (void)events, (void)arg;
}

// False after RIG_TIMEOUT_MS. No timer of the loop's own is used, so its counters show the daemon's
// alone.
static inline bool rig_until(struct loop *loop, rig_predicate *predicate, void *arg)
{
    const struct timeval often = {.tv_usec = RIG_LOOK_EVERY_MS * 1000};
    struct event *look = event_new(loop_base(loop), -1, EV_PERSIST, rig_look, NULL);
    int64_t give_up = loop_now_ms() + RIG_TIMEOUT_MS;
    bool found;
    event_add(look, &often);
    while (!(found = predicate(arg)) && loop_now_ms() < give_up)
        event_base_loop(loop_base(loop), EVLOOP_ONCE);
    event_free(look);
    return found;
}
