// A subscriber that does nothing but acknowledge: what the broker can pass on at most.
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire.h"

static const char finished[] = "bench/finished";

// True when it was the last message of the run.
static bool take_message(struct wire *wire, const struct wire_packet *packet)
{
    size_t topic_length = wire_u16(packet->body);

    if ((packet->flags & 6) != 0)
        wire_put_puback(wire, wire_u16(packet->body + 2 + topic_length));
    return topic_length == sizeof finished - 1 &&
           memcmp(packet->body + 2, finished, topic_length) == 0;
}

int main(int argc, char **argv)
{
    static struct wire wire;
    struct wire_packet packet;
    unsigned received = 0;
    bool last = false;

    if (argc != 2)
        errx(2, "usage: ackonly PORT");
    wire_connect(&wire, (uint16_t)atoi(argv[1]));
    wire_put_connect(&wire, "bench-ackonly");
    wire_expect(&wire, WIRE_CONNACK, &packet);
    wire_put_subscribe(&wire, "#", 1);
    wire_expect(&wire, WIRE_SUBACK, &packet);
    puts("subscribed");
    fflush(stdout);

    while (!last) {
        if (!wire_pump(&wire))
            errx(1, "ackonly: the broker closed the connection");
        while (wire_room(&wire) && wire_next(&wire, &packet)) {
            last = packet.type == WIRE_PUBLISH && take_message(&wire, &packet);
            received += packet.type == WIRE_PUBLISH;
        }
    }
    printf("end=%.6f messages=%u\n", wire_seconds(), received - 1);
    while (wire.out_length > 0 && wire_pump(&wire))
        ;
    return 0;
}
