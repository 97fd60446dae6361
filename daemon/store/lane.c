// The life of a lane: connect, attach, raise the epoch where that is due, resolve what is
// ambiguous, serve.
#include "store/lane.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/failpoint.h"
#include "base/mem.h"
#include "store/lane_internal.h"

enum {
    BACKOFF_MIN_MS = 200,
    BACKOFF_MAX_MS = 15000,
    EPOCH_RETRY_MS = 1000,
    REPEAT_LOG_MS = 60000,
};

static void open_epoch(struct lane *lane);

void lane_now_idle(struct lane *lane)
{
    if (*lane->trouble)
        log_info("postgres: connection %u is up", lane->number);
    lane->trouble[0] = '\0';
    lane->state = LANE_IDLE;
    backoff_reset(&lane->backoff);
    lane->calls.ready(lane->calls.arg);
}

static void retry_later(struct lane *lane, const char *why, int64_t delay_ms)
{
    bool news = strcmp(lane->trouble, why) != 0;
    snprintf(lane->trouble, sizeof lane->trouble, "%s", why);
    if (news || log_limit_pass(&lane->trouble_limit, NULL))
        log_warn("postgres: connection %u: %s; next attempt in %" PRId64 ".%" PRId64 " s",
                 lane->number, why, delay_ms / 1000, delay_ms % 1000 / 100);
    lane->state = LANE_DOWN;
    lane->waiting = false;
    loop_timer_start(lane->timer, delay_ms);
}

static void end_raising(struct lane *lane)
{
    if (!lane->raising)
        return;
    lane->raising = lane->epoch->raising = false;
    lane->calls.epoch_changed(lane->calls.arg);
}

void lane_close(struct lane *lane, const char *why)
{
    lane_close_for(lane, why, backoff_next_ms(&lane->backoff));
}

void lane_close_for(struct lane *lane, const char *why, int64_t delay_ms)
{
    pg_disconnect(lane->pg);
    retry_later(lane, why, delay_ms);
}

// ---- opening ----

static void resolved(void *arg, const struct pg_result *result)
{
    struct lane *lane = arg;
    lane_check(lane, result);
    if (!result->ok || result->rows != 1)
        return;
    bool committed = pg_integer(result, 0, 0) >= lane->seq;
    struct batch *batch = lane->batch;
    lane->batch = NULL;
    lane->unresolved = false;
    log_info("postgres: connection %u: the transaction that was cut off (epoch %" PRId64
             ", seq %" PRId64 ") %s",
             lane->number, lane->sent_epoch, lane->seq,
             committed ? "had committed" : "had not committed and is sent again");
    if (committed) {
        lane->counters->resolved_committed++;
        lane->counters->commits++;
        lane->calls.committed(lane->calls.arg, batch);
    } else {
        lane->counters->resolved_repeated++;
        struct lane_failure failure = {.action = SQL_RETRY, .sqlstate = "", .message = ""};
        lane->calls.returned(lane->calls.arg, batch, &failure);
    }
}

static void resolve_synced(void *arg, const struct pg_result *result)
{
    (void)result;
    struct lane *lane = arg;
    if (lane->error.set)
        lane_close(lane, lane->error.message);
    else
        lane_now_idle(lane);
}

static void resolve(struct lane *lane)
{
    if (!lane->unresolved) {
        lane_now_idle(lane);
        return;
    }
    char epoch[24], number[16];
    snprintf(epoch, sizeof epoch, "%" PRId64, lane->sent_epoch);
    snprintf(number, sizeof number, "%u", lane->number);
    const char *const values[] = {lane->epoch->writer, epoch, number};
    const struct pg_params params = {.count = 3, .values = values};
    lane_error_reset(lane);
    if (pg_query(lane->pg, "SELECT sensorlog.committed($1::text, $2::int8, $3::int4)", &params,
                 resolved, lane))
        pg_sync(lane->pg, resolve_synced, lane);
}

static void terminated(void *arg, const struct pg_result *result)
{
    struct lane *lane = arg;
    for (int i = 0; result->ok && i < result->rows; i++)
        log_warn(
            "postgres: backend %s still held a transaction of writer \"%s\" and was told to end",
            pg_value(result, i, 0), lane->epoch->writer);
    lane_check(lane, result);
}

static void terminate_synced(void *arg, const struct pg_result *result)
{
    (void)result;
    struct lane *lane = arg;
    loop_timer_start(lane->timer, EPOCH_RETRY_MS);
}

