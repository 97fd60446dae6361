// The unacknowledged messages of one connection, in the order in which they came.
#include "mqtt/window.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void window_init(struct window *window, uint16_t limit)
{
    size_t size = 1;
    while (size < limit)
        size *= 2;
    *window = (struct window){.mask = size - 1, .limit = limit ? limit : 1, .generation = 1};
    window->ring = mem_alloc(size * sizeof *window->ring);
}

void window_fini(struct window *window)
{
    free(window->ring);
    window->ring = NULL;
}

void window_reset(struct window *window)
{
    window->first = window->next;
    window->generation++;
    memset(window->ids, 0, sizeof window->ids);
}

static void ids_flip(struct window *window, uint16_t packet_id)
{
    window->ids[packet_id / 64] ^= UINT64_C(1) << packet_id % 64;
}

uint64_t window_push(struct window *window, uint16_t packet_id, uint8_t qos, uint64_t hash)
{
    assert(!window_full(window) && !window_holds(window, packet_id));
    window->ring[window->next & window->mask] =
        (struct window_entry){.hash = hash, .packet_id = packet_id, .qos = qos};
    ids_flip(window, packet_id);
    return window->next++;
}

const struct window_entry *window_find(const struct window *window, uint16_t packet_id,
                                       uint64_t *ticket)
{
    if (!window_holds(window, packet_id))
        return NULL;
    uint64_t at = window->first;
    while (window->ring[at & window->mask].packet_id != packet_id)
        at++;
    if (ticket)
        *ticket = at;
    return &window->ring[at & window->mask];
}

bool window_settle(struct window *window, uint64_t generation, uint64_t ticket)
{
    if (generation != window->generation || ticket < window->first || ticket >= window->next)
        return false;
    window->ring[ticket & window->mask].settled = true;
    return true;
}

bool window_release(struct window *window, struct window_entry *entry)
{
    if (window->first == window->next || !window->ring[window->first & window->mask].settled)
        return false;
    *entry = window->ring[window->first & window->mask];
    window->first++;
    ids_flip(window, entry->packet_id);
    return true;
}
