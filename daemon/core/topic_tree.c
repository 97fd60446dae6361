// The tree of filters: one node per level, children found by hash, so that a match walks the levels
// of the name whatever the number of filters.
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "core/topic.h"

enum { CHILDREN_PER_BUCKET = 2 };

// Most sets have one value, which then needs no memory of its own.
struct values {
    union {
        void *one; // where capacity is 0
        void **many;
    };
    uint32_t count, capacity;
};

struct node {
    struct node *parent;
    struct node *next;     // in its bucket
    struct branch *branch; // what is below; NULL: nothing
    struct values here;    // of filters that end at this level
    uint32_t hash;         // of level
    uint16_t length;
    char level[];
};

struct branch {
    struct node **buckets; // literal levels
    struct node *narrow;   // the bucket while there is only one
    struct node *plus;
    struct values hash;   // of filters that end in # below this level; they match this level too
    uint32_t count, mask; // of children, of buckets
};

struct topic_tree {
    uint64_t seed;
    struct node root;
};

// ---- values ----

static void *const *values_items(const struct values *values)
{
    return values->capacity ? values->many : &values->one;
}

static void values_add(struct values *values, void *value)
{
    if (values->count == 0 && values->capacity == 0) {
        values->one = value;
    } else {
        if (values->capacity == 0) {
            void *one = values->one;
            values->capacity = 4;
            values->many = mem_alloc(values->capacity * sizeof *values->many);
            values->many[0] = one;
        } else if (values->count == values->capacity) {
            values->capacity *= 2;
            values->many = mem_realloc(values->many, values->capacity, sizeof *values->many);
        }
        values->many[values->count] = value;
    }
    values->count++;
}

static void values_fini(struct values *values)
{
    if (values->capacity)
        free(values->many);
    *values = (struct values){0};
}

static bool values_remove(struct values *values, const void *value)
{
    void *const *items = values_items(values);
    uint32_t i = 0;
    while (i < values->count && items[i] != value)
        i++;
    if (i == values->count)
        return false;
    values->count--;
    if (values->count == 0)
        values_fini(values);
    else
        memmove(values->many + i, values->many + i + 1, (values->count - i) * sizeof *values->many);
    return true;
}

// ---- nodes ----

static struct node *find_child(const struct branch *branch, const char *level, size_t length,
                               uint32_t hash)
{
    struct node *child = branch->buckets[hash & branch->mask];
    while (child && (child->hash != hash || child->length != length ||
                     memcmp(child->level, level, length) != 0))
        child = child->next;
    return child;
}

static void widen(struct branch *branch)
{
    uint32_t mask = branch->mask * 2 + 1;
    struct node **buckets = mem_zalloc((mask + (size_t)1) * sizeof *buckets);
    for (uint32_t i = 0; i <= branch->mask; i++) {
        for (struct node *node = branch->buckets[i], *next; node; node = next) {
            next = node->next;
            node->next = buckets[node->hash & mask];
            buckets[node->hash & mask] = node;
        }
    }
    if (branch->buckets != &branch->narrow)
        free(branch->buckets);
    branch->buckets = buckets;
    branch->mask = mask;
}

static struct branch *branch_of(struct node *node)
{
    if (!node->branch) {
        node->branch = mem_zalloc(sizeof *node->branch);
        node->branch->buckets = &node->branch->narrow;
    }
    return node->branch;
}

static struct node *node_new(struct node *parent, const char *level, size_t length, uint32_t hash)
{
    struct node *node = mem_zalloc(sizeof *node + length);
    node->parent = parent;
    node->hash = hash;
    node->length = (uint16_t)length;
    memcpy(node->level, level, length);
    return node;
}

static struct node *add_child(struct node *node, const char *level, size_t length, uint32_t hash)
{
    struct branch *branch = branch_of(node);
    struct node *child = find_child(branch, level, length, hash);
    if (child)
        return child;
    if (branch->count >= CHILDREN_PER_BUCKET * (branch->mask + 1))
        widen(branch);
    child = node_new(node, level, length, hash);
    child->next = branch->buckets[hash & branch->mask];
    branch->buckets[hash & branch->mask] = child;
    branch->count++;
    return child;
}

static void branch_free(struct branch *branch)
{
    if (branch->buckets != &branch->narrow)
        free(branch->buckets);
    values_fini(&branch->hash);
    free(branch);
}

static void unlink_node(struct branch *branch, const struct node *node)
{
    if (branch->plus == node) {
        branch->plus = NULL;
        return;
    }
    struct node **at = &branch->buckets[node->hash & branch->mask];
    while (*at != node)
        at = &(*at)->next;
    *at = node->next;
    branch->count--;
}

// Frees what of node and the nodes above it stands for no filter any more.
static void prune(struct node *node)
{
    for (;;) {
        struct branch *branch = node->branch;
        if (branch && branch->count == 0 && !branch->plus && branch->hash.count == 0) {
            branch_free(branch);
            node->branch = NULL;
        }
        struct node *parent = node->parent;
        if (node->branch || node->here.count > 0 || !parent)
            return;
        unlink_node(parent->branch, node);
        free(node);
        node = parent;
    }
}