// The old transaction's backend still runs, or is stopped: nothing may be judged before it has
// ended.
static void terminate_stale(struct lane *lane)
{
    char backends[512];
    lane->calls.backends(lane->calls.arg, backends, sizeof backends);
    const char *const values[] = {lane->epoch->writer, backends};
    const struct pg_params params = {.count = 2, .values = values};
    snprintf(lane->trouble, sizeof lane->trouble,
             "waiting for an earlier transaction of this writer to end");
    if (log_limit_pass(&lane->waiting_limit, NULL))
        log_warn("postgres: connection %u: %s", lane->number, lane->trouble);
    lane_error_reset(lane);
    if (pg_query(lane->pg, "SELECT * FROM sensorlog.terminate_stale($1::text, $2::int4[]) AS pid",
                 &params, terminated, lane))
        pg_sync(lane->pg, terminate_synced, lane);
}

static void raised(void *arg, const struct pg_result *result)
{
    struct lane *lane = arg;
    lane_check(lane, result);
    if (result->ok && result->rows == 1)
        lane->raised = pg_integer(result, 0, 0);
}

static void exchanges_loaded(void *arg, const struct pg_result *result)
{
    struct lane *lane = arg;
    lane_check(lane, result);
    for (int i = 0; result->ok && i < result->rows; i++)
        exchange_set_add(&lane->loaded, (uint64_t)pg_integer(result, i, 0),
                         (uint16_t)pg_integer(result, i, 1));
}

static void raise_rolled_back(void *arg, const struct pg_result *result)
{
    (void)result;
    struct lane *lane = arg;
    bool locked = strcmp(lane->error.sqlstate, "55P03") == 0;
    end_raising(lane);
    if (locked)
        terminate_stale(lane);
    else
        lane_close(lane, lane->error.message);
}

static void raise_synced(void *arg, const struct pg_result *result)
{
    (void)result;
    struct lane *lane = arg;
    if (lane->error.set) {
        if (pg_query(lane->pg, "ROLLBACK", NULL, NULL, NULL))
            pg_sync(lane->pg, raise_rolled_back, lane);
        return;
    }
    FAILPOINT("epoch");
    lane->epoch->current = lane->raised;
    log_info("postgres: writer \"%s\" is in epoch %" PRId64, lane->epoch->writer, lane->raised);
    if (lane->epoch->exchanges)
        lane->calls.exchanges(lane->calls.arg, &lane->loaded);
    end_raising(lane);
    resolve(lane);
}

// What is there now was not committed by a transaction that is still open, nor will one of the
// epochs before add to it; those of the new one begin when this one has ended.
static bool load_exchanges(struct lane *lane, const struct pg_params *params)
{
    exchange_set_fini(&lane->loaded);
    return !lane->epoch->exchanges ||
           pg_query(lane->pg, sql_load_exchanges(), params, exchanges_loaded, lane);
}

// The UPDATE waits for the lock of a transaction of the epoch before; after it that transaction has
// committed or never will.
static void open_epoch(struct lane *lane)
{
    if (lane->epoch->current != 0 && !lane->unresolved) {
        lane_now_idle(lane);
        return;
    }
    if (lane->epoch->raising) {
        lane->waiting = true; // lane_epoch_changed goes on
        return;
    }
    const char *const values[] = {lane->epoch->writer};
    const struct pg_params params = {.count = 1, .values = values};
    lane->raising = lane->epoch->raising = true;
    lane->raised = 0;
    lane_error_reset(lane);
    if (pg_query(lane->pg, LANE_BEGIN_SQL, NULL, lane_check, lane) &&
        pg_query(lane->pg, "SET LOCAL lock_timeout = '2s'", NULL, lane_check, lane) &&
        pg_query(lane->pg, "SELECT sensorlog.raise_epoch($1::text)", &params, raised, lane) &&
        load_exchanges(lane, &params) && pg_query(lane->pg, "COMMIT", NULL, lane_check, lane))
        pg_sync(lane->pg, raise_synced, lane);
}

void lane_epoch_changed(struct lane *lane)
{
    bool unserved = lane->state == LANE_IDLE && lane->epoch->current == 0;
    if (lane->epoch->raising || !(lane->waiting || unserved))
        return;
    lane->waiting = false;
    lane->state = LANE_OPENING;
    open_epoch(lane);
}

static void attach_synced(void *arg, const struct pg_result *result)
{
    (void)result;
    struct lane *lane = arg;
    if (!lane->error.set) {
        open_epoch(lane);
        return;
    }
    const char *sqlstate = lane->error.sqlstate;
    bool gone = strncmp(sqlstate, "42", 2) == 0 || strncmp(sqlstate, "3F", 2) == 0;
    lane_close(lane, lane->error.message);
    if (gone)
        lane->calls.schema_gone(lane->calls.arg);
}

// A COMMIT that does not wait for the disk would break the promise of the acknowledgement.
static const char switch_durable[] =
    "SELECT pg_catalog.set_config('synchronous_commit', 'on', false)"
    " WHERE pg_catalog.current_setting('synchronous_commit') = 'off'";

