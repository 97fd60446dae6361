// How long PostgreSQL has been of no use: whether there has been a usable connection, and whether
// what was sent could be committed.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"

struct outage {
    struct loop_timer *timer;
    int64_t after_ms;
    bool troubled;  // a batch could not be committed for a reason that is no batch's, and none has
                    // since
    bool lasting;   // it has lasted for after_ms
    loop_fn *lasts; // called when that comes true, from the loop
    void *arg;
};

void outage_init(struct outage *outage, struct loop *loop);
void outage_fini(struct outage *outage);
// From here on it is watched.
void outage_watch(struct outage *outage, int64_t after_ms, loop_fn *lasts, void *arg);
// There is no usable connection; or there is, but PostgreSQL could not commit.
void outage_down(struct outage *outage);
void outage_trouble(struct outage *outage);
// It has been of no use for long, whatever the connections say.
void outage_found(struct outage *outage);
// A connection is usable; a batch has been committed.
void outage_up(struct outage *outage);
void outage_over(struct outage *outage);
