// The broker with a loop, a pipeline and a database that the test plays, and clients on real
// sockets. Topics that begin with "db/" are mapped.
#pragma once

#include <event2/event.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "broker/broker.h"
#include "mqtt/packet.h"

enum { RIG_MESSAGES = 1000, RIG_IDS = 100, PEER_BYTES = 65536, RIG_PATIENCE_MS = 20000 };

struct rig_id {
    uint64_t session;
    uint16_t packet_id;
};

struct rig;

struct peer {
    struct rig *rig;
    int fd;
    uint8_t version;
    uint8_t bytes[PEER_BYTES];
    size_t length;
    char text[64];
};

struct rig {
    struct loop *loop;
    struct worker *worker;
    struct budget budget;
    struct broker_listen listen;
    struct broker_options options;
    struct broker *broker;
    struct message *messages[RIG_MESSAGES]; // handed up, NULL once they are settled
    size_t message_count;
    bool known; // PostgreSQL's identifiers
    struct rig_id stored[RIG_IDS], forgets[RIG_IDS];
    size_t stored_count, forget_count;
    unsigned windows_full;
    uint64_t ended; // the last durable session that is no more
    bool stopped;
    char directory[32], state[64], accounts[64];
    struct peer sensor; // of rig_open_sensor
};

// ---- what the broker calls ----

static inline bool rig_wants(void *arg, const char *topic, size_t length)
{
    (void)arg;
    return length >= 3 && memcmp(topic, "db/", 3) == 0;
}

static inline void rig_message(void *arg, struct message *message)
{
    struct rig *rig = arg;
    assert_true(rig->message_count < RIG_MESSAGES);
    rig->messages[rig->message_count++] = message;
}

static inline void rig_window_full(void *arg)
{
    ((struct rig *)arg)->windows_full++;
}

static inline bool rig_known(void *arg)
{
    return ((const struct rig *)arg)->known;
}

static inline bool rig_stored(void *arg, uint64_t session, uint16_t packet_id)
{
    const struct rig *rig = arg;
    for (size_t i = 0; i < rig->stored_count; i++)
        if (rig->stored[i].session == session && rig->stored[i].packet_id == packet_id)
            return true;
    return false;
}

static inline void rig_forget(void *arg, uint64_t session, uint16_t packet_id)
{
    struct rig *rig = arg;
    assert_true(rig->forget_count < RIG_IDS);
    rig->forgets[rig->forget_count++] = (struct rig_id){session, packet_id};
}

static inline void rig_ended(void *arg, uint64_t session)
{
    ((struct rig *)arg)->ended = session;
}

static inline void rig_room(void *arg)
{
    broker_resume(((struct rig *)arg)->broker);
}

// ---- the broker ----

static inline void rig_open(struct rig *rig)
{
    const struct broker_calls calls = {.wants = rig_wants,
                                       .message = rig_message,
                                       .window_full = rig_window_full,
                                       .exchanges_known = rig_known,
                                       .exchange_stored = rig_stored,
                                       .exchange_forget = rig_forget,
                                       .session_ended = rig_ended,
                                       .arg = rig};
    char *error = NULL;
    rig->broker = broker_new(rig->loop, rig->worker, &rig->budget, &rig->options, &calls, &error);
    if (!rig->broker || !broker_start(rig->broker, &error))
        fail_msg("%s", error);
}

static inline void rig_settle(struct rig *rig, size_t index, enum verdict verdict)
{
    struct message *message = rig->messages[index];
    assert_true(index < rig->message_count && message);
    rig->messages[index] = NULL;
    if (message->session && (verdict == VERDICT_STORED || verdict == VERDICT_REJECTED))
        rig->stored[rig->stored_count++] = (struct rig_id){message->session, message->packet_id};
    message_release(message, verdict, NULL);
}

// The transaction that forgets the oldest identifiers that are to be forgotten is committed.
static inline void rig_forget_now(struct rig *rig)
{
    size_t count = rig->forget_count;
    assert_true(count > 0);
    rig->forget_count = 0;
    for (size_t i = 0; i < count; i++) {
        struct rig_id id = rig->forgets[i];
        for (size_t at = 0; at < rig->stored_count; at++)
            if (rig->stored[at].session == id.session && rig->stored[at].packet_id == id.packet_id)
                rig->stored[at--] = rig->stored[--rig->stored_count];
        broker_exchange_forgotten(rig->broker, id.session, id.packet_id);
    }
}

// Books balance, and nothing is pending but what the test holds.
static inline void rig_close(struct rig *rig)
{
    uint64_t held = 0;
    for (size_t i = 0; i < rig->message_count; i++)
        held += rig->messages[i] != NULL;
    assert_int_equal(books_pending(&broker_source(rig->broker)->books), held);
    for (size_t i = 0; i < rig->message_count; i++)
        if (rig->messages[i])
            rig_settle(rig, i, VERDICT_ABANDONED);
    broker_free(rig->broker);
    rig->broker = NULL;
    rig->message_count = 0;
    assert_int_equal(rig->budget.used, 0);
}

