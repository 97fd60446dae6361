// Rows and rejects that commit in one transaction, and the messages they came from.
#include "store/batch_internal.h"

#include <stdlib.h>
#include <string.h>

struct batch *batch_new(struct budget *budget)
{
    struct batch *batch = mem_zalloc(sizeof *batch);
    list_init(&batch->node);
    arena_init(&batch->arena);
    batch->budget = budget;
    return batch;
}

void batch_free(struct batch *batch)
{
    if (!batch)
        return;
    for (size_t i = 0; i < batch->group_count; i++) {
        free(batch->groups[i].values);
        free(batch->groups[i].messages);
        free(batch->groups[i].outcomes);
    }
    free(batch->groups);
    free(batch->rejects);
    free(batch->exchanges);
    free(batch->taken);
    arena_fini(&batch->arena);
    free(batch);
}

int64_t batch_oldest_us(const struct batch *batch)
{
    int64_t oldest = INT64_MAX;
    for (size_t g = 0; g < batch->group_count; g++) {
        const struct batch_group *group = &batch->groups[g];
        if (group->count > 0 && group->messages[0]->received_us < oldest)
            oldest = group->messages[0]->received_us;
    }
    if (batch->reject_count > 0 && batch->rejects[0].message->received_us < oldest)
        oldest = batch->rejects[0].message->received_us;
    return oldest;
}

void batch_charge(struct batch *batch, size_t bytes)
{
    bytes += batch->arena.used - batch->arena_charged;
    batch->arena_charged = batch->arena.used;
    batch->charged += bytes;
    budget_take(batch->budget, bytes);
}

static struct batch_group *group_of(struct batch *batch, struct target *target)
{
    if (target->index >= batch->group_count) {
        size_t count = target->index + 1;
        batch->groups = mem_realloc(batch->groups, count, sizeof *batch->groups);
        memset(batch->groups + batch->group_count, 0,
               (count - batch->group_count) * sizeof *batch->groups);
        batch->group_count = count;
    }
    struct batch_group *group = &batch->groups[target->index];
    group->target = target;
    return group;
}

static void group_grow(struct batch_group *group, size_t capacity, size_t columns)
{
    group->values = mem_realloc(group->values, capacity * columns, sizeof *group->values);
    group->messages = mem_realloc(group->messages, capacity, sizeof *group->messages);
    group->outcomes = mem_realloc(group->outcomes, capacity, sizeof *group->outcomes);
    group->capacity = capacity;
    group->columns = columns;
}

struct value *batch_reserve_row(struct batch *batch, struct target *target)
{
    struct batch_group *group = group_of(batch, target);
    if (group->count == group->capacity)
        group_grow(group, group->capacity ? group->capacity * 2 : 16, target->column_count);
    else if (group->columns < target->column_count) // another target had the index
        group_grow(group, group->capacity, target->column_count);
    return group->values + group->count * target->column_count;
}

static struct batch_exchange *add_exchange(struct batch *batch, uint64_t session,
                                           uint16_t packet_id)
{
    batch->exchanges = mem_grow(batch->exchanges, batch->exchange_count, &batch->exchange_capacity,
                                sizeof *batch->exchanges);
    struct batch_exchange *added = &batch->exchanges[batch->exchange_count++];
    *added = (struct batch_exchange){.session = session, .packet_id = packet_id};
    batch_charge(batch, sizeof *added);
    return added;
}

// The parts of one message come one after the other, and the entry once.
static void take_entry(struct batch *batch, const struct message *message)
{
    if (message->entry_kind == MESSAGE_OF_SPOOL) {
        batch->spool_to = message->entry;
    } else if (batch->taken_count == 0 || batch->taken[batch->taken_count - 1] != message->entry) {
        batch->taken = mem_grow(batch->taken, batch->taken_count, &batch->taken_capacity,
                                sizeof *batch->taken);
        batch->taken[batch->taken_count++] = message->entry;
    }
}

// The parts of one message come one after the other, and the identifier once.
static void hold(struct batch *batch, struct message *message)
{
    message_hold(message);
    if (message->entry_kind != MESSAGE_NO_ENTRY)
        take_entry(batch, message);
    batch->repeated |= message->dup;
    if (message->session == 0)
        return;
    const struct batch_exchange *last =
        batch->exchange_count > 0 ? &batch->exchanges[batch->exchange_count - 1] : NULL;
    if (!last || last->number != message->number) {
        struct batch_exchange *added = add_exchange(batch, message->session, message->packet_id);
        added->content = message->content;
        added->number = message->number;
    }
}

