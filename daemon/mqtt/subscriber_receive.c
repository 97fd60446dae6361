// The subscriber's messages: from PUBLISH to PUBACK, PUBREC and PUBCOMP.
#include <stdlib.h>

#include "base/failpoint.h"
#include "base/hash.h"
#include "base/mem.h"
#include "mqtt/subscriber_internal.h"

#define EXCHANGE_COUNT 65536
#define ID_BITS 16 // a message's ticket is that of the window, then the packet identifier

static bool has_room(const struct subscriber *sub, uint8_t qos)
{
    return !sub->quiet && !sub->budget->full && (qos == 0 || !window_full(&sub->window));
}

void subscriber_unstall(struct subscriber *sub)
{
    if (!sub->stalled || !has_room(sub, sub->stalled_qos))
        return;
    sub->stalled = false;
    sub->pong_due = false; // a PINGRESP could not be seen until now
    conn_resume(sub->conn);
}

// What the broker queued before the configuration changed may have identifiers of then: they say
// nothing.
static uint32_t identifiers_take(struct subscriber *sub, const struct packet *packet)
{
    uint32_t count = 0, id;
    size_t offset = 0;
    while (property_next_subscription_id(&packet->properties, &offset, &id)) {
        if (!subscriber_identifies(sub, id, packet->publish.topic))
            continue;
        sub->identifiers =
            mem_grow(sub->identifiers, count, &sub->identifier_capacity, sizeof *sub->identifiers);
        sub->identifiers[count++] = id;
    }
    return count;
}

static void hand_up(struct subscriber *sub, const struct received *received, uint64_t ticket)
{
    const struct packet_publish *publish = &received->packet.publish;
    const struct property_set *set = &received->packet.properties;
    struct message_parts parts = {
        .topic = (const char *)publish->topic.data,
        .topic_length = (uint32_t)publish->topic.length,
        .payload = publish->payload.data,
        .payload_length = publish->payload.length,
        .full_length = received->full_length,
        .flaw = received->flaw,
        .flaw_detail = received->detail,
        .qos = publish->qos,
        .dup = publish->dup,
        .retain = publish->retain,
    };
    if (set->present) {
        parts.property_count = message_properties_take(&sub->properties, set);
        parts.subscription_count = identifiers_take(sub, &received->packet);
        parts.properties = sub->properties.items;
        parts.subscriptions = sub->identifiers;
    }
    struct message *message = message_new(&sub->source, sub->budget, &parts);
    message->ticket = ticket << ID_BITS | publish->packet_id;
    message->generation = sub->window.generation;
    sub->calls.message(sub->calls.arg, message);
}

// A copy of a message that we have: not handed up again.
static void skip(struct subscriber *sub, const struct packet_publish *publish, const char *reason)
{
    books_receive(&sub->source.books);
    books_settle(&sub->source.books, VERDICT_SKIPPED);
    log_debug("%s: packet %u skipped: %s", sub->source.name, publish->packet_id, reason);
}

// The state of this exchange of QoS 2, or NULL where it is new. The same identifier with another
// content is new too: a broker that was set back reuses identifiers, and losing is worse than
// duplicating [MQTT-4.3.3-10].
static struct exchange *exchange_known(struct subscriber *sub, uint16_t packet_id, uint64_t hash)
{
    struct exchange *exchange = sub->exchanges ? &sub->exchanges[packet_id] : NULL;
    return exchange && exchange->state != EXCHANGE_NONE && exchange->hash == hash ? exchange : NULL;
}

static void exchange_begin(struct subscriber *sub, uint16_t packet_id, uint64_t hash)
{
    if (!sub->exchanges)
        sub->exchanges = mem_zalloc(EXCHANGE_COUNT * sizeof *sub->exchanges);
    sub->exchanges[packet_id] = (struct exchange){.hash = hash,
                                                  .generation = (uint32_t)sub->window.generation,
                                                  .state = EXCHANGE_PENDING};
}

void subscriber_forget_exchanges(struct subscriber *sub)
{
    free(sub->exchanges);
    sub->exchanges = NULL;
}

static uint64_t push(struct subscriber *sub, const struct packet_publish *publish, uint64_t hash)
{
    const struct window_entry entry = {.hash = hash,
                                       .packet_id = publish->packet_id,
                                       .qos = publish->qos,
                                       .waits = 1};
    return window_push(&sub->window, &entry);
}

static void take_new(struct subscriber *sub, const struct received *received, uint64_t hash)
{
    const struct packet_publish *publish = &received->packet.publish;
    if (publish->qos == 2)
        exchange_begin(sub, publish->packet_id, hash);
    hand_up(sub, received, push(sub, publish, hash));
}

// QoS 2 that we know: PUBREC in its turn [MQTT-4.6.0-3], after the verdict if that is still to
// come.
static void take_repeated(struct subscriber *sub, const struct packet_publish *publish,
                          const struct exchange *exchange)
{
    uint64_t ticket = push(sub, publish, exchange->hash);
    if (exchange->state == EXCHANGE_SETTLED) {
        window_settle(&sub->window, sub->window.generation, ticket, REASON_SUCCESS);
        subscriber_turn_later(sub);
    }
    skip(sub, publish, "repeated before PUBREL");
}

