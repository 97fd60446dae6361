// How much may be in the spool's file: what the configuration allows, or what the disk has room for
// where that is less. A disk that the spool itself has filled could not even take that entries go.
#pragma once

#include <stdint.h>

struct spool_room {
    const char *path; // of the file, not owned
    uint64_t max_bytes;
    int64_t looked_ms; // when, and with how many bytes in the file; 0: not yet
    uint64_t looked_bytes, limit;
};

// Bytes that entries may take now. bytes: what they take, pending: of that, what is not written
// yet.
uint64_t spool_room_limit(struct spool_room *room, uint64_t bytes, uint64_t pending);
