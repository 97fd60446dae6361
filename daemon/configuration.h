// The whole configuration, loaded and checked: settings, mappings, and that every mapping can be
// compiled.
#pragma once

#include <stdbool.h>

#include "conf/mapfile.h"
#include "conf/settings.h"

enum { EXIT_CONFIGURATION = 78, EXIT_USAGE = 2 };

struct configuration {
    struct settings settings;
    struct mappings mappings;
    struct problems problems;
};

// False where there are problems; configuration_fini is due in either case.
bool configuration_load(struct configuration *configuration, const char *file);
void configuration_fini(struct configuration *configuration);
// Loads or prints all problems to standard error; false: the caller exits with EXIT_CONFIGURATION.
bool configuration_must_load(struct configuration *configuration, const char *file);
