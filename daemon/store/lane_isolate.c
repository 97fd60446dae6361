// Rows at fault: one transaction in which every row is stored or is in the reject table.
//
// One of n rows is found by halving under savepoints, a round trip each, and all that comes after
// it goes in one more. Where that fails too, the constraint is asked which of the rest of its table
// it would refuse. Where that is not certain, the rest is tried one by one within the server. What
// speaks up only after all rows of a try are in makes tries dear: a sample shows whether many are
// at fault.
//
// A deferred constraint speaks up when all rows are in, and does not say which row it means. Then
// constraints are checked at once, row by row; who is refused has another go as long as others come
// in, for it may refer to one of those.
#include <string.h>

#include "base/log.h"
#include "store/lane_internal.h"

enum { SAMPLE = 128 }; // rows

static void refuse(struct lane *lane, struct batch_group *group, size_t row, const char *detail,
                   const char *sqlstate)
{
    batch_refuse_row(lane->batch, group, row, "refused by PostgreSQL", detail, sqlstate);
}

// False where the error is no row's fault: the transaction is rolled back.
static bool is_row_at_fault(struct lane *lane)
{
    if (lane_action(lane) == SQL_ISOLATE && lane->error.group)
        return true;
    lane_roll_back(lane);
    return false;
}

void lane_back_to_savepoint(struct lane *lane)
{
    lane_error_reset(lane);
    pg_query(lane->pg, "ROLLBACK TO SAVEPOINT r", NULL, lane_check, lane);
    pg_query(lane->pg, "RELEASE SAVEPOINT r", NULL, lane_check, lane); // else they nest
}

static void go_to_group(struct isolation *at, size_t group)
{
    if (group != at->group) {
        at->row = at->found = 0;
        at->asked = 0;
        at->no_suspects = false;
    }
    at->group = group;
}

// ---- halving ----

static void failed(struct lane *lane)
{
    struct isolation *at = &lane->isolation;
    struct batch_group *group = lane->error.group;
    size_t index = (size_t)(group - lane->batch->groups);
    at->culprit_end = index == at->tried ? at->tried_end : group->count;
    at->culprit = index;
    go_to_group(at, index);
    if (at->culprit_end - at->row > 1)
        return;
    refuse(lane, group, at->row, lane->error.message, lane->error.sqlstate);
    at->row++;
    at->found++;
    at->culprit = lane->batch->group_count;
}

static void succeeded(struct lane *lane)
{
    struct isolation *at = &lane->isolation;
    go_to_group(at, at->tried);
    at->row = at->tried_end;
    if (at->tried == at->culprit && at->row == at->culprit_end) // it would not be caught
        at->culprit = lane->batch->group_count;
}

static void tries_synced(void *arg, const struct pg_result *result)
{
    (void)result;
    struct lane *lane = arg;
    if (!lane->error.set) {
        succeeded(lane);
    } else if (is_row_at_fault(lane)) {
        failed(lane);
        lane_back_to_savepoint(lane);
    } else {
        return;
    }
    lane_isolate_next(lane);
}

static void send_try(struct lane *lane, struct batch_group *group, size_t first, size_t last)
{
    if (first >= last)
        return;
    pg_query(lane->pg, "SAVEPOINT r", NULL, lane_check, lane);
    lane_send_rows(lane, group, first, last);
    pg_query(lane->pg, "RELEASE SAVEPOINT r", NULL, lane_check, lane);
}

// Half of what may be at fault of the culprit; first no more than a sample.
static size_t end_of_try(struct isolation *at)
{
    size_t first = at->culprit == at->group ? at->row : 0;
    size_t half = (at->culprit_end - first) / 2;
    if (at->sample_group != at->culprit) {
        at->sample_group = at->culprit;
        at->sample_end = half > SAMPLE ? first + SAMPLE : 0;
        if (half > SAMPLE)
            return at->sample_end;
    }
    return first + (half > 0 ? half : 1);
}

// All groups up to the culprit and a part of that, what is left of the sample in which one has been
// found, or all that is left.
static void send_tries(struct lane *lane)
{
    struct isolation *at = &lane->isolation;
    struct batch *batch = lane->batch;
    at->tried = at->culprit;
    at->tried_end = 0;
    if (at->culprit < batch->group_count) {
        at->tried_end = end_of_try(at);
    } else if (at->sample_group == at->group && at->row < at->sample_end) {
        at->tried = at->group;
        at->tried_end = at->sample_end;
    }
    for (size_t i = at->group; i < batch->group_count && i <= at->tried; i++) {
        size_t first = i == at->group ? at->row : 0;
        send_try(lane, &batch->groups[i], first,
                 i == at->tried ? at->tried_end : batch->groups[i].count);
    }
    pg_sync(lane->pg, tries_synced, lane);
}