static void made_durable(void *arg, const struct pg_result *result)
{
    struct lane *lane = arg;
    lane_check(lane, result);
    if (result->ok && result->rows > 0 && lane->number == 0 && !lane->durable_said) {
        log_warn("postgres: synchronous_commit is off here; sensorlogd's connections switch it on, "
                 "since an acknowledged reading must survive a crash");
        lane->durable_said = true;
    }
}

static bool prepare(struct lane *lane, const char *name, const char *sql)
{
    static const struct pg_params untyped = {.count = 0};
    return pg_prepare(lane->pg, name, sql, &untyped, lane_check, lane);
}

static void now_up(void *arg)
{
    static const char advance_sql[] =
        "SELECT sensorlog.advance($1::text, $2::int8, $3::int4, $4::int8)";
    struct lane *lane = arg;
    const char *const values[] = {lane->epoch->writer};
    const struct pg_params params = {.count = 1, .values = values};
    lane->state = LANE_OPENING;
    memset(lane->extras, 0, sizeof lane->extras);
    if (lane->statement_count > 0)
        memset(lane->statements, 0, lane->statement_count * sizeof *lane->statements);
    lane_error_reset(lane);
    // The statements' arrays are of any length; planning anew for each would cost more than it
    // gains.
    if (pg_query(lane->pg, "SET plan_cache_mode = force_generic_plan", NULL, lane_check, lane) &&
        pg_query(lane->pg, "SET statement_timeout = 0", NULL, lane_check, lane) &&
        pg_query(lane->pg, "SET default_transaction_read_only = off", NULL, lane_check, lane) &&
        pg_query(lane->pg, switch_durable, NULL, made_durable, lane) &&
        pg_sync(lane->pg, NULL, NULL) && // the settings are for the transactions from here on
        pg_query(lane->pg, "SELECT sensorlog.attach($1::text)", &params, lane_check, lane) &&
        prepare(lane, LANE_BEGIN, LANE_BEGIN_SQL) && prepare(lane, LANE_ADVANCE, advance_sql) &&
        prepare(lane, LANE_COMMIT, "COMMIT"))
        pg_sync(lane->pg, attach_synced, lane);
}

static void now_down(void *arg, const char *why)
{
    struct lane *lane = arg;
    if (lane->batch)
        lane->unresolved = true;
    retry_later(lane, why, backoff_next_ms(&lane->backoff));
    if (lane->raising)
        lane->epoch->current = 0; // it may have been raised, and to what was not heard
    end_raising(lane);
    lane->calls.gone(lane->calls.arg);
}

static void timer_due(void *arg)
{
    struct lane *lane = arg;
    if (lane->state == LANE_OPENING) {
        open_epoch(lane);
        return;
    }
    lane->state = LANE_CONNECTING;
    pg_connect(lane->pg);
}

// ---- life ----

struct lane *lane_new(struct loop *loop, struct worker *worker, unsigned number,
                      const char *conninfo, struct lane_epoch *epoch,
                      struct lane_counters *counters, const struct lane_calls *calls)
{
    struct lane *lane = mem_zalloc(sizeof *lane);
    lane->number = number;
    lane->epoch = epoch;
    lane->counters = counters;
    lane->calls = *calls;
    lane->backoff = (struct backoff){.minimum_ms = BACKOFF_MIN_MS, .maximum_ms = BACKOFF_MAX_MS};
    lane->trouble_limit.interval_ms = lane->waiting_limit.interval_ms = REPEAT_LOG_MS;
    lane->timer = loop_timer_new(loop, timer_due, lane);
    const struct pg_calls pg_calls = {.up = now_up, .down = now_down, .arg = lane};
    lane->pg = pg_new(loop, worker, conninfo, "sensorlogd", true, &pg_calls);
    snprintf(lane->trouble, sizeof lane->trouble, "not connected yet");
    sql_params_init(&lane->params);
    return lane;
}

void lane_free(struct lane *lane)
{
    if (!lane)
        return;
    pg_free(lane->pg);
    loop_timer_free(lane->timer);
    if (lane->batch) {
        batch_abandon(lane->batch);
        batch_free(lane->batch);
    }
    sql_params_fini(&lane->params);
    exchange_set_fini(&lane->loaded);
    free(lane->statements);
    free(lane->ranges);
    free(lane);
}

void lane_start(struct lane *lane)
{
    lane->state = LANE_CONNECTING;
    pg_connect(lane->pg);
}

bool lane_idle(const struct lane *lane)
{
    return lane->state == LANE_IDLE;
}

bool lane_usable(const struct lane *lane)
{
    return lane->state >= LANE_IDLE;
}

struct batch *lane_batch(const struct lane *lane)
{
    return lane->batch;
}

int lane_backend(const struct lane *lane)
{
    return pg_backend_pid(lane->pg);
}

bool lane_unresolved(const struct lane *lane)
{
    return lane->unresolved;
}

const char *lane_trouble(const struct lane *lane)
{
    return lane->trouble;
}
