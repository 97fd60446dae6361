// The bound on memory for messages that wait: sources stop reading when it is used up.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct budget {
    size_t limit, used, peak;
    bool full; // from the limit until used falls below three quarters of it, or the limit is raised
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

static inline void budget_end_full(struct budget *budget)
{
    budget->full = false;
    if (budget->room)
        budget->room(budget->arg);
}

static inline void budget_give(struct budget *budget, size_t bytes)
{
    budget->used -= bytes;
    if (budget->full && budget->used < budget->limit - budget->limit / 4)
        budget_end_full(budget);
}

// Another limit, in bytes. Raised above what is used it ends full at once: what is there may never
// be given back, and nobody takes who is told that it is full.
static inline void budget_set_limit(struct budget *budget, size_t limit)
{
    bool raised = limit > budget->limit;
    budget->limit = limit;
    if (budget->used >= limit)
        budget->full = true;
    else if (budget->full && raised)
        budget_end_full(budget);
}
