// WebSocket frames, RFC 6455 section 5.
#include "mqtt/websocket.h"

#include <string.h>

#define FIN 0x80
#define RESERVED 0x70
#define OPCODE 0x0F
#define MASKED 0x80
#define LENGTH 0x7F
#define LENGTH_16 126
#define LENGTH_64 127

// Length of the whole header, as far as its first bytes tell.
static size_t header_size(const struct websocket_reader *reader)
{
    if (reader->header_length < 2)
        return 2;
    uint8_t length = reader->header[1] & LENGTH;
    size_t extended = length == LENGTH_64 ? 8 : length == LENGTH_16 ? 2 : 0;
    return 2 + extended + (reader->header[1] & MASKED ? 4 : 0);
}

static enum websocket_opcode opcode_of(const struct websocket_reader *reader)
{
    return reader->header[0] & OPCODE;
}

static bool is_control(const struct websocket_reader *reader)
{
    return opcode_of(reader) >= WEBSOCKET_CLOSE;
}

static const uint8_t *mask_of(const struct websocket_reader *reader)
{
    return reader->header[1] & MASKED ? reader->header + reader->header_length - 4 : NULL;
}

static const char *check_order(const struct websocket_reader *reader)
{
    switch (opcode_of(reader)) {
    case WEBSOCKET_CONTINUATION:
        return reader->fragmented ? NULL : "a continuation of nothing";
    case WEBSOCKET_BINARY:
    case WEBSOCKET_TEXT:
        return reader->fragmented ? "a message within a message" : NULL;
    case WEBSOCKET_CLOSE:
    case WEBSOCKET_PING:
    case WEBSOCKET_PONG:
        if (!(reader->header[0] & FIN))
            return "a fragmented control frame";
        return (reader->header[1] & LENGTH) > WEBSOCKET_CONTROL_MAX ? "a control frame is too long"
                                                                    : NULL;
    default:
        return "an unknown opcode";
    }
}

// What the first two bytes of a frame show to be wrong, or NULL.
static const char *check_start(const struct websocket_reader *reader)
{
    if (reader->header[0] & RESERVED)
        return "reserved bits are set"; // no extension was agreed on
    bool masked = reader->header[1] & MASKED;
    if (masked != (reader->role == WEBSOCKET_SERVER)) // section 5.1
        return masked ? "a masked frame from the server" : "a frame without mask from the client";
    return check_order(reader);
}

// The payload's length, in as few bytes as it takes; false otherwise.
static bool take_length(struct websocket_reader *reader)
{
    uint8_t length = reader->header[1] & LENGTH;
    struct bytes_reader r = bytes_reader((struct bytes){reader->header + 2, 8});
    if (length == LENGTH_64) {
        uint64_t high = bytes_read_u32(&r);
        reader->left = high << 32 | bytes_read_u32(&r);
        return reader->left > UINT16_MAX && reader->left <= INT64_MAX;
    }
    reader->left = length;
    if (length < LENGTH_16)
        return true;
    reader->left = bytes_read_u16(&r);
    return reader->left >= LENGTH_16;
}

static enum websocket_event wrong(struct websocket_error *error, enum websocket_code code,
                                  const char *text)
{
    *error = (struct websocket_error){code, text};
    return WEBSOCKET_SEEN_ERROR;
}

// Gathers the header. NOTHING: go on, or wait for more, as in_payload says.
static enum websocket_event read_header(struct websocket_reader *reader,
                                        struct websocket_input *input,
                                        struct websocket_error *error)
{
    while (input->length > 0 && reader->header_length < header_size(reader)) {
        reader->header[reader->header_length++] = *input->data++;
        input->length--;
        const char *flaw = reader->header_length == 2 ? check_start(reader) : NULL;
        if (flaw)
            return wrong(error, WEBSOCKET_PROTOCOL_ERROR, flaw);
    }
    if (reader->header_length < header_size(reader))
        return WEBSOCKET_SEEN_NOTHING;
    if (opcode_of(reader) == WEBSOCKET_TEXT) // [MQTT-6.0.0-1]
        return wrong(error, WEBSOCKET_UNSUPPORTED_DATA, "a text frame: MQTT takes binary ones");
    if (!take_length(reader))
        return wrong(error, WEBSOCKET_PROTOCOL_ERROR, "a frame's length is encoded wrongly");
    if (!is_control(reader))
        reader->fragmented = !(reader->header[0] & FIN);
    reader->in_payload = true;
    reader->mask_at = 0;
    reader->control_length = 0;
    return WEBSOCKET_SEEN_NOTHING;
}

static void frame_end(struct websocket_reader *reader)
{
    reader->in_payload = false;
    reader->header_length = 0;
}

