// A lane's transactions, mostly sent in one go, and what follows where one fails.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/failpoint.h"
#include "base/mem.h"
#include "store/lane_internal.h"

enum {
    RETRIES_AT_ONCE = 5,
    PARTITION_TRIES = 2,
    CORRUPT_TRIES = 4,
    FENCED_MS = 10000,
    WAIT_MIN_MS = 100,
    WAIT_MAX_MS = 15000,
};

// ---- the end of a transaction ----

static void batch_committed(struct lane *lane)
{
    struct batch *batch = lane->batch;
    FAILPOINT("committed");
    lane->batch = NULL;
    lane->counters->commits++;
    lane->state = LANE_IDLE;
    if (lane->refused)
        lane_well(lane);
    // The server gets its next work before the messages of this one are let go.
    lane->calls.ready(lane->calls.arg);
    lane->calls.committed(lane->calls.arg, batch);
}

static void give_back(struct lane *lane, enum sql_action action)
{
    struct batch *batch = lane->batch;
    struct lane_failure failure = {
        .action = action,
        .target = lane->error.group ? lane->error.group->target : NULL,
        .sqlstate = lane->error.sqlstate,
        .message = lane->error.message,
    };
    batch_judge_again(batch);
    lane->batch = NULL;
    lane->calls.returned(lane->calls.arg, batch, &failure);
}

bool lane_may_partition(const struct lane *lane)
{
    return lane->batch->partition_tries < PARTITION_TRIES;
}

// Where looking for partitions does not help, the row fits none: a table that is partitioned in
// another way.
enum sql_action lane_action(const struct lane *lane)
{
    enum sql_action action = sql_action_of(lane->error.sqlstate, lane->error.constraint);
    if (action == SQL_PARTITION && !lane_may_partition(lane))
        return SQL_ISOLATE;
    // A table that is corrupt stays so; the others' rows must not wait for its mending.
    bool corrupt = strncmp(lane->error.sqlstate, "XX", 2) == 0;
    if (corrupt && lane->error.group && lane->batch->attempts > CORRUPT_TRIES)
        return SQL_STOP;
    return action;
}

// A row is there already, or so it seems, and its statement did not expect it.
static bool was_trusting(const struct lane *lane)
{
    const struct batch_group *group = lane->error.group;
    return group && group->target->key_count > 0 && strcmp(lane->error.sqlstate, "23505") == 0 &&
           !lane->statements[group->target->index].keyed;
}

// An error of our own statements is no mapping's fault: wait for whoever can mend it.
static enum sql_action action_of(const struct lane *lane)
{
    enum sql_action action = lane_action(lane);
    if (was_trusting(lane)) {
        lane->error.group->target->trust = -LANE_WARY_BATCHES;
        return SQL_RETRY;
    }
    // A deferred constraint does not say whose row, or which table's trigger, it means.
    bool at_fault = action == SQL_ISOLATE || action == SQL_STOP || action == SQL_PARTITION;
    if (lane->error.late && at_fault && !lane->isolation.late)
        return SQL_ISOLATE;
    if (at_fault && action != SQL_ISOLATE && !lane->error.group)
        return SQL_WAIT;
    if (action == SQL_RETRY && lane->batch->attempts > RETRIES_AT_ONCE)
        return SQL_WAIT;
    if (action == SQL_SPLIT && !batch_may_split(lane->batch))
        return SQL_WAIT;
    // Where isolating itself fails there is no row to blame.
    if (action == SQL_ISOLATE && lane->isolation.on)
        return SQL_WAIT;
    // An epoch that this daemon has ended itself, to resolve another lane's transaction.
    if (action == SQL_FENCED && (lane->sent_epoch != lane->epoch->current || lane->epoch->raising))
        return SQL_RETRY;
    return action;
}

// Another process has raised the epoch: two daemons have the same name.
static void fenced(struct lane *lane)
{
    log_error(
        "postgres: another sensorlogd uses the writer name \"%s\" and has taken over; give each "
        "daemon a [postgres] writer of its own",
        lane->epoch->writer);
    lane->epoch->current = 0;
    lane_close_for(lane, "another daemon uses this writer name", FENCED_MS);
}

