// Configuration files as text, and which of them a directory has.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "conf/problems.h"

struct textfile_list {
    char **paths;
    size_t count, capacity;
};

// The file's text: UTF-8 without control characters except tab and line ends, and without byte
// order mark. NULL after a problem was added; the caller frees.
char *textfile_read(const char *path, struct problems *problems);
// Adds the directory's files whose names end with suffix (hidden ones apart), in name order. False
// with errno.
bool textfile_list(struct textfile_list *list, const char *directory, const char *suffix);
void textfile_list_fini(struct textfile_list *list);
// path as seen from the directory of the file from; the caller frees.
char *textfile_resolve(const char *path, const char *from);
