// A line's dealings with paho: the calls, by the worker, and the callbacks.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "forward/line_internal.h"
#include "forward/properties.h"

enum {
    CONNECT_SECONDS = 20,
    TOPIC_MAX = 65535,
    HEADER_MAX = 16, // of a PUBLISH: fixed header, lengths, packet identifier
    // paho leaks the messages that it has not begun to write when a connection ends: it gets so
    // much at a time.
    FLYING_BYTES = 256 << 10,
};

// ---- word from paho's threads and the worker to the loop ----

static void hear(void *arg)
{
    line_hear(arg);
}

// With the lock held.
static void call_loop(struct line *line)
{
    if (line->posted || line->deaf)
        return;
    line->posted = true;
    loop_post(line->loop, hear, line);
}

static void line_fail(struct line *line, bool bad_version, const char *why)
{
    pthread_mutex_lock(&line->lock);
    if (!line->down) {
        line->down = true;
        line->bad_version = bad_version;
        snprintf(line->why, sizeof line->why, "%.90s%s%s", why, line->tls_error[0] ? ": " : "",
                 line->tls_error);
        call_loop(line);
    }
    pthread_mutex_unlock(&line->lock);
}

static void item_finish(struct item *item, const char *refused)
{
    struct line *line = item->line;
    pthread_mutex_lock(&line->lock);
    item->refused = refused;
    list_remove(&item->node);
    list_append(&line->finished, &item->node);
    line->flying_bytes -= item->size;
    call_loop(line);
    pthread_mutex_unlock(&line->lock);
}

// ---- paho's callbacks ----

static void connected(struct line *line)
{
    pthread_mutex_lock(&line->lock);
    line->up = true;
    line->tls_error[0] = '\0'; // of certificates that were not verified
    call_loop(line);
    pthread_mutex_unlock(&line->lock);
}

static void connected_4(void *arg, MQTTAsync_successData *data)
{
    (void)data;
    connected(arg);
}

// -1: it is not there.
static int64_t number_property(MQTTProperties *properties, enum MQTTPropertyCodes code)
{
    if (!MQTTProperties_hasProperty(properties, code))
        return -1;
    return (uint32_t)MQTTProperties_getNumericValue(properties, code);
}

static void connected_5(void *arg, MQTTAsync_successData5 *data)
{
    struct line *line = arg;
    int64_t packet = number_property(&data->properties, MQTTPROPERTY_CODE_MAXIMUM_PACKET_SIZE);
    int64_t qos = number_property(&data->properties, MQTTPROPERTY_CODE_MAXIMUM_QOS);
    int64_t retain = number_property(&data->properties, MQTTPROPERTY_CODE_RETAIN_AVAILABLE);
    line->limits = (struct line_limits){.packet = packet > 0 ? (uint32_t)packet : UINT32_MAX,
                                        .qos = qos >= 0 ? (uint8_t)qos : 2,
                                        .retain = retain != 0};
    connected(line);
}

// What paho says where there has been no CONNACK, and what that means.
static const char *plainly(const struct line *line, const char *message)
{
    if (!message)
        return "no way to it";
    if (strcmp(message, "TCP/TLS connect failure") == 0)
        return line->tls ? "the connection is refused, or the TLS handshake fails"
                         : "the connection is refused";
    if (strcmp(message, "TCP connect timeout") == 0)
        return "no answer";
    return "it closes the connection at once";
}

static void not_connected_4(void *arg, MQTTAsync_failureData *data)
{
    static const char *const codes[] = {NULL,
                                        "unacceptable protocol version",
                                        "client identifier rejected",
                                        "server unavailable",
                                        "bad user name or password",
                                        "not authorized"};
    struct line *line = arg;
    if (data->code > 0 && data->code < 6)
        line_fail(line, false, codes[data->code]);
    else
        line_fail(line, false, plainly(line, data->message));
}

// A server that knows no MQTT 5 may answer with 3.1.1's code for that, or with MQTT 5's.
static void not_connected_5(void *arg, MQTTAsync_failureData5 *data)
{
    struct line *line = arg;
    const char *name = NULL;
    if (data->code == 1 || data->code == MQTTREASONCODE_UNSUPPORTED_PROTOCOL_VERSION)
        line_fail(line, true, "it does not speak MQTT 5");
    else if (data->code > 0 && (name = MQTTReasonCode_toString((enum MQTTReasonCodes)data->code)))
        line_fail(line, false, name);
    else
        line_fail(line, false, plainly(line, data->message));
}

