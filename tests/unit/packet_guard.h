// A copy of bytes that ends where its page ends: reading one byte too far is a fault.
#pragma once

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"

#define GUARD_PAGES 20

// Valid until the next call.
static inline struct bytes guard_copy(struct bytes source)
{
    static uint8_t *end;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), size = GUARD_PAGES * page;
    if (!end) {
        uint8_t *start =
            mmap(NULL, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (start == MAP_FAILED || mprotect(start + size, page, PROT_NONE) != 0)
            abort();
        end = start + size;
    }
    if (source.length > size)
        abort();
    if (source.length > 0)
        memcpy(end - source.length, source.data, source.length);
    return (struct bytes){end - source.length, source.length};
}