static void node_fini(struct node *node)
{
    struct branch *branch = node->branch;
    values_fini(&node->here);
    if (!branch)
        return;
    for (uint32_t i = 0; i <= branch->mask; i++) {
        for (struct node *child = branch->buckets[i], *next; child; child = next) {
            next = child->next;
            node_fini(child);
            free(child);
        }
    }
    if (branch->plus) {
        node_fini(branch->plus);
        free(branch->plus);
    }
    branch_free(branch);
}

// ---- the tree ----

struct topic_tree *topic_tree_new(void)
{
    struct topic_tree *tree = mem_zalloc(sizeof *tree);
    tree->seed = hash_seed();
    return tree;
}

void topic_tree_free(struct topic_tree *tree)
{
    if (!tree)
        return;
    node_fini(&tree->root);
    free(tree);
}

// One level down from node, NULL where there is none; with create, it is made.
static struct node *step(struct topic_tree *tree, struct node *node, const char *level,
                         size_t length, bool create)
{
    bool plus = length == 1 && *level == '+';
    uint32_t hash = plus ? 0 : hash_bytes(tree->seed, level, length);
    if (create && !plus)
        return add_child(node, level, length, hash);
    if (create && !branch_of(node)->plus)
        node->branch->plus = node_new(node, level, 0, 0);
    if (!node->branch)
        return NULL;
    return plus ? node->branch->plus : find_child(node->branch, level, length, hash);
}

// The values that stand for the filter, and the node that has them; NULL where there is no path to
// them. With create, it is made.
static struct values *values_of(struct topic_tree *tree, const char *filter, bool create,
                                struct node **owner)
{
    struct node *node = &tree->root;
    for (const char *at = filter; node; at++) {
        size_t length = strcspn(at, "/");
        *owner = node;
        if (length == 1 && *at == '#') {
            if (create)
                branch_of(node);
            return node->branch ? &node->branch->hash : NULL;
        }
        node = step(tree, node, at, length, create);
        at += length;
        if (!*at)
            break;
    }
    *owner = node;
    return node ? &node->here : NULL;
}

void topic_tree_add(struct topic_tree *tree, const char *filter, void *value)
{
    struct node *owner;
    values_add(values_of(tree, filter, true, &owner), value);
}

bool topic_tree_remove(struct topic_tree *tree, const char *filter, const void *value)
{
    struct node *owner;
    struct values *values = values_of(tree, filter, false, &owner);
    if (!values || !values_remove(values, value))
        return false;
    prune(owner);
    return true;
}

bool topic_tree_find(struct topic_tree *tree, const char *filter, topic_match_fn *fn, void *arg)
{
    struct node *owner;
    const struct values *values = values_of(tree, filter, false, &owner);
    for (uint32_t i = 0; values && i < values->count; i++)
        fn(arg, values_items(values)[i]);
    return values && values->count > 0;
}

// ---- matching ----

struct match {
    const char *end;
    uint64_t seed;
    topic_match_fn *fn; // NULL: the first match ends it
    void *arg;
};

// Whether that is all that is wanted.
static bool report(const struct match *match, const struct values *values)
{
    if (!match->fn)
        return values->count > 0;
    void *const *items = values_items(values);
    for (uint32_t i = 0; i < values->count; i++)
        match->fn(match->arg, items[i]);
    return false;
}

// level is the first one below node, or NULL where the name has ended. Goes down in the loop, and
// calls itself only where + and a literal level both go on.
static bool match_below(const struct match *match, const struct node *node, const char *level,
                        bool wildcards)
{
    for (;;) {
        const struct branch *branch = node->branch;
        if (branch && wildcards && report(match, &branch->hash))
            return true;
        if (!level)
            return report(match, &node->here);
        if (!branch)
            return false;
        const char *slash = memchr(level, '/', (size_t)(match->end - level));
        size_t length = (size_t)((slash ? slash : match->end) - level);
        const struct node *plus = wildcards ? branch->plus : NULL, *child = NULL;
        if (branch->count > 0)
            child = find_child(branch, level, length, hash_bytes(match->seed, level, length));
        level = slash ? slash + 1 : NULL;
        wildcards = true;
        if (child && plus && match_below(match, child, level, true))
            return true;
        node = plus ? plus : child;
        if (!node)
            return false;
    }
}

void topic_tree_match(const struct topic_tree *tree, const char *name, size_t length,
                      topic_match_fn *fn, void *arg)
{
    struct match match = {.end = name + length, .seed = tree->seed, .fn = fn, .arg = arg};
    if (length > 0)
        match_below(&match, &tree->root, name, *name != '$'); // [MQTT-4.7.2-1]
}

bool topic_tree_matches(const struct topic_tree *tree, const char *name, size_t length)
{
    struct match match = {.end = name + length, .seed = tree->seed};
    return length > 0 && match_below(&match, &tree->root, name, *name != '$');
}
