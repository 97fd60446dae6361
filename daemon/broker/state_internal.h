// What the files of the state share.
#pragma once

#include "broker/state.h"
#include "broker/state_batch.h"
#include "disk/disk.h"

struct state {
    struct budget *budget;
    char *path;
    struct disk *disk; // NULL: nothing is kept
    struct state_writer *writer;
    struct loop_task *task;
    struct state_batch *open;   // gathers
    struct state_batch *flying; // at the disk; NULL: none
    struct state_batch *spare;  // NULL while one is flying
    int64_t next_publication_id;
    uint64_t seed; // of hashes of topics
};

// Whether anything is kept at all; then what is added to the open batch will be written.
bool state_begin_write(struct state *state);
// Before the file is read: removes what refers to nothing, and what has expired. A disk that is
// full is no reason not to start: then it stays, and the log says so.
void state_clean(struct sqlite3 *db, const char *path);
