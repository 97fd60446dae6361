// Publications: one piece of memory each, and a count of holders.
#include "broker/publication.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static struct bytes put(uint8_t **at, struct bytes part)
{
    struct bytes copy = {*at, part.length};
    if (part.length)
        memcpy(*at, part.data, part.length);
    *at += part.length;
    return copy;
}

struct publication *publication_new(struct budget *budget, const struct publication_parts *parts)
{
    struct publication *publication = mem_alloc(sizeof *publication + parts->topic.length +
                                                parts->payload.length + parts->properties.length);
    uint8_t *at = (uint8_t *)(publication + 1);
    *publication = (struct publication){
        .holders = 1,
        .publisher = parts->publisher,
        .received_us = parts->received_us,
        .expires_ms = parts->expires_ms,
        .budget = budget,
        .topic = put(&at, parts->topic),
        .payload = put(&at, parts->payload),
        .properties = put(&at, parts->properties),
        // What malloc has taken, and its own word before it.
        .charged = malloc_usable_size(publication) + sizeof(size_t),
        .qos = parts->qos,
        .retain = parts->retain,
    };
    budget_take(budget, publication->charged);
    return publication;
}

void publication_release(struct publication *publication)
{
    if (!publication || --publication->holders > 0)
        return;
    struct budget *budget = publication->budget;
    size_t charged = publication->charged;
    free(publication);
    budget_give(budget, charged);
}
