// Reads sensorlogd.conf and conf.d, fills in the defaults, and checks what single keys cannot tell.
#include "conf/settings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "conf/crosscheck.h"
#include "conf/inifile.h"
#include "conf/listen.h"
#include "conf/places.h"
#include "conf/scalar.h"
#include "conf/sections.h"
#include "conf/textfile.h"

struct loader {
    struct settings *settings;
    struct problems *problems;
    struct places places;
    const char *file;              // that is being read
    const struct section *section; // NULL: its keys are passed over
    void *base;                    // of the section's keys
    size_t index;                  // of the section among those of its kind
    size_t subscriber_capacity, forward_capacity;
    bool source_meant; // some section was a source of messages, or was to be one
};

static char *host_name(void)
{
    char name[256] = "";
    if (gethostname(name, sizeof name - 1) != 0 || !*name || !utf8_valid(name, strlen(name)))
        return mem_strdup("localhost");
    return mem_strdup(name);
}

static char *default_state_directory(void)
{
    const char *given = getenv("STATE_DIRECTORY"); // systemd's; a list with colons
    if (given && *given)
        return mem_strndup(given, strcspn(given, ":"));
    return mem_strdup("/var/lib/sensorlogd");
}

static bool name_allowed(const struct loader *loader, const char *name, int line)
{
    const char *flaw = scalar_name_flaw(name);
    if (flaw)
        problems_add(loader->problems, loader->file, line, "the name of a %s, '%s', %s",
                     loader->section->name, name, flaw);
    bool reserved = loader->section == &section_subscriber &&
                    (strcmp(name, "broker") == 0 || strcmp(name, "spool") == 0);
    if (reserved)
        problems_add(loader->problems, loader->file, line,
                     "'%s' is the name of another source; choose another name", name);
    return !flaw && !reserved;
}

static void add_subscriber(struct loader *loader, const char *name, int line)
{
    struct settings *settings = loader->settings;
    settings->subscribers = mem_grow(settings->subscribers, settings->subscriber_count,
                                     &loader->subscriber_capacity, sizeof *settings->subscribers);
    struct subscriber_entry *entry = &settings->subscribers[settings->subscriber_count++];
    *entry = (struct subscriber_entry){.options.name = mem_strdup(name)};
    entry->where = mem_printf("%s:%d", loader->file, line);
    char *host = host_name();
    entry->options.client_id = mem_printf("sensorlogd-%s-%s", host, name);
    free(host);
    section_init(&section_subscriber, entry, settings->file);
}

static void add_forward(struct loader *loader, const char *name)
{
    struct settings *settings = loader->settings;
    settings->forwards = mem_grow(settings->forwards, settings->forward_count,
                                  &loader->forward_capacity, sizeof *settings->forwards);
    struct forward_options *options = &settings->forwards[settings->forward_count++];
    *options = (struct forward_options){.name = mem_strdup(name)};
    char *host = host_name();
    options->client_id = mem_printf("sensorlogd-%s-forward-%s", host, name);
    free(host);
    section_init(&section_forward, options, settings->file);
}

// Makes the subscriber of this name the current one.
static void enter_subscriber(struct loader *loader, const char *name, int line)
{
    const struct settings *settings = loader->settings;
    size_t i = 0;
    while (i < settings->subscriber_count &&
           strcmp(settings->subscribers[i].options.name, name) != 0)
        i++;
    if (i == settings->subscriber_count)
        add_subscriber(loader, name, line);
    loader->index = i;
    loader->base = &settings->subscribers[i];
}

static void enter_forward(struct loader *loader, const char *name)
{
    const struct settings *settings = loader->settings;
    size_t i = 0;
    while (i < settings->forward_count && strcmp(settings->forwards[i].name, name) != 0)
        i++;
    if (i == settings->forward_count)
        add_forward(loader, name);
    loader->index = i;
    loader->base = &settings->forwards[i];
}

