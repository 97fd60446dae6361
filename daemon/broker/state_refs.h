// How many rows refer to each publication: counts by identifier.
#pragma once

#include <stddef.h>
#include <stdint.h>

struct state_ref {
    int64_t id; // 0: free
    uint32_t count;
};

struct state_refs {
    struct state_ref *slots; // a hash table; NULL while empty
    size_t capacity, used;
};

void state_refs_clear(struct state_refs *refs); // also to free its memory
// One more; returns how many there are now.
uint32_t state_refs_add(struct state_refs *refs, int64_t id);
// One less; returns how many are left. UINT32_MAX: there was none.
uint32_t state_refs_remove(struct state_refs *refs, int64_t id);
