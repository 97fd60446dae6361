// The opening handshake of WebSocket: two texts of HTTP/1.1, RFC 6455 section 4. Strict: every line
// ends with CR LF, names are tokens, values have no control characters.
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "mqtt/websocket.h"

#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#define SUBPROTOCOL "mqtt" // [MQTT-6.0.0-3]
#define END "\r\n\r\n"
#define ACCEPT_SIZE 29 // base64 of 20 bytes, and a NUL

// What request and response have in common.
struct head {
    struct bytes start;                // the first line
    struct bytes key, accept, version; // of the last such field
    unsigned keys, accepts, hosts;
    bool upgrade, connection, subprotocol, extensions;
    const char *flaw;
};

static bool is_text(struct bytes text, const char *word)
{
    return text.length == strlen(word) &&
           strncasecmp((const char *)text.data, word, text.length) == 0;
}

static struct bytes trimmed(struct bytes text)
{
    while (text.length > 0 && strchr(" \t", text.data[0]))
        text = (struct bytes){text.data + 1, text.length - 1};
    while (text.length > 0 && strchr(" \t", text.data[text.length - 1]))
        text.length--;
    return text;
}

// Cuts off what stands before the first such byte, and that byte; all where there is none.
static struct bytes cut(struct bytes *rest, uint8_t at)
{
    const uint8_t *end = rest->length > 0 ? memchr(rest->data, at, rest->length) : NULL;
    struct bytes part = {rest->data, end ? (size_t)(end - rest->data) : rest->length};
    size_t used = part.length + (end != NULL);
    *rest = (struct bytes){rest->data + used, rest->length - used};
    return part;
}

// Whether a list "a, b" has that element.
static bool list_has(struct bytes list, const char *word)
{
    while (list.length > 0)
        if (is_text(trimmed(cut(&list, ',')), word))
            return true;
    return false;
}

static bool value_valid(struct bytes value)
{
    for (size_t i = 0; i < value.length; i++)
        if ((value.data[i] < ' ' && value.data[i] != '\t') || value.data[i] == 0x7F)
            return false;
    return true;
}

static bool name_valid(struct bytes name)
{
    static const char marks[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < name.length; i++) {
        uint8_t c = name.data[i];
        bool letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'z', digit = c >= '0' && c <= '9';
        if (!letter && !digit && !(c && strchr(marks, c)))
            return false;
    }
    return name.length > 0;
}

static void take_field(struct head *head, struct bytes name, struct bytes value)
{
    if (is_text(name, "Upgrade")) {
        head->upgrade |= list_has(value, "websocket");
    } else if (is_text(name, "Connection")) {
        head->connection |= list_has(value, "Upgrade");
    } else if (is_text(name, "Host")) {
        head->hosts++;
    } else if (is_text(name, "Sec-WebSocket-Key")) {
        head->key = value;
        head->keys++;
    } else if (is_text(name, "Sec-WebSocket-Accept")) {
        head->accept = value;
        head->accepts++;
    } else if (is_text(name, "Sec-WebSocket-Version")) {
        head->version = value;
    } else if (is_text(name, "Sec-WebSocket-Protocol")) {
        head->subprotocol |= list_has(value, SUBPROTOCOL);
    } else if (is_text(name, "Sec-WebSocket-Extensions")) {
        head->extensions = true;
    }
}

// lines: all of them, without the empty one at the end.
static void take_lines(struct head *head, struct bytes lines)
{
    for (bool first = true; lines.length > 0 && !head->flaw; first = false) {
        struct bytes line = cut(&lines, '\n');
        if (line.length == 0 || line.data[line.length - 1] != '\r') {
            head->flaw = "a line does not end with CR LF";
            return;
        }
        line.length--;
        if (first) {
            head->start = line;
            if (!value_valid(line))
                head->flaw = "the first line has control characters";
            continue;
        }
        struct bytes value = line;
        struct bytes name = cut(&value, ':');
        if (name.length == line.length || !name_valid(name) || !value_valid(value))
            head->flaw = "a header field is malformed";
        else
            take_field(head, name, trimmed(value));
    }
}

