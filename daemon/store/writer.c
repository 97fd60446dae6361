// The batch writer: while the connections commit, the next batch gathers.
#include "store/writer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/failpoint.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/catalog.h"
#include "store/exchange_internal.h"
#include "store/lane.h"
#include "store/prepare.h"

enum {
    BATCH_BYTES = 64 << 20, // PostgreSQL takes no message of a GiB
    REPEAT_LOG_MS = 60000,
    LINGER_TICKS = 8, // per linger: how often it is looked whether the input has gone quiet
};

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
    uint64_t rejects_unsaid; // since the last line about them
    struct log_limit reject_limit;
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

static struct batch *batch_of(struct list *node)
{
    return list_entry(node, struct batch, node);
}

static struct batch *spare_batch(struct writer *writer)
{
    struct list *node = list_take(&writer->spare);
    if (!node)
        return batch_new(writer->budget);
    writer->spares--;
    return batch_of(node);
}

// The batch is empty.
static void recycle(struct writer *writer, struct batch *batch)
{
    if (writer->spares > writer->options.connections) {
        batch_free(batch);
        return;
    }
    list_append(&writer->spare, &batch->node);
    writer->spares++;
}

static size_t gathered(const struct writer *writer)
{
    return batch_content(writer->gathering);
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
    return gathered(writer) > 0 &&
           (writer->options.linger_ms == 0 || writer->hurried || writer->drained ||
            gathered(writer) >= writer->options.max_rows);
}

