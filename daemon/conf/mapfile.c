// Reads the mapping files, checks the mappings against each other, and makes subscriptions of them.
#include "conf/mapfile.h"

#include <errno.h>
#include <libconfig.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "conf/mapread.h"
#include "conf/mapscan.h"
#include "conf/textfile.h"
#include "core/topic.h"

struct place {
    char *file;
    int line;
};

struct loader {
    struct mapread read;
    struct mappings *mappings;
    struct place *places; // of the mappings
    size_t capacity, place_capacity;
};

static void take_mapping(struct loader *loader, const config_setting_t *group)
{
    struct mappings *mappings = loader->mappings;
    size_t index = mappings->count++;
    mappings->items = mem_grow(mappings->items, index, &loader->capacity, sizeof *mappings->items);
    loader->places =
        mem_grow(loader->places, index, &loader->place_capacity, sizeof *loader->places);
    mapread_mapping(&loader->read, group, &mappings->items[index]);
    loader->places[index] =
        (struct place){mem_strdup(loader->read.file.path), (int)config_setting_source_line(group)};
}

static void take_root(struct loader *loader, const config_setting_t *root)
{
    static const char *const root_keys[] = {"mappings", NULL};
    const struct node_file *file = &loader->read.file;
    node_allow(file, root, root_keys);
    if (!config_setting_get_member(root, "mappings"))
        problems_add(file->problems, file->path, 0, "has no mappings = ( { ... } );");
    const config_setting_t *list = node_groups(file, root, "mappings");
    int count = list ? config_setting_length(list) : 0;
    for (int i = 0; i < count; i++) {
        const config_setting_t *group = node_group_at(file, list, i);
        if (group)
            take_mapping(loader, group);
    }
}

// The first key in the line, where it is the only one; the caller frees it. NULL where it is not.
static char *only_key(const char *text, int line)
{
    for (; line > 1 && strchr(text, '\n'); line--)
        text = strchr(text, '\n') + 1;
    text += strspn(text, " \t{");
    size_t length = strcspn(text, " \t=:\n\""), rest = length + strspn(text + length, " \t");
    if (length == 0 || !text[rest] || !strchr("=:", text[rest]))
        return NULL;
    const char *other = strpbrk(text + rest + 1, "=:\n");
    return other && *other != '\n' ? NULL : mem_strndup(text, length);
}

static void repetition_problem(struct problems *problems, const char *path, const char *content,
                               int line)
{
    char *key = only_key(content, line);
    problems_add(problems, path, line, "%s%s%s is set twice in one group; remove one of them",
                 key ? "'" : "", key ? key : "a key", key ? "'" : "");
    free(key);
}

// libconfig names the line of the token that it did not expect, and not what it had expected.
static void syntax_problem(struct problems *problems, const char *path, const char *content,
                           const config_t *config)
{
    const char *text = config_error_text(config);
    if (strcmp(text, "duplicate setting name") == 0) {
        repetition_problem(problems, path, content, config_error_line(config));
        return;
    }
    bool syntax = strcmp(text, "syntax error") == 0;
    problems_add(problems, path, config_error_line(config), "%s%s", text,
                 syntax ? "; look at the line before as well: a setting ends with ; and a comma "
                          "stands between groups, } , {"
                        : "");
}

static void read_file(struct loader *loader, const char *path)
{
    struct problems *problems = loader->read.file.problems;
    char *text = textfile_read(path, problems);
    if (!text)
        return;
    loader->read.file.path = path;
    config_t config;
    config_init(&config);
    if (!mapscan_check(&loader->read.file, text))
        ; // said already
    else if (config_read_string(&config, text))
        take_root(loader, config_root_setting(&config));
    else
        syntax_problem(problems, path, text, &config);
    config_destroy(&config);
    free(text);
}

__attribute__((format(printf, 3, 4))) static void flaw(const struct loader *loader, size_t index,
                                                       const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = mem_vprintf(format, args);
    va_end(args);
    const struct place *place = &loader->places[index];
    problems_add(loader->read.file.problems, place->file, place->line, "mapping '%s' %s",
                 loader->mappings->items[index].name, text);
    free(text);
}

static const struct target_column *find_column(const struct target *target, const char *name)
{
    for (size_t i = 0; i < target->column_count; i++) {
        if (strcmp(target->columns[i].name, name) == 0)
            return &target->columns[i];
    }
    return NULL;
}

// One table has one definition: what mapping index says of it must agree with what other says.
static void check_columns(const struct loader *loader, size_t index, const struct mapping *other)
{
    const struct target *target = &loader->mappings->items[index].target;
    const struct target *first = &other->target;
    for (size_t i = 0; i < target->column_count; i++) {
        const struct target_column *column = &target->columns[i];
        const struct target_column *twin = find_column(first, column->name);
        if (!*column->name)
            continue;
        if (!twin && column->required)
            flaw(loader, index, "requires column '%s' of table '%s', which '%s' (%s) does not fill",
                 column->name, target->table, other->name, other->where);
        else if (twin && twin->type != column->type)
            flaw(loader, index, "has column '%s' of table '%s' as %s, while '%s' (%s) has it as %s",
                 column->name, target->table, column_type_name(column->type), other->name,
                 other->where, column_type_name(twin->type));
        else if (twin && twin->required != column->required)
            flaw(loader, index, "%s column '%s' of table '%s', while '%s' (%s) does%s",
                 column->required ? "requires" : "does not require", column->name, target->table,
                 other->name, other->where, column->required ? " not" : "");
    }
}

