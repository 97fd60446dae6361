// What people see of the batch writer.
#include <stdio.h>

#include "store/writer_internal.h"

const struct writer_counters *writer_counters(struct writer *writer)
{
    struct writer_counters *counters = &writer->counters;
    counters->commits = writer->lane_counters.commits;
    counters->failures = writer->lane_counters.failures;
    counters->resolved_committed = writer->lane_counters.resolved_committed;
    counters->resolved_repeated = writer->lane_counters.resolved_repeated;
    return counters;
}

static void find_oldest(void *arg, struct batch *batch)
{
    int64_t *oldest_us = arg, time_us = batch_oldest_us(batch);
    if (time_us < *oldest_us)
        *oldest_us = time_us;
}

int64_t writer_lag_ms(const struct writer *writer)
{
    int64_t oldest_us = INT64_MAX, now_us = loop_wall_us();
    writer_each_batch(writer, find_oldest, &oldest_us);
    return oldest_us < now_us ? (now_us - oldest_us) / 1000 : 0;
}

unsigned writer_usable(const struct writer *writer)
{
    unsigned usable = 0;
    for (unsigned i = 0; i < writer->options.connections; i++)
        usable += lane_usable(writer->lanes[i]);
    return usable;
}

bool writer_commits(const struct writer *writer)
{
    return writer_usable(writer) > 0 && !writer_refused(writer);
}

const char *writer_state(struct writer *writer)
{
    unsigned usable = writer_usable(writer);
    bool all = usable == writer->options.connections;
    if (all && !writer_refused(writer))
        return "ok";
    const char *trouble = "";
    for (unsigned i = 0; i < writer->options.connections; i++)
        if ((all || !lane_usable(writer->lanes[i])) && *lane_trouble(writer->lanes[i]))
            trouble = lane_trouble(writer->lanes[i]);
    snprintf(writer->state, sizeof writer->state, "%u of %u connections: %s", usable,
             writer->options.connections, trouble);
    return writer->state;
}
