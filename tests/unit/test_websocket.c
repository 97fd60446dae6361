// WebSocket frames and handshakes, however the bytes are cut.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "mqtt/websocket.h"

#define BYTES(text) (const uint8_t *)(text), sizeof(text) - 1

// ---- frames ----

// What a reader sees, as a text: the stream's bytes, and <ping PAYLOAD>, <close CODE>, <error
// CODE>.
struct seen {
    char text[400];
    size_t length;
    bool error;
};

static void note(struct seen *seen, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    seen->length += (size_t)vsnprintf(seen->text + seen->length, sizeof seen->text - seen->length,
                                      format, args);
    va_end(args);
}

// Reads a copy of exactly these bytes, so that a read beyond them shows.
static void read_part(struct websocket_reader *reader, const uint8_t *bytes, size_t length,
                      struct seen *seen)
{
    uint8_t *copy = mem_alloc(length ? length : 1);
    struct websocket_input input = {copy, length};
    struct websocket_error error;
    struct bytes piece;
    memcpy(copy, bytes, length);
    while (!seen->error) {
        enum websocket_event event = websocket_read(reader, &input, &piece, &error);
        if (event == WEBSOCKET_SEEN_NOTHING)
            break;
        if (event == WEBSOCKET_SEEN_DATA)
            note(seen, "%.*s", (int)piece.length, (const char *)piece.data);
        else if (event == WEBSOCKET_SEEN_PING)
            note(seen, "<ping %.*s>", (int)piece.length, (const char *)piece.data);
        else if (event == WEBSOCKET_SEEN_CLOSE)
            note(seen, "<close %d>", piece.length ? piece.data[0] << 8 | piece.data[1] : 0);
        else
            note(seen, "<error %d>", error.code);
        seen->error = event == WEBSOCKET_SEEN_ERROR;
    }
    if (!seen->error)
        assert_int_equal(input.length, 0);
    free(copy);
}

#define KEY "\1\2\3\4"
#define ABC "\x60\x60\x60" // abc under the key

