// Batches of operations: an array, an arena for what is of any length, a hash table.
#include "broker/state_batch.h"

#include <stdlib.h>
#include <string.h>

enum {
    KEEP_OPS = 4096,  // the memory for more is not kept for the next batch
    FORGET_OPS = 256, // cancelled ones
    FIRST_SLOTS = 256,
};

struct state_batch *state_batch_new(struct state *state, struct state_writer *writer,
                                    struct budget *budget)
{
    struct state_batch *batch = mem_zalloc(sizeof *batch);
    batch->state = state;
    batch->writer = writer;
    batch->budget = budget;
    arena_init(&batch->arena);
    return batch;
}

void state_batch_free(struct state_batch *batch)
{
    if (!batch)
        return;
    state_batch_reset(batch);
    arena_fini(&batch->arena);
    free(batch->ops);
    free(batch->waits);
    free(batch->slots);
    free(batch);
}

static bool holds_publication(const struct state_op *op)
{
    return op->kind == STATE_WILL || op->kind == STATE_DELIVERY || op->kind == STATE_INCOMING ||
           op->kind == STATE_RETAINED;
}

static void shrink(struct state_batch *batch)
{
    if (batch->op_capacity > KEEP_OPS) {
        free(batch->ops);
        batch->ops = NULL;
        batch->op_capacity = 0;
    }
    if (batch->wait_capacity > KEEP_OPS) {
        free(batch->waits);
        batch->waits = NULL;
        batch->wait_capacity = 0;
    }
    if (batch->slot_count > 2 * KEEP_OPS) {
        free(batch->slots);
        batch->slots = NULL;
        batch->slot_count = 0;
    }
}

// None of them holds a publication any more.
static void forget_ops(struct state_batch *batch)
{
    if (batch->slots_used > 0)
        memset(batch->slots, 0, batch->slot_count * sizeof *batch->slots);
    batch->past += batch->op_count;
    batch->op_count = batch->live = batch->first = batch->slots_used = 0;
    arena_reset(&batch->arena);
    budget_give(batch->budget, batch->charged);
    batch->charged = 0;
}

void state_batch_reset(struct state_batch *batch)
{
    for (size_t i = 0; i < batch->op_count; i++)
        if (holds_publication(&batch->ops[i]))
            publication_release(batch->ops[i].publication);
    forget_ops(batch);
    batch->past = batch->wait_count = 0;
    batch->attempted = false;
    shrink(batch);
}

static void charge(struct state_batch *batch, size_t bytes)
{
    batch->charged += bytes;
    budget_take(batch->budget, bytes);
}

struct state_op *state_batch_add(struct state_batch *batch, enum state_op_kind kind,
                                 uint64_t session, uint16_t packet_id)
{
    batch->ops = mem_grow(batch->ops, batch->op_count, &batch->op_capacity, sizeof *batch->ops);
    struct state_op *op = &batch->ops[batch->op_count++];
    *op = (struct state_op){.kind = (uint8_t)kind, .packet_id = packet_id, .session = session};
    batch->live++;
    charge(batch, sizeof *op);
    return op;
}

void *state_batch_copy(struct state_batch *batch, const void *data, size_t length)
{
    charge(batch, length + 1);
    return arena_copy(&batch->arena, data, length);
}

// ---- finding ----

static size_t slot_of(const struct state_batch *batch, uint64_t session, uint16_t packet_id)
{
    uint64_t hash = (session ^ (uint64_t)packet_id << 48) * UINT64_C(0x9E3779B97F4A7C15);
    return (size_t)(hash >> 32) & (batch->slot_count - 1);
}

static void enter(struct state_batch *batch, size_t position)
{
    const struct state_op *op = &batch->ops[position];
    size_t slot = slot_of(batch, op->session, op->packet_id);
    while (batch->slots[slot])
        slot = (slot + 1) & (batch->slot_count - 1);
    batch->slots[slot] = (uint32_t)(position + 1);
    batch->slots_used++;
}

// What is cancelled is left out.
static void grow_slots(struct state_batch *batch)
{
    uint32_t *old = batch->slots;
    size_t old_count = batch->slot_count;
    batch->slot_count = old_count ? 2 * old_count : FIRST_SLOTS;
    batch->slots = mem_zalloc(batch->slot_count * sizeof *batch->slots);
    batch->slots_used = 0;
    for (size_t i = 0; i < old_count; i++)
        if (old[i] && batch->ops[old[i] - 1].kind != STATE_NOTHING)
            enter(batch, old[i] - 1);
    free(old);
}

struct state_op *state_batch_add_findable(struct state_batch *batch, enum state_op_kind kind,
                                          uint64_t session, uint16_t packet_id)
{
    struct state_op *op = state_batch_add(batch, kind, session, packet_id);
    if (2 * (batch->slots_used + 1) > batch->slot_count)
        grow_slots(batch);
    enter(batch, batch->op_count - 1);
    return op;
}

struct state_op *state_batch_find(const struct state_batch *batch, enum state_op_kind kind,
                                  uint64_t session, uint16_t packet_id)
{
    if (batch->slots_used == 0)
        return NULL;
    for (size_t slot = slot_of(batch, session, packet_id); batch->slots[slot];
         slot = (slot + 1) & (batch->slot_count - 1)) {
        struct state_op *op = &batch->ops[batch->slots[slot] - 1];
        if (op->kind == kind && op->session == session && op->packet_id == packet_id)
            return op;
    }
    return NULL;
}

void state_batch_cancel(struct state_batch *batch, struct state_op *op)
{
    if (holds_publication(op))
        publication_release(op->publication);
    op->kind = STATE_NOTHING;
    op->publication = NULL;
    batch->live--;
    if (batch->live == 0 && batch->op_count >= FORGET_OPS)
        forget_ops(batch);
    while (batch->first < batch->op_count && batch->ops[batch->first].kind == STATE_NOTHING)
        batch->first++;
}

// ---- waiting ----

void state_batch_wait(struct state_batch *batch, const struct state_wait *wait)
{
    batch->waits =
        mem_grow(batch->waits, batch->wait_count, &batch->wait_capacity, sizeof *batch->waits);
    batch->waits[batch->wait_count] = *wait;
    batch->waits[batch->wait_count++].position = batch->past + batch->op_count;
}

void state_batch_call_waits(struct state_batch *batch, bool all)
{
    size_t called = 0, count = batch->wait_count;
    for (; called < count; called++) {
        struct state_wait wait = batch->waits[called];
        if (!all && wait.position > batch->past + batch->first)
            break;
        wait.fn(wait.arg, wait.a, wait.b);
    }
    if (called == 0)
        return;
    batch->wait_count -= called;
    memmove(batch->waits, batch->waits + called, batch->wait_count * sizeof *batch->waits);
}
