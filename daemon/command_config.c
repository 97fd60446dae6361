// sensorlogd config: the effective settings.
#include <stdio.h>
#include <stdlib.h>

#include "commands.h"
#include "configuration.h"

int command_config(const struct arguments *arguments)
{
    struct configuration configuration;
    int status = EXIT_CONFIGURATION;
    if (configuration_must_load(&configuration, arguments->config)) {
        settings_print(&configuration.settings, stdout);
        status = EXIT_SUCCESS;
    }
    configuration_fini(&configuration);
    return status;
}
