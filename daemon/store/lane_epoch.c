// What a lane sees to between attaching and serving: it raises the epoch where that is due,
// resolves what is ambiguous, and asks what the spool has to know.
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/failpoint.h"
#include "spool/spool_file.h"
#include "store/lane_internal.h"

enum { EPOCH_RETRY_MS = 1000 };

static void end_raising(struct lane *lane)
{
    if (!lane->raising)
        return;
    lane->raising = lane->epoch->raising = false;
    lane->calls.epoch_changed(lane->calls.arg);
}

static void end_asking(struct lane *lane)
{
    if (!lane->asking)
        return;
    lane->asking = lane->epoch->asking = false;
    lane->calls.epoch_changed(lane->calls.arg);
}

void lane_leave_epoch(struct lane *lane)
{
    if (lane->raising)
        lane->epoch->current = 0; // it may have been raised, and to what was not heard
    end_raising(lane);
    end_asking(lane);
}

// ---- what the spool has to know ----

static void ask(struct lane *lane);

static bool ask_committed(struct lane *lane, const char *writer, int64_t epoch, unsigned number,
                          pg_result_fn *answered)
{
    char epoch_text[24], number_text[16];
    snprintf(epoch_text, sizeof epoch_text, "%" PRId64, epoch);
    snprintf(number_text, sizeof number_text, "%u", number);
    const char *const values[] = {writer, epoch_text, number_text};
    const struct pg_params params = {.count = 3, .values = values};
    return pg_query(lane->pg, "SELECT sensorlog.committed($1::text, $2::int8, $3::int4)", &params,
                    answered, lane);
}

static void note_answer(void *arg, const struct pg_result *result)
{
    struct lane *lane = arg;
    lane_check(lane, result);
    if (result->ok && result->rows == 1)
        lane->answer = pg_integer(result, 0, 0);
}

// Since it was asked there may be more to decide, for which the epoch must be raised first.
static bool asked_in_vain(struct lane *lane)
{
    if (lane->error.set) {
        lane_close(lane, lane->error.message);
        return true;
    }
    if (lane->epoch->current != 0)
        return false;
    end_asking(lane);
    lane_open_epoch(lane);
    return true;
}

static void doubt_synced(void *arg, const struct pg_result *result)
{
    (void)result;
    struct lane *lane = arg;
    if (asked_in_vain(lane))
        return;
    FAILPOINT("resolve");
    lane->calls.resolved(lane->calls.arg, lane->doubt, lane->answer >= lane->doubt_seq);
    ask(lane);
}

// The writer had another name then: its old transactions must have ended too.
static bool raise_other(struct lane *lane, const char *writer)
{
    const char *const values[] = {writer};
    const struct pg_params params = {.count = 1, .values = values};
    return pg_query(lane->pg, LANE_BEGIN_SQL, NULL, lane_check, lane) &&
           pg_query(lane->pg, "SET LOCAL lock_timeout = '2s'", NULL, lane_check, lane) &&
           pg_query(lane->pg, "SELECT sensorlog.raise_epoch($1::text)", &params, lane_check,
                    lane) &&
           pg_query(lane->pg, "COMMIT", NULL, lane_check, lane);
}

static void ask_doubt(struct lane *lane, const struct spool_doubt *doubt)
{
    bool is_other = strcmp(doubt->writer, lane->epoch->writer) != 0;
    lane->doubt = doubt->id;
    lane->doubt_seq = doubt->seq;
    if ((!is_other || raise_other(lane, doubt->writer)) &&
        ask_committed(lane, doubt->writer, doubt->epoch, doubt->lane, note_answer))
        pg_sync(lane->pg, doubt_synced, lane);
}

static void position_synced(void *arg, const struct pg_result *result)
{
    (void)result;
    struct lane *lane = arg;
    if (asked_in_vain(lane))
        return;
    lane->epoch->unasked = false;
    end_asking(lane);
    lane->calls.position(lane->calls.arg, lane->answer);
    lane_now_idle(lane);
}

static void ask_position(struct lane *lane)
{
    const char *const values[] = {lane->epoch->spool};
    const struct pg_params params = {.count = 1, .values = values};
    if (pg_query(lane->pg, "SELECT sensorlog.spool_position($1::text)", &params, note_answer, lane))
        pg_sync(lane->pg, position_synced, lane);
}

// The answers are final, since the epoch has been raised after all that they are about.
static void ask(struct lane *lane)
{
    struct lane_epoch *epoch = lane->epoch;
    const struct spool_doubt *doubts;
    if (epoch->current == 0) {
        lane_open_epoch(lane);
        return;
    }
    if (!epoch->unasked || (epoch->asking && !lane->asking)) {
        lane_now_idle(lane);
        return;
    }
    lane->asking = epoch->asking = true;
    lane->answer = 0;
    lane_error_reset(lane);
    if (spool_file_doubts(epoch->file, &doubts) > 0)
        ask_doubt(lane, &doubts[0]);
    else
        ask_position(lane);
}

// ---- the lane's own transaction ----

static void resolved(void *arg, const struct pg_result *result)
{
    struct lane *lane = arg;
    lane_check(lane, result);
    if (!result->ok || result->rows != 1 || !lane->unresolved)
        return; // not known, or the spool has it by now
    bool committed = pg_integer(result, 0, 0) >= lane->seq;
    FAILPOINT("resolve");
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
        batch_judge_again(batch);
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
        ask(lane);
}

static void resolve(struct lane *lane)
{
    if (!lane->unresolved) {
        ask(lane);
        return;
    }
    lane_error_reset(lane);
    if (ask_committed(lane, lane->epoch->writer, lane->sent_epoch, lane->number, resolved))
        pg_sync(lane->pg, resolve_synced, lane);
}

// ---- the epoch ----

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
    if (log_limit_pass(&lane->waiting_limit, NULL)) {
        log_warn("postgres: connection %u: %s", lane->number, lane->trouble);
        lane->said = true;
    }
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
                         (uint16_t)pg_integer(result, i, 1))
            ->content = (uint64_t)pg_integer(result, i, 2);
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
    if (lane->epoch->again) {
        end_raising(lane);
        lane_open_epoch(lane);
        return;
    }
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
void lane_open_epoch(struct lane *lane)
{
    if (lane->epoch->current != 0 && !lane->unresolved) {
        ask(lane);
        return;
    }
    if (lane->epoch->raising) {
        lane->waiting = true; // lane_epoch_changed goes on
        return;
    }
    const char *const values[] = {lane->epoch->writer};
    const struct pg_params params = {.count = 1, .values = values};
    lane->raising = lane->epoch->raising = true;
    lane->epoch->again = false;
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
    const struct lane_epoch *epoch = lane->epoch;
    bool is_due = epoch->current == 0 || (epoch->unasked && !epoch->asking);
    bool unserved = lane->state == LANE_IDLE && is_due;
    if (epoch->raising || !(lane->waiting || unserved))
        return;
    lane->waiting = false;
    lane->state = LANE_OPENING;
    lane_open_epoch(lane);
}
