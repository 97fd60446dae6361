// Where the settings were given: file and line of every section and key.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "conf/sections.h"

struct place {
    const struct section *section;
    size_t index;          // which of the sections of this kind
    const struct key *key; // NULL: the section itself
    bool empty;            // the key's value
    char *file;
    int line;
};

struct places {
    struct place *items; // in the order of reading
    size_t count, capacity;
};

// key NULL: the section begins here. The file's name is copied.
void places_add(struct places *places, const struct section *section, size_t index,
                const struct key *key, bool empty, const char *file, int line);
// Where the key was given last; NULL: nowhere.
const struct place *places_find(const struct places *places, const struct section *section,
                                size_t index, const char *key);
// Where the key was given last, or else where its section begins first, which must be given.
const struct place *places_of(const struct places *places, const struct section *section,
                              size_t index, const char *key);
void places_fini(struct places *places);
