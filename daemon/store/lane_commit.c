// A lane's transactions: BEGIN, the progress row, the rows of each mapping, the rejects, COMMIT; in
// one go.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/failpoint.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "store/lane_internal.h"

enum {
    RETRIES_AT_ONCE = 5,
    PARTITION_TRIES = 2,
    CORRUPT_TRIES = 4,
    FENCED_MS = 10000,
    WAIT_MIN_MS = 100,
    WAIT_MAX_MS = 15000,
    NAME_SIZE = 32,     // of a prepared statement
    WARY_BATCHES = 256, // after rows that were there already
    TRUST_BATCHES = 256,
};

// ---- results ----

void lane_error_reset(struct lane *lane)
{
    lane->error.set = false;
    lane->error.group = NULL;
    lane->committed = false;
}

void lane_note(struct lane *lane, struct batch_group *group, const struct pg_result *result)
{
    struct lane_error *error = &lane->error;
    if (result->ok || result->skipped || error->set)
        return;
    error->set = true;
    error->group = group;
    snprintf(error->sqlstate, sizeof error->sqlstate, "%s", result->sqlstate);
    snprintf(error->message, sizeof error->message, "%s%s%s", result->message,
             *result->detail ? ": " : "", result->detail);
    // It goes into the reject table: it must not end within a character.
    error->message[utf8_span(error->message, strlen(error->message))] = '\0';
    snprintf(error->constraint, sizeof error->constraint, "%s", result->constraint);
}

void lane_check(void *arg, const struct pg_result *result)
{
    lane_note(arg, NULL, result);
}

static void rows_prepared(void *arg, const struct pg_result *result)
{
    struct lane_statement *statement = arg;
    statement->prepared[statement->keyed] = result->ok;
    lane_note(statement->lane, statement->group, result);
}

static void extra_prepared(void *arg, const struct pg_result *result)
{
    struct lane_extra *extra = arg;
    extra->prepared = result->ok;
    lane_check(extra->lane, result);
}

// Nor would it be seen otherwise that the key's index is gone, so now and then it is asked.
static void note_duplicates(struct target *target, bool found)
{
    if (found)
        target->trust = -WARY_BATCHES;
    else if (++target->trust > 0)
        target->trust = TRUST_BATCHES;
}

// The ordinals that come back, in order, are those of rows that were there already; refused rows
// were not sent and have no ordinal.
static void rows_inserted(void *arg, const struct pg_result *result)
{
    struct lane_statement *statement = arg;
    struct batch_group *group = statement->group;
    lane_note(statement->lane, group, result);
    if (!result->ok)
        return;
    if (statement->keyed)
        note_duplicates(group->target, result->rows > 0);
    int64_t ordinal = 0;
    int next = 0;
    for (size_t row = statement->first; row < statement->last && next < result->rows; row++) {
        if (group->outcomes[row] == VERDICT_REJECTED || ++ordinal != pg_integer(result, next, 0))
            continue;
        group->outcomes[row] = VERDICT_DEDUPLICATED;
        next++;
    }
}

// COMMIT of a transaction that has failed answers ROLLBACK, and that is no error.
static void commit_answered(void *arg, const struct pg_result *result)
{
    struct lane *lane = arg;
    lane_check(lane, result);
    lane->committed = result->ok && strcmp(result->tag, "COMMIT") == 0;
}

// ---- sending; where a call fails the connection is lost, and the loop tells ----

void lane_send_begin(struct lane *lane)
{
    char epoch[24], number[16], seq[24];
    snprintf(epoch, sizeof epoch, "%" PRId64, lane->sent_epoch);
    snprintf(number, sizeof number, "%u", lane->number);
    snprintf(seq, sizeof seq, "%" PRId64, lane->seq);
    const char *const values[] = {lane->epoch->writer, epoch, number, seq};
    const struct pg_params params = {.count = 4, .values = values};
    static const struct pg_params none = {.count = 0};
    if (pg_execute(lane->pg, LANE_BEGIN, &none, lane_check, lane))
        pg_execute(lane->pg, LANE_ADVANCE, &params, lane_check, lane);
}

