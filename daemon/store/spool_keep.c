// What goes into the spool: new messages, and what the writer could not commit.
#include <stdio.h>
#include <stdlib.h>

#include "base/failpoint.h"
#include "base/mem.h"
#include "base/memtext.h"
#include "store/exchange.h"
#include "store/spool_internal.h"

// What the disk has to write at a time: the copies for it come on top of the budget.
enum { GIVEN_BYTES = 4 << 20 };

// ---- to the file ----

static void let_go_item(struct spool_item *item, enum verdict verdict, const char *reason)
{
    struct message *message = item->message;
    item->message = NULL;
    message_release(message, verdict, reason);
}

bool spool_has_stored(const struct spool *spool, const struct message *message)
{
    return message->session != 0 && writer_message_stored(spool->writer, message);
}

static bool give(struct spool *spool, struct spool_item *item)
{
    const struct message *message = item->message;
    if (spool_has_stored(spool, message)) { // what PostgreSQL has was not known when it came
        let_go_item(item, VERDICT_DEDUPLICATED, "its packet identifier is stored");
        return true;
    }
    bool unsure = message->session != 0 && writer_message_unsure(spool->writer, message);
    item->number = spool_file_put(spool->file, message, item->only, item->doubt, unsure);
    spool->full = item->number == 0;
    if (!spool->full) {
        spool->given_bytes += message->charged;
        FAILPOINT("spool-put");
        return true;
    }
    if (spool->options.drop_oldest) // there will be, soon
        return false;
    spool_say_full(spool);
    if (message->qos > 0)
        return false;
    spool->full = false; // nothing waits: the next one may be smaller, or come later
    let_go_item(item, VERDICT_DROPPED, "the spool is full");
    return true;
}

// Lets go, from the front, what is durable.
static void let_go(struct spool *spool)
{
    struct spool_queue *queue = &spool->queue;
    while (queue->given > 0) {
        const struct spool_item *item = spool_queue_at(queue, 0);
        if (item->message && item->number > spool->durable)
            return;
        struct message *message = spool_queue_take(queue);
        if (!message)
            continue;
        spool->given_bytes -= message->charged;
        spool->counters.kept++;
        message_release(message, VERDICT_SPOOLED, NULL);
    }
}

void spool_give(struct spool *spool)
{
    struct spool_queue *queue = &spool->queue;
    while (queue->given < queue->count && !spool->holds_back && spool->given_bytes < GIVEN_BYTES) {
        struct spool_item *item = spool_queue_at(queue, queue->given);
        if (item->message && !give(spool, item))
            break;
        queue->given++;
    }
    let_go(spool);
}

void spool_durable(void *arg, int64_t number)
{
    struct spool *spool = arg;
    FAILPOINT("spool-durable");
    spool->durable = number;
    let_go(spool);
    loop_task_schedule(spool->work);
}

void spool_dropped(void *arg, uint64_t count)
{
    struct spool *spool = arg;
    spool->counters.dropped += count;
    spool->source.books.received += count;
    spool->source.books.verdicts[VERDICT_DROPPED] += count;
    spool_say_dropped(spool);
    loop_task_schedule(spool->work); // what found no room may find it now
}

void spool_take(struct spool *spool, struct message *message, const char *only)
{
    if (spool->full && message->qos == 0 && !spool->options.drop_oldest) {
        message_release(message, VERDICT_DROPPED, "the spool is full");
        return;
    }
    spool_queue_append(&spool->queue, message, only ? mem_strdup(only) : NULL, 0);
    if (!spool->full)
        spool_give(spool);
}

void spool_decide(struct spool *spool, int64_t doubt, bool committed)
{
    struct spool_queue *queue = &spool->queue;
    for (size_t i = queue->given; i < queue->count; i++) {
        struct spool_item *item = spool_queue_at(queue, i);
        struct message *message = item->message;
        if (item->doubt != doubt)
            continue;
        item->doubt = 0;
        if (!committed || !message)
            continue;
        item->message = NULL;
        message_release(message, VERDICT_STORED, NULL);
    }
}

// ---- what the writer has ----

// One part of a message, held for it.
struct part {
    struct message *message;
    const char *mapping; // or NULL: the whole
    int64_t doubt;
};

