// What the spool's file has beside entries: transactions in doubt and QoS 2 identifiers.
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "spool/spool_file_internal.h"

// ---- doubts ----

void spool_file_add_doubt(struct spool_file *file, const struct spool_doubt *doubt, uint64_t count)
{
    file->doubts =
        mem_grow(file->doubts, file->doubt_count, &file->doubt_capacity, sizeof *file->doubts);
    file->doubt_counts = mem_grow(file->doubt_counts, file->doubt_count,
                                  &file->doubt_counts_capacity, sizeof *file->doubt_counts);
    file->doubts[file->doubt_count] = *doubt;
    file->doubts[file->doubt_count].writer = mem_strdup(doubt->writer);
    file->doubt_counts[file->doubt_count++] = count;
    if (doubt->id > file->last_doubt)
        file->last_doubt = doubt->id;
}

// Its index, or doubt_count.
static size_t find_doubt(const struct spool_file *file, int64_t id)
{
    size_t i = 0;
    while (i < file->doubt_count && file->doubts[i].id != id)
        i++;
    return i;
}

static void remove_doubt(struct spool_file *file, size_t at)
{
    size_t after = --file->doubt_count - at;
    free(file->doubts[at].writer);
    memmove(&file->doubts[at], &file->doubts[at + 1], after * sizeof *file->doubts);
    memmove(&file->doubt_counts[at], &file->doubt_counts[at + 1],
            after * sizeof *file->doubt_counts);
}

void spool_file_count_doubt(struct spool_file *file, int64_t doubt)
{
    size_t at = find_doubt(file, doubt);
    if (at < file->doubt_count)
        file->doubt_counts[at]++;
}

static void doubt_kept(void *arg)
{
    struct spool_doubt_op *op = arg;
    spool_file_tell(op->op.file);
    spool_op_free(&op->op);
}

int64_t spool_file_doubt(struct spool_file *file, const char *writer, int64_t epoch, unsigned lane,
                         int64_t seq)
{
    struct spool_doubt_op *op = spool_op_new(file, sizeof *op + strlen(writer) + 1);
    op->doubt = (struct spool_doubt){
        .id = file->last_doubt + 1,
        .writer = strcpy(op->bytes, writer),
        .epoch = epoch,
        .lane = lane,
        .seq = seq,
    };
    spool_file_add_doubt(file, &op->doubt, 0);
    spool_op_submit(&op->op, spool_job_doubt, doubt_kept);
    return file->last_doubt;
}

size_t spool_file_doubts(const struct spool_file *file, const struct spool_doubt **doubts)
{
    *doubts = file->doubts;
    return file->doubt_count;
}

static void note_stored(struct spool_file *file, int64_t doubt)
{
    file->stored_doubts = mem_grow(file->stored_doubts, file->stored_doubt_count,
                                   &file->stored_doubt_capacity, sizeof *file->stored_doubts);
    file->stored_doubts[file->stored_doubt_count++] = doubt;
}

static void forget_stored(struct spool_file *file, int64_t doubt)
{
    size_t at = 0;
    while (file->stored_doubts[at] != doubt)
        at++;
    file->stored_doubts[at] = file->stored_doubts[--file->stored_doubt_count];
}

static void resolved(void *arg)
{
    struct spool_doubt_op *op = arg;
    spool_file_tell(op->op.file);
    if (op->committed) {
        spool_file_was_cut(&op->op, &op->cut);
        forget_stored(op->op.file, op->doubt.id);
    }
    spool_op_free(&op->op);
}

uint64_t spool_file_resolve(struct spool_file *file, int64_t doubt, bool committed)
{
    size_t at = find_doubt(file, doubt);
    if (at == file->doubt_count)
        return 0;
    uint64_t count = file->doubt_counts[at];
    remove_doubt(file, at);
    struct spool_doubt_op *op = spool_op_new(file, sizeof *op);
    op->doubt.id = doubt;
    op->committed = committed;
    if (committed)
        note_stored(file, doubt);
    disk_submit_lazy(file->disk, spool_job_resolve, resolved, op);
    return count;
}

