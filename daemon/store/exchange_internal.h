// What the writer keeps of QoS 2 identifiers; for writer.c and exchange.c alone.
#pragma once

#include "core/exchange_set.h"
#include "store/batch.h"
#include "store/exchange.h"

struct exchanges {
    bool known;                 // what PostgreSQL has
    struct exchange_set stored; // what is committed
    struct exchange_set ending; // sessions of this turn, under identifier 0
    struct loop_task *sweep, *tell;
    struct list waits; // for the spool's file
    size_t clearing;   // of what was void there
    loop_fn *loaded;
    void *loaded_arg;
    exchange_fn *forgotten;
    void *forgotten_arg;
};

// writer.c
struct exchanges *writer_exchanges(const struct writer *writer);
// Calls fn for each batch that is not settled.
typedef void writer_batch_fn(void *arg, struct batch *batch);
void writer_each_batch(const struct writer *writer, writer_batch_fn *fn, void *arg);
// The spool's file, or NULL: there is none.
struct spool_file *writer_spool_file(const struct writer *writer);
// Messages go into that file now, and so must what is forgotten (as void): the spool is KEEPING or
// DRAINING.
bool writer_keeps(const struct writer *writer);

// exchange.c
struct exchanges *exchanges_new(struct loop *loop, struct writer *writer);
void exchanges_free(struct exchanges *exchanges);
// Takes over all that PostgreSQL has.
void exchanges_load(struct exchanges *exchanges, struct exchange_set *loaded);
// Messages go into the spool's file from now on: they need not wait for PostgreSQL.
void exchanges_kept(struct exchanges *exchanges);
void exchanges_forget(struct writer *writer, uint64_t session, uint16_t packet_id, bool told);
// The batch is committed, and not settled yet.
void exchanges_committed(struct writer *writer, const struct batch *batch);

// exchange_spool.c
// Whether the file is to forget it, or to do so first.
bool exchanges_forget_in_file(struct writer *writer, uint64_t session, uint16_t packet_id,
                              bool told);
void exchanges_free_waits(struct exchanges *exchanges);
// Forgets all, in PostgreSQL or the file, of sessions of which ends says so.
void exchanges_end(struct writer *writer, exchange_session_fn *ends, void *arg);

// What the spool asks for.
// The batch is taken apart, uncommitted: what it was to forget is forgotten by the next one, or
// becomes void in the spool's file, where messages go there.
void exchanges_unload(struct writer *writer, const struct batch *batch);
// The file has no entries any more, and nothing waits or commits: forgets, with the next
// transaction, what it says is void, and then removes that there. True where that is durable; else
// the spool is told when to call again, as after a commit.
bool exchanges_sweep_void(struct writer *writer);
// Whether the message repeats one that PostgreSQL has, whatever the file says.
bool exchanges_in_database(const struct writer *writer, const struct message *message);