static void put_name(char name[NAME_SIZE], unsigned index, unsigned serial, bool keyed)
{
    snprintf(name, NAME_SIZE, "%c%u_%u", keyed ? 'k' : 'm', index, serial);
}

// The target that had the index before is gone, and with it its statements.
static void leave_statement(struct lane *lane, struct lane_statement *statement, unsigned index)
{
    char name[NAME_SIZE], sql[NAME_SIZE + 16];
    for (int keyed = 0; keyed < 2; keyed++) {
        put_name(name, index, statement->serial, keyed);
        snprintf(sql, sizeof sql, "DEALLOCATE %s", name);
        if (statement->prepared[keyed])
            pg_query(lane->pg, sql, NULL, lane_check, lane);
        statement->prepared[keyed] = false;
    }
}

// Rows that are there already are rare, and looking for them costs as much as the rest: that there
// are none is taken for granted as long as nothing speaks against it. Where that is wrong the
// transaction fails, and is sent again as keyed.
static bool is_keyed(const struct lane *lane, const struct target *target)
{
    const struct batch *batch = lane->batch;
    return target->key_count > 0 &&
           (target->trust <= 0 || batch->repeated || batch->attempts > 1 || lane->isolated);
}

static bool prepare_rows(struct lane *lane, struct lane_statement *statement, const char *name)
{
    const struct target *target = statement->group->target;
    char *sql = sql_insert(target, statement->keyed);
    sql_encode_types(&lane->params, target, statement->keyed);
    bool sent = pg_prepare(lane->pg, name, sql, &lane->params.params, rows_prepared, statement);
    free(sql);
    return sent;
}

void lane_send_rows(struct lane *lane, struct batch_group *group, size_t first, size_t last)
{
    unsigned index = group->target->index, serial = group->target->serial;
    struct lane_statement *statement = &lane->statements[index];
    if (group->refused == group->count) // not even prepared: the table may be gone
        return;
    if (statement->serial != serial)
        leave_statement(lane, statement, index);
    statement->serial = serial;
    statement->lane = lane;
    statement->group = group;
    statement->first = first;
    statement->last = last;
    statement->keyed = is_keyed(lane, group->target);
    if (!statement->keyed)
        group->target->trust--;
    char name[NAME_SIZE];
    put_name(name, index, serial, statement->keyed);
    if (!statement->prepared[statement->keyed] && !prepare_rows(lane, statement, name))
        return;
    if (sql_encode_rows(&lane->params, group, first, last, statement->keyed) > 0)
        pg_execute(lane->pg, name, &lane->params.params, rows_inserted, statement);
}

// With the types in lane->params. False where the connection is lost.
static bool prepare_extra(struct lane *lane, struct lane_extra *extra, const char *name,
                          const char *sql)
{
    extra->lane = lane;
    return pg_prepare(lane->pg, name, sql, &lane->params.params, extra_prepared, extra);
}

static bool send_rejects(struct lane *lane)
{
    static const char name[] = "reject";
    struct lane_extra *extra = &lane->extras[LANE_REJECTS];
    if (lane->batch->reject_count == 0)
        return true;
    sql_encode_reject_types(&lane->params);
    if (!extra->prepared && !prepare_extra(lane, extra, name, sql_insert_rejects()))
        return false;
    sql_encode_rejects(&lane->params, lane->batch);
    return pg_execute(lane->pg, name, &lane->params.params, lane_check, lane);
}

