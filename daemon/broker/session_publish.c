// The way of one publication to all who subscribe to it.
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "broker/retained.h"
#include "broker/session_internal.h"
#include "broker/state.h"

// A session that gets one copy, however many of its subscriptions match.
struct match {
    struct session *session;
    uint32_t first_id; // index and 1 into fanout.ids; 0: none
    uint16_t id_count;
    uint8_t qos; // the highest that is granted
    bool retain_as_published;
};

struct match_id {
    uint32_t id;
    uint32_t next; // like first_id
};

struct fanout {
    uint64_t turn; // counts publications
    struct sessions *sessions;
    struct publication *publication;
    struct routed routed;
    struct match *matches;
    size_t count, capacity;
    struct match_id *ids; // of all matches
    size_t id_count, id_capacity;
    uint32_t *flat; // of one match
    size_t flat_capacity;
};

struct fanout *fanout_new(void)
{
    return mem_zalloc(sizeof(struct fanout));
}

void fanout_free(struct fanout *fanout)
{
    free(fanout->matches);
    free(fanout->ids);
    free(fanout->flat);
    free(fanout);
}

static void tally(struct fanout *fanout, enum delivered delivered)
{
    if (delivered == DELIVERED_DURABLY)
        fanout->routed.stored = true;
    else if (delivered == DELIVERY_REFUSED)
        fanout->routed.refused++;
}

static uint8_t lower_qos(uint8_t published, uint8_t granted)
{
    return published < granted ? published : granted;
}

static bool is_own(const struct publication *publication, const struct subscription_entry *entry)
{
    return entry->no_local && publication->publisher == entry->session->id; // [MQTT-3.8.3-3]
}

// ---- subscriptions that are not shared: first gathered by session, then delivered ----

static struct match *match_of(struct fanout *fanout, struct session *session)
{
    if (session->match_turn == fanout->turn)
        return &fanout->matches[session->match_index];
    fanout->matches =
        mem_grow(fanout->matches, fanout->count, &fanout->capacity, sizeof *fanout->matches);
    session->match_turn = fanout->turn;
    session->match_index = (uint32_t)fanout->count;
    struct match *match = &fanout->matches[fanout->count++];
    *match = (struct match){.session = session};
    return match;
}

static void add_id(struct fanout *fanout, struct match *match, uint32_t id)
{
    if (match->id_count == UINT16_MAX)
        return;
    fanout->ids =
        mem_grow(fanout->ids, fanout->id_count, &fanout->id_capacity, sizeof *fanout->ids);
    fanout->ids[fanout->id_count++] = (struct match_id){id, match->first_id};
    match->first_id = (uint32_t)fanout->id_count;
    match->id_count++;
}

static void gather(void *arg, struct subscription_entry *entry)
{
    struct fanout *fanout = arg;
    if (is_own(fanout->publication, entry))
        return;
    fanout->routed.matched++;
    struct match *match = match_of(fanout, entry->session);
    if (entry->qos > match->qos)
        match->qos = entry->qos;
    match->retain_as_published |= entry->retain_as_published;
    if (entry->id)
        add_id(fanout, match, entry->id);
}

// The identifiers of one match in a row.
static uint32_t *flatten(struct fanout *fanout, const struct match *match)
{
    while (fanout->flat_capacity < match->id_count)
        fanout->flat = mem_grow(fanout->flat, fanout->flat_capacity, &fanout->flat_capacity,
                                sizeof *fanout->flat);
    size_t count = 0;
    for (uint32_t at = match->first_id; at; at = fanout->ids[at - 1].next)
        fanout->flat[count++] = fanout->ids[at - 1].id;
    return fanout->flat;
}

static void deliver_match(struct fanout *fanout, const struct match *match)
{
    struct publication *publication = fanout->publication;
    struct delivery copy = {
        .publication = publication,
        .ids = match->id_count > 0 ? flatten(fanout, match) : NULL,
        .id_count = match->id_count,
        .qos = lower_qos(publication->qos, match->qos),
        .retain = publication->retain && match->retain_as_published,
    };
    tally(fanout, session_deliver(match->session, &copy));
}

