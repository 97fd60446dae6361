// What the simulated sensors of the benchmark send.
#include "reading.h"

#include <err.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { SENSORS = 100 };

enum reading_kind reading_kind_parse(const char *name)
{
    if (strcmp(name, "text") == 0)
        return READING_TEXT;
    if (strcmp(name, "json") == 0)
        return READING_JSON;
    if (strcmp(name, "keyed") == 0)
        return READING_KEYED;
    errx(2, "a kind of reading is text, json or keyed, not %s", name);
}

// An hour before the first call, in milliseconds since 1970: the readings' times are near the present.
static long long base_ms(void)
{
    static long long base;

    if (base == 0)
        base = ((long long)time(NULL) - 3600) * 1000;
    return base;
}

void reading_make(enum reading_kind kind, unsigned number, char topic[READING_TOPIC_MAX],
                  char payload[READING_PAYLOAD_MAX])
{
    unsigned sensor = number % SENSORS, step = number / SENSORS;

    if (kind == READING_TEXT) {
        snprintf(topic, READING_TOPIC_MAX, "sensors/altimeter/%u", sensor);
        snprintf(payload, READING_PAYLOAD_MAX, "%u feet", 100 + step % 900);
        return;
    }
    if (kind == READING_KEYED) {
        snprintf(topic, READING_TOPIC_MAX, "sensors/keyed/%u", sensor);
        snprintf(payload, READING_PAYLOAD_MAX, "{\"ts\":%lld,\"feet\":%u}", base_ms() + step,
                 100 + step % 900);
        return;
    }
    snprintf(topic, READING_TOPIC_MAX, "sensors/weather/%u", sensor);
    snprintf(payload, READING_PAYLOAD_MAX,
             "{\"ts\":%lld,\"station\":\"hangar-bay-%02u\",\"temperature\":%u.%02u,"
             "\"humidity\":%u.%02u,\"pressure\":%u.%02u,\"wind_speed\":%u.%02u}",
             base_ms() + step, sensor, 10 + step % 20, step % 100, 40 + step % 50, step % 97,
             1000 + step % 20, step % 89, step % 10, step % 83);
}
