// What the files of the lane share: life (lane.c), transactions (lane_commit.c), bisecting
// (lane_isolate.c).
#pragma once

#include "base/backoff.h"
#include "base/log.h"
#include "store/lane.h"
#include "store/pg.h"
#include "store/sql.h"

// Whatever the role's or the database's default is: raising the epoch relies on it.
#define LANE_BEGIN_SQL "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"

// Prepared statements of every transaction.
#define LANE_BEGIN "begin"
#define LANE_ADVANCE "advance"
#define LANE_COMMIT "commit"

enum lane_state {
    LANE_DOWN, // until the timer
    LANE_CONNECTING,
    LANE_OPENING, // attach, epoch, resolve
    LANE_IDLE,
    LANE_COMMITTING, // a transaction with all of the batch
    LANE_ISOLATING,  // a transaction that bisects
    LANE_ROLLING_BACK,
};

// The first error of a unit; what comes after it in the pipeline is skipped.
struct lane_error {
    bool set;
    char sqlstate[6];
    char message[512];
    char constraint[64];
    struct batch_group *group; // whose statement it was, or NULL
};

// The INSERT of one target on this connection, and the rows it was last sent with.
struct lane_statement {
    unsigned serial; // of the target
    struct lane *lane;
    struct batch_group *group;
    size_t first, last;
    bool keyed;       // how
    bool prepared[2]; // [keyed]
};

// Statements of a batch that are no mapping's, prepared when first they are needed.
enum lane_extra_kind { LANE_REJECTS, LANE_STORE, LANE_FORGET, LANE_SPOOL, LANE_TAKE, LANE_EXTRAS };

struct lane_extra {
    struct lane *lane;
    bool prepared;
};

struct range {
    struct batch_group *group;
    size_t first, last;
};

struct lane {
    unsigned number;
    struct lane_epoch *epoch;
    struct lane_counters *counters;
    struct lane_calls calls;
    struct pg *pg;
    enum lane_state state;
    struct backoff backoff;
    struct loop_timer *timer;
    char trouble[512];
    struct log_limit trouble_limit, waiting_limit;

    struct batch *batch;     // in flight, or unresolved
    bool unresolved;         // the connection was lost while it was in flight
    int64_t seq, sent_epoch; // of the last transaction
    struct lane_error error;
    bool raising;                      // it is this lane that raises the epoch
    bool durable_said;                 // that synchronous_commit was switched on
    bool waiting;                      // of opening: another lane raises the epoch
    int64_t raised;                    // of opening: the new epoch
    struct exchange_set loaded;        // of opening: with the new epoch
    bool committed;                    // COMMIT has said so
    struct lane_statement *statements; // by target->index
    size_t statement_count;
    struct lane_extra extras[LANE_EXTRAS];
    struct sql_params params;
    bool isolated;        // the batch is being, or has been, bisected
    struct range *ranges; // of a bisection, a stack
    size_t range_count, range_capacity;
    struct range tried;
};

// lane_commit.c
void lane_error_reset(struct lane *lane);
// Keeps the first error of a unit. lane_check is the result callback of a statement that is no
// group's.
void lane_note(struct lane *lane, struct batch_group *group, const struct pg_result *result);
void lane_check(void *arg, const struct pg_result *result);
void lane_send_begin(struct lane *lane);
// The INSERT of a range of rows, prepared where it was not.
void lane_send_rows(struct lane *lane, struct batch_group *group, size_t first, size_t last);
// After the rows: rejects, QoS 2 identifiers, COMMIT.
void lane_send_commit(struct lane *lane, pg_result_fn *synced);
void lane_batch_committed(struct lane *lane);
// What the error of a statement asks for.
enum sql_action lane_action(const struct lane *lane);
// After a unit failed: ROLLBACK, and what the error asks for.
void lane_roll_back(struct lane *lane);

// lane_isolate.c: finds the rows at fault and commits the others; batch and error are set.
void lane_isolate(struct lane *lane);

// lane.c
// Closes the connection and tries again later; says why.
void lane_close(struct lane *lane, const char *why);
void lane_close_for(struct lane *lane, const char *why, int64_t delay_ms);
void lane_now_idle(struct lane *lane);
