// Reads and checks the key of a mapping.
#pragma once

#include <libconfig.h>

#include "conf/node.h"
#include "pipeline/mapping.h"

// Marks the columns of the group's "key", and what "on_conflict" compares, after all columns of the
// mapping have been read.
void mapkey_read(const struct node_file *file, const config_setting_t *group,
                 struct mapping *mapping);
