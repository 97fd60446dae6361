// QoS 2 from the broker: from PUBLISH to PUBCOMP, over connections and restarts [MQTT-4.3.3-8 to
// -12].
#include <stdlib.h>

#include "base/mem.h"
#include "mqtt/subscriber_internal.h"

#define EXCHANGE_COUNT 65536

static uint32_t this_connection(const struct subscriber *sub)
{
    return (uint32_t)sub->window.generation;
}

// The exchange that has not ended, or NULL.
static struct exchange *find(const struct subscriber *sub, uint16_t packet_id)
{
    struct exchange *exchange = sub->exchanges ? &sub->exchanges[packet_id] : NULL;
    return exchange && exchange->state != EXCHANGE_NONE ? exchange : NULL;
}

static struct exchange *place_of(struct subscriber *sub, uint16_t packet_id)
{
    if (!sub->exchanges)
        sub->exchanges = mem_zalloc(EXCHANGE_COUNT * sizeof *sub->exchanges);
    return &sub->exchanges[packet_id];
}

// ---- PUBLISH ----

// A broker that was set back to an earlier state (restored, or killed between two saves) gives
// identifiers anew whose exchanges are open here. So the identifier alone does not make a
// repetition, for losing is worse than duplicating: the content must be the same, and on a new
// connection DUP be set, as it must be there [MQTT-3.3.1-1]. From a broker that forgets DUP what
// comes before anything new will do, since it sends again first [MQTT-4.4.0-1].
const struct exchange *subscriber_repeated(struct subscriber *sub,
                                           const struct packet_publish *publish, uint64_t hash)
{
    struct exchange *exchange = find(sub, publish->packet_id);
    if (!exchange || exchange->hash != hash ||
        (!publish->dup && !sub->resending && exchange->seen != this_connection(sub)))
        return NULL;
    exchange->seen = this_connection(sub);
    return exchange;
}

bool subscriber_releasing(const struct subscriber *sub, uint16_t packet_id)
{
    const struct exchange *exchange = find(sub, packet_id);
    return exchange && exchange->state == EXCHANGE_RELEASING;
}

void subscriber_begin_exchange(struct subscriber *sub, uint16_t packet_id, uint64_t hash)
{
    *place_of(sub, packet_id) = (struct exchange){.hash = hash,
                                                  .generation = this_connection(sub),
                                                  .seen = this_connection(sub),
                                                  .state = EXCHANGE_PENDING};
}

// ---- PostgreSQL's verdict ----

static void wait_for_exchanges(struct subscriber *sub, struct message *message)
{
    sub->waiting = mem_grow(sub->waiting, sub->waiting_count, &sub->waiting_capacity,
                            sizeof(struct message *));
    sub->waiting[sub->waiting_count++] = message;
}

// Whether the rows of a message that came before exist is PostgreSQL's to say: rows and identifier
// are committed together.
void subscriber_judge(struct subscriber *sub, struct message *message)
{
    const struct subscriber_calls *calls = &sub->calls;
    if (message->session != 0 && !calls->exchanges_known(calls->arg)) {
        wait_for_exchanges(sub, message);
        return;
    }
    bool is_resending = sub->resending && message->generation == sub->window.generation;
    message->resent = message->dup || is_resending;
    if (message->session != 0 && calls->message_stored(calls->arg, message)) {
        message_release(message, VERDICT_DEDUPLICATED, "its packet identifier is stored");
        return;
    }
    sub->resending = sub->resending && !is_resending;
    if (message->session != sub->number)
        message->session = 0; // its session is no more: nobody would forget the identifier
    calls->message(calls->arg, message);
}

// Those that wait, in the order in which they came; judging does not add to them.
void subscriber_exchanges_loaded(struct subscriber *sub)
{
    struct message **waiting = sub->waiting;
    size_t count = sub->waiting_count;
    sub->waiting = NULL;
    sub->waiting_count = sub->waiting_capacity = 0;
    for (size_t i = 0; i < count; i++)
        subscriber_judge(sub, waiting[i]);
    free(waiting);
}

