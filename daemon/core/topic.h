// Topic names and filters [MQTT-4.7], and the tree that matches them.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Syntax of length and wildcards alone; whether it is UTF-8 is checked where strings come in.
bool topic_name_valid(const char *name, size_t length);
bool topic_filter_valid(const char *filter, size_t length);
// A filter of the form $share/NAME/FILTER; *inner is then its FILTER.
bool topic_filter_is_shared(const char *filter, const char **inner);
// Whether the filter matches the name; a leading wildcard matches no name that begins with $
// [MQTT-4.7.2-1].
bool topic_filter_matches(const char *filter, const char *name, size_t name_length);
// Whether every name that inner matches is matched by outer too.
bool topic_filter_covers(const char *outer, const char *inner);
// Whether some name is matched by both.
bool topic_filter_overlaps(const char *a, const char *b);
// Level number index (from 0) of a topic; false where it has fewer levels.
bool topic_level(const char *topic, size_t length, unsigned index, const char **level,
                 size_t *level_length);

// A set of (filter, value) pairs; matching costs by the depth of the topic, not by the size of the
// set. It recurses as deep as its filters have levels.
struct topic_tree;
typedef void topic_match_fn(void *arg, void *value);

struct topic_tree *topic_tree_new(void);
void topic_tree_free(struct topic_tree *tree);
// The same filter may be added with several values. The filter must be valid; value is not owned.
void topic_tree_add(struct topic_tree *tree, const char *filter, void *value);
// False where the pair is not there.
bool topic_tree_remove(struct topic_tree *tree, const char *filter, const void *value);
// Calls fn once for each pair whose filter matches; the tree must not change meanwhile.
void topic_tree_match(const struct topic_tree *tree, const char *name, size_t length,
                      topic_match_fn *fn, void *arg);
// Whether any filter matches: stops at the first.
bool topic_tree_matches(const struct topic_tree *tree, const char *name, size_t length);
// Calls fn once for each pair with this very filter; whether there was one.
bool topic_tree_find(struct topic_tree *tree, const char *filter, topic_match_fn *fn, void *arg);
