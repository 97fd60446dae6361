// What libpq can do at best with equal batches of the same rows: the yardstick for sensorlogd's writer.
#include <arpa/inet.h>
#include <endian.h>
#include <err.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "wire.h"

enum { CONNECTIONS_MAX = 16, DEPTH_MAX = 8, SENSORS = 100 };
enum { OID_TEXT = 25, OID_FLOAT8 = 701, OID_TIMESTAMPTZ = 1184 };
enum { COLUMN_COUNT = 3, SENSOR_TEXT_MAX = 4, ARRAY_HEADER = 20 };

static const char insert_sql[] = "INSERT INTO telemetry.altimeter (time, sensor, altitude_m) "
                                 "SELECT unnest($1), unnest($2), unnest($3)";
static const Oid array_types[COLUMN_COUNT] = {1185, 1009, 1022};

struct array {
    char *bytes;
    int length;
};

struct lane {
    PGconn *connection;
    unsigned in_flight; // batches
};

struct bench {
    struct lane lanes[CONNECTIONS_MAX];
    struct array arrays[COLUMN_COUNT];
    unsigned lane_count, depth, batch;
    unsigned long to_send, unanswered; // batches
    unsigned long number;              // of the next row
    int64_t time_us;                   // of the next row, since 2000 as PostgreSQL has it
};

static void put_u32(struct array *array, uint32_t value)
{
    value = htonl(value);
    memcpy(array->bytes + array->length, &value, sizeof value);
    array->length += (int)sizeof value;
}

static void put_u64(struct array *array, const void *value)
{
    uint64_t bits;

    memcpy(&bits, value, sizeof bits);
    bits = htobe64(bits);
    put_u32(array, sizeof bits);
    memcpy(array->bytes + array->length, &bits, sizeof bits);
    array->length += (int)sizeof bits;
}

// One dimension, no nulls, count elements from 1.
static void begin_array(struct array *array, uint32_t type, uint32_t count)
{
    array->length = 0;
    put_u32(array, 1);
    put_u32(array, 0);
    put_u32(array, type);
    put_u32(array, count);
    put_u32(array, 1);
}

static void encode_batch(struct bench *bench)
{
    struct array *times = &bench->arrays[0], *sensors = &bench->arrays[1];
    struct array *altitudes = &bench->arrays[2];

    begin_array(times, OID_TIMESTAMPTZ, bench->batch);
    begin_array(sensors, OID_TEXT, bench->batch);
    begin_array(altitudes, OID_FLOAT8, bench->batch);
    for (unsigned i = 0; i < bench->batch; i++, bench->number++, bench->time_us++) {
        unsigned sensor = (unsigned)(bench->number % SENSORS);
        double altitude = (double)(100 + bench->number / SENSORS % 900) * 0.3048;
        int digits = snprintf(sensors->bytes + sensors->length + 4, SENSOR_TEXT_MAX, "%u", sensor);

        put_u64(times, &bench->time_us);
        put_u32(sensors, (uint32_t)digits);
        sensors->length += digits;
        put_u64(altitudes, &altitude);
    }
}

static void send_batch(struct bench *bench, struct lane *lane)
{
    const char *values[COLUMN_COUNT];
    int lengths[COLUMN_COUNT], formats[COLUMN_COUNT];

    encode_batch(bench);
    for (int i = 0; i < COLUMN_COUNT; i++) {
        values[i] = bench->arrays[i].bytes;
        lengths[i] = bench->arrays[i].length;
        formats[i] = 1;
    }
    if (!PQsendQueryPrepared(lane->connection, "insert", COLUMN_COUNT, values, lengths, formats,
                             0) ||
        !PQpipelineSync(lane->connection))
        errx(1, "bare_libpq: %s", PQerrorMessage(lane->connection));
    lane->in_flight++;
    bench->to_send--;
}

// Takes the answers that are there; each batch is its own transaction and ends in a sync.
static void take_answers(struct bench *bench, struct lane *lane)
{
    if (!PQconsumeInput(lane->connection))
        errx(1, "bare_libpq: %s", PQerrorMessage(lane->connection));
    while (lane->in_flight > 0 && !PQisBusy(lane->connection)) {
        PGresult *result = PQgetResult(lane->connection);

        if (!result)
            continue;
        if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) {
            lane->in_flight--;
            bench->unanswered--;
        } else if (PQresultStatus(result) != PGRES_COMMAND_OK) {
            errx(1, "bare_libpq: %s", PQresultErrorMessage(result));
        }
        PQclear(result);
    }
}

static void wait_for_any(struct bench *bench)
{
    struct pollfd entries[CONNECTIONS_MAX];

    for (unsigned i = 0; i < bench->lane_count; i++) {
        entries[i] = (struct pollfd){.fd = PQsocket(bench->lanes[i].connection), .events = POLLIN};
        if (PQflush(bench->lanes[i].connection) == 1)
            entries[i].events |= POLLOUT;
    }
    poll(entries, bench->lane_count, -1);
}

static void run(struct bench *bench)
{
    while (bench->unanswered > 0) {
        for (unsigned i = 0; i < bench->lane_count; i++) {
            struct lane *lane = &bench->lanes[i];

            take_answers(bench, lane);
            while (lane->in_flight < bench->depth && bench->to_send > 0)
                send_batch(bench, lane);
        }
        if (bench->unanswered > 0)
            wait_for_any(bench);
    }
}

static void open_lane(struct lane *lane)
{
    lane->connection = PQconnectdb("");
    PGresult *result = PQprepare(lane->connection, "insert", insert_sql, COLUMN_COUNT, array_types);

    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        errx(1, "bare_libpq: %s", PQerrorMessage(lane->connection));
    PQclear(result);
    if (PQsetnonblocking(lane->connection, 1) != 0 || !PQenterPipelineMode(lane->connection))
        errx(1, "bare_libpq: no pipeline mode");
}

static unsigned argument(const char *text, unsigned max)
{
    unsigned long value = strtoul(text, NULL, 10);

    if (value < 1 || value > max)
        errx(2, "usage: bare_libpq BATCH BATCHES CONNECTIONS(1-%d) DEPTH(1-%d)", CONNECTIONS_MAX,
             DEPTH_MAX);
    return (unsigned)value;
}

int main(int argc, char **argv)
{
    static struct bench bench;

    if (argc != 5)
        argument("0", 1);
    bench.batch = argument(argv[1], 1000000);
    bench.to_send = bench.unanswered = argument(argv[2], 10000000);
    bench.lane_count = argument(argv[3], CONNECTIONS_MAX);
    bench.depth = argument(argv[4], DEPTH_MAX);
    bench.time_us = ((int64_t)time(NULL) - 946684800) * 1000000;
    for (unsigned i = 0; i < COLUMN_COUNT; i++)
        bench.arrays[i].bytes = malloc(ARRAY_HEADER + bench.batch * 12u);
    for (unsigned i = 0; i < bench.lane_count; i++)
        open_lane(&bench.lanes[i]);

    unsigned long rows = bench.to_send * bench.batch;
    double start = wire_seconds();
    run(&bench);
    printf("rows=%lu seconds=%.6f\n", rows, wire_seconds() - start);

    for (unsigned i = 0; i < bench.lane_count; i++)
        PQfinish(bench.lanes[i].connection);
    for (unsigned i = 0; i < COLUMN_COUNT; i++)
        free(bench.arrays[i].bytes);
    return 0;
}
