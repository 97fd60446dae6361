// Reads one mapping of a file, and checks all that it can tell by itself.
#pragma once

#include <libconfig.h>

#include "conf/node.h"
#include "conf/settings.h"
#include "pipeline/mapping.h"

struct mapread {
    struct node_file file;
    const struct settings *settings;
    const char *schema;
};

// Fills *mapping as far as group allows, the rest with what mapping_fini can free; texts that are
// not valid are "".
void mapread_mapping(const struct mapread *read, const config_setting_t *group,
                     struct mapping *mapping);
// Whether the mapping takes messages from the source of this name.
bool mapread_takes_from(const struct mapping *mapping, const char *source);
