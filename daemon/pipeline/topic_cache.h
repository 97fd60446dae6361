// What a topic tree matches, remembered for topics that come again and again.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "core/topic.h"

struct topic_cache_entry;

struct topic_cache {
    const struct topic_tree *tree;
    uint64_t seed;
    struct topic_cache_entry *entries; // NULL before the first topic
    struct topic_cache_entry *last;    // that was asked for
    void *const *found;                // of the topic asked for last
    void **values;                     // where it is not in an entry
    size_t count, capacity;
};

// The tree must outlive it.
void topic_cache_init(struct topic_cache *cache, const struct topic_tree *tree);
void topic_cache_fini(struct topic_cache *cache);
// The tree has changed.
void topic_cache_clear(struct topic_cache *cache);
// The values whose filters match the name, in cache->found, until the next call. Returns their
// number.
size_t topic_cache_match(struct topic_cache *cache, const char *name, size_t length);
