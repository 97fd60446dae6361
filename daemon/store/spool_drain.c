// What comes out of the spool: its entries, read ahead in order, as messages of a source.
#include "base/failpoint.h"
#include "store/exchange_internal.h"
#include "store/spool_internal.h"
#include "store/writer.h"

static void take_entry(void *arg, const struct spool_entry *entry)
{
    struct spool *spool = arg;
    struct message *message = message_new(&spool->source, spool->budget, &entry->parts);
    message->session = entry->session;
    message->packet_id = entry->packet_id;
    message->content = entry->content;
    message->resent = entry->unsure;
    spool->taken_bytes += message->charged;
    spool->read_to = entry->number;
    if (entry->unsure && exchanges_in_database(spool->writer, message)) {
        writer_pass_entry(spool->writer, entry->number);
        message_release(message, VERDICT_DEDUPLICATED, "its packet identifier is stored");
        return;
    }
    spool->calls.message(spool->calls.arg, message);
}

static void read_done(void *arg, bool all)
{
    struct spool *spool = arg;
    FAILPOINT("spool-read");
    spool->reading = spool->stuck = false;
    if (all && spool->read_to < spool->read_end)
        spool->read_to = spool->read_end; // what there was up to there is gone
    writer_hurry(spool->writer);
    loop_task_schedule(spool->work);
}

void spool_read_on(struct spool *spool)
{
    size_t chunk = spool_chunk(spool), bytes = spool_chunk_bytes(spool);
    if (spool->state != SPOOL_DRAINING || spool->stopping || spool->reading ||
        books_pending(&spool->source.books) >= chunk || spool->taken_bytes >= bytes)
        return;
    spool->read_end = spool_file_now(spool).last;
    if (spool->read_end <= spool->read_to)
        return;
    const struct spool_file_reading reading = {.entry = take_entry,
                                               .read = read_done,
                                               .arg = spool};
    spool->reading = true;
    spool_file_read(spool->file, spool->read_to, chunk, bytes, &reading);
}

void spool_committed(void *arg, int64_t entry)
{
    struct spool *spool = arg;
    if (entry > 0) {
        spool->stored = entry;
        FAILPOINT("spool-drained");
        spool_file_delete(spool->file, entry);
    }
    if (spool->state != SPOOL_DIRECT)
        loop_task_schedule(spool->work);
}

void spool_position(void *arg, int64_t position)
{
    struct spool *spool = arg;
    if (spool->cut_off_to <= position)
        spool->counters.resolved += spool->cut_off;
    spool->cut_off = 0;
    spool->read_to = spool->stored = position;
    spool_file_delete(spool->file, position);
}

// Those that are stored may be in the file for longer. What was read and is not on its way any more
// is stored; after it was what a transaction that was cut off had stored, too.
uint64_t spool_left(const struct spool *spool)
{
    struct spool_file_status file = spool_file_now(spool);
    int64_t stored = books_pending(&spool->source.books) > 0 ? spool->stored : spool->read_to;
    uint64_t beyond = file.last > stored ? (uint64_t)(file.last - stored) : 0;
    return beyond < file.count ? beyond : file.count;
}

void spool_see_whether_stuck(struct spool *spool)
{
    spool->stuck =
        spool->state == SPOOL_DRAINING && spool->reading && spool_file_now(spool).unreadable;
    if (spool->stuck) // there is no end in sight
        spool->holds_back = spool->options.ends;
}

bool spool_is_drained(const struct spool *spool)
{
    return spool->queue.given == 0 && !spool->reading && spool_left(spool) == 0 &&
           books_pending(&spool->source.books) == 0;
}
