// Points at which a test lets the process die as if by kill -9. They are there in a build for tests
// alone (make FAILPOINTS=1).
#pragma once

#ifdef FAILPOINTS
// Dies at the Nth crossing of the point that SENSORLOGD_FAILPOINT names ("committed:3"; the first
// without a number). From any thread.
void failpoint_cross(const char *name);
#define FAILPOINT(name) failpoint_cross(name)
#else
#define FAILPOINT(name) ((void)0)
#endif
