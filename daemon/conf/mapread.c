// From a group of a mapping file to a struct mapping.
#include "conf/mapread.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "conf/mapcolumn.h"
#include "conf/mapkey.h"
#include "conf/scalar.h"
#include "core/topic.h"

static const char *const mapping_keys[] = {
    "name",  "filter", "decoder",     "source",    "qos",     "retained", "time",
    "table", "key",    "on_conflict", "partition", "columns", NULL,
};
static const char *const decoder_names[] = {"text", "json", NULL}; // as enum decoder_kind
static const char *const partition_names[] = {"day", "week", "month", "year", NULL};

bool mapread_takes_from(const struct mapping *mapping, const char *source)
{
    for (size_t i = 0; i < mapping->source_count; i++) {
        if (strcmp(mapping->sources[i], source) == 0)
            return true;
    }
    return !mapping->sources;
}

// A required text for which flaw, if not NULL, finds nothing wrong; "" after a problem.
static char *read_checked(const struct mapread *read, const config_setting_t *group,
                          const char *name, const char *(*flaw)(const char *text))
{
    const char *text = node_text_required(&read->file, group, name);
    const char *wrong = text ? flaw(text) : NULL;
    if (wrong)
        node_problem(&read->file, config_setting_get_member(group, name), "%s '%s' %s", name, text,
                     wrong);
    return mem_strdup(text && !wrong ? text : "");
}

static const char *filter_flaw(const char *text)
{
    for (const char *at = text; *at; at++) {
        if (iscntrl((unsigned char)*at)) // brokers close the connection [MQTT-1.5.4-3]
            return "contains a control character";
    }
    if (topic_filter_valid(text, strlen(text)))
        return NULL;
    return "is no topic filter; allowed: levels between /, + for any one level, # at the end for "
           "all that follow, $share/NAME/ in front";
}

struct source_reader {
    const struct mapread *read;
    const config_setting_t *node;
    struct mapping *mapping;
    size_t capacity;
};

static void take_source(void *arg, const char *name)
{
    struct source_reader *source = arg;
    const struct settings *settings = source->read->settings;
    struct mapping *mapping = source->mapping;
    const struct node_file *file = &source->read->file;
    const char **names = mem_zalloc((settings->subscriber_count + 2) * sizeof *names);
    bool known = settings->has_broker && strcmp(settings->broker.name, name) == 0;
    for (size_t i = 0; i < settings->subscriber_count; i++) {
        names[i] = settings->subscribers[i].options.name;
        known = known || strcmp(names[i], name) == 0;
    }
    if (settings->has_broker)
        names[settings->subscriber_count] = settings->broker.name;
    if (!known)
        problems_add_unknown(file->problems, file->path,
                             (int)config_setting_source_line(source->node), "source", name, names);
    else if (mapping->sources && mapread_takes_from(mapping, name))
        node_problem(file, source->node, "source '%s' is given twice", name);
    free(names);
    mapping->sources = mem_grow(mapping->sources, mapping->source_count, &source->capacity,
                                sizeof *mapping->sources);
    mapping->sources[mapping->source_count++] = mem_strdup(name);
}

// Messages that are shared out come by the share's name alone, and without retained copies
// [MQTT-4.8.2].
static void check_share(const struct mapread *read, const config_setting_t *group,
                        const struct mapping *mapping)
{
    const char *inner;
    const config_setting_t *filter = config_setting_get_member(group, "filter");
    const config_setting_t *retained = config_setting_get_member(group, "retained");
    bool shared = topic_filter_is_shared(mapping->filter, &inner), prefixed = false;
    for (size_t i = 0; i < read->settings->subscriber_count; i++) {
        const struct subscriber_entry *entry = &read->settings->subscribers[i];
        if (!entry->share || !mapread_takes_from(mapping, entry->options.name))
            continue;
        prefixed = true;
        size_t length = strlen(entry->share);
        const char *name = mapping->filter + strlen("$share/");
        if (shared && strncmp(name, entry->share, length) == 0 && name[length] == '/')
            node_problem(
                &read->file, filter,
                "filter '%s' has the share of [subscriber %s], which is added anyway; write '%s'",
                mapping->filter, entry->options.name, inner);
    }
    if (mapping->retained && (shared || prefixed))
        node_problem(&read->file, retained, "retained copies are not sent to shared subscriptions");
}

