// The bound on memory for messages that wait: sources stop reading when it is used up.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct budget {
    size_t limit, used, peak;
    bool full; // from the limit until used falls below three quarters of it
    // "Room again": called once each time full ends; must not take budget itself.
    void (*room)(void *arg);
    void *arg;
};

static inline void budget_take(struct budget *budget, size_t bytes)
{
    budget->used += bytes;
    if (budget->used > budget->peak)
        budget->peak = budget->used;
    if (budget->used >= budget->limit)
        budget->full = true;
}

static inline void budget_give(struct budget *budget, size_t bytes)
{
    budget->used -= bytes;
    if (budget->full && budget->used < budget->limit - budget->limit / 4) {
        budget->full = false;
        if (budget->room)
            budget->room(budget->arg);
    }
}
