// sensorlogd check: all mistakes at once, and with --connect what the live parts say.
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "commands.h"
#include "configuration.h"
#include "probe.h"

static int check_live(struct configuration *configuration)
{
    log_init(LOG_LEVEL_ERROR); // what the parts find is printed here
    struct probe *probe = probe_new(configuration);
    bool database = probe_database(probe);
    bool grants = database && probe_grants(probe);
    bool tables = database && probe_tables(probe, false);
    bool brokers = probe_brokers(probe);
    probe_free(probe);
    const struct settings *settings = &configuration->settings;
    for (size_t i = 0; i < settings->forward_count; i++)
        printf("forward %s: not tried\n", settings->forwards[i].name);
    bool ok = database && grants && tables && brokers;
    if (ok)
        puts("database, tables and subscribers: ok");
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

// No mistake, but to be known.
static void note_updates(const struct mappings *mappings)
{
    for (size_t i = 0; i < mappings->count; i++) {
        const struct mapping *mapping = &mappings->items[i];
        if (mapping->target.on_conflict == CONFLICT_UPDATE && target_may_conflict(&mapping->target))
            printf("note: mapping \"%s\" (%s): on_conflict is update, so a redelivery that comes "
                   "after a newer row with its key brings the older values back\n",
                   mapping->name, mapping->where);
    }
}

int command_check(const struct arguments *arguments)
{
    struct configuration configuration;
    int status = EXIT_CONFIGURATION;
    if (configuration_must_load(&configuration, arguments->config)) {
        printf("configuration: ok (%zu mapping(s), %zu subscriber(s)%s)\n",
               configuration.mappings.count, configuration.settings.subscriber_count,
               configuration.settings.has_broker ? ", built-in broker" : "");
        note_updates(&configuration.mappings);
        // Here may be another machine, or another user, than it is meant for.
        if (configuration.settings.state.flaw)
            fprintf(stderr, "warning: %s\n", configuration.settings.state.flaw);
        status = arguments->connect ? check_live(&configuration) : EXIT_SUCCESS;
    }
    configuration_fini(&configuration);
    return status;
}
