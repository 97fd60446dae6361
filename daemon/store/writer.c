// The batch writer: while the connections commit, the next batch gathers.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/failpoint.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/catalog.h"
#include "store/writer_internal.h"

enum {
    BATCH_BYTES = 64 << 20, // PostgreSQL takes no message of a GiB
    REPEAT_LOG_MS = 60000,
};

struct batch *writer_spare_batch(struct writer *writer)
{
    struct list *node = list_take(&writer->spare);
    if (!node)
        return batch_new(writer->budget);
    writer->spares--;
    return writer_batch_of(node);
}

void writer_recycle(struct writer *writer, struct batch *batch)
{
    if (writer->spares > writer->options.connections) {
        batch_free(batch);
        return;
    }
    list_append(&writer->spare, &batch->node);
    writer->spares++;
}

// ---- dispatch ----

// The batch is older than what is ready.
static void send_again(void *arg, struct batch *batch)
{
    struct writer *writer = arg;
    list_prepend(&writer->ready, &batch->node);
    loop_task_schedule(writer->flush);
}

static bool gathering_due(const struct writer *writer)
{
    return writer_gathered(writer) > 0 &&
           (writer->options.linger_ms == 0 || writer->hurried || writer->drained ||
            writer_gathered(writer) >= writer->options.max_rows);
}

static struct batch *next_batch(struct writer *writer)
{
    struct batch *batch = writer->gathering;
    if (!list_empty(&writer->ready))
        batch = writer_batch_of(writer->ready.next);
    else if (!gathering_due(writer))
        return NULL;
    if (writer_behind_entries(writer, batch))
        return NULL;
    if (batch != writer->gathering) {
        list_remove(&batch->node);
        return batch;
    }
    writer->gathering = writer_spare_batch(writer);
    writer->hurried = false;
    loop_timer_stop(writer->tick);
    return batch;
}

static struct lane *idle_lane(struct writer *writer)
{
    for (unsigned i = 0; i < writer->options.connections; i++)
        if (lane_idle(writer->lanes[i]))
            return writer->lanes[i];
    return NULL;
}

static bool all_quiet(struct writer *writer)
{
    return writer_usable(writer) == 0 || writer_idle(writer);
}

static void tell_if_drained(struct writer *writer)
{
    if (!writer->drained || !all_quiet(writer))
        return;
    loop_fn *drained = writer->drained;
    writer->drained = NULL;
    drained(writer->drained_arg);
}

// A free connection takes all that waits.
void writer_dispatch(struct writer *writer)
{
    struct lane *lane;
    while (writer->epoch.current != 0 && !writer->epoch.raising && (lane = idle_lane(writer))) {
        struct batch *batch = next_batch(writer);
        if (!batch)
            break;
        pulse_watch(writer->pulse);
        writer_cut(writer, batch);
        writer_entries_go(writer, batch);
        if (!prepare_batch(&writer->prepare, batch))
            continue;
        writer->counters.commits_by_timer += loop_in_timer(writer->loop);
        lane_commit(lane, batch);
    }
}

void writer_flush(void *arg)
{
    struct writer *writer = arg;
    writer_look_for_outage(writer);
    writer_dispatch(writer);
    tell_if_drained(writer);
}

// ---- what the lanes say ----

// A drain ends later, when what the lane has just committed is let go.
static void lane_ready(void *arg)
{
    struct writer *writer = arg;
    outage_up(&writer->outage);
    writer_dispatch(writer);
    if (writer->drained)
        loop_task_schedule(writer->flush);
}

// A drain waits no longer than there are connections.
static void lane_gone(void *arg)
{
    struct writer *writer = arg;
    loop_task_schedule(writer->flush);
}

static void count(struct writer *writer, const struct batch *batch)
{
    for (size_t i = 0; i < batch->group_count; i++)
        writer->counters.rows += batch->groups[i].count - batch->groups[i].refused;
    writer->counters.rejects += batch->reject_count;
    writer->rejects_unsaid += batch->reject_count;
}