// Whoever reads this can mend it.
static void say_too_large(struct lane *lane)
{
    char *message = lane->error.message;
    size_t used = strlen(message);
    snprintf(message + used, sizeof lane->error.message - used,
             "; not even one message fits: raise PostgreSQL's max_locks_per_transaction");
}

// The connection comes up each time, so its own back-off does not grow: what the batch waits for is
// something else.
static int64_t wait_ms(const struct batch *batch)
{
    int64_t wait = (int64_t)WAIT_MIN_MS << (batch->attempts < 10 ? batch->attempts : 10);
    return wait < WAIT_MAX_MS ? wait : WAIT_MAX_MS;
}

static void rolled_back(void *arg, const struct pg_result *result)
{
    (void)result;
    struct lane *lane = arg;
    enum sql_action action = action_of(lane);
    lane->counters->failures++;
    switch (action) {
    case SQL_ISOLATE:
        lane_isolate(lane);
        return;
    case SQL_FENCED:
        fenced(lane);
        give_back(lane, action);
        return;
    case SQL_WAIT:
        if (lane_action(lane) == SQL_SPLIT)
            say_too_large(lane);
        // Closed first: what the writer does next must not find this lane idle. A new session also
        // sheds what may be wrong with the old one.
        lane->refused = true;
        lane_close_for(lane, lane->error.message, wait_ms(lane->batch));
        give_back(lane, action);
        return;
    case SQL_TAKEN:
        // What is stored is looked up anew, with a new epoch.
        lane->epoch->current = 0;
        give_back(lane, action);
        lane_now_idle(lane);
        lane_epoch_changed(lane);
        return;
    case SQL_PARTITION:
        lane->batch->partition_tries++;
        // fall through
    case SQL_RETRY:
    case SQL_SPLIT:
    case SQL_STOP:
        give_back(lane, action);
        lane_now_idle(lane);
        return;
    }
}

void lane_roll_back(struct lane *lane)
{
    lane->state = LANE_ROLLING_BACK;
    if (pg_query(lane->pg, "ROLLBACK", NULL, NULL, NULL))
        pg_sync(lane->pg, rolled_back, lane);
}

void lane_transaction_synced(void *arg, const struct pg_result *result)
{
    (void)result;
    struct lane *lane = arg;
    if (lane->committed) {
        batch_committed(lane);
        return;
    }
    if (!lane->error.set) {
        lane->error = (struct lane_error){.set = true, .sqlstate = "25P02"};
        snprintf(lane->error.message, sizeof lane->error.message, "COMMIT did not commit");
    }
    lane_roll_back(lane);
}

static void rows_synced(void *arg, const struct pg_result *result)
{
    (void)result;
    struct lane *lane = arg;
    if (lane->error.set)
        lane_roll_back(lane);
    else
        lane_finish(lane);
}

static void reserve_statements(struct lane *lane, size_t count)
{
    if (count <= lane->statement_count)
        return;
    lane->statements = mem_realloc(lane->statements, count, sizeof *lane->statements);
    memset(lane->statements + lane->statement_count, 0,
           (count - lane->statement_count) * sizeof *lane->statements);
    lane->statement_count = count;
}

// COMMIT goes with the rows, unless what becomes of some is known only when they are in.
void lane_commit(struct lane *lane, struct batch *batch)
{
    FAILPOINT("batch");
    lane->batch = batch;
    lane->state = LANE_COMMITTING;
    lane->isolation = (struct isolation){0};
    lane->seq++;
    lane->sent_epoch = lane->epoch->current;
    batch->attempts++;
    batch_reset_outcomes(batch);
    reserve_statements(lane, batch->group_count);
    lane_error_reset(lane);
    lane_send_begin(lane);
    for (size_t i = 0; i < batch->group_count; i++)
        if (batch->groups[i].count > 0)
            lane_send_rows(lane, &batch->groups[i], 0, batch->groups[i].count);
    if (lane_may_conflict(lane))
        pg_sync(lane->pg, rows_synced, lane);
    else
        lane_send_commit(lane, lane_transaction_synced);
}
