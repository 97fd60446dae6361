// Messages: one piece of memory each, a count of holders, and a verdict.
#include "core/message.h"

#include <stdlib.h>
#include <string.h>

#include "base/loop.h"
#include "base/mem.h"

// Readings are small and come and go by the thousand: their memory is kept for the next ones, up to
// 2 MiB. Messages belong to the loop's thread, so nothing is locked.
enum { BLOCK_BYTES = 512, BLOCKS_MAX = 4096 };

union block {
    union block *next;
    struct message message;
};

static union block *spare_blocks;
static size_t spare_count;

// Rounds size up to what is really taken.
static struct message *block_take(size_t *size)
{
    if (*size > BLOCK_BYTES)
        return mem_alloc(*size);
    *size = BLOCK_BYTES;
    if (!spare_blocks)
        return mem_alloc(BLOCK_BYTES);
    union block *block = spare_blocks;
    spare_blocks = block->next;
    spare_count--;
    return &block->message;
}

static void block_give(struct message *message, size_t size)
{
#ifndef __SANITIZE_ADDRESS__ // which watches each message by itself
    if (size == BLOCK_BYTES && spare_count < BLOCKS_MAX) {
        union block *block = (union block *)message;
        block->next = spare_blocks;
        spare_blocks = block;
        spare_count++;
        return;
    }
#endif
    (void)size;
    free(message);
}

static size_t properties_size(const struct message_parts *parts)
{
    size_t size = parts->property_count * sizeof *parts->properties;
    for (uint32_t i = 0; i < parts->property_count; i++)
        size += parts->properties[i].name_length + (size_t)parts->properties[i].value_length;
    return size;
}

static void *put(uint8_t **at, const void *bytes, size_t length)
{
    void *here = *at;
    if (length)
        memcpy(here, bytes, length);
    *at += length;
    return here;
}

// The properties stand first, where the memory is aligned for them; their texts come with the other
// bytes.
static struct message_property *put_properties(uint8_t **at, const struct message_parts *parts)
{
    return put(at, parts->properties, parts->property_count * sizeof *parts->properties);
}

static void put_property_texts(uint8_t **at, struct message_property *properties, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct message_property *property = &properties[i];
        if (property->name)
            property->name = put(at, property->name, property->name_length);
        property->value = put(at, property->value, property->value_length);
    }
}

static size_t text_size(const char *text)
{
    return text ? strlen(text) + 1 : 0;
}

struct message *message_new(struct message_source *source, struct budget *budget,
                            const struct message_parts *parts)
{
    static uint64_t last_number;
    size_t detail_size = text_size(parts->flaw ? parts->flaw_detail : NULL);
    size_t origin_size = text_size(parts->origin), only_size = text_size(parts->only);
    size_t writer_size = text_size(parts->writer);
    size_t size = sizeof(struct message) + properties_size(parts) +
                  parts->subscription_count * sizeof *parts->subscriptions + parts->topic_length +
                  parts->client_id_length + parts->payload_length + detail_size + origin_size +
                  only_size + writer_size;
    struct message *message = block_take(&size);
    uint8_t *at = (uint8_t *)(message + 1);
    struct message_property *properties = put_properties(&at, parts);
    *message = (struct message){
        .source = source,
        .budget = budget,
        .number = ++last_number,
        .entry = parts->entry,
        .entry_kind = parts->entry_kind,
        .origin = source->name,
        .received_us = parts->received_us ? parts->received_us : loop_wall_us(),
        .properties = properties,
        .property_count = parts->property_count,
        .subscriptions = put(&at, parts->subscriptions,
                             parts->subscription_count * sizeof *parts->subscriptions),
        .subscription_count = parts->subscription_count,
        .flaw = parts->flaw,
        .topic_length = parts->topic_length,
        .client_id_length = parts->client_id_length,
        .payload_length = parts->payload_length,
        .full_length = parts->full_length,
        .qos = parts->qos,
        .dup = parts->dup,
        .resent = parts->dup,
        .retain = parts->retain,
        .holders = 1,
        .charged = size,
    };
    message->topic = put(&at, parts->topic, parts->topic_length);
    if (parts->client_id)
        message->client_id = put(&at, parts->client_id, parts->client_id_length);
    message->payload = put(&at, parts->payload, parts->payload_length);
    put_property_texts(&at, properties, parts->property_count);
    if (parts->flaw)
        message->flaw_detail = put(&at, parts->flaw_detail, detail_size);
    if (parts->origin)
        message->origin = put(&at, parts->origin, origin_size);
    if (parts->only)
        message->only = put(&at, parts->only, only_size);
    if (parts->writer)
        message->writer = put(&at, parts->writer, writer_size);
    books_receive(&source->books);
    budget_take(budget, size);
    return message;
}

void message_release(struct message *message, enum verdict verdict, const char *reason)
{
    if (verdict > message->verdict) {
        message->verdict = (uint8_t)verdict;
        message->reason = reason;
    }
    if (--message->holders > 0)
        return;
    struct message_source *source = message->source;
    struct budget *budget = message->budget;
    size_t charged = message->charged;
    books_settle(&source->books, message->verdict);
    source->settled(source, message);
    block_give(message, charged);
    budget_give(budget, charged);
}
