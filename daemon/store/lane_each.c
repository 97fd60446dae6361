// Rows one by one, within the server: where many are at fault, or where each has to be told from
// the next, round trips would take too long.
#include <stdlib.h>

#include "store/lane_internal.h"
#include "store/sql_text.h"

static void check(void *arg, const struct pg_result *result)
{
    const struct lane_statement *statement = arg;
    lane_note(statement->lane, statement->group, result);
}

// The rows of the answer are in order of their ordinals, which count what was sent.
static void answered(void *arg, const struct pg_result *result)
{
    const struct lane_statement *statement = arg;
    struct batch_group *group = statement->group;
    check(arg, result);
    if (!result->ok)
        return;
    int64_t ordinal = 0;
    int next = 0;
    for (size_t row = statement->first; row < statement->last; row++) {
        if (group->outcomes[row] != statement->outcome)
            continue;
        const char *sqlstate = NULL, *detail = NULL;
        enum lane_each what = EACH_STORED;
        ordinal++;
        if (next < result->rows && ordinal == pg_integer(result, next, 0)) {
            sqlstate = pg_value(result, next, 1);
            detail = pg_value(result, next, 2);
            what = sqlstate ? EACH_REFUSED : EACH_THERE;
            next++;
        }
        statement->each(statement->lane, group, row, what, detail, sqlstate);
    }
}

static void send(struct lane_statement *statement, enum sql_try what)
{
    struct lane *lane = statement->lane;
    const struct target *target = statement->group->target;
    char *cursor = sql_each_rows(target, lane->isolation.backwards);
    char *attempt = sql_each_attempt(target, what, lane_may_partition(lane));
    pg_query(lane->pg, cursor, &lane->params.params, check, statement);
    pg_query(lane->pg, attempt, NULL, check, statement);
    pg_query(lane->pg, sql_each_answer, NULL, answered, statement);
    pg_query(lane->pg, sql_each_end[0], NULL, check, statement);
    pg_query(lane->pg, sql_each_end[1], NULL, check, statement);
    free(attempt);
    free(cursor);
}

void lane_send_each(struct lane *lane, struct batch_group *group, const struct sql_rows *rows,
                    enum sql_try what, lane_each_fn *each)
{
    if (sql_encode_rows(&lane->params, group, rows, false) == 0)
        return;
    struct lane_statement *statement = lane_statement(lane, group);
    statement->lane = lane;
    statement->group = group;
    statement->first = rows->first;
    statement->last = rows->last;
    statement->outcome = rows->outcome;
    statement->keyed = group->target->key_count > 0;
    statement->each = each;
    send(statement, what);
}
