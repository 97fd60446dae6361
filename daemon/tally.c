// What became of rejected messages in a replay.
#include "tally.h"

#include <inttypes.h>
#include <stdio.h>

uint64_t tally_replayed(const struct tally *tally)
{
    return tally->stored + tally->known + tally->refused;
}

uint64_t tally_left(const struct tally *tally)
{
    return tally->unwanted + tally->incomplete + tally->stopped;
}

void tally_add(struct tally *sum, const struct tally *tally)
{
    sum->stored += tally->stored;
    sum->known += tally->known;
    sum->refused += tally->refused;
    sum->unwanted += tally->unwanted;
    sum->incomplete += tally->incomplete;
    sum->stopped += tally->stopped;
    sum->taken += tally->taken;
}

static void print_left(uint64_t count, const char *why)
{
    if (count > 0)
        printf("; %" PRIu64 " left: %s", count, why);
}

void tally_print(const struct tally *tally, bool dry)
{
    uint64_t count = tally_replayed(tally);
    const char *plural = count == 1 ? "" : "s";
    if (dry)
        printf("of %" PRIu64 " message%s %" PRIu64 " would be stored", count, plural,
               tally->stored);
    else
        printf("replayed %" PRIu64 " message%s: %" PRIu64 " stored", count, plural, tally->stored);
    if (tally->known > 0)
        printf(", %" PRIu64 " %s there already", tally->known, tally->known == 1 ? "was" : "were");
    if (tally->refused > 0)
        printf(", %" PRIu64 " %srefused again", tally->refused, dry ? "would be " : "");
    print_left(tally->unwanted, "no mapping takes them");
    print_left(tally->incomplete, "only the beginning of the payload was kept");
    print_left(tally->stopped, "their mapping is stopped, see above");
    if (tally->taken > 0)
        printf("; %" PRIu64 " taken by another replay meanwhile", tally->taken);
}
