// The tree of wanted JSON Pointers, as the reader walks it.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "pipeline/json.h"

struct json_node {
    char *token; // reference token, unescaped; NULL at the root
    uint32_t token_length;
    int32_t slot;            // -1: only on the way to others
    int64_t index;           // the token as an array index, or -1
    int64_t index_max;       // the greatest of the children's
    uint64_t seen;           // the document that had it last: a second time is ambiguous
    struct json_node *first; // child met first in an earlier document
    struct json_node *next;  // sibling met next to this one there
    struct json_node **children;
    size_t child_count;
    uint16_t *buckets; // 1 + number of the child, hashed by token; 0: none
    uint32_t mask;
};

struct json_paths {
    struct json_node root;
    size_t count;
    uint64_t document; // number of the one that is being read
};

static inline bool json_node_is(const struct json_node *node, const char *token, size_t length)
{
    return node->token_length == length && memcmp(node->token, token, length) == 0;
}

// The child for a member's name as it stands between the quotes, or NULL.
struct json_node *json_node_find(const struct json_node *node, const char *name, size_t length,
                                 bool escaped);

// The same. Who sends one kind of document again and again sends its members in one order: **guess,
// which begins as &node->first, is looked at before all others, and moves on.
static inline struct json_node *json_node_member(const struct json_node *node,
                                                 struct json_node ***guess, const char *name,
                                                 size_t length, bool escaped)
{
    struct json_node *child = **guess;

    if (escaped || !child || !json_node_is(child, name, length))
        child = json_node_find(node, name, length, escaped);
    if (child) {
        **guess = child;
        *guess = &child->next;
    }
    return child;
}

// The child for an element of an array, or NULL.
struct json_node *json_node_element(const struct json_node *node, int64_t index);
