// Reads sensorlogd.conf and conf.d, fills in the defaults, and checks what single keys cannot tell.
#include "conf/settings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "conf/inifile.h"
#include "conf/scalar.h"
#include "conf/sections.h"
#include "conf/textfile.h"

// Where a subscriber's section stands first.
struct place {
    char *file;
    int line;
};

struct loader {
    struct settings *settings;
    struct problems *problems;
    const char *file;              // that is being read
    const struct section *section; // NULL: its keys are passed over
    void *base;                    // of the section's keys
    struct place *places;          // of settings->subscribers
    size_t subscriber_capacity, place_capacity;
    bool subscriber_meant; // some section was one, or was to be one
};

static const struct section *find_section(const char *name, size_t length)
{
    for (size_t i = 0; i < SECTION_COUNT; i++) {
        if (strlen(sections[i].name) == length && memcmp(sections[i].name, name, length) == 0)
            return &sections[i];
    }
    return NULL;
}

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

static struct subscriber_entry *add_subscriber(struct loader *loader, const char *name, int line)
{
    struct settings *settings = loader->settings;
    size_t count = settings->subscriber_count++;
    settings->subscribers = mem_grow(settings->subscribers, count, &loader->subscriber_capacity,
                                     sizeof *settings->subscribers);
    loader->places =
        mem_grow(loader->places, count, &loader->place_capacity, sizeof *loader->places);
    loader->places[count] = (struct place){mem_strdup(loader->file), line};
    struct subscriber_entry *entry = &settings->subscribers[count];
    *entry = (struct subscriber_entry){.options.name = mem_strdup(name)};
    entry->where = mem_printf("%s:%d", loader->file, line);
    char *host = host_name();
    entry->options.client_id = mem_printf("sensorlogd-%s-%s", host, name);
    free(host);
    section_init(find_section("subscriber", strlen("subscriber")), entry, settings->file);
    return entry;
}

static void *subscriber_base(struct loader *loader, const char *name, int line)
{
    struct settings *settings = loader->settings;
    const char *flaw = scalar_name_flaw(name);
    if (flaw) {
        problems_add(loader->problems, loader->file, line, "the name of a subscriber, '%s', %s",
                     name, flaw);
        return NULL;
    }
    if (strcmp(name, "broker") == 0 || strcmp(name, "spool") == 0) {
        problems_add(loader->problems, loader->file, line,
                     "'%s' is the name of another source; choose another name", name);
        return NULL;
    }
    for (size_t i = 0; i < settings->subscriber_count; i++) {
        if (strcmp(settings->subscribers[i].options.name, name) == 0)
            return &settings->subscribers[i];
    }
    return add_subscriber(loader, name, line);
}

