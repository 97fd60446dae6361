// Simulated altimeters: each climbs and publishes its altitude with QoS 1, in feet or in metres.
#include <MQTTClient.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { SENSORS_MAX = 100, ACKNOWLEDGE_MS = 10000 };

struct altimeter {
    MQTTClient client;
    char topic[40];
    bool metric;
    int altitude; // in its unit; only ever rises, so no two readings of one altimeter are equal
    MQTTClient_deliveryToken token; // of the reading published last
};

static bool altimeter_connect(struct altimeter *altimeter, const char *uri, int number)
{
    MQTTClient_connectOptions options = MQTTClient_connectOptions_initializer;
    char client_id[40];

    snprintf(client_id, sizeof client_id, "altimeter-%d", number);
    snprintf(altimeter->topic, sizeof altimeter->topic, "sensors/altimeter/%d", number);
    altimeter->metric = number % 2 == 0;
    altimeter->altitude = altimeter->metric ? 91 : 300;
    if (MQTTClient_create(&altimeter->client, uri, client_id, MQTTCLIENT_PERSISTENCE_NONE, NULL) !=
        MQTTCLIENT_SUCCESS)
        return false;
    return MQTTClient_connect(altimeter->client, &options) == MQTTCLIENT_SUCCESS;
}

static bool altimeter_publish(struct altimeter *altimeter)
{
    char payload[24];
    int length = snprintf(payload, sizeof payload, "%d %s", altimeter->altitude,
                          altimeter->metric ? "m" : "feet");

    altimeter->altitude += 1 + rand() % (altimeter->metric ? 12 : 40);
    return MQTTClient_publish(altimeter->client, altimeter->topic, length, payload, 1, 0,
                              &altimeter->token) == MQTTCLIENT_SUCCESS;
}

// Whether the broker acknowledges the reading published last.
static bool altimeter_acknowledged(struct altimeter *altimeter)
{
    return MQTTClient_waitForCompletion(altimeter->client, altimeter->token, ACKNOWLEDGE_MS) ==
           MQTTCLIENT_SUCCESS;
}

int main(int argc, char **argv)
{
    struct altimeter altimeters[SENSORS_MAX] = {0};
    int sensors = argc == 5 ? atoi(argv[2]) : 0;
    int published = 0, acknowledged = 0;

    if (sensors < 1 || sensors > SENSORS_MAX) {
        fprintf(stderr, "usage: altimeter URI SENSORS(1-%d) ROUNDS PAUSE_MS\n", SENSORS_MAX);
        return 2;
    }
    for (int i = 0; i < sensors; i++) {
        if (!altimeter_connect(&altimeters[i], argv[1], i + 1)) {
            fprintf(stderr, "altimeter: cannot connect to %s\n", argv[1]);
            return 1;
        }
    }
    for (int round = 0; round < atoi(argv[3]); round++) {
        for (int i = 0; i < sensors; i++)
            published += altimeter_publish(&altimeters[i]);
        for (int i = 0; i < sensors; i++)
            acknowledged += altimeter_acknowledged(&altimeters[i]);
        usleep((useconds_t)atoi(argv[4]) * 1000);
    }
    for (int i = 0; i < sensors; i++) {
        MQTTClient_disconnect(altimeters[i].client, ACKNOWLEDGE_MS);
        MQTTClient_destroy(&altimeters[i].client);
    }
    printf("%d %d\n", published, acknowledged);
    return published == sensors * atoi(argv[3]) && acknowledged == published ? 0 : 1;
}
