// The sections of sensorlogd.conf and their keys: names, defaults, bounds, and where the values go.
#pragma once

#include <stdbool.h>

#include "conf/keys.h"
#include "conf/settings.h"

struct section {
    const char *name;
    bool of_subscriber; // [NAME x], whose keys' base is a subscriber_entry, else the settings
    const char *absent; // why nothing in it is taken, or NULL
    const struct key *keys;
    size_t key_count;
};

enum { SECTION_COUNT = 9 };
extern const struct section sections[SECTION_COUNT];

// Gives every key of the section its default; paths are relative to file.
void section_init(const struct section *section, void *base, const char *file);
// Frees what the keys of the section hold.
void section_fini(const struct section *section, void *base);
// The key of this name, or NULL.
const struct key *section_key(const struct section *section, const char *name);
