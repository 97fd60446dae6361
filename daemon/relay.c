// The [forward NAME] sections at work: joins the broker's taps with the forwards that empty them.
#include "relay.h"

#include <stdlib.h>

#include "base/mem.h"
#include "broker/publication.h"

enum { NAME_THREADS = 2 };

struct relay {
    const struct forward_options *options;
    struct broker_tap *tap;
    struct forward *forward;
};

struct relays {
    struct loop *loop;
    struct worker *names, *paho; // NULL: there are no relays
    struct relay *items;
    size_t count, stopping;
    loop_fn *stopped;
    void *stopped_arg;
};

// ---- from tap to forward and back ----

static void deliver(void *arg, const struct publication *publication, uint8_t qos, bool retain,
                    uint16_t packet_id)
{
    struct relay *relay = arg;
    const struct forward_message message = {
        .topic = publication->topic,
        .payload = publication->payload,
        .properties = publication->properties,
        .expires_ms = publication->expires_ms,
        .packet_id = packet_id,
        .qos = qos,
        .retain = retain,
    };
    forward_deliver(relay->forward, &message);
}

static void open_tap(void *arg)
{
    struct relay *relay = arg;
    broker_tap_open(relay->tap);
}

static void close_tap(void *arg)
{
    struct relay *relay = arg;
    broker_tap_close(relay->tap);
}

static void is_done(void *arg, uint16_t packet_id)
{
    struct relay *relay = arg;
    broker_tap_done(relay->tap, packet_id);
}

static void relay_init(struct relay *relay, struct relays *relays, struct broker *broker,
                       const struct forward_options *options)
{
    const struct broker_tap_calls tap_calls = {.deliver = deliver, .arg = relay};
    const struct forward_calls forward_calls = {.open = open_tap,
                                                .close = close_tap,
                                                .done = is_done,
                                                .arg = relay};
    *relay = (struct relay){.options = options};
    relay->forward =
        forward_new(relays->loop, relays->names, relays->paho, options, &forward_calls);
    relay->tap = broker_tap_new(broker, options->name, (const char *const *)options->filters,
                                options->filter_count, options->qos, options->window, &tap_calls);
}

// ---- all of them ----

struct relays *relays_new(struct loop *loop, struct broker *broker,
                          const struct forward_options *options, size_t count)
{
    struct relays *relays = mem_zalloc(sizeof *relays);
    relays->loop = loop;
    relays->count = count;
    if (count > 0) {
        relays->names = worker_new(loop, NAME_THREADS);
        relays->paho = worker_new(loop, 1);
    }
    relays->items = mem_zalloc(count * sizeof *relays->items);
    for (size_t i = 0; i < count; i++)
        relay_init(&relays->items[i], relays, broker, &options[i]);
    broker_taps_made(broker);
    return relays;
}

void relays_start(struct relays *relays)
{
    for (size_t i = 0; i < relays->count; i++)
        forward_start(relays->items[i].forward);
}

static void one_stopped(void *arg)
{
    struct relays *relays = arg;
    if (--relays->stopping == 0)
        relays->stopped(relays->stopped_arg);
}

void relays_stop(struct relays *relays, loop_fn *done, void *arg)
{
    relays->stopped = done;
    relays->stopped_arg = arg;
    relays->stopping = relays->count;
    if (relays->count == 0)
        loop_post(relays->loop, done, arg);
    for (size_t i = 0; i < relays->count; i++) {
        broker_tap_close(relays->items[i].tap);
        forward_stop(relays->items[i].forward, one_stopped, relays);
    }
}

void relays_free(struct relays *relays)
{
    if (!relays)
        return;
    for (size_t i = 0; i < relays->count; i++) {
        broker_tap_free(relays->items[i].tap);
        forward_free(relays->items[i].forward);
    }
    worker_free(relays->names);
    worker_free(relays->paho);
    free(relays->items);
    free(relays);
}

size_t relays_count(const struct relays *relays)
{
    return relays->count;
}

void relays_status(const struct relays *relays, size_t index, struct relay_status *status)
{
    const struct relay *relay = &relays->items[index];
    status->name = relay->options->name;
    status->queued = broker_tap_queued(relay->tap);
    forward_status(relay->forward, &status->forward);
}
