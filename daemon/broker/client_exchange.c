// QoS 2 from a client: PUBLISH, PUBREC, PUBREL, PUBCOMP. The exchange belongs to the session, so it
// goes on while nobody is connected [MQTT-4.3.3-8 to -12].
#include <stdlib.h>

#include "base/mem.h"
#include "broker/client_internal.h"

#define ID_BITS 16 // a message's ticket, and a wait for the state: the serial, then the identifier
#define UNRELEASED_MAX 1000 // exchanges that a session may have while there is no memory

static uint64_t ticket_of(const struct exchange *exchange)
{
    return (uint64_t)exchange->serial << ID_BITS | exchange->packet_id;
}

static struct exchange *find(const struct session *session, uint64_t ticket)
{
    struct exchange *exchange = incoming_find(session, (uint16_t)ticket);
    return exchange && exchange->serial == (uint32_t)(ticket >> ID_BITS) ? exchange : NULL;
}

// ---- what an exchange waits for ----

static void durable(void *arg, uint64_t session_id, uint64_t ticket);

static void wait_for_state(struct broker *broker, const struct session *session,
                           struct exchange *exchange)
{
    if (state_is_durable(broker->state))
        return;
    exchange->waits++;
    state_when_durable(broker->state, durable, broker, session->id, ticket_of(exchange));
}

// In the state file, in place of what it has of this exchange.
static void put(struct broker *broker, const struct session *session, struct exchange *exchange)
{
    const struct state_incoming row = {.packet_id = exchange->packet_id,
                                       .mapped = exchange->mapped};
    state_put_incoming(broker->state, session->id, &row, exchange->publication);
    exchange->stored = true;
    wait_for_state(broker, session, exchange);
}

static void drop(struct broker *broker, const struct session *session, struct exchange *exchange)
{
    if (!exchange->stored)
        return;
    state_drop_incoming(broker->state, session->id, exchange->packet_id, exchange->publication);
    exchange->stored = false;
    wait_for_state(broker, session, exchange);
}

// In PostgreSQL.
static void forget(struct broker *broker, const struct session *session, struct exchange *exchange)
{
    if (!exchange->mapped)
        return;
    exchange->waits++;
    broker->calls.exchange_forget(broker->calls.arg, session->id, exchange->packet_id);
}

// The PUBREC that is due on this connection, in its turn [MQTT-4.6.0-3].
static void answer_publish(const struct session *session, const struct exchange *exchange)
{
    struct client *client = client_of(session);
    uint64_t ticket;
    if (!client)
        return;
    const struct window_entry *entry = window_find(&client->window, exchange->packet_id, &ticket);
    if (!entry || entry->qos != 2)
        return;
    window_settle(&client->window, client->window.generation, ticket, exchange->reason);
    client_later(client);
}

// PUBREC will say that the message is refused: its identifier is gone before [MQTT-4.3.3-9].
static void fail(struct broker *broker, const struct session *session, struct exchange *exchange)
{
    exchange->failed = true;
    if (session->durable) {
        state_drop_incoming(broker->state, session->id, exchange->packet_id, exchange->publication);
        wait_for_state(broker, session, exchange);
    }
    if (exchange->mapped)
        forget(broker, session, exchange);
}

static void end_publish(struct broker *broker, struct session *session, struct exchange *exchange)
{
    if (exchange->reason >= REASON_UNSPECIFIED_ERROR && session->version == PACKET_V5 &&
        !exchange->failed)
        fail(broker, session, exchange);
    if (exchange->waits > 0)
        return;
    exchange->phase = EXCHANGE_RECEIVED;
    answer_publish(session, exchange);
    if (exchange->failed)
        incoming_remove(session, exchange->packet_id);
}

static void send_pubcomp(struct client *client, uint16_t packet_id, uint8_t reason)
{
    if (client->outstanding > 0)
        client->outstanding--;
    client_send_ack(client, PACKET_PUBCOMP, packet_id, reason);
}

// PostgreSQL has forgotten it, if it had it: the state file may, and then it is the client's turn.
static void end_release(struct broker *broker, struct session *session, struct exchange *exchange)
{
    drop(broker, session, exchange);
    if (exchange->waits > 0)
        return;
    struct client *client = client_of(session);
    const struct exchange ended = *exchange;
    incoming_remove(session, ended.packet_id);
    if (!client)
        return;
    // A client that comes back repeats its PUBREL: with two answers the second would be taken for
    // one to what comes next under the identifier.
    if (client->id == ended.connection)
        send_pubcomp(client, ended.packet_id, ended.reason);
    client_resume(client); // a PUBLISH may wait for its identifier
}

static void go_on(struct broker *broker, struct session *session, struct exchange *exchange)
{
    if (exchange->waits > 0)
        return;
    if (exchange->phase == EXCHANGE_PENDING)
        end_publish(broker, session, exchange);
    else
        end_release(broker, session, exchange);
}

