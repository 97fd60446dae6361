// Batches that are too large for PostgreSQL: a transaction needs a lock for each partition that it
// writes to, and for each of its indexes, and the server has room for a fixed number of all
// transactions' locks.
#include "store/writer_internal.h"

// A part of the room, by which it grows with each commit: what was short may be there again.
enum { GROWTH = 16 };

// False where it is one message's. Whose entries of the spool are the first is the next to go.
static bool halve(struct writer *writer, struct batch *batch)
{
    struct batch *later = writer_spare_batch(writer);
    bool split = batch_split(batch, later);
    if (!split) {
        writer_recycle(writer, later);
        return false;
    }
    if (writer->entries == batch && batch->spool_to == 0)
        writer->entries = later;
    list_prepend(&writer->ready, &later->node);
    return true;
}

void writer_split(struct writer *writer, struct batch *batch, const struct lane_failure *failure)
{
    size_t content = batch_content(batch);
    if (log_limit_pass(&writer->split_limit, NULL))
        log_warn(
            "postgres: no room for a transaction of %zu rows (%s): they are committed in smaller "
            "ones; raise PostgreSQL's max_locks_per_transaction, or choose longer partitions",
            content, failure->message);
    halve(writer, batch);
    if (writer->room == 0 || writer->room > content / 2)
        writer->room = content / 2;
    list_prepend(&writer->ready, &batch->node);
    loop_task_schedule(writer->flush);
}

void writer_cut(struct writer *writer, struct batch *batch)
{
    while (writer->room > 0 && batch_content(batch) > writer->room && halve(writer, batch))
        continue;
}

void writer_had_room(struct writer *writer)
{
    if (writer->room == 0)
        return;
    writer->room += writer->room / GROWTH + 1;
    if (writer->room >= writer->options.max_rows)
        writer->room = 0;
}
