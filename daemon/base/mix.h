// A fast number for bytes, to tell contents apart. It need not resist anybody who chooses the bytes.
#pragma once

#include <stdint.h>
#include <string.h>

#include "base/bytes.h"

// Sixteen bytes, mixed in by one multiplication.
static inline uint64_t mix_words(uint64_t mix, const uint64_t words[2])
{
    unsigned __int128 product =
        (unsigned __int128)(words[0] ^ UINT64_C(0x9E3779B97F4A7C15)) * (words[1] ^ mix);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

// That of what came before (at first any number), followed by these bytes.
static inline uint64_t mix_add(uint64_t mix, struct bytes bytes)
{
    uint64_t words[2];
    size_t at = 0;
    for (; bytes.length - at >= sizeof words; at += sizeof words) {
        memcpy(words, bytes.data + at, sizeof words);
        mix = mix_words(mix, words);
    }
    words[0] = words[1] = 0;
    if (at < bytes.length)
        memcpy(words, bytes.data + at, bytes.length - at);
    return mix_words(mix, words) + bytes.length;
}
