// What the files of a batch share: what goes in and how it ends (batch.c), a batch in two
// (batch_split.c).
#pragma once

#include "store/batch.h"

// Charges bytes, and what the arena has grown by.
void batch_charge(struct batch *batch, size_t bytes);
// What a row is charged beside its bytes in the arena.
size_t batch_row_charge(const struct target *target);
// What counts of them as value_bytes: bytes in the statement, at most.
size_t batch_row_bytes(const struct target *target, const struct value *row);
size_t batch_reject_bytes(const struct batch_reject *reject);