static struct batch *next_batch(struct writer *writer)
{
    struct list *node = list_take(&writer->ready);
    if (node)
        return batch_of(node);
    if (!gathering_due(writer))
        return NULL;
    struct batch *batch = writer->gathering;
    writer->gathering = spare_batch(writer);
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
    if (writer_usable(writer) == 0)
        return true;
    if (gathered(writer) > 0 || !list_empty(&writer->ready) || !prepare_idle(&writer->prepare))
        return false;
    for (unsigned i = 0; i < writer->options.connections; i++)
        if ((lane_usable(writer->lanes[i]) && !lane_idle(writer->lanes[i])) ||
            lane_unresolved(writer->lanes[i]))
            return false;
    return true;
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
static void dispatch(struct writer *writer)
{
    struct lane *lane;
    while (writer->epoch.current != 0 && !writer->epoch.raising && (lane = idle_lane(writer))) {
        struct batch *batch = next_batch(writer);
        if (!batch)
            break;
        if (!prepare_batch(&writer->prepare, batch))
            continue;
        writer->counters.commits_by_timer += loop_in_timer(writer->loop);
        lane_commit(lane, batch);
    }
}

static void flush(void *arg)
{
    struct writer *writer = arg;
    dispatch(writer);
    tell_if_drained(writer);
}

// ---- what the lanes say ----

// A drain ends later, when what the lane has just committed is let go.
static void lane_ready(void *arg)
{
    struct writer *writer = arg;
    dispatch(writer);
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
    count(writer, batch);
    say_rejects(writer, batch);
    exchanges_committed(writer, batch);
    batch_settle(batch);
    FAILPOINT("settled");
    recycle(writer, batch);
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
    if (failure->action == SQL_PARTITION) {
        prepare_refresh(&writer->prepare, batch, &batch->groups[failure->target->index]);
        return;
    }
    if (failure->action == SQL_TAKEN) {
        batch_abandon(batch); // what is still to be stored comes again
        recycle(writer, batch);
        return;
    }
    if (failure->action == SQL_STOP)
        stop_target(writer, batch, failure);
    send_again(writer, batch);
}

static void lane_epoch_moved(void *arg)
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

// ---- linger ----

// The input has gone quiet when no row has come since the last tick.
static void tick(void *arg)
{
    struct writer *writer = arg;
    size_t rows = gathered(writer);
    if (++writer->ticks >= LINGER_TICKS || rows == writer->rows_at_tick) {
        writer->hurried = true;
        flush(writer);
        return;
    }
    writer->rows_at_tick = rows;
    loop_timer_start(writer->tick, writer->options.linger_ms / LINGER_TICKS + 1);
}

static void start_linger(struct writer *writer)
{
    if (loop_timer_pending(writer->tick) || writer->hurried)
        return;
    writer->ticks = 0;
    writer->rows_at_tick = gathered(writer);
    loop_timer_start(writer->tick, writer->options.linger_ms / LINGER_TICKS + 1);
}

// ---- gathering ----

struct batch *writer_begin(struct writer *writer)
{
    if (gathered(writer) >= writer->options.max_rows ||
        writer->gathering->value_bytes >= BATCH_BYTES) {
        list_append(&writer->ready, &writer->gathering->node);
        writer->gathering = spare_batch(writer);
    }
    return writer->gathering;
}

void writer_end(struct writer *writer)
{
    if (gathered(writer) == 0)
        return;
    if (writer->options.linger_ms > 0 && !gathering_due(writer))
        start_linger(writer);
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
    writer->reject_limit.interval_ms = REPEAT_LOG_MS;
    list_init(&writer->ready);
    prepare_init(&writer->prepare, catalog, send_again, writer);
    list_init(&writer->spare);
    writer->gathering = batch_new(budget);
    writer->flush = loop_task_new(loop, flush, writer);
    writer->tick = loop_timer_new(loop, tick, writer);
    const struct lane_calls calls = {
        .ready = lane_ready,
        .gone = lane_gone,
        .committed = lane_committed,
        .returned = lane_returned,
        .epoch_changed = lane_epoch_moved,
        .exchanges = lane_exchanges,
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
        struct batch *batch = batch_of(node);
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
    exchanges_free(writer->exchanges);
    free(writer);
}

const struct writer_counters *writer_counters(struct writer *writer)
{
    struct writer_counters *counters = &writer->counters;
    counters->commits = writer->lane_counters.commits;
    counters->failures = writer->lane_counters.failures;
    counters->resolved_committed = writer->lane_counters.resolved_committed;
    counters->resolved_repeated = writer->lane_counters.resolved_repeated;
    return counters;
}

struct exchanges *writer_exchanges(const struct writer *writer)
{
    return writer->exchanges;
}

void writer_each_batch(const struct writer *writer, writer_batch_fn *fn, void *arg)
{
    fn(arg, writer->gathering);
    list_each (node, &writer->ready)
        fn(arg, batch_of(node));
    prepare_each(&writer->prepare, fn, arg);
    for (unsigned i = 0; i < writer->options.connections; i++) {
        struct batch *batch = lane_batch(writer->lanes[i]);
        if (batch)
            fn(arg, batch);
    }
}

static void find_oldest(void *arg, struct batch *batch)
{
    int64_t *oldest_us = arg, time_us = batch_oldest_us(batch);
    if (time_us < *oldest_us)
        *oldest_us = time_us;
}

int64_t writer_lag_ms(const struct writer *writer)
{
    int64_t oldest_us = INT64_MAX, now_us = loop_wall_us();
    writer_each_batch(writer, find_oldest, &oldest_us);
    return oldest_us < now_us ? (now_us - oldest_us) / 1000 : 0;
}

unsigned writer_usable(const struct writer *writer)
{
    unsigned usable = 0;
    for (unsigned i = 0; i < writer->options.connections; i++)
        usable += lane_usable(writer->lanes[i]);
    return usable;
}

const char *writer_state(struct writer *writer)
{
    unsigned usable = writer_usable(writer);
    if (usable == writer->options.connections)
        return "ok";
    const char *trouble = "";
    for (unsigned i = 0; i < writer->options.connections; i++)
        if (!lane_usable(writer->lanes[i]))
            trouble = lane_trouble(writer->lanes[i]);
    snprintf(writer->state, sizeof writer->state, "%u of %u connections: %s", usable,
             writer->options.connections, trouble);
    return writer->state;
}
