// PUBLISH from a client: who may, whom it reaches, and when it is acknowledged.
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "broker/client_internal.h"

#define ENTRY_SIZE 64   // what an unacknowledged message costs besides its bytes
#define SMALL_TOPIC 256 // an alias may have it though there is no memory: clients are bounded

// ---- the topic ----

// False where there is no memory for a long one: the connection was ended then.
static bool alias_set(struct client *client, uint32_t number, struct bytes topic)
{
    struct budget *memory = &client->broker->memory;
    if (!client->aliases)
        client->aliases = mem_zalloc(client->alias_count * sizeof *client->aliases);
    struct topic_alias *alias = &client->aliases[number - 1];
    if (alias->topic && bytes_equal((struct bytes){alias->topic, alias->length}, topic))
        return true;
    if (memory->full && topic.length > SMALL_TOPIC) {
        client_end(client, REASON_QUOTA_EXCEEDED,
                   "no memory for a topic alias: all memory in [broker] is in use");
        return false;
    }
    budget_take(memory, topic.length);
    budget_give(memory, alias->length);
    free(alias->topic);
    alias->topic = mem_alloc(topic.length);
    memcpy(alias->topic, topic.data, topic.length);
    alias->length = topic.length;
    return true;
}

void client_free_aliases(struct client *client)
{
    if (!client->aliases)
        return;
    for (uint16_t i = 0; i < client->alias_count; i++) {
        budget_give(&client->broker->memory, client->aliases[i].length);
        free(client->aliases[i].topic);
    }
    free(client->aliases);
}

// False where the alias is no good: the connection was ended then [MQTT-3.3.2-9].
static bool topic_take(struct client *client, const struct packet *packet, struct bytes *topic)
{
    const struct property_set *set = &packet->properties;
    *topic = packet->publish.topic;
    if (!property_has(set, PROPERTY_TOPIC_ALIAS))
        return true;
    uint32_t number = set->topic_alias;
    if (number > client->alias_count) {
        client_end(client, REASON_TOPIC_ALIAS_INVALID, "a topic alias above the maximum");
        return false;
    }
    if (topic->length > 0)
        return alias_set(client, number, *topic);
    if (!client->aliases || !client->aliases[number - 1].topic) {
        client_end(client, REASON_PROTOCOL_ERROR, "a topic alias that was never set");
        return false;
    }
    *topic = (struct bytes){client->aliases[number - 1].topic, client->aliases[number - 1].length};
    return true;
}

// Topics that begin with $ are the broker's own [MQTT-4.7.2-1].
static bool may_publish(const struct client *client, struct bytes topic)
{
    struct broker *broker = client->broker;
    char text[CLIENT_TEXT_SIZE], more[LOG_MORE_SIZE];
    uint64_t suppressed;
    if (topic.data[0] != '$' &&
        acl_allows(broker->acl, client->username, client->session->client_id, ACL_WRITE,
                   (const char *)topic.data, topic.length))
        return true;
    if (log_limit_pass(&broker->denied_limit, &suppressed))
        log_warn("%s: %s may not publish to '%.*s'%s: allow it in acl_file, or change the client",
                 broker->source.name, client_text(client, text), (int)topic.length,
                 (const char *)topic.data, log_more(suppressed, more));
    return false;
}

// ---- counting ----

void client_count_unmapped(struct client *client, enum verdict verdict)
{
    struct books *books = &client->broker->source.books;
    books_receive(books);
    books_settle(books, verdict);
}

static void count_publish(struct client *client, const struct packet_publish *publish)
{
    struct sys_counters *counters = &client->broker->counters;
    counters->publish_received++;
    counters->publish_received_bytes += publish->payload.length;
}

// ---- flow control ----

enum room { ROOM, ROOM_LATER, ROOM_NEVER };

