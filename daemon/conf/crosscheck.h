// What several keys say together: defaults that depend on others, and contradictions.
#pragma once

#include "conf/places.h"
#include "conf/problems.h"
#include "conf/settings.h"

// Called once all files are read.
void crosscheck_settings(struct settings *settings, const struct places *places,
                         struct problems *problems);
