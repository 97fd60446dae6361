// Mapping files (libconfig): *.cfg of a directory in name order, as plain structs.
#pragma once

#include <stddef.h>

#include "conf/problems.h"
#include "conf/settings.h"
#include "pipeline/mapping.h"

struct mappings {
    struct mapping *items;
    size_t count;
};

// Reads all files; every mistake goes to problems (one per file where its syntax is broken). schema
// is that of the tables.
void mapfile_load(struct mappings *mappings, const char *directory, const char *schema,
                  const struct settings *settings, struct problems *problems);
// The same of a single file.
void mapfile_load_file(struct mappings *mappings, const char *file, const char *schema,
                       const struct settings *settings, struct problems *problems);
void mapfile_fini(struct mappings *mappings);
// Gives every subscriber the subscriptions of the mappings that take from it, by its qos and share.
void mapfile_bind(const struct mappings *mappings, struct settings *settings);
