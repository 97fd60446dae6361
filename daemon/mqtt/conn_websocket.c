// WebSocket on a connection: the handshake, frames around what is written, and frames of the peer.
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "mqtt/conn_internal.h"

#define UNSENT_FOR_PONG (64 * 1024) // a peer that does not read gets no more pongs, section 5.5.3

// What the peer has said behind the last packet.
enum end { END_NONE, END_CLOSE, END_ERROR };

struct conn_websocket {
    struct websocket_reader reader;
    char key[WEBSOCKET_KEY_SIZE]; // of our request
    uint8_t end;
    uint8_t answer[2]; // to a close: its code
    uint8_t answer_length;
    struct websocket_error error;
};

void conn_websocket_new(struct conn *conn, enum websocket_role role)
{
    conn->websocket = mem_zalloc(sizeof *conn->websocket);
    conn->websocket->reader.role = role;
}

void conn_websocket_free(struct conn *conn)
{
    free(conn->websocket);
}

static void write_frame(struct conn *conn, enum websocket_opcode opcode, struct bytes bytes)
{
    uint8_t header[WEBSOCKET_HEADER_MAX], mask[4] = {0};
    bool masked = conn->websocket->reader.role == WEBSOCKET_CLIENT;
    if (masked)
        RAND_bytes(mask, sizeof mask);
    size_t length = websocket_write_header(header, opcode, bytes.length, masked ? mask : NULL);
    conn_buffer_add(&conn->out, (struct bytes){header, length});
    if (bytes.length == 0)
        return;
    uint8_t *payload = conn_buffer_extend(&conn->out, bytes.length);
    memcpy(payload, bytes.data, bytes.length);
    if (masked)
        websocket_mask(payload, bytes.length, mask, 0);
}

void conn_websocket_write(struct conn *conn, struct bytes bytes)
{
    write_frame(conn, WEBSOCKET_BINARY, bytes);
}

static void write_close(struct conn *conn, enum websocket_code code)
{
    uint8_t payload[2] = {(uint8_t)(code >> 8), (uint8_t)code};
    write_frame(conn, WEBSOCKET_CLOSE, (struct bytes){payload, sizeof payload});
}

void conn_websocket_finish(struct conn *conn)
{
    const struct conn_websocket *ws = conn->websocket;
    write_close(conn, ws->end == END_ERROR ? ws->error.code : WEBSOCKET_NORMAL);
}

// ---- the handshake ----

void conn_websocket_start(struct conn *conn)
{
    struct conn_websocket *ws = conn->websocket;
    if (ws->reader.role == WEBSOCKET_SERVER)
        return;
    uint8_t random[16] = {0};
    size_t size = 512 + strlen(conn_opening_host(conn)) + strlen(conn_opening_path(conn));
    struct bytes_writer w = bytes_writer(mem_alloc(size), size);
    RAND_bytes(random, sizeof random);
    websocket_encode_key(random, ws->key);
    websocket_write_request(&w, conn_opening_host(conn), conn_opening_port(conn),
                            conn_opening_path(conn), ws->key);
    conn_buffer_add(&conn->out, (struct bytes){w.data, w.length});
    free(w.data);
    conn_flush_later(conn);
}

static enum websocket_handshake accept_client(struct conn *conn, size_t *used)
{
    struct websocket_reply reply;
    enum websocket_handshake result = websocket_accept(conn_buffer_bytes(&conn->in), used, &reply);
    if (result == WEBSOCKET_HANDSHAKE_MORE)
        return result;
    conn_buffer_add(&conn->out, (struct bytes){(const uint8_t *)reply.text, reply.length});
    conn_flush_later(conn);
    if (result == WEBSOCKET_HANDSHAKE_REFUSED) {
        conn->why = mem_printf("WebSocket: %s", reply.why);
        conn->state = CONN_CLOSING; // when the reply has left
    }
    return result;
}

static enum websocket_handshake check_server(struct conn *conn, size_t *used)
{
    char why[160];
    enum websocket_handshake result =
        websocket_check_response(conn_buffer_bytes(&conn->in), conn->websocket->key, used, why,
                                 sizeof why);
    if (result == WEBSOCKET_HANDSHAKE_REFUSED)
        conn_over(conn, why);
    return result;
}

static void take_frames(struct conn *conn, struct websocket_input input);

static void shake(struct conn *conn)
{
    size_t used = 0;
    bool server = conn->websocket->reader.role == WEBSOCKET_SERVER;
    if ((server ? accept_client : check_server)(conn, &used) != WEBSOCKET_HANDSHAKE_DONE)
        return;
    struct conn_buffer rest = conn->in; // frames came with it
    conn->in = (struct conn_buffer){0};
    conn_opened(conn);
    take_frames(conn, (struct websocket_input){rest.data + rest.start + used,
                                               conn_buffer_length(&rest) - used});
    free(rest.data);
}

// ---- frames ----

static void pong(struct conn *conn, struct bytes payload)
{
    if (conn->state != CONN_OPEN || conn_unsent(conn) > UNSENT_FOR_PONG)
        return;
    write_frame(conn, WEBSOCKET_PONG, payload);
    conn_flush_later(conn);
}

static void take_close(struct conn_websocket *ws, struct bytes answer)
{
    ws->end = END_CLOSE;
    ws->answer_length = (uint8_t)answer.length;
    if (answer.length > 0)
        memcpy(ws->answer, answer.data, answer.length);
}

static void take_frames(struct conn *conn, struct websocket_input input)
{
    struct conn_websocket *ws = conn->websocket;
    struct bytes piece;
    while (conn->state == CONN_OPEN && !conn->deaf && ws->end == END_NONE) {
        switch (websocket_read(&ws->reader, &input, &piece, &ws->error)) {
        case WEBSOCKET_SEEN_NOTHING:
            return;
        case WEBSOCKET_SEEN_DATA:
            conn_input(conn, piece);
            break;
        case WEBSOCKET_SEEN_PING:
            pong(conn, piece);
            break;
        case WEBSOCKET_SEEN_CLOSE:
            take_close(ws, piece);
            break;
        case WEBSOCKET_SEEN_ERROR:
            ws->end = END_ERROR;
            break;
        }
    }
    conn_websocket_again(conn);
}

void conn_websocket_again(struct conn *conn)
{
    struct conn_websocket *ws = conn->websocket;
    if (conn->state != CONN_OPEN || conn->held)
        return;
    if (ws->end == END_CLOSE) {
        write_frame(conn, WEBSOCKET_CLOSE, (struct bytes){ws->answer, ws->answer_length});
        conn->why = mem_strdup("closed by the peer");
        conn->state = CONN_CLOSING;
        conn_flush_later(conn);
    } else if (ws->end == END_ERROR) {
        struct packet_error error = {REASON_PROTOCOL_ERROR, ws->error.text};
        conn_malformed(conn, &error);
    }
}

void conn_websocket_take(struct conn *conn, uint8_t *bytes, size_t length)
{
    if (conn->state == CONN_SHAKING) {
        conn_buffer_add(&conn->in, (struct bytes){bytes, length});
        shake(conn);
    } else {
        take_frames(conn, (struct websocket_input){bytes, length});
    }
}
