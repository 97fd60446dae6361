// Publishers at a steady rate, whatever the broker does: QoS 1, numbers in sequence, and an account
// of what was acknowledged, and how long that took, in each phase. A line on standard input begins
// a phase of that name; "stop" ends the publishing. What it prints when all is acknowledged:
//     phase NAME published=N p50_ms=N p99_ms=N max_ms=N
//     publisher N published=N
#include <err.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../bench/wire.h"

enum {
    PUBLISHERS_MAX = 200,
    PHASES_MAX = 16,
    WINDOW = 1000, // unacknowledged messages of one publisher
    TEXT = 128,
};

static const char usage[] =
    "usage: steady PORT PUBLISHERS RATE FIRST_MS\n"
    "RATE: messages a second, of all of them. FIRST_MS: time of each publisher's message 0, in ms since 1970.\n"
    "Even publishers send N to counted/PUBLISHER, odd ones {\"n\":N,\"ts\":FIRST_MS+N} to keyed/PUBLISHER.";

struct phase {
    char name[TEXT];
    double start;
    uint64_t published;
    uint32_t *samples; // microseconds from when a message was due to its PUBACK
    size_t count, capacity;
};

struct publisher {
    struct wire wire;
    uint64_t sent, acknowledged;
};

struct steady {
    struct publisher *publishers;
    unsigned count;
    double rate, start;
    unsigned long long first_ms;
    struct phase phases[PHASES_MAX];
    unsigned phase_count;
    bool stopping;
};

// ---- phases ----

static void begin_phase(struct steady *steady, const char *name)
{
    if (steady->phase_count == PHASES_MAX)
        errx(1, "steady: more than %d phases", PHASES_MAX);
    struct phase *phase = &steady->phases[steady->phase_count++];
    snprintf(phase->name, sizeof phase->name, "%s", name);
    phase->start = wire_seconds();
}

static struct phase *phase_of(struct steady *steady, double when)
{
    unsigned i = steady->phase_count - 1;
    while (i > 0 && steady->phases[i].start > when)
        i--;
    return &steady->phases[i];
}

static void add_sample(struct phase *phase, double seconds)
{
    if (phase->count == phase->capacity) {
        phase->capacity = phase->capacity ? phase->capacity * 2 : 1024;
        phase->samples = realloc(phase->samples, phase->capacity * sizeof *phase->samples);
        if (!phase->samples)
            err(1, "steady");
    }
    phase->samples[phase->count++] = seconds < 4000 ? (uint32_t)(seconds * 1e6) : UINT32_MAX;
}

// ---- messages ----

// The publishers take turns, so that together they keep the rate.
static double due(const struct steady *steady, unsigned number, uint64_t message)
{
    return steady->start + ((double)message * steady->count + number) / steady->rate;
}

static void publish(struct steady *steady, unsigned number)
{
    struct publisher *publisher = &steady->publishers[number];
    char topic[TEXT], payload[TEXT];
    unsigned long long n = publisher->sent;

    snprintf(topic, sizeof topic, "%s/%u", number % 2 ? "keyed" : "counted", number);
    if (number % 2)
        snprintf(payload, sizeof payload, "{\"n\":%llu,\"ts\":%llu}", n, steady->first_ms + n);
    else
        snprintf(payload, sizeof payload, "%llu", n);
    wire_put_publish(&publisher->wire, (uint16_t)(n % 65535 + 1), topic, payload, false);
    phase_of(steady, due(steady, number, n))->published++;
    publisher->sent++;
}

static void publish_what_is_due(struct steady *steady, double now)
{
    for (unsigned i = 0; i < steady->count && !steady->stopping; i++) {
        struct publisher *publisher = &steady->publishers[i];
        while (due(steady, i, publisher->sent) <= now &&
               publisher->sent - publisher->acknowledged < WINDOW && wire_room(&publisher->wire))
            publish(steady, i);
    }
}

static void take(struct steady *steady, unsigned number, double now)
{
    struct publisher *publisher = &steady->publishers[number];
    struct wire_packet packet;

    while (wire_next(&publisher->wire, &packet)) {
        uint64_t n = publisher->acknowledged;
        if (packet.type != WIRE_PUBACK || n == publisher->sent)
            errx(1, "steady: publisher %u: packet type %u came", number, packet.type);
        if (wire_u16(packet.body) != (uint16_t)(n % 65535 + 1))
            errx(1, "steady: publisher %u: acknowledgements out of order", number);
        double when = due(steady, number, n);
        add_sample(phase_of(steady, when), now - when);
        publisher->acknowledged++;
    }
}

