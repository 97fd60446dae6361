// The state: gathers the operations of a turn of the loop, and of all turns during a commit, and
// gives them to the disk as one.
#include "broker/state.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "broker/state_internal.h"
#include "broker/state_write.h"

#define STATE_APPLICATION_ID UINT32_C(0x736C6273) // "slbs"

// ---- the queue ----

static void write_done(void *arg);

// What is open goes to the disk, if there is anything, and nothing is under way.
static void turn_ended(void *arg)
{
    struct state *state = arg;
    if (state->flying)
        return;
    state_batch_call_waits(state->open, false);
    if (state->open->live == 0)
        return;
    state->flying = state->open;
    state->open = state->spare;
    state->spare = NULL;
    disk_submit(state->disk, state_writer_run, write_done, state->flying);
}

static void write_done(void *arg)
{
    struct state_batch *batch = arg;
    struct state *state = batch->state;
    state->flying = NULL;
    state_batch_call_waits(batch, true);
    state_batch_reset(batch);
    state->spare = batch;
    // Not at once: this turn may write more that belongs together.
    loop_task_schedule(state->task);
}

bool state_begin_write(struct state *state)
{
    if (!state->disk)
        return false;
    if (!state->flying)
        loop_task_schedule(state->task);
    return true;
}

bool state_is_durable(const struct state *state)
{
    return !state->flying && state->open->live == 0;
}

void state_when_durable(struct state *state, state_fn *fn, void *arg, uint64_t a, uint64_t b)
{
    const struct state_wait wait = {.fn = fn, .arg = arg, .a = a, .b = b};
    state_batch_wait(state->open, &wait);
    if (!state->flying)
        loop_task_schedule(state->task);
}

// ---- open and close ----

static struct state *new_state(struct loop *loop, struct budget *budget)
{
    struct state *state = mem_zalloc(sizeof *state);
    state->budget = budget;
    state->task = loop_task_new(loop, turn_ended, state);
    state->next_publication_id = 1;
    state->seed = hash_seed();
    return state;
}

static void free_state(struct state *state)
{
    loop_task_free(state->task);
    state_batch_free(state->open);
    state_batch_free(state->flying);
    state_batch_free(state->spare);
    state_writer_free(state->writer);
    free(state->path);
    free(state);
}

// A number that no publication in the file has.
static bool find_next_id(struct state *state)
{
    sqlite3_stmt *statement = NULL;
    bool ok = sqlite3_prepare_v2(disk_database(state->disk),
                                 "SELECT coalesce(max(id), 0) + 1 FROM publication", -1, &statement,
                                 NULL) == SQLITE_OK &&
              sqlite3_step(statement) == SQLITE_ROW;
    if (ok)
        state->next_publication_id = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return ok && state->next_publication_id > 0 && state->next_publication_id < INT64_MAX / 2;
}

static bool open_file(struct state *state, struct loop *loop, char **error)
{
    const struct disk_options options = {
        .path = state->path,
        .what = "broker state",
        .holds = "the sessions, the messages that wait for them, and the retained messages",
        .lacks = "no sessions, no messages that wait for them, no retained messages",
        .application_id = STATE_APPLICATION_ID,
        .migrations = state_migrations,
        .migration_count = STATE_VERSION,
    };
    state->disk = disk_open(loop, &options, error);
    if (!state->disk)
        return false;
    state->writer = state_writer_new(disk_database(state->disk));
    if (state->writer && find_next_id(state))
        return true;
    *error = mem_printf("broker state %s: its tables are not as this release makes them (%s): name "
                        "another file",
                        state->path, sqlite3_errmsg(disk_database(state->disk)));
    disk_close(state->disk);
    return false;
}

struct state *state_open(struct loop *loop, struct budget *budget, const char *path, char **error)
{
    struct state *state = new_state(loop, budget);
    if (path) {
        state->path = mem_strdup(path);
        if (!open_file(state, loop, error)) {
            free_state(state);
            return NULL;
        }
        state->spare = state_batch_new(state, state->writer, budget);
    }
    state->open = state_batch_new(state, state->writer, budget);
    return state;
}

void state_close(struct state *state)
{
    if (!state)
        return;
    if (state->open->live > 0)
        disk_submit(state->disk, state_writer_run, write_done, state->open);
    if (disk_close(state->disk)) {
        free_state(state);
        return;
    }
    // The thread that hangs has the batches.
    loop_task_free(state->task);
}

void state_status(struct state *state, struct state_status *status)
{
    struct disk_status disk = {0};
    if (state->disk)
        disk_status(state->disk, &disk);
    *status = (struct state_status){.commits = disk.commits,
                                    .failing = disk.failing,
                                    .error = disk.error};
}
