// The clock of a client: one entry of the wheel, for whatever its state waits for.
#include "broker/client_internal.h"

#define HELD_MS 10000 // until a look whether the peer is there still, while it is not read

// One and a half times the keepalive [MQTT-3.1.2-22], 3.1.1: [MQTT-3.1.2-24].
static int64_t patience_ms(const struct client *client)
{
    return (int64_t)client->keepalive * 1500;
}

void client_keep_alive(struct client *client)
{
    if (client->keepalive > 0)
        wheel_start(client->broker->wheel, &client->timer, patience_ms(client));
}

static void watch(struct client *client)
{
    int64_t patience = client->keepalive > 0 ? patience_ms(client) : HELD_MS;
    wheel_start(client->broker->wheel, &client->timer, patience < HELD_MS ? patience : HELD_MS);
}

void client_watch_held(struct client *client)
{
    if (client->state != CLIENT_UP || !wheel_started(&client->timer))
        watch(client);
}

// Silence is no fault of a client that we do not read. But those who have gone, and come again by
// another name, must not pile up while the database is away.
static void held_due(struct client *client)
{
    if (conn_peer_ended(client->conn))
        client_end(client, REASON_SUCCESS, "closed by the peer");
    else
        watch(client);
}

// The entry is not started anew with each packet: when it is due it is seen how long ago the last
// one came.
static void silence_due(struct client *client)
{
    int64_t left_ms = client->seen_ms + patience_ms(client) - loop_now_ms();
    if (client->keepalive == 0)
        return;
    if (left_ms > 0)
        wheel_start(client->broker->wheel, &client->timer, left_ms);
    else
        client_end(client, REASON_KEEP_ALIVE_TIMEOUT, "nothing came for 1.5 times its keepalive");
}

void client_timer_due(struct wheel_entry *entry)
{
    struct client *client = list_entry(entry, struct client, timer);
    switch (client->state) {
    case CLIENT_NEW:
        client_end(client, REASON_SUCCESS, "no CONNECT within connect_timeout");
        break;
    case CLIENT_CHECKING:
    case CLIENT_ADMITTED:
    case CLIENT_DENIED:
    case CLIENT_GREETING: // for passwords of others, or for the state file
        held_due(client);
        break;
    case CLIENT_UP:
        if (client->held)
            held_due(client);
        else
            silence_due(client);
        break;
    case CLIENT_CLOSING:
        client->state = CLIENT_OVER;
        client_later(client);
        break;
    default:
        break;
    }
}
