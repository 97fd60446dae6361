// The queue of a session: deliveries on their way to its sink, and the acknowledgements.
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "broker/acl.h"
#include "broker/session_internal.h"
#include "broker/state.h"
#include "core/budget.h"

#define RING_MIN 8
#define OWED_MAX (16 * 1024)  // bytes to one session without acknowledgement, while memory is full
#define PACKET_IDS UINT16_MAX // 1 to 65535

// ---- the ring ----

static struct delivery *at(const struct session *session, uint32_t index)
{
    return &session->queue[(session->queue_first + index) & (session->queue_capacity - 1)];
}

static void ring_resize(struct session *session, uint32_t capacity)
{
    struct delivery *ring = mem_alloc(capacity * sizeof *ring);
    for (uint32_t i = 0; i < session->queue_count; i++)
        ring[i] = *at(session, i);
    budget_take(session->sessions->budget, (capacity - session->queue_capacity) * sizeof *ring);
    free(session->queue);
    session->queue = ring;
    session->queue_first = 0;
    session->queue_capacity = capacity;
}

// An idle session has no ring; the allocator has the last ones at hand.
static void ring_free(struct session *session)
{
    size_t size = session->queue_capacity * sizeof *session->queue;
    free(session->queue);
    session->queue = NULL;
    session->queue_first = session->queue_capacity = 0;
    budget_give(session->sessions->budget, size);
}

static void drop_publication(struct session *session, struct delivery *delivery)
{
    if (delivery->publication && !delivery->snapshot)
        session->queued_bytes -= delivery->publication->charged;
    publication_release(delivery->publication);
    delivery->publication = NULL;
    free(delivery->ids);
    delivery->ids = NULL;
    delivery->id_count = 0;
}

// Uncounts it, and lets go of what it has; it is still in the ring.
static void forget(struct session *session, struct delivery *delivery)
{
    drop_publication(session, delivery);
    session->zero_count -= delivery->qos == 0;
    session->snapshot_count -= delivery->snapshot;
    session->sent_count -= delivery->sent;
    session->sessions->queued--;
}

static struct delivery *append(struct session *session, const struct delivery *copy)
{
    if (session->queue_count == session->queue_capacity)
        ring_resize(session, session->queue ? session->queue_capacity * 2 : RING_MIN);
    struct delivery *delivery = at(session, session->queue_count++);
    *delivery = *copy;
    delivery->ids = NULL;
    if (copy->id_count > 0) {
        delivery->ids = mem_alloc(copy->id_count * sizeof *delivery->ids);
        memcpy(delivery->ids, copy->ids, copy->id_count * sizeof *delivery->ids);
    }
    if (copy->publication) {
        publication_hold(copy->publication);
        session->queued_bytes += copy->snapshot ? 0 : copy->publication->charged;
    }
    session->zero_count += copy->qos == 0;
    session->snapshot_count += copy->snapshot;
    session->sessions->queued++;
    return delivery;
}

// Mostly it is at the front: what is before it moves up.
static void take_out(struct session *session, uint32_t index)
{
    struct delivery *delivery = at(session, index);
    if (session->durable && delivery->qos > 0)
        state_drop_delivery(session->sessions->state, session->id, delivery->packet_id,
                            delivery->publication);
    forget(session, delivery);
    for (; index > 0; index--)
        *at(session, index) = *at(session, index - 1);
    session->queue_first = (session->queue_first + 1) & (session->queue_capacity - 1);
    if (--session->queue_count == 0)
        ring_free(session);
}

// Among the first count deliveries; NULL: it is not there. Identifiers count up in the queue, so
// there is a good guess where it is.
static struct delivery *find(const struct session *session, uint16_t packet_id, uint32_t count,
                             uint32_t *index)
{
    if (count == 0)
        return NULL;
    *index = (uint16_t)(packet_id - at(session, 0)->packet_id);
    if (*index < count && at(session, *index)->packet_id == packet_id)
        return at(session, *index);
    for (*index = 0; *index < count; ++*index)
        if (at(session, *index)->packet_id == packet_id)
            return at(session, *index);
    return NULL;
}