// MORE, or DONE with *used, where there is a whole head; its flaws are in the head.
static enum websocket_handshake take_head(struct bytes input, size_t *used, struct head *head)
{
    size_t length = input.length < WEBSOCKET_HANDSHAKE_MAX ? input.length : WEBSOCKET_HANDSHAKE_MAX;
    const uint8_t *end = length > 0 ? memmem(input.data, length, END, strlen(END)) : NULL;
    *head = (struct head){0};
    if (!end && length < WEBSOCKET_HANDSHAKE_MAX)
        return WEBSOCKET_HANDSHAKE_MORE;
    if (!end) {
        head->flaw = "more than 8 KiB of header";
        return WEBSOCKET_HANDSHAKE_DONE;
    }
    size_t lines = (size_t)(end - input.data) + 2;
    *used = lines + 2;
    take_lines(head, (struct bytes){input.data, lines});
    return WEBSOCKET_HANDSHAKE_DONE;
}

// Of what the client must prove that it has been read: base64 of the SHA-1 of key and GUID.
static void accept_of(const char *key, size_t length, char accept[ACCEPT_SIZE])
{
    char text[WEBSOCKET_KEY_SIZE + sizeof GUID];
    unsigned char digest[EVP_MAX_MD_SIZE];
    int size = snprintf(text, sizeof text, "%.*s" GUID, (int)length, key);
    EVP_Digest(text, (size_t)size, digest, NULL, EVP_sha1(), NULL);
    EVP_EncodeBlock((unsigned char *)accept, digest, 20);
}

// 16 bytes in base64.
static bool key_valid(struct bytes key)
{
    unsigned char decoded[WEBSOCKET_KEY_SIZE];
    return key.length == WEBSOCKET_KEY_SIZE - 1 && key.data[21] != '=' &&
           memcmp(key.data + 22, "==", 2) == 0 &&
           EVP_DecodeBlock(decoded, key.data, (int)key.length) == 18;
}

// "GET TARGET HTTP/1.1", whatever the target: the listener has one service only.
static bool is_get(struct bytes line)
{
    struct bytes method = cut(&line, ' '), target = cut(&line, ' ');
    return method.length == 3 && memcmp(method.data, "GET", 3) == 0 && target.length > 0 &&
           line.length == 8 && memcmp(line.data, "HTTP/1.1", 8) == 0;
}

static const char *request_flaw(const struct head *head)
{
    if (head->flaw)
        return head->flaw;
    if (!is_get(head->start))
        return "no GET request of HTTP/1.1";
    if (head->hosts != 1)
        return "no Host, or several";
    if (!head->upgrade || !head->connection)
        return "no upgrade to WebSocket is asked for";
    if (head->keys != 1 || !key_valid(head->key))
        return "no valid Sec-WebSocket-Key";
    return head->subprotocol ? NULL : "the subprotocol mqtt is not offered";
}

static enum websocket_handshake refuse(struct websocket_reply *reply, const char *status,
                                       const char *why)
{
    reply->why = why;
    int length = snprintf(reply->text, sizeof reply->text,
                          "HTTP/1.1 %s\r\nConnection: close\r\nContent-Type: text/plain\r\n"
                          "Content-Length: %zu\r\n\r\nMQTT over WebSocket: %s\n",
                          status, strlen("MQTT over WebSocket: \n") + strlen(why), why);
    reply->length = (size_t)length;
    return WEBSOCKET_HANDSHAKE_REFUSED;
}

