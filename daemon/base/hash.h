// A fast hash of bytes: for tables, with a seed that strangers do not know, and to tell contents
// apart.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>

// A number for one process or one table.
static inline uint64_t hash_seed(void)
{
    uint64_t seed;
    // Eight bytes come whole once the kernel has gathered randomness, which it waits for.
    while (getrandom(&seed, sizeof seed, 0) != sizeof seed)
        ;
    return seed;
}

static inline uint64_t hash_mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

// With the hash of what comes before as its seed, the hash of both together.
static inline uint64_t hash_add(uint64_t seed, const void *data, size_t length)
{
    const uint64_t odd = UINT64_C(0x9E3779B97F4A7C15);
    const unsigned char *at = data;
    uint64_t hash = seed ^ length, word;
    for (; length >= sizeof word; at += sizeof word, length -= sizeof word) {
        memcpy(&word, at, sizeof word);
        hash = hash_mix(hash ^ word, odd ^ seed);
    }
    word = 0;
    if (length > 0)
        memcpy(&word, at, length);
    return hash_mix(hash ^ word, odd);
}

static inline uint32_t hash_bytes(uint64_t seed, const void *data, size_t length)
{
    return (uint32_t)hash_add(seed, data, length);
}
