// A batch in two, by the order in which its messages arrived: no message is in both.
#include <stdlib.h>
#include <string.h>

#include "store/batch_internal.h"

typedef void message_fn(void *arg, const struct message *message);

// Some more than once.
static void each_message(const struct batch *batch, message_fn *fn, void *arg)
{
    for (size_t g = 0; g < batch->group_count; g++)
        for (size_t row = 0; row < batch->groups[g].count; row++)
            fn(arg, batch->groups[g].messages[row]);
    for (size_t i = 0; i < batch->reject_count; i++)
        fn(arg, batch->rejects[i].message);
}

// ---- where ----

struct span {
    uint64_t first, last; // numbers
};

static void stretch(void *arg, const struct message *message)
{
    struct span *span = arg;
    if (message->number < span->first)
        span->first = message->number;
    if (message->number > span->last)
        span->last = message->number;
}

static struct span span_of(const struct batch *batch)
{
    struct span span = {.first = UINT64_MAX};
    each_message(batch, stretch, &span);
    return span;
}

bool batch_may_split(const struct batch *batch)
{
    struct span span = span_of(batch);
    return span.first < span.last;
}

// ---- rows ----

static void move_charge(struct batch *batch, struct batch *later, size_t charge, size_t bytes)
{
    batch->charged -= charge;
    later->charged += charge;
    batch->value_bytes -= bytes;
    later->value_bytes += bytes;
}

// Its bytes may be in the arena that it leaves. Returns its place there.
static size_t move_row(struct batch *batch, struct batch_group *group, size_t row,
                       struct batch *later)
{
    struct target *target = group->target;
    const struct value *from = group->values + row * target->column_count;
    struct value *to = batch_reserve_row(later, target);
    for (size_t i = 0; i < target->column_count; i++) {
        to[i] = from[i];
        if (column_type_is_bytes(target->columns[i].type) && !from[i].null)
            to[i].bytes = arena_copy(&later->arena, from[i].bytes, from[i].length);
    }
    struct batch_group *there = &later->groups[target->index];
    there->messages[there->count] = group->messages[row];
    there->outcomes[there->count] = group->outcomes[row];
    there->refused += group->outcomes[row] == VERDICT_REJECTED;
    group->refused -= group->outcomes[row] == VERDICT_REJECTED;
    later->row_count++;
    batch->row_count--;
    move_charge(batch, later, batch_row_charge(target), batch_row_bytes(target, to));
    return there->count++;
}

static void keep_row(struct batch_group *group, size_t row, size_t place)
{
    size_t columns = group->target->column_count;
    memmove(group->values + place * columns, group->values + row * columns,
            columns * sizeof *group->values);
    group->messages[place] = group->messages[row];
    group->outcomes[place] = group->outcomes[row];
}

static void split_group(struct batch *batch, struct batch_group *group, uint64_t last,
                        struct batch *later)
{
    size_t *places = mem_alloc(group->count * sizeof *places), kept = 0;
    for (size_t row = 0; row < group->count; row++) {
        if (group->messages[row]->number > last) {
            places[row] = move_row(batch, group, row, later);
        } else {
            places[row] = kept;
            keep_row(group, row, kept++);
        }
    }
    group->count = kept;
    for (size_t i = 0; i < batch->reject_count; i++) {
        struct batch_reject *reject = &batch->rejects[i];
        if (reject->of_row && reject->target == group->target)
            reject->row = places[reject->row];
    }
    free(places);
}

// ---- what goes with them ----

static void split_rejects(struct batch *batch, uint64_t last, struct batch *later)
{
    size_t kept = 0;
    for (size_t i = 0; i < batch->reject_count; i++) {
        const struct batch_reject *reject = &batch->rejects[i];
        if (reject->message->number <= last) {
            batch->rejects[kept++] = *reject;
            continue;
        }
        later->rejects = mem_grow(later->rejects, later->reject_count, &later->reject_capacity,
                                  sizeof *later->rejects);
        struct batch_reject *moved = &later->rejects[later->reject_count++];
        *moved = *reject;
        if (reject->detail)
            moved->detail = arena_copy(&later->arena, reject->detail, strlen(reject->detail));
        move_charge(batch, later, sizeof *moved, batch_reject_bytes(moved));
    }
    batch->reject_count = kept;
}

