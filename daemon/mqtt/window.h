// The unacknowledged messages of one connection, in the order in which they came [MQTT-4.6.0-2].
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct window_entry {
    uint64_t hash; // of topic and payload: whether two under one identifier are the same
    uint32_t size; // bytes, as the user of the window counts them
    uint16_t packet_id;
    uint8_t qos;    // 1 or 2
    uint8_t waits;  // what must come about before it may be acknowledged
    uint8_t reason; // of the acknowledgement
};

// A ticket numbers the messages of all generations; a generation is one connection. It takes memory
// as it is used: for its entries, and, beyond a few of them, for a set of the identifiers in use.
struct window {
    struct window_entry *ring; // a power of two of entries; ticket t is at t & mask
    uint64_t *ids;             // a bit for each packet identifier in use; NULL: look into the ring
    uint64_t first, next;      // tickets of the oldest entry and of the next one
    uint64_t generation;
    uint32_t mask;
    uint16_t limit;
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

bool window_holds(const struct window *window, uint16_t packet_id);
// Takes a message in; its ticket. The window must not be full nor hold the identifier.
uint64_t window_push(struct window *window, const struct window_entry *entry);
// The entry with this identifier (and its ticket, unless NULL), or NULL.
const struct window_entry *window_find(const struct window *window, uint16_t packet_id,
                                       uint64_t *ticket);
// One of the entry's waits is over: after the last the message may be acknowledged once all before
// it are. Of all reasons the greatest counts. False where ticket or generation is past.
bool window_settle(struct window *window, uint64_t generation, uint64_t ticket, uint8_t reason);
// The entry is not to be acknowledged any more; its identifier is free, and 0 where it is released.
void window_drop(struct window *window, uint64_t ticket);
// Takes the oldest entry out if it waits for nothing: the next one to acknowledge.
bool window_release(struct window *window, struct window_entry *entry);
