// A session of the process itself, whose deliveries go to a function in place of a connection.
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "broker/broker_internal.h"
#include "broker/router.h"

struct broker_tap {
    struct sink sink; // first
    struct broker *broker;
    struct session *session;
    struct broker_tap_calls calls;
    bool open;
};

// ---- the sink ----

static bool tap_publish(struct sink *sink, const struct delivery *delivery)
{
    struct broker_tap *tap = (struct broker_tap *)sink;
    tap->calls.deliver(tap->calls.arg, delivery->publication, delivery->qos, delivery->retain,
                       delivery->packet_id);
    return true;
}

// What is done is done at once: nobody waits for a PUBREL.
static void tap_pubrel(struct sink *sink, uint16_t packet_id)
{
    const struct broker_tap *tap = (struct broker_tap *)sink;
    session_take_ack(tap->session, PACKET_PUBCOMP, packet_id, REASON_SUCCESS);
}

static bool tap_ready(struct sink *sink)
{
    const struct broker_tap *tap = (struct broker_tap *)sink;
    return tap->open;
}

static const struct sink_calls sink_calls = {.publish = tap_publish,
                                             .pubrel = tap_pubrel,
                                             .ready = tap_ready};

// ---- its subscriptions ----

static void drop_others(struct session *session, const char *const *filters, size_t count)
{
    struct subscription_entry *next;
    for (struct subscription_entry *entry = session->subscriptions; entry; entry = next) {
        bool wanted = false;
        next = entry->next;
        for (size_t i = 0; i < count && !wanted; i++)
            wanted = strcmp(entry->filter, filters[i]) == 0;
        if (!wanted)
            session_unsubscribe(session, bytes_of(entry->filter));
    }
}

// A retained message is passed on once, and as retained.
static void subscribe(struct session *session, const char *text, uint8_t qos)
{
    const struct packet_filter filter = {.filter = bytes_of(text),
                                         .qos = qos,
                                         .retain_handling = 1,
                                         .retain_as_published = true};
    bool is_new;
    uint8_t reason = session_subscribe(session, &filter, 0, &is_new);
    if (reason >= REASON_UNSPECIFIED_ERROR)
        log_error(
            "%s: filter '%s' is not subscribed: %s; raise subscriptions or memory in [broker]",
            session->client_id, text, packet_reason_name(PACKET_V5, PACKET_SUBACK, reason));
    else
        session_send_retained(session, &filter, 0, is_new);
}

// ---- the caller's ----

struct broker_tap *broker_tap_new(struct broker *broker, const char *name,
                                  const char *const *filters, size_t count, uint8_t qos,
                                  uint16_t window, const struct broker_tap_calls *calls)
{
    struct broker_tap *tap = mem_alloc(sizeof *tap);
    char *client_id = mem_printf(BROKER_TAP_ID "%s", name);
    struct session *session = session_find(broker->sessions, bytes_of(client_id));
    if (session) {
        session->internal = true; // before: what it has queued is under no ACL either
        session_resume(session, NULL, PACKET_V5, UINT32_MAX);
    } else {
        session = session_new(broker->sessions, bytes_of(client_id), NULL, PACKET_V5, UINT32_MAX);
    }
    *tap = (struct broker_tap){.sink = {.calls = &sink_calls, .window = window},
                               .broker = broker,
                               .session = session,
                               .calls = *calls};
    free(client_id);
    session->internal = true;
    broker->counters.taps++;
    drop_others(session, filters, count);
    for (size_t i = 0; i < count; i++)
        subscribe(session, filters[i], qos);
    return tap;
}

void broker_tap_open(struct broker_tap *tap)
{
    if (tap->session->sink)
        session_detach(tap->session);
    tap->open = true;
    session_attach(tap->session, &tap->sink);
}

// It stays attached: what has been delivered may still be done.
void broker_tap_close(struct broker_tap *tap)
{
    tap->open = false;
}

void broker_tap_done(struct broker_tap *tap, uint16_t packet_id)
{
    enum session_ack ack = session_take_ack(tap->session, PACKET_PUBACK, packet_id, REASON_SUCCESS);
    // QoS 2 has been passed on to its end, so it ends here without a PUBREL. [MQTT-4.3.3-4]
    if (ack == SESSION_ACK_WRONG)
        session_take_ack(tap->session, PACKET_PUBREC, packet_id, REASON_UNSPECIFIED_ERROR);
}

size_t broker_tap_queued(const struct broker_tap *tap)
{
    return tap->session->queue_count;
}

void broker_tap_free(struct broker_tap *tap)
{
    if (!tap)
        return;
    if (tap->session->sink)
        session_detach(tap->session);
    tap->broker->counters.taps--;
    free(tap);
}

// One that is of no tap any more: what it would keep nobody would fetch.
static struct session *find_orphan(const struct sessions *sessions)
{
    for (size_t i = 0; i < sessions->bucket_count; i++)
        list_each (node, &sessions->buckets[i]) {
            struct session *session = list_entry(node, struct session, node);
            if (!session->internal &&
                strncmp(session->client_id, BROKER_TAP_ID, strlen(BROKER_TAP_ID)) == 0)
                return session;
        }
    return NULL;
}

void broker_taps_made(struct broker *broker)
{
    for (struct session *orphan; (orphan = find_orphan(broker->sessions));) {
        log_warn("%s: it is not configured any more: its %u messages are dropped",
                 orphan->client_id, orphan->queue_count);
        session_end(orphan);
    }
}