void subscriber_abandon_waiting(struct subscriber *sub)
{
    for (size_t i = 0; i < sub->waiting_count; i++)
        message_release(sub->waiting[i], VERDICT_ABANDONED, "stopped before it was judged");
    free(sub->waiting);
    sub->waiting = NULL;
    sub->waiting_count = sub->waiting_capacity = 0;
}

// An exchange outlives the connection: the verdict may settle the entry of a repetition.
bool subscriber_settle_exchange(struct subscriber *sub, const struct message *message,
                                uint64_t *generation, uint64_t *ticket)
{
    uint16_t packet_id = (uint16_t)message->ticket;
    struct exchange *exchange = find(sub, packet_id);
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

// ---- PUBREL ----

// Not stored: no mapping took it, or the exchange has ended before.
static bool may_be_stored(const struct subscriber *sub, uint16_t packet_id)
{
    const struct subscriber_calls *calls = &sub->calls;
    return sub->number != 0 && calls->exchange_may_be_stored(calls->arg, sub->number, packet_id);
}

// Of a message that has no verdict. A settled one may be in the window still, since the broker
// repeated its PUBLISH while our PUBREC was on its way: the repetition needs no answer any more.
static bool is_released_too_early(struct subscriber *sub, uint16_t packet_id,
                                  const struct exchange *exchange)
{
    uint64_t ticket;
    const struct window_entry *entry = window_find(&sub->window, packet_id, &ticket);
    if (exchange && exchange->state == EXCHANGE_PENDING)
        return true;
    if (entry && (!exchange || entry->qos != 2))
        return true;
    if (entry)
        window_drop(&sub->window, ticket);
    return false;
}

// The end of an exchange. PUBCOMP leaves when the identifier is forgotten for certain: after it a
// new message may have it. One that is not known gets its PUBCOMP too [MQTT-4.3.3-11].
void subscriber_take_pubrel(struct subscriber *sub, const struct packet *packet)
{
    uint16_t packet_id = packet->ack.packet_id;
    struct exchange *exchange = find(sub, packet_id);
    if (is_released_too_early(sub, packet_id, exchange)) {
        subscriber_refuse(sub, REASON_PROTOCOL_ERROR, "PUBREL before PUBREC");
        return;
    }
    if (exchange && exchange->state == EXCHANGE_RELEASING) {
        exchange->seen = this_connection(sub);
        return;
    }
    if (may_be_stored(sub, packet_id)) {
        exchange = place_of(sub, packet_id);
        exchange->state = EXCHANGE_RELEASING;
        exchange->seen = this_connection(sub);
        sub->calls.exchange_forget(sub->calls.arg, sub->number, packet_id);
        return;
    }
    if (exchange)
        exchange->state = EXCHANGE_NONE;
    subscriber_ack(sub, PACKET_PUBCOMP, packet_id,
                   exchange ? REASON_SUCCESS : REASON_PACKET_ID_NOT_FOUND);
    subscriber_turn_later(sub);
}

// A broker that has connected again repeats its PUBREL, and only then is the answer due.
void subscriber_exchange_forgotten(struct subscriber *sub, uint64_t session, uint16_t packet_id)
{
    struct exchange *exchange = session == sub->number ? find(sub, packet_id) : NULL;
    if (!exchange || exchange->state != EXCHANGE_RELEASING)
        return;
    exchange->state = EXCHANGE_NONE;
    if (sub->state == SUBSCRIBER_UP && exchange->seen == this_connection(sub))
        subscriber_ack(sub, PACKET_PUBCOMP, packet_id, REASON_SUCCESS);
    subscriber_turn_later(sub); // a PUBLISH may wait for its identifier
}

// ---- the session ----

void subscriber_forget_exchanges(struct subscriber *sub)
{
    free(sub->exchanges);
    sub->exchanges = NULL;
}

bool subscriber_has_session(const struct subscriber *sub, uint64_t session)
{
    return sub->number == session;
}
