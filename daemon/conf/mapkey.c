// The key of a mapping: which columns make a redelivered reading the same as the first.
#include "conf/mapkey.h"

#include <string.h>

struct key_reader {
    const struct node_file *file;
    struct mapping *mapping;
    const config_setting_t *node;
};

// A redelivery must have the same key: nothing in it may depend on how or when the message came.
static const char *key_flaw(const struct target_column *column, const struct field *field)
{
    if (field->fallback)
        return "has a default; a column of a key comes from topic or payload";
    switch (field->from) {
    case FROM_RECEIVED_AT:
        return "is the time of arrival, which a redelivery does not share";
    case FROM_QOS:
    case FROM_DUP:
    case FROM_RETAIN:
        return "says how the message came, which a redelivery does not share";
    case FROM_CLIENT_ID:
        return "is not always known; allowed: what comes from topic or payload";
    case FROM_CONSTANT:
    case FROM_TOPIC:
    case FROM_TOPIC_LEVEL:
        return NULL;
    default:
        return column->required ? NULL : "may be missing; a column of a key has required = true";
    }
}

static void mark_key_column(const struct key_reader *key, size_t index)
{
    struct target *target = &key->mapping->target;
    struct target_column *column = &target->columns[index];
    struct field *field = &key->mapping->fields[index];
    const char *flaw = key_flaw(column, field);
    if (index == 0 && flaw)
        flaw = "is the time of arrival, which a redelivery does not share; the mapping needs "
               "time = { from = ...; format = ...; }";
    if (column->key)
        flaw = "is given twice";
    if (flaw) {
        node_problem(key->file, key->node, "key column '%s' %s", column->name, flaw);
        return;
    }
    column->key = column->required = field->required = true;
    target->key_count++;
}

static void take_key_column(void *arg, const char *name)
{
    const struct key_reader *key = arg;
    const struct node_file *file = key->file;
    const struct target *target = &key->mapping->target;
    const char *names[TARGET_COLUMNS_MAX + 1] = {NULL};
    for (size_t i = 0; i < target->column_count; i++) {
        names[i] = target->columns[i].name;
        if (strcmp(names[i], name) == 0) {
            mark_key_column(key, i);
            return;
        }
    }
    problems_add_unknown(file->problems, file->path, (int)config_setting_source_line(key->node),
                         "key column", name, names);
}

// What a redelivery shares with the first: where it differs, it is another reading.
static bool is_compared(const struct field *field)
{
    switch (field->from) {
    case FROM_TOPIC:
    case FROM_TOPIC_LEVEL:
    case FROM_VALUE:
    case FROM_UNIT:
    case FROM_POINTER:
    case FROM_PAYLOAD:
        return true;
    default:
        return false;
    }
}

static void read_on_conflict(const struct node_file *file, const config_setting_t *group,
                             struct mapping *mapping)
{
    static const char *const words[] = {"reject", "update", "ignore", NULL}; // enum on_conflict
    const config_setting_t *node = config_setting_get_member(group, "on_conflict");
    struct target *target = &mapping->target;
    int word = CONFLICT_REJECT;
    if (node && node_word(file, group, "on_conflict", words, &word) &&
        !config_setting_get_member(group, "key"))
        node_problem(file, node,
                     "on_conflict says what becomes of a second row with the same key, and the "
                     "mapping has no key");
    target->on_conflict = (enum on_conflict)word;
    for (size_t i = 0; i < target->column_count; i++)
        target->columns[i].compared = !target->columns[i].key && is_compared(&mapping->fields[i]);
}

static void read_key(const struct node_file *file, const config_setting_t *group,
                     struct mapping *mapping)
{
    struct key_reader key = {file, mapping, config_setting_get_member(group, "key")};
    if (!key.node)
        return;
    size_t problems = file->problems->count;
    if (config_setting_type(key.node) == CONFIG_TYPE_STRING) {
        node_problem(file, key.node, "key is a text; allowed: a list, [\"...\", \"time\"]");
        return;
    }
    node_texts(file, group, "key", take_key_column, &key);
    if (!mapping->target.columns[0].key && file->problems->count == problems)
        node_problem(file, key.node,
                     "key does not contain \"time\", by which the table is partitioned");
}

void mapkey_read(const struct node_file *file, const config_setting_t *group,
                 struct mapping *mapping)
{
    read_key(file, group, mapping);
    read_on_conflict(file, group, mapping);
}