static const struct {
    enum websocket_role role; // of the reader
    const uint8_t *bytes;
    size_t length;
    const char *seen;
} frames[] = {
    {WEBSOCKET_SERVER, BYTES("\x82\x83" KEY ABC), "abc"},
    {WEBSOCKET_SERVER, BYTES("\x82\x80" KEY), ""},
    {WEBSOCKET_SERVER, BYTES("\x82\x83" KEY ABC "\x82\x83" KEY ABC), "abcabc"},
    {WEBSOCKET_SERVER, BYTES("\x82\x86" KEY ABC "\x65\x63\x61"), "abcabc"},
    {WEBSOCKET_CLIENT,
     BYTES("\x82\x03"
           "abc"),
     "abc"},
    {WEBSOCKET_CLIENT, BYTES("\x82\x00\x82\x01x"), "x"},
    // Fragments, with control frames between them.
    {WEBSOCKET_CLIENT,
     BYTES("\x02\x01"
           "a\x00\x01"
           "b\x80\x01"
           "c"),
     "abc"},
    {WEBSOCKET_CLIENT,
     BYTES("\x02\x00\x80\x00\x82\x01"
           "c"),
     "c"},
    {WEBSOCKET_CLIENT,
     BYTES("\x02\x01"
           "a\x89\x02hi\x80\x01"
           "c"),
     "a<ping hi>c"},
    {WEBSOCKET_SERVER, BYTES("\x89\x83" KEY ABC), "<ping abc>"},
    {WEBSOCKET_SERVER, BYTES("\x89\x80" KEY "\x82\x83" KEY ABC), "<ping >abc"},
    {WEBSOCKET_CLIENT, BYTES("\x8A\x02hi\x8A\x00\x82\x01x"), "x"},
    {WEBSOCKET_CLIENT, BYTES("\x88\x02\x03\xE8"), "<close 1000>"},
    {WEBSOCKET_CLIENT, BYTES("\x88\x00"), "<close 0>"},
    {WEBSOCKET_CLIENT,
     BYTES("\x88\x05\x0F\xA0"
           "bye"),
     "<close 4000>"},
    {WEBSOCKET_SERVER, BYTES("\x88\x82" KEY "\x02\xEA"), "<close 1000>"},
    // Masks: a client's frames have one, a server's have none.
    {WEBSOCKET_SERVER,
     BYTES("\x82\x03"
           "abc"),
     "<error 1002>"},
    {WEBSOCKET_CLIENT, BYTES("\x82\x83" KEY ABC), "<error 1002>"},
    // Text is no MQTT.
    {WEBSOCKET_CLIENT,
     BYTES("\x81\x03"
           "abc"),
     "<error 1003>"},
    {WEBSOCKET_CLIENT,
     BYTES("\x82\x01x\x81\x03"
           "abc"),
     "x<error 1003>"},
    // Reserved bits and opcodes.
    {WEBSOCKET_CLIENT, BYTES("\xC2\x01x"), "<error 1002>"},
    {WEBSOCKET_CLIENT, BYTES("\xA2\x01x"), "<error 1002>"},
    {WEBSOCKET_CLIENT, BYTES("\x92\x01x"), "<error 1002>"},
    {WEBSOCKET_CLIENT, BYTES("\x83\x01x"), "<error 1002>"},
    {WEBSOCKET_CLIENT, BYTES("\x87\x01x"), "<error 1002>"},
    {WEBSOCKET_CLIENT, BYTES("\x8B\x01x"), "<error 1002>"},
    {WEBSOCKET_CLIENT, BYTES("\x8F\x01x"), "<error 1002>"},
    // Order of fragments.
    {WEBSOCKET_CLIENT, BYTES("\x80\x01x"), "<error 1002>"},
    {WEBSOCKET_CLIENT,
     BYTES("\x02\x01"
           "a\x82\x01"
           "b"),
     "a<error 1002>"},
    {WEBSOCKET_CLIENT,
     BYTES("\x82\x01"
           "a\x00\x01"
           "b"),
     "a<error 1002>"},
    // Control frames: whole, at most 125 bytes, a code in two bytes or none.
    {WEBSOCKET_CLIENT, BYTES("\x09\x01x"), "<error 1002>"},
    {WEBSOCKET_CLIENT, BYTES("\x89\x7E\x00\x7E"), "<error 1002>"},
    {WEBSOCKET_CLIENT, BYTES("\x88\x01\x03"), "<error 1002>"},
    {WEBSOCKET_CLIENT, BYTES("\x88\x02\x03\xE7"), "<error 1002>"}, // 999
    {WEBSOCKET_CLIENT, BYTES("\x88\x02\x03\xED"), "<error 1002>"}, // 1005
    {WEBSOCKET_CLIENT, BYTES("\x88\x02\x13\x88"), "<error 1002>"}, // 5000
    // Lengths in as few bytes as it takes, and no more than 63 bits.
    {WEBSOCKET_CLIENT, BYTES("\x82\x7E\x00\x7D"), "<error 1002>"},
    {WEBSOCKET_CLIENT, BYTES("\x82\x7F\0\0\0\0\0\0\xFF\xFF"), "<error 1002>"},
    {WEBSOCKET_CLIENT, BYTES("\x82\x7F\x80\0\0\0\0\0\0\0"), "<error 1002>"},
    {WEBSOCKET_CLIENT,
     BYTES("\x82\x7F\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF"
           "abc"),
     "abc"},
};

static void frames_are_read_however_they_are_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof frames / sizeof *frames; i++) {
        for (size_t cut = 0; cut <= frames[i].length; cut++) {
            struct websocket_reader reader = {.role = frames[i].role};
            struct seen seen = {.length = 0};
            read_part(&reader, frames[i].bytes, cut, &seen);
            read_part(&reader, frames[i].bytes + cut, frames[i].length - cut, &seen);
            assert_string_equal(seen.text, frames[i].seen);
        }
        struct websocket_reader reader = {.role = frames[i].role};
        struct seen seen = {.length = 0};
        for (size_t at = 0; at < frames[i].length; at++)
            read_part(&reader, frames[i].bytes + at, 1, &seen);
        assert_string_equal(seen.text, frames[i].seen);
    }
}

