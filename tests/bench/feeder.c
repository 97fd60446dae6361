// A scripted broker that feeds one daemon as fast as its window allows, and measures what that costs it.
#include <err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "reading.h"
#include "wire.h"

enum {
    WINDOW_311 = 1000
}; // MQTT 3.1.1 has no Receive Maximum; this is what is sent to such a client

struct feeder {
    struct wire wire;
    pid_t daemon;
    enum reading_kind kind;
    bool v5;
    unsigned window, sent, acknowledged;
};

static pid_t start_daemon(char **command)
{
    pid_t pid = fork();

    if (pid < 0)
        err(1, "fork");
    if (pid == 0) {
        execvp(command[0], command);
        err(127, "%s", command[0]);
    }
    return pid;
}

static double daemon_cpu_seconds(pid_t pid)
{
    struct timespec used;
    clockid_t clock;

    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) != 0)
        errx(1, "feeder: the daemon is gone");
    return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

// A line of /proc/PID/status, such as "VmRSS:", in KiB.
static long daemon_memory_kib(pid_t pid, const char *line_name)
{
    char path[64], line[256];
    long kib = 0;

    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *status = fopen(path, "r");
    if (!status)
        err(1, "%s", path);
    while (fgets(line, sizeof line, status)) {
        if (strncmp(line, line_name, strlen(line_name)) == 0)
            kib = atol(line + strlen(line_name));
    }
    fclose(status);
    return kib;
}

// The Receive Maximum among the properties of an MQTT 5 CONNECT, 65535 where there is none.
static unsigned receive_maximum(const uint8_t *property, size_t length)
{
    const uint8_t *end = property + length;

    while (property < end) {
        switch (*property) {
        case 0x21:
            return wire_u16(property + 1);
        case 0x22: // Topic Alias Maximum
            property += 3;
            break;
        case 0x11: // Session Expiry Interval
        case 0x27: // Maximum Packet Size
            property += 5;
            break;
        case 0x17: // Request Problem Information
        case 0x19: // Request Response Information
            property += 2;
            break;
        default:
            errx(1, "feeder: CONNECT has property 0x%02x", *property);
        }
    }
    return 65535;
}

static void greet(struct feeder *feeder)
{
    struct wire_packet connect;

    wire_expect(&feeder->wire, WIRE_CONNECT, &connect);
    feeder->v5 = connect.body[6] == 5;
    if (feeder->v5) {
        feeder->window = receive_maximum(connect.body + 11, connect.body[10]);
        wire_put(&feeder->wire, WIRE_CONNACK << 4, (uint8_t[]){0, 0, 0}, 3);
    } else {
        feeder->window = WINDOW_311;
        wire_put(&feeder->wire, WIRE_CONNACK << 4, (uint8_t[]){0, 0}, 2);
    }
}

// Grants QoS 1 to every filter.
static void grant(struct feeder *feeder, const struct wire_packet *subscribe)
{
    uint8_t answer[WIRE_PACKET_MAX] = {subscribe->body[0], subscribe->body[1], 0};
    size_t length = feeder->v5 ? 3 : 2, at = 2;

    if (feeder->v5)
        at += 1u + subscribe->body[2];
    while (at < subscribe->length) {
        at += 3u + wire_u16(subscribe->body + at);
        answer[length++] = 1;
    }
    wire_put(&feeder->wire, WIRE_SUBACK << 4, answer, length);
}

static uint16_t packet_id(unsigned number)
{
    return (uint16_t)(number % 65535 + 1);
}

static void take_packet(struct feeder *feeder, const struct wire_packet *packet)
{
    switch (packet->type) {
    case WIRE_PUBACK: // in the order of the PUBLISHes [MQTT-4.6.0-2]
        if (wire_u16(packet->body) != packet_id(feeder->acknowledged))
            errx(1, "feeder: PUBACK %u is out of order", wire_u16(packet->body));
        feeder->acknowledged++;
        break;
    case WIRE_SUBSCRIBE:
        grant(feeder, packet);
        break;
    case WIRE_PINGREQ:
        wire_put(&feeder->wire, WIRE_PINGRESP << 4, "", 0);
        break;
    default:
        errx(1, "feeder: the daemon sent packet type %u", packet->type);
    }
}

// Publishes readings until count in all are acknowledged.
static void feed(struct feeder *feeder, unsigned count)
{
    char topic[READING_TOPIC_MAX], payload[READING_PAYLOAD_MAX];
    struct wire *wire = &feeder->wire;
    struct wire_packet packet;

    while (feeder->acknowledged < count) {
        while (feeder->sent < count && feeder->sent - feeder->acknowledged < feeder->window &&
               wire_room(wire)) {
            reading_make(feeder->kind, feeder->sent, topic, payload);
            wire_put_publish(wire, packet_id(feeder->sent), topic, payload, feeder->v5);
            feeder->sent++;
        }
        if (!wire_pump(wire))
            errx(1, "feeder: the daemon closed the connection");
        while (wire_next(wire, &packet))
            take_packet(feeder, &packet);
    }
}

static void stop_daemon(struct feeder *feeder)
{
    int status;

    kill(feeder->daemon, SIGTERM);
    while (wire_pump(&feeder->wire))
        ;
    if (waitpid(feeder->daemon, &status, 0) < 0 || status != 0)
        errx(1, "feeder: the daemon ended with wait status %d", status);
}

int main(int argc, char **argv)
{
    static struct feeder feeder;
    struct wire_packet subscribe;

    if (argc < 5)
        errx(2, "usage: feeder PORT text|json COUNT DAEMON [ARGUMENT...]");
    feeder.kind = reading_kind_parse(argv[2]);
    unsigned count = (unsigned)atoi(argv[3]);
    feeder.daemon = start_daemon(argv + 4);
    wire_accept(&feeder.wire, (uint16_t)atoi(argv[1]));
    greet(&feeder);
    wire_expect(&feeder.wire, WIRE_SUBSCRIBE, &subscribe);
    grant(&feeder, &subscribe);
    feed(&feeder, 1); // its whole way to the database is open when this is acknowledged

    double start = wire_seconds(), cpu = daemon_cpu_seconds(feeder.daemon);
    feed(&feeder, count + 1);
    double seconds = wire_seconds() - start;
    cpu = daemon_cpu_seconds(feeder.daemon) - cpu;
    printf("messages=%u seconds=%.6f cpu=%.6f rss_kib=%ld peak_kib=%ld window=%u\n", count, seconds,
           cpu, daemon_memory_kib(feeder.daemon, "VmRSS:"),
           daemon_memory_kib(feeder.daemon, "VmHWM:"), feeder.window);
    stop_daemon(&feeder);
    return 0;
}
