// From a CONNECT that is allowed to CONNACK: take-over, the session, what client and broker grant
// each other.
#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>

#include "broker/client_internal.h"

#define ASSIGNED_SIZE 32   // of a client identifier that we make up
#define SMALL_CONNECT 1024 // bytes with which a will is no matter: connections are bounded

// ---- what is granted ----

static uint32_t at_most(uint32_t asked, uint32_t most)
{
    return asked < most ? asked : most;
}

// 3.1.1 knows two kinds: until the connection ends, and as long as the broker likes.
static void take_expiry(struct client *client, const struct packet *packet)
{
    const struct property_set *set = &packet->properties;
    if (packet->version == PACKET_V311)
        client->asked_expiry = packet->connect.clean_start ? 0 : UINT32_MAX;
    else
        client->asked_expiry = property_has(set, PROPERTY_SESSION_EXPIRY) ? set->session_expiry : 0;
}

// Only MQTT 5 can be told of another keepalive [MQTT-3.1.2-21]; 3.1.1 keeps to its own.
static void take_keepalive(struct client *client, const struct packet *packet)
{
    uint16_t asked = packet->connect.keep_alive, most = client->broker->options->keepalive;
    client->keepalive = client->asked_keepalive = asked;
    if (packet->version == PACKET_V5 && most > 0 && (asked == 0 || asked > most))
        client->keepalive = most;
}

static void take_limits(struct client *client, const struct packet *packet)
{
    const struct broker_options *options = client->broker->options;
    const struct property_set *set = &packet->properties;
    bool v5 = packet->version == PACKET_V5;
    uint32_t receive_maximum =
        property_has(set, PROPERTY_RECEIVE_MAXIMUM) ? set->receive_maximum : UINT16_MAX;
    uint32_t aliases =
        property_has(set, PROPERTY_TOPIC_ALIAS_MAXIMUM) ? set->topic_alias_maximum : 0;
    client->send.sink.window = (uint16_t)at_most(receive_maximum, options->inflight);
    client->send.alias_max = (uint16_t)at_most(aliases, options->topic_aliases);
    client->alias_count = v5 ? options->topic_aliases : 0;
    client->limits.packet = options->packet_size;
    // 3.1.1 has no Receive Maximum: the bytes are its bound.
    window_init(&client->window, v5 ? options->window : UINT16_MAX);
    take_expiry(client, packet);
    take_keepalive(client, packet);
}

// ---- CONNACK ----

static void grant(struct property_set *set, enum property_id id, uint32_t *field, uint32_t value)
{
    set->present |= PROPERTY_BIT(id);
    *field = value;
}

// Only what is not as the client takes for granted.
static void grants(const struct client *client, struct property_set *set)
{
    const struct broker_options *options = client->broker->options;
    const struct session *session = client->session;
    if (session->expiry != client->asked_expiry)
        grant(set, PROPERTY_SESSION_EXPIRY, &set->session_expiry, session->expiry);
    if (client->window.limit != UINT16_MAX)
        grant(set, PROPERTY_RECEIVE_MAXIMUM, &set->receive_maximum, client->window.limit);
    if (options->packet_size < PACKET_HEADER_MAX + BYTES_VARINT_MAX)
        grant(set, PROPERTY_MAXIMUM_PACKET_SIZE, &set->maximum_packet_size, options->packet_size);
    if (client->alias_count > 0)
        grant(set, PROPERTY_TOPIC_ALIAS_MAXIMUM, &set->topic_alias_maximum, client->alias_count);
    if (client->keepalive != client->asked_keepalive)
        grant(set, PROPERTY_SERVER_KEEP_ALIVE, &set->server_keep_alive, client->keepalive);
    if (client->assigned) {
        set->present |= PROPERTY_BIT(PROPERTY_ASSIGNED_CLIENT_ID);
        set->assigned_client_id = bytes_of(session->client_id);
    }
}

static void log_connected(const struct client *client)
{
    char text[CLIENT_TEXT_SIZE];
    log_info("%s: %s connected: user %.64s, MQTT %s, keepalive %u s, %s",
             client->broker->source.name, client_text(client, text),
             client->username ? client->username : "(anonymous)",
             client->version == PACKET_V5 ? "5" : "3.1.1", client->keepalive,
             client->session_present ? "session present" : "new session");
}

static void welcome(struct client *client)
{
    struct packet packet = {.type = PACKET_CONNACK, .version = client->version};
    packet.connack.session_present = client->session_present;
    if (client->version == PACKET_V5)
        grants(client, &packet.properties);
    log_connected(client);
    client->state = CLIENT_UP;
    if (!client_send_packet(client, &packet)) {
        client_end(client, REASON_SUCCESS, "it takes no packet as large as CONNACK");
        return;
    }
    client->broker->counters.connects++;
    client->seen_ms = loop_now_ms();
    client->send.unsent_max = client->broker->options->unsent_bytes;
    wheel_stop(&client->timer);
    client_keep_alive(client);
    session_pump(client->session);
    client_resume(client);
}

