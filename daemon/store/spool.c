// The spool's life and its states.
#include "store/spool.h"

#include <stdlib.h>

#include "base/failpoint.h"
#include "base/mem.h"
#include "store/exchange_internal.h"
#include "store/spool_internal.h"
#include "store/writer.h"

enum {
    TICK_MS = 10000,
    STOP_TICK_MS = 100,
    REPEAT_LOG_MS = 60000,
    MEMORY_PARTS = 8,    // of them, one for a chunk of entries
    ENTRY_MEMORY = 1024, // what a small one takes, with its row
    CHUNK_MIN = 16,
};

size_t spool_chunk_bytes(const struct spool *spool)
{
    return spool->budget->limit / MEMORY_PARTS;
}

size_t spool_chunk(const struct spool *spool)
{
    size_t chunk = spool_chunk_bytes(spool) / ENTRY_MEMORY;
    if (chunk > spool->options.max_entries)
        chunk = spool->options.max_entries;
    return chunk > CHUNK_MIN ? chunk : CHUNK_MIN;
}

struct spool_file_status spool_file_now(const struct spool *spool)
{
    struct spool_file_status status;
    spool_file_status(spool->file, &status);
    return status;
}

// ---- states ----

static void set_state(struct spool *spool, enum spool_state state)
{
    spool->state = state;
    writer_set_keeps(spool->writer, state != SPOOL_DIRECT);
}

// From whatever state: what the writer has goes into the file, or is there still.
static void keep(struct spool *spool)
{
    set_state(spool, SPOOL_KEEPING);
    spool->holds_back = spool->options.ends;
    spool_file_read_no_more(spool->file);
    spool->reading = false;
    spool_unload(spool);
    loop_task_schedule(spool->work);
}

static void outage(void *arg)
{
    struct spool *spool = arg;
    if (spool->state == SPOOL_KEEPING)
        return;
    spool_say_outage(spool);
    if (spool->state == SPOOL_DIRECT || !writer_refused(spool->writer)) {
        keep(spool);
        return;
    }
    // What is drained is tried again, ever less often; nothing else waits for it.
    spool->holds_back = false;
    loop_task_schedule(spool->work);
}

// Somebody else has stored entries of this spool: two daemons have the same file.
static void taken(void *arg)
{
    struct spool *spool = arg;
    log_warn("spool %s: PostgreSQL has other entries of it than expected; looking anew",
             spool->options.path);
    keep(spool);
}

static void resolved(void *arg, int64_t doubt, bool committed)
{
    struct spool *spool = arg;
    uint64_t count = spool_file_resolve(spool->file, doubt, committed);
    spool_decide(spool, doubt, committed);
    spool->counters.resolved += committed ? count : 0;
    spool_say_resolved(count, committed);
}

static void position(void *arg, int64_t at)
{
    struct spool *spool = arg;
    spool_position(spool, at);
    if (spool->state == SPOOL_KEEPING && !spool->stopping) {
        set_state(spool, SPOOL_DRAINING);
        spool_say_back(spool);
    }
    loop_task_schedule(spool->work);
}

// A copy of the file, on a box that was made from this one's image, must not take what this one
// stores for its own.
static void renew(struct spool *spool)
{
    spool_file_renew(spool->file);
    writer_name_spool(spool->writer);
}

static void go_direct(struct spool *spool)
{
    set_state(spool, SPOOL_DIRECT);
    renew(spool);
    spool->holds_back = false;
    spool_say_empty(spool);
    while (spool->queue.count > 0) {
        struct message *message = spool_queue_take(&spool->queue);
        if (message && spool_has_stored(spool, message))
            message_release(message, VERDICT_DEDUPLICATED, "its packet identifier is stored");
        else if (message)
            spool->calls.message(spool->calls.arg, message);
    }
}

// Whether those that are left fit into one transaction; the file may have many more that are
// stored, where the disk fails.
static bool are_last(const struct spool *spool)
{
    struct spool_file_status file = spool_file_now(spool);
    uint64_t left = spool_left(spool), bytes = file.count > 0 ? file.bytes / file.count * left : 0;
    return left <= spool_chunk(spool) && bytes <= spool_chunk_bytes(spool);
}

// The last entries are on their way then: what comes now waits for them, since an input that never
// pauses would fill the file for ever.
static void see_to_the_end(struct spool *spool)
{
    if (spool->state != SPOOL_DRAINING || spool->stopping)
        return;
    if (!writer_refused(spool->writer) && !spool->stuck && are_last(spool))
        spool->holds_back = true;
    if (spool->holds_back && spool_is_drained(spool) && writer_idle(spool->writer) &&
        exchanges_sweep_void(spool->writer))
        go_direct(spool);
}

// ---- the stop ----

static bool is_durable(const struct spool *spool)
{
    const struct spool_queue *queue = &spool->queue;
    bool waits_for_room = spool->full || spool->holds_back;
    return queue->given == 0 && (queue->count == 0 || waits_for_room);
}

static void tell_if_stopped(struct spool *spool)
{
    if (!spool->stopped || !spool->drained)
        return;
    if (!is_durable(spool) && !spool_file_now(spool).unwritable) {
        loop_timer_start(spool->tick, STOP_TICK_MS);
        return;
    }
    loop_fn *stopped = spool->stopped;
    spool->stopped = NULL;
    stopped(spool->stopped_arg);
}

