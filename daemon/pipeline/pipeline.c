// The way of a message: which mappings match, what they make of it, and on to the writer.
#include "pipeline/pipeline.h"

#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/log.h"
#include "base/memtext.h"
#include "core/topic.h"
#include "pipeline/topic_cache.h"
#include "store/batch.h"
#include "store/spool.h"
#include "store/writer.h"

struct part {
    struct list node;
    struct mapping *mapping;
    struct plan *plan;
};

struct pipeline {
    struct list parts;       // those that were removed and not forgotten too
    struct topic_tree *tree; // filters without $share/NAME/, to parts
    struct topic_cache cache;
    size_t taking; // parts in the tree
    struct writer *writer;
    struct spool *spool; // or NULL
};

// One message under way.
struct taking {
    struct pipeline *pipeline;
    struct message *message;
    struct batch *batch; // once something goes into it
    bool matched, skipped;
};

struct matching {
    pipeline_match_fn *fn;
    void *arg;
};

// The part of a filter that topics are matched with.
static const char *matching_part(const char *filter)
{
    const char *inner;
    return topic_filter_is_shared(filter, &inner) ? inner : filter;
}

struct pipeline *pipeline_new(struct mapping *mappings, size_t count, struct writer *writer)
{
    struct pipeline *pipeline = mem_zalloc(sizeof *pipeline);

    list_init(&pipeline->parts);
    pipeline->tree = topic_tree_new();
    topic_cache_init(&pipeline->cache, pipeline->tree);
    pipeline->writer = writer;
    for (size_t i = 0; i < count; i++) {
        if (!pipeline_add(pipeline, &mappings[i])) {
            pipeline_free(pipeline);
            return NULL;
        }
    }
    return pipeline;
}

void pipeline_set_spool(struct pipeline *pipeline, struct spool *spool)
{
    pipeline->spool = spool;
}

static void part_free(struct part *part)
{
    list_remove(&part->node);
    plan_free(part->plan);
    free(part);
}

void pipeline_free(struct pipeline *pipeline)
{
    if (!pipeline)
        return;
    list_each (node, &pipeline->parts)
        part_free(list_entry(node, struct part, node));
    topic_cache_fini(&pipeline->cache);
    topic_tree_free(pipeline->tree);
    free(pipeline);
}

bool pipeline_add(struct pipeline *pipeline, struct mapping *mapping)
{
    struct decode_error error;
    struct plan *plan = plan_new(mapping, &error);
    struct part *part;

    if (!plan) {
        log_error("%s: mapping %s: %s: %s", mapping->where, mapping->name, error.reason,
                  error.detail);
        return false;
    }
    part = mem_alloc(sizeof *part);
    *part = (struct part){.mapping = mapping, .plan = plan};
    list_append(&pipeline->parts, &part->node);
    topic_tree_add(pipeline->tree, matching_part(mapping->filter), part);
    topic_cache_clear(&pipeline->cache);
    pipeline->taking++;
    return true;
}

static struct part *find_part(struct pipeline *pipeline, const struct mapping *mapping)
{
    list_each (node, &pipeline->parts) {
        struct part *part = list_entry(node, struct part, node);
        if (part->mapping == mapping)
            return part;
    }
    return NULL;
}

void pipeline_remove(struct pipeline *pipeline, const struct mapping *mapping)
{
    const struct part *part = find_part(pipeline, mapping);

    if (!part || !topic_tree_remove(pipeline->tree, matching_part(mapping->filter), part))
        return;
    topic_cache_clear(&pipeline->cache);
    pipeline->taking--;
}

void pipeline_forget(struct pipeline *pipeline, const struct mapping *mapping)
{
    struct part *part = find_part(pipeline, mapping);

    pipeline_remove(pipeline, mapping);
    if (part)
        part_free(part);
}

// Sources come and go, at addresses that are used again, so they are known by name.
static bool takes_from(const struct mapping *mapping, const char *source)
{
    if (!mapping->sources)
        return true;
    for (size_t i = 0; i < mapping->source_count; i++) {
        if (strcmp(mapping->sources[i], source) == 0)
            return true;
    }
    return false;
}

// A broker that sends one copy for each overlapping subscription says which one a copy is for.
static bool sent_for(const struct mapping *mapping, const struct message *message)
{
    if (message->subscription_count == 0)
        return true;
    for (uint32_t i = 0; i < message->subscription_count; i++) {
        if (message->subscriptions[i] == mapping->subscription_id)
            return true;
    }
    return false;
}

// names: each with a newline after it.
static bool is_listed(const struct mapping *mapping, const char *names)
{
    size_t length = strlen(mapping->name);
    if (!names)
        return true;
    for (const char *name = names, *end; (end = strchr(name, '\n')); name = end + 1) {
        if ((size_t)(end - name) == length && memcmp(name, mapping->name, length) == 0)
            return true;
    }
    return false;
}

bool pipeline_concerns(const struct mapping *mapping, const struct message *message)
{
    return takes_from(mapping, message->origin) && sent_for(mapping, message) &&
           is_listed(mapping, message->only);
}

// What was rejected was wanted when it came.
static bool is_unwanted_copy(const struct mapping *mapping, const struct message *message)
{
    return message->retain && !mapping->retained && message->entry_kind != MESSAGE_OF_REJECTS;
}

