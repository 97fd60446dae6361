// The ranges of time that a table takes rows of.
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "store/catalog_internal.h"

void catalog_ranges_clear(struct catalog_table *table)
{
    table->range_count = table->last = 0;
}

// The index of the first range that ends after the time.
static size_t find(const struct catalog_table *table, int64_t time_us)
{
    size_t low = 0, high = table->range_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (table->ranges[middle].to <= time_us)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void catalog_ranges_add(struct catalog_table *table, struct partition_range range)
{
    size_t at = find(table, range.from);
    table->ranges =
        mem_grow(table->ranges, table->range_count, &table->range_capacity, sizeof *table->ranges);
    memmove(table->ranges + at + 1, table->ranges + at,
            (table->range_count - at) * sizeof *table->ranges);
    table->ranges[at] = range;
    table->range_count++;
}

static bool contains(const struct partition_range *range, int64_t time_us)
{
    return range->from <= time_us && time_us < range->to;
}

bool catalog_ranges_has(struct catalog_table *table, int64_t time_us)
{
    if (table->shape != SHAPE_RANGES)
        return table->shape == SHAPE_ANY;
    if (table->last < table->range_count && contains(&table->ranges[table->last], time_us))
        return true;
    size_t at = find(table, time_us);
    if (at == table->range_count || !contains(&table->ranges[at], time_us))
        return false;
    table->last = at;
    return true;
}

bool catalog_ranges_cut(const struct catalog_table *table, int64_t time_us,
                        struct partition_range *range)
{
    struct partition_range whole = *range;
    size_t after = find(table, time_us);
    if (after > 0 && table->ranges[after - 1].to > range->from)
        range->from = table->ranges[after - 1].to;
    if (after < table->range_count && table->ranges[after].from < range->to)
        range->to = table->ranges[after].from;
    return range->from != whole.from || range->to != whole.to;
}

size_t catalog_ahead(struct catalog_table *table, int64_t now_us, int64_t times[CATALOG_AHEAD])
{
    size_t count = 0;
    if (table->shape != SHAPE_RANGES || table->target_count == 0 || now_us < table->ahead_due_us)
        return 0;
    struct partition_range period = {.to = now_us};
    for (int i = 0; i < CATALOG_AHEAD; i++) {
        int64_t time = period.to;
        if (!partition_range_of(table->partition_by, time, &period))
            break;
        if (!catalog_ranges_has(table, time))
            times[count++] = time;
    }
    return count;
}
