// What the files of the lane share: life (lane.c), transactions (lane_commit.c), their statements
// (lane_send.c), rows that were there already (lane_conflict.c), rows at fault (lane_isolate.c,
// lane_suspect.c all that a constraint would refuse, and lane_each.c one by one).
#pragma once

#include "base/backoff.h"
#include "base/log.h"
#include "store/lane.h"
#include "store/pg.h"
#include "store/sql.h"
#include "store/sql_text.h"

// Whatever the role's or the database's default is: raising the epoch relies on it.
#define LANE_BEGIN_SQL "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"

// Batches for which, after rows that were there already, rows are sent as keyed.
enum { LANE_WARY_BATCHES = 256 };

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
    LANE_ISOLATING,  // a transaction that looks for rows at fault
    LANE_ROLLING_BACK,
};

// The first error of a unit; what comes after it in the pipeline is skipped.
struct lane_error {
    bool set;
    char sqlstate[6];
    char message[512];
    char constraint[64], column[64]; // that it names, or ""
    struct batch_group *group;       // whose statement it was, or NULL
    bool late;                       // a deferred constraint's, once all rows were in
};

// What came of a row that was tried by itself.
enum lane_each { EACH_STORED, EACH_THERE, EACH_REFUSED };

typedef void lane_each_fn(struct lane *lane, struct batch_group *group, size_t row,
                          enum lane_each what, const char *detail, const char *sqlstate);

// The INSERT of one target on this connection, and the rows it was last sent with.
struct lane_statement {
    unsigned serial, looks; // of the target
    struct lane *lane;
    struct batch_group *group;
    size_t first, last;
    bool keyed;         // how
    bool prepared[2];   // [keyed]
    lane_each_fn *each; // of rows that were sent one by one
    enum verdict outcome;
};

// Statements of a batch that are no mapping's, prepared when first they are needed.
enum lane_extra_kind { LANE_REJECTS, LANE_STORE, LANE_FORGET, LANE_SPOOL, LANE_TAKE, LANE_EXTRAS };

struct lane_extra {
    struct lane *lane;
    bool prepared;
};

// Looking for the rows at fault. All rows of the groups before group, and of that one those before
// row, are stored or refused. Of the group culprit one among those before row culprit_end, and not
// before row if it is the same group, is at fault.
struct isolation {
    bool on;        // the batch is being, or has been, looked through
    bool late;      // constraints are not deferred, and who is refused has another go
    bool no_each;   // one by one does not go
    bool backwards; // late: the direction
    size_t group, row;
    size_t culprit, culprit_end;     // culprit is the number of groups where none is known
    size_t tried, tried_end;         // the last group of a try, and where in it that ends
    size_t sample_group, sample_end; // the last culprit, and up to where it is looked through first
    size_t found;                    // rows refused of this group
    unsigned asked;                  // how often a constraint was asked for rows of this group
    bool no_suspects;                // it does not say
    size_t stored, refused;          // late: in this pass
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
    struct log_causes causes; // of trouble
    struct log_limit waiting_limit;
    bool said;    // the trouble there is has been logged
    bool refused; // the last transaction, for what a new connection need not mend

    struct batch *batch;     // in flight, or unresolved
    bool unresolved;         // the connection was lost while it was in flight
    int64_t seq, sent_epoch; // of the last transaction
    struct lane_error error;
    bool raising;                      // it is this lane that raises the epoch
    unsigned looked;                   // what was found, and said
    bool waiting;                      // of opening: another lane raises the epoch
    int64_t raised;                    // of opening: the new epoch
    struct exchange_set loaded;        // of opening: with the new epoch
    bool asking;                       // it is this lane that asks for the spool
    int64_t doubt, doubt_seq;          // of asking: which, and what must be there for it
    int64_t answer;                    // of asking
    bool committed;                    // COMMIT has said so
    struct lane_statement *statements; // by target->index
    size_t statement_count;
    struct lane_extra extras[LANE_EXTRAS];
    struct sql_params params;
    struct isolation isolation;
};

// lane_send.c: where a call fails the connection is lost, and the loop tells.
void lane_error_reset(struct lane *lane);
// Keeps the first error of a unit. lane_check is the result callback of a statement that is no
// group's.
void lane_note(struct lane *lane, struct batch_group *group, const struct pg_result *result);
void lane_check(void *arg, const struct pg_result *result);
void lane_send_begin(struct lane *lane);
// Deferred constraints speak up, now and from here on.
void lane_send_immediate(struct lane *lane);
// The INSERT of a range of rows, prepared where it was not.
void lane_send_rows(struct lane *lane, struct batch_group *group, size_t first, size_t last);
// After the rows: entries, rejects, QoS 2 identifiers, COMMIT.
void lane_send_commit(struct lane *lane, pg_result_fn *synced);
struct lane_statement *lane_statement(struct lane *lane, const struct batch_group *group);

// lane_commit.c
// The unit has ended and has no error.
void lane_transaction_synced(void *arg, const struct pg_result *result);
// What the error of a statement asks for.
enum sql_action lane_action(const struct lane *lane);
// May a missing partition still be looked for?
bool lane_may_partition(const struct lane *lane);
// After a unit failed: ROLLBACK, and what the error asks for.
void lane_roll_back(struct lane *lane);

// lane_conflict.c
// Whether some row of the batch may be found to be there already, and another one.
bool lane_may_conflict(const struct lane *lane);
// The rows are in: looks at those that were there already, then commits.
void lane_finish(struct lane *lane);

// lane_isolate.c: finds the rows at fault and commits the others; batch and error are set.
void lane_isolate(struct lane *lane);
// What is next, once a unit has ended.
void lane_isolate_next(struct lane *lane);
void lane_back_to_savepoint(struct lane *lane);

// lane_suspect.c: after a try that has failed, refuses the rows left of the group that the
// constraint or the type at fault would refuse, if that is certain. Then the others are next.
bool lane_may_suspect(const struct lane *lane);
void lane_suspect(struct lane *lane);

// lane_each.c: the rows, one by one within the server; each is called for every row, in order,
// unless the error says that none was tried.
void lane_send_each(struct lane *lane, struct batch_group *group, const struct sql_rows *rows,
                    enum sql_try what, lane_each_fn *each);

// lane_look.c: asks what the server promises, says what weakens our promise, and mends what it can.
// False where the connection is lost.
bool lane_look(struct lane *lane);

// lane_epoch.c
// The connection is lost: whatever it was at with the epoch has ended.
void lane_leave_epoch(struct lane *lane);
// Raises the epoch where that is due, resolves what is ambiguous, and then serves.
void lane_open_epoch(struct lane *lane);

// lane.c
// Closes the connection and tries again later; says why.
void lane_close(struct lane *lane, const char *why);
void lane_close_for(struct lane *lane, const char *why, int64_t delay_ms);
// There is no trouble any more.
void lane_well(struct lane *lane);
void lane_now_idle(struct lane *lane);
