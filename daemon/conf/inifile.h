// INI files read with inih, strictly: each line is checked before inih sees it.
#pragma once

#include <stdbool.h>

#include "conf/problems.h"

struct inifile_calls {
    // A [section] begins.
    void (*section)(void *arg, const char *section, int line);
    // A key of the section that began last; value has neither blanks around it nor a comment.
    void (*key)(void *arg, const char *key, const char *value, int line);
    void *arg;
};

// Calls in the order of the file; what is no section, key or comment, and what the file gives
// twice, goes to problems. A comment begins with # or ; on a line of its own, or with " ; " after a
// value. False where the file could not be read.
bool inifile_read(const char *path, const struct inifile_calls *calls, struct problems *problems);
