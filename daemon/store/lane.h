// One connection that commits batches, one transaction at a time.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"
#include "base/worker.h"
#include "core/exchange_set.h"
#include "store/batch.h"
#include "store/sqlstate.h"

struct lane;

// What the lanes of one writer share. A transaction of a past epoch cannot commit.
struct lane_epoch {
    const char *writer;
    bool exchanges;          // QoS 2 identifiers are kept: who raises the epoch loads them
    const char *spool;       // identifier of the spool's file, or NULL: there is none
    struct spool_file *file; // that one
    int64_t current;         // 0: unknown, nothing may be sent
    bool raising;            // a lane is at it
    bool again;              // to no avail: there is more to decide since it began
    bool unasked, asking;    // where the spool is, and what of its doubts: a lane is at it
};

// What is known of a transaction of which it is not known whether it has committed.
struct lane_doubt {
    int64_t epoch, seq;
    unsigned lane;
};

struct lane_failure {
    enum sql_action action;
    struct target *target; // whose statement failed, or NULL
    const char *sqlstate, *message;
};

struct lane_calls {
    // The lane can take a batch.
    void (*ready)(void *arg);
    // Its connection is lost.
    void (*gone)(void *arg);
    // The batch is committed; its rows have their outcomes.
    void (*committed)(void *arg, struct batch *batch);
    // The batch is not committed, for certain, and is the writer's again.
    void (*returned)(void *arg, struct batch *batch, const struct lane_failure *failure);
    // The epoch has been raised, or an attempt has ended: lanes that wait for it go on.
    void (*epoch_changed)(void *arg);
    // The QoS 2 identifiers that are stored, all of them, as the epoch is raised: no transaction of
    // this writer is open. May be taken, by leaving an empty set behind.
    void (*exchanges)(void *arg, struct exchange_set *loaded);
    // A doubt of the spool's is decided; then, when all are, how far its entries are stored.
    void (*resolved)(void *arg, int64_t doubt, bool committed);
    void (*position)(void *arg, int64_t position);
    // sensorlogd's own schema is not there any more: somebody has made the database anew.
    void (*schema_gone)(void *arg);
    // An array literal of the backends of all the writer's lanes: "{41,42}".
    void (*backends)(void *arg, char *text, size_t size);
    void *arg;
};

struct lane_counters {
    uint64_t commits, failures;
    uint64_t resolved_committed, resolved_repeated; // ambiguous COMMITs by how they were resolved
};

// conninfo is not owned; epoch and counters are shared and must outlive it.
struct lane *lane_new(struct loop *loop, struct worker *worker, unsigned number,
                      const char *conninfo, struct lane_epoch *epoch,
                      struct lane_counters *counters, const struct lane_calls *calls);
void lane_free(struct lane *lane); // a batch that it holds is abandoned and freed
void lane_start(struct lane *lane);
bool lane_idle(const struct lane *lane);
// Connected and opened, busy or idle.
bool lane_usable(const struct lane *lane);
// Takes the batch, which has all its partitions. The lane must be idle.
void lane_commit(struct lane *lane, struct batch *batch);
// Closes the connection, if there is one that can commit, as if it had been lost.
void lane_give_up(struct lane *lane, const char *why);
void lane_epoch_changed(struct lane *lane);
// In flight, or NULL.
struct batch *lane_batch(const struct lane *lane);
int lane_backend(const struct lane *lane);
// Holds a batch whose fate is not known yet.
bool lane_unresolved(const struct lane *lane);
// That batch, which is the caller's; NULL where there is none. A new epoch must follow.
struct batch *lane_take_unresolved(struct lane *lane, struct lane_doubt *doubt);
// Why it is not usable, or why its last transaction was refused; "" where it is well.
const char *lane_trouble(const struct lane *lane);
