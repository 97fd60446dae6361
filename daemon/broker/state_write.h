// Batches into the database: the disk thread's half of the state.
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct sqlite3;
struct state_writer;

// SQL that makes the tables; number n brings version n to n + 1.
extern const char *const state_migrations[];
enum { STATE_VERSION = 1 };

// Prepares the statements; NULL where the tables are not what they should be.
struct state_writer *state_writer_new(struct sqlite3 *database);
void state_writer_free(struct state_writer *writer); // the database is closed
// A disk_work_fn; batch is a struct state_batch.
bool state_writer_run(struct sqlite3 *database, void *batch);
