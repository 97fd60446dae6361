// The spool's file as its own files share it.
#pragma once

#include "core/exchange_set.h"
#include "disk/disk.h"
#include "spool/spool_file.h"
#include "spool/spool_jobs.h"
#include "spool/spool_room.h"

struct spool_file {
    struct disk *disk;
    struct spool_file_calls calls;
    struct spool_sql *sql; // the disk's thread has it
    char *path, *id;
    struct spool_room *room;
    bool drop_oldest;
    struct list ops;        // all that is not done, in order
    struct loop_task *told; // says what is durable
    int64_t last, durable, durable_told;
    uint64_t puts, put_bytes; // that are not durable

    uint64_t count, bytes, dropped; // bytes: what the entries take of the file
    int64_t first, first_us;        // of the entries, or 0
    int64_t delete_through;
    bool deleting, dropping, shrinking;

    struct spool_read_op *reading; // under way, or NULL

    struct spool_doubt *doubts; // oldest first
    uint64_t *doubt_counts;     // of entries, as doubts
    size_t doubt_count, doubt_capacity, doubt_counts_capacity;
    int64_t last_doubt;
    int64_t *stored_doubts; // resolved as committed, and that is not durable yet
    size_t stored_doubt_count, stored_doubt_capacity;

    struct exchange_set stored, voids;
};

// An operation for the disk, zero but for its head.
void *spool_op_new(struct spool_file *file, size_t size);
// Gives it to the disk; done(op) frees it.
void spool_op_submit(struct spool_op *op, disk_work_fn *work, loop_fn *done);
void spool_op_free(struct spool_op *op);
// First thing in each done: what was put before is durable too, and that is said first.
void spool_file_tell(struct spool_file *file);
// The entries that a job has cut are gone.
void spool_file_was_cut(struct spool_op *op, const struct spool_cut *cut);
// Fills in what the file says, when it is opened; false with *error, which the caller frees.
bool spool_file_load(struct spool_file *file, const struct disk_options *options, char **error);
// Copies the doubt.
void spool_file_add_doubt(struct spool_file *file, const struct spool_doubt *doubt, uint64_t count);
void spool_file_count_doubt(struct spool_file *file, int64_t doubt); // one entry more
// The identifier of a message that is put is stored; the file says so with the entry.
void spool_file_keep_exchange(struct spool_file *file, const struct message *message);
void spool_file_forget_promises(struct spool_file *file); // frees doubts and identifiers
