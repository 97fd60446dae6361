// Rows and rejects that commit in one transaction, and the messages they came from.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/mem.h"
#include "core/message.h"
#include "core/row.h"
#include "store/target.h"

// The rows of one target, in order of arrival.
struct batch_group {
    struct target *target;
    struct value *values;      // count * target->column_count
    struct message **messages; // the one each row came from, held
    uint8_t *outcomes;         // enum verdict per row, VERDICT_NONE until it is known
    size_t count, capacity;
    size_t refused; // rows with the outcome VERDICT_REJECTED: they are not sent
};

struct batch_reject {
    struct message *message; // held, unless of_row
    struct target *target;   // whose part it is; NULL where it is the whole message
    const char *reason;      // static text
    const char *detail;      // in the arena, or NULL
    char sqlstate[6];        // "" where PostgreSQL was not asked
    bool of_row;             // it stands for a refused row of a group, which settles it
};

struct batch {
    struct list node;           // for whoever queues batches
    struct arena arena;         // bytes of values and details
    struct batch_group *groups; // by target->index
    size_t group_count;
    struct batch_reject *rejects;
    size_t reject_count, reject_capacity;
    size_t row_count;         // over all groups
    size_t value_bytes;       // of their values that are bytes, and of the rejects' payloads
    size_t charged;           // bytes of the budget, beside the messages' own
    size_t arena_charged;     // of them, for the arena
    unsigned attempts;        // of sending it, for whoever sends
    unsigned partition_tries; // of them, those that ended for want of a partition
    struct budget *budget;
};

struct batch *batch_new(struct budget *budget);
void batch_free(struct batch *batch); // must be settled or empty
bool batch_empty(const struct batch *batch);
// When its oldest message arrived, microseconds since 1970; INT64_MAX where it is empty.
int64_t batch_oldest_us(const struct batch *batch);
// Room for one row of target, to be filled and then kept by batch_keep_row; a reserve that is not
// kept is undone by the next one. The pointer is valid until then.
struct value *batch_reserve_row(struct batch *batch, struct target *target);
// Keeps the row reserved last, holding the message.
void batch_keep_row(struct batch *batch, struct target *target, struct message *message);
// Adds a reject, holding the message; detail (may be NULL) and sqlstate ("" or five letters) are
// copied.
void batch_add_reject(struct batch *batch, struct target *target, struct message *message,
                      const char *reason, const char *detail, const char *sqlstate);
// Turns a row into a reject.
void batch_refuse_row(struct batch *batch, struct batch_group *group, size_t row,
                      const char *reason, const char *detail, const char *sqlstate);
// Forgets the outcomes of an attempt, but for the refused rows.
void batch_reset_outcomes(struct batch *batch);
// Releases every message with the outcome of its rows (no outcome yet: STORED; rejects: REJECTED)
// or all with VERDICT_ABANDONED; does the targets' books; leaves the batch empty for reuse.
void batch_settle(struct batch *batch);
void batch_abandon(struct batch *batch);