// ---- one by one ----

static void take_each(struct lane *lane, struct batch_group *group, size_t row, enum lane_each what,
                      const char *detail, const char *sqlstate)
{
    if (what == EACH_REFUSED)
        refuse(lane, group, row, detail, sqlstate);
    else if (what == EACH_THERE)
        group->outcomes[row] = VERDICT_DEDUPLICATED;
}

static void rest_synced(void *arg, const struct pg_result *result)
{
    (void)result;
    struct lane *lane = arg;
    struct isolation *at = &lane->isolation;
    if (!lane->error.set) {
        go_to_group(at, at->group + 1);
        at->culprit = lane->batch->group_count;
    } else if (is_row_at_fault(
                   lane)) { // e.g. text that is none for PostgreSQL: not even a parameter
        at->no_each = true;
        lane_back_to_savepoint(lane);
    } else {
        return;
    }
    lane_isolate_next(lane);
}

// The rest of the group.
static void send_rest(struct lane *lane)
{
    const struct isolation *at = &lane->isolation;
    struct batch_group *group = &lane->batch->groups[at->group];
    const struct sql_rows rows = {at->row, group->count, VERDICT_NONE};
    pg_query(lane->pg, "SAVEPOINT r", NULL, lane_check, lane);
    lane_send_each(lane, group, &rows, SQL_TRY_INSERT, take_each);
    pg_query(lane->pg, "RELEASE SAVEPOINT r", NULL, lane_check, lane);
    pg_sync(lane->pg, rest_synced, lane);
}

void lane_isolate_next(struct lane *lane)
{
    struct isolation *at = &lane->isolation;
    const struct batch *batch = lane->batch;
    while (at->group < batch->group_count && at->row >= batch->groups[at->group].count)
        go_to_group(at, at->group + 1);
    bool many = at->found > 0 && at->culprit == at->group;
    if (at->group >= batch->group_count)
        lane_finish(lane);
    else if (many && lane_may_suspect(lane))
        lane_suspect(lane);
    else if (many && !at->no_each)
        send_rest(lane);
    else
        send_tries(lane);
}

// ---- deferred constraints ----

static void send_pass(struct lane *lane);

static void take_late(struct lane *lane, struct batch_group *group, size_t row, enum lane_each what,
                      const char *detail, const char *sqlstate)
{
    struct isolation *at = &lane->isolation;
    if (what == EACH_REFUSED)
        batch_refuse_row_for_now(lane->batch, group, row, "refused by PostgreSQL", detail,
                                 sqlstate);
    else
        group->outcomes[row] = what == EACH_THERE ? VERDICT_DEDUPLICATED : VERDICT_STORED;
    at->refused += what == EACH_REFUSED;
    at->stored += what == EACH_STORED;
}

static void pass_synced(void *arg, const struct pg_result *result)
{
    (void)result;
    struct lane *lane = arg;
    struct isolation *at = &lane->isolation;
    if (lane->error.set) {
        lane_roll_back(lane);
    } else if (at->refused > 0 && at->stored > 0) {
        batch_judge_again(lane->batch);
        at->backwards = !at->backwards; // most refer to rows nearby
        send_pass(lane);
    } else {
        at->backwards = false;
        lane_finish(lane);
    }
}

static void send_pass(struct lane *lane)
{
    struct batch *batch = lane->batch;
    lane->isolation.refused = lane->isolation.stored = 0;
    for (size_t i = 0; i < batch->group_count; i++) {
        struct batch_group *group = &batch->groups[i];
        const struct sql_rows rows = {0, group->count, VERDICT_NONE};
        if (group->count > 0)
            lane_send_each(lane, group, &rows, SQL_TRY_INSERT, take_late);
    }
    pg_sync(lane->pg, pass_synced, lane);
}

// ---- beginning ----

void lane_isolate(struct lane *lane)
{
    struct batch *batch = lane->batch;
    const struct batch_group *group = lane->error.group;
    struct isolation *at = &lane->isolation;
    log_debug("postgres: a row is refused (%s); looking for it", lane->error.message);
    *at = (struct isolation){.on = true, .late = lane->error.late};
    at->sample_group = batch->group_count;
    at->culprit = group ? (size_t)(group - batch->groups) : batch->group_count;
    at->culprit_end = group ? group->count : 0;
    lane->state = LANE_ISOLATING;
    lane->seq++;
    batch_reset_outcomes(batch);
    lane_error_reset(lane);
    lane_send_begin(lane);
    if (at->late) {
        lane_send_immediate(lane);
        send_pass(lane);
    } else {
        lane_isolate_next(lane);
    }
}
