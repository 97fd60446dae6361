// Looks over the text of a mapping file for what libconfig would take silently as something else.
#pragma once

#include <stdbool.h>

#include "conf/node.h"

// Complains of numbers that would wrap, \x00 in texts, @include, and texts and comments that never
// end. False where libconfig shall not read on.
bool mapscan_check(const struct node_file *file, const char *text);
