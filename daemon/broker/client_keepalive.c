// The clock of a client: one entry of the wheel, for whatever its state waits for.
#include <stdio.h>

#include "broker/client_internal.h"

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

// The entry is not started anew with each packet: when it is due it is seen how long ago the last
// one came. While we do not read, silence is no fault of the client.
static void silence_due(struct client *client)
{
    int64_t left_ms = client->seen_ms + patience_ms(client) - loop_now_ms();
    if (client->held)
        client_keep_alive(client);
    else if (left_ms > 0)
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
    case CLIENT_UP:
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
