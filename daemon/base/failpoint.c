// Points at which a test lets the process die.
#include "base/failpoint.h"

#ifdef FAILPOINTS

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

void failpoint_cross(const char *name)
{
    static atomic_ulong crossings;
    const char *wanted = getenv("SENSORLOGD_FAILPOINT");
    size_t length = strlen(name);
    if (!wanted || strncmp(wanted, name, length) != 0 || (wanted[length] && wanted[length] != ':'))
        return;
    unsigned long due = wanted[length] ? strtoul(wanted + length + 1, NULL, 10) : 1;
    if (atomic_fetch_add(&crossings, 1) + 1 == due)
        raise(SIGKILL);
}

#endif