// ---- the run ----

static void read_commands(struct steady *steady)
{
    static char text[TEXT];
    static size_t length;
    ssize_t count = read(STDIN_FILENO, text + length, sizeof text - 1 - length);

    if (count <= 0) {
        steady->stopping = true;
        return;
    }
    length += (size_t)count;
    text[length] = '\0';
    for (char *end; (end = strchr(text, '\n'));) {
        *end = '\0';
        if (strcmp(text, "stop") == 0)
            steady->stopping = true;
        else
            begin_phase(steady, text);
        length -= (size_t)(end + 1 - text);
        memmove(text, end + 1, length + 1);
    }
}

static bool finished(const struct steady *steady)
{
    for (unsigned i = 0; i < steady->count; i++)
        if (steady->publishers[i].acknowledged < steady->publishers[i].sent)
            return false;
    return steady->stopping;
}

static void run(struct steady *steady)
{
    static struct pollfd fds[PUBLISHERS_MAX + 1];
    static const struct timespec tick = {.tv_nsec = 1000000};

    while (!finished(steady)) {
        publish_what_is_due(steady, wire_seconds());
        for (unsigned i = 0; i < steady->count; i++) {
            struct wire *wire = &steady->publishers[i].wire;
            if (wire->out_length > 0 && !wire_write(wire))
                errx(1, "steady: the broker has closed publisher %u's connection", i);
            short events = (short)(POLLIN | (wire->out_length > 0 ? POLLOUT : 0));
            fds[i] = (struct pollfd){.fd = wire->fd, .events = events};
        }
        fds[steady->count] =
            (struct pollfd){.fd = steady->stopping ? -1 : STDIN_FILENO, .events = POLLIN};
        if (ppoll(fds, steady->count + 1, &tick, NULL) < 0)
            err(1, "ppoll");
        if (fds[steady->count].revents)
            read_commands(steady);
        double now = wire_seconds();
        for (unsigned i = 0; i < steady->count; i++) {
            if ((fds[i].revents & ~POLLOUT) && !wire_read(&steady->publishers[i].wire))
                errx(1, "steady: the broker has closed publisher %u's connection", i);
            take(steady, i, now);
        }
    }
}

// ---- before and after it ----

static void open_publisher(struct publisher *publisher, unsigned number, uint16_t port)
{
    char client_id[TEXT];
    struct wire_packet packet;

    snprintf(client_id, sizeof client_id, "steady-%u", number);
    wire_connect(&publisher->wire, port);
    wire_put_connect(&publisher->wire, client_id);
    wire_expect(&publisher->wire, WIRE_CONNACK, &packet);
}

static int compare(const void *a, const void *b)
{
    uint32_t one = *(const uint32_t *)a, other = *(const uint32_t *)b;

    return one < other ? -1 : one > other;
}

static double percentile_ms(const struct phase *phase, double fraction)
{
    return phase->count == 0
               ? 0
               : phase->samples[(size_t)(fraction * (double)(phase->count - 1))] / 1e3;
}

static void print_results(const struct steady *steady)
{
    for (unsigned i = 0; i < steady->phase_count; i++) {
        const struct phase *phase = &steady->phases[i];
        qsort(phase->samples, phase->count, sizeof *phase->samples, compare);
        printf("phase %s published=%llu p50_ms=%.3f p99_ms=%.3f max_ms=%.3f\n", phase->name,
               (unsigned long long)phase->published, percentile_ms(phase, 0.5),
               percentile_ms(phase, 0.99), percentile_ms(phase, 1));
    }
    for (unsigned i = 0; i < steady->count; i++)
        printf("publisher %u published=%llu\n", i,
               (unsigned long long)steady->publishers[i].acknowledged);
}

int main(int argc, char **argv)
{
    static struct steady steady;

    if (argc != 5)
        errx(2, "%s", usage);
    steady.count = (unsigned)atoi(argv[2]);
    steady.rate = atof(argv[3]);
    steady.first_ms = strtoull(argv[4], NULL, 10);
    if (steady.count < 1 || steady.count > PUBLISHERS_MAX || steady.rate <= 0)
        errx(2, "%s", usage);
    steady.publishers = calloc(steady.count, sizeof *steady.publishers);
    if (!steady.publishers)
        err(1, "steady");
    for (unsigned i = 0; i < steady.count; i++)
        open_publisher(&steady.publishers[i], i, (uint16_t)atoi(argv[1]));
    steady.start = wire_seconds();
    begin_phase(&steady, "direct");
    run(&steady);
    print_results(&steady);
    return 0;
}
