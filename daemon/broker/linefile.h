// A file of users or rules, read line by line; what is wrong is said with its place.
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct linefile {
    const char *path; // not owned
    int number;       // of the last line
    char *text, *next;
    size_t length;
};

// Reads the whole file. False with *error ("FILE: why"), which the caller frees.
bool linefile_open(struct linefile *file, const char *path, char **error);
// The next line without its end and the blanks before that; valid until the file is closed. NULL at
// the end, or with *error where the line is no UTF-8 or has control characters.
char *linefile_next(struct linefile *file, char **error);
// "FILE:LINE: text" of the last line; the caller frees.
char *linefile_flaw(const struct linefile *file, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void linefile_close(struct linefile *file); // the text is wiped
