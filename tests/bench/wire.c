// The little MQTT that the benchmark's own broker, publisher and subscriber need, on one
// connection.
#include "wire.h"

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_in local_address(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static void take_socket(struct wire *wire, int fd)
{
    int on = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
        err(1, "fcntl");
    wire->fd = fd;
    wire->in_start = wire->in_end = wire->out_length = 0;
}

void wire_connect(struct wire *wire, uint16_t port)
{
    struct sockaddr_in address = local_address(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        err(1, "connect to port %u", port);
    take_socket(wire, fd);
}

int wire_listen(uint16_t port)
{
    struct sockaddr_in address = local_address(port);
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(listener, SOMAXCONN) != 0)
        err(1, "listen on port %u", port);
    return listener;
}

void wire_take(struct wire *wire, int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

    if (fd < 0)
        err(1, "accept");
    take_socket(wire, fd);
}

void wire_accept(struct wire *wire, uint16_t port)
{
    int listener = wire_listen(port);

    wire_take(wire, listener);
    close(listener);
}

bool wire_write(struct wire *wire)
{
    ssize_t sent = send(wire->fd, wire->out, wire->out_length, MSG_NOSIGNAL);

    if (sent < 0)
        return errno == EAGAIN || errno == EINTR;
    wire->out_length -= (size_t)sent;
    memmove(wire->out, wire->out + sent, wire->out_length);
    return true;
}

bool wire_read(struct wire *wire)
{
    wire->in_end -= wire->in_start;
    memmove(wire->in, wire->in + wire->in_start, wire->in_end);
    wire->in_start = 0;

    ssize_t got = recv(wire->fd, wire->in + wire->in_end, sizeof wire->in - wire->in_end, 0);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR;
    wire->in_end += (size_t)got;
    return got > 0;
}

bool wire_pump(struct wire *wire)
{
    struct pollfd entry = {.fd = wire->fd, .events = POLLIN};

    if (wire->out_length > 0)
        entry.events |= POLLOUT;
    if (poll(&entry, 1, -1) < 0)
        return errno == EINTR;
    if ((entry.revents & POLLOUT) && !wire_write(wire))
        return false;
    return !(entry.revents & ~POLLOUT) || wire_read(wire);
}

bool wire_next(struct wire *wire, struct wire_packet *packet)
{
    const uint8_t *bytes = wire->in + wire->in_start;
    size_t available = wire->in_end - wire->in_start, length = 0, header = 1;

    for (unsigned shift = 0;; shift += 7, header++) {
        if (header >= available)
            return false;
        length |= (size_t)(bytes[header] & 0x7f) << shift;
        if (!(bytes[header] & 0x80))
            break;
    }
    header++;
    if (available < header + length)
        return false;
    *packet = (struct wire_packet){bytes[0] >> 4, bytes[0] & 15, bytes + header, length};
    wire->in_start += header + length;
    return true;
}

void wire_expect(struct wire *wire, uint8_t type, struct wire_packet *packet)
{
    while (!wire_next(wire, packet)) {
        if (!wire_pump(wire))
            errx(1, "connection closed while waiting for packet type %u", type);
    }
    if (packet->type != type)
        errx(1, "packet type %u came instead of %u", packet->type, type);
}

bool wire_room(const struct wire *wire)
{
    return wire->out_length + WIRE_PACKET_MAX <= sizeof wire->out;
}

void wire_put(struct wire *wire, uint8_t first, const void *body, size_t length)
{
    uint8_t *out = wire->out + wire->out_length;
    size_t header = 0;

    out[header++] = first;
    if (length >= 128)
        out[header++] = (uint8_t)(length | 0x80);
    out[header++] = (uint8_t)(length >= 128 ? length >> 7 : length);
    memcpy(out + header, body, length);
    wire->out_length += header + length;
}

static size_t put_text(uint8_t *out, const char *text)
{
    size_t length = strlen(text);

    out[0] = (uint8_t)(length >> 8);
    out[1] = (uint8_t)length;
    memcpy(out + 2, text, length);
    return length + 2;
}

void wire_put_publish(struct wire *wire, uint16_t id, const char *topic, const char *payload,
                      bool v5)
{
    uint8_t body[WIRE_PACKET_MAX];
    size_t length = put_text(body, topic), payload_length = strlen(payload);

    if (id > 0) {
        body[length++] = (uint8_t)(id >> 8);
        body[length++] = (uint8_t)id;
    }
    if (v5)
        body[length++] = 0;
    memcpy(body + length, payload, payload_length);
    wire_put(wire, (uint8_t)(WIRE_PUBLISH << 4 | (id > 0) << 1), body, length + payload_length);
}

void wire_put_puback(struct wire *wire, uint16_t id)
{
    wire_put(wire, WIRE_PUBACK << 4, (uint8_t[]){(uint8_t)(id >> 8), (uint8_t)id}, 2);
}

void wire_put_connect(struct wire *wire, const char *client_id)
{
    uint8_t body[WIRE_PACKET_MAX] = {0, 4, 'M', 'Q', 'T', 'T', 4, 1 << 1, 0, 0};

    wire_put(wire, WIRE_CONNECT << 4, body, 10 + put_text(body + 10, client_id));
}

void wire_put_subscribe(struct wire *wire, const char *filter, uint8_t qos)
{
    uint8_t body[WIRE_PACKET_MAX] = {0, 1};
    size_t length = 2 + put_text(body + 2, filter);

    body[length++] = qos;
    wire_put(wire, WIRE_SUBSCRIBE << 4 | 2, body, length);
}

uint16_t wire_u16(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

double wire_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}