static void connection_lost(void *arg, char *cause)
{
    (void)cause; // paho never says
    line_fail(arg, false, "the connection has broken");
}

static void disconnected(void *arg, MQTTProperties *properties, enum MQTTReasonCodes reason)
{
    (void)properties;
    char why[100];
    const char *name = MQTTReasonCode_toString(reason);
    snprintf(why, sizeof why, "it disconnects: %s", name ? name : "no reason known");
    line_fail(arg, false, why);
}

// Nothing is subscribed, so none should come.
static int arrived(void *arg, char *topic, int topic_length, MQTTAsync_message *message)
{
    (void)arg;
    (void)topic_length;
    MQTTAsync_freeMessage(&message);
    MQTTAsync_free(topic);
    return 1;
}

static int tls_error(const char *text, size_t length, void *arg)
{
    struct line *line = arg;
    pthread_mutex_lock(&line->lock);
    snprintf(line->tls_error, sizeof line->tls_error, "%.*s", (int)strcspn(text, "\r\n"), text);
    pthread_mutex_unlock(&line->lock);
    return (int)length;
}

static void sent_4(void *arg, MQTTAsync_successData *data)
{
    (void)data;
    item_finish(arg, NULL);
}

static void sent_5(void *arg, MQTTAsync_successData5 *data)
{
    (void)data;
    item_finish(arg, NULL);
}

// The item stays flying: nobody knows whether the upstream has it, so it is sent anew.
static void not_sent_4(void *arg, MQTTAsync_failureData *data)
{
    struct item *item = arg;
    (void)data;
    line_fail(item->line, false, "the connection has broken");
}

// What is refused because of what it is would be refused for ever.
static void not_sent_5(void *arg, MQTTAsync_failureData5 *data)
{
    struct item *item = arg;
    char why[100];
    switch (data->reasonCode) {
    case MQTTREASONCODE_SUCCESS: // there was no answer
        line_fail(item->line, false, "the connection has broken");
        break;
    case MQTTREASONCODE_NOT_AUTHORIZED:
        item_finish(item, "the upstream says: not authorized");
        break;
    case MQTTREASONCODE_TOPIC_NAME_INVALID:
        item_finish(item, "the upstream says: topic name invalid");
        break;
    case MQTTREASONCODE_PAYLOAD_FORMAT_INVALID:
        item_finish(item, "the upstream says: payload format invalid");
        break;
    default:
        snprintf(why, sizeof why, "it does not take a message: reason 0x%02x",
                 (unsigned)data->reasonCode);
        line_fail(item->line, false, why);
    }
}

// ---- the worker's: calls of paho ----

static int client_create(struct line *line)
{
    MQTTAsync_createOptions create = MQTTAsync_createOptions_initializer5;
    create.MQTTVersion = line->version;
    create.maxBufferedMessages = line->window + LINE_QOS0_MESSAGES + 1; // which we never reach
    int rc = MQTTAsync_createWithOptions(&line->client, line->uri, line->client_id,
                                         MQTTCLIENT_PERSISTENCE_NONE, NULL, &create);
    if (rc == MQTTASYNC_SUCCESS)
        rc = MQTTAsync_setCallbacks(line->client, line, connection_lost, arrived, NULL);
    if (rc == MQTTASYNC_SUCCESS)
        rc = MQTTAsync_setDisconnected(line->client, line, disconnected);
    return rc;
}

static MQTTAsync_SSLOptions tls_options(struct line *line)
{
    static const unsigned char alpn[] = "\4mqtt";
    MQTTAsync_SSLOptions tls = MQTTAsync_SSLOptions_initializer;
    tls.trustStore = line->ca_file;
    tls.keyStore = line->certificate_file;
    tls.privateKey = line->key_file;
    tls.enableServerCertAuth = tls.verify = line->verify;
    tls.ssl_error_cb = tls_error;
    tls.ssl_error_context = line;
    tls.protos = alpn;
    tls.protos_len = sizeof alpn - 1;
    return tls;
}