void batch_pass_entry(struct batch *batch, int64_t entry)
{
    batch->spool_to = entry;
}

void batch_forget_exchange(struct batch *batch, uint64_t session, uint16_t packet_id, bool told)
{
    struct batch_exchange *added = add_exchange(batch, session, packet_id);
    added->forget = true;
    added->told = told;
    batch->forget_count++;
}

void batch_end_sessions(struct batch *batch, const struct exchange_set *sessions)
{
    for (size_t i = 0; i < batch->exchange_count; i++)
        if (exchange_set_has(sessions, batch->exchanges[i].session, 0))
            batch->exchanges[i].ended = true;
}

size_t batch_row_bytes(const struct target *target, const struct value *row)
{
    size_t bytes = 0;
    for (size_t i = 0; i < target->column_count; i++)
        bytes += column_type_is_bytes(target->columns[i].type) ? row[i].length : 0;
    return bytes;
}

size_t batch_row_charge(const struct target *target)
{
    return target->column_count * sizeof(struct value) + sizeof(struct message *) + 1;
}

void batch_keep_row(struct batch *batch, struct target *target, struct message *message)
{
    struct batch_group *group = &batch->groups[target->index];
    hold(batch, message);
    batch->value_bytes +=
        batch_row_bytes(target, group->values + group->count * target->column_count);
    group->messages[group->count] = message;
    group->outcomes[group->count] = VERDICT_NONE;
    group->count++;
    batch->row_count++;
    batch_charge(batch, batch_row_charge(target));
}

// A character of the properties may take six in JSON.
size_t batch_reject_bytes(const struct batch_reject *reject)
{
    const struct message *message = reject->message;
    size_t size = message->payload_length + message->topic_length + message->client_id_length;
    for (uint32_t i = 0; i < message->property_count; i++)
        size +=
            (size_t)6 * (message->properties[i].name_length + message->properties[i].value_length);
    return size + (reject->detail ? strlen(reject->detail) : 0);
}

// The reject is complete, but for what it is charged.
static void keep_reject(struct batch *batch, const struct batch_reject *reject,
                        const char *sqlstate)
{
    batch->rejects = mem_grow(batch->rejects, batch->reject_count, &batch->reject_capacity,
                              sizeof *batch->rejects);
    batch->value_bytes += batch_reject_bytes(reject);
    struct batch_reject *added = &batch->rejects[batch->reject_count++];
    *added = *reject;
    strncpy(added->sqlstate, sqlstate, sizeof added->sqlstate - 1);
}

void batch_add_reject(struct batch *batch, struct target *target, struct message *message,
                      const char *reason, const char *detail, const char *sqlstate)
{
    hold(batch, message);
    struct batch_reject reject = {.message = message, .target = target, .reason = reason};
    if (detail)
        reject.detail = arena_copy(&batch->arena, detail, strlen(detail));
    keep_reject(batch, &reject, sqlstate);
    batch_charge(batch, sizeof reject);
}

// False where the row is refused already.
static bool refuse(struct batch_group *group, size_t row, const char *reason,
                   struct batch_reject *reject)
{
    if (group->outcomes[row] == VERDICT_REJECTED)
        return false;
    group->outcomes[row] = VERDICT_REJECTED;
    group->refused++;
    *reject = (struct batch_reject){.message = group->messages[row],
                                    .target = group->target,
                                    .reason = reason,
                                    .of_row = true,
                                    .row = row};
    return true;
}

void batch_refuse_row(struct batch *batch, struct batch_group *group, size_t row,
                      const char *reason, const char *detail, const char *sqlstate)
{
    struct batch_reject reject;
    if (!refuse(group, row, reason, &reject))
        return;
    if (detail)
        reject.detail = arena_copy(&batch->arena, detail, strlen(detail));
    keep_reject(batch, &reject, sqlstate);
    batch_charge(batch, sizeof reject);
}