static void durable(void *arg, uint64_t session_id, uint64_t ticket)
{
    struct broker *broker = arg;
    struct session *session = session_by_id(broker->sessions, session_id);
    struct exchange *exchange = session ? find(session, ticket) : NULL;
    if (!exchange)
        return;
    exchange->waits--;
    go_on(broker, session, exchange);
}

void exchange_forgotten(struct broker *broker, uint64_t session_id, uint16_t packet_id)
{
    struct session *session = session_by_id(broker->sessions, session_id);
    struct exchange *exchange = session ? incoming_find(session, packet_id) : NULL;
    bool due =
        exchange && exchange->mapped && (exchange->failed || exchange->phase == EXCHANGE_RELEASING);
    if (!due)
        return;
    exchange->mapped = false;
    exchange->waits--;
    go_on(broker, session, exchange);
}

// ---- PostgreSQL's verdict ----

// Whether its rows exist is PostgreSQL's to say, whatever we remember: rows and identifier are
// committed together.
static void judge(struct broker *broker, struct message *message)
{
    const struct broker_calls *calls = &broker->calls;
    if (message->session == 0) {
        calls->message(calls->arg, message);
    } else if (!calls->exchanges_known(calls->arg)) {
        broker->judging = mem_grow(broker->judging, broker->judging_count,
                                   &broker->judging_capacity, sizeof(struct message *));
        broker->judging[broker->judging_count++] = message;
    } else if (calls->exchange_stored(calls->arg, message->session, message->packet_id)) {
        message_release(message, VERDICT_DEDUPLICATED, "its packet identifier is stored");
    } else {
        calls->message(calls->arg, message);
    }
}

void exchanges_judge(struct broker *broker)
{
    struct message **waiting = broker->judging;
    size_t count = broker->judging_count;
    broker->judging = NULL;
    broker->judging_count = broker->judging_capacity = 0;
    for (size_t i = 0; i < count; i++)
        judge(broker, waiting[i]);
    free(waiting);
}

void exchanges_abandon(struct broker *broker)
{
    for (size_t i = 0; i < broker->judging_count; i++)
        message_release(broker->judging[i], VERDICT_ABANDONED, "stopped before it was judged");
    free(broker->judging);
    broker->judging = NULL;
    broker->judging_count = broker->judging_capacity = 0;
}

// Only a new PUBLISH under the same identifier brings it again, so that must be new to us.
static void abandon(struct broker *broker, struct session *session, struct exchange *exchange)
{
    struct client *client = client_of(session);
    if (session->durable)
        state_drop_incoming(broker->state, session->id, exchange->packet_id, exchange->publication);
    incoming_remove(session, exchange->packet_id);
    if (!client)
        return;
    client->abandoned = true;
    client_later(client);
}

// A session that outlives its connection is found by its own id, another by its client.
static struct session *session_of(struct broker *broker, const struct message *message)
{
    if (message->session)
        return session_by_id(broker->sessions, message->session);
    struct client *client = client_by_id(broker, message->generation);
    return client ? client->session : NULL;
}

void exchange_settled(struct broker *broker, const struct message *message)
{
    struct session *session = session_of(broker, message);
    struct exchange *exchange = session ? find(session, message->ticket) : NULL;
    if (!exchange || exchange->phase != EXCHANGE_PENDING)
        return;
    if (message->verdict == VERDICT_ABANDONED) {
        abandon(broker, session, exchange);
        return;
    }
    if (message->verdict == VERDICT_REJECTED)
        exchange->reason = REASON_PAYLOAD_FORMAT_INVALID;
    exchange->waits--;
    go_on(broker, session, exchange);
}

// ---- PUBLISH ----

static void hand_up(struct client *client, const struct arrival *arrival, uint64_t ticket)
{
    struct session *session = client->session;
    struct message *message = client_message(client, arrival, ticket);
    if (session->durable) {
        message->session = session->id;
        message->packet_id = arrival->packet->publish.packet_id;
    }
    judge(client->broker, message);
}

static void refuse(struct client *client, const struct arrival *arrival, uint8_t reason)
{
    client->outstanding++;
    client_push(client, arrival, 0, reason, NULL);
    client_count_unmapped(client, VERDICT_DROPPED);
}

// At PUBLISH [MQTT-4.3.3-10]: it is not kept until PUBREL, for it is to make room.
static bool delete_retained(struct client *client, const struct arrival *arrival)
{
    struct publication *publication = client_publication(client, arrival);
    bool stored = sessions_publish(client->broker->sessions, publication).stored;
    publication_release(publication);
    return stored;
}

