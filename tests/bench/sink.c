// sensorlogd's batch writer alone, fed from memory so that a full batch always waits for a free
// connection.
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/worker.h"
#include "core/budget.h"
#include "core/message.h"
#include "store/batch.h"
#include "store/catalog.h"
#include "store/target.h"
#include "store/writer.h"
#include "wire.h"

enum { SENSORS = 100, CONNECTIONS_MAX = 16, CONNECTED_POLL_MS = 5 };

static struct target_column columns[] = {
    {.name = "time", .type = COLUMN_TIMESTAMPTZ, .required = true},
    {.name = "sensor", .type = COLUMN_TEXT},
    {.name = "altitude_m", .type = COLUMN_FLOAT8},
};
static struct target altimeter = {
    .mapping = "altimeter",
    .schema = "telemetry",
    .table = "altimeter",
    .columns = columns,
    .column_count = sizeof columns / sizeof *columns,
    .partition = PARTITION_MONTH,
};

static struct target_column key_columns[] = {
    {.name = "time", .type = COLUMN_TIMESTAMPTZ, .required = true, .key = true},
    {.name = "sensor", .type = COLUMN_TEXT, .required = true, .key = true},
    {.name = "feet", .type = COLUMN_FLOAT8, .compared = true},
};
static struct target keyed = {
    .mapping = "keyed",
    .schema = "telemetry",
    .table = "keyed",
    .columns = key_columns,
    .column_count = sizeof key_columns / sizeof *key_columns,
    .key_count = 2,
    .partition = PARTITION_MONTH,
};

struct sink {
    struct message_source source; // first: settled() is given it
    struct loop *loop;
    struct loop_timer *connected;
    struct loop_task *feed;
    struct writer *writer;
    struct target *target;
    struct budget budget;
    unsigned connections;
    size_t waiting_max; // messages that are not settled
    unsigned long to_send, unsettled, number, rejected;
    int64_t time_us;
    double start, seconds;
};

static void feed_row(struct sink *sink)
{
    char topic[40];
    unsigned long sensor = sink->number++ % SENSORS;
    int length = snprintf(topic, sizeof topic, "sensors/altimeter/%lu%s", sensor,
                          sensor < SENSORS / 2 ? "" : "-far");
    struct message_parts parts = {.topic = topic, .topic_length = (uint32_t)length, .qos = 1};
    struct message *message = message_new(&sink->source, &sink->budget, &parts);
    uint32_t level = sizeof "sensors/altimeter/" - 1;

    struct batch *batch = writer_begin(sink->writer);
    struct value *row = batch_reserve_row(batch, sink->target);
    row[0] = (struct value){.integer = sink->time_us++};
    row[1] =
        (struct value){.bytes = message->topic + level, .length = message->topic_length - level};
    row[2] = (struct value){.real = drand48() * 1000}; // the same in each run
    batch_keep_row(batch, sink->target, message);
    writer_end(sink->writer);
    message_release(message, VERDICT_NONE, NULL);
}

static void feed(void *arg)
{
    struct sink *sink = arg;

    while (sink->to_send > 0 && sink->unsettled - sink->to_send < sink->waiting_max) {
        sink->to_send--;
        feed_row(sink);
    }
}

static void settled(struct message_source *source, struct message *message)
{
    struct sink *sink = (struct sink *)source;

    if (message->verdict != VERDICT_STORED && message->verdict != VERDICT_REJECTED)
        errx(1, "sink: a message ended as %s", verdict_name(message->verdict));
    sink->rejected += message->verdict == VERDICT_REJECTED;
    sink->unsettled--;
    if (sink->to_send > 0) {
        loop_task_schedule(sink->feed);
    } else if (sink->unsettled == 0) {
        sink->seconds = wire_seconds() - sink->start;
        loop_stop(sink->loop);
    }
}

static void start_when_connected(void *arg)
{
    struct sink *sink = arg;

    if (writer_usable(sink->writer) < sink->connections) {
        loop_timer_start(sink->connected, CONNECTED_POLL_MS);
        return;
    }
    sink->start = wire_seconds();
    feed(sink);
}

static void catalog_is_ready(void *arg, bool ok, const char *detail)
{
    struct sink *sink = arg;

    if (!ok)
        errx(1, "sink: %s", detail);
    writer_start(sink->writer);
    start_when_connected(sink);
}

static unsigned long argument(const char *text, unsigned long max)
{
    unsigned long value = strtoul(text, NULL, 10);

    if (value < 1 || value > max)
        errx(2, "usage: sink BATCH BATCHES CONNECTIONS(1-%d) [keyed]", CONNECTIONS_MAX);
    return value;
}

static void run(struct sink *sink, size_t batch)
{
    struct target *targets[] = {sink->target};
    struct catalog_options catalog_options = {.conninfo = "", .migrate = true};
    struct writer_options options = {.conninfo = "",
                                     .name = "bench",
                                     .connections = sink->connections,
                                     .max_rows = batch};
    struct worker *worker = worker_new(sink->loop, 1);
    struct catalog *catalog = catalog_new(sink->loop, worker, targets, 1, &catalog_options);

    sink->writer = writer_new(sink->loop, worker, catalog, &sink->budget, &options);
    catalog_start(catalog, catalog_is_ready, sink);
    loop_run(sink->loop);
    printf("rows=%lu seconds=%.6f commits=%lu rejected=%lu\n", sink->number, sink->seconds,
           (unsigned long)writer_counters(sink->writer)->commits, sink->rejected);
    writer_free(sink->writer);
    catalog_free(catalog);
    worker_free(worker);
}

int main(int argc, char **argv)
{
    struct sink sink = {.source = {.name = "memory", .settled = settled},
                        .budget = {.limit = (size_t)1 << 30}};

    if (argc != 4 && (argc != 5 || strcmp(argv[4], "keyed") != 0))
        argument("0", 1);
    sink.target = argc == 5 ? &keyed : &altimeter;
    size_t batch = argument(argv[1], 1000000);
    sink.to_send = sink.unsettled = batch * argument(argv[2], 1000000);
    sink.connections = (unsigned)argument(argv[3], CONNECTIONS_MAX);
    sink.waiting_max = batch * (sink.connections + 1);
    sink.time_us = loop_wall_us();
    log_init(LOG_LEVEL_WARN);
    sink.loop = loop_new();
    sink.connected = loop_timer_new(sink.loop, start_when_connected, &sink);
    sink.feed = loop_task_new(sink.loop, feed, &sink);
    run(&sink, batch);
    loop_task_free(sink.feed);
    loop_timer_free(sink.connected);
    loop_free(sink.loop);
    return 0;
}