struct parts {
    struct spool *spool;
    struct part *items;
    size_t count, capacity;
};

static void add_part(struct parts *parts, struct message *message, const struct target *target,
                     int64_t doubt)
{
    if (message->entry_kind == MESSAGE_OF_SPOOL)
        return; // it is in the file still
    parts->items = mem_grow(parts->items, parts->count, &parts->capacity, sizeof *parts->items);
    parts->items[parts->count++] = (struct part){message, target ? target->mapping : NULL, doubt};
    message_hold(message);
}

static void add_parts(struct parts *parts, const struct batch *batch, int64_t doubt)
{
    for (size_t g = 0; g < batch->group_count; g++)
        for (size_t i = 0; i < batch->groups[g].count; i++)
            add_part(parts, batch->groups[g].messages[i], batch->groups[g].target, doubt);
    for (size_t i = 0; i < batch->reject_count; i++)
        if (!batch->rejects[i].of_row)
            add_part(parts, batch->rejects[i].message, batch->rejects[i].target, doubt);
}

static int by_number(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

// How many entries a transaction is made of that is cut off: where PostgreSQL is says later whether
// it had committed.
static uint64_t count_entries(const struct batch *batch)
{
    uint64_t count = 0;
    size_t used = 0;
    int64_t *numbers = mem_alloc((batch->row_count + batch->reject_count + 1) * sizeof *numbers);
    for (size_t g = 0; g < batch->group_count; g++)
        for (size_t i = 0; i < batch->groups[g].count; i++)
            numbers[used++] = batch->groups[g].messages[i]->entry;
    for (size_t i = 0; i < batch->reject_count; i++)
        if (!batch->rejects[i].of_row)
            numbers[used++] = batch->rejects[i].message->entry;
    qsort(numbers, used, sizeof *numbers, by_number);
    for (size_t i = 0; i < used; i++)
        count += i == 0 || numbers[i] != numbers[i - 1];
    free(numbers);
    return count;
}

static void collect(void *arg, const struct batch *batch, const struct lane_doubt *doubt)
{
    struct parts *parts = arg;
    struct spool *spool = parts->spool;
    size_t before = parts->count;
    if (doubt && batch->spool_to > 0) {
        spool->cut_off = count_entries(batch);
        spool->cut_off_to = batch->spool_to;
    }
    add_parts(parts, batch, 0);
    if (!doubt || parts->count == before)
        return;
    int64_t id = spool_file_doubt(spool->file, writer_name(spool->writer), doubt->epoch,
                                  doubt->lane, doubt->seq);
    for (size_t i = before; i < parts->count; i++)
        parts->items[i].doubt = id;
}

static int by_arrival(const void *a, const void *b)
{
    uint64_t x = ((const struct part *)a)->message->number;
    uint64_t y = ((const struct part *)b)->message->number;
    return (x > y) - (x < y);
}

// The mappings' names, each with a newline; NULL where any mapping may take the message, as before.
static char *names_of(const struct part *parts, size_t count)
{
    if (parts->message->subscription_count == 0 || !parts->mapping)
        return NULL;
    struct memtext text;
    memtext_open(&text);
    for (size_t i = 0; i < count; i++)
        if (parts[i].mapping)
            fprintf(text.out, "%s\n", parts[i].mapping);
    return memtext_close(&text);
}

// The parts of one message; it is held once by the queue.
static void enqueue(struct spool *spool, const struct part *parts, size_t count)
{
    struct message *message = parts->message;
    spool_queue_append(&spool->queue, message, names_of(parts, count), parts->doubt);
    for (size_t i = 1; i < count; i++)
        message_release(message, VERDICT_NONE, NULL);
}

void spool_unload(struct spool *spool)
{
    struct parts parts = {.spool = spool};
    writer_unload(spool->writer, collect, &parts);
    if (parts.count > 0)
        qsort(parts.items, parts.count, sizeof *parts.items, by_arrival);
    for (size_t first = 0, last; first < parts.count; first = last) {
        for (last = first + 1; last < parts.count; last++)
            if (parts.items[last].message != parts.items[first].message)
                break;
        enqueue(spool, &parts.items[first], last - first);
    }
    free(parts.items);
}