static enum room room_of(struct client *client, const struct arrival *arrival)
{
    struct broker *broker = client->broker;
    const struct broker_options *options = broker->options;
    size_t size = arrival->size + ENTRY_SIZE;
    if (client->version == PACKET_V5 && client->outstanding >= client->window.limit)
        return ROOM_NEVER; // [MQTT-3.3.4-7]
    if (window_full(&client->window))
        return ROOM_LATER;
    if (client->version == PACKET_V311 && client->received_bytes > 0 &&
        client->received_bytes + size > options->received_bytes) {
        broker->calls.window_full(broker->calls.arg);
        return ROOM_LATER;
    }
    if (arrival->mapped && broker->budget->full) {
        list_remove(&client->stall_node);
        list_append(&broker->stalled, &client->stall_node);
        return ROOM_LATER;
    }
    return ROOM;
}

// ---- whom it reaches ----

static void log_memory_full(struct broker *broker)
{
    char more[LOG_MORE_SIZE];
    uint64_t suppressed;
    if (log_limit_pass(&broker->memory_limit, &suppressed))
        log_warn("%s: a message to subscribers is refused%s: all %zu bytes of memory in [broker] "
                 "are in use; raise it, or see which session is not read",
                 broker->source.name, log_more(suppressed, more), broker->memory.limit);
}

bool client_is_wanted(struct client *client, const struct arrival *arrival)
{
    const struct sessions *sessions = client->broker->sessions;
    return arrival->packet->publish.retain ||
           (sessions->subscription_count > 0 && sessions_want(sessions, arrival->topic));
}

bool client_memory_full(struct client *client)
{
    if (client->broker->memory.full)
        log_memory_full(client->broker);
    return client->broker->memory.full;
}

// Looks for subscribers once. What would have to wait is refused while there is no memory; who
// reads gets it all the same, and what is retained can be deleted.
static struct routed route(struct client *client, const struct arrival *arrival)
{
    struct sessions *sessions = client->broker->sessions;
    struct routed routed = {0};
    if (!arrival->packet->publish.retain && sessions->subscription_count == 0)
        return routed;
    struct publication *publication = client_publication(client, arrival);
    routed = sessions_publish(sessions, publication);
    publication_release(publication);
    if (routed.refused > 0)
        client_memory_full(client);
    return routed;
}

// ---- QoS 0 and 1 ----

static void hand_up(struct client *client, const struct arrival *arrival, uint64_t ticket)
{
    struct broker *broker = client->broker;
    broker->calls.message(broker->calls.arg, client_message(client, arrival, ticket));
}

static void take_at_most_once(struct client *client, const struct arrival *arrival)
{
    if (!arrival->allowed) {
        client_count_unmapped(client, VERDICT_DROPPED);
        return;
    }
    route(client, arrival);
    if (!arrival->mapped)
        client_count_unmapped(client, VERDICT_SKIPPED);
    else if (client->broker->budget->full)
        client_count_unmapped(client, VERDICT_DROPPED);
    else
        hand_up(client, arrival, 0);
}

static uint64_t content(const struct arrival *arrival)
{
    const struct packet_publish *publish = &arrival->packet->publish;
    uint64_t hash = hash_add(publish->qos, arrival->topic.data, arrival->topic.length);
    return hash_add(hash, publish->payload.data, publish->payload.length);
}

void client_push(struct client *client, const struct arrival *arrival, uint8_t waits,
                 uint8_t reason, uint64_t *ticket)
{
    const struct packet_publish *publish = &arrival->packet->publish;
    const struct window_entry entry = {.hash = content(arrival),
                                       .size = (uint32_t)(arrival->size + ENTRY_SIZE),
                                       .packet_id = publish->packet_id,
                                       .qos = publish->qos,
                                       .waits = waits,
                                       .reason = reason};
    uint64_t pushed = window_push(&client->window, &entry);
    client->received_bytes += entry.size;
    if (ticket)
        *ticket = pushed;
    if (waits == 0)
        client_later(client);
}

static void publish_durable(void *arg, uint64_t client_id, uint64_t ticket)
{
    struct client *client = client_by_id(arg, client_id);
    if (!client)
        return;
    window_settle(&client->window, client->window.generation, ticket, REASON_SUCCESS);
    client_later(client);
}

// Who is told that a message which is in the database was refused would send it again.
static uint8_t accepted(const struct arrival *arrival, const struct routed *routed)
{
    if (arrival->mapped)
        return REASON_SUCCESS;
    if (routed->refused > 0)
        return REASON_QUOTA_EXCEEDED;
    return routed->matched > 0 ? REASON_SUCCESS : REASON_NO_MATCHING_SUBSCRIBERS;
}

