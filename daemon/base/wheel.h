// Many timeouts of whole seconds at the price of one timer: keepalives, expiries, bounds of time.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/loop.h"

struct wheel;
struct wheel_entry;
typedef void wheel_fn(struct wheel_entry *entry); // may start, stop or free any entry

// Embedded in what is to be timed out.
struct wheel_entry {
    struct list node;
    int64_t due_ms; // loop_now_ms; 0: not started
    wheel_fn *fn;
};

struct wheel *wheel_new(struct loop *loop);
void wheel_free(struct wheel *wheel); // entries that are started are forgotten
void wheel_entry_init(struct wheel_entry *entry, wheel_fn *fn);
// fn is called once, not before the time and within one second after it; a start replaces the one
// before. With no entry started nothing ticks.
void wheel_start(struct wheel *wheel, struct wheel_entry *entry, int64_t milliseconds);
void wheel_stop(struct wheel_entry *entry);

static inline bool wheel_started(const struct wheel_entry *entry)
{
    return entry->due_ms != 0;
}
