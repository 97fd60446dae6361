// Counters that must balance: received = the sum of the verdicts + pending.
#pragma once

#include <stdbool.h>
#include <stdint.h>

// In the order of weight: of the parts of one message the greatest is the message's.
enum verdict {
    VERDICT_NONE,
    VERDICT_SKIPPED,
    VERDICT_DROPPED,
    VERDICT_DEDUPLICATED,
    VERDICT_STORED,
    VERDICT_SPOOLED,
    VERDICT_REJECTED,
    VERDICT_ABANDONED,
    VERDICT_COUNT,
};

struct books {
    uint64_t received;
    uint64_t verdicts[VERDICT_COUNT]; // [VERDICT_NONE] stays 0
};

// Lower-case name, for logs and metrics.
const char *verdict_name(enum verdict verdict);

static inline void books_receive(struct books *books)
{
    books->received++;
}

static inline void books_settle(struct books *books, enum verdict verdict)
{
    books->verdicts[verdict]++;
}

// Received and not settled yet.
uint64_t books_pending(const struct books *books);
