// The sending half of a client: deliveries of its session as PUBLISH packets.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/session.h"
#include "mqtt/conn.h"

struct alias_table; // topics that have an alias on this connection [MQTT-3.3.2-7]

// Embedded in the client; the client fills it when its CONNECT is accepted.
struct client_send {
    struct sink sink; // first
    struct conn *conn;
    struct sessions *sessions; // for its counters, and the budget of what aliases take
    uint32_t packet_max;       // Maximum Packet Size of the client; UINT32_MAX: none
    size_t unsent_max;         // bytes from which on the reader is slow
    struct alias_table *aliases;
    uint16_t alias_max; // Topic Alias Maximum of the client, bounded by ours; 0: none
    uint8_t version;
};

// Sets sink.calls; the other fields are the caller's.
void client_send_init(struct client_send *send);
void client_send_fini(struct client_send *send);
