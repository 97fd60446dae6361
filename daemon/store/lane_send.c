// A lane's statements: BEGIN, the progress row, the rows of each mapping, what goes with them,
// COMMIT.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/failpoint.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "store/lane_internal.h"
#include "store/sql_text.h"

enum {
    NAME_SIZE = 48,      // of a prepared statement
    TRUST_BATCHES = 256, // after batches without rows that were there already
};

// ---- results ----

void lane_error_reset(struct lane *lane)
{
    lane->error.set = lane->error.late = false;
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
    snprintf(error->column, sizeof error->column, "%s", result->column);
}

void lane_check(void *arg, const struct pg_result *result)
{
    struct lane *lane = arg;
    struct lane_error *error = &lane->error;
    bool before = error->set;
    lane_note(lane, NULL, result);
    if (before || !error->set || strcmp(error->sqlstate, "42501") != 0)
        return;
    size_t used = strlen(error->message);
    snprintf(error->message + used, sizeof error->message - used,
             "; GRANT it to this role: see sql/README.md, Roles");
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
        target->trust = -LANE_WARY_BATCHES;
    else if (++target->trust > 0)
        target->trust = TRUST_BATCHES;
}

// The ordinals that come back, in order, are those of rows that were there already; rows that have
// an outcome were not sent and have no ordinal.
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
        if (group->outcomes[row] != VERDICT_NONE || ++ordinal != pg_integer(result, next, 0))
            continue;
        group->outcomes[row] = VERDICT_DEDUPLICATED;
        next++;
    }
}

static void late_check(void *arg, const struct pg_result *result)
{
    struct lane *lane = arg;
    bool before = lane->error.set;
    lane_note(lane, NULL, result);
    lane->error.late = lane->error.late || (lane->error.set && !before);
}

// COMMIT of a transaction that has failed answers ROLLBACK, and that is no error.
static void commit_answered(void *arg, const struct pg_result *result)
{
    struct lane *lane = arg;
    late_check(lane, result);
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

void lane_send_immediate(struct lane *lane)
{
    pg_query(lane->pg, "SET CONSTRAINTS ALL IMMEDIATE", NULL, late_check, lane);
}

// Nothing else ever has the name on this connection, so that one that could not be given up is in
// nobody's way.
static void put_name(char name[NAME_SIZE], unsigned index, const struct lane_statement *statement,
                     bool keyed)
{
    snprintf(name, NAME_SIZE, "%c%u_%u_%u", keyed ? 'k' : 'm', index, statement->serial,
             statement->looks);
}

// The target that had the index before is gone, or its table has changed: its statements go.
static void leave_statement(struct lane *lane, struct lane_statement *statement, unsigned index)
{
    char name[NAME_SIZE], sql[NAME_SIZE + 16];
    for (int keyed = 0; keyed < 2; keyed++) {
        put_name(name, index, statement, keyed);
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
           (target->trust <= 0 || batch->repeated || batch->attempts > 1 || lane->isolation.on);
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

struct lane_statement *lane_statement(struct lane *lane, const struct batch_group *group)
{
    const struct target *target = group->target;
    struct lane_statement *statement = &lane->statements[target->index];
    if (statement->serial != target->serial || statement->looks != target->looks)
        leave_statement(lane, statement, target->index);
    statement->serial = target->serial;
    statement->looks = target->looks;
    return statement;
}

void lane_send_rows(struct lane *lane, struct batch_group *group, size_t first, size_t last)
{
    const struct sql_rows rows = {first, last, VERDICT_NONE};
    if (group->refused == group->count) // not even prepared: the table may be gone
        return;
    struct lane_statement *statement = lane_statement(lane, group);
    statement->lane = lane;
    statement->group = group;
    statement->first = first;
    statement->last = last;
    statement->keyed = is_keyed(lane, group->target);
    if (!statement->keyed)
        group->target->trust--;
    char name[NAME_SIZE];
    put_name(name, group->target->index, statement, statement->keyed);
    if (!statement->prepared[statement->keyed] && !prepare_rows(lane, statement, name))
        return;
    if (sql_encode_rows(&lane->params, group, &rows, statement->keyed) > 0)
        pg_execute(lane->pg, name, &lane->params.params, rows_inserted, statement);
}

// With types and values in lane->params. False where the connection is lost.
static bool send_extra(struct lane *lane, enum lane_extra_kind kind, const char *name,
                       const char *sql)
{
    struct lane_extra *extra = &lane->extras[kind];
    const struct pg_params *params = &lane->params.params;
    extra->lane = lane;
    return (extra->prepared || pg_prepare(lane->pg, name, sql, params, extra_prepared, extra)) &&
           pg_execute(lane->pg, name, params, lane_check, lane);
}

static bool send_rejects(struct lane *lane)
{
    if (lane->batch->reject_count == 0)
        return true;
    sql_encode_reject_types(&lane->params);
    sql_encode_rejects(&lane->params, lane->batch, lane->epoch->writer);
    return send_extra(lane, LANE_REJECTS, "reject", sql_insert_rejects());
}

static bool send_exchanges(struct lane *lane, bool forget)
{
    const struct batch *batch = lane->batch;
    if (batch->forget_count == (forget ? 0 : batch->exchange_count))
        return true;
    sql_encode_exchange_types(&lane->params, forget);
    sql_encode_exchanges(&lane->params, batch, lane->epoch->writer, forget);
    return send_extra(lane, forget ? LANE_FORGET : LANE_STORE, forget ? "forget" : "store",
                      sql_exchanges(forget));
}

// What the batch was made of is gone with its commit, and nobody else has had it.
static bool send_entries(struct lane *lane)
{
    const struct batch *batch = lane->batch;
    if (batch->spool_to > 0) {
        sql_encode_spool(&lane->params, batch, lane->epoch->spool);
        if (!send_extra(lane, LANE_SPOOL, "spool", sql_advance_spool()))
            return false;
    }
    if (batch->taken_count > 0) {
        sql_encode_taken(&lane->params, batch);
        if (!send_extra(lane, LANE_TAKE, "take", sql_take_rejects()))
            return false;
    }
    return true;
}

// Where rows are at fault it is worth asking the deferred constraints before the rejects are sent.
// An identifier that is forgotten may be in use again: deletes come before inserts.
void lane_send_commit(struct lane *lane, pg_result_fn *synced)
{
    static const struct pg_params none = {.count = 0};
    if (lane->isolation.on && !lane->isolation.late)
        lane_send_immediate(lane);
    if (send_entries(lane) && send_rejects(lane) && send_exchanges(lane, true) &&
        send_exchanges(lane, false) &&
        pg_execute(lane->pg, LANE_COMMIT, &none, commit_answered, lane))
        pg_sync(lane->pg, synced, lane);
    FAILPOINT("sent");
}
