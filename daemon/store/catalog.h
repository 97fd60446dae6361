// The database's side of the configuration: migrations, mapped tables, partitions; on a connection
// of its own that is open only while there is something to do.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"
#include "base/worker.h"
#include "store/target.h"

struct catalog;

struct catalog_options {
    const char *conninfo; // not owned
    bool migrate;         // create what is missing; false: only check
};

// Called from the loop, never from within the call that was given it; detail is valid during the
// call. Must not free the catalog.
typedef void catalog_fn(void *arg, bool ok, const char *detail);

// targets must outlive the catalog.
struct catalog *catalog_new(struct loop *loop, struct worker *worker, struct target **targets,
                            size_t count, const struct catalog_options *options);
void catalog_free(struct catalog *catalog);
// One more target, while others are at work: rows of its table wait until the table has been looked
// at, and changed where that is asked for.
void catalog_add(struct catalog *catalog, struct target *target);
// The target is no more: its table is judged and made without it. Rows of it that are on their way
// still go there, until it is forgotten.
void catalog_remove(struct catalog *catalog, const struct target *target);
void catalog_forget(struct catalog *catalog, struct target *target);
// Connects; migrates, creates missing tables and partitions ahead (where allowed), looks at the
// live tables and sets target->stopped of those that do not fit. ready is called with ok true once,
// when that is done; before, it is called with ok false each time the migrations are refused, and
// all is tried again a minute later. Connection trouble is retried with back-off and only logged.
void catalog_start(struct catalog *catalog, catalog_fn *ready, void *arg);
// Does the same once more, where it is done: the schema has gone. ready is called again.
void catalog_begin_again(struct catalog *catalog);
bool catalog_ready(const struct catalog *catalog);
// One line for STATUS=: "ok", or what is in the way of schema or partitions, be it ready or not;
// valid until the loop goes on.
const char *catalog_state(const struct catalog *catalog);

// Whether the target's table takes rows of this time (µs since 1970) now: it has the partition or
// needs none.
bool catalog_has(const struct catalog *catalog, const struct target *target, int64_t time_us);
// Makes the partitions for the times (copied); done is called with ok true when the table takes
// them all, or with ok false when some were refused for a reason that repeating does not cure:
// catalog_has tells which. Connection trouble is retried within.
void catalog_need(struct catalog *catalog, struct target *target, const int64_t *times_us,
                  size_t count, catalog_fn *done, void *arg);
// Forgets what it knows of the target's partitions and looks again (a 23514 without constraint
// name), then done.
void catalog_refresh(struct catalog *catalog, struct target *target, catalog_fn *done, void *arg);

// PostgreSQL refuses the target's statement itself: stops it with why (copied), says so in the log,
// and looks at the table again every minute, so that it goes on when the table has been mended.
void catalog_stop(struct catalog *catalog, struct target *target, const char *why);

// All SQL that migrating would run, to standard output; no connection (migrate --print).
void catalog_print(const struct catalog *catalog);
// For check --connect and migrate: the findings of the last look, one line each; "" where all fits.
// Valid until the next call.
const char *catalog_findings(struct catalog *catalog);
