// Typed access to libconfig's settings; what has another type or name is a problem with its place.
#pragma once

#include <libconfig.h>
#include <stdbool.h>
#include <stdint.h>

#include "conf/problems.h"

// The file that is read; libconfig knows only lines of it.
struct node_file {
    const char *path;
    struct problems *problems;
};

void node_problem(const struct node_file *file, const config_setting_t *node, const char *format,
                  ...) __attribute__((format(printf, 3, 4)));
// Complains of every member of the group whose name is none of the NULL-terminated names.
void node_allow(const struct node_file *file, const config_setting_t *group,
                const char *const *names);

// The member where it is there and fits, else NULL; texts belong to libconfig and are not empty.
const char *node_text(const struct node_file *file, const config_setting_t *group,
                      const char *name);
// The same, complaining also where it is not there.
const char *node_text_required(const struct node_file *file, const config_setting_t *group,
                               const char *name);
// False, and value as it was, where the member is not there or does not fit.
bool node_bool(const struct node_file *file, const config_setting_t *group, const char *name,
               bool *value);
// An integer within the bounds.
bool node_integer(const struct node_file *file, const config_setting_t *group, const char *name,
                  long long min, long long max, long long *value);
// A number with or without fraction, exact.
bool node_real(const struct node_file *file, const config_setting_t *group, const char *name,
               double *value);
// A text such as "7d", to microseconds, within the bounds.
bool node_duration(const struct node_file *file, const config_setting_t *group, const char *name,
                   int64_t min, int64_t max, int64_t *microseconds);
// The index of the text among the NULL-terminated words.
bool node_word(const struct node_file *file, const config_setting_t *group, const char *name,
               const char *const *words, int *index);
// A list or array of texts, or one text: calls fn for each.
typedef void node_text_fn(void *arg, const char *text);
void node_texts(const struct node_file *file, const config_setting_t *group, const char *name,
                node_text_fn *fn, void *arg);
// A member that is a list of groups, and its elements; NULL where it is not there or something
// else.
const config_setting_t *node_groups(const struct node_file *file, const config_setting_t *group,
                                    const char *name);
const config_setting_t *node_group_at(const struct node_file *file, const config_setting_t *list,
                                      int index);
// A member that is a group; NULL where it is not there or something else.
const config_setting_t *node_group(const struct node_file *file, const config_setting_t *group,
                                   const char *name);
// Any scalar as the text it stands for; the caller frees. NULL where it is not there or no scalar.
char *node_scalar_text(const struct node_file *file, const config_setting_t *group,
                       const char *name);
