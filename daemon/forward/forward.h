// Relays messages to an upstream broker with paho.mqtt.c, at least once: what it is given it keeps
// nowhere, and says when the upstream has taken it over.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/loop.h"
#include "base/worker.h"

// Filled by the configuration, which owns the texts; NULL: not given.
struct forward_options {
    char *name; // of the section
    char *uri;  // as configured, for people
    char *host;
    uint16_t port;
    bool tls;
    char **filters; // what is relayed
    size_t filter_count;
    char *prefix;    // stands before each topic
    char *client_id; // at the upstream broker
    char *username, *password_file;
    uint8_t qos;        // at most
    uint16_t window;    // unacknowledged messages
    uint16_t keepalive; // seconds
    char *ca_file;      // NULL: the system's
    char *certificate_file, *key_file;
    bool verify; // the upstream's certificate and its name
};

// The forward's calls upward, wired by relay.c; from the loop, never from within a call of it.
struct forward_calls {
    void (*open)(void *arg);  // connected: forward_deliver may be called, and begins anew
    void (*close)(void *arg); // no longer: what is not done will have to be delivered again
    void (*done)(void *arg, uint16_t packet_id); // QoS 1 and 2: the upstream has taken it over
    void *arg;
};

struct forward_message {
    struct bytes topic, payload;
    struct bytes properties; // encoded, as in a PUBLISH of MQTT 5, without their length
    int64_t expires_ms;      // loop_now_ms; INT64_MAX: never
    uint16_t packet_id;      // 0 with QoS 0
    uint8_t qos;
    bool retain;
};

struct forward_status {
    const char *state; // "connected", "connecting", "down: connection refused"; until the next call
    bool connected;
    uint64_t connects;
    uint64_t forwarded; // taken over by the upstream; of QoS 0: written
    uint64_t dropped;   // QoS 0 that could not be sent, and what the upstream refuses for good
};

struct forward;

// paho is a worker of a single thread, for the forwards alone, which all share it: paho's calls
// block. names looks up host names. The others must outlive it. Starts nothing yet.
struct forward *forward_new(struct loop *loop, struct worker *names, struct worker *paho,
                            const struct forward_options *options,
                            const struct forward_calls *calls);
// What paho still does is left to it; before worker_free of both.
void forward_free(struct forward *forward);
// Connects, and goes on trying; the passwords and certificates are read at each attempt.
void forward_start(struct forward *forward);
// Copies the message. Between open and close alone, and of QoS 1 and 2 at most window at a time.
void forward_deliver(struct forward *forward, const struct forward_message *message);
// Nothing more is to be delivered: waits a moment for what is in flight, sends DISCONNECT; then
// done, from the loop, never from within this call. The caller bounds it in time.
void forward_stop(struct forward *forward, loop_fn *done, void *arg);
void forward_status(const struct forward *forward, struct forward_status *status);
