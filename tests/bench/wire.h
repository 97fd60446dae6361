// The little MQTT that the benchmark's own broker, publisher and subscriber need, on one
// connection.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WIRE_BUFFER = 1 << 18, WIRE_PACKET_MAX = 512 };

enum {
    WIRE_CONNECT = 1,
    WIRE_CONNACK = 2,
    WIRE_PUBLISH = 3,
    WIRE_PUBACK = 4,
    WIRE_SUBSCRIBE = 8,
    WIRE_SUBACK = 9,
    WIRE_UNSUBSCRIBE = 10,
    WIRE_UNSUBACK = 11,
    WIRE_PINGREQ = 12,
    WIRE_PINGRESP = 13,
    WIRE_DISCONNECT = 14,
};

struct wire {
    int fd; // non-blocking
    size_t in_start, in_end, out_length;
    uint8_t in[WIRE_BUFFER], out[WIRE_BUFFER];
};

struct wire_packet {
    uint8_t type, flags;
    const uint8_t *body; // valid until more is read
    size_t length;
};

// Connects to port of this machine; ends the program where that fails.
void wire_connect(struct wire *wire, uint16_t port);
// A socket that listens on port of this machine; ends the program where that fails.
int wire_listen(uint16_t port);
// Waits for a connection to the listening socket, and takes it; ends the program where that fails.
void wire_take(struct wire *wire, int listener);
// Waits for one connection to port of this machine, and takes it.
void wire_accept(struct wire *wire, uint16_t port);
// Waits until bytes can be read or the waiting ones written, and does so. False when the peer is
// gone.
bool wire_pump(struct wire *wire);
// Reads or writes what can be read or written at once. False when the peer is gone.
bool wire_read(struct wire *wire);
bool wire_write(struct wire *wire);
// The next whole packet of those that have been read.
bool wire_next(struct wire *wire, struct wire_packet *packet);
// Pumps until a packet is there; ends the program when it has another type or the peer is gone.
void wire_expect(struct wire *wire, uint8_t type, struct wire_packet *packet);

// Each queues one packet of at most WIRE_PACKET_MAX bytes; there must be room.
bool wire_room(const struct wire *wire);
void wire_put(struct wire *wire, uint8_t first, const void *body, size_t length);
// A PUBLISH with QoS 1, or with id 0 QoS 0; v5: with an empty set of properties.
void wire_put_publish(struct wire *wire, uint16_t id, const char *topic, const char *payload,
                      bool v5);
void wire_put_puback(struct wire *wire, uint16_t id);
// CONNECT as MQTT 3.1.1 with a clean session.
void wire_put_connect(struct wire *wire, const char *client_id);
void wire_put_subscribe(struct wire *wire, const char *filter, uint8_t qos);

uint16_t wire_u16(const uint8_t *bytes);
double wire_seconds(void); // CLOCK_MONOTONIC
