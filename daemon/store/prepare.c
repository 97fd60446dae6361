// Batches that wait until their tables have the partitions for their rows.
#include "store/prepare.h"

#include <stdlib.h>

#include "base/mem.h"

// A batch that waits for the catalog.
struct waiting {
    struct list node;
    struct prepare *prepare;
    struct batch *batch; // NULL: it was taken away
    struct batch_group *group;
};

void prepare_init(struct prepare *prepare, struct catalog *catalog,
                  void (*again)(void *arg, struct batch *batch), void *arg)
{
    *prepare = (struct prepare){.catalog = catalog, .again = again, .arg = arg};
    list_init(&prepare->waiting);
}

void prepare_fini(struct prepare *prepare)
{
    for (struct list *node; (node = list_take(&prepare->waiting));) {
        struct waiting *waiting = list_entry(node, struct waiting, node);
        if (waiting->batch)
            batch_abandon(waiting->batch);
        batch_free(waiting->batch);
        free(waiting);
    }
}

static int64_t row_time(const struct batch_group *group, size_t row)
{
    return group->values[row * group->target->column_count].integer;
}

static bool is_missing(const struct prepare *prepare, const struct batch_group *group, size_t row)
{
    return group->outcomes[row] != VERDICT_REJECTED &&
           !catalog_has(prepare->catalog, group->target, row_time(group, row));
}

static void answered(void *arg, bool ok, const char *detail)
{
    struct waiting *waiting = arg;
    struct prepare *prepare = waiting->prepare;
    struct batch_group *group = waiting->group;
    struct batch *batch = waiting->batch;
    for (size_t row = 0; !ok && batch && row < group->count; row++)
        if (is_missing(prepare, group, row))
            batch_refuse_row(batch, group, row, "no partition", detail, "");
    list_remove(&waiting->node);
    free(waiting);
    if (batch)
        prepare->again(prepare->arg, batch);
}

static struct waiting *wait(struct prepare *prepare, struct batch *batch, struct batch_group *group)
{
    struct waiting *waiting = mem_alloc(sizeof *waiting);
    *waiting = (struct waiting){.prepare = prepare, .batch = batch, .group = group};
    list_append(&prepare->waiting, &waiting->node);
    return waiting;
}

// The times of the group's rows that have no partition; NULL where there are none. The caller
// frees.
static int64_t *missing_times(const struct prepare *prepare, const struct batch_group *group,
                              size_t *count)
{
    int64_t *times = NULL;
    size_t capacity = 0;
    *count = 0;
    for (size_t row = 0; row < group->count; row++) {
        if (!is_missing(prepare, group, row))
            continue;
        times = mem_grow(times, *count, &capacity, sizeof *times);
        times[(*count)++] = row_time(group, row);
    }
    return times;
}

bool prepare_batch(struct prepare *prepare, struct batch *batch)
{
    for (size_t i = 0; i < batch->group_count; i++) {
        struct batch_group *group = &batch->groups[i];
        size_t count;
        int64_t *times = missing_times(prepare, group, &count);
        if (!times)
            continue;
        catalog_need(prepare->catalog, group->target, times, count, answered,
                     wait(prepare, batch, group));
        free(times);
        return false;
    }
    return true;
}

void prepare_refresh(struct prepare *prepare, struct batch *batch, struct batch_group *group)
{
    catalog_refresh(prepare->catalog, group->target, answered, wait(prepare, batch, group));
}

struct batch *prepare_take(struct prepare *prepare)
{
    list_each (node, &prepare->waiting) {
        struct waiting *waiting = list_entry(node, struct waiting, node);
        struct batch *batch = waiting->batch;
        waiting->batch = NULL; // the catalog still answers
        if (batch)
            return batch;
    }
    return NULL;
}

bool prepare_idle(const struct prepare *prepare)
{
    list_each (node, &prepare->waiting)
        if (list_entry(node, struct waiting, node)->batch)
            return false;
    return true;
}

void prepare_each(const struct prepare *prepare, void (*fn)(void *arg, struct batch *batch),
                  void *arg)
{
    list_each (node, &prepare->waiting) {
        struct batch *batch = list_entry(node, struct waiting, node)->batch;
        if (batch)
            fn(arg, batch);
    }
}
