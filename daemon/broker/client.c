// A client's life: made for an accepted socket, given its packets, freed at a turn's end.
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "broker/client_internal.h"

#define CONNECT_SIZE_MAX (128 * 1024) // of whoever has not said who he is
#define ID_SLOT_BITS 24

// ---- the table ----

static void table_add(struct client_table *table, struct client *client)
{
    if (table->free_count == 0) {
        size_t slot = table->capacity, capacity = slot;
        table->slots = mem_grow(table->slots, slot, &capacity, sizeof(struct client *));
        table->free_slots = mem_realloc(table->free_slots, capacity, sizeof *table->free_slots);
        table->capacity = capacity;
        while (capacity > slot) {
            table->slots[--capacity] = NULL;
            table->free_slots[table->free_count++] = (uint32_t)capacity;
        }
    }
    uint32_t slot = table->free_slots[--table->free_count];
    table->slots[slot] = client;
    client->id = ++table->last_serial << ID_SLOT_BITS | slot;
}

static size_t slot_of(uint64_t id)
{
    return id & ((1U << ID_SLOT_BITS) - 1);
}

struct client *client_by_id(const struct broker *broker, uint64_t id)
{
    size_t slot = slot_of(id);
    struct client *client = slot < broker->clients.capacity ? broker->clients.slots[slot] : NULL;
    return client && client->id == id ? client : NULL;
}

void client_forget_id(struct client *client)
{
    struct client_table *table = &client->broker->clients;
    size_t slot = slot_of(client->id);
    if (table->slots[slot] != client)
        return;
    table->slots[slot] = NULL;
    table->free_slots[table->free_count++] = (uint32_t)slot;
}

// ---- what its files share ----

void client_later(struct client *client)
{
    struct broker *broker = client->broker;
    if (list_empty(&client->turn_node))
        list_append(&broker->turning, &client->turn_node);
    loop_task_schedule(broker->turn);
}

enum conn_next client_hold(struct client *client)
{
    client->held = true;
    return CONN_HOLD;
}

void client_resume(struct client *client)
{
    if (!client->held)
        return;
    client->held = false;
    client->seen_ms = loop_now_ms();
    list_remove(&client->stall_node);
    conn_resume(client->conn);
}

const char *client_text(const struct client *client, char text[CLIENT_TEXT_SIZE])
{
    char address[CONN_ADDRESS_SIZE];
    conn_peer_address(client->conn, address);
    if (client->session)
        snprintf(text, CLIENT_TEXT_SIZE, "client '%.64s' at %s", client->session->client_id,
                 address);
    else
        snprintf(text, CLIENT_TEXT_SIZE, "client at %s", address);
    return text;
}

static void send_bytes(struct client *client, struct bytes bytes)
{
    client->broker->counters.answers_sent++;
    client->broker->counters.answer_bytes_sent += bytes.length;
    conn_write(client->conn, bytes);
}

bool client_send_packet(struct client *client, const struct packet *packet)
{
    uint8_t small[256];
    size_t size = packet_size(packet);
    if (size > client->send.packet_max) // [MQTT-3.1.2-24]
        return false;
    struct bytes_writer writer = bytes_writer(size > sizeof small ? mem_alloc(size) : small, size);
    packet_write(&writer, packet);
    send_bytes(client, (struct bytes){writer.data, writer.length});
    if (writer.data != small)
        free(writer.data);
    return true;
}

void client_send_ack(struct client *client, enum packet_type type, uint16_t packet_id,
                     uint8_t reason)
{
    uint8_t bytes[PACKET_ACK_MAX];
    struct bytes_writer writer = bytes_writer(bytes, sizeof bytes);
    packet_write_ack(&writer, type, client->version, packet_id, reason);
    send_bytes(client, (struct bytes){bytes, writer.length});
}

// ---- packets ----

static enum conn_next answer_ping(struct client *client)
{
    static const uint8_t pong[] = {PACKET_PINGRESP << 4, 0};
    send_bytes(client, (struct bytes){pong, sizeof pong});
    return CONN_NEXT;
}

