// The spool's file: entries that come, are read and go. What is in the file is counted here, by the
// loop; the disk's thread says what went.
#include "spool/spool_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/failpoint.h"
#include "base/mem.h"
#include "spool/spool_file_internal.h"

enum { CUT_CHUNK = 5000 }; // entries that are deleted at once: what is put meanwhile waits so long

// ---- operations ----

void *spool_op_new(struct spool_file *file, size_t size)
{
    struct spool_op *op = mem_zalloc(size);
    op->file = file;
    op->sql = file->sql;
    op->kind = SPOOL_OP_OTHER;
    list_append(&file->ops, &op->node);
    return op;
}

void spool_op_submit(struct spool_op *op, disk_work_fn *work, loop_fn *done)
{
    disk_submit(op->file->disk, work, done, op);
}

void spool_op_free(struct spool_op *op)
{
    list_remove(&op->node);
    free(op);
}

static void free_read(struct spool_read_op *op)
{
    arena_fini(&op->arena);
    free(op->records);
    free(op->stored);
    spool_op_free(&op->op);
}

void spool_file_tell(struct spool_file *file)
{
    if (file->durable_told == file->durable)
        return;
    file->durable_told = file->durable;
    file->calls.durable(file->calls.arg, file->durable);
}

static void tell(void *arg)
{
    spool_file_tell(arg);
}

static uint64_t limit_of(const struct spool_file *file)
{
    return spool_room_limit(file->room, file->bytes, file->put_bytes);
}

// ---- entries that go ----

static void shrink(struct spool_file *file);

// The first put after this operation, if any: it was not in the file yet.
static const struct spool_put_op *next_put(const struct spool_op *op)
{
    const struct list *head = &op->file->ops;
    for (const struct list *node = op->node.next; node != head; node = node->next) {
        const struct spool_op *next = list_entry(node, struct spool_op, node);
        if (next->kind == SPOOL_OP_PUT)
            return (const void *)next;
    }
    return NULL;
}

void spool_file_was_cut(struct spool_op *op, const struct spool_cut *cut)
{
    struct spool_file *file = op->file;
    const struct spool_put_op *put = cut->first > 0 ? NULL : next_put(op);
    file->count -= cut->count;
    file->bytes -= cut->cost < file->bytes ? cut->cost : file->bytes; // it may be damaged
    file->first = put ? put->record.number : cut->first;
    file->first_us = put ? put->record.received_us : cut->first_us;
}

static void delete_more(struct spool_file *file);

static void deleted(void *arg)
{
    struct spool_cut_op *op = arg;
    struct spool_file *file = op->op.file;
    FAILPOINT("spool-deleted");
    spool_file_tell(file);
    spool_file_was_cut(&op->op, &op->cut);
    file->deleting = false;
    bool more = op->cut.count == op->chunk || file->delete_through > op->through;
    spool_op_free(&op->op);
    if (more)
        delete_more(file);
    else if (file->count == 0)
        shrink(file);
}

static void delete_more(struct spool_file *file)
{
    if (file->deleting)
        return;
    file->deleting = true;
    struct spool_cut_op *op = spool_op_new(file, sizeof *op);
    op->through = file->delete_through;
    op->chunk = CUT_CHUNK;
    disk_submit_lazy(file->disk, spool_job_cut, deleted, op);
}

void spool_file_delete(struct spool_file *file, int64_t through)
{
    if (through <= file->delete_through)
        return;
    file->delete_through = through;
    bool beyond = through > file->last; // PostgreSQL knows a later state of this file
    if (beyond)
        file->last = through;
    if (beyond || (file->first > 0 && file->first <= through))
        delete_more(file);
}

static void drop(struct spool_file *file, uint64_t wanted);

static void dropped(void *arg)
{
    struct spool_cut_op *op = arg;
    struct spool_file *file = op->op.file;
    uint64_t count = op->cut.count;
    spool_file_tell(file);
    spool_file_was_cut(&op->op, &op->cut);
    spool_op_free(&op->op);
    file->dropping = false;
    file->dropped += count;
    if (count > 0)
        drop(file, 0);
    if (count > 0)
        file->calls.dropped(file->calls.arg, count);
}