// ---- packet identifiers: 1, 2, 3, ... but for those that are in the queue ----

static uint16_t next_id(uint16_t id)
{
    return id == PACKET_IDS ? 1 : (uint16_t)(id + 1);
}

// How many identifiers from next_packet_id on are free. One look at the queue holds for long.
static uint16_t count_free_ids(const struct session *session)
{
    uint32_t free_ids = PACKET_IDS;
    for (uint32_t i = 0; i < session->queue_count; i++) {
        uint32_t id = at(session, i)->packet_id;
        uint32_t distance = (id + PACKET_IDS - session->next_packet_id) % PACKET_IDS;
        if (id != 0 && distance < free_ids)
            free_ids = distance;
    }
    return (uint16_t)free_ids;
}

static uint16_t take_packet_id(struct session *session)
{
    while (session->free_ids == 0) {
        session->free_ids = count_free_ids(session);
        if (session->free_ids == 0)
            session->next_packet_id = next_id(session->next_packet_id);
    }
    uint16_t id = session->next_packet_id;
    session->free_ids--;
    session->next_packet_id = next_id(id);
    return id;
}

// ---- the state ----

static void now_durable(void *arg, uint64_t session_id, uint64_t packet_id)
{
    struct session *session = session_by_id(arg, session_id);
    uint32_t index;
    struct delivery *delivery =
        session ? find(session, (uint16_t)packet_id, session->queue_count, &index) : NULL;
    if (!delivery)
        return;
    delivery->ready = true;
    if (delivery->sent) // its PUBREC has come on this connection
        session->sink->calls->pubrel(session->sink, delivery->packet_id);
    else
        session_pump(session);
}

// What was written of this delivery must be durable before it goes on. [MQTT-4.3.3-1]
static void wait_for_state(struct session *session, struct delivery *delivery)
{
    struct state *state = session->sessions->state;
    delivery->ready = state_is_durable(state);
    if (!delivery->ready)
        state_when_durable(state, now_durable, session->sessions, session->id, delivery->packet_id);
}

static void put_delivery(struct session *session, const struct delivery *delivery)
{
    size_t size = delivery->id_count * (size_t)(1 + BYTES_VARINT_SIZE_MAX);
    uint8_t *ids = size > 0 ? mem_alloc(size) : NULL;
    struct bytes_writer w = bytes_writer(ids, size);
    for (uint16_t i = 0; i < delivery->id_count; i++)
        property_write_subscription_id(&w, delivery->ids[i]);
    struct state_delivery row = {
        .packet_id = delivery->packet_id,
        .qos = delivery->qos,
        .phase = STATE_QUEUED,
        .retain = delivery->retain,
        .sent = session->sink != NULL,
        .subscription_ids = {ids, w.length},
    };
    state_put_delivery(session->sessions->state, session->id, &row, delivery->publication);
    free(ids);
}

// ---- delivering ----

static void drop(struct session *session, uint64_t *counter)
{
    session->dropped++;
    ++*counter;
}

static bool expired(const struct publication *publication)
{
    return publication->expires_ms != INT64_MAX && publication->expires_ms <= loop_now_ms();
}

bool session_may_receive(const struct session *session, const struct publication *publication)
{
    const struct acl *acl = session->sessions->acl;
    return !acl || session->internal ||
           acl_allows(acl, session->username, session->client_id, ACL_READ,
                      (const char *)publication->topic.data, publication->topic.length);
}

// Who is there, and has taken all that it was sent, or does not owe acknowledgements of much: one
// more message to it does not stay for long.
static bool takes_at_once(const struct session *session, const struct publication *publication)
{
    struct sink *sink = session->sink;
    if (!sink || session->queue_count > session->sent_count || !sink->calls->ready(sink))
        return false;
    return session->queue_count == 0 || (session->sent_count < sink->window &&
                                         session->queued_bytes + publication->charged <= OWED_MAX);
}

