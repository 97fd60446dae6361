// The least that a broker of one's own can be for sensors: parses CONNECT and PUBLISH, COPYs the
// readings into a table, and acknowledges them after the commit. While a COPY is under way the next
// one gathers.
#include <arpa/inet.h>
#include <endian.h>
#include <err.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "reading.h"
#include "wire.h"

enum {
    LINKS_MAX = 200,
    EVENTS = 64,
    FIELDS = 3, // time, sensor, altitude_m
    ROW_MAX = 64,
};

static const char header[] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0"; // with its NUL 19 bytes

struct ack {
    struct wire *wire;
    uint16_t id;
};

struct batch {
    char *rows;
    struct ack *acks;
    size_t length, capacity, count, ack_capacity;
};

enum copy_state { COPY_IDLE, COPY_ASKED, COPY_SENT };

struct copier {
    PGconn *connection;
    int epoll, listener;
    enum reading_kind kind;
    const char *sql;
    struct batch gathering, copying;
    enum copy_state state;
    struct wire *links[LINKS_MAX];
    unsigned link_count;
};

// ---- rows ----

static void put(struct batch *batch, const void *bytes, size_t length)
{
    memcpy(batch->rows + batch->length, bytes, length);
    batch->length += length;
}

static void put_u32(struct batch *batch, uint32_t value)
{
    value = htonl(value);
    put(batch, &value, sizeof value);
}

static void put_u64(struct batch *batch, const void *value)
{
    uint64_t bits;

    memcpy(&bits, value, sizeof bits);
    bits = htobe64(bits);
    put_u32(batch, sizeof bits);
    put(batch, &bits, sizeof bits);
}

static void make_room(struct batch *batch)
{
    if (batch->capacity - batch->length < ROW_MAX) {
        batch->capacity = batch->capacity * 2 + 65536;
        batch->rows = realloc(batch->rows, batch->capacity);
    }
    if (batch->count == batch->ack_capacity) {
        batch->ack_capacity = batch->ack_capacity * 2 + 1000;
        batch->acks = realloc(batch->acks, batch->ack_capacity * sizeof *batch->acks);
    }
}

// Microseconds since 2000, as PostgreSQL has it.
static int64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return ((int64_t)now.tv_sec - 946684800) * 1000000 + now.tv_nsec / 1000;
}

static void take_reading(struct copier *copier, struct wire *wire, const struct wire_packet *packet)
{
    struct batch *batch = &copier->gathering;
    size_t topic_length = wire_u16(packet->body), at = 2 + topic_length;
    const char *topic = (const char *)packet->body + 2;
    const char *sensor = (const char *)memrchr(topic, '/', topic_length) + 1;
    uint32_t sensor_length = (uint32_t)(topic + topic_length - sensor);
    char payload[READING_PAYLOAD_MAX] = "";
    int64_t time_us = now_us();
    uint16_t fields = htons(FIELDS);

    make_room(batch);
    batch->acks[batch->count++] = (struct ack){wire, wire_u16(packet->body + at)};
    memcpy(payload, packet->body + at + 2, packet->length - at - 2);
    const char *number = payload;
    if (copier->kind == READING_KEYED) {
        time_us = (strtoll(strchr(payload, ':') + 1, NULL, 10) - 946684800000) * 1000;
        number = strrchr(payload, ':') + 1;
    }
    double metres = strtod(number, NULL) * 0.3048;
    put(batch, &fields, sizeof fields);
    put_u64(batch, &time_us);
    put_u32(batch, sensor_length);
    put(batch, sensor, sensor_length);
    put_u64(batch, &metres);
}

// ---- PostgreSQL ----

static void begin_copy(struct copier *copier)
{
    struct batch done = copier->copying;

    if (copier->state != COPY_IDLE || copier->gathering.count == 0)
        return;
    copier->copying = copier->gathering;
    copier->gathering = done;
    copier->gathering.length = copier->gathering.count = 0;
    if (!PQsendQuery(copier->connection, copier->sql))
        errx(1, "copier: %s", PQerrorMessage(copier->connection));
    copier->state = COPY_ASKED;
}