// What one side writes the other reads, at every border of the lengths' encoding.
static void what_is_written_is_read(void **state)
{
    (void)state;
    static const size_t lengths[] = {0, 1, 7, 8, 9, 125, 126, 127, 65535, 65536, 200003};
    static const uint8_t key[] = {0x12, 0xF4, 0x00, 0xFF};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        for (int masked = 0; masked <= 1; masked++) {
            size_t length = lengths[i], got = 0;
            uint8_t header[WEBSOCKET_HEADER_MAX];
            size_t start =
                websocket_write_header(header, WEBSOCKET_BINARY, length, masked ? key : NULL);
            uint8_t *bytes = mem_alloc(start + length + 1);
            memcpy(bytes, header, start);
            for (size_t j = 0; j < length; j++)
                bytes[start + j] = (uint8_t)(j % 251);
            if (masked)
                websocket_mask(bytes + start, length, key, 0);
            struct websocket_reader reader = {.role = masked ? WEBSOCKET_SERVER : WEBSOCKET_CLIENT};
            for (size_t at = 0, part; at < start + length; at += part) {
                part = start + length - at < 1021 ? start + length - at : 1021;
                struct websocket_input input = {bytes + at, part};
                struct websocket_error error;
                struct bytes piece;
                while (websocket_read(&reader, &input, &piece, &error) == WEBSOCKET_SEEN_DATA)
                    for (size_t j = 0; j < piece.length; j++)
                        assert_int_equal(piece.data[j], got++ % 251);
                assert_int_equal(input.length, 0);
            }
            assert_int_equal(got, length);
            free(bytes);
        }
    }
}

// ---- the handshake ----

#define LINE(text) text "\r\n"
#define GET LINE("GET /mqtt HTTP/1.1")
#define HOST LINE("Host: broker.example:8083")
#define UPGRADE LINE("Upgrade: websocket") LINE("Connection: Upgrade")
#define REQUEST_KEY LINE("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==") // of RFC 6455
#define VERSION LINE("Sec-WebSocket-Version: 13")
#define PROTOCOL LINE("Sec-WebSocket-Protocol: mqtt")
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" // the answer of RFC 6455

