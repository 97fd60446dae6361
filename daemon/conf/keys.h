// Keys of an INI section, described by tables: how a value is read into a struct, checked, and
// printed.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum key_kind {
    KEY_TEXT,         // char *
    KEY_PATH,         // char *, relative to the file that names it
    KEY_BOOL,         // bool
    KEY_NUMBER,       // an integer of any size, as the following
    KEY_SECONDS,      // a duration; a number without unit is seconds
    KEY_MILLISECONDS, // a duration
    KEY_BYTES,        // a size
    KEY_WORD,         // one of words
    KEY_OWN,          // take and print do it all
};

struct key_word {
    const char *text; // NULL ends the list
    uint64_t value;
};

struct key {
    const char *name;
    enum key_kind kind;
    const char *initial; // in the file's syntax, where no file gives it; NULL: none
    bool may_be_empty;   // then it is NULL
    size_t offset, size; // of the member
    uint64_t min, max;
    const struct key_word *words; // beside numbers and durations, or of KEY_WORD
    // KEY_TEXT and KEY_PATH: what is wrong, which the caller frees, or NULL. The path is resolved
    // already.
    char *(*flaw)(const char *value);
    // KEY_OWN: as key_set and key_print.
    char *(*take)(void *base, const char *value);
    void (*print)(const void *base, FILE *out);
};

// Where a key's member is: KEY_AT(struct x, y) among its initializers.
#define KEY_AT(type, member)                                                                       \
    .offset = offsetof(type, member), .size = sizeof(((type *)NULL)->member)

// Reads value into the member of *base; file is where it was found. NULL, or what is wrong, which
// the caller frees; then the member is as before.
char *key_set(const struct key *key, void *base, const char *value, const char *file);
// "name = value" and a newline; nothing where there is no value.
void key_print(const struct key *key, const void *base, FILE *out);
// Frees what key_set has taken into texts.
void key_clear(const struct key *key, void *base);
