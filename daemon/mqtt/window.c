// The unacknowledged messages of one connection, in the order in which they came.
#include "mqtt/window.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define RING_MIN 4
#define SEARCH_MAX 64 // entries; with more of them the identifiers have a set of their own
#define IDS_WORDS (65536 / 64)

void window_init(struct window *window, uint16_t limit)
{
    *window = (struct window){.limit = limit ? limit : 1, .generation = 1};
}

void window_fini(struct window *window)
{
    free(window->ring);
    free(window->ids);
    window->ring = NULL;
    window->ids = NULL;
}

void window_reset(struct window *window)
{
    window->first = window->next;
    window->generation++;
    if (window->ids)
        memset(window->ids, 0, IDS_WORDS * sizeof *window->ids);
}

static struct window_entry *entry_at(const struct window *window, uint64_t ticket)
{
    return &window->ring[ticket & window->mask];
}

static void ids_flip(struct window *window, uint16_t packet_id)
{
    if (window->ids)
        window->ids[packet_id / 64] ^= UINT64_C(1) << packet_id % 64;
}

static void ids_begin(struct window *window)
{
    window->ids = mem_zalloc(IDS_WORDS * sizeof *window->ids);
    for (uint64_t at = window->first; at < window->next; at++)
        ids_flip(window, entry_at(window, at)->packet_id);
}

// Doubles the ring; each entry moves to where its ticket says.
static void ring_grow(struct window *window)
{
    uint32_t size = window->ring ? 2 * (window->mask + 1) : RING_MIN;
    struct window_entry *ring = mem_alloc(size * sizeof *ring);
    for (uint64_t at = window->first; at < window->next; at++)
        ring[at & (size - 1)] = *entry_at(window, at);
    free(window->ring);
    window->ring = ring;
    window->mask = size - 1;
}

static bool search(const struct window *window, uint16_t packet_id, uint64_t *ticket)
{
    for (uint64_t at = window->first; at < window->next; at++) {
        if (entry_at(window, at)->packet_id == packet_id) {
            *ticket = at;
            return true;
        }
    }
    return false;
}

bool window_holds(const struct window *window, uint16_t packet_id)
{
    uint64_t ticket;
    if (window->ids)
        return window->ids[packet_id / 64] >> packet_id % 64 & 1;
    return search(window, packet_id, &ticket);
}

uint64_t window_push(struct window *window, const struct window_entry *entry)
{
    size_t count = window_count(window);
    assert(!window_full(window) && !window_holds(window, entry->packet_id));
    if (!window->ring || count > window->mask)
        ring_grow(window);
    if (count >= SEARCH_MAX && !window->ids)
        ids_begin(window);
    *entry_at(window, window->next) = *entry;
    ids_flip(window, entry->packet_id);
    return window->next++;
}

const struct window_entry *window_find(const struct window *window, uint16_t packet_id,
                                       uint64_t *ticket)
{
    uint64_t at;
    if (!window_holds(window, packet_id) || !search(window, packet_id, &at))
        return NULL;
    if (ticket)
        *ticket = at;
    return entry_at(window, at);
}

bool window_settle(struct window *window, uint64_t generation, uint64_t ticket, uint8_t reason)
{
    if (generation != window->generation || ticket < window->first || ticket >= window->next)
        return false;
    struct window_entry *entry = entry_at(window, ticket);
    if (entry->waits > 0)
        entry->waits--;
    if (reason > entry->reason)
        entry->reason = reason;
    return true;
}

void window_drop(struct window *window, uint64_t ticket)
{
    struct window_entry *entry = entry_at(window, ticket);
    ids_flip(window, entry->packet_id);
    entry->packet_id = 0;
}

bool window_release(struct window *window, struct window_entry *entry)
{
    if (window->first == window->next || entry_at(window, window->first)->waits > 0)
        return false;
    *entry = *entry_at(window, window->first);
    window->first++;
    if (entry->packet_id)
        ids_flip(window, entry->packet_id);
    return true;
}
