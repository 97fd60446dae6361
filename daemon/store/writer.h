// The batch writer: gathers rows, commits them over one or more connections, settles the messages.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"
#include "base/worker.h"
#include "core/budget.h"
#include "store/batch.h"

struct catalog;
struct writer;

struct writer_options {
    const char *conninfo; // libpq's, not owned
    const char *name;     // of this writer in sensorlog.writer
    unsigned connections; // lanes
    size_t max_rows;      // per batch
    int64_t linger_ms;    // 0: off
    int64_t patience_ms;  // after which, while nothing is committed, the server is asked; pulse.h
    bool exchanges;       // QoS 2 identifiers are kept: see exchange.h
};

struct writer_counters {
    uint64_t rows, rejects, commits, failures;
    uint64_t commits_by_timer;                      // transactions that a timer's callback started
    uint64_t resolved_committed, resolved_repeated; // ambiguous COMMITs by how they were resolved
};

// The catalog, loop, worker and budget must outlive the writer.
struct writer *writer_new(struct loop *loop, struct worker *worker, struct catalog *catalog,
                          struct budget *budget, const struct writer_options *options);
// Abandons what is not committed. The catalog must be freed before the loop runs again.
void writer_free(struct writer *writer);
// Connects. Before, and while the database is away, rows gather.
void writer_start(struct writer *writer);

// One message's parts: begin, then any number of rows and rejects, then end. All of it is one
// transaction.
struct batch *writer_begin(struct writer *writer);
void writer_end(struct writer *writer);
// Starts a commit of what waits as soon as a connection is free, linger or not: a window is full.
void writer_hurry(struct writer *writer);

// Calls done once nothing waits or commits any more, or at once where no connection is usable.
void writer_drain(struct writer *writer, loop_fn *done, void *arg);
// Up to date when called.
const struct writer_counters *writer_counters(struct writer *writer);
// How long the oldest message that is not committed has been waiting; 0 where there is none.
int64_t writer_lag_ms(const struct writer *writer);
// Connections that can commit now.
unsigned writer_usable(const struct writer *writer);
// Whether rows can be committed, as far as is known: one is usable, and what failed last, for a
// reason that is no table's, has committed since.
bool writer_commits(const struct writer *writer);
// One line on the connections for STATUS=: "ok", "1 of 2 connected", "down: ..."; valid until the
// next call.
const char *writer_state(struct writer *writer);
