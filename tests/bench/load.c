// Load for a broker: publishers and subscribers of raw packets over one epoll, as fast as the
// broker takes them or at a rate, with the time that each message takes to each subscriber, and the
// CPU that the broker uses meanwhile.
#include <err.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#include "reading.h"
#include "wire.h"

enum {
    LINKS_MAX = 1000,
    EVENTS = 64,
    STALLED_SECONDS = 20, // without any progress: something is lost
    OUTSTANDING =
        1000, // messages that have not reached every subscriber; at half of it the next are sent
    STAMP_DIGITS = 16,
};

static const char usage[] =
    "usage: load PORT PID PUBLISHERS SUBSCRIBERS QOS WINDOW RATE COUNT stamp|text|json|keyed\n"
    "PID: of the broker. WINDOW: unacknowledged messages of a publisher. RATE: of all of them, a second; 0: as\n"
    "fast as they are taken. Each message of kind stamp goes to all subscribers.";

struct link {
    struct wire wire;
    unsigned sent, done; // publisher: messages, acknowledged. subscriber: done, messages received
    bool subscriber, waits_to_write;
};

struct load {
    struct link *links;
    unsigned publishers, subscribers, qos, window, count;
    double rate, start;
    bool stamped;
    enum reading_kind kind;
    int epoll;
    unsigned sent, acknowledged, received;
    unsigned turn;     // the publisher that is next
    bool resting;      // until half of what is outstanding has arrived
    uint32_t *samples; // of a message's way, in 100 ns
    unsigned sample_count;
};

// ---- what is sent ----

// What has reached all subscribers, or is acknowledged if there are none.
static unsigned arrived(const struct load *load)
{
    unsigned least = load->subscribers ? load->count : load->acknowledged;

    for (unsigned i = 0; i < load->subscribers; i++) {
        const struct link *link = &load->links[load->publishers + i];
        if (link->done < least)
            least = link->done;
    }
    return least;
}

// A second is 10 million; CLOCK_MONOTONIC, so that it can be taken from the time of arrival.
static uint64_t stamp_of(double seconds)
{
    return (uint64_t)(seconds * 1e7);
}

static void publish(struct load *load, struct link *link, double when)
{
    char topic[READING_TOPIC_MAX], payload[READING_PAYLOAD_MAX];
    uint16_t id = load->qos ? (uint16_t)(link->sent % 65535 + 1) : 0;

    if (load->stamped) {
        snprintf(topic, sizeof topic, "bench/%u", load->turn);
        snprintf(payload, sizeof payload, "%0*llx", STAMP_DIGITS,
                 (unsigned long long)stamp_of(when));
    } else {
        reading_make(load->kind, load->sent, topic, payload);
    }
    wire_put_publish(&link->wire, id, topic, payload, false);
    link->sent++;
    load->sent++;
}

static bool may_send(const struct load *load, const struct link *link)
{
    return wire_room(&link->wire) && (!load->qos || link->sent - link->done < load->window);
}

// How many may have been sent by now, of a load that waits for its subscribers.
static unsigned bound(struct load *load)
{
    unsigned reached = arrived(load);

    if (load->sent - reached <= OUTSTANDING / 2)
        load->resting = false;
    else if (load->sent - reached >= OUTSTANDING)
        load->resting = true;
    return load->resting ? load->sent : reached + OUTSTANDING;
}

static unsigned due(struct load *load, double now)
{
    double should = load->count;

    if (load->rate > 0)
        should = (now - load->start) * load->rate + 1;
    else if (load->subscribers > 0)
        should = bound(load);
    return should < load->count ? (unsigned)should : load->count;
}

// Gives each publisher in turn as much as it may send. At a rate a message counts from the time at
// which it is due, so that waiting for a slow broker is part of its way.
static void publish_what_may(struct load *load, double now)
{
    unsigned until = due(load, now), blocked = 0;

    while (load->sent < until && blocked < load->publishers) {
        struct link *link = &load->links[load->turn];

        if (may_send(load, link)) {
            publish(load, link, load->rate > 0 ? load->start + load->sent / load->rate : now);
            blocked = 0;
        } else {
            blocked++;
        }
        load->turn = (load->turn + 1) % load->publishers;
    }
}

// ---- what comes ----

static void take_message(struct load *load, struct link *link, const struct wire_packet *packet,
                         double now)
{
    size_t at = 2u + wire_u16(packet->body);

    if (packet->flags & 6) {
        wire_put_puback(&link->wire, wire_u16(packet->body + at));
        at += 2;
    }
    if (packet->length - at != STAMP_DIGITS)
        errx(1, "load: a message of %zu bytes", packet->length - at);
    char stamp[STAMP_DIGITS + 1] = "";
    memcpy(stamp, packet->body + at, STAMP_DIGITS);
    load->samples[load->sample_count++] = (uint32_t)(stamp_of(now) - strtoull(stamp, NULL, 16));
    link->done++;
    load->received++;
}

static void take(struct load *load, struct link *link, double now)
{
    struct wire_packet packet;

    while (wire_room(&link->wire) && wire_next(&link->wire, &packet)) {
        if (packet.type == WIRE_PUBLISH && link->subscriber) {
            take_message(load, link, &packet, now);
        } else if (packet.type == WIRE_PUBACK && !link->subscriber) {
            link->done++;
            load->acknowledged++;
        } else {
            errx(1, "load: packet type %u came", packet.type);
        }
    }
}

