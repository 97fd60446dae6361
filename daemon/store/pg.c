// One connection to PostgreSQL on the loop.
#include "store/pg.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "store/pg_address.h"
#include "store/pg_result.h"

enum { CONNECT_TIMEOUT_MS = 15000 };

enum pg_state { PG_CLOSED, PG_RESOLVING, PG_CONNECTING, PG_UP, PG_FAILED };

// What the server still has to answer, oldest first.
struct expected {
    pg_result_fn *fn;
    void *arg;
    bool sync, answered;
};

struct pg {
    struct loop *loop;
    struct worker *worker;
    char *conninfo, *application_name;
    bool pipeline;
    struct pg_calls calls;
    enum pg_state state;
    struct pg_address *address;
    PGconn *conn;
    unsigned generation; // of conn, so that a callback that disconnects is noticed
    struct event *readable, *writable;
    struct loop_timer *timeout;
    struct loop_task *failed; // calls down from the loop
    char *why;
    PGresult *kept;         // without pipeline: of the query that is being answered
    struct expected *queue; // a ring
    size_t queue_first, queue_count, queue_capacity;
};

// ---- the queue ----

static void expect(struct pg *pg, pg_result_fn *fn, void *arg, bool sync)
{
    if (pg->queue_count == pg->queue_capacity) {
        size_t capacity = pg->queue_capacity ? pg->queue_capacity * 2 : 16;
        struct expected *wider = mem_alloc(capacity * sizeof *wider);
        for (size_t i = 0; i < pg->queue_count; i++)
            wider[i] = pg->queue[(pg->queue_first + i) % pg->queue_capacity];
        free(pg->queue);
        pg->queue = wider;
        pg->queue_first = 0;
        pg->queue_capacity = capacity;
    }
    size_t at = (pg->queue_first + pg->queue_count++) % pg->queue_capacity;
    pg->queue[at] = (struct expected){.fn = fn, .arg = arg, .sync = sync};
}

static void expected_pop(struct pg *pg)
{
    pg->queue_first = (pg->queue_first + 1) % pg->queue_capacity;
    pg->queue_count--;
}

// ---- life ----

static void drop_events(struct pg *pg)
{
    if (pg->readable)
        event_free(pg->readable);
    if (pg->writable)
        event_free(pg->writable);
    pg->readable = pg->writable = NULL;
}

static void close_connection(struct pg *pg)
{
    pg_address_cancel(pg->address);
    pg->address = NULL;
    drop_events(pg);
    loop_timer_stop(pg->timeout);
    if (pg->conn)
        PQfinish(pg->conn);
    pg->conn = NULL;
    PQclear(pg->kept);
    pg->kept = NULL;
    pg->generation++;
    pg->queue_first = pg->queue_count = 0;
    pg->state = PG_CLOSED;
}

// libpq's messages come with newlines; ours are lines.
static void keep_why(struct pg *pg, const char *text)
{
    char *why = mem_strdup(text && *text ? text : "connection lost");
    size_t length = strlen(why);
    while (length > 0 && why[length - 1] == '\n')
        why[--length] = '\0';
    for (char *at = why; *at; at++)
        if (*at == '\n' || *at == '\t')
            *at = ' ';
    free(pg->why);
    pg->why = why;
}

// From now on the connection is unusable; the loop will say so.
static void fail(struct pg *pg, const char *why)
{
    if (pg->state == PG_FAILED || pg->state == PG_CLOSED)
        return;
    if (!pg->why)
        keep_why(pg, why);
    pg->state = PG_FAILED;
    drop_events(pg);
    loop_task_schedule(pg->failed);
}

static void tell_down(void *arg)
{
    struct pg *pg = arg;
    if (pg->state != PG_FAILED)
        return;
    char *why = pg->why;
    pg->why = NULL;
    close_connection(pg);
    pg->calls.down(pg->calls.arg, why);
    free(why);
}

static void timed_out(void *arg)
{
    fail(arg, "timed out while connecting");
}

struct pg *pg_new(struct loop *loop, struct worker *worker, const char *conninfo,
                  const char *application_name, bool pipeline, const struct pg_calls *calls)
{
    struct pg *pg = mem_zalloc(sizeof *pg);
    pg->loop = loop;
    pg->worker = worker;
    pg->conninfo = mem_strdup(conninfo);
    pg->application_name = mem_strdup(application_name);
    pg->pipeline = pipeline;
    pg->calls = *calls;
    pg->timeout = loop_timer_new(loop, timed_out, pg);
    pg->failed = loop_task_new(loop, tell_down, pg);
    return pg;
}

void pg_free(struct pg *pg)
{
    if (!pg)
        return;
    close_connection(pg);
    loop_timer_free(pg->timeout);
    loop_task_free(pg->failed);
    free(pg->queue);
    free(pg->why);
    free(pg->application_name);
    free(pg->conninfo);
    free(pg);
}

