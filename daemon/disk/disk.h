// A thread that owns one SQLite database: jobs in order, those that wait together in one
// transaction with one fdatasync.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"

struct sqlite3;
struct disk;

// On the disk's thread, within a transaction; false (after a failed SQLite call) rolls the whole
// group back, and all its jobs are run again later: a job must be repeatable. Now and then a job
// that has been committed is run again too.
typedef bool disk_work_fn(struct sqlite3 *database, void *arg);

struct disk_options {
    const char *path;              // of the database; its directory must exist
    const char *what;              // for log lines: "broker state"
    const char *holds;             // what is lost without the file: "all sessions"
    const char *lacks;             // what a new file has not: "no sessions"
    uint32_t application_id;       // a file with another one is not ours
    const char *const *migrations; // SQL, number n raises PRAGMA user_version from n to n + 1
    size_t migration_count;
    bool readable; // other processes may read it meanwhile; else nobody else can open it
    bool shrinks;  // a new file can be made smaller, by PRAGMA incremental_vacuum
};

// Opens or creates (mode 0600) the file, locks it against a second process, checks it (quick_check)
// and migrates it. NULL with *error, which the caller frees and which says what to do: damaged, not
// a database, not ours, of a newer release, in use, not writable, disk full, gone from its log.
struct disk *disk_open(struct loop *loop, const struct disk_options *options, char **error);
// Waits until all that was submitted is durable, or cannot be (at most a second), finalizes
// the statements that were prepared, and closes. done is no longer called. Not from within done.
// False: the thread hangs in the kernel and is left behind, with the args of its jobs.
bool disk_close(struct disk *disk);
// For the caller's thread, before anything is submitted; later only for jobs.
struct sqlite3 *disk_database(struct disk *disk);
// Runs work(arg) on the thread; done(arg) on the loop once it is durable, in the order of the
// submissions. Where the disk fails (full, read-only, I/O) it is logged and tried again until it
// succeeds; done waits.
void disk_submit(struct disk *disk, disk_work_fn *work, loop_fn *done, void *arg);
// The same for a job on which none relies but later ones of this kind: where it cannot be done
// those wait for it, and all others go on without it.
void disk_submit_lazy(struct disk *disk, disk_work_fn *work, loop_fn *done, void *arg);
// The same for a job that reads, or makes a transaction of its own that may fail, and runs outside
// of one: after all that was submitted before it, but where that cannot be written it is not waited
// for.
void disk_submit_read(struct disk *disk, disk_work_fn *work, loop_fn *done, void *arg);

struct disk_status {
    uint64_t jobs, commits;
    bool failing;                // something has failed, and is tried again
    bool unwritable, unreadable; // it is a write that is not lazy; a job that reads
    const char *error;           // why; valid until the next call
};
void disk_status(struct disk *disk, struct disk_status *status);