static const struct {
    const char *request;
    const char *status; // "101", or of the refusal
} requests[] = {
    {GET HOST UPGRADE REQUEST_KEY VERSION PROTOCOL "\r\n", "101"},
    {LINE("GET / HTTP/1.1") HOST UPGRADE REQUEST_KEY VERSION PROTOCOL "\r\n", "101"},
    {LINE("GET /?a=b HTTP/1.1") HOST UPGRADE REQUEST_KEY VERSION PROTOCOL "\r\n", "101"},
    {GET LINE("host:h") LINE("UPGRADE: \t WebSocket ") LINE("connection:keep-alive, UPGRADE")
         LINE("sec-websocket-key:dGhlIHNhbXBsZSBub25jZQ==")
             VERSION LINE("sec-websocket-protocol:mqttv3.1 ,mqtt") "\r\n",
     "101"},
    {GET HOST UPGRADE REQUEST_KEY VERSION LINE("Sec-WebSocket-Protocol: soap") PROTOCOL "\r\n",
     "101"},
    {GET HOST UPGRADE REQUEST_KEY VERSION PROTOCOL LINE(
         "Sec-WebSocket-Extensions: permessage-deflate") LINE("Origin: https://a") "\r\n",
     "101"},
    // What is missing or wrong.
    {GET HOST UPGRADE REQUEST_KEY VERSION "\r\n", "400"},
    {GET HOST UPGRADE REQUEST_KEY VERSION LINE("Sec-WebSocket-Protocol: mqttv3.1") "\r\n", "400"},
    {GET HOST UPGRADE REQUEST_KEY VERSION LINE("Sec-WebSocket-Protocol: mqtt5") "\r\n", "400"},
    {GET HOST UPGRADE REQUEST_KEY PROTOCOL "\r\n", "426"},
    {GET HOST UPGRADE REQUEST_KEY PROTOCOL LINE("Sec-WebSocket-Version: 8") "\r\n", "426"},
    {GET HOST UPGRADE VERSION PROTOCOL "\r\n", "400"},
    {GET HOST UPGRADE REQUEST_KEY REQUEST_KEY VERSION PROTOCOL "\r\n", "400"},
    {GET HOST UPGRADE LINE("Sec-WebSocket-Key: short") VERSION PROTOCOL "\r\n", "400"},
    {GET HOST UPGRADE LINE("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=?") VERSION PROTOCOL "\r\n",
     "400"},
    {GET HOST UPGRADE LINE("Sec-WebSocket-Key: dGhl HNhbXBsZSBub25jZQ==") VERSION PROTOCOL "\r\n",
     "400"},
    {GET HOST LINE("Upgrade: websocket") REQUEST_KEY VERSION PROTOCOL "\r\n", "400"},
    {GET HOST LINE("Connection: Upgrade") REQUEST_KEY VERSION PROTOCOL "\r\n", "400"},
    {GET UPGRADE REQUEST_KEY VERSION PROTOCOL "\r\n", "400"},
    {GET HOST HOST UPGRADE REQUEST_KEY VERSION PROTOCOL "\r\n", "400"},
    {GET HOST "\r\n", "400"},
    {LINE("GET /mqtt HTTP/1.0") HOST UPGRADE REQUEST_KEY VERSION PROTOCOL "\r\n", "400"},
    {LINE("GET /mqtt") HOST UPGRADE REQUEST_KEY VERSION PROTOCOL "\r\n", "400"},
    {LINE("GET  HTTP/1.1") HOST UPGRADE REQUEST_KEY VERSION PROTOCOL "\r\n", "400"},
    {LINE("GET /a b HTTP/1.1") HOST UPGRADE REQUEST_KEY VERSION PROTOCOL "\r\n", "400"},
    {LINE("POST /mqtt HTTP/1.1") HOST UPGRADE REQUEST_KEY VERSION PROTOCOL "\r\n", "400"},
    {"\x10\x0C\0\4MQTT\5\2\0\x3C", "400"}, // a CONNECT, to the wrong port
    // Lines that are none.
    {GET HOST UPGRADE REQUEST_KEY VERSION PROTOCOL " folded\r\n\r\n", "400"},
    {GET HOST UPGRADE REQUEST_KEY VERSION PROTOCOL "no colon\r\n\r\n", "400"},
    {GET HOST UPGRADE REQUEST_KEY VERSION PROTOCOL "na me: x\r\n\r\n", "400"},
    {GET HOST UPGRADE REQUEST_KEY VERSION PROTOCOL ": x\r\n\r\n", "400"},
    {GET HOST UPGRADE REQUEST_KEY VERSION PROTOCOL "x: a\rb\r\n\r\n", "400"},
    {GET HOST UPGRADE REQUEST_KEY VERSION "Sec-WebSocket-Protocol: mqtt\n\r\n\r\n", "400"},
};

// Reads a copy of exactly these bytes.
static enum websocket_handshake accept_copy(const char *text, size_t length, size_t *used,
                                            struct websocket_reply *reply)
{
    uint8_t *copy = mem_alloc(length ? length : 1);
    memcpy(copy, text, length);
    enum websocket_handshake result = websocket_accept((struct bytes){copy, length}, used, reply);
    free(copy);
    return result;
}