void pg_disconnect(struct pg *pg)
{
    close_connection(pg);
    free(pg->why);
    pg->why = NULL;
}

// ---- receiving ----

// Hands a result to who waits for it; false where the connection is gone afterwards.
static bool deliver(struct pg *pg, PGresult *native)
{
    if (pg->queue_count == 0) {
        PQclear(native);
        return true;
    }
    struct expected *head = &pg->queue[pg->queue_first];
    struct expected taken = *head;
    head->answered = true;
    if (taken.sync)
        expected_pop(pg); // no NULL follows a sync
    struct pg_result result;
    pg_result_fill(&result, native);
    unsigned generation = pg->generation;
    if (taken.fn && !taken.answered)
        taken.fn(taken.arg, &result);
    PQclear(native);
    return pg->generation == generation && pg->state == PG_UP;
}

// Without a pipeline the last result of a script counts, or the first error.
static PGresult *script_result(PGresult *kept, PGresult *next)
{
    if (!kept)
        return next;
    ExecStatusType status = PQresultStatus(kept);
    if (status == PGRES_FATAL_ERROR) {
        PQclear(next);
        return kept;
    }
    PQclear(kept);
    return next;
}

static void receive_pipeline(struct pg *pg)
{
    while (pg->queue_count > 0 && !PQisBusy(pg->conn)) {
        PGresult *native = PQgetResult(pg->conn);
        if (!native) {
            if (!pg->queue[pg->queue_first].answered)
                return;
            expected_pop(pg);
            continue;
        }
        if (PQstatus(pg->conn) == CONNECTION_BAD || pg_result_fatal(native)) {
            fail(pg, pg_result_last_words(native));
            PQclear(native);
            return;
        }
        if (!deliver(pg, native))
            return;
    }
}

static void receive_plain(struct pg *pg)
{
    while (pg->queue_count > 0 && !PQisBusy(pg->conn)) {
        PGresult *native = PQgetResult(pg->conn);
        if (native && (PQstatus(pg->conn) == CONNECTION_BAD || pg_result_fatal(native))) {
            fail(pg, pg_result_last_words(native));
            PQclear(native);
            return;
        }
        if (native) {
            pg->kept = script_result(pg->kept, native);
            continue;
        }
        if (!pg->kept)
            return;
        struct expected taken = pg->queue[pg->queue_first];
        PGresult *kept = pg->kept;
        pg->kept = NULL;
        expected_pop(pg);
        struct pg_result result;
        pg_result_fill(&result, kept);
        unsigned generation = pg->generation;
        if (taken.fn)
            taken.fn(taken.arg, &result);
        PQclear(kept);
        if (pg->generation != generation || pg->state != PG_UP)
            return;
    }
}

static void received(evutil_socket_t fd, short events, void *arg)
{
    (void)fd, (void)events;
    struct pg *pg = arg;
    bool open = PQconsumeInput(pg->conn);
    if (pg->queue_count == 0)
        PQisBusy(pg->conn); // has libpq read the server's last words, for take_notice
    if (!open) {
        fail(pg, PQerrorMessage(pg->conn));
        return;
    }
    if (pg->pipeline)
        receive_pipeline(pg);
    else
        receive_plain(pg);
}

// ---- sending ----

// Sends what libpq has buffered; the rest when the socket takes it.
static bool flush(struct pg *pg)
{
    int left = PQflush(pg->conn);
    if (left < 0) {
        fail(pg, PQerrorMessage(pg->conn));
        return false;
    }
    if (left > 0)
        event_add(pg->writable, NULL);
    return true;
}

static void can_write(evutil_socket_t fd, short events, void *arg)
{
    (void)fd, (void)events;
    flush(arg);
}

// After a PQsend function: sent is its result. In a pipeline the flush comes with the sync.
static bool queued(struct pg *pg, int sent, pg_result_fn *fn, void *arg)
{
    if (!sent) {
        fail(pg, PQerrorMessage(pg->conn));
        return false;
    }
    expect(pg, fn, arg, false);
    return pg->pipeline || flush(pg);
}

bool pg_query(struct pg *pg, const char *sql, const struct pg_params *params, pg_result_fn *fn,
              void *arg)
{
    static const struct pg_params none = {0};
    if (pg->state != PG_UP)
        return false;
    if (!params)
        params = &none;
    int sent = PQsendQueryParams(pg->conn, sql, params->count, params->types, params->values,
                                 params->lengths, params->formats, 0);
    return queued(pg, sent, fn, arg);
}

