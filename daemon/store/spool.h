// The spool: while PostgreSQL is away, messages are kept on the local disk, acknowledged when they
// are durable there, and stored in order, exactly once, when PostgreSQL is back.
//
//   DIRECT --- no usable connection for outage_after ---> KEEPING --- connected, epoch raised,
//      ^                                                     ^        doubts resolved ---+
//      +---- the file is empty ---- DRAINING <---------------|---------------------------+
//                                       +--- connection lost +
//
// Where PostgreSQL answers but commits nothing, its disk being full, it comes to DRAINING, and
// stays there.
// In KEEPING and DRAINING every message goes into the file, behind those that are there; only when
// the last of them are on their way, new ones wait in memory for the moment that this takes.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "core/budget.h"
#include "core/message.h"

struct spool;
struct writer;

struct spool_options {
    const char *path;        // not owned
    int64_t outage_after_ms; // without a usable connection, or a commit
    uint64_t max_bytes;
    bool drop_oldest;   // when full; else messages wait unacknowledged
    size_t max_entries; // of one transaction of the drain
    bool ends;          // the file is emptied, new messages waiting for that, and not used any more
};

struct spool_calls {
    // One entry as a message of the source "spool", or a message that has waited until the file was
    // empty: takes the one hold, as pipeline_take.
    void (*message)(void *arg, struct message *message);
    void *arg;
};

enum spool_state { SPOOL_DIRECT, SPOOL_KEEPING, SPOOL_DRAINING };

struct spool_counters {
    uint64_t kept, drained, dropped, resolved; // entries; resolved: their transaction had committed
};

// Where the file has entries it begins in KEEPING. NULL with *error, which the caller frees.
struct spool *spool_new(struct loop *loop, struct writer *writer, struct budget *budget,
                        const struct spool_options *options, const struct spool_calls *calls,
                        char **error);
// After the writer has been freed and before the sources are: waits, at most a second, for the
// disk, and abandons what is not durable. NULL is none.
void spool_abandon(struct spool *spool);
void spool_free(struct spool *spool);
// Whether messages go into the file now. Those that no mapping wants need not.
bool spool_takes(const struct spool *spool);
// Takes the caller's hold on the message. only: see struct message; NULL where any mapping may take
// it.
void spool_take(struct spool *spool, struct message *message, const char *only);
// Of a stop: no more entries are drained, what is on its way is committed (writer_drain), and what
// cannot be is kept. Calls done when all that was taken is durable, or at once where the disk
// fails.
void spool_stop(struct spool *spool, loop_fn *done, void *arg);

const struct message_source *spool_source(const struct spool *spool);
struct spool_file *spool_file_of(const struct spool *spool);
enum spool_state spool_state(const struct spool *spool);
const struct spool_counters *spool_counters(const struct spool *spool);
// How long ago the oldest message in the file came; 0 where there is none.
int64_t spool_lag_ms(const struct spool *spool);
// One line: "empty", "12345 messages, 1.2 of 1024.0 MiB, oldest of 2026-11-23T10:15:00Z; draining,
// 9000/s, 14 s left"; until the next call.
const char *spool_status(struct spool *spool);