static bool send_exchanges(struct lane *lane, bool forget)
{
    const struct batch *batch = lane->batch;
    struct lane_extra *extra = &lane->extras[forget ? LANE_FORGET : LANE_STORE];
    const char *name = forget ? "forget" : "store";
    if (batch->forget_count == (forget ? 0 : batch->exchange_count))
        return true;
    sql_encode_exchange_types(&lane->params);
    if (!extra->prepared && !prepare_extra(lane, extra, name, sql_exchanges(forget)))
        return false;
    sql_encode_exchanges(&lane->params, batch, lane->epoch->writer, forget);
    return pg_execute(lane->pg, name, &lane->params.params, lane_check, lane);
}

// What the batch was made of is gone with its commit, and nobody else has had it.
static bool send_entries(struct lane *lane)
{
    const struct batch *batch = lane->batch;
    if (batch->spool_to > 0) {
        sql_encode_spool(&lane->params, batch, lane->epoch->spool);
        if ((!lane->extras[LANE_SPOOL].prepared &&
             !prepare_extra(lane, &lane->extras[LANE_SPOOL], "spool", sql_advance_spool())) ||
            !pg_execute(lane->pg, "spool", &lane->params.params, lane_check, lane))
            return false;
    }
    if (batch->taken_count > 0) {
        sql_encode_taken(&lane->params, batch);
        if ((!lane->extras[LANE_TAKE].prepared &&
             !prepare_extra(lane, &lane->extras[LANE_TAKE], "take", sql_take_rejects())) ||
            !pg_execute(lane->pg, "take", &lane->params.params, lane_check, lane))
            return false;
    }
    return true;
}

// An identifier that is forgotten may be in use again: deletes come before inserts.
void lane_send_commit(struct lane *lane, pg_result_fn *synced)
{
    static const struct pg_params none = {.count = 0};
    if (send_entries(lane) && send_rejects(lane) && send_exchanges(lane, true) &&
        send_exchanges(lane, false) &&
        pg_execute(lane->pg, LANE_COMMIT, &none, commit_answered, lane))
        pg_sync(lane->pg, synced, lane);
}

// ---- the end of a transaction ----

void lane_batch_committed(struct lane *lane)
{
    struct batch *batch = lane->batch;
    FAILPOINT("committed");
    lane->batch = NULL;
    lane->counters->commits++;
    lane->state = LANE_IDLE;
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
    lane->batch = NULL;
    lane->calls.returned(lane->calls.arg, batch, &failure);
}

// Where looking for partitions does not help, the row fits none: a table that is partitioned in
// another way.
enum sql_action lane_action(const struct lane *lane)
{
    enum sql_action action = sql_action_of(lane->error.sqlstate, lane->error.constraint);
    bool tried = lane->batch->partition_tries >= PARTITION_TRIES;
    if (action == SQL_PARTITION && tried)
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
        lane->error.group->target->trust = -WARY_BATCHES;
        return SQL_RETRY;
    }
    bool needs_group = action == SQL_STOP || action == SQL_PARTITION;
    if (needs_group && !lane->error.group)
        return SQL_WAIT;
    if (action == SQL_RETRY && lane->batch->attempts > RETRIES_AT_ONCE)
        return SQL_WAIT;
    // Where bisecting itself fails there is no row to blame.
    if (action == SQL_ISOLATE && lane->isolated)
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
        // Closed first: what the writer does next must not find this lane idle. A new session also
        // sheds what may be wrong with the old one.
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

static void transaction_synced(void *arg, const struct pg_result *result)
{
    (void)result;
    struct lane *lane = arg;
    if (lane->committed) {
        lane_batch_committed(lane);
        return;
    }
    if (!lane->error.set) {
        lane->error = (struct lane_error){.set = true, .sqlstate = "25P02"};
        snprintf(lane->error.message, sizeof lane->error.message, "COMMIT did not commit");
    }
    lane_roll_back(lane);
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

void lane_commit(struct lane *lane, struct batch *batch)
{
    FAILPOINT("batch");
    lane->batch = batch;
    lane->state = LANE_COMMITTING;
    lane->isolated = false;
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
    lane_send_commit(lane, transaction_synced);
    FAILPOINT("sent");
}