bool pg_prepare(struct pg *pg, const char *name, const char *sql, const struct pg_params *types,
                pg_result_fn *fn, void *arg)
{
    if (pg->state != PG_UP)
        return false;
    int sent = PQsendPrepare(pg->conn, name, sql, types->count, types->types);
    return queued(pg, sent, fn, arg);
}

bool pg_execute(struct pg *pg, const char *name, const struct pg_params *params, pg_result_fn *fn,
                void *arg)
{
    if (pg->state != PG_UP)
        return false;
    int sent = PQsendQueryPrepared(pg->conn, name, params->count, params->values, params->lengths,
                                   params->formats, 0);
    return queued(pg, sent, fn, arg);
}

bool pg_sync(struct pg *pg, pg_result_fn *fn, void *arg)
{
    if (pg->state != PG_UP)
        return false;
    if (!PQpipelineSync(pg->conn)) {
        fail(pg, PQerrorMessage(pg->conn));
        return false;
    }
    expect(pg, fn, arg, true);
    return flush(pg);
}

bool pg_script(struct pg *pg, const char *sql, pg_result_fn *fn, void *arg)
{
    if (pg->state != PG_UP)
        return false;
    return queued(pg, PQsendQuery(pg->conn, sql), fn, arg);
}

// ---- connecting ----

static void take_notice(void *arg, const PGresult *native)
{
    struct pg *pg = arg;
    const char *severity = pg_error_field(native, PG_DIAG_SEVERITY_NONLOCALIZED);
    const char *text = pg_error_field(native, PG_DIAG_MESSAGE_PRIMARY);
    if (strcmp(severity, "FATAL") == 0) { // the server's last words to an idle connection
        free(pg->why);
        keep_why(pg, text);
    } else if (pg->calls.notice) {
        pg->calls.notice(pg->calls.arg, text);
    }
}

static void now_up(struct pg *pg)
{
    loop_timer_stop(pg->timeout);
    drop_events(pg);
    if (PQsetnonblocking(pg->conn, 1) != 0 || (pg->pipeline && !PQenterPipelineMode(pg->conn))) {
        fail(pg, PQerrorMessage(pg->conn));
        return;
    }
    struct event_base *base = loop_base(pg->loop);
    int fd = PQsocket(pg->conn);
    pg->readable = event_new(base, fd, EV_READ | EV_PERSIST, received, pg);
    pg->writable = event_new(base, fd, EV_WRITE, can_write, pg);
    event_add(pg->readable, NULL);
    pg->state = PG_UP;
    pg->calls.up(pg->calls.arg);
}

static void go_on_connecting(evutil_socket_t fd, short events, void *arg);

static void wait_for(struct pg *pg, short what)
{
    drop_events(pg); // libpq may have gone on to another socket
    pg->readable = event_new(loop_base(pg->loop), PQsocket(pg->conn), what, go_on_connecting, pg);
    event_add(pg->readable, NULL);
}

static void go_on_connecting(evutil_socket_t fd, short events, void *arg)
{
    (void)fd, (void)events;
    struct pg *pg = arg;
    switch (PQconnectPoll(pg->conn)) {
    case PGRES_POLLING_READING:
        wait_for(pg, EV_READ);
        break;
    case PGRES_POLLING_WRITING:
        wait_for(pg, EV_WRITE);
        break;
    case PGRES_POLLING_OK:
        now_up(pg);
        break;
    default:
        fail(pg, PQerrorMessage(pg->conn));
        break;
    }
}

static void addressed(void *arg, const char *const *keywords, const char *const *values,
                      const char *error)
{
    struct pg *pg = arg;
    pg->address = NULL;
    if (pg->state != PG_RESOLVING) // timed out, and the loop has not said so yet
        return;
    if (error) {
        fail(pg, error);
        return;
    }
    pg->conn = PQconnectStartParams(keywords, values, 0);
    if (!pg->conn || PQstatus(pg->conn) == CONNECTION_BAD) {
        fail(pg, pg->conn ? PQerrorMessage(pg->conn) : "out of memory");
        return;
    }
    PQsetNoticeReceiver(pg->conn, take_notice, pg);
    pg->state = PG_CONNECTING;
    wait_for(pg, EV_WRITE);
}

void pg_connect(struct pg *pg)
{
    pg_disconnect(pg);
    pg->state = PG_RESOLVING;
    loop_timer_start(pg->timeout, CONNECT_TIMEOUT_MS);
    pg->address = pg_address_start(pg->worker, pg->conninfo, pg->application_name, addressed, pg);
}

bool pg_connected(const struct pg *pg)
{
    return pg->state == PG_UP;
}

int pg_backend_pid(const struct pg *pg)
{
    return pg->conn ? PQbackendPID(pg->conn) : 0;
}

int pg_server_version(const struct pg *pg)
{
    return pg->conn ? PQserverVersion(pg->conn) : 0;
}
