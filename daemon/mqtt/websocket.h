// WebSocket (RFC 6455), both roles, over bytes alone: frames and the texts of the opening
// handshake. Knows no socket and takes no memory.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

#define WEBSOCKET_HEADER_MAX 14      // bytes before a frame's payload
#define WEBSOCKET_CONTROL_MAX 125    // bytes of a control frame's payload
#define WEBSOCKET_HANDSHAKE_MAX 8192 // bytes of a request or response that are looked at
#define WEBSOCKET_REPLY_MAX 512
#define WEBSOCKET_KEY_SIZE 25 // base64 of 16 bytes, and a NUL

enum websocket_role { WEBSOCKET_CLIENT, WEBSOCKET_SERVER };

enum websocket_opcode {
    WEBSOCKET_CONTINUATION = 0,
    WEBSOCKET_TEXT = 1,
    WEBSOCKET_BINARY = 2,
    WEBSOCKET_CLOSE = 8,
    WEBSOCKET_PING = 9,
    WEBSOCKET_PONG = 10,
};

// Why a connection is closed, section 7.4.1.
enum websocket_code {
    WEBSOCKET_NORMAL = 1000,
    WEBSOCKET_PROTOCOL_ERROR = 1002,
    WEBSOCKET_UNSUPPORTED_DATA = 1003,
};

// ---- frames ----

// The state of decoding; begins with zeros but for role, the reader's own.
struct websocket_reader {
    enum websocket_role role;
    bool fragmented; // the last frame of a message has not come
    uint8_t header[WEBSOCKET_HEADER_MAX];
    uint8_t header_length; // of the bytes that are there; 0 between frames
    bool in_payload;
    uint8_t mask_at;
    uint64_t left; // bytes of the payload still to come
    uint8_t control[WEBSOCKET_CONTROL_MAX];
    uint8_t control_length;
};

enum websocket_event {
    WEBSOCKET_SEEN_NOTHING, // the input is used up
    WEBSOCKET_SEEN_DATA,    // piece: the next bytes of the stream, within the input
    WEBSOCKET_SEEN_PING,    // piece: what the pong must bring back, valid until the next call
    WEBSOCKET_SEEN_CLOSE,   // piece: what an answering close brings back: the code, or nothing
    WEBSOCKET_SEEN_ERROR,   // see error; nothing more may be read
};

struct websocket_error {
    enum websocket_code code;
    const char *text; // static
};

// A run of bytes that may be changed: payloads are unmasked where they lie.
struct websocket_input {
    uint8_t *data;
    size_t length;
};

// Decodes until something is seen, and moves the input's start behind it. Frames and their headers
// may be cut anywhere. Pongs are passed over.
enum websocket_event websocket_read(struct websocket_reader *reader, struct websocket_input *input,
                                    struct bytes *piece, struct websocket_error *error)
    __attribute__((warn_unused_result));

// Writes the header of an unfragmented frame; mask NULL: none, else its 4 bytes. Its length.
size_t websocket_write_header(uint8_t header[WEBSOCKET_HEADER_MAX], enum websocket_opcode opcode,
                              size_t length, const uint8_t *mask);
// Masks or unmasks bytes that begin at that offset of the payload.
void websocket_mask(uint8_t *bytes, size_t length, const uint8_t mask[4], size_t offset);

// ---- the opening handshake ----

enum websocket_handshake {
    WEBSOCKET_HANDSHAKE_MORE,    // it is not whole yet
    WEBSOCKET_HANDSHAKE_DONE,    // frames begin after *used bytes
    WEBSOCKET_HANDSHAKE_REFUSED, // see why
};

struct websocket_reply {
    char text[WEBSOCKET_REPLY_MAX]; // to send, where it is not MORE
    size_t length;
    const char *why; // of a refusal; static
};

// The server's side: reads a request that must offer the subprotocol "mqtt" [MQTT-6.0.0-3].
enum websocket_handshake websocket_accept(struct bytes input, size_t *used,
                                          struct websocket_reply *reply)
    __attribute__((warn_unused_result));

// The client's side: key is 16 random bytes in base64; host is a name or an address.
void websocket_encode_key(const uint8_t random[16], char key[WEBSOCKET_KEY_SIZE]);
void websocket_write_request(struct bytes_writer *w, const char *host, uint16_t port,
                             const char *path, const char *key);
// Reads the response to the request with this key. REFUSED: why says so, for people.
enum websocket_handshake websocket_check_response(struct bytes input, const char *key, size_t *used,
                                                  char *why, size_t size)
    __attribute__((warn_unused_result));
