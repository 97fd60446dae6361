// SUBSCRIBE and UNSUBSCRIBE: from what the broker holds in the session to what is wanted.
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "mqtt/subscriber_internal.h"

#define REQUEST_MAX 65536 // bytes of a SUBSCRIBE or UNSUBSCRIBE of several filters
#define REQUEST_HEAD 16   // bytes of it before the filters, at most
#define FILTER_OVERHEAD 3 // bytes of a filter beside its text

static uint16_t request_next(struct subscriber *sub)
{
    if (++sub->last_request == 0)
        sub->last_request = 1;
    return sub->last_request;
}

// A SUBSCRIBE or UNSUBSCRIBE in the making; packet_id is 0 before its first filter.
struct request {
    enum packet_type type;
    uint16_t packet_id;
    uint32_t id;
    struct bytes_writer list;
};

// A Subscription Identifier is for all filters of its packet, so that no two filters share one; and
// the broker's Maximum Packet Size holds.
static bool request_takes(const struct subscriber *sub, const struct request *request,
                          const struct filter *filter)
{
    if (!request->packet_id)
        return true;
    size_t room = sub->limits.packet < REQUEST_MAX ? sub->limits.packet : REQUEST_MAX;
    size_t size = REQUEST_HEAD + request->list.length + strlen(filter->text) + FILTER_OVERHEAD;
    return !request->id && !filter->id && size <= room;
}

static void request_add(struct subscriber *sub, struct request *request, struct filter *filter)
{
    if (!request->packet_id) {
        request->packet_id = request_next(sub);
        request->id = filter->id;
    }
    filter->request = request->packet_id;
    filter->state = FILTER_ASKED;
    struct packet_filter entry = {.filter = bytes_of(filter->text),
                                  .qos = filter->qos,
                                  .retain_handling = filter->retain_handling};
    packet_write_filter(&request->list, request->type, sub->version, &entry);
}

typedef bool due_fn(const struct subscriber *sub, const struct filter *filter);

// Sends one request, for the first filter that is due and others that fit; false where none is.
static bool request_send(struct subscriber *sub, enum packet_type type, struct filters *filters,
                         due_fn *due)
{
    uint8_t *list = mem_alloc(2 * REQUEST_MAX); // at least one filter, however long
    struct request request = {.type = type, .list = bytes_writer(list, 2 * REQUEST_MAX)};
    for (size_t i = 0; i < filters->count; i++) {
        struct filter *filter = &filters->items[i];
        if (due(sub, filter) && request_takes(sub, &request, filter))
            request_add(sub, &request, filter);
    }
    if (request.packet_id) {
        struct packet packet = {.type = type, .version = sub->version};
        packet.subscribe =
            (struct packet_subscribe){request.packet_id, {list, request.list.length}};
        if (type == PACKET_SUBSCRIBE && request.id)
            packet.properties =
                (struct property_set){.present = PROPERTY_BIT(PROPERTY_SUBSCRIPTION_ID),
                                      .subscription_id = request.id};
        subscriber_send(sub, &packet);
    }
    free(list);
    return request.packet_id != 0;
}

static bool subscribe_due(const struct subscriber *sub, const struct filter *filter)
{
    (void)sub;
    return filter->state == FILTER_TODO;
}

// What a refused filter should bring and a held one still does is not given up.
static bool unsubscribe_due(const struct subscriber *sub, const struct filter *held)
{
    return held->state == FILTER_TODO && !filters_find(&sub->wanted, held->text) &&
           !subscriber_stands_in(sub, held);
}

static bool any_asked(const struct filters *filters)
{
    for (size_t i = 0; i < filters->count; i++)
        if (filters->items[i].state == FILTER_ASKED)
            return true;
    return false;
}