static void send_rows(struct copier *copier)
{
    static const char end[2] = {'\377', '\377'};
    PGconn *connection = copier->connection;

    if (PQputCopyData(connection, header, sizeof header) != 1 ||
        PQputCopyData(connection, copier->copying.rows, (int)copier->copying.length) != 1 ||
        PQputCopyData(connection, end, sizeof end) != 1 || PQputCopyEnd(connection, NULL) != 1)
        errx(1, "copier: %s", PQerrorMessage(connection));
    copier->state = COPY_SENT;
}

static void acknowledge(struct copier *copier)
{
    for (size_t i = 0; i < copier->copying.count; i++) {
        struct ack *ack = &copier->copying.acks[i];
        while (!wire_room(ack->wire))
            if (!wire_write(ack->wire))
                errx(1, "copier: a sensor has gone");
        wire_put_puback(ack->wire, ack->id);
    }
    for (unsigned i = 0; i < copier->link_count; i++)
        wire_write(copier->links[i]);
}

static void take_answers(struct copier *copier)
{
    if (!PQconsumeInput(copier->connection))
        errx(1, "copier: %s", PQerrorMessage(copier->connection));
    while (copier->state != COPY_IDLE && !PQisBusy(copier->connection)) {
        PGresult *result = PQgetResult(copier->connection);

        if (!result) {
            acknowledge(copier);
            copier->state = COPY_IDLE;
        } else if (PQresultStatus(result) == PGRES_COPY_IN) {
            send_rows(copier);
        } else if (PQresultStatus(result) != PGRES_COMMAND_OK) {
            errx(1, "copier: %s", PQresultErrorMessage(result));
        }
        PQclear(result);
    }
}

// ---- sensors ----

static void watch(struct copier *copier, int fd, void *what)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = what};

    if (epoll_ctl(copier->epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        err(1, "epoll_ctl");
}

static void accept_one(struct copier *copier)
{
    if (copier->link_count == LINKS_MAX)
        errx(1, "copier: more than %d sensors", LINKS_MAX);
    struct wire *wire = calloc(1, sizeof *wire);
    wire_take(wire, copier->listener);
    copier->links[copier->link_count++] = wire;
    watch(copier, wire->fd, wire);
}

static void forget(struct copier *copier, struct wire *wire)
{
    for (unsigned i = 0; i < copier->link_count; i++) {
        if (copier->links[i] == wire)
            copier->links[i] = copier->links[--copier->link_count];
    }
    close(wire->fd);
    free(wire);
}

// Sensors go when nothing of theirs is unacknowledged.
static void take_packets(struct copier *copier, struct wire *wire)
{
    struct wire_packet packet;

    if (!wire_read(wire)) {
        forget(copier, wire);
        return;
    }
    while (wire_next(wire, &packet)) {
        if (packet.type == WIRE_PUBLISH)
            take_reading(copier, wire, &packet);
        else if (packet.type == WIRE_CONNECT)
            wire_put(wire, WIRE_CONNACK << 4, (uint8_t[]){0, 0}, 2);
    }
    if (wire->out_length > 0)
        wire_write(wire);
}

static void run(struct copier *copier)
{
    struct epoll_event events[EVENTS];

    for (;;) {
        int count = epoll_wait(copier->epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            void *what = events[i].data.ptr;
            if (what == copier)
                accept_one(copier);
            else if (what == copier->connection)
                take_answers(copier);
            else
                take_packets(copier, what);
        }
        begin_copy(copier);
    }
}

int main(int argc, char **argv)
{
    static struct copier copier;

    if (argc != 3)
        errx(2, "usage: copier PORT text|keyed");
    copier.kind = reading_kind_parse(argv[2]);
    copier.sql =
        copier.kind == READING_KEYED
            ? "COPY telemetry.keyed (time, sensor, feet) FROM STDIN (FORMAT binary)"
            : "COPY telemetry.altimeter (time, sensor, altitude_m) FROM STDIN (FORMAT binary)";
    copier.connection = PQconnectdb("");
    if (PQstatus(copier.connection) != CONNECTION_OK)
        errx(1, "copier: %s", PQerrorMessage(copier.connection));
    copier.epoll = epoll_create1(EPOLL_CLOEXEC);
    copier.listener = wire_listen((uint16_t)atoi(argv[1]));
    watch(&copier, copier.listener, &copier);
    watch(&copier, PQsocket(copier.connection), copier.connection);
    run(&copier);
}
