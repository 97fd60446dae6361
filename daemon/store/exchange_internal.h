// What the writer keeps of QoS 2 identifiers; for writer.c and exchange.c alone.
#pragma once

#include "store/batch.h"
#include "store/exchange.h"
#include "store/exchange_set.h"

struct exchanges {
    bool known;
    struct exchange_set stored; // what is committed
    struct exchange_set ending; // sessions of this turn, under identifier 0
    struct loop_task *sweep;
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

// exchange.c
struct exchanges *exchanges_new(struct loop *loop, struct writer *writer);
void exchanges_free(struct exchanges *exchanges);
// Takes over all that PostgreSQL has.
void exchanges_load(struct exchanges *exchanges, struct exchange_set *loaded);
// The batch is committed, and not settled yet.
void exchanges_committed(struct writer *writer, const struct batch *batch);