static void read_subscription(const struct mapread *read, const config_setting_t *group,
                              struct mapping *mapping)
{
    struct source_reader source = {read, config_setting_get_member(group, "source"), mapping, 0};
    long long qos = -1;
    mapping->filter = read_checked(read, group, "filter", filter_flaw);
    node_texts(&read->file, group, "source", take_source, &source);
    node_integer(&read->file, group, "qos", 0, 2, &qos);
    mapping->qos = (int8_t)qos;
    node_bool(&read->file, group, "retained", &mapping->retained);
    check_share(read, group, mapping);
}

static bool read_decoder(const struct mapread *read, const config_setting_t *group,
                         struct mapping *mapping)
{
    int index;
    if (!node_text_required(&read->file, group, "decoder") ||
        !node_word(&read->file, group, "decoder", decoder_names, &index))
        return false;
    mapping->decoder = (enum decoder_kind)index;
    return true;
}

static void read_target(const struct mapread *read, const config_setting_t *group,
                        struct mapping *mapping)
{
    int partition = PARTITION_MONTH;
    node_word(&read->file, group, "partition", partition_names, &partition);
    mapping->target.partition = (enum partition_by)partition;
    mapping->target.mapping = mem_strdup(mapping->name);
    mapping->target.schema = mem_strdup(read->schema);
    mapping->target.table = read_checked(read, group, "table", scalar_identifier_flaw);
}

static void read_columns(const struct mapread *read, const config_setting_t *group,
                         const struct mapcolumn_reader *reader)
{
    const config_setting_t *list = node_groups(&read->file, group, "columns");
    if (!config_setting_get_member(group, "columns"))
        node_problem(&read->file, group, "columns is missing");
    int count = list ? config_setting_length(list) : 0;
    if (count >= TARGET_COLUMNS_MAX) {
        node_problem(&read->file, list, "columns has %d columns; allowed: 1 to %d", count,
                     TARGET_COLUMNS_MAX - 1);
        count = TARGET_COLUMNS_MAX - 1;
    }
    for (int i = 0; i < count; i++) {
        const config_setting_t *column = node_group_at(&read->file, list, i);
        if (column)
            mapcolumn_read(reader, column);
    }
}

void mapread_mapping(const struct mapread *read, const config_setting_t *group,
                     struct mapping *mapping)
{
    *mapping = (struct mapping){
        .where = mem_printf("%s:%u", read->file.path, config_setting_source_line(group)),
        .fields = mem_zalloc(TARGET_COLUMNS_MAX * sizeof *mapping->fields),
        .target.columns = mem_zalloc(TARGET_COLUMNS_MAX * sizeof *mapping->target.columns),
    };
    node_allow(&read->file, group, mapping_keys);
    mapping->name = read_checked(read, group, "name", scalar_name_flaw);
    read_subscription(read, group, mapping);
    struct mapcolumn_reader reader = {.file = &read->file, .mapping = mapping};
    reader.decoder_known = read_decoder(read, group, mapping);
    reader.filter = *mapping->filter ? mapping->filter : NULL;
    if (reader.filter)
        topic_filter_is_shared(mapping->filter, &reader.filter);
    read_target(read, group, mapping);
    mapcolumn_read_time(&reader, group);
    read_columns(read, group, &reader);
    mapkey_read(&read->file, group, mapping);
    size_t count = mapping->target.column_count;
    mapping->fields = mem_realloc(mapping->fields, count, sizeof *mapping->fields);
    mapping->target.columns =
        mem_realloc(mapping->target.columns, count, sizeof *mapping->target.columns);
}