static void watch(struct load *load, struct link *link, int how)
{
    struct epoll_event event = {.events = EPOLLIN | (link->waits_to_write ? EPOLLOUT : 0u),
                                .data.ptr = link};

    if (epoll_ctl(load->epoll, how, link->wire.fd, &event) != 0)
        err(1, "epoll_ctl");
}

static void flush(struct load *load, struct link *link)
{
    if (link->wire.out_length > 0 && !wire_write(&link->wire))
        errx(1, "load: the broker has closed a connection");
    if (link->waits_to_write != (link->wire.out_length > 0)) {
        link->waits_to_write = !link->waits_to_write;
        watch(load, link, EPOLL_CTL_MOD);
    }
}

// ---- the run ----

static bool finished(const struct load *load)
{
    return load->sent == load->count && (!load->qos || load->acknowledged == load->count) &&
           load->received == load->count * load->subscribers;
}

static struct timespec patience(const struct load *load, double now)
{
    double seconds = STALLED_SECONDS;

    if (load->rate > 0 && load->sent < load->count)
        seconds = fmax(0, load->start + load->sent / load->rate - now);
    return (struct timespec){(time_t)seconds, (long)((seconds - floor(seconds)) * 1e9)};
}

static void run(struct load *load)
{
    struct epoll_event events[EVENTS];
    double progress = load->start;

    while (!finished(load)) {
        double now = wire_seconds();
        publish_what_may(load, now);
        for (unsigned i = 0; i < load->publishers + load->subscribers; i++)
            flush(load, &load->links[i]);
        struct timespec timeout = patience(load, now);
        int count = epoll_pwait2(load->epoll, events, EVENTS, &timeout, NULL);
        now = wire_seconds();
        if (count > 0)
            progress = now;
        else if (now - progress > STALLED_SECONDS)
            errx(
                1,
                "load: of %u messages %u are sent, %u acknowledged, %u received, and nothing more comes",
                load->count, load->sent, load->acknowledged, load->received);
        for (int i = 0; i < count; i++) {
            struct link *link = events[i].data.ptr;
            if ((events[i].events & ~(unsigned)EPOLLOUT) && !wire_read(&link->wire))
                errx(1, "load: the broker has closed a connection");
            take(load, link, now);
        }
    }
}

// ---- before and after it ----

static void open_link(struct load *load, struct link *link, unsigned number, uint16_t port)
{
    char client_id[40];
    struct wire_packet packet;

    snprintf(client_id, sizeof client_id, "bench-%u", number);
    wire_connect(&link->wire, port);
    wire_put_connect(&link->wire, client_id);
    wire_expect(&link->wire, WIRE_CONNACK, &packet);
    link->subscriber = number >= load->publishers;
    if (link->subscriber) {
        wire_put_subscribe(&link->wire, "bench/#", (uint8_t)load->qos);
        wire_expect(&link->wire, WIRE_SUBACK, &packet);
    }
    watch(load, link, EPOLL_CTL_ADD);
}

static double cpu_seconds(clockid_t clock)
{
    struct timespec used;

    if (clock_gettime(clock, &used) != 0)
        errx(1, "load: the broker is gone");
    return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

static int compare(const void *a, const void *b)
{
    uint32_t one = *(const uint32_t *)a, other = *(const uint32_t *)b;

    return one < other ? -1 : one > other;
}

// Microseconds that the fraction of the messages does not exceed.
static double percentile(const struct load *load, double fraction)
{
    if (load->sample_count == 0)
        return 0;
    return load->samples[(unsigned)(fraction * (load->sample_count - 1))] / 10.0;
}

static void set_up(struct load *load, char **argv)
{
    load->publishers = (unsigned)atoi(argv[3]);
    load->subscribers = (unsigned)atoi(argv[4]);
    load->qos = (unsigned)atoi(argv[5]);
    load->window = (unsigned)atoi(argv[6]);
    load->rate = atof(argv[7]);
    load->count = (unsigned)atoi(argv[8]);
    load->stamped = strcmp(argv[9], "stamp") == 0;
    if (!load->stamped)
        load->kind = reading_kind_parse(argv[9]);
    if (load->publishers < 1 || load->publishers + load->subscribers > LINKS_MAX || load->qos > 1 ||
        (!load->stamped && load->subscribers > 0) || (!load->qos && load->subscribers == 0))
        errx(2, "%s", usage);
    load->links = calloc(load->publishers + load->subscribers, sizeof *load->links);
    load->samples = calloc((size_t)load->count * load->subscribers + 1, sizeof *load->samples);
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
}

int main(int argc, char **argv)
{
    static struct load load;
    clockid_t clock;

    if (argc != 10)
        errx(2, "%s", usage);
    set_up(&load, argv);
    for (unsigned i = 0; i < load.publishers + load.subscribers; i++)
        open_link(&load, &load.links[i], i, (uint16_t)atoi(argv[1]));
    if (clock_getcpuclockid(atoi(argv[2]), &clock) != 0)
        errx(1, "load: no process %s", argv[2]);

    double cpu = cpu_seconds(clock), own = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID);
    load.start = wire_seconds();
    run(&load);
    double seconds = wire_seconds() - load.start;
    cpu = cpu_seconds(clock) - cpu;
    own = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID) - own;
    qsort(load.samples, load.sample_count, sizeof *load.samples, compare);
    printf(
        "start=%.6f messages=%u seconds=%.6f cpu=%.6f own_cpu=%.6f p50_us=%.1f p99_us=%.1f max_us=%.1f\n",
        load.start, load.count, seconds, cpu, own, percentile(&load, 0.5), percentile(&load, 0.99),
        percentile(&load, 1));
    return 0;
}