static struct bytes take_payload(struct websocket_reader *reader, struct websocket_input *input)
{
    size_t length = input->length < reader->left ? input->length : (size_t)reader->left;
    struct bytes piece = {input->data, length};
    const uint8_t *mask = mask_of(reader);
    if (mask)
        websocket_mask(input->data, length, mask, reader->mask_at);
    reader->mask_at = (uint8_t)((reader->mask_at + length) & 3);
    reader->left -= length;
    input->data += length;
    input->length -= length;
    return piece;
}

// Codes that a close frame may have, section 7.4.
static bool code_valid(unsigned code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
           (code >= 3000 && code <= 4999);
}

static enum websocket_event read_close(const struct websocket_reader *reader, struct bytes *piece,
                                       struct websocket_error *error)
{
    const uint8_t *control = reader->control;
    if (reader->control_length == 1 ||
        (reader->control_length > 1 && !code_valid((unsigned)control[0] << 8 | control[1])))
        return wrong(error, WEBSOCKET_PROTOCOL_ERROR, "a close frame with a wrong code");
    *piece = (struct bytes){control, reader->control_length > 1 ? 2 : 0};
    return WEBSOCKET_SEEN_CLOSE;
}

// Control frames are short: they are gathered.
static enum websocket_event read_control(struct websocket_reader *reader,
                                         struct websocket_input *input, struct bytes *piece,
                                         struct websocket_error *error)
{
    struct bytes part = take_payload(reader, input);
    if (part.length > 0)
        memcpy(reader->control + reader->control_length, part.data, part.length);
    reader->control_length = (uint8_t)(reader->control_length + part.length);
    if (reader->left > 0)
        return WEBSOCKET_SEEN_NOTHING;
    enum websocket_opcode opcode = opcode_of(reader);
    frame_end(reader);
    if (opcode == WEBSOCKET_CLOSE)
        return read_close(reader, piece, error);
    if (opcode == WEBSOCKET_PONG)
        return WEBSOCKET_SEEN_NOTHING;
    *piece = (struct bytes){reader->control, reader->control_length};
    return WEBSOCKET_SEEN_PING;
}

enum websocket_event websocket_read(struct websocket_reader *reader, struct websocket_input *input,
                                    struct bytes *piece, struct websocket_error *error)
{
    for (;;) {
        enum websocket_event event = WEBSOCKET_SEEN_NOTHING;
        if (!reader->in_payload)
            event = read_header(reader, input, error);
        if (event != WEBSOCKET_SEEN_NOTHING || !reader->in_payload)
            return event;
        if (is_control(reader)) {
            event = read_control(reader, input, piece, error);
            if (event != WEBSOCKET_SEEN_NOTHING || input->length == 0)
                return event;
            continue;
        }
        *piece = take_payload(reader, input);
        if (reader->left == 0)
            frame_end(reader);
        if (piece->length > 0)
            return WEBSOCKET_SEEN_DATA;
        if (input->length == 0)
            return WEBSOCKET_SEEN_NOTHING;
    }
}

size_t websocket_write_header(uint8_t header[WEBSOCKET_HEADER_MAX], enum websocket_opcode opcode,
                              size_t length, const uint8_t *mask)
{
    struct bytes_writer w = bytes_writer(header, WEBSOCKET_HEADER_MAX);
    uint8_t masked = mask ? MASKED : 0;
    bytes_write_u8(&w, (uint8_t)(FIN | opcode));
    if (length < LENGTH_16) {
        bytes_write_u8(&w, (uint8_t)(masked | length));
    } else if (length <= UINT16_MAX) {
        bytes_write_u8(&w, masked | LENGTH_16);
        bytes_write_u16(&w, (uint16_t)length);
    } else {
        bytes_write_u8(&w, masked | LENGTH_64);
        bytes_write_u32(&w, (uint32_t)(length >> 32));
        bytes_write_u32(&w, (uint32_t)length);
    }
    if (mask)
        bytes_write(&w, (struct bytes){mask, 4});
    return w.length;
}

void websocket_mask(uint8_t *bytes, size_t length, const uint8_t mask[4], size_t offset)
{
    uint8_t turned[8];
    for (size_t i = 0; i < sizeof turned; i++)
        turned[i] = mask[(offset + i) & 3];
    uint64_t wide, word;
    memcpy(&wide, turned, sizeof wide);
    size_t i = 0;
    for (; i + sizeof word <= length; i += sizeof word) {
        memcpy(&word, bytes + i, sizeof word);
        word ^= wide;
        memcpy(bytes + i, &word, sizeof word);
    }
    for (; i < length; i++)
        bytes[i] ^= turned[i & 7];
}
