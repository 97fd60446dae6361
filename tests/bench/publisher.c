// Publishes readings with QoS 1 as fast as the broker acknowledges, then one message on bench/finished.
#include <err.h>
#include <stdio.h>
#include <stdlib.h>

#include "reading.h"
#include "wire.h"

enum { IN_FLIGHT = 1000 };

static void take_acknowledgements(struct wire *wire, unsigned *acknowledged)
{
    struct wire_packet packet;

    if (!wire_pump(wire))
        errx(1, "publisher: the broker closed the connection");
    while (wire_next(wire, &packet))
        *acknowledged += packet.type == WIRE_PUBACK;
}

int main(int argc, char **argv)
{
    static struct wire wire;
    char topic[READING_TOPIC_MAX], payload[READING_PAYLOAD_MAX];
    struct wire_packet packet;
    unsigned sent = 0, acknowledged = 0;

    if (argc != 4)
        errx(2, "usage: publisher PORT text|json COUNT");
    enum reading_kind kind = reading_kind_parse(argv[2]);
    unsigned count = (unsigned)atoi(argv[3]);

    wire_connect(&wire, (uint16_t)atoi(argv[1]));
    wire_put_connect(&wire, "bench-publisher");
    wire_expect(&wire, WIRE_CONNACK, &packet);

    double start = wire_seconds();
    while (acknowledged < count) {
        for (; sent < count && sent - acknowledged < IN_FLIGHT && wire_room(&wire); sent++) {
            reading_make(kind, sent, topic, payload);
            wire_put_publish(&wire, (uint16_t)(sent % IN_FLIGHT + 1), topic, payload, false);
        }
        take_acknowledgements(&wire, &acknowledged);
    }
    double end = wire_seconds();
    wire_put_publish(&wire, 1, "bench/finished", "1", false);
    wire_expect(&wire, WIRE_PUBACK, &packet);
    wire_put(&wire, WIRE_DISCONNECT << 4, "", 0);
    while (wire.out_length > 0 && wire_pump(&wire))
        ;
    printf("start=%.6f seconds=%.6f messages=%u\n", start, end - start, count);
    return 0;
}
