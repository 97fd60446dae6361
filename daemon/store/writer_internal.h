// What the files of the writer share: batches and their way (writer.c), those that are too large
// (writer_split.c), linger (writer_linger.c), the spool's side (writer_spool.c), what people see
// (writer_status.c).
#pragma once

#include "base/list.h"
#include "base/log.h"
#include "store/exchange_internal.h"
#include "store/lane.h"
#include "store/outage.h"
#include "store/prepare.h"
#include "store/pulse.h"
#include "store/writer.h"
#include "store/writer_spool.h"

struct writer {
    struct loop *loop;
    struct catalog *catalog;
    struct budget *budget;
    struct writer_options options;
    struct lane_epoch epoch;
    struct lane_counters lane_counters;
    struct writer_counters counters;
    struct lane **lanes;
    struct batch *gathering;
    struct exchanges *exchanges;
    struct prepare prepare; // batches whose partitions are being made
    struct list ready;      // batches that are full, or came back
    struct list spare;      // empty, with the memory of their last use
    unsigned spares;
    struct loop_task *flush;
    bool started;
    struct outage outage;
    struct pulse *pulse;
    // the spool; see writer_spool.h
    struct spool_file *spool_file;
    char *spool_name; // what PostgreSQL knows it by, or NULL
    struct writer_spool_calls spool;
    bool keeps;            // messages go into its file
    struct batch *entries; // with the spool's entries, taken from what waits and not committed yet
    int64_t position;      // the entries that are committed
    uint64_t rejects_unsaid; // since the last line about them
    struct log_limit reject_limit;
    // batches that are too large
    size_t room; // what a transaction may have, as far as is known; 0: any batch
    struct log_limit split_limit;
    // linger
    struct loop_timer *tick;
    unsigned ticks;
    size_t rows_at_tick;
    bool hurried;
    // drain
    loop_fn *drained;
    void *drained_arg;
    char state[640];
};

static inline struct batch *writer_batch_of(struct list *node)
{
    return list_entry(node, struct batch, node);
}

static inline size_t writer_gathered(const struct writer *writer)
{
    return batch_content(writer->gathering);
}

// writer.c
struct batch *writer_spare_batch(struct writer *writer);
void writer_recycle(struct writer *writer, struct batch *batch); // which is empty
void writer_dispatch(struct writer *writer);
void writer_flush(void *arg); // of the task
void writer_epoch_moved(void *arg);

// writer_split.c
// PostgreSQL had no room for the batch, which may be split: it goes in parts.
void writer_split(struct writer *writer, struct batch *batch, const struct lane_failure *failure);
// As much of the batch, which is the next to go, as there may be room for; the rest is ready.
void writer_cut(struct writer *writer, struct batch *batch);
// There was room for a batch.
void writer_had_room(struct writer *writer);

// writer_linger.c
void writer_linger(struct writer *writer); // rows have come
void writer_linger_due(void *arg);         // of the timer

// writer_spool.c
// Whether the batch must wait for the entries before its own.
bool writer_behind_entries(const struct writer *writer, const struct batch *batch);
// The batch is the next to go; it is committed; it is not, and its entries come again.
void writer_entries_go(struct writer *writer, struct batch *batch);
void writer_entries_committed(struct writer *writer, const struct batch *batch);
void writer_entries_taken(struct writer *writer);
// Whether it can have been PostgreSQL as a whole that has refused.
void writer_trouble(struct writer *writer, const struct lane_failure *failure);
void writer_look_for_outage(struct writer *writer);
// What the pulse asks, and tells; see pulse.h.
int64_t writer_work(void *arg);
void writer_silent(void *arg, int64_t quiet_ms);
void writer_doubt_resolved(void *arg, int64_t doubt, bool committed);
void writer_position(void *arg, int64_t position);
