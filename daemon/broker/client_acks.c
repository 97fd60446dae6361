// Acknowledgements: ours, in the order of the PUBLISHes, and the client's.
#include "base/failpoint.h"
#include "broker/client_internal.h"

#define GATHERED 1024 // bytes that are written at a time

struct gathering {
    struct client *client;
    struct bytes_writer writer;
    uint8_t bytes[GATHERED];
};

static void flush(struct gathering *gathering)
{
    struct client *client = gathering->client;
    size_t length = gathering->writer.length;
    FAILPOINT("ack");
    if (length > 0)
        conn_write(client->conn, (struct bytes){gathering->bytes, length});
    FAILPOINT("acked");
    client->broker->counters.answer_bytes_sent += length;
    gathering->writer.length = 0;
}

static void gather(struct gathering *gathering, const struct window_entry *entry)
{
    struct client *client = gathering->client;
    if (bytes_room(&gathering->writer) < PACKET_ACK_MAX)
        flush(gathering);
    packet_write_ack(&gathering->writer, entry->qos == 2 ? PACKET_PUBREC : PACKET_PUBACK,
                     client->version, entry->packet_id, entry->reason);
    client->broker->counters.answers_sent++;
    client->received_bytes -= entry->size;
    // With PUBREC the exchange goes on, unless that is an error.
    if ((entry->qos == 1 || entry->reason >= REASON_UNSPECIFIED_ERROR) && client->outstanding > 0)
        client->outstanding--;
}

void client_release(struct client *client)
{
    struct gathering gathering = {.client = client};
    struct window_entry entry;
    if (!window_release(&client->window, &entry))
        return;
    gathering.writer = bytes_writer(gathering.bytes, sizeof gathering.bytes);
    do
        gather(&gathering, &entry);
    while (window_release(&client->window, &entry));
    flush(&gathering);
    client_resume(client); // a PUBLISH may wait for room in the window
}

enum conn_next client_take_ack(struct client *client, const struct packet *packet)
{
    const struct packet_ack *ack = &packet->ack;
    switch (session_take_ack(client->session, packet->type, ack->packet_id, ack->reason)) {
    case SESSION_ACK_WRONG: // [MQTT-4.8.0-1]
        return client_refuse(client, REASON_PROTOCOL_ERROR,
                             "an acknowledgement of the wrong kind for its packet identifier");
    case SESSION_ACK_UNKNOWN:
        if (packet->type == PACKET_PUBREC && ack->reason < REASON_UNSPECIFIED_ERROR)
            client_send_ack(client, PACKET_PUBREL, ack->packet_id, REASON_PACKET_ID_NOT_FOUND);
        return CONN_NEXT;
    default:
        return CONN_NEXT;
    }
}
