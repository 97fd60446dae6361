// The whole configuration, loaded and checked.
#include "configuration.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memtext.h"
#include "pipeline/pipeline.h"

// "file:line" taken apart for a problem found in a mapping as a whole.
static void add_problem_at(struct problems *problems, const char *where, const char *mapping,
                           const struct decode_error *error)
{
    const char *colon = strrchr(where, ':');
    char *file = strndup(where, colon ? (size_t)(colon - where) : strlen(where));
    problems_add(problems, file, colon ? atoi(colon + 1) : 0, "mapping \"%s\": %s%s%s", mapping,
                 error->reason, *error->detail ? ": " : "", error->detail);
    free(file);
}

static void check_plans(struct configuration *configuration)
{
    for (size_t i = 0; i < configuration->mappings.count; i++) {
        const struct mapping *mapping = &configuration->mappings.items[i];
        struct decode_error error = {.reason = ""};
        struct plan *plan = plan_new(mapping, &error);
        if (!plan)
            add_problem_at(&configuration->problems, mapping->where, mapping->name, &error);
        plan_free(plan);
    }
}

bool configuration_load(struct configuration *configuration, const char *file,
                        const struct live *live)
{
    struct settings *settings = &configuration->settings;
    struct problems *problems = &configuration->problems;
    *configuration = (struct configuration){.problems = {.count = 0}};
    settings_load(settings, file, problems);
    if (settings->mappings.directory)
        mapfile_load(&configuration->mappings, settings->mappings.directory,
                     settings->postgres.schema, settings, problems);
    if (problems->count > 0)
        return false;
    for (size_t i = 0; i < configuration->mappings.count; i++)
        configuration->mappings.items[i].target.index = (unsigned)i;
    if (live)
        live_number(live, &configuration->mappings);
    mapfile_bind(&configuration->mappings, settings);
    check_plans(configuration);
    return problems->count == 0;
}

void configuration_fini(struct configuration *configuration)
{
    mapfile_fini(&configuration->mappings);
    settings_fini(&configuration->settings);
    problems_fini(&configuration->problems);
}

void configuration_free(struct configuration *configuration)
{
    if (configuration)
        configuration_fini(configuration);
    free(configuration);
}

// For people at a terminal the bare lines; for the journal with their priority.
static void print_lines(char *text)
{
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        if (log_is_journal())
            log_error("%s", line);
        else
            fprintf(stderr, "%s\n", line);
    }
}

void configuration_complain(struct configuration *configuration)
{
    size_t count = configuration->problems.count;
    struct memtext text;
    memtext_open(&text);
    problems_print(&configuration->problems, text.out);
    fprintf(text.out, "%zu problem%s in the configuration\n", count, count == 1 ? "" : "s");
    char *lines = memtext_close(&text);
    print_lines(lines);
    free(lines);
}

bool configuration_must_load(struct configuration *configuration, const char *file)
{
    bool loaded = configuration_load(configuration, file, NULL);
    if (!loaded)
        configuration_complain(configuration);
    return loaded;
}