// The session ends with the connection: what is not acknowledged is kept by the broker here.
static int client_connect(struct line *line)
{
    MQTTAsync_SSLOptions tls = tls_options(line);
    MQTTAsync_connectOptions connect = MQTTAsync_connectOptions_initializer;
    connect.MQTTVersion = line->version;
    connect.keepAliveInterval = line->keepalive;
    connect.maxInflight = line->window;
    connect.connectTimeout = CONNECT_SECONDS;
    connect.username = line->username;
    connect.password = line->password;
    connect.ssl = line->tls ? &tls : NULL;
    connect.context = line;
    connect.cleansession = line->version < MQTTVERSION_5;
    connect.cleanstart = line->version >= MQTTVERSION_5;
    if (line->version >= MQTTVERSION_5) {
        connect.onSuccess5 = connected_5;
        connect.onFailure5 = not_connected_5;
    } else {
        connect.onSuccess = connected_4;
        connect.onFailure = not_connected_4;
    }
    return MQTTAsync_connect(line->client, &connect);
}

static void client_start(struct line *line)
{
    int rc = client_create(line);
    if (rc == MQTTASYNC_SUCCESS)
        rc = client_connect(line);
    if (rc != MQTTASYNC_SUCCESS)
        line_fail(line, false, MQTTAsync_strerror(rc));
}

// Whole seconds that are left, rounded up; UINT32_MAX: it does not expire.
static uint32_t seconds_left(int64_t expires_ms)
{
    if (expires_ms == INT64_MAX)
        return UINT32_MAX;
    int64_t left = (expires_ms - loop_now_ms() + 999) / 1000;
    return left < 1 ? 1 : left < UINT32_MAX ? (uint32_t)left : UINT32_MAX - 1;
}

// Why the upstream cannot take it, or NULL.
static const char *item_flaw(const struct item *item)
{
    if (strlen(item->topic) > TOPIC_MAX)
        return "with the prefix its topic is too long";
    if (item->size + HEADER_MAX > item->line->limits.packet)
        return "it is larger than the upstream takes";
    return NULL;
}

static int item_send(struct item *item)
{
    struct line *line = item->line;
    MQTTProperties properties = properties_list(item->properties, seconds_left(item->expires_ms));
    MQTTAsync_responseOptions options = MQTTAsync_responseOptions_initializer;
    options.context = item;
    if (line->version >= MQTTVERSION_5) {
        options.onSuccess5 = sent_5;
        options.onFailure5 = not_sent_5;
        options.properties = properties;
    } else {
        options.onSuccess = sent_4;
        options.onFailure = not_sent_4;
    }
    int qos = item->qos < line->limits.qos ? item->qos : line->limits.qos;
    int rc = MQTTAsync_send(line->client, item->topic, (int)item->payload.length,
                            item->payload.data, qos, item->retain && line->limits.retain, &options);
    free(properties.array);
    return rc;
}

// From here on the item is paho's, until a callback comes.
static void item_launch(struct item *item)
{
    struct line *line = item->line;
    const char *refused = item_flaw(item);
    if (refused) {
        item_finish(item, refused);
        return;
    }
    int rc = item_send(item);
    if (rc == MQTTASYNC_BAD_UTF8_STRING)
        item_finish(item, "its topic is not well-formed");
    else if (rc != MQTTASYNC_SUCCESS)
        line_fail(line, false, MQTTAsync_strerror(rc));
}

static struct item *next_outgoing(struct line *line)
{
    pthread_mutex_lock(&line->lock);
    bool closed = line->ending || line->down || line->flying_bytes >= FLYING_BYTES;
    struct list *node = closed ? NULL : list_take(&line->outgoing);
    struct item *item = node ? list_entry(node, struct item, node) : NULL;
    if (item) {
        list_append(&line->flying, node);
        line->flying_bytes += item->size;
    }
    pthread_mutex_unlock(&line->lock);
    return item;
}

void line_work(struct line *line)
{
    pthread_mutex_lock(&line->lock);
    bool ending = line->ending;
    line->called = false;
    pthread_mutex_unlock(&line->lock);
    if (!line->started && !ending)
        client_start(line);
    line->started = true;
    for (struct item *item; (item = next_outgoing(line));)
        item_launch(item);
    if (ending && !line->ended) {
        if (line->client)
            MQTTAsync_destroy(&line->client); // says DISCONNECT; after it there are no callbacks
        line->ended = true;
    }
}