// Filters that could not be sent at all are refused here, by name.
static void check_sizes(struct subscriber *sub)
{
    for (size_t i = 0; i < sub->wanted.count; i++) {
        struct filter *filter = &sub->wanted.items[i];
        if (filter->state != FILTER_TODO ||
            strlen(filter->text) + FILTER_OVERHEAD + REQUEST_HEAD <= sub->limits.packet)
            continue;
        filter->state = FILTER_REFUSED;
        log_error("%s: filter '%.100s...' is not subscribed: the broker takes packets of %u bytes",
                  sub->source.name, filter->text, sub->limits.packet);
    }
}

// Compares what is wanted to what is held; what is to be asked for is held now, but not for sure.
static bool compare(struct subscriber *sub)
{
    bool changes = false;
    for (size_t i = 0; i < sub->wanted.count; i++) {
        struct filter *filter = &sub->wanted.items[i];
        struct filter *held = filters_find(&sub->held, filter->text);
        if (filter->state != FILTER_TODO)
            continue;
        if (held && held->sure && held->qos == filter->qos && held->id == filter->id &&
            held->retained == filter->retained) {
            filter->state = FILTER_GRANTED;
            continue;
        }
        // 2: do not send retained copies; 1: only if the subscription is new; 0: now.
        bool newly = held && held->sure && !held->retained;
        filter->retain_handling = !filter->retained ? 2 : newly ? 0 : 1;
        if (!held)
            held = filters_add(&sub->held, filter->text);
        held->sure = false;
        changes = true;
    }
    return changes;
}

// Only now, when what replaces them is there: nothing is missed in between. Until the answer nobody
// knows whether the broker holds them, and a memory that cannot say so must not say that it does.
static void unsubscribe_gone(struct subscriber *sub)
{
    bool gone = false;
    for (size_t i = 0; i < sub->held.count; i++) {
        struct filter *held = &sub->held.items[i];
        held->state = FILTER_TODO;
        if (unsubscribe_due(sub, held)) {
            held->sure = false;
            gone = true;
        } else if (!filters_find(&sub->wanted, held->text)) {
            log_warn(
                "%s: filter '%s' stays subscribed until the broker takes what is to replace it",
                sub->source.name, held->text);
        }
    }
    if (!gone)
        return;
    if (!subscriber_memorise(sub))
        subscriber_forget_memory(sub);
    while (request_send(sub, PACKET_UNSUBSCRIBE, &sub->held, unsubscribe_due))
        ;
    loop_timer_start(sub->timer, SUBACK_TIMEOUT_MS);
}

static void log_outcome(struct subscriber *sub)
{
    size_t granted = 0;
    for (size_t i = 0; i < sub->wanted.count; i++)
        granted += sub->wanted.items[i].state == FILTER_GRANTED;
    log_info("%s: subscribed to %zu of %zu filters", sub->source.name, granted, sub->wanted.count);
}

static void plan_and_ask(struct subscriber *sub)
{
    sub->plan_again = false;
    subscriber_plan(sub);
    check_sizes(sub);
    if (!compare(sub)) {
        unsubscribe_gone(sub);
        return;
    }
    subscriber_memorise(sub);
    while (request_send(sub, PACKET_SUBSCRIBE, &sub->wanted, subscribe_due))
        ;
    loop_timer_start(sub->timer, SUBACK_TIMEOUT_MS);
}

void subscriber_subscribe(struct subscriber *sub)
{
    plan_and_ask(sub);
}

// Without a connection the next one begins with them. What is asked for is answered first.
void subscriber_resubscribe(struct subscriber *sub)
{
    if (sub->state != SUBSCRIBER_UP)
        return;
    sub->plan_again = true;
    if (!any_asked(&sub->wanted) && !any_asked(&sub->held))
        plan_and_ask(sub);
}

bool subscriber_subscribed(const struct subscriber *sub)
{
    for (size_t i = 0; i < sub->wanted.count; i++)
        if (sub->wanted.items[i].state != FILTER_GRANTED)
            return false;
    return sub->state == SUBSCRIBER_UP;
}

