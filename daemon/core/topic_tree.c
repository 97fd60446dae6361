// The tree of filters: one node per level, children in order, so that a match walks the levels of
// the name.
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "core/topic.h"

struct values {
    void **items;
    size_t count, capacity;
};

struct node {
    char *level;
    size_t level_length;
    struct node **children; // literal levels, by length and bytes
    size_t child_count, child_capacity;
    struct node *plus;
    struct values here; // of filters that end at this level
    struct values hash; // of filters that end in # below this level; they match this level too
};

struct topic_tree {
    struct node root;
};

struct topic_tree *topic_tree_new(void)
{
    return mem_zalloc(sizeof(struct topic_tree));
}

static void node_fini(struct node *node)
{
    for (size_t i = 0; i < node->child_count; i++) {
        node_fini(node->children[i]);
        free(node->children[i]);
    }
    if (node->plus) {
        node_fini(node->plus);
        free(node->plus);
    }
    free(node->children);
    free(node->here.items);
    free(node->hash.items);
    free(node->level);
}

void topic_tree_free(struct topic_tree *tree)
{
    if (!tree)
        return;
    node_fini(&tree->root);
    free(tree);
}

// Where a level is among the children, or would be; true if it is.
static bool find_child(const struct node *node, const char *level, size_t length, size_t *index)
{
    size_t low = 0, high = node->child_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct node *child = node->children[middle];
        int order = child->level_length == length  ? memcmp(child->level, level, length)
                    : child->level_length < length ? -1
                                                   : 1;
        if (order == 0) {
            *index = middle;
            return true;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *index = low;
    return false;
}

static struct node *child_for(struct node *node, const char *level, size_t length)
{
    size_t index;
    if (find_child(node, level, length, &index))
        return node->children[index];
    struct node *child = mem_zalloc(sizeof *child);
    child->level = mem_strndup(level, length);
    child->level_length = length;
    node->children =
        mem_grow(node->children, node->child_count, &node->child_capacity, sizeof *node->children);
    memmove(node->children + index + 1, node->children + index,
            (node->child_count - index) * sizeof *node->children);
    node->children[index] = child;
    node->child_count++;
    return child;
}

// The values that stand for the filter; with create, the path to them is made.
static struct values *values_of(struct topic_tree *tree, const char *filter, bool create)
{
    struct node *node = &tree->root;
    for (const char *at = filter;; at++) {
        size_t length = strcspn(at, "/");
        size_t index;
        if (length == 1 && *at == '#')
            return &node->hash;
        if (length == 1 && *at == '+') {
            if (!node->plus && create)
                node->plus = mem_zalloc(sizeof *node->plus);
            node = node->plus;
        } else if (create) {
            node = child_for(node, at, length);
        } else {
            node = find_child(node, at, length, &index) ? node->children[index] : NULL;
        }
        if (!node)
            return NULL;
        at += length;
        if (!*at)
            return &node->here;
    }
}

void topic_tree_add(struct topic_tree *tree, const char *filter, void *value)
{
    struct values *values = values_of(tree, filter, true);
    values->items =
        mem_grow(values->items, values->count, &values->capacity, sizeof *values->items);
    values->items[values->count++] = value;
}

bool topic_tree_remove(struct topic_tree *tree, const char *filter, const void *value)
{
    struct values *values = values_of(tree, filter, false);
    for (size_t i = 0; values && i < values->count; i++) {
        if (values->items[i] != value)
            continue;
        values->count--;
        memmove(values->items + i, values->items + i + 1,
                (values->count - i) * sizeof *values->items);
        return true;
    }
    return false;
}

struct match {
    const char *end;
    topic_match_fn *fn;
    void *arg;
};

static void report(const struct match *match, const struct values *values)
{
    for (size_t i = 0; i < values->count; i++)
        match->fn(match->arg, values->items[i]);
}

// level is the first one below node, or NULL where the name has ended.
static void match_below(const struct match *match, const struct node *node, const char *level,
                        bool wildcards)
{
    if (wildcards)
        report(match, &node->hash);
    if (!level) {
        report(match, &node->here);
        return;
    }
    const char *slash = memchr(level, '/', (size_t)(match->end - level));
    size_t length = (size_t)((slash ? slash : match->end) - level);
    const char *next = slash ? slash + 1 : NULL;
    size_t index;
    if (find_child(node, level, length, &index))
        match_below(match, node->children[index], next, true);
    if (wildcards && node->plus)
        match_below(match, node->plus, next, true);
}

void topic_tree_match(const struct topic_tree *tree, const char *name, size_t length,
                      topic_match_fn *fn, void *arg)
{
    struct match match = {.end = name + length, .fn = fn, .arg = arg};
    if (length == 0)
        return;
    match_below(&match, &tree->root, name, *name != '$'); // [MQTT-4.7.2-1]
}