static void move_exchange(struct batch *batch, const struct batch_exchange *exchange,
                          struct batch *later)
{
    later->exchanges = mem_grow(later->exchanges, later->exchange_count, &later->exchange_capacity,
                                sizeof *later->exchanges);
    later->exchanges[later->exchange_count++] = *exchange;
    batch->forget_count -= exchange->forget;
    later->forget_count += exchange->forget;
    move_charge(batch, later, sizeof *exchange, 0);
}

// Within a transaction deletes come before inserts: so they must of one identifier, whichever of
// the two batches commits first.
static void split_exchanges(struct batch *batch, uint64_t last, struct batch *later)
{
    struct exchange_set moving = {0};
    size_t kept = 0;
    for (size_t i = 0; i < batch->exchange_count; i++) {
        const struct batch_exchange *it = &batch->exchanges[i];
        if (it->number > last)
            exchange_set_add(&moving, it->session, it->packet_id);
    }
    for (size_t i = 0; i < batch->exchange_count; i++) {
        const struct batch_exchange *it = &batch->exchanges[i];
        bool goes =
            it->forget ? exchange_set_has(&moving, it->session, it->packet_id) : it->number > last;
        if (goes)
            move_exchange(batch, it, later);
        else
            batch->exchanges[kept++] = *it;
    }
    batch->exchange_count = kept;
    exchange_set_fini(&moving);
}

static void note_taken(void *arg, const struct message *message)
{
    if (message->entry_kind == MESSAGE_OF_REJECTS)
        exchange_set_add(arg, (uint64_t)message->entry, 0);
}

// The messages are there already.
static void split_taken(struct batch *batch, struct batch *later)
{
    struct exchange_set moving = {0}; // under identifier 0
    size_t kept = 0;
    if (batch->taken_count > 0)
        each_message(later, note_taken, &moving);
    for (size_t i = 0; i < batch->taken_count; i++) {
        int64_t entry = batch->taken[i];
        if (!exchange_set_has(&moving, (uint64_t)entry, 0)) {
            batch->taken[kept++] = entry;
            continue;
        }
        later->taken = mem_grow(later->taken, later->taken_count, &later->taken_capacity,
                                sizeof *later->taken);
        later->taken[later->taken_count++] = entry;
    }
    batch->taken_count = kept;
    exchange_set_fini(&moving);
}

static void note_entry(void *arg, const struct message *message)
{
    int64_t *last = arg;
    if (message->entry_kind == MESSAGE_OF_SPOOL && message->entry > *last)
        *last = message->entry;
}

// The spool gives its entries in order. Those that nothing is stored for go with what follows them.
static void split_entries(struct batch *batch, struct batch *later)
{
    int64_t through = batch->spool_to, last = 0;
    each_message(batch, note_entry, &last);
    batch->spool_to = last;
    later->spool_to = through > last ? through : 0;
}

bool batch_split(struct batch *batch, struct batch *later)
{
    struct span span = span_of(batch);
    if (span.first >= span.last)
        return false;
    uint64_t last = span.first + (span.last - span.first) / 2;
    for (size_t g = 0; g < batch->group_count; g++)
        if (batch->groups[g].count > 0)
            split_group(batch, &batch->groups[g], last, later);
    split_rejects(batch, last, later);
    split_exchanges(batch, last, later);
    split_taken(batch, later);
    split_entries(batch, later);
    batch_charge(later, 0); // what its arena has grown by
    later->repeated = batch->repeated;
    later->partition_tries = batch->partition_tries;
    batch->attempts = 0;
    return true;
}
