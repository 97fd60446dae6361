// Which filters the subscriber asks the broker for, so that each message comes once.
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "core/cover.h"
#include "core/topic.h"
#include "mqtt/subscriber_internal.h"

struct filter *filters_add(struct filters *filters, const char *text)
{
    filters->items =
        mem_grow(filters->items, filters->count, &filters->capacity, sizeof *filters->items);
    struct filter *filter = &filters->items[filters->count++];
    *filter = (struct filter){.text = mem_strdup(text)};
    return filter;
}

struct filter *filters_find(const struct filters *filters, const char *text)
{
    for (size_t i = 0; i < filters->count; i++)
        if (strcmp(filters->items[i].text, text) == 0)
            return &filters->items[i];
    return NULL;
}

void filters_remove(struct filters *filters, struct filter *filter)
{
    size_t index = (size_t)(filter - filters->items);
    free(filter->text);
    filters->count--;
    memmove(filter, filter + 1, (filters->count - index) * sizeof *filter);
}

void filters_clear(struct filters *filters)
{
    for (size_t i = 0; i < filters->count; i++)
        free(filters->items[i].text);
    free(filters->items);
    *filters = (struct filters){0};
}

// The part of a filter that topics are matched with.
static const char *matching_part(const char *filter)
{
    const char *inner;
    return topic_filter_is_shared(filter, &inner) ? inner : filter;
}

static bool is_shared(const char *filter)
{
    const char *inner;
    return topic_filter_is_shared(filter, &inner);
}

// Whether a message may come by a shared filter and by another one too.
static bool shared_overlap(const struct subscriber_options *options)
{
    for (size_t i = 0; i < options->subscription_count; i++) {
        const char *shared = options->subscriptions[i].filter;
        if (!is_shared(shared))
            continue;
        for (size_t j = 0; j < options->subscription_count; j++)
            if (j != i && topic_filter_overlaps(matching_part(shared),
                                                matching_part(options->subscriptions[j].filter)))
                return true;
    }
    return false;
}

// What the broker has said it cannot do is not asked for.
static const char *impossible(const struct subscriber *sub, const char *filter)
{
    if (!sub->limits.shared && is_shared(filter))
        return "has no shared subscriptions: leave share empty for it";
    if (!sub->limits.wildcards && strpbrk(matching_part(filter), "+#"))
        return "allows no wildcards: name the topics one by one";
    return NULL;
}

static void plan_add(struct subscriber *sub, const char *text, uint8_t qos, uint32_t id,
                     bool retained, bool generalised)
{
    struct filter *filter = filters_add(&sub->wanted, text);
    filter->qos = qos;
    filter->id = id;
    filter->retained = retained;
    filter->generalised = generalised;
    const char *why = impossible(sub, text);
    if (why) {
        log_error("%s: filter '%s' is not subscribed: the broker %s", sub->source.name, text, why);
        filter->state = FILTER_REFUSED;
    } else if (retained && !sub->limits.retained) {
        log_warn("%s: filter '%s' gets no retained messages: the broker has none", sub->source.name,
                 text);
    }
}

static void plan_add_original(struct subscriber *sub, const struct subscription *original,
                              bool apart)
{
    plan_add(sub, original->filter, original->qos, apart ? original->id : 0, original->retained,
             false);
}

// In place of a generalised filter that cannot be had: its originals, whose copies are told apart
// by identifiers.
static void plan_originals(struct subscriber *sub, const char *generalised)
{
    for (size_t i = 0; i < sub->options->subscription_count; i++) {
        const struct subscription *original = &sub->options->subscriptions[i];
        if (!is_shared(original->filter) && topic_filter_covers(generalised, original->filter))
            plan_add_original(sub, original, sub->limits.identifiers);
    }
    if (!sub->limits.identifiers)
        log_warn("%s: filters below '%s' overlap, and the broker has no subscription identifiers: "
                 "a message that matches several may come, and be stored, more than once",
                 sub->source.name, generalised);
}

static bool wants_retained(const struct subscriber *sub, const char *filter)
{
    for (size_t i = 0; i < sub->options->subscription_count; i++) {
        const struct subscription *original = &sub->options->subscriptions[i];
        if (original->retained && !is_shared(original->filter) &&
            topic_filter_covers(filter, original->filter))
            return true;
    }
    return false;
}

static void plan_cover(struct subscriber *sub, const struct cover *cover)
{
    for (size_t i = 0; i < cover->count; i++) {
        const struct cover_filter *filter = &cover->filters[i];
        bool possible = sub->limits.wildcards && !filters_find(&sub->refused, filter->filter);
        if (filter->generalised && !possible)
            plan_originals(sub, filter->filter);
        else
            plan_add(sub, filter->filter, filter->qos, 0, wants_retained(sub, filter->filter),
                     filter->generalised);
    }
}

// Shared filters are asked for as they are; of the others a set that does not overlap.
static void plan_once_each(struct subscriber *sub)
{
    const struct subscriber_options *options = sub->options;
    const char **filters = mem_alloc(options->subscription_count * sizeof *filters + 1);
    uint8_t *qos = mem_alloc(options->subscription_count + 1);
    size_t count = 0;
    for (size_t i = 0; i < options->subscription_count; i++) {
        const struct subscription *original = &options->subscriptions[i];
        if (is_shared(original->filter)) {
            plan_add_original(sub, original, false);
        } else {
            filters[count] = original->filter;
            qos[count++] = original->qos;
        }
    }
    struct cover cover = {0};
    if (count > 0)
        cover_init(&cover, filters, qos, count);
    plan_cover(sub, &cover);
    cover_fini(&cover);
    free(filters);
    free(qos);
}

bool subscriber_identifies(const struct subscriber *sub, uint32_t id, struct bytes topic)
{
    for (size_t i = 0; i < sub->wanted.count; i++) {
        const struct filter *filter = &sub->wanted.items[i];
        if (filter->id == id && topic_filter_matches(matching_part(filter->text),
                                                     (const char *)topic.data, topic.length))
            return true;
    }
    return false;
}

bool subscriber_stands_in(const struct subscriber *sub, const struct filter *held)
{
    bool refused = false;
    for (size_t i = 0; i < sub->wanted.count; i++) {
        const struct filter *filter = &sub->wanted.items[i];
        if (!topic_filter_overlaps(matching_part(filter->text), matching_part(held->text)))
            continue;
        if (filter->state == FILTER_GRANTED)
            return false;
        refused = refused || filter->state == FILTER_REFUSED;
    }
    return refused;
}

void subscriber_plan(struct subscriber *sub)
{
    filters_clear(&sub->wanted);
    bool overlap = shared_overlap(sub->options);
    if (overlap && sub->limits.identifiers) {
        for (size_t i = 0; i < sub->options->subscription_count; i++)
            plan_add_original(sub, &sub->options->subscriptions[i], true);
        return;
    }
    if (overlap)
        log_warn("%s: a shared filter overlaps another one, and the broker has no subscription "
                 "identifiers: a message that matches both may be stored more than once",
                 sub->source.name);
    plan_once_each(sub);
}
