// A set of QoS 2 identifiers: a hash table with linear probing.
#include "core/exchange_set.h"

#include <stdlib.h>

#include "base/mem.h"

enum { CAPACITY_MIN = 64 };

// Session identifiers are random; the packet identifiers of one follow each other.
static size_t home(const struct exchange_set *set, uint64_t session, uint16_t packet_id)
{
    return (size_t)((session ^ packet_id) * UINT64_C(0x9E3779B97F4A7C15) >> 20) &
           (set->capacity - 1);
}

// Where it is, or the free slot where it would be.
static size_t find(const struct exchange_set *set, uint64_t session, uint16_t packet_id)
{
    size_t at = home(set, session, packet_id);
    while (set->slots[at].session != 0 &&
           (set->slots[at].session != session || set->slots[at].packet_id != packet_id))
        at = (at + 1) & (set->capacity - 1);
    return at;
}

void exchange_set_fini(struct exchange_set *set)
{
    free(set->slots);
    *set = (struct exchange_set){0};
}

static void grow(struct exchange_set *set)
{
    struct exchange_set larger = {.capacity = set->capacity ? set->capacity * 2 : CAPACITY_MIN,
                                  .count = set->count};
    larger.slots = mem_zalloc(larger.capacity * sizeof *larger.slots);
    for (size_t i = 0; i < set->capacity; i++) {
        const struct exchange_id *id = &set->slots[i];
        if (id->session != 0)
            larger.slots[find(&larger, id->session, id->packet_id)] = *id;
    }
    free(set->slots);
    *set = larger;
}

struct exchange_id *exchange_set_add(struct exchange_set *set, uint64_t session, uint16_t packet_id)
{
    if (set->count * 2 >= set->capacity)
        grow(set);
    struct exchange_id *slot = &set->slots[find(set, session, packet_id)];
    set->count += slot->session == 0;
    *slot = (struct exchange_id){.session = session, .packet_id = packet_id};
    return slot;
}

// What was put off from its home by the one that goes moves up, so that it is still found.
void exchange_set_remove(struct exchange_set *set, uint64_t session, uint16_t packet_id)
{
    if (!exchange_set_has(set, session, packet_id))
        return;
    size_t mask = set->capacity - 1, hole = find(set, session, packet_id);
    for (size_t at = (hole + 1) & mask; set->slots[at].session != 0; at = (at + 1) & mask) {
        size_t from = home(set, set->slots[at].session, set->slots[at].packet_id);
        if (((at - from) & mask) < ((at - hole) & mask))
            continue;
        set->slots[hole] = set->slots[at];
        hole = at;
    }
    set->slots[hole].session = 0;
    set->count--;
}

const struct exchange_id *exchange_set_find(const struct exchange_set *set, uint64_t session,
                                            uint16_t packet_id)
{
    const struct exchange_id *slot =
        set->count > 0 ? &set->slots[find(set, session, packet_id)] : NULL;
    return slot && slot->session != 0 ? slot : NULL;
}

bool exchange_set_has(const struct exchange_set *set, uint64_t session, uint16_t packet_id)
{
    return exchange_set_find(set, session, packet_id) != NULL;
}
