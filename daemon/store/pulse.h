// Whether PostgreSQL answers at all: looked at where something waits and nothing gets done. A lock,
// or a statement that takes long, holds up what it concerns; a server that stands still, or whose
// disk does, holds up everything, and the connections that are there do not say so.
#pragma once

#include <stdint.h>

#include "base/loop.h"
#include "base/worker.h"

struct pulse;

struct pulse_calls {
    // Something that grows with all that PostgreSQL gets done; below 0 where nothing waits for it.
    int64_t (*work)(void *arg);
    // It has not answered a new connection, after nothing had been done for quiet_ms.
    void (*silent)(void *arg, int64_t quiet_ms);
    void *arg;
};

// patience_ms: how long nothing may get done until it is asked, at least a second.
struct pulse *pulse_new(struct loop *loop, struct worker *worker, const char *conninfo,
                        int64_t patience_ms, const struct pulse_calls *calls);
void pulse_free(struct pulse *pulse);
// Something waits from here on, if nothing did.
void pulse_watch(struct pulse *pulse);
