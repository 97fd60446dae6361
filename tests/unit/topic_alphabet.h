// Every filter and every topic over a small alphabet of levels, and a plain way to say which
// matches which.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

// Topics go one level deeper than filters, so that what a # stands for is seen.
enum { FILTER_DEPTH = 4, TOPIC_DEPTH = FILTER_DEPTH + 1, FILTERS_MAX = 1024, TOPICS_MAX = 2048 };

struct topic_set {
    uint64_t words[TOPICS_MAX / 64];
};

struct topic_alphabet {
    char *filters[FILTERS_MAX], *topics[TOPICS_MAX];
    size_t filter_count, topic_count;
    struct topic_set matched[FILTERS_MAX]; // by each filter
};

// The rules of [MQTT-4.7] from left to right, for two texts whose beginnings have matched.
static inline bool alphabet_matches_rest(const char *filter, const char *topic)
{
    size_t level = strcspn(filter, "/"), name = strcspn(topic, "/");
    if (strcmp(filter, "#") == 0)
        return true;
    bool plus = level == 1 && *filter == '+';
    if (!plus && (level != name || strncmp(filter, topic, level) != 0))
        return false;
    if (!filter[level])
        return !topic[name];
    if (!topic[name])
        return strcmp(filter + level, "/#") == 0;
    return alphabet_matches_rest(filter + level + 1, topic + name + 1);
}

static inline bool alphabet_matches(const char *filter, const char *topic)
{
    if (*topic == '$' && (*filter == '+' || *filter == '#'))
        return false;
    return alphabet_matches_rest(filter, topic);
}

// All texts of up to depth levels that begin with prefix; "" is neither a topic nor a filter.
static inline void alphabet_add(char **list, size_t *count, const char *prefix, unsigned depth,
                                bool wildcards)
{
    static const char *const levels[] = {"a", "b", "", "$x", "+", "#"};
    size_t level_count = wildcards ? 6 : 4;
    for (size_t i = 0; i < level_count; i++) {
        char *text = mem_printf("%s%s", prefix, levels[i]);
        char *longer = mem_printf("%s/", text);
        if (depth > 1 && *levels[i] != '#')
            alphabet_add(list, count, longer, depth - 1, wildcards);
        free(longer);
        if (*text)
            list[(*count)++] = text;
        else
            free(text);
    }
}

static inline struct topic_set alphabet_set(const struct topic_alphabet *alphabet,
                                            const char *filter)
{
    struct topic_set set = {{0}};
    for (size_t i = 0; i < alphabet->topic_count; i++)
        if (alphabet_matches(filter, alphabet->topics[i]))
            set.words[i / 64] |= UINT64_C(1) << i % 64;
    return set;
}

static inline struct topic_alphabet *alphabet_new(void)
{
    struct topic_alphabet *alphabet = mem_zalloc(sizeof *alphabet);
    alphabet_add(alphabet->filters, &alphabet->filter_count, "", FILTER_DEPTH, true);
    alphabet_add(alphabet->topics, &alphabet->topic_count, "", TOPIC_DEPTH, false);
    for (size_t i = 0; i < alphabet->filter_count; i++)
        alphabet->matched[i] = alphabet_set(alphabet, alphabet->filters[i]);
    return alphabet;
}

static inline void alphabet_free(struct topic_alphabet *alphabet)
{
    for (size_t i = 0; i < alphabet->filter_count; i++)
        free(alphabet->filters[i]);
    for (size_t i = 0; i < alphabet->topic_count; i++)
        free(alphabet->topics[i]);
    free(alphabet);
}

static inline bool topic_set_has(const struct topic_set *set, size_t topic)
{
    return set->words[topic / 64] >> topic % 64 & 1;
}

static inline bool topic_set_contains(const struct topic_set *outer, const struct topic_set *inner)
{
    for (size_t i = 0; i < TOPICS_MAX / 64; i++)
        if (inner->words[i] & ~outer->words[i])
            return false;
    return true;
}

static inline bool topic_set_intersects(const struct topic_set *a, const struct topic_set *b)
{
    for (size_t i = 0; i < TOPICS_MAX / 64; i++)
        if (a->words[i] & b->words[i])
            return true;
    return false;
}