// What is in flight does not count, and if nothing is queued one message of any size may be. What
// others leave lying until the memory is used up is nothing to those who read.
bool session_has_room(const struct session *session, const struct delivery *copy)
{
    const struct sessions *sessions = session->sessions;
    const struct session_limits *limits = &sessions->limits;
    uint32_t waiting = session->queue_count - session->sent_count;
    if (session->queue_count >= PACKET_IDS)
        return false;
    if (sessions->budget->full)
        return takes_at_once(session, copy->publication);
    if (copy->snapshot || waiting <= session->snapshot_count)
        return true;
    return waiting - session->snapshot_count < limits->queued_messages &&
           session->queued_bytes + copy->publication->charged <= limits->queued_bytes;
}

static void complain(const struct session *session)
{
    struct sessions *sessions = session->sessions;
    char more[LOG_MORE_SIZE];
    uint64_t suppressed;
    if (!log_limit_pass(&sessions->full_log, &suppressed))
        return;
    const char *cure = "let it read faster, or raise queued_messages and queued_bytes";
    if (sessions->budget->full)
        cure = "the memory of all sessions is used up: raise memory";
    else if (!session->sink)
        cure = "let it come back, end its session, or raise queued_messages and queued_bytes";
    log_warn("client '%s': no room for a message to it behind %u others (%zu bytes), it is "
             "refused%s: %s in [broker]",
             session->client_id, session->queue_count, session->queued_bytes,
             log_more(suppressed, more), cure);
}

// Straight to the sink, unless others of QoS 0 wait: those are snapshots of retained messages and
// what came after them, in order.
static void deliver_zero(struct session *session, const struct delivery *copy)
{
    struct sink *sink = session->sink;
    if (session->zero_count == 0 && sink->calls->ready(sink)) {
        sink->calls->publish(sink, copy);
    } else if ((copy->snapshot || session->zero_count > 0) && session_has_room(session, copy)) {
        append(session, copy)->ready = true;
        session_pump(session);
    } else if (copy->snapshot) {
        drop(session, &session->sessions->counters.dropped_full);
        complain(session);
    } else {
        drop(session, &session->sessions->counters.dropped_slow);
    }
}

enum delivered session_deliver(struct session *session, const struct delivery *copy)
{
    struct sessions_counters *counters = &session->sessions->counters;
    if (copy->qos == 0 && !session->sink)
        return DELIVERED;
    if (!session_may_receive(session, copy->publication)) {
        drop(session, &counters->dropped_denied);
        return DELIVERED;
    }
    if (expired(copy->publication)) {
        drop(session, &counters->dropped_expired);
        return DELIVERED;
    }
    if (copy->qos == 0) {
        deliver_zero(session, copy);
        return DELIVERED;
    }
    if (!session_has_room(session, copy)) {
        drop(session, &counters->dropped_full);
        complain(session);
        return DELIVERY_REFUSED;
    }
    uint16_t packet_id = take_packet_id(session);
    struct delivery *delivery = append(session, copy);
    delivery->packet_id = packet_id;
    delivery->ready = true;
    if (session->durable) {
        put_delivery(session, delivery);
        if (delivery->qos == 2)
            wait_for_state(session, delivery);
    }
    session_pump(session);
    return session->durable ? DELIVERED_DURABLY : DELIVERED;
}

// ---- sending ----

// Takes it out first: the sink may come back from within.
static void send_zero(struct session *session, struct delivery *delivery)
{
    struct sink *sink = session->sink;
    struct delivery copy = *delivery;
    publication_hold(copy.publication);
    delivery->ids = NULL;
    take_out(session, session->sent_count);
    sink->calls->publish(sink, &copy);
    publication_release(copy.publication);
    free(copy.ids);
}

static void send_acknowledged(struct session *session, struct delivery *delivery)
{
    struct sink *sink = session->sink;
    struct delivery copy = *delivery;
    uint32_t index;
    delivery->sent = true;
    session->sent_count++;
    if (!copy.publication)
        sink->calls->pubrel(sink, copy.packet_id);
    else if (!sink->calls->publish(sink, &copy) &&
             find(session, copy.packet_id, session->sent_count, &index))
        take_out(session, index);
}

