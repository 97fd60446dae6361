// The writer's side of the spool: when PostgreSQL is away for long; what waits goes into the spool;
// its entries come back, in order, one transaction with entries after the other.
#include "store/writer_spool.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "spool/spool_file.h"
#include "store/writer_internal.h"

// With the writer's name: of two boxes with copies of one file each has a sequence of its own.
void writer_name_spool(struct writer *writer)
{
    free(writer->spool_name);
    writer->spool_name =
        mem_printf("%s/%s", spool_file_id(writer->spool_file), writer->options.name);
    writer->epoch.spool = writer->spool_name;
}

void writer_set_spool(struct writer *writer, struct spool_file *file, int64_t outage_after_ms,
                      const struct writer_spool_calls *calls)
{
    writer->spool_file = file;
    writer->spool = *calls;
    writer->epoch.file = file;
    writer_name_spool(writer);
    writer->epoch.unasked = true;
    if (outage_after_ms < 0)
        return;
    outage_watch(&writer->outage, outage_after_ms, writer_flush, writer);
    outage_down(&writer->outage);
}

void writer_set_keeps(struct writer *writer, bool keeps)
{
    writer->keeps = keeps;
    if (keeps)
        exchanges_kept(writer->exchanges);
}

bool writer_keeps(const struct writer *writer)
{
    return writer->keeps;
}

struct spool_file *writer_spool_file(const struct writer *writer)
{
    return writer->spool_file;
}

const char *writer_name(const struct writer *writer)
{
    return writer->options.name;
}

// ---- outages ----

// A lock, a deadlock or a cancelled statement is something that passes, and concerns a table.
void writer_trouble(struct writer *writer, const struct lane_failure *failure)
{
    static const char *const passing[] = {"40", "55", "57014"};
    if (failure->action != SQL_WAIT)
        return;
    for (size_t i = 0; i < sizeof passing / sizeof *passing; i++)
        if (strncmp(failure->sqlstate, passing[i], strlen(passing[i])) == 0)
            return;
    outage_trouble(&writer->outage);
}

static bool is_committing(const struct writer *writer)
{
    for (unsigned i = 0; i < writer->options.connections; i++)
        if (lane_usable(writer->lanes[i]) && !lane_idle(writer->lanes[i]))
            return true;
    return false;
}

bool writer_refused(const struct writer *writer)
{
    return writer->outage.troubled;
}

void writer_look_for_outage(struct writer *writer)
{
    if (writer_usable(writer) == 0)
        outage_down(&writer->outage);
    if (writer->outage.lasting && !is_committing(writer))
        writer->spool.outage(writer->spool.arg);
}

int64_t writer_work(void *arg)
{
    const struct writer *writer = arg;
    bool waits = writer_usable(writer) > 0 && !writer_idle(writer);
    return waits ? (int64_t)(writer->lane_counters.commits + writer->lane_counters.failures) : -1;
}

// What is under way on the connections is in doubt then, as where they break.
void writer_silent(void *arg, int64_t quiet_ms)
{
    struct writer *writer = arg;
    const char *what = writer->outage.lasts ? "its connections are given up"
                                            : "messages stay unacknowledged until it does";
    log_warn("postgres: nothing has been committed for %" PRId64 " s, and the server does not"
             " answer: %s",
             quiet_ms / 1000, what);
    if (!writer->outage.lasts)
        return;
    for (unsigned i = 0; i < writer->options.connections; i++)
        lane_give_up(writer->lanes[i], "the server does not answer");
    outage_found(&writer->outage);
}

// ---- out of the writer ----

static void unload(struct writer *writer, struct batch *batch, const struct lane_doubt *doubt,
                   writer_unload_fn *fn, void *arg)
{
    fn(arg, batch, doubt);
    exchanges_unload(writer, batch);
    batch_unload(batch);
}

static void unload_lanes(struct writer *writer, writer_unload_fn *fn, void *arg)
{
    struct lane_doubt doubt;
    for (unsigned i = 0; i < writer->options.connections; i++) {
        struct batch *batch = lane_take_unresolved(writer->lanes[i], &doubt);
        if (!batch)
            continue;
        unload(writer, batch, &doubt, fn, arg);
        writer_recycle(writer, batch);
    }
}

void writer_unload(struct writer *writer, writer_unload_fn *fn, void *arg)
{
    struct batch *batch;
    unload_lanes(writer, fn, arg);
    while ((batch = prepare_take(&writer->prepare))) {
        unload(writer, batch, NULL, fn, arg);
        writer_recycle(writer, batch);
    }
    for (struct list *node; (node = list_take(&writer->ready));) {
        unload(writer, writer_batch_of(node), NULL, fn, arg);
        writer_recycle(writer, writer_batch_of(node));
    }
    unload(writer, writer->gathering, NULL, fn, arg);
    loop_timer_stop(writer->tick);
    writer->entries = NULL;
    outage_over(&writer->outage);
    writer->epoch.current = 0; // raised anew, so that every transaction before has ended
    writer->epoch.again = writer->epoch.raising;
    writer->epoch.unasked = true;
    writer_epoch_moved(writer);
}

// ---- what the lanes have asked ----

void writer_doubt_resolved(void *arg, int64_t doubt, bool committed)
{
    struct writer *writer = arg;
    writer->spool.resolved(writer->spool.arg, doubt, committed);
}

void writer_position(void *arg, int64_t position)
{
    struct writer *writer = arg;
    writer->position = position;
    writer->spool.position(writer->spool.arg, position);
}

// ---- entries ----

bool writer_behind_entries(const struct writer *writer, const struct batch *batch)
{
    return batch->spool_to > 0 && writer->entries && writer->entries != batch;
}

void writer_entries_go(struct writer *writer, struct batch *batch)
{
    if (batch->spool_to == 0)
        return;
    batch->spool_from = writer->position;
    writer->entries = batch;
}

void writer_entries_committed(struct writer *writer, const struct batch *batch)
{
    if (batch->spool_to == 0)
        return;
    writer->position = batch->spool_to;
    writer->entries = NULL;
    writer_dispatch(writer); // what waited for this
}

void writer_entries_taken(struct writer *writer)
{
    writer->entries = NULL;
    if (writer->spool.taken)
        writer->spool.taken(writer->spool.arg);
}

void writer_pass_entry(struct writer *writer, int64_t entry)
{
    batch_pass_entry(writer_begin(writer), entry);
    writer_end(writer);
}

bool writer_idle(const struct writer *writer)
{
    if (writer_gathered(writer) > 0 || !list_empty(&writer->ready) ||
        !prepare_idle(&writer->prepare))
        return false;
    for (unsigned i = 0; i < writer->options.connections; i++)
        if (lane_batch(writer->lanes[i]))
            return false;
    return true;
}
