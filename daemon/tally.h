// What became of rejected messages in a replay.
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct tally {
    uint64_t stored, known, refused;        // replayed
    uint64_t unwanted, incomplete, stopped; // left where they are
    uint64_t taken;                         // by another replay
};

uint64_t tally_replayed(const struct tally *tally);
uint64_t tally_left(const struct tally *tally);
void tally_add(struct tally *sum, const struct tally *tally);
// On standard output, without a newline; dry: of what would become of them.
void tally_print(const struct tally *tally, bool dry);