static void granted(struct subscriber *sub, struct filter *filter, uint8_t qos)
{
    filter->state = FILTER_GRANTED;
    if (qos < filter->qos)
        log_warn("%s: the broker grants filter '%s' QoS %u instead of %u%s", sub->source.name,
                 filter->text, qos, filter->qos,
                 qos == 0 ? ": what is sent while there is no connection is lost" : "");
    struct filter *held = filters_find(&sub->held, filter->text);
    if (!held)
        return;
    held->qos = filter->qos;
    held->id = filter->id;
    held->retained = filter->retained;
    held->sure = true;
}

static void refused(struct subscriber *sub, struct filter *filter, const struct packet *packet,
                    uint8_t code)
{
    char text[200];
    const char *name = packet_reason_name(packet->version, PACKET_SUBACK, code);
    subscriber_reason_text(packet, text, sizeof text);
    filter->state = FILTER_REFUSED;
    struct filter *held = filters_find(&sub->held, filter->text);
    if (held)
        filters_remove(&sub->held, held);
    if (filter->generalised) {
        log_warn("%s: the broker refuses filter '%s', which stands for several that overlap: "
                 "%s%s; subscribing to each of them",
                 sub->source.name, filter->text, name, text);
        filters_add(&sub->refused, filter->text);
        sub->plan_again = true;
    } else {
        log_error("%s: the broker refuses filter '%s': %s%s; allow %s to subscribe to it there, or "
                  "change the mapping's filter",
                  sub->source.name, filter->text, name, text,
                  sub->options->username ? sub->options->username : "this client");
    }
}

void subscriber_take_suback(struct subscriber *sub, const struct packet *packet)
{
    const struct packet_suback *suback = &packet->suback;
    size_t used = 0;
    for (size_t i = 0; i < sub->wanted.count; i++) {
        struct filter *filter = &sub->wanted.items[i];
        if (filter->state != FILTER_ASKED || filter->request != suback->packet_id)
            continue;
        uint8_t code = used < suback->codes.length ? suback->codes.data[used] : SUBACK_FAILURE;
        if (used++ >= suback->codes.length)
            continue;
        if (code >= SUBACK_FAILURE)
            refused(sub, filter, packet, code);
        else
            granted(sub, filter, code);
    }
    if (used == 0 || used != suback->codes.length) {
        subscriber_refuse(sub, REASON_PROTOCOL_ERROR, "a SUBACK that fits no SUBSCRIBE");
        return;
    }
    if (any_asked(&sub->wanted))
        return;
    loop_timer_stop(sub->timer);
    subscriber_memorise(sub);
    if (sub->plan_again) {
        plan_and_ask(sub);
        return;
    }
    log_outcome(sub);
    unsubscribe_gone(sub);
}

void subscriber_take_unsuback(struct subscriber *sub, const struct packet *packet)
{
    const struct packet_suback *unsuback = &packet->suback;
    size_t used = 0;
    for (size_t i = 0; i < sub->held.count;) {
        struct filter *held = &sub->held.items[i];
        if (held->state != FILTER_ASKED || held->request != unsuback->packet_id) {
            i++;
            continue;
        }
        uint8_t code = used < unsuback->codes.length ? unsuback->codes.data[used] : REASON_SUCCESS;
        used++;
        if (code >= REASON_UNSPECIFIED_ERROR) {
            log_warn("%s: the broker does not unsubscribe '%s': %s", sub->source.name, held->text,
                     packet_reason_name(packet->version, PACKET_UNSUBACK, code));
            held->state = FILTER_GRANTED;
            i++;
        } else {
            log_info("%s: unsubscribed '%s'", sub->source.name, held->text);
            filters_remove(&sub->held, held);
        }
    }
    if (used == 0)
        subscriber_refuse(sub, REASON_PROTOCOL_ERROR, "an UNSUBACK that fits no UNSUBSCRIBE");
    else if (!any_asked(&sub->held)) {
        loop_timer_stop(sub->timer);
        subscriber_memorise(sub);
        if (sub->plan_again)
            plan_and_ask(sub);
    }
}
