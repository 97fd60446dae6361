// Counters that must balance.
#include "core/books.h"

const char *verdict_name(enum verdict verdict)
{
    static const char *const names[VERDICT_COUNT] = {
        [VERDICT_NONE] = "none",         [VERDICT_SKIPPED] = "skipped",
        [VERDICT_DROPPED] = "dropped",   [VERDICT_DEDUPLICATED] = "deduplicated",
        [VERDICT_STORED] = "stored",     [VERDICT_SPOOLED] = "spooled",
        [VERDICT_REJECTED] = "rejected", [VERDICT_ABANDONED] = "abandoned",
    };
    return names[verdict];
}

uint64_t books_pending(const struct books *books)
{
    uint64_t settled = 0;
    for (int i = 0; i < VERDICT_COUNT; i++)
        settled += books->verdicts[i];
    return books->received - settled;
}