static void requests_are_accepted_or_told_why_not(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        struct websocket_reply reply;
        const char *request = requests[i].request;
        char status[20];
        size_t used = 0;
        bool good = strcmp(requests[i].status, "101") == 0;
        enum websocket_handshake result = accept_copy(request, strlen(request), &used, &reply);
        assert_int_equal(result, good ? WEBSOCKET_HANDSHAKE_DONE : WEBSOCKET_HANDSHAKE_REFUSED);
        snprintf(status, sizeof status, "HTTP/1.1 %s ", requests[i].status);
        assert_memory_equal(reply.text, status, strlen(status));
        assert_int_equal(reply.length, strlen(reply.text));
        assert_int_equal(reply.why != NULL, !good);
        if (!good)
            continue;
        assert_int_equal(used, strlen(request));
        assert_non_null(strstr(reply.text, "\r\nSec-WebSocket-Accept: " ACCEPT "\r\n"));
        assert_non_null(strstr(reply.text, "\r\nSec-WebSocket-Protocol: mqtt\r\n"));
        assert_null(strstr(reply.text, "Extensions"));
        assert_string_equal(reply.text + reply.length - 4, "\r\n\r\n");
    }
}

static void a_request_may_come_in_parts_and_with_frames_behind_it(void **state)
{
    (void)state;
    static const char request[] = GET HOST UPGRADE REQUEST_KEY VERSION PROTOCOL "\r\n\x82\x80";
    size_t length = sizeof request - 1 - 2, used = 0;
    struct websocket_reply reply;
    for (size_t cut = 0; cut < length; cut++)
        assert_int_equal(accept_copy(request, cut, &used, &reply), WEBSOCKET_HANDSHAKE_MORE);
    assert_int_equal(accept_copy(request, length + 2, &used, &reply), WEBSOCKET_HANDSHAKE_DONE);
    assert_int_equal(used, length);
}

// Whatever a single byte becomes, the answer is one of ours.
static void no_byte_of_a_request_breaks_anything(void **state)
{
    (void)state;
    static const char good[] = GET HOST UPGRADE REQUEST_KEY VERSION PROTOCOL "\r\n";
    char request[sizeof good];
    unsigned refused = 0;
    for (size_t at = 0; at < sizeof good - 1; at++) {
        for (int byte = 0; byte < 256; byte++) {
            struct websocket_reply reply = {.length = 0};
            size_t used = 0;
            memcpy(request, good, sizeof good);
            request[at] = (char)byte;
            switch (accept_copy(request, sizeof good - 1, &used, &reply)) {
            case WEBSOCKET_HANDSHAKE_DONE:
                assert_true(used <= sizeof good - 1);
                break;
            case WEBSOCKET_HANDSHAKE_REFUSED:
                refused++;
                assert_int_equal(reply.length, strlen(reply.text));
                break;
            case WEBSOCKET_HANDSHAKE_MORE:
                break;
            }
        }
    }
    assert_true(refused > 256 * 100);
}

static void a_request_is_bounded(void **state)
{
    (void)state;
    static const char start[] = GET HOST "x: ";
    char *request = mem_alloc(3 * WEBSOCKET_HANDSHAKE_MAX);
    struct websocket_reply reply;
    size_t used;
    memset(request, 'a', 3 * WEBSOCKET_HANDSHAKE_MAX);
    memcpy(request, start, sizeof start - 1);
    assert_int_equal(accept_copy(request, WEBSOCKET_HANDSHAKE_MAX - 1, &used, &reply),
                     WEBSOCKET_HANDSHAKE_MORE);
    for (size_t length = WEBSOCKET_HANDSHAKE_MAX; length <= 3 * WEBSOCKET_HANDSHAKE_MAX;
         length += WEBSOCKET_HANDSHAKE_MAX)
        assert_int_equal(accept_copy(request, length, &used, &reply), WEBSOCKET_HANDSHAKE_REFUSED);
    assert_non_null(strstr(reply.text, "8 KiB"));
    free(request);
}