static enum conn_next take(struct client *client, const struct packet *packet, size_t size)
{
    switch (packet->type) {
    case PACKET_PUBLISH:
        return client_take_publish(client, packet, size);
    case PACKET_PUBACK:
    case PACKET_PUBREC:
    case PACKET_PUBCOMP:
        return client_take_ack(client, packet);
    case PACKET_PUBREL:
        return client_take_pubrel(client, packet);
    case PACKET_SUBSCRIBE:
    case PACKET_UNSUBSCRIBE:
        return client_take_subscribe(client, packet);
    case PACKET_PINGREQ:
        return answer_ping(client);
    case PACKET_DISCONNECT:
        client_take_disconnect(client, packet);
        return CONN_HOLD;
    case PACKET_CONNECT: // [MQTT-3.1.0-2]
        return client_refuse(client, REASON_PROTOCOL_ERROR, "a second CONNECT");
    default: // AUTH, though its CONNECT asked for no method [MQTT-4.12.0-6]
        return client_refuse(client, REASON_PROTOCOL_ERROR, "AUTH without authentication method");
    }
}

// Acknowledgements alone must not fill the memory either: who reads nothing is not read.
static bool reads(const struct client *client)
{
    return conn_unsent(client->conn) <= 2 * client->broker->options->unsent_bytes;
}

static enum conn_next take_frame(struct client *client, const struct packet_frame *frame,
                                 struct bytes body)
{
    struct packet packet;
    struct packet_error error;
    client->seen_ms = loop_now_ms();
    if (!reads(client))
        return client_hold(client);
    if (!packet_parse(frame, body.data, client->version, PACKET_FROM_CLIENT, &packet, &error))
        return client_refuse(client, error.reason, error.text);
    return take(client, &packet, frame->header_length + (size_t)frame->body_length);
}

static enum conn_next packet_came(void *arg, const struct packet_frame *frame, struct bytes body)
{
    struct client *client = arg;
    struct sys_counters *counters = &client->broker->counters;
    enum conn_next next = CONN_HOLD;
    if (client->state == CLIENT_UP)
        next = take_frame(client, frame, body);
    else if (client->state == CLIENT_NEW || client->state == CLIENT_ADMITTED ||
             client->state == CLIENT_DENIED)
        next = client_take_connect(client, frame, body);
    else
        return client_hold(client);
    if (next == CONN_NEXT) {
        counters->packets_received++;
        counters->bytes_received += frame->header_length + frame->body_length;
    }
    return next;
}

static void malformed(void *arg, const struct packet_error *error)
{
    client_refuse(arg, error->reason, error->text);
}

static void drained(void *arg)
{
    struct client *client = arg;
    if (client->state != CLIENT_UP)
        return;
    client_resume(client);
    session_pump(client->session);
}

static void closed(void *arg, const char *why)
{
    client_closed(arg, why);
}

// ---- beginning and turns ----

void client_new(struct broker *broker, int fd, const struct conn_transport *transport)
{
    static const struct conn_calls calls = {.packet = packet_came,
                                            .malformed = malformed,
                                            .drained = drained,
                                            .closed = closed};
    const struct broker_options *options = broker->options;
    struct client *client = mem_zalloc(sizeof *client);
    client->broker = broker;
    client->version = PACKET_V311;
    // No PUBLISH is read through: what is too large ends the connection.
    size_t most = CONNECT_SIZE_MAX;
    client->limits.packet = options->packet_size < most ? options->packet_size : most;
    client->limits.unfinished = &broker->unfinished;
    client->conn = conn_new(broker->loop, &client->limits, &calls, client);
    client->send.packet_max = UINT32_MAX;
    client->send.conn = client->conn;
    client->send.sessions = broker->sessions;
    client_send_init(&client->send);
    list_init(&client->turn_node);
    list_init(&client->stall_node);
    list_append(&broker->all, &client->node);
    table_add(&broker->clients, client);
    wheel_entry_init(&client->timer, client_timer_due);
    wheel_start(broker->wheel, &client->timer, (int64_t)options->connect_timeout * 1000);
    broker->connections++;
    conn_attach(client->conn, fd, transport);
}

static void turn(struct client *client)
{
    if (client->state == CLIENT_UP)
        client_release(client);
    if (client->state == CLIENT_UP && client->abandoned && !client->broker->quiet)
        client_end(client, REASON_IMPLEMENTATION_SPECIFIC,
                   "a message was abandoned, it is to be sent again");
    if (client->state == CLIENT_OVER)
        client_free(client);
}

void clients_turn(struct broker *broker)
{
    for (struct list *node; (node = list_take(&broker->turning));)
        turn(list_entry(node, struct client, turn_node));
}

void clients_resume(struct broker *broker)
{
    for (struct list *node; (node = list_take(&broker->stalled));)
        client_resume(list_entry(node, struct client, stall_node));
}

void clients_free(struct broker *broker)
{
    while (!list_empty(&broker->all))
        client_free(list_entry(broker->all.next, struct client, node));
    free(broker->clients.slots);
    free(broker->clients.free_slots);
}
