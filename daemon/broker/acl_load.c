// Reads ACL files.
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "broker/acl_internal.h"
#include "broker/linefile.h"
#include "core/topic.h"

// ---- rules ----

// What a topic has to begin with, which is quicker to see than a match. "a/#" matches "a" too.
static uint16_t literal_length(const char *filter, bool pattern)
{
    size_t length = strcspn(filter, pattern ? "+#%" : "+#");
    if (filter[length] == '#' && length > 0)
        length--;
    return length > UINT16_MAX ? UINT16_MAX : (uint16_t)length;
}

static enum acl_shape shape_of(const char *filter, size_t literal)
{
    const char *rest = filter + literal;
    if (*rest == '\0')
        return SHAPE_EXACT;
    return literal > 0 && strcmp(rest, "/#") == 0 ? SHAPE_SUBTREE : SHAPE_ANY;
}

static void add_rule(struct acl_rules *rules, const struct acl_rule *rule)
{
    rules->items = mem_grow(rules->items, rules->count, &rules->capacity, sizeof *rules->items);
    size_t at = rule->access == ACL_DENY ? rules->deny_count++ : rules->count;
    memmove(rules->items + at + 1, rules->items + at, (rules->count - at) * sizeof *rules->items);
    rules->items[at] = *rule;
    rules->count++;
}

static void free_rules(struct acl_rules *rules)
{
    for (size_t i = 0; i < rules->count; i++)
        free(rules->items[i].filter);
    free(rules->items);
}

// ---- the file ----

// The rules of the user, who may have been named before. The pointer is valid until the next call.
static struct acl_rules *rules_of(struct acl *acl, const char *name)
{
    size_t low = 0, high = acl->user_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(acl->users[middle].name, name);
        if (order == 0)
            return &acl->users[middle].rules;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    acl->users = mem_grow(acl->users, acl->user_count, &acl->user_capacity, sizeof *acl->users);
    memmove(acl->users + low + 1, acl->users + low, (acl->user_count - low) * sizeof *acl->users);
    acl->users[low] = (struct acl_user){.name = mem_strdup(name)};
    acl->user_count++;
    return &acl->users[low].rules;
}

// The next word of the line, which ends at a blank; *rest is what follows, without blanks before
// it.
static char *take_word(char **rest)
{
    char *word = *rest + strspn(*rest, " ");
    size_t length = strcspn(word, " ");
    *rest = word + length + strspn(word + length, " ");
    word[length] = '\0';
    return word;
}

static bool access_parse(const char *word, uint8_t *access)
{
    static const struct {
        const char *word;
        uint8_t access;
    } words[] = {
        {"read", ACL_READ},
        {"write", ACL_WRITE},
        {"readwrite", ACL_READ | ACL_WRITE},
        {"deny", ACL_DENY},
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(words[i].word, word) == 0)
            return *access = words[i].access, true;
    }
    return false;
}

static char *filter_flaw(const struct linefile *file, const char *filter)
{
    if (topic_filter_is_shared(filter, NULL))
        return linefile_flaw(file, "'%s' names a shared subscription; write the filter behind it",
                             filter);
    if (!topic_filter_valid(filter, strlen(filter)))
        return linefile_flaw(file,
                             "'%s' is no topic filter; allowed: levels between /, + for any "
                             "one level, # at the end for all that follow",
                             filter);
    return NULL;
}

// "[read|write|readwrite|deny] TOPIC"; a single word is a topic, whatever it says.
static bool take_rule(const struct linefile *file, struct acl_rules *rules, bool pattern,
                      char *rest, char **error)
{
    char *filter = take_word(&rest);
    struct acl_rule rule = {.access = ACL_READ | ACL_WRITE};
    if (*rest) {
        if (!access_parse(filter, &rule.access)) {
            *error = linefile_flaw(file, "'%s' is no access; allowed: read, write, readwrite, deny",
                                   filter);
            return false;
        }
        filter = rest;
    }
    if (!*filter)
        *error = linefile_flaw(file, "has no topic; allowed: [read|write|readwrite|deny] TOPIC");
    else
        *error = filter_flaw(file, filter);
    if (*error)
        return false;
    rule.filter = mem_strdup(filter);
    rule.has_user = pattern && strstr(filter, "%u");
    rule.has_id = pattern && strstr(filter, "%c");
    rule.literal = literal_length(filter, pattern);
    rule.shape = (uint8_t)shape_of(filter, rule.literal);
    add_rule(rules, &rule);
    return true;
}

// The name of the user whose rules follow; NULL: still anonymous.
static bool take_line(struct acl *acl, const struct linefile *file, char *line, char **user,
                      char **error)
{
    char *rest = line;
    const char *word = take_word(&rest);
    if (strcmp(word, "topic") == 0)
        return take_rule(file, *user ? rules_of(acl, *user) : &acl->anonymous, false, rest, error);
    if (strcmp(word, "pattern") == 0)
        return take_rule(file, &acl->patterns, true, rest, error);
    if (strcmp(word, "user") != 0)
        *error = linefile_flaw(file, "unknown word '%s'; allowed: user, topic, pattern, #", word);
    else if (!*rest)
        *error = linefile_flaw(file, "has no name; allowed: user NAME");
    if (*error)
        return false;
    free(*user);
    *user = mem_strdup(rest);
    return true;
}

struct acl *acl_load(const char *path, char **error)
{
    struct linefile file;
    if (!linefile_open(&file, path, error))
        return NULL;
    struct acl *acl = mem_zalloc(sizeof *acl);
    char *user = NULL;
    bool good = true;
    for (char *line; good && (line = linefile_next(&file, error));)
        good = *line == '\0' || *line == '#' || take_line(acl, &file, line, &user, error);
    free(user);
    linefile_close(&file);
    if (*error) {
        acl_free(acl);
        return NULL;
    }
    return acl;
}

void acl_free(struct acl *acl)
{
    if (!acl)
        return;
    for (size_t i = 0; i < acl->user_count; i++) {
        free(acl->users[i].name);
        free_rules(&acl->users[i].rules);
    }
    free(acl->users);
    free_rules(&acl->anonymous);
    free_rules(&acl->patterns);
    free(acl);
}
