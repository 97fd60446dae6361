// Bisecting under savepoints: one transaction in which every row is stored or is in the reject
// table.
//
// One row at fault among n costs two round trips per halving: one for the half that fails, one for
// the half that does not.
#include <string.h>

#include "base/mem.h"
#include "store/lane_internal.h"

static void push(struct lane *lane, struct batch_group *group, size_t first, size_t last)
{
    lane->ranges =
        mem_grow(lane->ranges, lane->range_count, &lane->range_capacity, sizeof *lane->ranges);
    lane->ranges[lane->range_count++] = (struct range){group, first, last};
}

static void next_range(struct lane *lane);

static void finish_synced(void *arg, const struct pg_result *result)
{
    (void)result;
    struct lane *lane = arg;
    if (lane->committed)
        lane_batch_committed(lane);
    else
        lane_roll_back(lane);
}

// The halves of a range that failed, or the row itself.
static void split(struct lane *lane)
{
    const struct range tried = lane->tried;
    if (tried.last - tried.first > 1) {
        size_t middle = tried.first + (tried.last - tried.first) / 2;
        push(lane, tried.group, middle, tried.last);
        push(lane, tried.group, tried.first, middle);
        return;
    }
    batch_refuse_row(lane->batch, tried.group, tried.first, "refused by PostgreSQL",
                     lane->error.message, lane->error.sqlstate);
}

static void range_synced(void *arg, const struct pg_result *result)
{
    (void)result;
    struct lane *lane = arg;
    if (lane->error.set) {
        if (lane_action(lane) != SQL_ISOLATE || !lane->error.group) {
            lane_roll_back(lane);
            return;
        }
        split(lane);
        lane_error_reset(lane);
        pg_query(lane->pg, "ROLLBACK TO SAVEPOINT r", NULL, lane_check, lane);
        pg_query(lane->pg, "RELEASE SAVEPOINT r", NULL, lane_check, lane); // else they nest
    }
    next_range(lane);
}

static void next_range(struct lane *lane)
{
    if (lane->range_count == 0) {
        lane_send_commit(lane, finish_synced);
        return;
    }
    lane->tried = lane->ranges[--lane->range_count];
    if (!pg_query(lane->pg, "SAVEPOINT r", NULL, lane_check, lane))
        return;
    lane_send_rows(lane, lane->tried.group, lane->tried.first, lane->tried.last);
    if (pg_query(lane->pg, "RELEASE SAVEPOINT r", NULL, lane_check, lane))
        pg_sync(lane->pg, range_synced, lane);
}

void lane_isolate(struct lane *lane)
{
    struct batch *batch = lane->batch;
    log_debug("postgres: a row is refused (%s); looking for it", lane->error.message);
    lane->state = LANE_ISOLATING;
    lane->isolated = true;
    lane->range_count = 0;
    for (size_t i = batch->group_count; i-- > 0;)
        if (batch->groups[i].count > 0)
            push(lane, &batch->groups[i], 0, batch->groups[i].count);
    batch_reset_outcomes(batch);
    lane_error_reset(lane);
    lane->seq++;
    lane_send_begin(lane);
    // A deferred constraint would speak up at COMMIT, when it is too late to tell which row it
    // means.
    pg_query(lane->pg, "SET CONSTRAINTS ALL IMMEDIATE", NULL, lane_check, lane);
    next_range(lane);
}