static void take_at_least_once(struct client *client, const struct arrival *arrival)
{
    struct broker *broker = client->broker;
    struct routed routed = {0};
    uint8_t reason = REASON_NOT_AUTHORIZED, waits = 0;
    uint64_t ticket;
    if (arrival->allowed) {
        routed = route(client, arrival);
        reason = accepted(arrival, &routed);
    }
    bool stored = routed.stored && !state_is_durable(broker->state);
    waits = (uint8_t)(stored + arrival->mapped);
    client->outstanding++;
    client_push(client, arrival, waits, reason, &ticket);
    if (stored)
        state_when_durable(broker->state, publish_durable, broker, client->id, ticket);
    if (arrival->mapped)
        hand_up(client, arrival, ticket);
    else
        client_count_unmapped(client, arrival->allowed ? VERDICT_SKIPPED : VERDICT_DROPPED);
}

// ---- the packet ----

// The identifier is of a message that we have and have not acknowledged: the same once more (which
// QoS 2 allows without DUP too [MQTT-4.3.3-10]), or an error.
static enum conn_next take_redelivered(struct client *client, const struct arrival *arrival)
{
    const struct packet_publish *publish = &arrival->packet->publish;
    const struct window_entry *entry = window_find(&client->window, publish->packet_id, NULL);
    if (entry->hash != content(arrival) || (publish->qos == 1 && !publish->dup))
        return client_refuse(client, REASON_PROTOCOL_ERROR,
                             "a PUBLISH with the packet identifier of an unacknowledged one");
    count_publish(client, publish);
    client_count_unmapped(client, VERDICT_SKIPPED);
    return CONN_NEXT;
}

static enum conn_next take_acknowledged(struct client *client, const struct arrival *arrival)
{
    struct broker *broker = client->broker;
    const struct packet_publish *publish = &arrival->packet->publish;
    if (window_holds(&client->window, publish->packet_id))
        return take_redelivered(client, arrival);
    enum room room = room_of(client, arrival);
    if (room == ROOM_LATER) {
        client_watch_held(client);
        return client_hold(client);
    }
    if (room == ROOM_NEVER)
        return client_refuse(client, REASON_RECEIVE_MAXIMUM_EXCEEDED,
                             "more unacknowledged messages than Receive Maximum");
    if (publish->qos == 2 && client_take_exactly_once(client, arrival) == CONN_HOLD)
        return CONN_HOLD;
    if (publish->qos == 1)
        take_at_least_once(client, arrival);
    count_publish(client, publish);
    if (arrival->mapped && client->outstanding >= client->window.limit)
        broker->calls.window_full(broker->calls.arg);
    return CONN_NEXT;
}

enum conn_next client_take_publish(struct client *client, const struct packet *packet, size_t size)
{
    struct broker *broker = client->broker;
    struct arrival arrival = {.packet = packet, .size = size};
    if (broker->quiet)
        return client_hold(client);
    if (!topic_take(client, packet, &arrival.topic))
        return CONN_HOLD;
    arrival.allowed = may_publish(client, arrival.topic);
    arrival.mapped =
        arrival.allowed && broker->calls.wants(broker->calls.arg, (const char *)arrival.topic.data,
                                               arrival.topic.length);
    if (packet->publish.qos > 0)
        return take_acknowledged(client, &arrival);
    take_at_most_once(client, &arrival);
    count_publish(client, &packet->publish);
    return CONN_NEXT;
}

void client_settled(struct broker *broker, const struct message *message)
{
    struct client *client = client_by_id(broker, message->generation);
    if (message->qos == 2)
        exchange_settled(broker, message);
    if (message->qos != 1 || !client)
        return;
    if (message->verdict == VERDICT_ABANDONED)
        client->abandoned = true;
    else
        window_settle(&client->window, client->window.generation, message->ticket,
                      message->verdict == VERDICT_REJECTED ? REASON_PAYLOAD_FORMAT_INVALID
                                                           : REASON_SUCCESS);
    client_later(client);
}
