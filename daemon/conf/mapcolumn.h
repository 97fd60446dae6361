// Reads one column of a mapping, or its time.
#pragma once

#include <libconfig.h>
#include <stdbool.h>

#include "conf/node.h"
#include "pipeline/mapping.h"

// The mapping that the columns belong to, as far as it is known already.
struct mapcolumn_reader {
    const struct node_file *file;
    struct mapping *mapping; // columns and fields have room for TARGET_COLUMNS_MAX
    bool decoder_known;
    const char *filter; // without $share/NAME/; NULL where it is not valid
};

// Sets column 0 by the mapping's group "time", or to the time of arrival.
void mapcolumn_read_time(const struct mapcolumn_reader *reader, const config_setting_t *mapping);
// Appends a column, with the name "" where it has no valid one.
void mapcolumn_read(const struct mapcolumn_reader *reader, const config_setting_t *group);
