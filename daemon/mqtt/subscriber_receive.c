// The subscriber's messages: from PUBLISH to PUBACK and PUBREC.
#include <stdlib.h>

#include "base/failpoint.h"
#include "base/hash.h"
#include "base/mem.h"
#include "mqtt/subscriber_internal.h"

static bool has_room(const struct subscriber *sub, uint8_t qos)
{
    return !sub->quiet && !sub->budget->full && (qos == 0 || !window_full(&sub->window));
}

void subscriber_unstall(struct subscriber *sub)
{
    if (!sub->stalled || !has_room(sub, sub->stalled_qos) ||
        subscriber_releasing(sub, sub->stalled_id))
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

static void hand_up(struct subscriber *sub, const struct received *received, uint64_t ticket,
                    uint64_t hash)
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
    message->ticket = ticket << TICKET_ID_BITS | publish->packet_id;
    message->generation = sub->window.generation;
    if (publish->qos == 2) {
        message->session = sub->number;
        message->packet_id = publish->packet_id;
        message->content = hash ? hash : 1; // 0 is none
        subscriber_judge(sub, message);
    } else {
        sub->calls.message(sub->calls.arg, message);
    }
}

// A copy of a message that we have: not handed up again.
static void skip(struct subscriber *sub, const struct packet_publish *publish, const char *reason)
{
    books_receive(&sub->source.books);
    books_settle(&sub->source.books, VERDICT_SKIPPED);
    log_debug("%s: packet %u skipped: %s", sub->source.name, publish->packet_id, reason);
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
        subscriber_begin_exchange(sub, publish->packet_id, hash);
    hand_up(sub, received, push(sub, publish, hash), hash);
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

static enum conn_next hold(struct subscriber *sub, uint8_t qos, uint16_t packet_id)
{
    sub->stalled = true;
    sub->stalled_qos = qos;
    sub->stalled_id = packet_id;
    return CONN_HOLD;
}

static enum conn_next take_acknowledged(struct subscriber *sub, const struct received *received)
{
    const struct packet_publish *publish = &received->packet.publish;
    uint64_t hash = hash_add(received->full_length, publish->topic.data, publish->topic.length);
    hash = hash_add(hash, publish->payload.data, publish->payload.length);
    if (window_holds(&sub->window, publish->packet_id))
        return take_redelivered(sub, publish, hash) ? CONN_NEXT : CONN_HOLD;
    if (publish->qos == 2 && subscriber_releasing(sub, publish->packet_id))
        return hold(sub, publish->qos, publish->packet_id); // its PUBCOMP goes first
    const struct exchange *exchange =
        publish->qos == 2 ? subscriber_repeated(sub, publish, hash) : NULL;
    if (exchange)
        take_repeated(sub, publish, exchange);
    else
        take_new(sub, received, hash);
    if (window_full(&sub->window)) {
        sub->window_fillings++;
        sub->calls.window_full(sub->calls.arg);
    }
    return CONN_NEXT;
}

enum conn_next subscriber_take_publish(struct subscriber *sub, const struct packet_frame *frame,
                                       struct bytes body)
{
    uint8_t qos = frame->flags >> 1 & 3;
    if (!has_room(sub, qos))
        return hold(sub, qos, 0);
    struct received received;
    if (!subscriber_parse_publish(sub, frame, body, &received))
        return CONN_HOLD;
    if (qos > 0)
        return take_acknowledged(sub, &received);
    hand_up(sub, &received, 0, 0);
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

void subscriber_ack(struct subscriber *sub, enum packet_type type, uint16_t packet_id,
                    uint8_t reason)
{
    if (bytes_room(&sub->acks) < PACKET_ACK_MAX)
        acks_flush(sub);
    packet_write_ack(&sub->acks, type, sub->version, packet_id, reason);
}

void subscriber_release(struct subscriber *sub)
{
    struct window_entry entry;
    while (window_release(&sub->window, &entry))
        if (entry.packet_id)
            subscriber_ack(sub, entry.qos == 2 ? PACKET_PUBREC : PACKET_PUBACK, entry.packet_id,
                           REASON_SUCCESS);
    acks_flush(sub);
    subscriber_unstall(sub);
}

void subscriber_settled(struct message_source *source, struct message *message)
{
    struct subscriber *sub = (struct subscriber *)(void *)source;
    uint64_t generation = message->generation, ticket = message->ticket >> TICKET_ID_BITS;
    if (message->qos == 0)
        return;
    if (message->qos == 2 && !subscriber_settle_exchange(sub, message, &generation, &ticket))
        return;
    if (message->verdict == VERDICT_ABANDONED)
        sub->abandoned = sub->abandoned || generation == sub->window.generation;
    else if (!window_settle(&sub->window, generation, ticket, REASON_SUCCESS))
        return;
    subscriber_turn_later(sub);
}