enum websocket_handshake websocket_accept(struct bytes input, size_t *used,
                                          struct websocket_reply *reply)
{
    static const char get[] = "GET ";
    struct head head;
    char accept[ACCEPT_SIZE];
    size_t start = input.length < strlen(get) ? input.length : strlen(get);
    if (start > 0 && memcmp(input.data, get, start) != 0) // as soon as it shows: it may never end
        return refuse(reply, "400 Bad Request", "no GET request of HTTP/1.1");
    if (take_head(input, used, &head) == WEBSOCKET_HANDSHAKE_MORE)
        return WEBSOCKET_HANDSHAKE_MORE;
    if (!head.flaw && head.upgrade && !is_text(head.version, "13")) // section 4.4
        return refuse(reply, "426 Upgrade Required\r\nSec-WebSocket-Version: 13",
                      "the version of WebSocket is not 13");
    const char *flaw = request_flaw(&head);
    if (flaw)
        return refuse(reply, "400 Bad Request", flaw);
    accept_of((const char *)head.key.data, head.key.length, accept);
    int length = snprintf(reply->text, sizeof reply->text,
                          "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                          "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n"
                          "Sec-WebSocket-Protocol: " SUBPROTOCOL END,
                          accept);
    reply->length = (size_t)length;
    reply->why = NULL;
    return WEBSOCKET_HANDSHAKE_DONE;
}

void websocket_encode_key(const uint8_t random[16], char key[WEBSOCKET_KEY_SIZE])
{
    EVP_EncodeBlock((unsigned char *)key, random, 16);
}

static void write_text(struct bytes_writer *w, const char *text)
{
    bytes_write(w, bytes_of(text));
}

void websocket_write_request(struct bytes_writer *w, const char *host, uint16_t port,
                             const char *path, const char *key)
{
    char at[8];
    bool bracketed = strchr(host, ':') != NULL;
    snprintf(at, sizeof at, ":%u", port);
    write_text(w, "GET ");
    write_text(w, path);
    write_text(w, bracketed ? " HTTP/1.1\r\nHost: [" : " HTTP/1.1\r\nHost: ");
    bytes_write(w, (struct bytes){(const uint8_t *)host, strcspn(host, "%")}); // without a zone
    write_text(w, bracketed ? "]" : "");
    write_text(w, at);
    write_text(w, "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: ");
    write_text(w, key);
    write_text(w, "\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: " SUBPROTOCOL END);
}

// "HTTP/1.1 101 ...".
static bool is_switching(struct bytes line)
{
    struct bytes version = cut(&line, ' '), status = cut(&line, ' ');
    return is_text(version, "HTTP/1.1") && is_text(status, "101");
}

static const char *response_flaw(const struct head *head, const char *key)
{
    char accept[ACCEPT_SIZE];
    accept_of(key, strlen(key), accept);
    if (!head->upgrade || !head->connection)
        return "it does not upgrade the connection";
    if (head->accepts != 1 || head->accept.length != strlen(accept) ||
        memcmp(head->accept.data, accept, strlen(accept)) != 0)
        return "its Sec-WebSocket-Accept is wrong";
    if (head->extensions)
        return "it uses an extension";
    return head->subprotocol ? NULL : "it does not speak the subprotocol mqtt";
}

enum websocket_handshake websocket_check_response(struct bytes input, const char *key, size_t *used,
                                                  char *why, size_t size)
{
    static const char http[] = "HTTP/";
    struct head head;
    size_t start = input.length < strlen(http) ? input.length : strlen(http);
    if (start > 0 && memcmp(input.data, http, start) != 0) {
        snprintf(why, size, "the answer is no HTTP: it is no WebSocket server");
        return WEBSOCKET_HANDSHAKE_REFUSED;
    }
    if (take_head(input, used, &head) == WEBSOCKET_HANDSHAKE_MORE)
        return WEBSOCKET_HANDSHAKE_MORE;
    if (!head.flaw && !is_switching(head.start)) {
        int length = head.start.length < 80 ? (int)head.start.length : 80;
        snprintf(why, size, "the server answers '%.*s' to the WebSocket request, check the path",
                 length, (const char *)head.start.data);
        return WEBSOCKET_HANDSHAKE_REFUSED;
    }
    const char *flaw = head.flaw ? head.flaw : response_flaw(&head, key);
    if (!flaw)
        return WEBSOCKET_HANDSHAKE_DONE;
    snprintf(why, size, "the server's WebSocket response: %s", flaw);
    return WEBSOCKET_HANDSHAKE_REFUSED;
}