// Where there would be more than there may be with what finds no room yet. Where all of it has been
// read none go now; with the next put it is tried again.
static void drop(struct spool_file *file, uint64_t wanted)
{
    uint64_t limit = limit_of(file);
    if (file->dropping || file->bytes + wanted <= limit)
        return;
    file->dropping = true;
    struct spool_cut_op *op = spool_op_new(file, sizeof *op);
    op->unread = true;
    op->after = file->delete_through;
    op->through = file->last;
    op->cost = file->bytes + wanted - limit;
    disk_submit_lazy(file->disk, spool_job_cut, dropped, op);
}

// ---- the file's size ----

static void checkpointed(void *arg)
{
    struct spool_shrink_op *op = arg;
    spool_file_tell(op->op.file);
    op->op.file->shrinking = false;
    spool_op_free(&op->op);
}

static void shrunk(void *arg)
{
    struct spool_shrink_op *op = arg;
    struct spool_file *file = op->op.file;
    spool_file_tell(file);
    if (op->more && file->count == 0)
        disk_submit_read(file->disk, spool_job_shrink, shrunk, op);
    else
        disk_submit_read(file->disk, spool_job_checkpoint, checkpointed, op);
}

static void shrink(struct spool_file *file)
{
    if (file->shrinking)
        return;
    file->shrinking = true;
    struct spool_shrink_op *op = spool_op_new(file, sizeof *op);
    disk_submit_read(file->disk, spool_job_shrink, shrunk, op);
}

// ---- entries that come ----

static bool has_room(const struct spool_file *file, int64_t cost)
{
    uint64_t limit = limit_of(file);
    if (file->drop_oldest) // the oldest go a little later than this one comes
        limit += limit / 8;
    return file->count == 0 || file->bytes + (uint64_t)cost <= limit;
}

bool spool_file_has_room(const struct spool_file *file, const struct message *message)
{
    struct spool_record record;
    spool_record_of(&record, message, NULL, false);
    return has_room(file, record.cost);
}

static void submit_read(struct spool_read_op *op);

static void put_done(void *arg)
{
    struct spool_put_op *op = arg;
    struct spool_file *file = op->op.file;
    file->durable = op->record.number;
    file->puts--;
    file->put_bytes -= (uint64_t)op->record.cost;
    spool_op_free(&op->op);
    loop_task_schedule(file->told);
    if (file->reading && file->reading->waits)
        submit_read(file->reading);
}

int64_t spool_file_put(struct spool_file *file, const struct message *message, const char *only,
                       int64_t doubt, bool unsure)
{
    struct spool_record record;
    spool_record_of(&record, message, only, unsure);
    if (!has_room(file, record.cost)) {
        if (file->drop_oldest)
            drop(file, (uint64_t)record.cost);
        return 0;
    }
    record.number = ++file->last;
    record.doubt = doubt;
    if (file->count++ == 0) {
        file->first = record.number;
        file->first_us = record.received_us;
    }
    file->bytes += (uint64_t)record.cost;
    spool_file_count_doubt(file, doubt);
    struct spool_put_op *op = spool_op_new(file, sizeof *op + spool_record_size(&record));
    op->op.kind = SPOOL_OP_PUT;
    op->record = record;
    spool_record_copy(&op->record, message, op->bytes);
    file->puts++;
    file->put_bytes += (uint64_t)record.cost;
    spool_op_submit(&op->op, spool_job_put, put_done);
    if (message->session != 0)
        spool_file_keep_exchange(file, message);
    if (file->drop_oldest)
        drop(file, 0);
    return record.number;
}

// ---- reading ----

static void give_entries(struct spool_read_op *op)
{
    for (size_t i = 0; i < op->count && !op->unwanted; i++) {
        struct spool_entry entry;
        spool_record_read(&op->records[i], &op->arena, &entry);
        op->reading.entry(op->reading.arg, &entry);
    }
}

static void read_done(void *arg)
{
    struct spool_read_op *op = arg;
    struct spool_file *file = op->op.file;
    spool_file_tell(file);
    bool all = op->end && file->puts == 0;
    op->waits = op->count == 0 && !all && !op->unwanted; // there will be something
    if (op->waits)
        return;
    give_entries(op);
    struct spool_file_reading reading = op->reading;
    bool wanted = !op->unwanted;
    free_read(op);
    if (!wanted)
        return;
    file->reading = NULL;
    reading.read(reading.arg, all);
}

static void submit_read(struct spool_read_op *op)
{
    const struct spool_file *file = op->op.file;
    size_t size = file->stored_doubt_count * sizeof *op->stored;
    op->waits = false;
    free(op->stored);
    op->stored = mem_alloc(size + 1);
    op->stored_count = file->stored_doubt_count;
    if (size > 0)
        memcpy(op->stored, file->stored_doubts, size);
    disk_submit_read(op->op.file->disk, spool_job_read, read_done, op);
}