// ---- QoS 2 identifiers ----

enum spool_exchange spool_file_exchange(const struct spool_file *file, uint64_t session,
                                        uint16_t packet_id)
{
    if (exchange_set_has(&file->stored, session, packet_id))
        return SPOOL_EXCHANGE_STORED;
    return exchange_set_has(&file->voids, session, packet_id) ? SPOOL_EXCHANGE_VOID
                                                              : SPOOL_EXCHANGE_UNKNOWN;
}

uint64_t spool_file_exchange_content(const struct spool_file *file, uint64_t session,
                                     uint16_t packet_id)
{
    const struct exchange_id *id = exchange_set_find(&file->stored, session, packet_id);
    return id ? id->content : 0;
}

static void exchange_changed(void *arg)
{
    struct spool_exchange_op *op = arg;
    loop_fn *done = op->done;
    void *done_arg = op->arg;
    spool_file_tell(op->op.file);
    spool_op_free(&op->op);
    if (done)
        done(done_arg);
}

static void note_exchange(struct spool_file *file, const struct spool_exchange_change *change)
{
    exchange_set_remove(&file->stored, change->session, change->packet_id);
    exchange_set_remove(&file->voids, change->session, change->packet_id);
    if (change->what == SPOOL_EXCHANGE_STORED)
        exchange_set_add(&file->stored, change->session, change->packet_id)->content =
            change->content;
    else if (change->what == SPOOL_EXCHANGE_VOID)
        exchange_set_add(&file->voids, change->session, change->packet_id);
}

void spool_file_keep_exchange(struct spool_file *file, const struct message *message)
{
    const struct spool_exchange_change change = {
        .session = message->session,
        .packet_id = message->packet_id,
        .content = message->content,
        .what = SPOOL_EXCHANGE_STORED,
    };
    note_exchange(file, &change);
}

void spool_file_set_exchange(struct spool_file *file, uint64_t session, uint16_t packet_id,
                             enum spool_exchange what, loop_fn *done, void *arg)
{
    const struct spool_exchange_change change = {
        .session = session,
        .packet_id = packet_id,
        .content = spool_file_exchange_content(file, session, packet_id),
        .what = what,
    };
    note_exchange(file, &change);
    struct spool_exchange_op *op = spool_op_new(file, sizeof *op);
    op->change = change;
    op->done = done;
    op->arg = arg;
    spool_op_submit(&op->op, spool_job_exchange, exchange_changed);
}

static void each_of(const struct exchange_set *set, spool_exchange_fn *fn, void *arg,
                    enum spool_exchange what)
{
    for (size_t i = 0; i < set->capacity; i++)
        if (set->slots[i].session != 0)
            fn(arg, set->slots[i].session, set->slots[i].packet_id, what);
}

static struct exchange_set copy_of(const struct exchange_set *set)
{
    struct exchange_set copy = *set;
    size_t size = set->capacity * sizeof *set->slots;
    copy.slots = mem_alloc(size + 1);
    if (size > 0)
        memcpy(copy.slots, set->slots, size);
    return copy;
}

void spool_file_each_exchange(const struct spool_file *file, spool_exchange_fn *fn, void *arg)
{
    struct exchange_set stored = copy_of(&file->stored), voids = copy_of(&file->voids);
    each_of(&stored, fn, arg, SPOOL_EXCHANGE_STORED);
    each_of(&voids, fn, arg, SPOOL_EXCHANGE_VOID);
    exchange_set_fini(&stored);
    exchange_set_fini(&voids);
}

void spool_file_forget_promises(struct spool_file *file)
{
    for (size_t i = 0; i < file->doubt_count; i++)
        free(file->doubts[i].writer);
    free(file->doubts);
    free(file->doubt_counts);
    free(file->stored_doubts);
    exchange_set_fini(&file->stored);
    exchange_set_fini(&file->voids);
}
