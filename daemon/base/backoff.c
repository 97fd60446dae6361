// Waiting times between attempts.
#include "base/backoff.h"

#include <event2/util.h>

int64_t backoff_next_ms(struct backoff *backoff)
{
    backoff->current_ms = backoff->current_ms ? backoff->current_ms * 2 : backoff->minimum_ms;
    if (backoff->current_ms > backoff->maximum_ms)
        backoff->current_ms = backoff->maximum_ms;
    uint32_t random;
    evutil_secure_rng_get_bytes(&random, sizeof random);
    int64_t half = backoff->current_ms / 2;
    return half + (half ? random % half : 0);
}