// Attempts may be many: what they need is charged once, by the greatest.
void batch_refuse_row_for_now(struct batch *batch, struct batch_group *group, size_t row,
                              const char *reason, const char *detail, const char *sqlstate)
{
    struct batch_reject reject;
    if (!refuse(group, row, reason, &reject))
        return;
    reject.for_now = true;
    if (detail)
        reject.detail = mem_strdup(detail);
    keep_reject(batch, &reject, sqlstate);
    batch->for_now += sizeof reject + (detail ? strlen(detail) + 1 : 0);
    if (batch->for_now > batch->for_now_charged) {
        batch_charge(batch, batch->for_now - batch->for_now_charged);
        batch->for_now_charged = batch->for_now;
    }
}

static void free_detail(const struct batch_reject *reject)
{
    if (reject->for_now)
        free((char *)reject->detail);
}

void batch_judge_again(struct batch *batch)
{
    size_t kept = 0;
    for (size_t i = 0; i < batch->reject_count; i++) {
        const struct batch_reject *reject = &batch->rejects[i];
        if (!reject->for_now) {
            batch->rejects[kept++] = *reject;
            continue;
        }
        struct batch_group *group = &batch->groups[reject->target->index];
        group->outcomes[reject->row] = VERDICT_NONE;
        group->refused--;
        batch->value_bytes -= batch_reject_bytes(reject);
        free_detail(reject);
    }
    batch->reject_count = kept;
    batch->for_now = 0;
}

void batch_reset_outcomes(struct batch *batch)
{
    batch_judge_again(batch);
    for (size_t g = 0; g < batch->group_count; g++) {
        struct batch_group *group = &batch->groups[g];
        group->conflicts = 0;
        for (size_t i = 0; i < group->count; i++)
            if (group->outcomes[i] != VERDICT_REJECTED)
                group->outcomes[i] = VERDICT_NONE;
    }
}

// all: what becomes of every part, whatever its own outcome; VERDICT_NONE: that. What the spool
// gave is still in its file; what it takes is spooled only when it is durable there: it says so.
static void settle_part(struct books *books, struct message *message, enum verdict outcome,
                        enum verdict all, const char *reason)
{
    if (all == VERDICT_SPOOLED && message->entry_kind == MESSAGE_OF_SPOOL)
        all = VERDICT_ABANDONED;
    if (all != VERDICT_NONE)
        outcome = all;
    if (books)
        books_settle(books, outcome);
    message_release(message, outcome == VERDICT_SPOOLED ? VERDICT_NONE : outcome,
                    all == VERDICT_NONE ? reason : NULL);
}

static void settle_group(struct batch_group *group, enum verdict all)
{
    for (size_t i = 0; i < group->count; i++) {
        enum verdict outcome = (enum verdict)group->outcomes[i];
        if (outcome == VERDICT_NONE)
            outcome = VERDICT_STORED;
        settle_part(&group->target->books, group->messages[i], outcome, all, NULL);
    }
    if (all == VERDICT_NONE && group->count > 0)
        group->target->conflicts += group->conflicts;
    group->count = group->refused = group->conflicts = 0;
}

static void settle_reject(struct batch_reject *reject, enum verdict all)
{
    free_detail(reject);
    if (!reject->of_row)
        settle_part(reject->target ? &reject->target->books : NULL, reject->message,
                    VERDICT_REJECTED, all, reject->reason);
}

// Messages are released in the order of their rows, so that a window's prefix settles from its
// front. What the releases call may add to other batches, never to this one.
static void finish(struct batch *batch, enum verdict all)
{
    for (size_t g = 0; g < batch->group_count; g++)
        settle_group(&batch->groups[g], all);
    for (size_t i = 0; i < batch->reject_count; i++)
        settle_reject(&batch->rejects[i], all);
    batch->reject_count = batch->row_count = batch->value_bytes = 0;
    batch->exchange_count = batch->forget_count = batch->taken_count = 0;
    batch->spool_from = batch->spool_to = 0;
    batch->attempts = batch->partition_tries = 0;
    batch->repeated = false;
    arena_reset(&batch->arena);
    size_t charged = batch->charged;
    batch->charged = batch->arena_charged = 0;
    batch->for_now = batch->for_now_charged = 0;
    budget_give(batch->budget, charged);
}

void batch_settle(struct batch *batch)
{
    finish(batch, VERDICT_NONE);
}

void batch_abandon(struct batch *batch)
{
    finish(batch, VERDICT_ABANDONED);
}

void batch_unload(struct batch *batch)
{
    finish(batch, VERDICT_SPOOLED);
}