// A client's own request is one that a server accepts.
static void our_request_is_accepted(void **state)
{
    (void)state;
    static const char *const hosts[] = {"broker.example", "192.0.2.1", "2001:db8::1", "fe80::1%lo"};
    static const char *const seen[] = {"Host: broker.example:8083\r\n", "Host: 192.0.2.1:8083\r\n",
                                       "Host: [2001:db8::1]:8083\r\n", "Host: [fe80::1]:8083\r\n"};
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        char text[600] = "", key[WEBSOCKET_KEY_SIZE], why[100];
        struct bytes_writer w = bytes_writer(text, sizeof text - 1);
        struct websocket_reply reply;
        size_t used;
        websocket_encode_key((const uint8_t *)"the sample nonce", key);
        assert_string_equal(key, "dGhlIHNhbXBsZSBub25jZQ==");
        websocket_write_request(&w, hosts[i], 8083, "/a/b?c=d", key);
        assert_false(w.bad);
        assert_memory_equal(text, "GET /a/b?c=d HTTP/1.1\r\n", 23);
        assert_non_null(strstr(text, seen[i]));
        assert_int_equal(accept_copy(text, w.length, &used, &reply), WEBSOCKET_HANDSHAKE_DONE);
        assert_int_equal(used, w.length);
        assert_int_equal(websocket_check_response(bytes_of(reply.text), key, &used, why, 100),
                         WEBSOCKET_HANDSHAKE_DONE);
        assert_int_equal(used, reply.length);
    }
}

#define SWITCH LINE("HTTP/1.1 101 Switching Protocols")
#define ACCEPTED LINE("Sec-WebSocket-Accept: " ACCEPT)

static const struct {
    const char *response;
    const char *why; // NULL: accepted; part of the text
} responses[] = {
    {SWITCH UPGRADE ACCEPTED PROTOCOL "\r\n", NULL},
    {LINE("HTTP/1.1 101") LINE("upgrade:WEBSOCKET") LINE("connection:upgrade") ACCEPTED PROTOCOL
     "\r\n",
     NULL},
    {LINE("HTTP/1.1 404 Not Found") LINE("Content-Length: 0") "\r\n", "'HTTP/1.1 404 Not Found'"},
    {LINE("HTTP/1.1 200 OK") UPGRADE ACCEPTED PROTOCOL "\r\n", "'HTTP/1.1 200 OK'"},
    {LINE("HTTP/1.0 101 x") UPGRADE ACCEPTED PROTOCOL "\r\n", "'HTTP/1.0 101 x'"},
    {SWITCH ACCEPTED PROTOCOL "\r\n", "does not upgrade"},
    {SWITCH UPGRADE PROTOCOL "\r\n", "Sec-WebSocket-Accept"},
    {SWITCH UPGRADE LINE("Sec-WebSocket-Accept: AAAA") PROTOCOL "\r\n", "Sec-WebSocket-Accept"},
    {SWITCH UPGRADE ACCEPTED ACCEPTED PROTOCOL "\r\n", "Sec-WebSocket-Accept"},
    {SWITCH UPGRADE ACCEPTED "\r\n", "subprotocol mqtt"},
    {SWITCH UPGRADE ACCEPTED PROTOCOL LINE("Sec-WebSocket-Extensions: x") "\r\n", "extension"},
    {SWITCH UPGRADE ACCEPTED PROTOCOL "bad line\r\n\r\n", "malformed"},
    {"\x20\2\0\0", "no WebSocket server"}, // a CONNACK
};

static void responses_are_checked(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof responses / sizeof *responses; i++) {
        struct bytes response = bytes_of(responses[i].response);
        char why[200] = "";
        size_t used = 0;
        enum websocket_handshake result =
            websocket_check_response(response, "dGhlIHNhbXBsZSBub25jZQ==", &used, why, sizeof why);
        if (responses[i].why) {
            assert_int_equal(result, WEBSOCKET_HANDSHAKE_REFUSED);
            assert_non_null(strstr(why, responses[i].why));
            continue;
        }
        assert_int_equal(result, WEBSOCKET_HANDSHAKE_DONE);
        assert_int_equal(used, response.length);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_are_read_however_they_are_cut),
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(requests_are_accepted_or_told_why_not),
        cmocka_unit_test(a_request_may_come_in_parts_and_with_frames_behind_it),
        cmocka_unit_test(no_byte_of_a_request_breaks_anything),
        cmocka_unit_test(a_request_is_bounded),
        cmocka_unit_test(our_request_is_accepted),
        cmocka_unit_test(responses_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
