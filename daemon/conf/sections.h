// The sections of sensorlogd.conf and their keys: names, defaults, bounds, and where the values go.
#pragma once

#include <stdbool.h>

#include "conf/keys.h"
#include "conf/settings.h"

struct section {
    const char *name;
    const char *shown; // with NAME where it has one
    const struct key *keys;
    size_t key_count;
    bool named; // [name x]; else the keys' base is the settings
    // Where a key looks like one of another program: what to write here (static text); or NULL.
    const char *(*foreign)(const char *key);
};

#define SECTION_KEYS(table) .keys = (table), .key_count = sizeof(table) / sizeof *(table)

extern const struct section section_subscriber; // base: struct subscriber_entry
extern const struct section section_forward;    // base: struct forward_options
extern const struct section section_broker, section_mappings, section_spool;

enum { SECTIONS_MAX = 16 };
extern const struct section *const sections[]; // at most SECTIONS_MAX, then NULL

// The section whose name is these length bytes, or NULL.
const struct section *section_find(const char *name, size_t length);
// Gives every key of the section its default; paths are relative to file.
void section_init(const struct section *section, void *base, const char *file);
// Frees what the keys of the section hold.
void section_fini(const struct section *section, void *base);
// The key of this name, or NULL.
const struct key *section_key(const struct section *section, const char *name);
