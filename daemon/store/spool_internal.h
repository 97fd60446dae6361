// What the files of the spool share: life and states (spool.c), what goes in (spool_keep.c), what
// comes out (spool_drain.c), what people see (spool_report.c).
#pragma once

#include "base/log.h"
#include "spool/spool_file.h"
#include "spool/spool_queue.h"
#include "store/spool.h"
#include "store/writer_spool.h"

struct spool {
    struct message_source source; // of the entries that come back
    struct loop *loop;
    struct writer *writer;
    struct budget *budget;
    struct spool_options options;
    struct spool_calls calls;
    struct spool_file *file;
    enum spool_state state;
    struct spool_counters counters;
    struct loop_task *work;
    struct loop_timer *tick;
    // in
    struct spool_queue queue;
    size_t given_bytes; // of memory, of what the file has been given and is not durable
    int64_t durable;    // entries through this one
    bool full;          // the first that the file has not been given waits for room
    bool holds_back;    // the file is not given anything: it is to become empty
    // out
    int64_t stored;            // entries through this one, in PostgreSQL
    size_t taken_bytes;        // of memory, of entries that are on their way there
    bool reading;              // entries are being read
    int64_t read_to, read_end; // entries that were read; that there are, when reading began
    uint64_t cut_off;          // entries of a transaction that was cut off, the last of which is
    int64_t cut_off_to;
    bool stuck; // what comes next cannot be read; seen at a tick
    // the stop
    bool stopping, drained;
    loop_fn *stopped;
    void *stopped_arg;
    // for people
    uint64_t ticked_drained; // at the last tick
    int64_t ticked_ms;
    uint64_t rate; // entries a second, lately
    struct log_limit outage_limit, back_limit, full_limit, drop_limit, stuck_limit;
    bool said_in_use;     // the log's last word is that messages go through the file
    int64_t said_kept_ms; // when it said last that they are kept
    char status[200];
};

// Entries at a time, and their bytes: twice as much may be in memory.
size_t spool_chunk(const struct spool *spool);
size_t spool_chunk_bytes(const struct spool *spool);
struct spool_file_status spool_file_now(const struct spool *spool);

// spool_keep.c
void spool_give(struct spool *spool); // to the file, what it may be given
// Whether it repeats a message of QoS 2 that is stored, or in the file.
bool spool_has_stored(const struct spool *spool, const struct message *message);
void spool_durable(void *arg, int64_t number);
void spool_dropped(void *arg, uint64_t count);
// Takes all that the writer has; later entries of the queue are behind it.
void spool_unload(struct spool *spool);
// Those that wait for room, of a transaction of which it is known now whether it has committed.
void spool_decide(struct spool *spool, int64_t doubt, bool committed);

// spool_drain.c
void spool_read_on(struct spool *spool);
void spool_committed(void *arg, int64_t entry);
void spool_position(void *arg, int64_t position);
// Entries that are not stored; whether all of what was taken is.
uint64_t spool_left(const struct spool *spool);
bool spool_is_drained(const struct spool *spool);
void spool_see_whether_stuck(struct spool *spool); // at every tick

// spool_report.c
void spool_say_outage(struct spool *spool);
void spool_say_back(struct spool *spool);
void spool_say_empty(struct spool *spool);
void spool_say_full(struct spool *spool);
void spool_say_dropped(struct spool *spool);
void spool_say_resolved(uint64_t count, bool committed);
void spool_say_begin(struct spool *spool);
// At every tick; they know what there is to say.
void spool_say_progress(struct spool *spool);
void spool_say_kept(struct spool *spool);
