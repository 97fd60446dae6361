// sensorlogd migrate: brings the schema and the mapped tables up to date, or shows how.
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "commands.h"
#include "configuration.h"
#include "probe.h"

static int migrate(struct configuration *configuration, bool print)
{
    struct probe *probe = probe_new(configuration);
    bool ok = true;
    if (print)
        probe_print_migration(probe);
    else
        ok = probe_database(probe) && probe_tables(probe, true);
    probe_free(probe);
    if (ok && !print)
        puts("schema and tables are up to date");
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

int command_migrate(const struct arguments *arguments)
{
    struct configuration configuration;
    int status = EXIT_CONFIGURATION;
    if (configuration_must_load(&configuration, arguments->config)) {
        log_init(configuration.settings.log_level);
        status = migrate(&configuration, arguments->print);
    }
    configuration_fini(&configuration);
    return status;
}
