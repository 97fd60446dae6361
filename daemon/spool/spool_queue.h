// The messages that the spool has taken and not let go yet, in order: first those that its file has
// been given and that are not durable there yet, then those that wait for room in it.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/message.h"

struct spool_item {
    struct message *message; // held; NULL: let go already
    char *only;              // or NULL, owned
    int64_t doubt;           // of the file's; 0: none
    int64_t number;          // of its entry, once the file has been given it
};

struct spool_queue {
    struct spool_item *items; // a ring; capacity is a power of two
    size_t capacity, first, count;
    size_t given; // of count, to the file
};

void spool_queue_fini(struct spool_queue *queue); // must be empty
// only is taken over.
void spool_queue_append(struct spool_queue *queue, struct message *message, char *only,
                        int64_t doubt);
// The item at a position, 0 being the first; valid until the next append.
struct spool_item *spool_queue_at(const struct spool_queue *queue, size_t position);
// Takes the first one out: only has been freed, and the message is the caller's.
struct message *spool_queue_take(struct spool_queue *queue);
