// Operations that become durable together, in a compact form, and who waits for them. The loop's
// until it is submitted to the disk, which only reads it.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "broker/state.h"

enum state_op_kind {
    STATE_NOTHING, // cancelled
    STATE_SESSION,
    STATE_SESSION_GONE,
    STATE_SUBSCRIPTION,
    STATE_SUBSCRIPTION_GONE,
    STATE_WILL, // publication NULL: it is gone
    STATE_DELIVERY,
    STATE_DELIVERY_RELEASED,
    STATE_DELIVERY_GONE,
    STATE_INCOMING,
    STATE_INCOMING_GONE,
    STATE_RETAINED, // data: the topic; publication NULL: it is gone
};

struct state_op {
    uint8_t kind;
    uint8_t qos, phase;
    bool retain, sent, mapped;
    uint16_t packet_id;
    uint32_t length, delay; // length: of data
    uint64_t session;
    union {
        struct publication *publication; // held by what puts, or NULL
        int64_t publication_id;          // in what is gone; 0: none, or not known
    };
    void *data; // in the arena: what the kind needs
};

struct state_wait {
    state_fn *fn;
    void *arg;
    uint64_t a, b;
    size_t position; // all operations before this one, and past ones, are waited for
};

struct state_writer;

struct state_batch {
    struct state *state;
    struct state_writer *writer; // who puts it into the database
    struct budget *budget;
    struct state_op *ops;
    size_t op_count, op_capacity;
    size_t live;  // not cancelled
    size_t first; // none before it is live
    size_t past;  // operations that were forgotten because all were cancelled
    struct state_wait *waits;
    size_t wait_count, wait_capacity;
    uint32_t *slots; // hash table of what is looked up: a position in ops + 1, 0: free
    size_t slot_count, slots_used;
    struct arena arena;
    size_t charged; // bytes of the budget
    bool attempted; // the disk's: this is not the first time
};

struct state_batch *state_batch_new(struct state *state, struct state_writer *writer,
                                    struct budget *budget);
void state_batch_free(struct state_batch *batch);
// Empty again, publications let go, memory of ordinary size kept.
void state_batch_reset(struct state_batch *batch);
// Appends; the pointer is valid until the next append.
struct state_op *state_batch_add(struct state_batch *batch, enum state_op_kind kind,
                                 uint64_t session, uint16_t packet_id);
// The same, to be found by kind, session and packet identifier.
struct state_op *state_batch_add_findable(struct state_batch *batch, enum state_op_kind kind,
                                          uint64_t session, uint16_t packet_id);
// A copy in the batch's memory, with a NUL behind it.
void *state_batch_copy(struct state_batch *batch, const void *data, size_t length);
struct state_op *state_batch_find(const struct state_batch *batch, enum state_op_kind kind,
                                  uint64_t session, uint16_t packet_id); // or NULL
void state_batch_cancel(struct state_batch *batch, struct state_op *op);
void state_batch_wait(struct state_batch *batch, const struct state_wait *wait);
// Calls, in order, those who wait for nothing that is live; with all, everybody. What they write
// and wait for goes to an open batch, which may be this one.
void state_batch_call_waits(struct state_batch *batch, bool all);
