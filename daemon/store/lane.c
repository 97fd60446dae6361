// The life of a lane: connect, attach, see to the epoch, serve.
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
    REPEAT_LOG_MS = 60000,
};

void lane_well(struct lane *lane)
{
    if (lane->said)
        log_info("postgres: connection %u is up", lane->number);
    lane->said = lane->refused = false;
    lane->trouble[0] = '\0';
}

// Where the last transaction was refused, only the next one shows whether it can be used.
void lane_now_idle(struct lane *lane)
{
    if (!lane->refused)
        lane_well(lane);
    lane->state = LANE_IDLE;
    backoff_reset(&lane->backoff);
    lane->calls.ready(lane->calls.arg);
}

static void retry_later(struct lane *lane, const char *why, int64_t delay_ms)
{
    snprintf(lane->trouble, sizeof lane->trouble, "%s", why);
    if (log_cause_pass(&lane->causes, why, NULL)) {
        log_warn("postgres: connection %u: %s; next attempt in %" PRId64 ".%" PRId64 " s",
                 lane->number, why, delay_ms / 1000, delay_ms % 1000 / 100);
        lane->said = true;
    }
    lane->state = LANE_DOWN;
    lane->waiting = false;
    loop_timer_start(lane->timer, delay_ms);
}

void lane_close(struct lane *lane, const char *why)
{
    lane_close_for(lane, why, backoff_next_ms(&lane->backoff));
}

void lane_close_for(struct lane *lane, const char *why, int64_t delay_ms)
{
    pg_disconnect(lane->pg);
    retry_later(lane, why, delay_ms);
    lane_leave_epoch(lane);
    lane->calls.gone(lane->calls.arg);
}

// ---- opening ----

static void attach_synced(void *arg, const struct pg_result *result)
{
    (void)result;
    struct lane *lane = arg;
    if (!lane->error.set) {
        lane_open_epoch(lane);
        return;
    }
    const char *sqlstate = lane->error.sqlstate;
    bool gone = strncmp(sqlstate, "42", 2) == 0 || strncmp(sqlstate, "3F", 2) == 0;
    lane_close(lane, lane->error.message);
    if (gone)
        lane->calls.schema_gone(lane->calls.arg);
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
    if (lane_look(lane) &&
        pg_query(lane->pg, "SET plan_cache_mode = force_generic_plan", NULL, lane_check, lane) &&
        pg_query(lane->pg, "SET statement_timeout = 0", NULL, lane_check, lane) &&
        pg_query(lane->pg, "SET default_transaction_read_only = off", NULL, lane_check, lane) &&
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
    lane_leave_epoch(lane);
    lane->calls.gone(lane->calls.arg);
}

void lane_give_up(struct lane *lane, const char *why)
{
    if (!lane_usable(lane))
        return;
    pg_disconnect(lane->pg);
    now_down(lane, why);
}

static void timer_due(void *arg)
{
    struct lane *lane = arg;
    if (lane->state == LANE_OPENING) {
        lane_open_epoch(lane);
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
    lane->causes.interval_ms = lane->waiting_limit.interval_ms = REPEAT_LOG_MS;
    lane->timer = loop_timer_new(loop, timer_due, lane);
    const struct pg_calls pg_calls = {.up = now_up, .down = now_down, .arg = lane};
    lane->pg = pg_new(loop, worker, conninfo, "sensorlogd", true, &pg_calls);
    snprintf(lane->trouble, sizeof lane->trouble, "not connected yet");
    lane->said = true;
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

struct batch *lane_take_unresolved(struct lane *lane, struct lane_doubt *doubt)
{
    struct batch *batch = lane->unresolved ? lane->batch : NULL;
    if (!batch)
        return NULL;
    *doubt = (struct lane_doubt){lane->sent_epoch, lane->seq, lane->number};
    lane->batch = NULL;
    lane->unresolved = false;
    return batch;
}

const char *lane_trouble(const struct lane *lane)
{
    return lane->trouble;
}
