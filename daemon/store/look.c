// Settings of the server that weaken the promise.
#include "store/look.h"

#include <stdio.h>
#include <string.h>

#define SETTING(name) "pg_catalog.current_setting('" name "')"
// Where no standby is synchronous, these are as good as "on".
#define WITH_STANDBYS " AND " SETTING("synchronous_standby_names") " <> ''"

static const struct {
    const char *condition, *name, *meaning;
} findings[LOOK_COUNT] = {
    {SETTING("synchronous_commit") " = 'off'", "synchronous_commit is off here",
     "sensorlogd's connections switch it on, since an acknowledged reading must survive a crash"},
    {SETTING("synchronous_commit") " = 'local'" WITH_STANDBYS, "synchronous_commit is local",
     "a COMMIT does not wait for the synchronous standbys: after a failover to one of them "
     "acknowledged readings may be missing"},
    {SETTING("synchronous_commit") " = 'remote_write'" WITH_STANDBYS,
     "synchronous_commit is remote_write",
     "a COMMIT does not wait for the disks of the synchronous standbys: after a failover to one "
     "that lost its power too acknowledged readings may be missing"},
    {SETTING("fsync") " = 'off'", "fsync is off",
     "when the server's machine crashes or loses power, acknowledged readings are lost, and maybe "
     "the whole cluster"},
    {SETTING("full_page_writes") " = 'off'", "full_page_writes is off",
     "a loss of power may destroy pages of tables, and acknowledged readings in them, unless the "
     "file system writes each page as a whole"},
    {"pg_catalog.pg_is_in_recovery()", "the server is a standby",
     "it takes no rows, so nothing is acknowledged: let conninfo lead to the primary, for example "
     "by all hosts and target_session_attrs=read-write"},
    {SETTING("default_transaction_read_only") " = 'on'", "default_transaction_read_only is on here",
     "sensorlogd's transactions write nevertheless"},
};

// The conditions, in the order of the findings.
const char *look_sql(void)
{
    static char sql[1024] = "SELECT ";
    size_t used = strlen("SELECT ");
    for (unsigned i = 0; i < LOOK_COUNT; i++)
        used += (size_t)snprintf(sql + used, sizeof sql - used, "%s%s", i > 0 ? ", " : "",
                                 findings[i].condition);
    return sql;
}

unsigned look_findings(const struct pg_result *result)
{
    unsigned found = 0;
    for (unsigned i = 0; result->ok && i < LOOK_COUNT; i++)
        found |= (unsigned)(*pg_value(result, 0, (int)i) == 't') << i;
    return found;
}

const char *look_name(unsigned index)
{
    return findings[index].name;
}

const char *look_meaning(unsigned index)
{
    return findings[index].meaning;
}
