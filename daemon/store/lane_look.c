// What a new connection looks at: whether the server keeps what it commits.
#include "base/log.h"
#include "store/lane_internal.h"
#include "store/look.h"

// A COMMIT that does not wait for the disk would break the promise of the acknowledgement.
static const char switch_durable[] =
    "SELECT pg_catalog.set_config('synchronous_commit', 'on', false)"
    " WHERE pg_catalog.current_setting('synchronous_commit') = 'off'";

// Every lane would find the same.
static void looked(void *arg, const struct pg_result *result)
{
    struct lane *lane = arg;
    lane_check(lane, result);
    if (!result->ok || lane->number != 0)
        return;
    unsigned found = look_findings(result), before = lane->looked;
    lane->looked = found;
    for (unsigned i = 0; i < LOOK_COUNT; i++) {
        if (found & ~before & 1U << i)
            log_warn("postgres: %s: %s", look_name(i), look_meaning(i));
        else if (before & ~found & 1U << i)
            log_info("postgres: no longer: %s", look_name(i));
    }
}

bool lane_look(struct lane *lane)
{
    return pg_query(lane->pg, look_sql(), NULL, looked, lane) &&
           pg_query(lane->pg, switch_durable, NULL, lane_check, lane);
}