// ---- shared subscriptions ----

enum fitness {
    UNFIT,  // it would not get the message
    FULL,   // there is no room in its queue
    AWAY,   // its session would keep it
    BEHIND, // it is there, but has more to read than it takes
    FIT,    // it would be sent at once
};

static struct delivery copy_for(const struct fanout *fanout, struct subscription_entry *member)
{
    struct publication *publication = fanout->publication;
    return (struct delivery){
        .publication = publication,
        .ids = &member->id,
        .id_count = member->id ? 1 : 0,
        .qos = lower_qos(publication->qos, member->qos),
        .retain = publication->retain && member->retain_as_published,
    };
}

static enum fitness fitness(const struct fanout *fanout, struct subscription_entry *member)
{
    const struct session *session = member->session;
    struct sink *sink = session->sink;
    struct delivery copy = copy_for(fanout, member);
    if (is_own(fanout->publication, member) || !session_may_receive(session, fanout->publication) ||
        (!sink && (!session->durable || copy.qos == 0)))
        return UNFIT;
    if (!session_has_room(session, &copy))
        return FULL;
    if (!sink)
        return AWAY;
    bool window = copy.qos == 0 || session->sent_count < sink->window;
    return window && sink->calls->ready(sink) ? FIT : BEHIND;
}

// The next in turn of those who fit best; NULL: nobody is there.
static struct subscription_entry *choose(const struct fanout *fanout, struct group *group)
{
    enum fitness best = UNFIT;
    size_t chosen = 0;
    for (size_t i = 0; i < group->count && best < FIT; i++) {
        size_t at = (group->turn + i) % group->count;
        enum fitness one = fitness(fanout, group->members[at]);
        if (one > best) {
            best = one;
            chosen = at;
        }
    }
    if (best == UNFIT)
        return NULL;
    group->turn = (chosen + 1) % group->count;
    return group->members[chosen];
}

static void deliver_shared(void *arg, struct group *group)
{
    struct fanout *fanout = arg;
    struct subscription_entry *member = choose(fanout, group);
    if (!member)
        return;
    fanout->routed.matched++;
    struct delivery copy = copy_for(fanout, member);
    tally(fanout, session_deliver(member->session, &copy));
}

// ---- retained messages ----

// What the broker says of itself is not kept over its end.
static bool is_of_broker(struct bytes topic)
{
    static const char prefix[] = "$SYS/";
    size_t length = sizeof prefix - 1;
    return topic.length >= length && memcmp(topic.data, prefix, length) == 0;
}

static void retain(struct fanout *fanout)
{
    struct sessions *sessions = fanout->sessions;
    struct publication *publication = fanout->publication;
    bool stored = !is_of_broker(publication->topic);
    if (publication->payload.length == 0) { // [MQTT-3.3.1-6], [MQTT-3.3.1-7]
        if (!retained_clear(sessions->retained, publication->topic) || !stored)
            return;
        state_drop_retained(sessions->state, publication->topic);
    } else if (sessions->budget->full) {
        fanout->routed.refused++;
        return;
    } else {
        retained_set(sessions->retained, publication);
        if (!stored)
            return;
        state_put_retained(sessions->state, publication);
    }
    fanout->routed.stored = true;
}

struct routed sessions_publish(struct sessions *sessions, struct publication *publication)
{
    struct fanout *fanout = sessions->fanout;
    struct router_calls calls = {gather, deliver_shared, fanout};
    fanout->turn++;
    fanout->sessions = sessions;
    fanout->publication = publication;
    fanout->routed = (struct routed){0};
    fanout->count = fanout->id_count = 0;
    router_match(sessions->router, publication->topic, &calls);
    for (size_t i = 0; i < fanout->count; i++)
        deliver_match(fanout, &fanout->matches[i]);
    if (publication->retain)
        retain(fanout);
    return fanout->routed;
}

bool sessions_want(const struct sessions *sessions, struct bytes topic)
{
    return router_wants(sessions->router, topic);
}
