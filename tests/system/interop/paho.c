// A client on paho.mqtt.c, for test_broker_interop.py:
//   paho sub URI VERSION CA FILTER QOS WILL_TOPIC WILL_PAYLOAD   prints "ready", then "TOPIC QOS
//   RETAIN PAYLOAD" lines paho pub URI VERSION CA [TOPIC PAYLOAD QOS RETAIN]...           ends when
//   all is acknowledged
// VERSION is 4 or 5, CA a file or "-".
#include <MQTTClient.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TIMEOUT_MS = 30000 };

static void check(int code, const char *what)
{
    if (code == MQTTCLIENT_SUCCESS)
        return;
    fprintf(stderr, "%s: %s (%d)\n", what, MQTTClient_strerror(code), code);
    exit(1);
}

static void check_response(MQTTResponse response, const char *what)
{
    check(response.reasonCode < 0 ? (int)response.reasonCode : MQTTCLIENT_SUCCESS, what);
    MQTTResponse_free(response);
}

static int arrived(void *context, char *topic, int length, MQTTClient_message *message)
{
    (void)context;
    (void)length; // 0 unless the topic holds a U+0000
    printf("%s %d %d %.*s\n", topic, message->qos, message->retained, message->payloadlen,
           (char *)message->payload);
    fflush(stdout);
    MQTTClient_freeMessage(&message);
    MQTTClient_free(topic);
    return 1;
}

static MQTTClient client_new(const char *uri, int version)
{
    MQTTClient client;
    MQTTClient_createOptions options = MQTTClient_createOptions_initializer;
    char id[64];
    options.MQTTVersion = version;
    snprintf(id, sizeof id, "paho-c-%d", (int)getpid());
    check(MQTTClient_createWithOptions(&client, uri, id, MQTTCLIENT_PERSISTENCE_NONE, NULL,
                                       &options),
          "create");
    check(MQTTClient_setCallbacks(client, NULL, NULL, arrived, NULL), "callbacks");
    return client;
}

static void connect_it(MQTTClient client, int version, const char *ca, MQTTClient_willOptions *will)
{
    MQTTClient_connectOptions options = MQTTClient_connectOptions_initializer;
    MQTTClient_connectOptions options5 = MQTTClient_connectOptions_initializer5;
    MQTTClient_SSLOptions tls = MQTTClient_SSLOptions_initializer;
    if (version == MQTTVERSION_5)
        options = options5;
    options.MQTTVersion = version;
    options.will = will;
    tls.trustStore = ca;
    tls.verify = 1;
    if (strcmp(ca, "-") != 0)
        options.ssl = &tls;
    if (version == MQTTVERSION_5)
        check_response(MQTTClient_connect5(client, &options, NULL, NULL), "connect");
    else
        check(MQTTClient_connect(client, &options), "connect");
}

static void subscribe(MQTTClient client, int version, const char *filter, int qos)
{
    if (version == MQTTVERSION_5)
        check_response(MQTTClient_subscribe5(client, filter, qos, NULL, NULL), "subscribe");
    else
        check(MQTTClient_subscribe(client, filter, qos), "subscribe");
    puts("ready");
    fflush(stdout);
}

static void publish(MQTTClient client, int version, char **argv)
{
    MQTTClient_message message = MQTTClient_message_initializer;
    MQTTClient_deliveryToken token = 0;
    message.payload = argv[1];
    message.payloadlen = (int)strlen(argv[1]);
    message.qos = atoi(argv[2]);
    message.retained = atoi(argv[3]);
    if (version == MQTTVERSION_5)
        check_response(MQTTClient_publishMessage5(client, argv[0], &message, &token), "publish");
    else
        check(MQTTClient_publishMessage(client, argv[0], &message, &token), "publish");
    check(MQTTClient_waitForCompletion(client, token, TIMEOUT_MS), "acknowledgement");
}

static void disconnect(MQTTClient client, int version)
{
    if (version == MQTTVERSION_5)
        check(MQTTClient_disconnect5(client, 1000, MQTTREASONCODE_SUCCESS, NULL), "disconnect");
    else
        check(MQTTClient_disconnect(client, 1000), "disconnect");
}

int main(int argc, char **argv)
{
    if (argc < 5)
        return 2;
    int version = atoi(argv[3]);
    MQTTClient client = client_new(argv[2], version);
    if (strcmp(argv[1], "sub") == 0 && argc == 9) {
        MQTTClient_willOptions will = MQTTClient_willOptions_initializer;
        will.topicName = argv[7];
        will.message = argv[8];
        will.qos = 1;
        connect_it(client, version, argv[4], &will);
        subscribe(client, version, argv[5], atoi(argv[6]));
        for (;;)
            pause();
    }
    connect_it(client, version, argv[4], NULL);
    for (int i = 5; i + 3 < argc; i += 4)
        publish(client, version, argv + i);
    disconnect(client, version);
    MQTTClient_destroy(&client);
    return 0;
}