static inline uint16_t free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    close(fd);
    return ntohs(address.sin_port);
}

static inline int rig_set_up(void **state)
{
    struct rig *rig = mem_zalloc(sizeof *rig);
    log_init(LOG_LEVEL_ERROR);
    rig->loop = loop_new();
    rig->worker = worker_new(rig->loop, 2);
    rig->budget = (struct budget){.limit = 1 << 20, .room = rig_room, .arg = rig};
    rig->known = true;
    rig->sensor.fd = -1;
    strcpy(rig->directory, "/tmp/slbroker.XXXXXX");
    assert_non_null(mkdtemp(rig->directory));
    snprintf(rig->state, sizeof rig->state, "%s/broker.db", rig->directory);
    snprintf(rig->accounts, sizeof rig->accounts, "%s/users", rig->directory);
    static char name[] = "broker", text[] = "the test's", host[] = "127.0.0.1";
    rig->listen =
        (struct broker_listen){.text = text, .host = host, .port = free_port(), .loopback = true};
    rig->options = (struct broker_options){
        .name = name,
        .listens = &rig->listen,
        .listen_count = 1,
        .allow_anonymous = true,
        .connections = 100,
        .connect_timeout = 10,
        .packet_size = 1 << 20,
        .window = 20,
        .inflight = 20,
        .topic_aliases = 10,
        .session_expiry = UINT32_MAX,
        .subscriptions = 100,
        .queued_messages = 100,
        .queued_bytes = 1 << 20,
        .received_bytes = 10000,
        .unsent_bytes = 1 << 18,
        .write_timeout = 60,
        .memory = 1 << 22,
    };
    *state = rig;
    return 0;
}

// With a state file.
static inline int rig_set_up_durable(void **state)
{
    rig_set_up(state);
    struct rig *rig = *state;
    rig->options.state = rig->state;
    return 0;
}

static inline int rig_tear_down(void **state)
{
    struct rig *rig = *state;
    char command[64];
    if (rig->sensor.fd >= 0)
        close(rig->sensor.fd);
    if (rig->broker)
        rig_close(rig);
    worker_free(rig->worker);
    loop_free(rig->loop);
    snprintf(command, sizeof command, "rm -rf %s", rig->directory);
    assert_int_equal(system(command), 0);
    free(rig);
    return 0;
}

// Lets the broker run a little.
static inline void rig_run(struct rig *rig)
{
    event_base_loop(loop_base(rig->loop), EVLOOP_NONBLOCK);
    usleep(200);
}

#define rig_wait(rig, condition)                                                                   \
    do {                                                                                           \
        int64_t until = loop_now_ms() + RIG_PATIENCE_MS;                                           \
        while (!(condition) && loop_now_ms() < until)                                              \
            rig_run(rig);                                                                          \
        assert_true(condition);                                                                    \
    } while (0)

// ---- clients ----

static inline void peer_send(struct peer *peer, const struct packet *packet)
{
    uint8_t bytes[PEER_BYTES];
    struct bytes_writer writer = bytes_writer(bytes, sizeof bytes);
    struct packet copy = *packet;
    copy.version = peer->version;
    packet_write(&writer, &copy);
    assert_false(writer.bad);
    assert_int_equal(send(peer->fd, bytes, writer.length, MSG_NOSIGNAL), writer.length);
}

static inline void peer_send_ack(struct peer *peer, enum packet_type type, uint16_t packet_id)
{
    peer_send(peer, &(struct packet){.type = type, .ack.packet_id = packet_id});
}

static inline void peer_publish(struct peer *peer, const char *topic, const char *payload,
                                uint8_t qos, uint16_t packet_id, bool dup)
{
    peer_send(peer, &(struct packet){.type = PACKET_PUBLISH,
                                     .publish = {.topic = bytes_of(topic),
                                                 .payload = bytes_of(payload),
                                                 .qos = qos,
                                                 .packet_id = packet_id,
                                                 .dup = dup}});
}

static inline const char *describe(struct peer *peer, const struct packet *packet)
{
    char *text = peer->text;
    size_t size = sizeof peer->text;
    const char *name = packet_type_name(packet->type);
    switch (packet->type) {
    case PACKET_CONNACK:
        snprintf(text, size, "%s %02x%s", name, packet->connack.reason,
                 packet->connack.session_present ? " present" : "");
        break;
    case PACKET_PUBLISH:
        snprintf(text, size, "%s %u %.*s=%.*s", name, packet->publish.packet_id,
                 (int)packet->publish.topic.length, (const char *)packet->publish.topic.data,
                 (int)packet->publish.payload.length, (const char *)packet->publish.payload.data);
        break;
    case PACKET_PUBACK:
    case PACKET_PUBREC:
    case PACKET_PUBREL:
    case PACKET_PUBCOMP:
        snprintf(text, size, packet->ack.reason ? "%s %u %02x" : "%s %u", name,
                 packet->ack.packet_id, packet->ack.reason);
        break;
    case PACKET_SUBACK:
        snprintf(text, size, "%s %u %02x", name, packet->suback.packet_id,
                 packet->suback.codes.data[0]);
        break;
    case PACKET_DISCONNECT:
        snprintf(text, size, "%s %02x", name, packet->reason.reason);
        break;
    default:
        snprintf(text, size, "%s", name);
    }
    return text;
}

