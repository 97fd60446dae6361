// SUBSCRIBE and UNSUBSCRIBE: answered when what they change is durable, then the retained messages.
#include <stdlib.h>

#include "base/mem.h"
#include "broker/client_internal.h"

static size_t count_filters(const struct packet *packet)
{
    struct packet_filter filter;
    size_t offset = 0, count = 0;
    while (packet_next_filter(packet, &offset, &filter))
        count++;
    return count;
}

static uint32_t identifier(const struct packet *packet)
{
    const struct property_set *set = &packet->properties;
    return property_has(set, PROPERTY_SUBSCRIPTION_ID) ? set->subscription_id : 0;
}

// Why a filter is refused, and what to do.
static const char *refusal(const struct client *client, uint8_t code)
{
    const struct session *session = client->session;
    const struct sessions *sessions = session->sessions;
    if (code == REASON_NOT_AUTHORIZED)
        return "allow it in acl_file, or change the client";
    if (code != REASON_QUOTA_EXCEEDED)
        return "it is no valid filter, change the client";
    if (sessions->budget->full)
        return "all memory in [broker] is in use, raise it";
    return session->subscription_count >= sessions->limits.subscriptions
               ? "it has too many already, raise subscriptions in [broker]"
               : "it has too many levels, change the client";
}

static void log_refused(const struct client *client, struct bytes filter, uint8_t code)
{
    char text[CLIENT_TEXT_SIZE], more[LOG_MORE_SIZE];
    uint64_t suppressed;
    if (log_limit_pass(&client->broker->subscribe_limit, &suppressed))
        log_warn("%s: %s may not subscribe to '%.*s'%s: %s", client->broker->source.name,
                 client_text(client, text), (int)filter.length, (const char *)filter.data,
                 log_more(suppressed, more), refusal(client, code));
}

// One code for one filter, in order [MQTT-3.9.3-1].
static uint8_t change(struct client *client, const struct packet *packet,
                      const struct packet_filter *filter, bool *is_new)
{
    struct session *session = client->session;
    if (packet->type == PACKET_UNSUBSCRIBE)
        return session_unsubscribe(session, filter->filter) ? REASON_SUCCESS
                                                            : REASON_NO_SUBSCRIPTION_EXISTED;
    uint8_t code = session_subscribe(session, filter, identifier(packet), is_new);
    if (code >= SUBACK_FAILURE)
        log_refused(client, filter->filter, code);
    return client->version == PACKET_V311 && code >= SUBACK_FAILURE ? SUBACK_FAILURE : code;
}

static struct answer *change_all(struct client *client, const struct packet *packet)
{
    size_t count = count_filters(packet), offset = 0;
    struct answer *answer = mem_zalloc(sizeof *answer + 2 * count);
    struct packet_filter filter;
    answer->count = count;
    for (size_t i = 0; packet_next_filter(packet, &offset, &filter); i++) {
        bool is_new = false;
        answer->codes[i] = change(client, packet, &filter, &is_new);
        answer->codes[count + i] = is_new;
    }
    return answer;
}

// False where the client takes no packet as large.
static bool send_answer(struct client *client, const struct packet *packet)
{
    bool subscribed = packet->type == PACKET_SUBSCRIBE;
    struct packet suback = {.type = subscribed ? PACKET_SUBACK : PACKET_UNSUBACK,
                            .version = client->version};
    suback.suback.packet_id = packet->subscribe.packet_id;
    if (subscribed || client->version == PACKET_V5)
        suback.suback.codes = (struct bytes){client->answer->codes, client->answer->count};
    return client_send_packet(client, &suback);
}

static void send_retained(struct client *client, const struct packet *packet,
                          const struct answer *answer)
{
    struct packet_filter filter;
    size_t offset = 0;
    for (size_t i = 0; packet_next_filter(packet, &offset, &filter); i++)
        if (answer->codes[i] < SUBACK_FAILURE)
            session_send_retained(client->session, &filter, identifier(packet),
                                  answer->codes[answer->count + i]);
}

static enum conn_next finish(struct client *client, const struct packet *packet)
{
    if (!send_answer(client, packet))
        return client_refuse(client, REASON_PACKET_TOO_LARGE,
                             "it takes no packet as large as the answer");
    struct answer *answer = client->answer;
    client->answer = NULL;
    if (packet->type == PACKET_SUBSCRIBE)
        send_retained(client, packet, answer);
    free(answer);
    return CONN_NEXT;
}

static void durable(void *arg, uint64_t client_id, uint64_t unused)
{
    (void)unused;
    struct client *client = client_by_id(arg, client_id);
    if (!client || !client->answer)
        return;
    client->answer->durable = true;
    client_resume(client);
}

// The connection holds the packet until what it says is durable; then it comes again.
enum conn_next client_take_subscribe(struct client *client, const struct packet *packet)
{
    struct broker *broker = client->broker;
    if (!client->answer) {
        client->answer = change_all(client, packet);
        client->answer->durable = !client->session->durable || state_is_durable(broker->state);
        if (!client->answer->durable)
            state_when_durable(broker->state, durable, broker, client->id, 0);
    }
    return client->answer->durable ? finish(client, packet) : client_hold(client);
}
