// The mistakes found in the configuration: all of them, in order, each with its place.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct problem {
    char *file;
    int line; // 0: the file as a whole
    char *text;
    size_t order; // in which it was found, so that sorting keeps it within a line
};

struct problems {
    struct problem *items;
    size_t count, capacity;
};

void problems_fini(struct problems *problems);
// file and the formatted text are copied.
void problems_add(struct problems *problems, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
// "unknown WHAT 'WORD'", with the word that was probably meant, or else all that are allowed
// (NULL-terminated).
void problems_add_unknown(struct problems *problems, const char *file, int line, const char *what,
                          const char *word, const char *const *words);
// "file:line: text" lines, sorted by file and line.
void problems_print(struct problems *problems, FILE *out);
// The nearest of the NULL-terminated words within two edits of the given one (one where it has up
// to three letters), whatever their case, or NULL.
const char *problems_near(const char *word, const char *const *words);