// One line a minute at most, so that somebody looks, however many there are.
static void say_rejects(struct writer *writer, const struct batch *batch)
{
    if (batch->reject_count == 0 || !log_limit_pass(&writer->reject_limit, NULL))
        return;
    const struct batch_reject *last = &batch->rejects[batch->reject_count - 1];
    log_warn("%" PRIu64 " message(s) to sensorlog.reject; the last one, topic %.*s, mapping %s: "
             "%s%s%s",
             writer->rejects_unsaid, (int)last->message->topic_length, last->message->topic,
             last->target ? last->target->mapping : "none", last->reason, last->detail ? ": " : "",
             last->detail ? last->detail : "");
    writer->rejects_unsaid = 0;
}

static void lane_committed(void *arg, struct batch *batch)
{
    struct writer *writer = arg;
    writer_had_room(writer);
    count(writer, batch);
    say_rejects(writer, batch);
    exchanges_committed(writer, batch);
    outage_over(&writer->outage);
    int64_t entry = batch->spool_to;
    writer_entries_committed(writer, batch);
    batch_settle(batch);
    FAILPOINT("settled");
    writer_recycle(writer, batch);
    if (writer->spool.committed)
        writer->spool.committed(writer->spool.arg, entry);
}

static void stop_target(struct writer *writer, struct batch *batch,
                        const struct lane_failure *failure)
{
    struct target *target = failure->target;
    char *detail = mem_printf("table \"%s\".\"%s\": %s (SQLSTATE %s)", target->schema,
                              target->table, failure->message, failure->sqlstate);
    struct batch_group *group = &batch->groups[target->index];
    catalog_stop(writer->catalog, target, detail);
    for (size_t row = 0; row < group->count; row++)
        batch_refuse_row(batch, group, row, "mapping stopped", detail, failure->sqlstate);
    free(detail);
}

static void lane_returned(void *arg, struct batch *batch, const struct lane_failure *failure)
{
    struct writer *writer = arg;
    writer_trouble(writer, failure);
    if (failure->action == SQL_PARTITION) {
        prepare_refresh(&writer->prepare, batch, &batch->groups[failure->target->index]);
        return;
    }
    if (failure->action == SQL_TAKEN) {
        exchanges_unload(writer, batch);
        batch_abandon(batch); // what is still to be stored comes again
        writer_recycle(writer, batch);
        writer_entries_taken(writer);
        return;
    }
    if (failure->action == SQL_SPLIT) {
        writer_split(writer, batch, failure);
        return;
    }
    if (failure->action == SQL_STOP)
        stop_target(writer, batch, failure);
    send_again(writer, batch);
}

void writer_epoch_moved(void *arg)
{
    struct writer *writer = arg;
    for (unsigned i = 0; i < writer->options.connections; i++)
        lane_epoch_changed(writer->lanes[i]);
    loop_task_schedule(writer->flush);
}

static void lane_schema_gone(void *arg)
{
    struct writer *writer = arg;
    if (!writer->epoch.raising)
        writer->epoch.current = 0; // what the new schema knows of epochs begins anew too
    catalog_begin_again(writer->catalog);
}

static void lane_exchanges(void *arg, struct exchange_set *loaded)
{
    struct writer *writer = arg;
    exchanges_load(writer->exchanges, loaded);
}

static void lane_backends(void *arg, char *text, size_t size)
{
    const struct writer *writer = arg;
    size_t used = (size_t)snprintf(text, size, "{");
    const char *separator = "";
    for (unsigned i = 0; i < writer->options.connections && used + 16 < size; i++) {
        int backend = lane_backend(writer->lanes[i]);
        if (backend == 0)
            continue;
        used += (size_t)snprintf(text + used, size - used, "%s%d", separator, backend);
        separator = ",";
    }
    snprintf(text + used, size - used, "}");
}

// ---- gathering ----

struct batch *writer_begin(struct writer *writer)
{
    if (writer_gathered(writer) >= writer->options.max_rows ||
        writer->gathering->value_bytes >= BATCH_BYTES) {
        list_append(&writer->ready, &writer->gathering->node);
        writer->gathering = writer_spare_batch(writer);
    }
    return writer->gathering;
}