static void session_durable(void *arg, uint64_t client_id, uint64_t unused)
{
    (void)unused;
    struct client *client = client_by_id(arg, client_id);
    if (client)
        welcome(client);
}

// ---- the session ----

static struct bytes assign_id(char id[ASSIGNED_SIZE])
{
    uint64_t number = 0;
    while (getrandom(&number, sizeof number, 0) != sizeof number)
        ;
    snprintf(id, ASSIGNED_SIZE, "auto-%016" PRIx64, number);
    return bytes_of(id);
}

// The client that has the session now gives way [MQTT-3.1.4-3]; a session that ends with its
// connection goes with it.
static struct session *take_over(struct client *client, struct bytes client_id)
{
    struct session *session = session_find(client->broker->sessions, client_id);
    if (!session)
        return NULL;
    if (!session->sink)
        return session;
    client_end((struct client *)(void *)session->sink, REASON_SESSION_TAKEN_OVER,
               "another connection has taken its session over");
    return session_find(client->broker->sessions, client_id);
}

// Whether the state file has to say so before CONNACK does.
static bool settle_session(struct client *client, const struct packet *packet,
                           struct bytes client_id)
{
    struct broker *broker = client->broker;
    uint32_t expiry = at_most(client->asked_expiry, broker->options->session_expiry);
    struct session *session = take_over(client, client_id);
    bool durable = session && session->durable;
    if (session && packet->connect.clean_start) { // [MQTT-3.1.2-4]
        broker->discarding = true;
        session_end(session);
        broker->discarding = false;
        session = NULL;
    }
    client->session_present = session != NULL;
    if (session)
        session_resume(session, client->username, client->version, expiry);
    else
        session =
            session_new(broker->sessions, client_id, client->username, client->version, expiry);
    client->session = session;
    // Attached from now on, for whoever takes the session over; but not ready before CONNACK.
    client->send.unsent_max = 0;
    session_attach(session, &client->send.sink);
    return durable || session->durable;
}

static void take_will(struct client *client, const struct packet_will *will)
{
    struct publication *message = client_will(client, will);
    uint32_t delay =
        property_has(&will->properties, PROPERTY_WILL_DELAY) ? will->properties.will_delay : 0;
    session_set_will(client->session, message, delay);
    publication_release(message);
}

static void count_client(struct sys_counters *counters)
{
    if (++counters->clients > counters->clients_maximum)
        counters->clients_maximum = counters->clients;
}

// What it asks for that nobody may.
static bool is_allowed(struct client *client, const struct packet_connect *connect)
{
    static const char reserved[] = BROKER_TAP_ID;
    if (connect->client_id.length >= sizeof reserved - 1 &&
        memcmp(connect->client_id.data, reserved, sizeof reserved - 1) == 0) {
        client_reject(client, connect, REASON_CLIENT_ID_NOT_VALID, CONNACK_IDENTIFIER_REJECTED,
                      "its client identifier is the broker's own");
        return false;
    }
    if (connect->has_will && connect->will.topic.data[0] == '$') { // [MQTT-4.7.2-1]
        client_reject(client, connect, REASON_NOT_AUTHORIZED, CONNACK_NOT_AUTHORIZED,
                      "its will is for a topic of the broker itself");
        return false;
    }
    return true;
}

// A new session, and a will, stay: when the memory is used up who has a session may come back, and
// who leaves nothing may come, so that sensors go on.
static bool is_affordable(struct client *client, const struct packet *packet,
                          struct bytes client_id)
{
    struct broker *broker = client->broker;
    if (!broker->memory.full)
        return true;
    const struct session *session = session_find(broker->sessions, client_id);
    bool lasting = client->asked_expiry > 0 && broker->options->session_expiry > 0;
    bool large_will = packet->connect.has_will && packet_size(packet) > SMALL_CONNECT;
    if (!large_will && (!lasting || (session && session->durable)))
        return true;
    client_reject(client, &packet->connect, REASON_QUOTA_EXCEEDED, CONNACK_SERVER_UNAVAILABLE,
                  large_will ? "no memory for its will: all memory in [broker] is in use"
                             : "no memory for a new session: all memory in [broker] is in use");
    return false;
}

void client_admit(struct client *client, const struct packet *packet)
{
    struct broker *broker = client->broker;
    char assigned[ASSIGNED_SIZE];
    struct bytes client_id = packet->connect.client_id;
    if (!is_allowed(client, &packet->connect))
        return;
    client->assigned = client_id.length == 0;
    if (client->assigned)
        client_id = assign_id(assigned);
    take_limits(client, packet);
    if (!is_affordable(client, packet, client_id))
        return;
    bool durable = settle_session(client, packet, client_id);
    if (packet->connect.has_will)
        take_will(client, &packet->connect.will);
    count_client(&broker->counters);
    client->state = CLIENT_GREETING;
    if (durable && !state_is_durable(broker->state))
        state_when_durable(broker->state, session_durable, broker, client->id, 0);
    else
        welcome(client);
}