static void unknown_section(struct loader *loader, const char *name, int line)
{
    const char *names[SECTION_COUNT + 1] = {NULL};
    for (size_t i = 0; i < SECTION_COUNT; i++)
        names[i] = sections[i].of_subscriber ? "subscriber NAME" : sections[i].name;
    const char *bare[] = {"subscriber", NULL};
    char *first = mem_strndup(name, strcspn(name, " \t"));
    if (problems_near(first, bare)) {
        loader->subscriber_meant = true;
        problems_add(loader->problems, loader->file, line,
                     "unknown section '%s'; did you mean 'subscriber NAME'?", name);
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
    const struct section *section = find_section(name, length);
    loader->section = NULL;
    loader->subscriber_meant |= section && section->of_subscriber;
    if (!section || (*rest && !section->of_subscriber)) {
        unknown_section(loader, name, line);
    } else if (section->absent) {
        problems_add(loader->problems, loader->file, line, "[%s]: %s", name, section->absent);
    } else if (section->of_subscriber && !*rest) {
        problems_add(loader->problems, loader->file, line,
                     "a subscriber needs a name; allowed: [subscriber NAME]");
    } else {
        loader->base = loader->settings;
        if (section->of_subscriber)
            loader->base = subscriber_base(loader, rest, line);
        loader->section = loader->base ? section : NULL;
    }
}

static void unknown_key(struct loader *loader, const char *name, int line)
{
    const struct section *section = loader->section;
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
    char *flaw = key_set(key, loader->base, value, loader->file);
    if (flaw)
        problems_add(loader->problems, loader->file, line, "%s: %s", name, flaw);
    else if (loader->section == find_section("mappings", strlen("mappings")))
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
    if (whole && !loader->subscriber_meant)
        problems_add(loader->problems, file, 0,
                     "has no section [subscriber NAME]; at least one is needed");
}

static bool same_session(const struct subscriber_options *a, const struct subscriber_options *b)
{
    return a->client_id && b->client_id && a->host && b->host &&
           strcasecmp(a->host, b->host) == 0 && a->port == b->port &&
           strcmp(a->client_id, b->client_id) == 0;
}

static void check_subscriber(struct loader *loader, size_t index)
{
    const struct settings *settings = loader->settings;
    const struct subscriber_entry *entry = &settings->subscribers[index];
    const struct subscriber_options *options = &entry->options;
    const struct place *place = &loader->places[index];
    struct problems *problems = loader->problems;
    if (!entry->uri)
        problems_add(problems, place->file, place->line, "[subscriber %s] has no uri",
                     options->name);
    if (options->password_file && !options->username) // [MQTT-3.1.2-22]
        problems_add(problems, place->file, place->line,
                     "[subscriber %s] has a password_file and no username", options->name);
    if (options->max_payload > settings->batch.memory)
        problems_add(problems, place->file, place->line,
                     "[subscriber %s]: max_payload is greater than memory of [batch]",
                     options->name);
    for (size_t i = 0; i < index; i++) {
        // A broker lets only the last one stay [MQTT-3.1.4-3].
        if (same_session(&settings->subscribers[i].options, options))
            problems_add(
                problems, place->file, place->line,
                "[subscriber %s] has the same broker and client_id as [subscriber %s] (%s)",
                options->name, settings->subscribers[i].options.name,
                settings->subscribers[i].where);
    }
}

void settings_load(struct settings *settings, const char *file, struct problems *problems)
{
    *settings = (struct settings){.file = mem_strdup(file)};
    struct loader loader = {.settings = settings, .problems = problems};
    settings->postgres.writer = host_name();
    settings->state.directory = default_state_directory();
    for (size_t i = 0; i < SECTION_COUNT; i++) {
        if (!sections[i].of_subscriber)
            section_init(&sections[i], settings, file);
    }
    read_files(&loader);
    for (size_t i = 0; i < settings->subscriber_count; i++) {
        settings->subscribers[i].options.state_directory = settings->state.directory;
        check_subscriber(&loader, i);
        free(loader.places[i].file);
    }
    free(loader.places);
}

static void subscriber_entry_fini(struct subscriber_entry *entry)
{
    for (size_t i = 0; i < entry->options.subscription_count; i++)
        free(entry->options.subscriptions[i].filter);
    free(entry->options.subscriptions);
    section_fini(find_section("subscriber", strlen("subscriber")), entry);
    free(entry->options.name);
    free(entry->options.host);
    free(entry->uri);
    free(entry->where);
}

void settings_fini(struct settings *settings)
{
    for (size_t i = 0; i < settings->subscriber_count; i++)
        subscriber_entry_fini(&settings->subscribers[i]);
    free(settings->subscribers);
    free(settings->mappings.file);
    for (size_t i = 0; i < SECTION_COUNT; i++) {
        if (!sections[i].of_subscriber)
            section_fini(&sections[i], settings);
    }
    free(settings->http.listen_host);
    free(settings->file);
    *settings = (struct settings){0};
}

static void print_section(const struct section *section, const void *base, FILE *out)
{
    for (size_t i = 0; i < section->key_count; i++)
        key_print(&section->keys[i], base, out);
}

void settings_print(const struct settings *settings, FILE *out)
{
    for (size_t i = 0; i < SECTION_COUNT; i++) {
        if (sections[i].absent || sections[i].of_subscriber)
            continue;
        fprintf(out, "[%s]\n", sections[i].name);
        print_section(&sections[i], settings, out);
        putc('\n', out);
    }
    for (size_t i = 0; i < settings->subscriber_count; i++) {
        fprintf(out, "[subscriber %s]\n", settings->subscribers[i].options.name);
        print_section(find_section("subscriber", strlen("subscriber")), &settings->subscribers[i],
                      out);
        putc('\n', out);
    }
}
