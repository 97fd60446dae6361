// Batches that wait until their tables have the partitions for their rows.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "store/batch.h"
#include "store/catalog.h"

struct prepare {
    struct catalog *catalog;
    struct list waiting;
    // The batch is the caller's again, from the loop; rows for which no partition can be made are
    // rejects now.
    void (*again)(void *arg, struct batch *batch);
    void *arg;
};

void prepare_init(struct prepare *prepare, struct catalog *catalog,
                  void (*again)(void *arg, struct batch *batch), void *arg);
// Abandons what waits; the catalog must call no more.
void prepare_fini(struct prepare *prepare);
// Whether the batch can be sent now; else it is taken until again.
bool prepare_batch(struct prepare *prepare, struct batch *batch);
// PostgreSQL found no partition for a row of the group: takes the batch until the catalog has
// looked.
void prepare_refresh(struct prepare *prepare, struct batch *batch, struct batch_group *group);
void prepare_each(const struct prepare *prepare, void (*fn)(void *arg, struct batch *batch),
                  void *arg);
bool prepare_idle(const struct prepare *prepare);
// A batch that waits, which is the caller's; NULL where there is none.
struct batch *prepare_take(struct prepare *prepare);
