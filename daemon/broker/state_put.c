// The writes: what happens becomes an operation of the open batch.
#include <string.h>

#include "base/hash.h"
#include "broker/state_internal.h"

// Its identifier in the file; the row is made with the first reference.
static struct publication *store(struct state *state, struct publication *publication)
{
    if (!publication)
        return NULL;
    if (publication->id == 0)
        publication->id = state->next_publication_id++;
    return publication_hold(publication);
}

static char *copy_text(struct state *state, const char *text)
{
    return text ? state_batch_copy(state->open, text, strlen(text)) : NULL;
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

// A client that comes and goes while the disk fails takes no more memory each time.
void state_put_session(struct state *state, const struct state_session *session)
{
    if (!state_begin_write(state))
        return;
    static const struct state_session nothing;
    struct state_op *op = state_batch_find(state->open, STATE_SESSION, session->id, 0);
    if (!op) {
        op = state_batch_add_findable(state->open, STATE_SESSION, session->id, 0);
        op->data = state_batch_copy(state->open, &nothing, sizeof nothing);
    }
    struct state_session *copy = op->data, before = *copy;
    *copy = *session;
    copy->client_id = same_text(before.client_id, session->client_id)
                          ? before.client_id
                          : copy_text(state, session->client_id);
    copy->username = same_text(before.username, session->username)
                         ? before.username
                         : copy_text(state, session->username);
}

void state_drop_session(struct state *state, uint64_t session)
{
    if (state_begin_write(state))
        state_batch_add(state->open, STATE_SESSION_GONE, session, 0);
}

void state_put_subscription(struct state *state, uint64_t session,
                            const struct state_subscription *subscription)
{
    if (!state_begin_write(state))
        return;
    struct state_subscription *copy =
        state_batch_copy(state->open, subscription, sizeof *subscription);
    copy->filter = copy_text(state, subscription->filter);
    state_batch_add(state->open, STATE_SUBSCRIPTION, session, 0)->data = copy;
}

void state_drop_subscription(struct state *state, uint64_t session, const char *filter)
{
    if (state_begin_write(state))
        state_batch_add(state->open, STATE_SUBSCRIPTION_GONE, session, 0)->data =
            copy_text(state, filter);
}

// NULL: it is gone. Of several in a batch the last counts.
static void set_will(struct state *state, uint64_t session, struct publication *will,
                     uint32_t delay)
{
    if (!state_begin_write(state))
        return;
    struct state_op *op = state_batch_find(state->open, STATE_WILL, session, 0);
    if (!op)
        op = state_batch_add_findable(state->open, STATE_WILL, session, 0);
    struct publication *before = op->publication;
    op->publication = store(state, will);
    op->delay = delay;
    publication_release(before);
}

void state_put_will(struct state *state, uint64_t session, struct publication *will, uint32_t delay)
{
    set_will(state, session, will, delay);
}

void state_drop_will(struct state *state, uint64_t session)
{
    set_will(state, session, NULL, 0);
}

void state_put_delivery(struct state *state, uint64_t session,
                        const struct state_delivery *delivery, struct publication *publication)
{
    if (!state_begin_write(state))
        return;
    struct bytes ids = delivery->subscription_ids;
    struct state_op *op =
        state_batch_add_findable(state->open, STATE_DELIVERY, session, delivery->packet_id);
    op->qos = delivery->qos;
    op->phase = delivery->phase;
    op->retain = delivery->retain;
    op->sent = delivery->sent;
    op->publication = store(state, publication);
    op->length = (uint32_t)ids.length;
    if (ids.length > 0)
        op->data = state_batch_copy(state->open, ids.data, ids.length);
}

void state_release_delivery(struct state *state, uint64_t session, uint16_t packet_id)
{
    if (state_begin_write(state))
        state_batch_add(state->open, STATE_DELIVERY_RELEASED, session, packet_id);
}

void state_drop_delivery(struct state *state, uint64_t session, uint16_t packet_id,
                         struct publication *publication)
{
    if (!state_begin_write(state))
        return;
    struct state_op *put = state_batch_find(state->open, STATE_DELIVERY, session, packet_id);
    if (put)
        state_batch_cancel(state->open, put);
    else
        state_batch_add(state->open, STATE_DELIVERY_GONE, session, packet_id)->publication_id =
            publication ? publication->id : 0;
}

void state_put_incoming(struct state *state, uint64_t session,
                        const struct state_incoming *incoming, struct publication *publication)
{
    if (!state_begin_write(state))
        return;
    struct state_op *op =
        state_batch_add(state->open, STATE_INCOMING, session, incoming->packet_id);
    op->mapped = incoming->mapped;
    op->publication = store(state, publication);
}

void state_drop_incoming(struct state *state, uint64_t session, uint16_t packet_id,
                         struct publication *publication)
{
    if (state_begin_write(state))
        state_batch_add(state->open, STATE_INCOMING_GONE, session, packet_id)->publication_id =
            publication ? publication->id : 0;
}

// Two topics of one hash follow each other unreplaced.
static struct state_op *find_retained(struct state *state, struct bytes topic)
{
    uint64_t hash = hash_add(state->seed, topic.data, topic.length);
    struct state_op *op = state_batch_find(state->open, STATE_RETAINED, hash, 0);
    if (op && bytes_equal((struct bytes){op->data, op->length}, topic))
        return op;
    void *copy = state_batch_copy(state->open, topic.data, topic.length);
    op = op ? state_batch_add(state->open, STATE_RETAINED, hash, 0)
            : state_batch_add_findable(state->open, STATE_RETAINED, hash, 0);
    op->data = copy;
    op->length = (uint32_t)topic.length;
    return op;
}

// NULL: it is gone. Of several in a batch the last counts, so that who says the same thing again
// and again, and waits for no acknowledgement, fills no memory.
static void set_retained(struct state *state, struct bytes topic, struct publication *publication)
{
    if (!state_begin_write(state))
        return;
    struct state_op *op = find_retained(state, topic);
    struct publication *before = op->publication;
    op->publication = store(state, publication);
    publication_release(before);
}

void state_put_retained(struct state *state, struct publication *publication)
{
    set_retained(state, publication->topic, publication);
}

void state_drop_retained(struct state *state, struct bytes topic)
{
    set_retained(state, topic, NULL);
}
