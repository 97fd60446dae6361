// The $SYS topics: what monitoring tools know of a broker.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"
#include "broker/session.h"

// What sessions do not know; the clients count, from the start on.
struct sys_counters {
    size_t clients, clients_maximum; // connected, and the most of them at a time
    size_t taps;                     // sessions of the process itself
    uint64_t sockets;                // connections that were accepted
    uint64_t connects;               // of which a CONNECT was accepted
    uint64_t expired;                // sessions that ended because their expiry had passed
    uint64_t packets_received, bytes_received;         // of any type
    uint64_t answers_sent, answer_bytes_sent;          // but PUBLISH, which sessions count
    uint64_t publish_received, publish_received_bytes; // PUBLISH packets, and their payloads
};

struct sys;

// Publishes what has changed every interval seconds (0: never), retained, beginning from the loop
// at once. The others must outlive it.
struct sys *sys_new(struct loop *loop, struct sessions *sessions,
                    const struct sys_counters *counters, uint32_t interval);
void sys_free(struct sys *sys);
// After a reload.
void sys_set_interval(struct sys *sys, uint32_t interval);