void spool_file_read(struct spool_file *file, int64_t after, size_t count, size_t bytes,
                     const struct spool_file_reading *reading)
{
    struct spool_read_op *op = spool_op_new(file, sizeof *op);
    op->op.kind = SPOOL_OP_READ;
    op->after = after;
    op->count_max = count;
    op->bytes_max = bytes;
    op->reading = *reading;
    arena_init(&op->arena);
    file->reading = op;
    submit_read(op);
}

// The disk's thread may never be done with it: what it is to read cannot be read.
void spool_file_read_no_more(struct spool_file *file)
{
    struct spool_read_op *op = file->reading;
    file->reading = NULL;
    if (op && op->waits)
        free_read(op);
    else if (op)
        op->unwanted = true;
}

// ---- open and close ----

static void free_op(struct list *node)
{
    struct spool_op *op = list_entry(node, struct spool_op, node);
    if (op->kind == SPOOL_OP_READ)
        free_read((void *)op);
    else
        spool_op_free(op);
}

static void free_file(struct spool_file *file)
{
    list_each (node, &file->ops)
        free_op(node);
    loop_task_free(file->told);
    spool_file_forget_promises(file);
    free(file->room);
    free(file->sql);
    free(file->path);
    free(file->id);
    free(file);
}

static bool open_file(struct spool_file *file, struct loop *loop, char **error)
{
    const struct disk_options options = {
        .path = file->path,
        .what = "spool",
        .holds = "the messages that are in it, which were acknowledged,",
        .lacks = "no messages",
        .application_id = SPOOL_APPLICATION_ID,
        .migrations = spool_migrations,
        .migration_count = SPOOL_VERSION,
        .readable = true,
        .shrinks = true,
    };
    file->disk = disk_open(loop, &options, error);
    if (!file->disk)
        return false;
    if (spool_file_load(file, &options, error))
        return true;
    disk_close(file->disk);
    return false;
}

struct spool_file *spool_file_open(struct loop *loop, const struct spool_file_options *options,
                                   const struct spool_file_calls *calls, char **error)
{
    struct spool_file *file = mem_zalloc(sizeof *file);
    file->calls = *calls;
    file->path = mem_strdup(options->path);
    file->room = mem_zalloc(sizeof *file->room);
    *file->room = (struct spool_room){.path = file->path, .max_bytes = options->max_bytes};
    file->drop_oldest = options->drop_oldest;
    file->sql = mem_zalloc(sizeof *file->sql);
    file->told = loop_task_new(loop, tell, file);
    list_init(&file->ops);
    if (open_file(file, loop, error))
        return file;
    free_file(file);
    return NULL;
}

void spool_file_close(struct spool_file *file)
{
    if (!file)
        return;
    if (disk_close(file->disk))
        free_file(file);
    else // the thread may still have its operations
        loop_task_free(file->told);
}

const char *spool_file_id(const struct spool_file *file)
{
    return file->id;
}

static void renewed(void *arg)
{
    struct spool_renew_op *op = arg;
    spool_file_tell(op->op.file);
    spool_op_free(&op->op);
}

void spool_file_renew(struct spool_file *file)
{
    uint8_t random[SPOOL_ID_LENGTH / 2];
    if (file->count > 0 || file->puts > 0 || file->doubt_count > 0)
        return;
    while (getrandom(random, sizeof random, 0) != sizeof random)
        continue;
    struct spool_renew_op *op = spool_op_new(file, sizeof *op);
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(op->id + 2 * i, 3, "%02x", random[i]);
    free(file->id);
    file->id = mem_strdup(op->id);
    spool_op_submit(&op->op, spool_job_renew, renewed);
}

void spool_file_status(const struct spool_file *file, struct spool_file_status *status)
{
    struct disk_status disk;
    disk_status(file->disk, &disk);
    *status = (struct spool_file_status){
        .count = file->count,
        .bytes = file->bytes,
        .max_bytes = limit_of(file),
        .first = file->first,
        .last = file->count > 0 ? file->last : 0,
        .oldest_us = file->first_us,
        .dropped = file->dropped,
        .failing = disk.failing,
        .unwritable = disk.unwritable,
        .unreadable = disk.unreadable,
        .error = disk.error,
    };
}