// The identifier belongs to a message of this connection that we have not acknowledged.
static bool take_redelivered(struct subscriber *sub, const struct packet_publish *publish,
                             uint64_t hash)
{
    const struct window_entry *entry = window_find(&sub->window, publish->packet_id, NULL);
    if (!publish->dup || entry->hash != hash || entry->qos != publish->qos) {
        subscriber_refuse(sub, REASON_PROTOCOL_ERROR,
                          "a PUBLISH with the packet identifier of an unacknowledged one");
        return false;
    }
    skip(sub, publish, "redelivered while pending");
    return true;
}

// False where the connection was given up.
static bool take_acknowledged(struct subscriber *sub, const struct received *received)
{
    const struct packet_publish *publish = &received->packet.publish;
    uint64_t hash = hash_add(received->full_length, publish->topic.data, publish->topic.length);
    hash = hash_add(hash, publish->payload.data, publish->payload.length);
    if (window_holds(&sub->window, publish->packet_id))
        return take_redelivered(sub, publish, hash);
    const struct exchange *exchange =
        publish->qos == 2 ? exchange_known(sub, publish->packet_id, hash) : NULL;
    if (exchange)
        take_repeated(sub, publish, exchange);
    else
        take_new(sub, received, hash);
    if (window_full(&sub->window)) {
        sub->window_fillings++;
        sub->calls.window_full(sub->calls.arg);
    }
    return true;
}

enum conn_next subscriber_take_publish(struct subscriber *sub, const struct packet_frame *frame,
                                       struct bytes body)
{
    uint8_t qos = frame->flags >> 1 & 3;
    if (!has_room(sub, qos)) {
        sub->stalled = true;
        sub->stalled_qos = qos;
        return CONN_HOLD;
    }
    struct received received;
    if (!subscriber_parse_publish(sub, frame, body, &received))
        return CONN_HOLD;
    if (qos == 0)
        hand_up(sub, &received, 0);
    else if (!take_acknowledged(sub, &received))
        return CONN_HOLD;
    return CONN_NEXT;
}

static void acks_flush(struct subscriber *sub)
{
    if (sub->acks.length > 0) {
        FAILPOINT("ack");
        conn_write(sub->conn, (struct bytes){sub->ack_bytes, sub->acks.length});
        FAILPOINT("acked");
    }
    sub->acks.length = 0;
}

static void ack(struct subscriber *sub, enum packet_type type, uint16_t packet_id, uint8_t reason)
{
    if (bytes_room(&sub->acks) < PACKET_ACK_MAX)
        acks_flush(sub);
    packet_write_ack(&sub->acks, type, sub->version, packet_id, reason);
}

// The end of an exchange; one that is not known gets its PUBCOMP too [MQTT-4.3.3-11].
void subscriber_take_pubrel(struct subscriber *sub, const struct packet *packet)
{
    uint16_t packet_id = packet->ack.packet_id;
    struct exchange *exchange = sub->exchanges ? &sub->exchanges[packet_id] : NULL;
    bool known = exchange && exchange->state == EXCHANGE_SETTLED;
    if (known)
        exchange->state = EXCHANGE_NONE;
    ack(sub, PACKET_PUBCOMP, packet_id, known ? REASON_SUCCESS : REASON_PACKET_ID_NOT_FOUND);
    subscriber_turn_later(sub);
}

void subscriber_release(struct subscriber *sub)
{
    struct window_entry entry;
    while (window_release(&sub->window, &entry))
        ack(sub, entry.qos == 2 ? PACKET_PUBREC : PACKET_PUBACK, entry.packet_id, REASON_SUCCESS);
    acks_flush(sub);
    subscriber_unstall(sub);
}

// An exchange outlives the connection: the verdict may settle the entry of a repetition.
static bool exchange_settle(struct subscriber *sub, const struct message *message,
                            uint64_t *generation, uint64_t *ticket)
{
    uint16_t packet_id = (uint16_t)message->ticket;
    struct exchange *exchange = sub->exchanges ? &sub->exchanges[packet_id] : NULL;
    if (!exchange || exchange->state != EXCHANGE_PENDING ||
        exchange->generation != (uint32_t)message->generation)
        return false;
    bool abandoned = message->verdict == VERDICT_ABANDONED;
    exchange->state = abandoned ? EXCHANGE_NONE : EXCHANGE_SETTLED;
    if (message->generation == sub->window.generation)
        return true;
    const struct window_entry *entry = window_find(&sub->window, packet_id, ticket);
    *generation = sub->window.generation;
    return entry && entry->qos == 2;
}

void subscriber_settled(struct message_source *source, struct message *message)
{
    struct subscriber *sub = (struct subscriber *)(void *)source;
    uint64_t generation = message->generation, ticket = message->ticket >> ID_BITS;
    if (message->qos == 0)
        return;
    if (message->qos == 2 && !exchange_settle(sub, message, &generation, &ticket))
        return;
    if (message->verdict == VERDICT_ABANDONED)
        sub->abandoned = sub->abandoned || generation == sub->window.generation;
    else if (!window_settle(&sub->window, generation, ticket, REASON_SUCCESS))
        return;
    subscriber_turn_later(sub);
}
