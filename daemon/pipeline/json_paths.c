// JSON Pointers (RFC 6901) compiled into a tree.
#include "pipeline/json_paths.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { BUCKETS_PER_CHILD = 4, ESCAPE_MAX = 6, PATHS_MAX = INT16_MAX };

struct json_paths *json_paths_new(void)
{
    struct json_paths *paths = mem_zalloc(sizeof *paths);
    paths->root.slot = -1;
    paths->root.index = -1;
    paths->root.index_max = -1;
    return paths;
}

static void node_fini(struct json_node *node)
{
    for (size_t i = 0; i < node->child_count; i++) {
        node_fini(node->children[i]);
        free(node->children[i]);
    }
    free(node->children);
    free(node->buckets);
    free(node->token);
}

void json_paths_free(struct json_paths *paths)
{
    if (!paths)
        return;
    node_fini(&paths->root);
    free(paths);
}

size_t json_paths_count(const struct json_paths *paths)
{
    return paths->count;
}

// Names come from the configuration, so nobody can choose them to collide: length and three bytes
// do.
static uint32_t hash(const char *token, size_t length)
{
    uint32_t h = (uint32_t)length * 0x9E3779B1u;
    if (length > 0)
        h += ((uint32_t)(unsigned char)token[0] << 16 |
              (uint32_t)(unsigned char)token[length - 1] << 8 | (unsigned char)token[length / 2]) *
             0x85EBCA6Bu;
    return h ^ h >> 15;
}

static struct json_node *find(const struct json_node *node, const char *token, size_t length)
{
    if (!node->buckets)
        return NULL;
    for (uint32_t at = hash(token, length);; at++) {
        uint16_t number = node->buckets[at & node->mask];
        if (number == 0)
            return NULL;
        struct json_node *child = node->children[number - 1];
        if (json_node_is(child, token, length))
            return child;
    }
}

struct json_node *json_node_find(const struct json_node *node, const char *name, size_t length,
                                 bool escaped)
{
    char plain[JSON_TOKEN_MAX * ESCAPE_MAX];
    if (!escaped)
        return find(node, name, length);
    // Each byte of a token takes at most six here, so that a longer name cannot be one.
    if (length > sizeof plain)
        return NULL;
    return find(node, plain, json_unescape(name, length, plain));
}

struct json_node *json_node_element(const struct json_node *node, int64_t index)
{
    if (index > node->index_max)
        return NULL;
    for (size_t i = 0; i < node->child_count; i++) {
        if (node->children[i]->index == index)
            return node->children[i];
    }
    return NULL;
}

static void rehash(struct json_node *node)
{
    uint32_t size = 8;
    while (size < node->child_count * BUCKETS_PER_CHILD)
        size *= 2;
    free(node->buckets);
    node->buckets = mem_zalloc(size * sizeof *node->buckets);
    node->mask = size - 1;
    for (size_t i = 0; i < node->child_count; i++) {
        uint32_t at = hash(node->children[i]->token, node->children[i]->token_length);
        while (node->buckets[at & node->mask] != 0)
            at++;
        node->buckets[at & node->mask] = (uint16_t)(i + 1);
    }
}

// The token as an array index: digits without a useless zero in front (RFC 6901, section 4), or -1.
static int64_t token_index(const char *token, size_t length)
{
    int64_t index = 0;
    if (length == 0 || length > 9 || (token[0] == '0' && length > 1))
        return -1;
    for (size_t i = 0; i < length; i++) {
        if (token[i] < '0' || token[i] > '9')
            return -1;
        index = index * 10 + (token[i] - '0');
    }
    return index;
}

static struct json_node *add_child(struct json_node *node, const char *token, size_t length)
{
    struct json_node *child = find(node, token, length);
    if (child)
        return child;
    child = mem_zalloc(sizeof *child);
    child->token = mem_alloc(length + 1);
    memcpy(child->token, token, length);
    child->token[length] = '\0';
    child->token_length = (uint32_t)length;
    child->slot = -1;
    child->index_max = -1;
    child->index = token_index(token, length);
    if (child->index > node->index_max)
        node->index_max = child->index;
    node->children = mem_realloc(node->children, node->child_count + 1, sizeof(struct json_node *));
    node->children[node->child_count++] = child;
    rehash(node);
    return child;
}

// One reference token behind its slash, with ~0 and ~1 undone; NULL where it is malformed.
static const char *read_token(const char *p, char token[JSON_TOKEN_MAX], size_t *length)
{
    for (*length = 0; *p != '\0' && *p != '/'; p++) {
        char c = *p;
        if (c == '~') {
            p++;
            if (*p != '0' && *p != '1')
                return NULL;
            c = *p == '0' ? '~' : '/';
        }
        if (*length == JSON_TOKEN_MAX)
            return NULL;
        token[(*length)++] = c;
    }
    return p;
}

static bool pointer_valid(const char *pointer)
{
    char token[JSON_TOKEN_MAX];
    size_t length;
    const char *p = pointer;
    while (p && *p == '/')
        p = read_token(p + 1, token, &length);
    return p && *p == '\0';
}

int json_paths_add(struct json_paths *paths, const char *pointer)
{
    struct json_node *node = &paths->root;
    char token[JSON_TOKEN_MAX];
    size_t length;

    if (!pointer_valid(pointer) || paths->count == PATHS_MAX)
        return -1;
    while (*pointer == '/') {
        pointer = read_token(pointer + 1, token, &length);
        node = add_child(node, token, length);
    }
    if (node->slot < 0)
        node->slot = (int32_t)paths->count++;
    return node->slot;
}
