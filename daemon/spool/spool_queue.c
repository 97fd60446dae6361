// The messages that the spool has taken and not let go yet.
#include "spool/spool_queue.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { CAPACITY_MIN = 256 };

void spool_queue_fini(struct spool_queue *queue)
{
    free(queue->items);
    *queue = (struct spool_queue){0};
}

struct spool_item *spool_queue_at(const struct spool_queue *queue, size_t position)
{
    return &queue->items[(queue->first + position) & (queue->capacity - 1)];
}

static void grow(struct spool_queue *queue)
{
    size_t capacity = queue->capacity ? queue->capacity * 2 : CAPACITY_MIN;
    struct spool_item *items = mem_alloc(capacity * sizeof *items);
    for (size_t i = 0; i < queue->count; i++)
        items[i] = *spool_queue_at(queue, i);
    free(queue->items);
    queue->items = items;
    queue->capacity = capacity;
    queue->first = 0;
}

void spool_queue_append(struct spool_queue *queue, struct message *message, char *only,
                        int64_t doubt)
{
    if (queue->count == queue->capacity)
        grow(queue);
    queue->count++;
    *spool_queue_at(queue, queue->count - 1) =
        (struct spool_item){.message = message, .only = only, .doubt = doubt};
}

struct message *spool_queue_take(struct spool_queue *queue)
{
    struct spool_item *item = spool_queue_at(queue, 0);
    free(item->only);
    queue->first = (queue->first + 1) & (queue->capacity - 1);
    queue->count--;
    queue->given -= queue->given > 0;
    return item->message;
}
