// Waiting times between attempts: they double, with jitter, so that a fleet does not come back in
// step.
#pragma once

#include <stdint.h>

struct backoff {
    int64_t minimum_ms, maximum_ms;
    int64_t current_ms; // 0: the next wait is the first
};

// After success: the next wait is the shortest again.
static inline void backoff_reset(struct backoff *backoff)
{
    backoff->current_ms = 0;
}

// How long to wait before the next attempt: between half and all of a time that doubles up to the
// maximum.
int64_t backoff_next_ms(struct backoff *backoff);
