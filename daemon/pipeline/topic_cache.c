// A table of topics, each at the one place that its hash gives it: a newer one drives it out.
#include "pipeline/topic_cache.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"

// Longer topics, and those that match more, are asked for in the tree each time.
enum { ENTRIES = 1024, NAME_MAX_BYTES = 92, VALUES_MAX = 4 };

struct topic_cache_entry {
    uint16_t length; // 0: free
    uint16_t count;
    char name[NAME_MAX_BYTES];
    void *values[VALUES_MAX];
};

void topic_cache_init(struct topic_cache *cache, const struct topic_tree *tree)
{
    *cache = (struct topic_cache){.tree = tree, .seed = hash_seed()};
}

void topic_cache_fini(struct topic_cache *cache)
{
    free(cache->entries);
    free(cache->values);
}

void topic_cache_clear(struct topic_cache *cache)
{
    free(cache->entries);
    cache->entries = cache->last = NULL;
}

static void add_value(void *arg, void *value)
{
    struct topic_cache *cache = arg;
    cache->values = mem_grow(cache->values, cache->count, &cache->capacity, sizeof *cache->values);
    cache->values[cache->count++] = value;
}

static size_t look_up(struct topic_cache *cache, const char *name, size_t length)
{
    cache->count = 0;
    topic_tree_match(cache->tree, name, length, add_value, cache);
    cache->found = cache->values;
    return cache->count;
}

static bool is_of(const struct topic_cache_entry *entry, const char *name, size_t length)
{
    return entry->length == length && memcmp(entry->name, name, length) == 0;
}

static void remember(const struct topic_cache *cache, struct topic_cache_entry *entry,
                     const char *name, size_t length)
{
    entry->length = 0;
    if (cache->count > VALUES_MAX)
        return;
    entry->length = (uint16_t)length;
    entry->count = (uint16_t)cache->count;
    memcpy(entry->name, name, length);
    for (size_t i = 0; i < cache->count; i++)
        entry->values[i] = cache->values[i];
}

size_t topic_cache_match(struct topic_cache *cache, const char *name, size_t length)
{
    struct topic_cache_entry *entry = cache->last;
    if (length == 0 || length > NAME_MAX_BYTES)
        return look_up(cache, name, length);
    if (!entry || !is_of(entry, name, length)) { // a topic is often asked for twice in a row
        if (!cache->entries)
            cache->entries = mem_zalloc(ENTRIES * sizeof *cache->entries);
        entry = &cache->entries[hash_bytes(cache->seed, name, length) % ENTRIES];
        cache->last = entry;
        if (!is_of(entry, name, length)) {
            look_up(cache, name, length);
            remember(cache, entry, name, length);
            return cache->count;
        }
    }
    cache->found = entry->values;
    return cache->count = entry->count;
}
