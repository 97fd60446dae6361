// Reads the reject table in the order of its identifiers, a page at a time, for those who send its
// messages through the pipeline again. It changes nothing.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"
#include "base/worker.h"
#include "core/message.h"

struct replay;

struct replay_options {
    const char *conninfo; // libpq's; nothing here is owned
    const char *name;     // who replays: at most one at a time; NULL: it only looks
    const char *mapping;  // NULL: all
    const char *writer;   // who rejected them; NULL: all
    bool unnamed;         // and those that do not say who
    size_t page_bytes;    // bound of a page's payloads, unless there is but one
};

// How many entries there are. Those that come later are left out.
struct replay_count {
    int64_t entries;
    int64_t others;      // of the mapping, but of other writers: they are left out too
    const char *writers; // some of those, or ""; valid during the call
};

struct replay_entry {
    struct message_parts parts;
    const char *mapping; // NULL: it was rejected as a whole
    bool cut;            // only the beginning of the payload is kept; parts has none of it
};

// Called from the loop; none may free the reader.
struct replay_calls {
    // Connected, and alone.
    void (*opened)(void *arg, const struct replay_count *count);
    // Valid during the call.
    void (*entry)(void *arg, const struct replay_entry *entry);
    // After the entries of a page: the identifier of its last one; no entry: there are no more.
    void (*page)(void *arg, int64_t last_id, size_t entries);
    // PostgreSQL refuses to be read, and will again.
    void (*failed)(void *arg, const char *why);
    void *arg;
};

struct replay *replay_new(struct loop *loop, struct worker *worker,
                          const struct replay_options *options, const struct replay_calls *calls);
void replay_free(struct replay *replay);
// Connects, again and again.
void replay_start(struct replay *replay);
// Asks for the entries behind this identifier; the page before has ended.
void replay_read(struct replay *replay, int64_t after_id);
// Why it cannot read now; "" where it can.
const char *replay_trouble(const struct replay *replay);
