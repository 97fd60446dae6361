// The unacknowledged messages of one connection, in the order in which they came [MQTT-4.6.0-2].
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct window_entry {
    uint64_t hash; // of topic and payload: whether two under one identifier are the same
    uint16_t packet_id;
    uint8_t qos; // 1 or 2
    bool settled;
};

// A ticket numbers the messages of all generations; a generation is one connection.
struct window {
    struct window_entry *ring; // a power of two of entries; ticket t is at t & mask
    uint64_t mask;
    uint64_t first, next; // tickets of the oldest entry and of the next one
    uint64_t generation;
    uint16_t limit;
    uint64_t ids[65536 / 64]; // packet identifiers in use
};

// Room for limit messages, at least one.
void window_init(struct window *window, uint16_t limit);
void window_fini(struct window *window);
// Forgets all entries and begins a new generation: what is settled of earlier ones is void.
void window_reset(struct window *window);

static inline size_t window_count(const struct window *window)
{
    return (size_t)(window->next - window->first);
}

static inline bool window_full(const struct window *window)
{
    return window_count(window) >= window->limit;
}

static inline bool window_holds(const struct window *window, uint16_t packet_id)
{
    return window->ids[packet_id / 64] >> packet_id % 64 & 1;
}

// Takes an unsettled message in; its ticket. The window must not be full nor hold the identifier.
uint64_t window_push(struct window *window, uint16_t packet_id, uint8_t qos, uint64_t hash);
// The entry with this identifier (and its ticket, unless NULL), or NULL. Searches only where there
// is one.
const struct window_entry *window_find(const struct window *window, uint16_t packet_id,
                                       uint64_t *ticket);
// The message may be acknowledged once all before it are; false where ticket or generation is past.
bool window_settle(struct window *window, uint64_t generation, uint64_t ticket);
// Takes the oldest entry out if it is settled: the next one to acknowledge.
bool window_release(struct window *window, struct window_entry *entry);
