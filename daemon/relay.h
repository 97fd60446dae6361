// The [forward NAME] sections at work: joins the broker's taps with the forwards that empty them.
#pragma once

#include <stddef.h>

#include "base/loop.h"
#include "broker/broker.h"
#include "forward/forward.h"

struct relays;

// options (an array), loop and broker must outlive it. count 0: costs nothing. Starts nothing yet.
struct relays *relays_new(struct loop *loop, struct broker *broker,
                          const struct forward_options *options, size_t count);
void relays_start(struct relays *relays);
// Disconnects all; done from the loop, never from within this call. The caller bounds it in time.
void relays_stop(struct relays *relays, loop_fn *done, void *arg);
void relays_free(struct relays *relays); // before broker_free; takes NULL

struct relay_status {
    const char *name; // of the section
    struct forward_status forward;
    size_t queued; // deliveries that wait
};
size_t relays_count(const struct relays *relays);
void relays_status(const struct relays *relays, size_t index, struct relay_status *status);