static bool same_key(const struct target *a, const struct target *b)
{
    bool same = a->key_count == b->key_count;
    for (size_t i = 0; i < a->column_count && same; i++) {
        const struct target_column *twin = find_column(b, a->columns[i].name);
        same = !a->columns[i].key || (twin && twin->key);
    }
    return same;
}

static void check_table(const struct loader *loader, size_t index, size_t before)
{
    const struct mapping *mapping = &loader->mappings->items[index];
    const struct mapping *other = &loader->mappings->items[before];
    const struct target *target = &mapping->target, *first = &other->target;
    check_columns(loader, index, other);
    for (size_t i = 0; i < first->column_count; i++) {
        const struct target_column *column = &first->columns[i];
        if (*column->name && column->required && !find_column(target, column->name))
            flaw(loader, index, "does not fill column '%s' of table '%s', which '%s' (%s) requires",
                 column->name, target->table, other->name, other->where);
    }
    if (target->partition != first->partition)
        flaw(loader, index, "partitions table '%s' otherwise than '%s' (%s)", target->table,
             other->name, other->where);
    if (!same_key(target, first))
        flaw(loader, index, "has another key for table '%s' than '%s' (%s)", target->table,
             other->name, other->where);
}

// Compares each mapping with those before it; a table is compared with its first mapping alone.
static void check_mappings(const struct loader *loader)
{
    struct mapping *items = loader->mappings->items;
    for (size_t i = 0; i < loader->mappings->count; i++) {
        bool table_done = !*items[i].target.table;
        items[i].subscription_id = (uint32_t)i + 1;
        for (size_t j = 0; j < i; j++) {
            if (*items[i].name && strcmp(items[i].name, items[j].name) == 0)
                flaw(loader, i, "has the name of another one (%s)", items[j].where);
            if (!table_done && strcmp(items[i].target.table, items[j].target.table) == 0) {
                check_table(loader, i, j);
                table_done = true;
            }
            if (strcmp(items[i].filter, items[j].filter) == 0 &&
                items[j].subscription_id < items[i].subscription_id)
                items[i].subscription_id = items[j].subscription_id;
        }
    }
}

static struct loader loader_start(struct mappings *mappings, const char *schema,
                                  const struct settings *settings, struct problems *problems)
{
    *mappings = (struct mappings){0};
    return (struct loader){
        .read = {.file.problems = problems, .settings = settings, .schema = schema},
        .mappings = mappings,
    };
}

static void loader_finish(struct loader *loader)
{
    check_mappings(loader);
    for (size_t i = 0; i < loader->mappings->count; i++)
        free(loader->places[i].file);
    free(loader->places);
}

void mapfile_load(struct mappings *mappings, const char *directory, const char *schema,
                  const struct settings *settings, struct problems *problems)
{
    struct loader loader = loader_start(mappings, schema, settings, problems);
    struct textfile_list list = {0};
    if (!textfile_list(&list, directory, ".cfg"))
        problems_add(problems, settings->mappings.file ? settings->mappings.file : directory,
                     settings->mappings.line,
                     "the directory of the mappings, %s, cannot be read: %s", directory,
                     strerror(errno));
    else if (list.count == 0)
        problems_add(problems, directory, 0, "has no mapping file, *.cfg; at least one is needed");
    for (size_t i = 0; i < list.count; i++)
        read_file(&loader, list.paths[i]);
    textfile_list_fini(&list);
    loader_finish(&loader);
}

void mapfile_load_file(struct mappings *mappings, const char *file, const char *schema,
                       const struct settings *settings, struct problems *problems)
{
    struct loader loader = loader_start(mappings, schema, settings, problems);
    read_file(&loader, file);
    loader_finish(&loader);
}

void mapfile_fini(struct mappings *mappings)
{
    for (size_t i = 0; i < mappings->count; i++)
        mapping_fini(&mappings->items[i]);
    free(mappings->items);
    *mappings = (struct mappings){0};
}

static struct subscription *find_subscription(struct subscriber_options *options, uint32_t id)
{
    for (size_t i = 0; i < options->subscription_count; i++) {
        if (options->subscriptions[i].id == id)
            return &options->subscriptions[i];
    }
    return NULL;
}

static void bind_mapping(struct subscriber_entry *entry, const struct mapping *mapping)
{
    struct subscriber_options *options = &entry->options;
    uint8_t qos = mapping->qos < 0 ? entry->qos : (uint8_t)mapping->qos;
    struct subscription *subscription = find_subscription(options, mapping->subscription_id);
    if (!subscription) {
        size_t count = options->subscription_count++;
        options->subscriptions =
            mem_realloc(options->subscriptions, count + 1, sizeof *options->subscriptions);
        subscription = &options->subscriptions[count];
        *subscription = (struct subscription){.id = mapping->subscription_id};
        bool prefix = entry->share && !topic_filter_is_shared(mapping->filter, NULL);
        subscription->filter = prefix ? mem_printf("$share/%s/%s", entry->share, mapping->filter)
                                      : mem_strdup(mapping->filter);
    }
    subscription->qos = qos > subscription->qos ? qos : subscription->qos;
    subscription->retained |= mapping->retained;
}

void mapfile_bind(const struct mappings *mappings, struct settings *settings)
{
    for (size_t i = 0; i < settings->subscriber_count; i++) {
        struct subscriber_entry *entry = &settings->subscribers[i];
        for (size_t j = 0; j < mappings->count; j++) {
            if (mapread_takes_from(&mappings->items[j], entry->options.name))
                bind_mapping(entry, &mappings->items[j]);
        }
    }
}
