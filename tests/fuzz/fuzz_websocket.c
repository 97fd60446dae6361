// Any bytes as WebSocket frames, requests and responses: what is seen does not depend on how they
// are cut, and what is written reads the same again. The first byte chooses what they are, the
// second where they are cut.
#include <stdlib.h>
#include <string.h>

#include "mqtt/websocket.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

// What has been seen: the stream's bytes and the other events, each as a byte above its payload.
struct seen {
    uint8_t *bytes;
    size_t length;
    bool error;
};

static void note(struct seen *seen, struct bytes piece)
{
    if (piece.length > 0)
        memcpy(seen->bytes + seen->length, piece.data, piece.length);
    seen->length += piece.length;
}

// Reads a copy of exactly these bytes.
static void read_part(struct websocket_reader *reader, const uint8_t *bytes, size_t length,
                      struct seen *seen)
{
    uint8_t *copy = malloc(length ? length : 1);
    check(copy);
    if (length > 0)
        memcpy(copy, bytes, length);
    struct websocket_input input = {copy, length};
    while (!seen->error) {
        struct bytes piece = {NULL, 0};
        struct websocket_error error = {0, NULL};
        size_t before = input.length;
        enum websocket_event event = websocket_read(reader, &input, &piece, &error);
        check(input.length <= before && input.data + input.length == copy + length);
        check(event != WEBSOCKET_SEEN_NOTHING || input.length == 0);
        if (event == WEBSOCKET_SEEN_NOTHING)
            break;
        check(input.length < before);
        check(event != WEBSOCKET_SEEN_PING || piece.length <= WEBSOCKET_CONTROL_MAX);
        check(event != WEBSOCKET_SEEN_CLOSE || piece.length == 0 || piece.length == 2);
        seen->error = event == WEBSOCKET_SEEN_ERROR;
        check(!seen->error || (error.text && error.code >= WEBSOCKET_PROTOCOL_ERROR));
        if (event != WEBSOCKET_SEEN_DATA)
            note(seen, (struct bytes){(const uint8_t[]){(uint8_t)event}, 1});
        note(seen, piece);
    }
    free(copy);
}

static void read_frames(enum websocket_role role, struct bytes input, size_t cut)
{
    struct seen whole = {malloc(2 * input.length + 1), 0, false};
    struct seen parts = {malloc(2 * input.length + 1), 0, false};
    struct websocket_reader one = {.role = role}, other = {.role = role};
    check(whole.bytes && parts.bytes);
    read_part(&one, input.data, input.length, &whole);
    read_part(&other, input.data, cut, &parts);
    read_part(&other, input.data + cut, input.length - cut, &parts);
    check(whole.length == parts.length && whole.error == parts.error &&
          memcmp(whole.bytes, parts.bytes, whole.length) == 0);
    free(whole.bytes);
    free(parts.bytes);
}

static void write_frame(enum websocket_role role, struct bytes payload)
{
    static const uint8_t mask[] = {0x80, 0x01, 0xFF, 0x5A};
    bool masked = role == WEBSOCKET_SERVER; // the reader's role
    uint8_t *frame = malloc(WEBSOCKET_HEADER_MAX + payload.length);
    check(frame);
    size_t start =
        websocket_write_header(frame, WEBSOCKET_BINARY, payload.length, masked ? mask : NULL);
    if (payload.length > 0)
        memcpy(frame + start, payload.data, payload.length);
    if (masked)
        websocket_mask(frame + start, payload.length, mask, 0);
    struct websocket_reader reader = {.role = role};
    struct websocket_input input = {frame, start + payload.length};
    struct websocket_error error;
    struct bytes piece;
    enum websocket_event event = websocket_read(&reader, &input, &piece, &error);
    if (payload.length > 0)
        check(event == WEBSOCKET_SEEN_DATA && bytes_equal(piece, payload) && input.length == 0);
    else
        check(event == WEBSOCKET_SEEN_NOTHING);
    free(frame);
}

static void read_request(struct bytes input, size_t cut)
{
    struct websocket_reply reply, early;
    size_t used = 0, early_used = 0;
    enum websocket_handshake whole = websocket_accept(input, &used, &reply);
    enum websocket_handshake part =
        websocket_accept((struct bytes){input.data, cut}, &early_used, &early);
    check(whole != WEBSOCKET_HANDSHAKE_DONE || (used > 0 && used <= input.length && !reply.why));
    check(whole == WEBSOCKET_HANDSHAKE_MORE || reply.length == strlen(reply.text));
    check(part == WEBSOCKET_HANDSHAKE_MORE || part == whole); // an early answer is the answer
}

static void read_response(struct bytes input, size_t cut)
{
    char why[100], early_why[100];
    static const char key[] = "dGhlIHNhbXBsZSBub25jZQ==";
    size_t used = 0, early_used = 0;
    enum websocket_handshake whole = websocket_check_response(input, key, &used, why, sizeof why);
    enum websocket_handshake part =
        websocket_check_response((struct bytes){input.data, cut}, key, &early_used, early_why,
                                 sizeof early_why);
    check(whole != WEBSOCKET_HANDSHAKE_DONE || (used > 0 && used <= input.length));
    check(whole != WEBSOCKET_HANDSHAKE_REFUSED || strlen(why) > 0);
    check(part == WEBSOCKET_HANDSHAKE_MORE || part == whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct bytes input = {data + 2, size - 2};
    size_t cut = input.length * data[1] / 255;
    enum websocket_role role = data[0] & 1 ? WEBSOCKET_SERVER : WEBSOCKET_CLIENT;
    switch (data[0] & 6) {
    case 0:
        read_request(input, cut);
        break;
    case 2:
        read_response(input, cut);
        break;
    default:
        read_frames(role, input, cut);
        write_frame(role, input);
    }
    return 0;
}