static void enter_section(struct loader *loader, const struct section *section, const char *name,
                          int line)
{
    loader->section = section;
    loader->base = loader->settings;
    loader->index = 0;
    loader->settings->has_broker |= section == &section_broker;
    if (section->named && !name_allowed(loader, name, line)) {
        loader->section = NULL;
        return;
    }
    if (section == &section_subscriber)
        enter_subscriber(loader, name, line);
    else if (section == &section_forward)
        enter_forward(loader, name);
    places_add(&loader->places, section, loader->index, NULL, false, loader->file, line);
}

static void unknown_section(struct loader *loader, const char *name, int line)
{
    const char *names[SECTIONS_MAX + 1] = {NULL}, *named[SECTIONS_MAX + 1] = {NULL};
    size_t named_count = 0;
    for (size_t i = 0; sections[i]; i++) {
        names[i] = sections[i]->shown;
        if (sections[i]->named)
            named[named_count++] = sections[i]->name;
    }
    char *first = mem_strndup(name, strcspn(name, " \t"));
    const char *near = problems_near(first, named);
    if (near) {
        const struct section *section = section_find(near, strlen(near));
        loader->source_meant |= section == &section_subscriber;
        problems_add(loader->problems, loader->file, line,
                     "unknown section '%s'; did you mean '%s'?", name, section->shown);
    } else {
        problems_add_unknown(loader->problems, loader->file, line, "section", name, names);
    }
    free(first);
}

static void begin_section(void *arg, const char *name, int line)
{
    struct loader *loader = arg;
    size_t length = strcspn(name, " \t");
    const char *rest = name + length + strspn(name + length, " \t");
    const struct section *section = section_find(name, length);
    loader->section = NULL;
    loader->source_meant |= section == &section_subscriber || section == &section_broker;
    if (!section || (*rest && !section->named))
        unknown_section(loader, name, line);
    else if (!*rest && section->named)
        problems_add(loader->problems, loader->file, line, "a %s needs a name; allowed: [%s]",
                     section->name, section->shown);
    else
        enter_section(loader, section, rest, line);
}

static void unknown_key(struct loader *loader, const char *name, int line)
{
    const struct section *section = loader->section;
    const char *hint = section->foreign ? section->foreign(name) : NULL;
    if (hint) {
        problems_add(loader->problems, loader->file, line, "unknown key '%s'; %s", name, hint);
        return;
    }
    const char **names = mem_zalloc((section->key_count + 1) * sizeof *names);
    for (size_t i = 0; i < section->key_count; i++)
        names[i] = section->keys[i].name;
    problems_add_unknown(loader->problems, loader->file, line, "key", name, names);
    free(names);
}

// What is wrong with the directory of the mappings is found when it is read.
static void keep_place(struct loader *loader, int line)
{
    struct settings *settings = loader->settings;
    free(settings->mappings.file);
    settings->mappings.file = mem_strdup(loader->file);
    settings->mappings.line = line;
}

static void take_key(void *arg, const char *name, const char *value, int line)
{
    struct loader *loader = arg;
    if (!loader->section)
        return;
    const struct key *key = section_key(loader->section, name);
    if (!key) {
        unknown_key(loader, name, line);
        return;
    }
    places_add(&loader->places, loader->section, loader->index, key, !*value, loader->file, line);
    char *flaw = key_set(key, loader->base, value, loader->file);
    if (flaw)
        problems_add(loader->problems, loader->file, line, "%s: %s", name, flaw);
    else if (loader->section == &section_mappings)
        keep_place(loader, line);
    free(flaw);
}

static bool read_file(struct loader *loader, const char *file)
{
    const struct inifile_calls calls = {begin_section, take_key, loader};
    loader->file = file;
    loader->section = NULL;
    return inifile_read(file, &calls, loader->problems);
}

