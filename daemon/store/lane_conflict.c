// Rows whose key was there already: redeliveries, which are deduplicated, and others, which
// conflict.
#include <stdlib.h>
#include <string.h>

#include "store/lane_internal.h"
#include "store/sql_text.h"

// Rows that were not sent as keyed are all in.
static bool may_conflict(const struct lane *lane, const struct batch_group *group)
{
    return group->count > group->refused && target_may_conflict(group->target) &&
           lane->statements[group->target->index].keyed;
}

bool lane_may_conflict(const struct lane *lane)
{
    const struct batch *batch = lane->batch;
    for (size_t i = 0; i < batch->group_count; i++)
        if (may_conflict(lane, &batch->groups[i]))
            return true;
    return false;
}

static struct sql_rows those_there(const struct batch_group *group)
{
    return (struct sql_rows){0, group->count, VERDICT_DEDUPLICATED};
}

static void conflict(struct lane *lane, struct batch_group *group, size_t row, const char *detail)
{
    group->conflicts++;
    if (group->target->on_conflict == CONFLICT_REJECT)
        batch_refuse_row_for_now(lane->batch, group, row, "conflict", detail, "");
}

// The ordinals of those that differ, in order, count what was sent.
static void compared(void *arg, const struct pg_result *result)
{
    const struct lane_statement *statement = arg;
    struct batch_group *group = statement->group;
    lane_note(statement->lane, group, result);
    if (!result->ok)
        return;
    int64_t ordinal = 0;
    int next = 0;
    for (size_t row = 0; row < group->count && next < result->rows; row++) {
        if (group->outcomes[row] != VERDICT_DEDUPLICATED ||
            ++ordinal != pg_integer(result, next, 0))
            continue;
        conflict(statement->lane, group, row, pg_value(result, next, 1));
        next++;
    }
}

static bool send_compare(struct lane *lane, struct batch_group *group)
{
    const struct sql_rows rows = those_there(group);
    if (!may_conflict(lane, group) || sql_encode_rows(&lane->params, group, &rows, false) == 0)
        return false;
    struct lane_statement *statement = lane_statement(lane, group);
    statement->lane = lane;
    statement->group = group;
    char *sql = sql_compare(group->target, sql_rows_span(group, &rows));
    pg_query(lane->pg, sql, &lane->params.params, compared, statement);
    free(sql);
    return true;
}

static void updated(struct lane *lane, struct batch_group *group, size_t row, enum lane_each what,
                    const char *detail, const char *sqlstate)
{
    if (what == EACH_STORED)
        group->outcomes[row] = VERDICT_STORED;
    else if (what == EACH_REFUSED)
        batch_refuse_row(lane->batch, group, row, "refused by PostgreSQL", detail, sqlstate);
}

static void updated_synced(void *arg, const struct pg_result *result)
{
    (void)result;
    struct lane *lane = arg;
    if (lane->error.set)
        lane_roll_back(lane);
    else
        lane_send_commit(lane, lane_transaction_synced);
}

// Where one differs all that were there have their turn, in order: the last is to remain.
static bool send_updates(struct lane *lane)
{
    struct batch *batch = lane->batch;
    bool sent = false;
    for (size_t i = 0; i < batch->group_count; i++) {
        struct batch_group *group = &batch->groups[i];
        if (group->conflicts == 0 || group->target->on_conflict != CONFLICT_UPDATE)
            continue;
        const struct sql_rows rows = those_there(group);
        lane_send_each(lane, group, &rows, SQL_TRY_UPDATE, updated);
        sent = true;
    }
    return sent;
}

static void compared_synced(void *arg, const struct pg_result *result)
{
    struct lane *lane = arg;
    if (lane->error.set)
        lane_roll_back(lane);
    else if (send_updates(lane))
        pg_sync(lane->pg, updated_synced, lane);
    else
        updated_synced(lane, result);
}

void lane_finish(struct lane *lane)
{
    struct batch *batch = lane->batch;
    bool sent = false;
    for (size_t i = 0; i < batch->group_count; i++)
        sent |= send_compare(lane, &batch->groups[i]);
    if (sent)
        pg_sync(lane->pg, compared_synced, lane);
    else
        lane_send_commit(lane, lane_transaction_synced);
}
