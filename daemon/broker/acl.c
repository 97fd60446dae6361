// Decides by the rules of an ACL file.
#include "broker/acl.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "broker/acl_internal.h"
#include "core/topic.h"

enum { EXPANDED_MAX = 512 };

// Who asks.
struct asker {
    const char *username, *id;   // NULL: anonymous
    const struct acl_rules *own; // NULL: none
    bool dangerous;              // its names would be wildcards in a pattern
};

// The filter that a pattern is for one client.
struct expanded {
    char small[EXPANDED_MAX];
    char *large; // where that is too small
};

static int compare_names(const void *a, const void *b)
{
    const struct acl_user *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static const struct acl_user *find_user(const struct acl *acl, const char *name)
{
    const struct acl_user key = {.name = (char *)name};
    if (acl->user_count == 0)
        return NULL;
    return bsearch(&key, acl->users, acl->user_count, sizeof key, compare_names);
}

// ---- decisions ----

static struct asker asker_of(const struct acl *acl, const char *username, const char *id)
{
    struct asker asker = {.username = username, .id = id, .own = &acl->anonymous};
    if (username) {
        const struct acl_user *user = find_user(acl, username);
        asker.own = user ? &user->rules : NULL;
    }
    if (acl->patterns.count > 0)
        asker.dangerous = strpbrk(id, "+#") || (username && strpbrk(username, "+#"));
    return asker;
}

// Whether the pattern means anything for the one who asks. A name must not become a wildcard, nor
// bring it to the topics of $SYS.
static bool applies(const struct acl_rule *rule, const struct asker *asker)
{
    if (!rule->has_user && !rule->has_id)
        return true;
    if (asker->dangerous || (rule->has_user && !asker->username))
        return false;
    const char *filter = rule->filter;
    if (strncmp(filter, "%u", 2) == 0)
        return *asker->username != '$';
    return strncmp(filter, "%c", 2) != 0 || *asker->id != '$';
}

// %u or %c at this place, or NULL.
static const char *name_at(const struct asker *asker, const char *at)
{
    if (at[0] != '%')
        return NULL;
    return at[1] == 'u' ? asker->username : at[1] == 'c' ? asker->id : NULL;
}

static size_t expanded_length(const struct acl_rule *rule, const struct asker *asker)
{
    size_t length = 0;
    for (const char *at = rule->filter; *at; at++) {
        const char *name = name_at(asker, at);
        length += name ? strlen(name) : 1;
        at += name ? 1 : 0;
    }
    return length;
}

// The rule's filter for the one who asks, valid as long as *expanded; expanded_fini is due.
static const char *expand(const struct acl_rule *rule, const struct asker *asker,
                          struct expanded *expanded)
{
    expanded->large = NULL;
    if (!rule->has_user && !rule->has_id)
        return rule->filter;
    size_t length = expanded_length(rule, asker);
    if (length >= sizeof expanded->small)
        expanded->large = mem_alloc(length + 1);
    char *out = expanded->large ? expanded->large : expanded->small, *start = out;
    for (const char *at = rule->filter; *at; at++) {
        const char *name = name_at(asker, at);
        if (name) {
            out = stpcpy(out, name);
            at++;
        } else {
            *out++ = *at;
        }
    }
    *out = '\0';
    return start;
}

static void expanded_fini(struct expanded *expanded)
{
    free(expanded->large);
}

static bool matches(const struct acl_rule *rule, const struct asker *asker, const char *topic,
                    size_t length)
{
    if (length < rule->literal || memcmp(topic, rule->filter, rule->literal) != 0)
        return false;
    if (rule->shape == SHAPE_EXACT)
        return length == rule->literal;
    if (rule->shape == SHAPE_SUBTREE)
        return length == rule->literal || topic[rule->literal] == '/';
    if (!applies(rule, asker))
        return false;
    struct expanded expanded;
    bool result = topic_filter_matches(expand(rule, asker, &expanded), topic, length);
    expanded_fini(&expanded);
    return result;
}

static bool denies(const struct acl_rules *rules, const struct asker *asker, const char *topic,
                   size_t length)
{
    for (size_t i = 0; rules && i < rules->deny_count; i++) {
        if (matches(&rules->items[i], asker, topic, length))
            return true;
    }
    return false;
}

static bool grants(const struct acl_rules *rules, const struct asker *asker, enum acl_access access,
                   const char *topic, size_t length)
{
    for (size_t i = rules ? rules->deny_count : 0; rules && i < rules->count; i++) {
        const struct acl_rule *rule = &rules->items[i];
        if ((rule->access & access) && matches(rule, asker, topic, length))
            return true;
    }
    return false;
}

bool acl_allows(const struct acl *acl, const char *username, const char *client_id,
                enum acl_access access, const char *topic, size_t length)
{
    if (!acl)
        return true;
    const struct asker asker = asker_of(acl, username, client_id);
    if (denies(asker.own, &asker, topic, length) || denies(&acl->patterns, &asker, topic, length))
        return false;
    return grants(asker.own, &asker, access, topic, length) ||
           (!asker.dangerous && grants(&acl->patterns, &asker, access, topic, length));
}

// ---- subscriptions ----

// Whether all that the filter matches is denied.
static bool denies_all(const struct acl_rules *rules, const struct asker *asker, const char *filter)
{
    bool result = false;
    for (size_t i = 0; rules && i < rules->deny_count && !result; i++) {
        struct expanded expanded;
        if (!applies(&rules->items[i], asker))
            continue;
        result = topic_filter_covers(expand(&rules->items[i], asker, &expanded), filter);
        expanded_fini(&expanded);
    }
    return result;
}

// Whether some of what the filter matches may be read by a rule that is not denied as a whole.
static bool grants_some(const struct acl *acl, const struct acl_rules *rules,
                        const struct asker *asker, const char *filter)
{
    bool result = false;
    for (size_t i = rules ? rules->deny_count : 0; rules && i < rules->count && !result; i++) {
        const struct acl_rule *rule = &rules->items[i];
        struct expanded expanded;
        if (!(rule->access & ACL_READ) || !applies(rule, asker))
            continue;
        const char *allowed = expand(rule, asker, &expanded);
        result = topic_filter_overlaps(allowed, filter) &&
                 !denies_all(asker->own, asker, allowed) &&
                 !denies_all(&acl->patterns, asker, allowed);
        expanded_fini(&expanded);
    }
    return result;
}

bool acl_may_subscribe(const struct acl *acl, const char *username, const char *client_id,
                       const char *filter)
{
    if (!acl)
        return true;
    const struct asker asker = asker_of(acl, username, client_id);
    if (denies_all(asker.own, &asker, filter) || denies_all(&acl->patterns, &asker, filter))
        return false;
    return grants_some(acl, asker.own, &asker, filter) ||
           (!asker.dangerous && grants_some(acl, &acl->patterns, &asker, filter));
}
