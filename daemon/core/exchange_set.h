// A set of QoS 2 identifiers: (session, packet identifier).
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct exchange_id {
    uint64_t session; // never 0
    uint64_t content; // as of struct message; 0: unknown
    uint16_t packet_id;
};

struct exchange_set {
    struct exchange_id *slots; // a power of two of them, at most half in use; session 0: free
    size_t capacity, count;
};

void exchange_set_fini(struct exchange_set *set); // empty afterwards, and usable
// Until the next change of the set; content is the caller's to fill in.
struct exchange_id *exchange_set_add(struct exchange_set *set, uint64_t session,
                                     uint16_t packet_id);
void exchange_set_remove(struct exchange_set *set, uint64_t session, uint16_t packet_id);
// Or NULL.
const struct exchange_id *exchange_set_find(const struct exchange_set *set, uint64_t session,
                                            uint16_t packet_id);
bool exchange_set_has(const struct exchange_set *set, uint64_t session, uint16_t packet_id);
