// What the spool has to do with the writer: it takes over what PostgreSQL does not take, and gives
// it back later.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "store/batch.h"
#include "store/lane.h"

struct spool_file;
struct writer;

struct writer_spool_calls {
    // No connection has been usable, or none could commit, for outage_after; no transaction is
    // under way.
    void (*outage)(void *arg);
    // A doubt of the file's is decided; then, when all are, through which entry all are stored.
    void (*resolved)(void *arg, int64_t doubt, bool committed);
    void (*position)(void *arg, int64_t position);
    // A transaction has committed and its messages are settled; entry: the spool's last one in it,
    // 0: there was none.
    void (*committed)(void *arg, int64_t entry);
    // The entries were stored by somebody else: where it is must be asked anew.
    void (*taken)(void *arg);
    void *arg;
};

// Before the writer is started. outage_after_ms: below 0, outages are not looked for.
void writer_set_spool(struct writer *writer, struct spool_file *file, int64_t outage_after_ms,
                      const struct writer_spool_calls *calls);
// After the file was renewed, while it is empty.
void writer_name_spool(struct writer *writer);
// Whether the messages, and what is forgotten, go into the file from now on.
void writer_set_keeps(struct writer *writer, bool keeps);
// Takes all batches that are not committed out of the writer and has fn look at each, doubt being
// NULL where it is certain that it is not; then their parts are SPOOLED, and the messages let go.
// Where the spool is, and what of its doubts, is asked when PostgreSQL is back.
typedef void writer_unload_fn(void *arg, const struct batch *batch, const struct lane_doubt *doubt);
void writer_unload(struct writer *writer, writer_unload_fn *fn, void *arg);
// An entry is done with, and nothing is to be stored for it.
void writer_pass_entry(struct writer *writer, int64_t entry);
// Whether PostgreSQL, when it was last tried, has refused what is no table's or row's fault.
bool writer_refused(const struct writer *writer);
// Whether nothing waits or commits.
bool writer_idle(const struct writer *writer);
const char *writer_name(const struct writer *writer);