static inline bool peer_take(struct peer *peer)
{
    struct packet_frame frame;
    struct packet_error error;
    struct packet packet;
    struct bytes input = {peer->bytes, peer->length};
    if (packet_frame(input, &frame, &error) != PACKET_OK ||
        frame.header_length + frame.body_length > peer->length)
        return false;
    assert_true(packet_parse(&frame, peer->bytes + frame.header_length, peer->version,
                             PACKET_FROM_SERVER, &packet, &error));
    describe(peer, &packet);
    size_t size = frame.header_length + frame.body_length;
    memmove(peer->bytes, peer->bytes + size, peer->length - size);
    peer->length -= size;
    return true;
}

// The next packet, as a text such as "PUBACK 5 99" (with the reason, unless it is 0), or "closed".
static inline const char *peer_next(struct peer *peer)
{
    int64_t until = loop_now_ms() + RIG_PATIENCE_MS;
    while (!peer_take(peer)) {
        ssize_t got = recv(peer->fd, peer->bytes + peer->length, sizeof peer->bytes - peer->length,
                           MSG_DONTWAIT);
        if (got == 0)
            return "closed";
        if (got > 0)
            peer->length += (size_t)got;
        if (loop_now_ms() > until)
            return "nothing";
        rig_run(peer->rig);
    }
    return peer->text;
}

#define expect(peer, expected) assert_string_equal(peer_next(peer), expected)

// Nothing has come, and nothing is on its way: what was sent is dealt with.
static inline void expect_nothing(struct peer *peer)
{
    peer_send(peer, &(struct packet){.type = PACKET_PINGREQ});
    expect(peer, "PINGRESP");
}

static inline void peer_open(struct peer *peer, struct rig *rig, uint8_t version)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(rig->listen.port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    *peer = (struct peer){.rig = rig, .version = version};
    peer->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(peer->fd, (struct sockaddr *)&address, sizeof address), 0);
}

static inline void peer_close(struct peer *peer)
{
    close(peer->fd);
    peer->fd = -1;
}

// A CONNECT with keepalive 0; keep: the session outlives the connection.
static inline struct packet connect_packet(uint8_t version, const char *client_id, bool keep)
{
    struct packet packet = {.type = PACKET_CONNECT,
                            .connect = {.client_id = bytes_of(client_id), .clean_start = !keep}};
    if (version == PACKET_V5 && keep) {
        packet.properties.present = PROPERTY_BIT(PROPERTY_SESSION_EXPIRY);
        packet.properties.session_expiry = UINT32_MAX;
    }
    return packet;
}

static inline void peer_connect(struct peer *peer, struct rig *rig, uint8_t version,
                                const char *client_id, bool keep)
{
    struct packet packet = connect_packet(version, client_id, keep);
    peer_open(peer, rig, version);
    peer_send(peer, &packet);
    assert_true(strncmp(peer_next(peer), "CONNACK 00", 10) == 0);
}

static inline void peer_subscribe(struct peer *peer, const char *filter, uint8_t qos)
{
    uint8_t bytes[200];
    char text[32];
    struct bytes_writer writer = bytes_writer(bytes, sizeof bytes);
    const struct packet_filter one = {.filter = bytes_of(filter), .qos = qos};
    packet_write_filter(&writer, PACKET_SUBSCRIBE, peer->version, &one);
    peer_send(peer,
              &(struct packet){.type = PACKET_SUBSCRIBE,
                               .subscribe = {.packet_id = 1, .filters = {bytes, writer.length}}});
    snprintf(text, sizeof text, "SUBACK 1 %02x", qos);
    expect(peer, text);
}

// ---- beginnings ----

// Opens the broker, to which a sensor comes whose session outlives its connection; the rig closes
// it.
static inline struct peer *rig_open_sensor(struct rig *rig, uint8_t version)
{
    rig_open(rig);
    peer_connect(&rig->sensor, rig, version, "sensor", true);
    return &rig->sensor;
}

// The sensor with its session, after peer_close.
static inline void peer_come_back(struct peer *peer)
{
    peer_connect(peer, peer->rig, peer->version, "sensor", true);
}

// Publishes to "db/a" with QoS 2; returns which of the rig's messages has been handed up.
static inline size_t peer_hand_up(struct peer *peer, uint16_t packet_id, bool dup)
{
    struct rig *rig = peer->rig;
    size_t index = rig->message_count;
    peer_publish(peer, "db/a", "1", 2, packet_id, dup);
    rig_wait(rig, rig->message_count == index + 1);
    return index;
}