static void writer_drained(void *arg)
{
    struct spool *spool = arg;
    spool->drained = true;
    if (spool->state == SPOOL_DIRECT && !spool->options.ends && !writer_idle(spool->writer)) {
        log_info("spool %s: PostgreSQL is away; what is in is kept here", spool->options.path);
        keep(spool);
    }
    loop_task_schedule(spool->work);
}

void spool_stop(struct spool *spool, loop_fn *done, void *arg)
{
    spool->stopping = true;
    spool->stopped = done;
    spool->stopped_arg = arg;
    spool->holds_back = spool->options.ends;
    writer_drain(spool->writer, writer_drained, spool);
    loop_task_schedule(spool->work);
}

// ---- life ----

static void work(void *arg)
{
    struct spool *spool = arg;
    spool_give(spool);
    spool_read_on(spool);
    see_to_the_end(spool);
    tell_if_stopped(spool);
}

static void tick(void *arg)
{
    struct spool *spool = arg;
    if (!spool->stopping) {
        spool_see_whether_stuck(spool);
        spool_say_progress(spool);
        spool_say_kept(spool);
        loop_timer_start(spool->tick, TICK_MS);
    }
    work(spool);
}

static void settled(struct message_source *source, struct message *message)
{
    struct spool *spool = (struct spool *)source;
    spool->counters.drained += message->verdict != VERDICT_ABANDONED;
    spool->taken_bytes -= message->charged;
}

static void note_void(void *arg, uint64_t session, uint16_t packet_id, enum spool_exchange what)
{
    (void)session;
    (void)packet_id;
    *(bool *)arg |= what == SPOOL_EXCHANGE_VOID;
}

// There is something to be done before messages may go to PostgreSQL directly.
static bool is_in_use(const struct spool *spool)
{
    const struct spool_doubt *doubts;
    bool has_void = false;
    spool_file_each_exchange(spool->file, note_void, &has_void);
    return spool_file_now(spool).count > 0 || spool_file_doubts(spool->file, &doubts) > 0 ||
           has_void;
}

static struct spool_file *open_file(struct spool *spool, char **error)
{
    const struct spool_file_options options = {
        .path = spool->options.path,
        .max_bytes = spool->options.max_bytes,
        .drop_oldest = spool->options.drop_oldest,
    };
    const struct spool_file_calls calls = {.durable = spool_durable,
                                           .dropped = spool_dropped,
                                           .arg = spool};
    return spool_file_open(spool->loop, &options, &calls, error);
}

static void begin(struct spool *spool)
{
    const struct writer_spool_calls calls = {
        .outage = outage,
        .resolved = resolved,
        .position = position,
        .committed = spool_committed,
        .taken = taken,
        .arg = spool,
    };
    spool->work = loop_task_new(spool->loop, work, spool);
    spool->tick = loop_timer_new(spool->loop, tick, spool);
    loop_timer_start(spool->tick, TICK_MS);
    writer_set_spool(spool->writer, spool->file,
                     spool->options.ends ? -1 : spool->options.outage_after_ms, &calls);
    if (!is_in_use(spool)) {
        renew(spool);
        return;
    }
    set_state(spool, SPOOL_KEEPING);
    spool->holds_back = spool->options.ends;
    spool_say_begin(spool);
}

struct spool *spool_new(struct loop *loop, struct writer *writer, struct budget *budget,
                        const struct spool_options *options, const struct spool_calls *calls,
                        char **error)
{
    struct spool *spool = mem_zalloc(sizeof *spool);
    spool->source = (struct message_source){.name = "spool", .settled = settled};
    spool->loop = loop;
    spool->writer = writer;
    spool->budget = budget;
    spool->options = *options;
    spool->calls = *calls;
    spool->outage_limit.interval_ms = spool->back_limit.interval_ms = REPEAT_LOG_MS;
    spool->full_limit.interval_ms = spool->drop_limit.interval_ms = REPEAT_LOG_MS;
    spool->stuck_limit.interval_ms = REPEAT_LOG_MS;
    spool->file = open_file(spool, error);
    if (!spool->file) {
        free(spool);
        return NULL;
    }
    begin(spool);
    return spool;
}

void spool_abandon(struct spool *spool)
{
    if (!spool)
        return;
    spool_file_close(spool->file);
    spool->file = NULL;
    while (spool->queue.count > 0) {
        struct message *message = spool_queue_take(&spool->queue);
        if (message)
            message_release(message, VERDICT_ABANDONED, NULL);
    }
}

void spool_free(struct spool *spool)
{
    if (!spool)
        return;
    spool_abandon(spool);
    spool_queue_fini(&spool->queue);
    loop_task_free(spool->work);
    loop_timer_free(spool->tick);
    free(spool);
}

bool spool_takes(const struct spool *spool)
{
    return spool->state != SPOOL_DIRECT;
}

const struct message_source *spool_source(const struct spool *spool)
{
    return &spool->source;
}

struct spool_file *spool_file_of(const struct spool *spool)
{
    return spool->file;
}

enum spool_state spool_state(const struct spool *spool)
{
    return spool->state;
}

const struct spool_counters *spool_counters(const struct spool *spool)
{
    return &spool->counters;
}
