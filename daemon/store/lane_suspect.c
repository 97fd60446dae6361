// Rows that a constraint would refuse, or whose values do not fit their columns: where many are at
// fault, PostgreSQL is asked which, and the others go in together. Trying each would take several
// times as long.
#include <stdlib.h>
#include <string.h>

#include "store/lane_internal.h"
#include "store/sql_suspect.h"

enum { ASK_MAX = 4 }; // times per table: for constraints that refuse different rows

static struct sql_fault fault_of(const struct lane *lane)
{
    const struct lane_error *error = &lane->error;
    return (struct sql_fault){error->sqlstate, error->constraint, error->column};
}

static bool is_of_data(const char *sqlstate)
{
    return strncmp(sqlstate, "22", 2) == 0;
}

static bool may_cast(const struct lane *lane)
{
    return is_of_data(lane->error.sqlstate) &&
           sql_may_cast(lane->batch->groups[lane->isolation.group].target);
}

bool lane_may_suspect(const struct lane *lane)
{
    const struct isolation *at = &lane->isolation;
    const struct sql_fault fault = fault_of(lane);
    return !at->no_suspects && at->asked < ASK_MAX && (sql_may_suspect(&fault) || may_cast(lane));
}

// Those that are refused, in order of their ordinals, which count what was sent.
static void answered(void *arg, const struct pg_result *result)
{
    const struct lane_statement *statement = arg;
    struct lane *lane = statement->lane;
    struct batch_group *group = statement->group;
    lane_note(lane, group, result);
    if (!result->ok)
        return;
    int64_t ordinal = 0;
    int next = 0;
    for (size_t row = statement->first; row < statement->last && next < result->rows; row++) {
        if (group->outcomes[row] != VERDICT_NONE || ++ordinal != pg_integer(result, next, 0))
            continue;
        batch_refuse_row(lane->batch, group, row, "refused by PostgreSQL",
                         pg_value(result, next, 1), lane->error.sqlstate);
        next++;
    }
    lane->isolation.no_suspects = result->rows == 0;
}

static void synced(void *arg, const struct pg_result *result)
{
    (void)result;
    struct lane *lane = arg;
    struct isolation *at = &lane->isolation;
    enum sql_action action = lane_action(lane);
    if (!lane->error.set) {
        at->culprit = lane->batch->group_count;
    } else if (action == SQL_ISOLATE || action == SQL_STOP || action == SQL_SPLIT) {
        // An expression may fail, too, or looking at all partitions take too many locks.
        at->no_suspects = true;
        lane_back_to_savepoint(lane);
    } else {
        lane_roll_back(lane);
        return;
    }
    lane_isolate_next(lane);
}

// Sends the question itself, or nothing where the answer would not be certain.
static void told_how(void *arg, const struct pg_result *result)
{
    struct lane_statement *statement = arg;
    struct lane *lane = statement->lane;
    const struct sql_rows rows = {statement->first, statement->last, VERDICT_NONE};
    lane_note(lane, statement->group, result);
    if (result->ok && result->rows > 0 &&
        sql_encode_rows(&lane->params, statement->group, &rows, false) > 0) {
        const struct sql_fault fault = fault_of(lane);
        char *sql =
            sql_suspects(statement->group->target, &fault, sql_rows_span(statement->group, &rows),
                         pg_value(result, 0, 0), pg_value(result, 0, 1));
        lane->isolation.no_suspects = false;
        pg_query(lane->pg, sql, &lane->params.params, answered, statement);
        free(sql);
    }
}

static void how_synced(void *arg, const struct pg_result *result)
{
    struct lane *lane = arg;
    if (lane->error.set) {
        synced(lane, result);
        return;
    }
    pg_query(lane->pg, "RELEASE SAVEPOINT r", NULL, lane_check, lane);
    pg_sync(lane->pg, synced, lane);
}

// A value is cast before any trigger sees it. That it fits does not say that the row goes in.
static void cast(struct lane *lane, struct batch_group *group, size_t row, enum lane_each what,
                 const char *detail, const char *sqlstate)
{
    if (what != EACH_REFUSED || !is_of_data(sqlstate))
        return;
    batch_refuse_row(lane->batch, group, row, "refused by PostgreSQL", detail, sqlstate);
    lane->isolation.no_suspects = false;
}

static void ask_casts(struct lane *lane, struct batch_group *group)
{
    const struct sql_rows rows = {lane->isolation.row, group->count, VERDICT_NONE};
    lane_send_each(lane, group, &rows, SQL_TRY_CAST, cast);
    pg_query(lane->pg, "RELEASE SAVEPOINT r", NULL, lane_check, lane);
    pg_sync(lane->pg, synced, lane);
}

static void ask_constraint(struct lane *lane, struct batch_group *group)
{
    struct lane_statement *statement = lane_statement(lane, group);
    const struct sql_fault fault = fault_of(lane);
    char *sql = sql_suspicion(group->target, &fault);
    statement->lane = lane;
    statement->group = group;
    statement->first = lane->isolation.row;
    statement->last = group->count;
    pg_query(lane->pg, sql, NULL, told_how, statement);
    pg_sync(lane->pg, how_synced, lane);
    free(sql);
}

// The error is that of the try before.
void lane_suspect(struct lane *lane)
{
    struct isolation *at = &lane->isolation;
    struct batch_group *group = &lane->batch->groups[at->group];
    at->asked++;
    at->sample_end = 0;
    at->no_suspects = true; // unless the answer is another one
    pg_query(lane->pg, "SAVEPOINT r", NULL, lane_check, lane);
    if (may_cast(lane))
        ask_casts(lane, group);
    else
        ask_constraint(lane, group);
}