void writer_end(struct writer *writer)
{
    if (writer_gathered(writer) == 0)
        return;
    if (writer->options.linger_ms > 0 && !gathering_due(writer))
        writer_linger(writer);
    else if (idle_lane(writer))
        loop_task_schedule(writer->flush);
}

void writer_hurry(struct writer *writer)
{
    writer->hurried = true;
    if (idle_lane(writer))
        loop_task_schedule(writer->flush);
}

void writer_drain(struct writer *writer, loop_fn *done, void *arg)
{
    writer->drained = done;
    writer->drained_arg = arg;
    loop_task_schedule(writer->flush);
}

// ---- life ----

struct writer *writer_new(struct loop *loop, struct worker *worker, struct catalog *catalog,
                          struct budget *budget, const struct writer_options *options)
{
    struct writer *writer = mem_zalloc(sizeof *writer);
    writer->loop = loop;
    writer->catalog = catalog;
    writer->budget = budget;
    writer->options = *options;
    writer->epoch.writer = options->name;
    writer->epoch.exchanges = options->exchanges;
    writer->exchanges = exchanges_new(loop, writer);
    outage_init(&writer->outage, loop);
    const struct pulse_calls pulse_calls = {writer_work, writer_silent, writer};
    writer->pulse = pulse_new(loop, worker, options->conninfo, options->patience_ms, &pulse_calls);
    writer->reject_limit.interval_ms = writer->split_limit.interval_ms = REPEAT_LOG_MS;
    list_init(&writer->ready);
    prepare_init(&writer->prepare, catalog, send_again, writer);
    list_init(&writer->spare);
    writer->gathering = batch_new(budget);
    writer->flush = loop_task_new(loop, writer_flush, writer);
    writer->tick = loop_timer_new(loop, writer_linger_due, writer);
    const struct lane_calls calls = {
        .ready = lane_ready,
        .gone = lane_gone,
        .committed = lane_committed,
        .returned = lane_returned,
        .epoch_changed = writer_epoch_moved,
        .exchanges = lane_exchanges,
        .resolved = writer_doubt_resolved,
        .position = writer_position,
        .schema_gone = lane_schema_gone,
        .backends = lane_backends,
        .arg = writer,
    };
    writer->lanes = mem_zalloc(options->connections * sizeof *writer->lanes);
    for (unsigned i = 0; i < options->connections; i++)
        writer->lanes[i] = lane_new(loop, worker, i, options->conninfo, &writer->epoch,
                                    &writer->lane_counters, &calls);
    return writer;
}

void writer_start(struct writer *writer)
{
    if (writer->started)
        return;
    writer->started = true;
    for (unsigned i = 0; i < writer->options.connections; i++)
        lane_start(writer->lanes[i]);
}

// What the catalog still owes them is not called any more.
static void free_batches(struct list *list)
{
    for (struct list *node; (node = list_take(list));) {
        struct batch *batch = writer_batch_of(node);
        batch_abandon(batch);
        batch_free(batch);
    }
}

void writer_free(struct writer *writer)
{
    if (!writer)
        return;
    for (unsigned i = 0; i < writer->options.connections; i++)
        lane_free(writer->lanes[i]);
    free(writer->lanes);
    list_append(&writer->ready, &writer->gathering->node);
    free_batches(&writer->ready);
    prepare_fini(&writer->prepare);
    free_batches(&writer->spare);
    loop_task_free(writer->flush);
    loop_timer_free(writer->tick);
    outage_fini(&writer->outage);
    pulse_free(writer->pulse);
    exchanges_free(writer->exchanges);
    free(writer->spool_name);
    free(writer);
}

struct exchanges *writer_exchanges(const struct writer *writer)
{
    return writer->exchanges;
}

void writer_each_batch(const struct writer *writer, writer_batch_fn *fn, void *arg)
{
    fn(arg, writer->gathering);
    list_each (node, &writer->ready)
        fn(arg, writer_batch_of(node));
    prepare_each(&writer->prepare, fn, arg);
    for (unsigned i = 0; i < writer->options.connections; i++) {
        struct batch *batch = lane_batch(writer->lanes[i]);
        if (batch)
            fn(arg, batch);
    }
}