static void begin(struct client *client, const struct arrival *arrival)
{
    struct session *session = client->session;
    const struct packet_publish *publish = &arrival->packet->publish;
    bool wanted = client_is_wanted(client, arrival), stored = false;
    bool full = wanted && client->broker->memory.full;
    if (full && publish->retain && publish->payload.length == 0) {
        stored = delete_retained(client, arrival);
    } else if (full && client_memory_full(client) && client->version == PACKET_V5 &&
               !arrival->mapped) {
        refuse(client, arrival, REASON_QUOTA_EXCEEDED);
        return;
    }
    struct exchange *exchange = incoming_add(session, arrival->packet->publish.packet_id);
    uint64_t ticket = ticket_of(exchange);
    exchange->publication = wanted && !full ? client_publication(client, arrival) : NULL;
    exchange->mapped = arrival->mapped && session->durable;
    exchange->reason = wanted || arrival->mapped ? REASON_SUCCESS : REASON_NO_MATCHING_SUBSCRIBERS;
    if (session->durable)
        put(client->broker, session, exchange);
    else if (stored)
        wait_for_state(client->broker, session, exchange);
    exchange->waits = (uint8_t)(exchange->waits + arrival->mapped);
    exchange->phase = exchange->waits > 0 ? EXCHANGE_PENDING : EXCHANGE_RECEIVED;
    client->outstanding++;
    client_push(client, arrival, exchange->waits > 0, exchange->reason, NULL);
    if (arrival->mapped)
        hand_up(client, arrival, ticket);
    else
        client_count_unmapped(client, VERDICT_SKIPPED);
}

// After a crash we may remember what PostgreSQL never got: that is judged anew.
static void repeat(struct client *client, const struct arrival *arrival, struct exchange *exchange)
{
    bool again = exchange->unsure && arrival->mapped;
    uint64_t ticket = ticket_of(exchange);
    if (again) {
        exchange->unsure = false;
        exchange->phase = EXCHANGE_PENDING;
        exchange->waits++;
    }
    client_push(client, arrival, exchange->phase == EXCHANGE_PENDING, exchange->reason, NULL);
    if (again)
        hand_up(client, arrival, ticket);
    else
        client_count_unmapped(client, VERDICT_SKIPPED);
}

enum conn_next client_take_exactly_once(struct client *client, const struct arrival *arrival)
{
    struct exchange *exchange = incoming_find(client->session, arrival->packet->publish.packet_id);
    if (exchange && exchange->phase == EXCHANGE_RELEASING)
        return client_hold(client); // its PUBCOMP goes first
    if (!arrival->allowed && !exchange)
        refuse(client, arrival, REASON_NOT_AUTHORIZED);
    else if (exchange)
        repeat(client, arrival, exchange);
    else if (incoming_count(client->session) >= UNRELEASED_MAX && client_memory_full(client))
        return client_refuse(client, REASON_QUOTA_EXCEEDED,
                             "too many messages without PUBREL, and no memory is left");
    else
        begin(client, arrival);
    return CONN_NEXT;
}

// ---- PUBREL ----

// Delivered and forgotten in one transaction; PUBCOMP leaves after it. What PostgreSQL has is
// remembered until it has forgotten it: else, after a crash, a new message under the identifier
// would be taken for this one.
static void release(struct client *client, struct exchange *exchange)
{
    struct broker *broker = client->broker;
    struct session *session = client->session;
    struct publication *publication = exchange->publication;
    bool stored = false;
    exchange->phase = EXCHANGE_RELEASING;
    exchange->connection = client->id;
    exchange->reason = REASON_SUCCESS;
    if (publication)
        stored = sessions_publish(broker->sessions, publication).stored && !exchange->stored;
    bool remember = exchange->stored && exchange->mapped;
    if (publication || !remember)
        drop(broker, session, exchange);
    exchange->publication = NULL;
    if (publication && remember)
        put(broker, session, exchange);
    if (stored)
        wait_for_state(broker, session, exchange);
    publication_release(publication);
    forget(broker, session, exchange);
    go_on(broker, session, exchange);
}

enum conn_next client_take_pubrel(struct client *client, const struct packet *packet)
{
    uint16_t packet_id = packet->ack.packet_id;
    struct exchange *exchange = incoming_find(client->session, packet_id);
    if (window_holds(&client->window, packet_id) ||
        (exchange && exchange->phase == EXCHANGE_PENDING))
        return client_refuse(client, REASON_PROTOCOL_ERROR, "PUBREL before PUBREC");
    if (!exchange) // [MQTT-4.3.3-11]
        send_pubcomp(client, packet_id, REASON_PACKET_ID_NOT_FOUND);
    else if (exchange->phase == EXCHANGE_RECEIVED)
        release(client, exchange);
    else
        exchange->connection = client->id;
    return CONN_NEXT;
}
