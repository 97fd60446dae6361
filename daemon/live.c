// The mappings that the daemon runs by, from reload to reload.
#include "live.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"

static struct mapping *find(struct mapping *const *mappings, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(mappings[i]->name, name) == 0)
            return mappings[i];
    return NULL;
}

static bool has_index(struct mapping *const *mappings, size_t count, unsigned index)
{
    for (size_t i = 0; i < count; i++)
        if (mappings[i]->target.index == index)
            return true;
    return false;
}

// What was loaded, in a place of its own; it has no index yet.
static struct mapping *take(struct live *live, struct mapping *loaded)
{
    struct mapping *mapping = mem_alloc(sizeof *mapping);
    *mapping = *loaded;
    mapping->target.serial = ++live->last_serial;
    if (mapping->subscription_id > live->last_subscription_id)
        live->last_subscription_id = mapping->subscription_id;
    return mapping;
}

static void give_away(struct mappings *loaded)
{
    free(loaded->items);
    *loaded = (struct mappings){0};
}

static void mapping_free(struct mapping *mapping)
{
    mapping_fini(mapping);
    free(mapping);
}

void live_init(struct live *live, struct mappings *loaded)
{
    *live = (struct live){.count = loaded->count};
    live->items = mem_zalloc((loaded->count + 1) * sizeof(struct mapping *));
    for (size_t i = 0; i < loaded->count; i++) {
        live->items[i] = take(live, &loaded->items[i]);
        live->items[i]->target.index = (unsigned)i;
    }
    give_away(loaded);
}

void live_fini(struct live *live)
{
    for (size_t i = 0; i < live->count; i++)
        mapping_free(live->items[i]);
    for (size_t i = 0; i < live->leaving_count; i++)
        mapping_free(live->leaving[i]);
    free(live->items);
    free(live->leaving);
}

void live_number(const struct live *live, struct mappings *loaded)
{
    uint32_t last = live->last_subscription_id;
    for (size_t i = 0; i < loaded->count; i++) {
        struct mapping *mapping = &loaded->items[i];
        mapping->subscription_id = 0;
        for (size_t j = 0; j < live->count && !mapping->subscription_id; j++)
            if (strcmp(live->items[j]->filter, mapping->filter) == 0)
                mapping->subscription_id = live->items[j]->subscription_id;
        for (size_t j = 0; j < i && !mapping->subscription_id; j++)
            if (strcmp(loaded->items[j].filter, mapping->filter) == 0)
                mapping->subscription_id = loaded->items[j].subscription_id;
        if (!mapping->subscription_id)
            mapping->subscription_id = ++last;
    }
}

// ---- a reload ----

// Those of the new ones that have an index, the old ones and the leaving ones have it for
// themselves.
static void set_index(const struct live *live, struct mapping *const *items, size_t count,
                      struct mapping *mapping)
{
    unsigned index = 0;
    while (has_index(live->items, live->count, index) || has_index(items, count, index) ||
           has_index(live->leaving, live->leaving_count, index))
        index++;
    mapping->target.index = index;
}

// The old mapping where it is the same, else the loaded one.
static struct mapping *choose(struct live *live, struct mapping *loaded)
{
    struct mapping *old = find(live->items, live->count, loaded->name);
    if (!old || !mapping_same(old, loaded))
        return take(live, loaded);
    char *where = old->where; // its line may be another one now
    old->where = loaded->where;
    loaded->where = where;
    mapping_fini(loaded);
    return old;
}

static bool is_among(struct mapping *const *mappings, size_t count, const struct mapping *mapping)
{
    for (size_t i = 0; i < count; i++)
        if (mappings[i] == mapping)
            return true;
    return false;
}

static bool remove_old(struct live *live, struct mapping *const *items, size_t count,
                       const struct live_calls *calls)
{
    bool changed = false;
    for (size_t i = 0; i < live->count; i++) {
        struct mapping *old = live->items[i];
        if (is_among(items, count, old))
            continue;
        if (!find(items, count, old->name))
            log_info("mapping \"%s\" is removed", old->name);
        calls->remove(calls->arg, old);
        live->leaving = mem_grow(live->leaving, live->leaving_count, &live->leaving_capacity,
                                 sizeof(struct mapping *));
        live->leaving[live->leaving_count++] = old;
        changed = true;
    }
    return changed;
}

static bool add_new(struct live *live, struct mapping *const *items, size_t count,
                    const struct live_calls *calls)
{
    bool changed = false;
    for (size_t i = 0; i < count; i++) {
        if (is_among(live->items, live->count, items[i]))
            continue;
        bool is_changed = find(live->items, live->count, items[i]->name) != NULL;
        log_info("mapping \"%s\" is %s (%s)", items[i]->name, is_changed ? "changed" : "new",
                 items[i]->where);
        set_index(live, items, i, items[i]);
        calls->add(calls->arg, items[i]);
        changed = true;
    }
    return changed;
}

bool live_replace(struct live *live, struct mappings *loaded, const struct live_calls *calls)
{
    size_t count = loaded->count;
    struct mapping **items = mem_zalloc((count + 1) * sizeof(struct mapping *));
    for (size_t i = 0; i < count; i++)
        items[i] = choose(live, &loaded->items[i]);
    give_away(loaded);
    bool removed = remove_old(live, items, count, calls);
    bool added = add_new(live, items, count, calls);
    free(live->items);
    live->items = items;
    live->count = count;
    return removed || added;
}

// ---- leaving ----

static void add_books(struct books *sum, const struct books *books)
{
    sum->received += books->received;
    for (int i = 0; i < VERDICT_COUNT; i++)
        sum->verdicts[i] += books->verdicts[i];
}

static void take_over(struct target *heir, const struct target *target)
{
    add_books(&heir->books, &target->books);
    heir->conflicts += target->conflicts;
}

bool live_sweep(struct live *live, const struct live_calls *calls)
{
    size_t kept = 0;
    for (size_t i = 0; i < live->leaving_count; i++) {
        struct mapping *mapping = live->leaving[i];
        if (books_pending(&mapping->target.books) > 0) {
            live->leaving[kept++] = mapping;
            continue;
        }
        struct mapping *heir = find(live->items, live->count, mapping->name);
        if (heir)
            take_over(&heir->target, &mapping->target);
        calls->forget(calls->arg, mapping);
        mapping_free(mapping);
    }
    live->leaving_count = kept;
    return kept > 0;
}

struct books live_books(const struct live *live, const struct mapping *mapping)
{
    struct books sum = mapping->target.books;
    for (size_t i = 0; i < live->leaving_count; i++)
        if (strcmp(live->leaving[i]->name, mapping->name) == 0)
            add_books(&sum, &live->leaving[i]->target.books);
    return sum;
}

uint64_t live_conflicts(const struct live *live, const struct mapping *mapping)
{
    uint64_t sum = mapping->target.conflicts;
    for (size_t i = 0; i < live->leaving_count; i++)
        if (strcmp(live->leaving[i]->name, mapping->name) == 0)
            sum += live->leaving[i]->target.conflicts;
    return sum;
}