// False with error filled where there is no row.
static bool add_row(struct taking *taking, const struct part *part, struct decode_error *error)
{
    struct message *message = taking->message;
    struct target *target = &part->mapping->target;
    struct value *values;

    if (target->stopped)
        return decode_fail(error, "mapping stopped", "%s", target->stopped);
    if (message->full_length > message->payload_length)
        return decode_fail(error, "payload too large",
                           "%llu bytes, of which the first %zu are kept",
                           (unsigned long long)message->full_length, message->payload_length);
    values = batch_reserve_row(taking->batch, target);
    // The bounds of time are seen from the time of arrival, so that a replay decides as the first
    // try did.
    if (!plan_decode(part->plan, message, message->received_us, &taking->batch->arena, values,
                     error))
        return false;
    batch_keep_row(taking->batch, target, message);
    return true;
}

static void take_part(struct taking *taking, const struct part *part)
{
    struct mapping *mapping = part->mapping;
    struct decode_error error;

    if (!pipeline_concerns(mapping, taking->message))
        return;
    taking->matched = true;
    books_receive(&mapping->target.books);
    if (is_unwanted_copy(mapping, taking->message)) {
        taking->skipped = true;
        books_settle(&mapping->target.books, VERDICT_SKIPPED);
        return;
    }
    if (!taking->batch)
        taking->batch = writer_begin(taking->pipeline->writer);
    if (!add_row(taking, part, &error))
        batch_add_reject(taking->batch, &mapping->target, taking->message, error.reason,
                         error.detail, "");
}

// No mapping has a part in it: its topic may be none.
static void reject_whole(struct pipeline *pipeline, struct message *message, const char *reason,
                         const char *detail)
{
    batch_add_reject(writer_begin(pipeline->writer), NULL, message, reason, detail, "");
    writer_end(pipeline->writer);
    message_release(message, VERDICT_NONE, NULL);
}

static bool wants(const struct part *part, const struct message *message)
{
    return pipeline_concerns(part->mapping, message) && !is_unwanted_copy(part->mapping, message);
}

// The names of those that want it, each with a newline.
static char *names_of(struct pipeline *pipeline, const struct message *message, size_t count)
{
    struct memtext names;

    memtext_open(&names);
    for (size_t i = 0; i < count; i++) {
        const struct part *part = pipeline->cache.found[i];
        if (wants(part, message))
            fprintf(names.out, "%s\n", part->mapping->name);
    }
    return memtext_close(&names);
}

// A broker's copy that is for some of the mappings is kept for these.
static bool keep(struct pipeline *pipeline, struct message *message, size_t count)
{
    bool wanted = message->flaw != NULL;
    char *only = NULL;

    for (size_t i = 0; i < count && !wanted; i++)
        wanted = wants(pipeline->cache.found[i], message);
    if (!wanted)
        return false;
    if (message->subscription_count > 0 && !message->flaw)
        only = names_of(pipeline, message, count);
    spool_take(pipeline->spool, message, only ? only : message->only);
    free(only);
    return true;
}

// What the spool gives back was acknowledged: it must not vanish.
static void end_unwanted(struct pipeline *pipeline, struct message *message, const char *reason)
{
    if (message->entry_kind == MESSAGE_OF_SPOOL)
        reject_whole(pipeline, message, "no mapping takes it any more",
                     "one did when it was kept in the spool");
    else
        message_release(message, VERDICT_SKIPPED, reason);
}

void pipeline_take(struct pipeline *pipeline, struct message *message)
{
    struct taking taking = {.pipeline = pipeline, .message = message};
    bool keeps =
        pipeline->spool && spool_takes(pipeline->spool) && message->entry_kind == MESSAGE_NO_ENTRY;
    size_t count = message->flaw
                       ? 0
                       : topic_cache_match(&pipeline->cache, message->topic, message->topic_length);

    if (keeps && keep(pipeline, message, count))
        return;
    if (message->flaw) {
        reject_whole(pipeline, message, message->flaw, message->flaw_detail);
        return;
    }
    for (size_t i = 0; i < count; i++)
        take_part(&taking, pipeline->cache.found[i]);
    if (taking.batch)
        writer_end(pipeline->writer);
    if (!taking.matched)
        end_unwanted(pipeline, message, "no mapping");
    else if (!taking.batch)
        end_unwanted(pipeline, message, "retained copy");
    else if (taking.skipped)
        message_release(message, VERDICT_SKIPPED, "retained copy");
    else
        message_release(message, VERDICT_NONE, NULL);
}

bool pipeline_wants(struct pipeline *pipeline, const char *source, const char *topic, size_t length)
{
    size_t count = pipeline->taking ? topic_cache_match(&pipeline->cache, topic, length) : 0;

    for (size_t i = 0; i < count; i++) {
        const struct part *part = pipeline->cache.found[i];
        if (takes_from(part->mapping, source))
            return true;
    }
    return false;
}

static void match_part(void *arg, void *value)
{
    const struct matching *matching = arg;
    const struct part *part = value;
    matching->fn(matching->arg, part->mapping, part->plan);
}

void pipeline_match(struct pipeline *pipeline, const struct message *message, pipeline_match_fn *fn,
                    void *arg)
{
    struct matching matching = {fn, arg};
    topic_tree_match(pipeline->tree, message->topic, message->topic_length, match_part, &matching);
}
