// The whole configuration, loaded and checked: settings, mappings, and that every mapping can be
// compiled.
#pragma once

#include <stdbool.h>

#include "conf/mapfile.h"
#include "conf/settings.h"
#include "live.h"

enum { EXIT_CONFIGURATION = 78, EXIT_USAGE = 2 };

struct configuration {
    struct settings settings;
    struct mappings mappings;
    struct problems problems;
};

// False where there are problems; configuration_fini is due in either case. live: the mappings that
// a running daemon has, whose Subscription Identifiers go on; or NULL.
bool configuration_load(struct configuration *configuration, const char *file,
                        const struct live *live);
// Prints all problems to standard error.
void configuration_complain(struct configuration *configuration);
void configuration_fini(struct configuration *configuration);
void configuration_free(struct configuration *configuration); // one that was allocated; takes NULL
// Loads or prints all problems to standard error; false: the caller exits with EXIT_CONFIGURATION.
bool configuration_must_load(struct configuration *configuration, const char *file);
