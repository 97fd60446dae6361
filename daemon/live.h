// The mappings that the daemon runs by, from reload to reload: a mapping that has not changed stays
// the same one, with its rows on their way, its statements and its books.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/mapfile.h"
#include "core/books.h"
#include "pipeline/mapping.h"

struct live {
    struct mapping **items; // in the order of the files
    size_t count;
    struct mapping **leaving; // no longer among them, and not all of their parts are settled
    size_t leaving_count, leaving_capacity;
    unsigned last_serial;
    uint32_t last_subscription_id;
};

// What a change is told to; the new mapping is added after the one that it replaces has been
// removed. forget: nothing refers to the removed one any more.
struct live_calls {
    void (*add)(void *arg, struct mapping *mapping);
    void (*remove)(void *arg, struct mapping *mapping);
    void (*forget)(void *arg, struct mapping *mapping);
    void *arg;
};

// Takes the loaded mappings over, which are none afterwards.
void live_init(struct live *live, struct mappings *loaded);
void live_fini(struct live *live);
// Gives the filters of loaded mappings the Subscription Identifiers that they have among the live
// ones, and new filters such as were never given: messages under way must not be mistaken.
void live_number(const struct live *live, struct mappings *loaded);
// Makes the loaded ones, which are taken over, the live ones. Whether anything has changed, which
// is logged.
bool live_replace(struct live *live, struct mappings *loaded, const struct live_calls *calls);
// Frees of those that are leaving what is settled; whether some are not.
bool live_sweep(struct live *live, const struct live_calls *calls);
// Of the mapping and of those of its name that it has replaced.
struct books live_books(const struct live *live, const struct mapping *mapping);
// The same of its conflicts.
uint64_t live_conflicts(const struct live *live, const struct mapping *mapping);
