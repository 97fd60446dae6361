// QoS 2 from publishers: the receiver's half, from PUBLISH to PUBCOMP [MQTT-4.3.3-8 to -12].
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/publication.h"

struct session;
struct state_incoming;

enum exchange_phase {
    EXCHANGE_PENDING,   // no PUBREC is due yet: a commit, or the state file, is waited for
    EXCHANGE_RECEIVED,  // PUBREC is due or sent
    EXCHANGE_RELEASING, // PUBREL has come: its identifier is being forgotten, then PUBCOMP
};

struct exchange {
    struct publication *publication; // to deliver at PUBREL; NULL: nobody wants it
    uint64_t connection;             // the client's id that PUBREL came from, last
    uint32_t serial;                 // of this exchange among all that had its identifier
    uint16_t packet_id;
    uint8_t phase;
    uint8_t waits;  // what the next acknowledgement still waits for
    uint8_t reason; // of that acknowledgement
    bool stored;    // it is in the state file
    bool mapped;    // its rows, and the identifier, are in PostgreSQL, or on their way there
    bool unsure;    // mapped, and loaded: PostgreSQL may not have it, if PUBREC was never sent
    bool failed;    // PUBREC will have a reason of 0x80 or more: the exchange ends with it
};

struct exchange *incoming_find(const struct session *session, uint16_t packet_id);
uint32_t incoming_count(const struct session *session);
// The pointer is valid until the next add or remove. There is none with this identifier.
struct exchange *incoming_add(struct session *session, uint16_t packet_id);
void incoming_remove(struct session *session, uint16_t packet_id);
void incoming_free(struct session *session);
// What the state file held: phase RECEIVED. Holds the publication, which may be NULL.
void incoming_load(struct session *session, const struct state_incoming *stored,
                   struct publication *publication);
