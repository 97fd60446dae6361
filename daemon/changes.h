// What a reload has found changed and cannot change while the daemon runs.
#pragma once

#include "conf/settings.h"

// A line for each such setting, which takes effect at the next start. running: as at the start.
void changes_log(const struct settings *running, const struct settings *next);