static void read_files(struct loader *loader)
{
    const char *file = loader->settings->file;
    if (!read_file(loader, file)) {
        // Where the mappings are is not known: the default's flaws would mislead.
        free(loader->settings->mappings.directory);
        loader->settings->mappings.directory = NULL;
        return;
    }
    bool whole = true;
    char *directory = textfile_resolve("conf.d", file);
    struct textfile_list list = {0};
    if (!textfile_list(&list, directory, ".conf") && errno != ENOENT)
        problems_add(loader->problems, directory, 0, "cannot be read: %s", strerror(errno));
    for (size_t i = 0; i < list.count; i++)
        whole &= read_file(loader, list.paths[i]);
    textfile_list_fini(&list);
    free(directory);
    if (whole && !loader->source_meant)
        problems_add(loader->problems, file, 0,
                     "has no section [subscriber NAME] and no [broker]; at least one is needed");
}

static void init_sections(struct settings *settings)
{
    settings->postgres.writer = host_name();
    settings->state.directory = default_state_directory();
    settings->broker.name = mem_strdup("broker");
    for (size_t i = 0; sections[i]; i++) {
        if (!sections[i]->named)
            section_init(sections[i], settings, settings->file);
    }
}

void settings_load(struct settings *settings, const char *file, struct problems *problems)
{
    *settings = (struct settings){.file = mem_strdup(file)};
    struct loader loader = {.settings = settings, .problems = problems};
    init_sections(settings);
    read_files(&loader);
    crosscheck_settings(settings, &loader.places, problems);
    places_fini(&loader.places);
}

static void subscriber_entry_fini(struct subscriber_entry *entry)
{
    for (size_t i = 0; i < entry->options.subscription_count; i++)
        free(entry->options.subscriptions[i].filter);
    free(entry->options.subscriptions);
    section_fini(&section_subscriber, entry);
    free(entry->options.name);
    free(entry->options.host);
    free(entry->options.path);
    free(entry->uri);
    free(entry->where);
}

static void forward_fini(struct forward_options *options)
{
    section_fini(&section_forward, options);
    for (size_t i = 0; i < options->filter_count; i++)
        free(options->filters[i]);
    free(options->filters);
    free(options->name);
    free(options->host);
    free(options->uri);
}

void settings_fini(struct settings *settings)
{
    for (size_t i = 0; i < settings->subscriber_count; i++)
        subscriber_entry_fini(&settings->subscribers[i]);
    free(settings->subscribers);
    for (size_t i = 0; i < settings->forward_count; i++)
        forward_fini(&settings->forwards[i]);
    free(settings->forwards);
    listen_list_free(settings->broker.listens, settings->broker.listen_count);
    free(settings->broker.name);
    free(settings->state.flaw);
    free(settings->mappings.file);
    for (size_t i = 0; sections[i]; i++) {
        if (!sections[i]->named)
            section_fini(sections[i], settings);
    }
    free(settings->http.listen_host);
    free(settings->file);
    *settings = (struct settings){0};
}

static void print_section(const struct section *section, const char *name, const void *base,
                          FILE *out)
{
    fprintf(out, "[%s%s%s]\n", section->name, *name ? " " : "", name);
    for (size_t i = 0; i < section->key_count; i++)
        key_print(&section->keys[i], base, out);
    putc('\n', out);
}

void settings_print(const struct settings *settings, FILE *out)
{
    for (size_t i = 0; sections[i]; i++) {
        bool here = sections[i] != &section_broker || settings->has_broker;
        if (!sections[i]->named && here)
            print_section(sections[i], "", settings, out);
    }
    for (size_t i = 0; i < settings->subscriber_count; i++)
        print_section(&section_subscriber, settings->subscribers[i].options.name,
                      &settings->subscribers[i], out);
    for (size_t i = 0; i < settings->forward_count; i++)
        print_section(&section_forward, settings->forwards[i].name, &settings->forwards[i], out);
}
