// Two trees: of subscriptions by their filters, and of groups by the filters that they share.
#include "broker/router.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "core/topic.h"

struct router {
    struct topic_tree *plain;  // to struct subscription_entry
    struct topic_tree *shared; // to struct group
};

struct router *router_new(void)
{
    struct router *router = mem_zalloc(sizeof *router);
    router->plain = topic_tree_new();
    router->shared = topic_tree_new();
    return router;
}

void router_free(struct router *router)
{
    if (!router)
        return;
    topic_tree_free(router->shared);
    topic_tree_free(router->plain);
    free(router);
}

// Looks for the group of a whole filter, $share/NAME/FILTER, among those of its FILTER.
struct search {
    const char *filter;
    struct group *found;
};

static void compare_group(void *arg, void *value)
{
    struct search *search = arg;
    struct group *group = value;
    if (strcmp(group->members[0]->filter, search->filter) == 0)
        search->found = group;
}

static void join(struct router *router, const char *inner, struct subscription_entry *entry)
{
    struct search search = {.filter = entry->filter};
    topic_tree_find(router->shared, inner, compare_group, &search);
    struct group *group = search.found;
    if (!group) {
        group = mem_zalloc(sizeof *group);
        topic_tree_add(router->shared, inner, group);
    }
    group->members = mem_grow(group->members, group->count, &group->capacity,
                              sizeof(struct subscription_entry *));
    group->members[group->count++] = entry;
    entry->group = group;
}

static void leave(struct router *router, const char *inner, struct subscription_entry *entry)
{
    struct group *group = entry->group;
    size_t i = 0;
    while (group->members[i] != entry)
        i++;
    group->count--;
    memmove(group->members + i, group->members + i + 1,
            (group->count - i) * sizeof(struct subscription_entry *));
    if (i < group->turn)
        group->turn--;
    entry->group = NULL;
    if (group->count > 0)
        return;
    topic_tree_remove(router->shared, inner, group);
    free(group->members);
    free(group);
}

void router_add(struct router *router, struct subscription_entry *entry)
{
    const char *inner;
    if (topic_filter_is_shared(entry->filter, &inner))
        join(router, inner, entry);
    else
        topic_tree_add(router->plain, entry->filter, entry);
}

void router_remove(struct router *router, struct subscription_entry *entry)
{
    const char *inner;
    if (topic_filter_is_shared(entry->filter, &inner))
        leave(router, inner, entry);
    else
        topic_tree_remove(router->plain, entry->filter, entry);
}

bool router_wants(const struct router *router, struct bytes topic)
{
    const char *name = (const char *)topic.data;
    return topic_tree_matches(router->plain, name, topic.length) ||
           topic_tree_matches(router->shared, name, topic.length);
}

static void plain_match(void *arg, void *value)
{
    const struct router_calls *calls = arg;
    calls->each(calls->arg, value);
}

static void shared_match(void *arg, void *value)
{
    const struct router_calls *calls = arg;
    calls->share(calls->arg, value);
}

void router_match(const struct router *router, struct bytes topic, const struct router_calls *calls)
{
    const char *name = (const char *)topic.data;
    struct router_calls own = *calls;
    topic_tree_match(router->plain, name, topic.length, plain_match, &own);
    topic_tree_match(router->shared, name, topic.length, shared_match, &own);
}
