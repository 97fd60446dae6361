// Counts by identifier: a hash table with linear probing.
#include "broker/state_refs.h"

#include <stdlib.h>

#include "base/mem.h"

enum { FIRST_CAPACITY = 64 };

void state_refs_clear(struct state_refs *refs)
{
    free(refs->slots);
    *refs = (struct state_refs){0};
}

static size_t home_of(const struct state_refs *refs, int64_t id)
{
    return (size_t)((uint64_t)id * UINT64_C(0x9E3779B97F4A7C15) >> 32) & (refs->capacity - 1);
}

// Where it is, or where it would be.
static size_t find(const struct state_refs *refs, int64_t id)
{
    size_t at = home_of(refs, id);
    while (refs->slots[at].id != 0 && refs->slots[at].id != id)
        at = (at + 1) & (refs->capacity - 1);
    return at;
}

static void resize(struct state_refs *refs, size_t capacity)
{
    struct state_refs old = *refs;
    refs->capacity = capacity;
    refs->slots = mem_zalloc(capacity * sizeof *refs->slots);
    for (size_t i = 0; i < old.capacity; i++)
        if (old.slots[i].id != 0)
            refs->slots[find(refs, old.slots[i].id)] = old.slots[i];
    free(old.slots);
}

uint32_t state_refs_add(struct state_refs *refs, int64_t id)
{
    if (2 * (refs->used + 1) > refs->capacity)
        resize(refs, refs->capacity ? 2 * refs->capacity : FIRST_CAPACITY);
    struct state_ref *slot = &refs->slots[find(refs, id)];
    if (slot->id == 0) {
        slot->id = id;
        refs->used++;
    }
    return ++slot->count;
}

// Those that follow without a gap move up, so that they are still found.
static void vacate(struct state_refs *refs, size_t hole)
{
    size_t mask = refs->capacity - 1;
    for (size_t at = (hole + 1) & mask; refs->slots[at].id != 0; at = (at + 1) & mask) {
        size_t distance = (at - home_of(refs, refs->slots[at].id)) & mask;
        if (distance >= ((at - hole) & mask)) {
            refs->slots[hole] = refs->slots[at];
            hole = at;
        }
    }
    refs->slots[hole] = (struct state_ref){0};
    refs->used--;
}

uint32_t state_refs_remove(struct state_refs *refs, int64_t id)
{
    if (refs->used == 0)
        return UINT32_MAX;
    size_t at = find(refs, id);
    if (refs->slots[at].id == 0)
        return UINT32_MAX;
    uint32_t left = --refs->slots[at].count;
    if (left > 0)
        return left;
    vacate(refs, at);
    if (refs->capacity > FIRST_CAPACITY && refs->used < refs->capacity / 8)
        resize(refs, refs->capacity / 2);
    return 0;
}