// Deals with the first delivery that is not sent; false where it has to wait.
static bool send_next(struct session *session)
{
    struct sink *sink = session->sink;
    struct delivery *delivery = at(session, session->sent_count);
    if (!delivery->ready || !sink->calls->ready(sink) ||
        (delivery->qos > 0 && session->sent_count >= sink->window))
        return false;
    // What may have been sent must go on: the client may have it, and the identifier with it.
    if (delivery->publication && !delivery->dup && expired(delivery->publication)) {
        drop(session, &session->sessions->counters.dropped_expired); // [MQTT-3.3.2-5]
        take_out(session, session->sent_count);
    } else if (delivery->qos == 0) {
        send_zero(session, delivery);
    } else {
        send_acknowledged(session, delivery);
    }
    return true;
}

void session_pump(struct session *session)
{
    while (session->sink && session->queue_count > session->sent_count && send_next(session))
        ;
}

// ---- acknowledgements ----

static void release(struct session *session, struct delivery *delivery)
{
    if (delivery->publication) {
        drop_publication(session, delivery);
        if (session->durable) {
            state_release_delivery(session->sessions->state, session->id, delivery->packet_id);
            wait_for_state(session, delivery);
        }
    }
    if (delivery->ready)
        session->sink->calls->pubrel(session->sink, delivery->packet_id);
}

enum session_ack session_take_ack(struct session *session, enum packet_type type,
                                  uint16_t packet_id, uint8_t reason)
{
    uint32_t index;
    struct delivery *delivery = find(session, packet_id, session->sent_count, &index);
    if (!delivery)
        return SESSION_ACK_UNKNOWN;
    if ((type == PACKET_PUBACK) != (delivery->qos == 1) ||
        (type == PACKET_PUBCOMP && delivery->publication))
        return SESSION_ACK_WRONG;
    if (type == PACKET_PUBREC && reason < REASON_UNSPECIFIED_ERROR) {
        release(session, delivery);
    } else { // a PUBREC that is an error ends it too [MQTT-4.3.3-4]
        take_out(session, index);
        session_pump(session);
    }
    return SESSION_ACK_OK;
}

// ---- beginning and end ----

void queue_load(struct session *session, const struct delivery *stored)
{
    append(session, stored);
    session->next_packet_id = next_id(stored->packet_id);
}

// Leaves those in the queue that are to stay. Nothing is in flight, or all of it ends here.
static void sift(struct session *session, bool (*stays)(struct session *, struct delivery *))
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < session->queue_count; i++) {
        struct delivery *delivery = at(session, i);
        if (stays(session, delivery))
            *at(session, kept++) = *delivery;
        else
            forget(session, delivery);
    }
    session->queue_count = kept;
    if (session->queue && kept == 0)
        ring_free(session);
}

static bool outlives_connection(struct session *session, struct delivery *delivery)
{
    (void)session;
    if (delivery->qos == 0)
        return false;
    delivery->dup |= delivery->sent;
    delivery->sent = false;
    return true;
}

void queue_rewind(struct session *session)
{
    sift(session, outlives_connection);
    session->sent_count = 0;
}

static bool may_still_go(struct session *session, struct delivery *delivery)
{
    struct sessions *sessions = session->sessions;
    if (!delivery->publication || session_may_receive(session, delivery->publication))
        return true;
    drop(session, &sessions->counters.dropped_denied);
    if (session->durable)
        state_drop_delivery(sessions->state, session->id, delivery->packet_id,
                            delivery->publication);
    return false;
}

void queue_judge(struct session *session)
{
    sift(session, may_still_go);
}

void queue_clear(struct session *session)
{
    for (uint32_t i = 0; i < session->queue_count; i++)
        forget(session, at(session, i));
    session->queue_count = 0;
    if (session->queue)
        ring_free(session);
}
