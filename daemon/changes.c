// What a reload has found changed and cannot change while the daemon runs.
#include "changes.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memtext.h"
#include "conf/sections.h"

// What a reload takes over, by section; all other keys need a restart.
static const struct {
    const char *section, *key;
} taken[] = {
    {"postgres", "schema"},
    {"mappings", "directory"},
    {"log", "level"},
    {"subscriber", "qos"},
    {"subscriber", "share"},
    {"subscriber", "ca_file"},
    {"subscriber", "certificate_file"},
    {"subscriber", "key_file"},
    {"subscriber", "crl_file"},
    {"subscriber", "verify"},
};

static bool is_taken(const struct section *section, const struct key *key)
{
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        if (strcmp(taken[i].section, section->name) == 0 && strcmp(taken[i].key, key->name) == 0)
            return true;
    return section == &section_broker && strcmp(key->name, "listen") != 0 &&
           strcmp(key->name, "state") != 0;
}

static const char *text_of(const struct key *key, const void *base)
{
    const char *text = *(char *const *)(const void *)((const char *)base + key->offset);
    return text ? text : "";
}

// What is printed of secrets is masked, so texts are compared as they are.
static bool same_value(const struct key *key, const void *a, const void *b)
{
    if (key->kind == KEY_TEXT || key->kind == KEY_PATH)
        return strcmp(text_of(key, a), text_of(key, b)) == 0;
    struct memtext texts[2];
    for (int i = 0; i < 2; i++) {
        memtext_open(&texts[i]);
        key_print(key, i == 0 ? a : b, texts[i].out);
    }
    char *first = memtext_close(&texts[0]), *second = memtext_close(&texts[1]);
    bool same = strcmp(first, second) == 0;
    free(first);
    free(second);
    return same;
}

static void compare(const struct section *section, const char *name, const void *a, const void *b)
{
    for (size_t i = 0; i < section->key_count; i++) {
        const struct key *key = &section->keys[i];
        if (!is_taken(section, key) && !same_value(key, a, b))
            log_warn("[%s%s%s] %s has changed: it takes effect when sensorlogd is restarted",
                     section->name, *name ? " " : "", name, key->name);
    }
}

static void say_section(const struct section *section, const char *name, bool is_new)
{
    log_warn("[%s%s%s] %s: that takes effect when sensorlogd is restarted", section->name,
             *name ? " " : "", name, is_new ? "is new" : "is gone");
}

static const struct subscriber_entry *subscriber_of(const struct settings *settings,
                                                    const char *name)
{
    for (size_t i = 0; i < settings->subscriber_count; i++)
        if (strcmp(settings->subscribers[i].options.name, name) == 0)
            return &settings->subscribers[i];
    return NULL;
}

static const struct forward_options *forward_of(const struct settings *settings, const char *name)
{
    for (size_t i = 0; i < settings->forward_count; i++)
        if (strcmp(settings->forwards[i].name, name) == 0)
            return &settings->forwards[i];
    return NULL;
}

static void compare_subscribers(const struct settings *running, const struct settings *next)
{
    for (size_t i = 0; i < running->subscriber_count; i++) {
        const char *name = running->subscribers[i].options.name;
        const struct subscriber_entry *entry = subscriber_of(next, name);
        if (entry)
            compare(&section_subscriber, name, &running->subscribers[i], entry);
        else
            say_section(&section_subscriber, name, false);
    }
    for (size_t i = 0; i < next->subscriber_count; i++)
        if (!subscriber_of(running, next->subscribers[i].options.name))
            say_section(&section_subscriber, next->subscribers[i].options.name, true);
}

static void compare_forwards(const struct settings *running, const struct settings *next)
{
    for (size_t i = 0; i < running->forward_count; i++) {
        const char *name = running->forwards[i].name;
        const struct forward_options *options = forward_of(next, name);
        if (options)
            compare(&section_forward, name, &running->forwards[i], options);
        else
            say_section(&section_forward, name, false);
    }
    for (size_t i = 0; i < next->forward_count; i++)
        if (!forward_of(running, next->forwards[i].name))
            say_section(&section_forward, next->forwards[i].name, true);
}

void changes_log(const struct settings *running, const struct settings *next)
{
    for (size_t i = 0; sections[i]; i++) {
        bool present = sections[i] != &section_broker || (running->has_broker && next->has_broker);
        if (!sections[i]->named && present)
            compare(sections[i], "", running, next);
    }
    if (running->has_broker != next->has_broker)
        say_section(&section_broker, "", next->has_broker);
    compare_subscribers(running, next);
    compare_forwards(running, next);
}
