// How a client's connection ends: whose fault it is, what is said, and what becomes of the session.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "broker/client_internal.h"

#define DRAIN_MS 2000 // for the last bytes to leave, and for the peer to close

// Nothing of it is heard of any more but its end.
static void leave(struct client *client)
{
    struct broker *broker = client->broker;
    struct session *session = client->session;
    if (client->check)
        accounts_check_cancel(client->check);
    client->check = NULL;
    client->session = NULL;
    client_forget_id(client);
    list_remove(&client->stall_node);
    wheel_stop(&client->timer);
    free(client->answer);
    client->answer = NULL;
    if (!session)
        return;
    broker->counters.clients--;
    session_detach(session);
}

// What is told apart where lines are held back: not the name in a certificate.
static const char *cause_of(const char *why)
{
    const char *colon = strrchr(why, ':');
    return colon ? colon : why;
}

// Certificates that are no good are for people to mend; other strangers are none of ours.
static void log_stranger(struct client *client, const char *why)
{
    char text[CLIENT_TEXT_SIZE], more[LOG_MORE_SIZE];
    uint64_t suppressed;
    enum log_level level = strstr(why, "certificate") ? LOG_LEVEL_WARN : LOG_LEVEL_INFO;
    if (log_cause_pass(&client->broker->refusals, cause_of(why), &suppressed))
        log_write(level, "%s: %s closed: %s%s", client->broker->source.name,
                  client_text(client, text), why, log_more(suppressed, more));
}

static void log_end(struct client *client, const char *why)
{
    char text[CLIENT_TEXT_SIZE];
    if (client->session)
        log_info("%s: %s disconnected: %s", client->broker->source.name, client_text(client, text),
                 why);
    else
        log_stranger(client, why);
}

// [MQTT-4.13.2-1]; only once CONNACK has left, and a reason for people if there is room.
static void say_goodbye(struct client *client, uint8_t reason, const char *why)
{
    struct packet packet = {.type = PACKET_DISCONNECT,
                            .version = client->version,
                            .reason.reason = reason,
                            .properties = {.present = PROPERTY_BIT(PROPERTY_REASON_STRING),
                                           .reason_string = bytes_of(why)}};
    if (client_send_packet(client, &packet))
        return;
    packet.properties.present = 0;
    client_send_packet(client, &packet);
}

void client_close(struct client *client)
{
    client->state = CLIENT_CLOSING;
    leave(client);
    conn_finish(client->conn);
    wheel_start(client->broker->wheel, &client->timer, DRAIN_MS);
}

void client_end(struct client *client, uint8_t reason, const char *why)
{
    if (client->state >= CLIENT_CLOSING)
        return;
    log_end(client, why);
    if (client->state == CLIENT_UP) {
        client_release(client);
        if (client->version == PACKET_V5 && reason >= REASON_UNSPECIFIED_ERROR)
            say_goodbye(client, reason, why);
    }
    client_close(client);
}

enum conn_next client_refuse(struct client *client, uint8_t reason, const char *why)
{
    client_end(client, reason, why);
    return CONN_HOLD;
}

// A client that says good-bye has no will [MQTT-3.1.2-8], unless it asks for it (0x04), or tells us
// of an error. False where what it says is an error itself.
static bool good_bye(struct client *client, const struct packet *packet)
{
    struct session *session = client->session;
    const struct property_set *set = &packet->properties;
    if (property_has(set, PROPERTY_SESSION_EXPIRY)) {
        uint32_t most = client->broker->options->session_expiry;
        uint32_t expiry = set->session_expiry < most ? set->session_expiry : most;
        if (client->asked_expiry == 0 && set->session_expiry > 0) { // 3.14.2.2.2
            client_end(client, REASON_PROTOCOL_ERROR,
                       "Session Expiry Interval in DISCONNECT, but not in CONNECT");
            return false;
        }
        if (session->durable)
            session_set_expiry(session, expiry);
    }
    if (packet->reason.reason == REASON_SUCCESS)
        session_drop_will(session);
    return true;
}

void client_take_disconnect(struct client *client, const struct packet *packet)
{
    char why[80];
    const char *reason = packet_reason_name(PACKET_V5, PACKET_DISCONNECT, packet->reason.reason);
    snprintf(why, sizeof why, "it says: %s", reason);
    client->broker->counters.packets_received++;
    if (good_bye(client, packet))
        client_end(client, REASON_SUCCESS, why);
}

void client_closed(struct client *client, const char *why)
{
    if (client->state < CLIENT_CLOSING) {
        log_end(client, why);
        leave(client);
    }
    client->state = CLIENT_OVER;
    wheel_stop(&client->timer);
    client_later(client);
}

void client_free(struct client *client)
{
    struct broker *broker = client->broker;
    if (client->check)
        accounts_check_cancel(client->check);
    list_remove(&client->node);
    list_remove(&client->turn_node);
    list_remove(&client->stall_node);
    wheel_stop(&client->timer);
    client_forget_id(client);
    client_send_fini(&client->send);
    conn_free(client->conn);
    window_fini(&client->window);
    client_free_aliases(client);
    free(client->answer);
    free(client->username);
    free(client);
    broker->connections--;
}

void clients_end(struct broker *broker, uint8_t reason, const char *why)
{
    list_each (node, &broker->all)
        client_end(list_entry(node, struct client, node), reason, why);
}

void clients_cut(struct broker *broker)
{
    list_each (node, &broker->all) {
        struct client *client = list_entry(node, struct client, node);
        client->state = CLIENT_OVER;
        client_later(client);
    }
}

// Why it may not stay, or NULL. A password that was checked before counts as long as its entry is
// the same.
static const char *why_not(const struct client *client, const struct accounts *before)
{
    const struct broker *broker = client->broker;
    if (!client->by_password)
        return client->username || broker->options->allow_anonymous
                   ? NULL
                   : "anonymous clients are no longer allowed";
    if (!broker->accounts)
        return "there is no password_file any more";
    if (!accounts_has(broker->accounts, client->username))
        return "its user is no longer in password_file";
    return accounts_same(before, broker->accounts, client->username)
               ? NULL
               : "the password of its user was changed";
}

// A check under way begins anew with the CONNECT, which its connection holds.
static void check_again(struct client *client)
{
    if (client->check)
        accounts_check_cancel(client->check);
    client->check = NULL;
    client->state = CLIENT_NEW;
    client_resume(client);
}

void clients_check(struct broker *broker, const struct accounts *before)
{
    list_each (node, &broker->all) {
        struct client *client = list_entry(node, struct client, node);
        const char *why = client->session ? why_not(client, before) : NULL;
        if (client->state == CLIENT_CHECKING || client->state == CLIENT_ADMITTED)
            check_again(client);
        else if (why)
            client_end(client, REASON_ADMINISTRATIVE_ACTION, why);
    }
}
