// Rows and rejects that commit in one transaction, and the messages they came from.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/mem.h"
#include "core/exchange_set.h"
#include "core/message.h"
#include "core/row.h"
#include "store/target.h"

// The rows of one target, in order of arrival.
struct batch_group {
    struct target *target;
    struct value *values;      // count * target->column_count
    size_t columns;            // per row, that values has room for
    struct message **messages; // the one each row came from, held
    uint8_t *outcomes;         // enum verdict per row, VERDICT_NONE until it is known
    size_t count, capacity;
    size_t refused;   // rows with the outcome VERDICT_REJECTED: they are not sent
    size_t conflicts; // rows whose key was there with other values, in this attempt
};

struct batch_reject {
    struct message *message; // held, unless of_row
    struct target *target;   // whose part it is; NULL where it is the whole message
    const char *reason;      // static text
    const char *detail;      // in the arena, or NULL
    char sqlstate[6];        // "" where PostgreSQL was not asked
    bool of_row;             // it stands for a refused row of a group, which settles it
    bool for_now;            // only in this attempt; then detail is its own
    size_t row;              // of_row: which one
};

// A QoS 2 identifier that is stored, or deleted, in the transaction.
struct batch_exchange {
    uint64_t session;
    uint64_t content; // of what is stored; see struct message
    uint64_t number;  // of the message; 0 of a forget
    uint16_t packet_id;
    bool forget;
    bool told;  // of a forget: somebody waits for it
    bool ended; // of what is stored: its session is no more, so it is to be forgotten afterwards
};

struct batch {
    struct list node;           // for whoever queues batches
    struct arena arena;         // bytes of values and details
    struct batch_group *groups; // by target->index
    size_t group_count;
    struct batch_reject *rejects;
    size_t reject_count, reject_capacity;
    struct batch_exchange *exchanges;
    size_t exchange_count, exchange_capacity, forget_count;
    int64_t spool_from, spool_to; // entries of the spool, after .. through; to 0: it has none
    int64_t *taken;               // entries of the reject table, which go in the transaction
    size_t taken_count, taken_capacity;
    size_t row_count;         // over all groups
    size_t value_bytes;       // of their values that are bytes, and of the rejects
    size_t charged;           // bytes of the budget, beside the messages' own
    size_t arena_charged;     // of them, for the arena
    size_t for_now;           // bytes of the rejects of this attempt
    size_t for_now_charged;   // of what is charged, for them
    bool repeated;            // some message may have come before: it has the flag DUP
    unsigned attempts;        // of sending it, for whoever sends
    unsigned partition_tries; // of them, those that ended for want of a partition
    struct budget *budget;
};

struct batch *batch_new(struct budget *budget);
void batch_free(struct batch *batch); // must be settled or empty
// Rows, rejects, forgets, and that entries are done with: what makes a transaction due.
static inline size_t batch_content(const struct batch *batch)
{
    return batch->row_count + batch->reject_count + batch->forget_count + (batch->spool_to > 0);
}

static inline bool batch_empty(const struct batch *batch)
{
    return batch_content(batch) == 0;
}

// When its oldest message arrived, microseconds since 1970; INT64_MAX where it is empty.
int64_t batch_oldest_us(const struct batch *batch);
// Room for one row of target, to be filled and then kept by batch_keep_row; a reserve that is not
// kept is undone by the next one. The pointer is valid until then.
struct value *batch_reserve_row(struct batch *batch, struct target *target);
// Keeps the row reserved last, holding the message; its QoS 2 identifier goes with it, if it has
// one, as with its rejects.
void batch_keep_row(struct batch *batch, struct target *target, struct message *message);
// Adds a reject, holding the message; detail (may be NULL) and sqlstate ("" or five letters) are
// copied.
void batch_add_reject(struct batch *batch, struct target *target, struct message *message,
                      const char *reason, const char *detail, const char *sqlstate);
// The entry of the spool is done with, and nothing is to be stored for it.
void batch_pass_entry(struct batch *batch, int64_t entry);
// The identifier is deleted; told as above.
void batch_forget_exchange(struct batch *batch, uint64_t session, uint16_t packet_id, bool told);
// Marks what is stored of the sessions, which are in the set under identifier 0, as ended.
void batch_end_sessions(struct batch *batch, const struct exchange_set *sessions);
// Turns a row into a reject.
void batch_refuse_row(struct batch *batch, struct batch_group *group, size_t row,
                      const char *reason, const char *detail, const char *sqlstate);
// The same, until batch_reset_outcomes or batch_judge_again.
void batch_refuse_row_for_now(struct batch *batch, struct batch_group *group, size_t row,
                              const char *reason, const char *detail, const char *sqlstate);
// Forgets who was refused for now.
void batch_judge_again(struct batch *batch);
// Forgets the outcomes of an attempt, but for the rows that are refused for good.
void batch_reset_outcomes(struct batch *batch);
// Moves the later half of the messages, by order of arrival, with all that is theirs, to another
// batch, which is empty; what is to be forgotten goes with what is stored anew under the same
// identifier, else it stays. The batch is not committed, for certain, and no row is refused for
// now. False, and nothing is moved, where all came from one message: batch_may_split.
bool batch_may_split(const struct batch *batch);
bool batch_split(struct batch *batch, struct batch *later);
// Releases every message with the outcome of its rows (no outcome yet: STORED; rejects: REJECTED)
// or all with VERDICT_ABANDONED; does the targets' books; leaves the batch empty for reuse.
void batch_settle(struct batch *batch);
void batch_abandon(struct batch *batch);
// The same where the messages, which the caller holds, go into the spool: the parts are SPOOLED,
// the messages are released without a verdict. Those that the spool gave are abandoned: they are
// still in its file.
void batch_unload(struct batch *batch);
