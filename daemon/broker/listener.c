// Listening sockets, our own or systemd's, and the clients that they bring.
#include "broker/listener.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/mem.h"
#include "broker/broker_internal.h"
#include "broker/client.h"

#define BACKLOG 1024
#define PAUSE_MS 1000 // after accept has failed

struct listener {
    struct wheel_entry pause; // first
    struct broker *broker;
    struct evconnlistener *socket;
    bool tls, websocket;
};

// ---- who comes ----

// The kernel watches whether the peer takes what is sent to it: when it has taken nothing for so
// long, with its window closed or its network gone, the connection ends.
static void bound_silence(int fd, uint32_t seconds)
{
    unsigned milliseconds = seconds < UINT32_MAX / 1000 ? seconds * 1000 : UINT32_MAX;
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &milliseconds, sizeof milliseconds);
}

static void log_crowd(struct broker *broker)
{
    char more[LOG_MORE_SIZE];
    uint64_t suppressed;
    if (log_limit_pass(&broker->crowd_limit, &suppressed))
        log_warn("%s: a connection is refused%s: there are %zu already; raise connections in "
                 "[broker]",
                 broker->source.name, log_more(suppressed, more), broker->connections);
}

static void accepted(struct evconnlistener *socket, evutil_socket_t fd, struct sockaddr *from,
                     int length, void *arg)
{
    (void)socket, (void)from, (void)length;
    const struct listener *listener = arg;
    struct broker *broker = listener->broker;
    const struct conn_transport transport = {.tls = listener->tls ? broker->tls : NULL,
                                             .websocket = listener->websocket};
    broker->counters.sockets++;
    if (broker->connections >= broker->options->connections) {
        broker->refused++;
        log_crowd(broker);
        close(fd);
        return;
    }
    bound_silence(fd, broker->options->write_timeout);
    client_new(broker, fd, &transport);
}

static void pause_over(struct wheel_entry *entry)
{
    struct listener *listener = (struct listener *)(void *)entry;
    evconnlistener_enable(listener->socket);
}

// No descriptor is left, or no memory: the connection stays in the kernel's queue.
static void accept_failed(struct evconnlistener *socket, void *arg)
{
    struct listener *listener = arg;
    struct broker *broker = listener->broker;
    if (log_limit_pass(&broker->accept_limit, NULL))
        log_error("%s: cannot accept a connection: %s; trying again in a second%s",
                  broker->source.name, strerror(errno),
                  errno == EMFILE ? " (raise LimitNOFILE= of the service, or lower connections in "
                                    "[broker])"
                                  : "");
    evconnlistener_disable(socket);
    wheel_start(broker->wheel, &listener->pause, PAUSE_MS);
}

// ---- addresses ----

// "*" is one socket for both families.
static struct addrinfo *address_of(const struct broker_listen *entry)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                             .ai_socktype = SOCK_STREAM};
    struct addrinfo *address = NULL;
    char port[8];
    snprintf(port, sizeof port, "%u", entry->port);
    const char *host = strcmp(entry->host, "*") == 0 ? "::" : entry->host;
    return getaddrinfo(host, port, &hints, &address) == 0 ? address : NULL;
}

static uint16_t port_of(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET)
        return ((const struct sockaddr_in *)(const void *)address)->sin_port;
    return ((const struct sockaddr_in6 *)(const void *)address)->sin6_port;
}

static bool same_host(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
    if (a->ss_family != b->ss_family)
        return false;
    if (a->ss_family == AF_INET)
        return ((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr ==
               ((const struct sockaddr_in *)(const void *)b)->sin_addr.s_addr;
    return IN6_ARE_ADDR_EQUAL(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr,
                              &((const struct sockaddr_in6 *)(const void *)b)->sin6_addr);
}

// ---- our own sockets ----

static bool prepare(int fd, const struct broker_listen *entry, const struct addrinfo *address)
{
    int on = 1, only_v6 = strcmp(entry->host, "*") != 0;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0)
        return false;
    if (address->ai_family == AF_INET6 &&
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only_v6, sizeof only_v6) != 0)
        return false;
    return bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0;
}

// -1 with errno.
static int open_socket(const struct broker_listen *entry)
{
    struct addrinfo *address = address_of(entry);
    if (!address) {
        errno = EADDRNOTAVAIL;
        return -1;
    }
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && !prepare(fd, entry, address)) {
        int error = errno;
        close(fd);
        errno = error;
        fd = -1;
    }
    freeaddrinfo(address);
    return fd;
}

static bool start(struct broker *broker, struct listener *listener,
                  const struct broker_listen *entry, int fd)
{
    *listener =
        (struct listener){.broker = broker, .tls = entry->tls, .websocket = entry->websocket};
    wheel_entry_init(&listener->pause, pause_over);
    listener->socket = evconnlistener_new(loop_base(broker->loop), accepted, listener,
                                          LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
    if (!listener->socket)
        return false;
    evconnlistener_set_error_cb(listener->socket, accept_failed);
    return true;
}

static bool open_own(struct broker *broker, struct listener *listener,
                     const struct broker_listen *entry, char **error)
{
    int fd = open_socket(entry);
    if (fd >= 0 && start(broker, listener, entry, fd)) {
        log_info("%s: listening on %s", broker->source.name, entry->text);
        return true;
    }
    *error = mem_printf("cannot listen on %s: %s%s", entry->text, strerror(errno),
                        errno == EADDRINUSE ? " (another broker runs there, or another sensorlogd)"
                        : errno == EACCES   ? " (a port below 1024: let sensorlogd.socket open it)"
                                            : "");
    if (fd >= 0)
        close(fd);
    return false;
}

// ---- systemd's sockets ----

// Whether the socket is what the entry says: who may come is decided by its address.
static bool is_of_entry(const struct sockaddr_storage *bound, const struct broker_listen *entry)
{
    struct sockaddr_storage wanted = {0};
    struct addrinfo *address = address_of(entry);
    if (!address)
        return false;
    memcpy(&wanted, address->ai_addr, address->ai_addrlen);
    freeaddrinfo(address);
    return port_of(bound) == port_of(&wanted) &&
           (same_host(bound, &wanted) || strcmp(entry->host, "*") == 0);
}

static bool find_entry(const struct broker *broker, int fd, size_t *index)
{
    struct sockaddr_storage bound = {0};
    socklen_t length = sizeof bound;
    if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) <= 0 ||
        getsockname(fd, (struct sockaddr *)&bound, &length) != 0 ||
        (bound.ss_family != AF_INET && bound.ss_family != AF_INET6))
        return false;
    for (*index = 0; *index < broker->listener_count; ++*index)
        if (!broker->listeners[*index].socket &&
            is_of_entry(&bound, &broker->options->listens[*index]))
            return true;
    return false;
}

static void describe(int fd, char *text, size_t size)
{
    struct sockaddr_storage bound = {0};
    socklen_t length = sizeof bound;
    char host[INET6_ADDRSTRLEN + 16], port[8];
    bool known = getsockname(fd, (struct sockaddr *)&bound, &length) == 0 &&
                 getnameinfo((struct sockaddr *)&bound, length, host, sizeof host, port,
                             sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) == 0;
    if (known && bound.ss_family != AF_UNIX)
        snprintf(text, size, bound.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
    else
        snprintf(text, size, "number %d", fd);
}

static bool take_passed(struct broker *broker, int fd, char **error)
{
    size_t index;
    if (!find_entry(broker, fd, &index)) {
        char text[INET6_ADDRSTRLEN + 32];
        describe(fd, text, sizeof text);
        *error = mem_printf("socket %s, which systemd passes, is of no entry of listen in "
                            "[broker]: give it the address and port of one in sensorlogd.socket "
                            "(ListenStream=), or remove it there",
                            text);
        return false;
    }
    const struct broker_listen *entry = &broker->options->listens[index];
    evutil_make_socket_nonblocking(fd);
    if (!start(broker, &broker->listeners[index], entry, fd)) {
        *error = mem_printf("cannot use the socket that systemd passes for %s", entry->text);
        return false;
    }
    log_info("%s: listening on %s (socket from systemd)", broker->source.name, entry->text);
    return true;
}

// ---- all ----

bool listeners_open(struct broker *broker, char **error)
{
    const struct broker_options *options = broker->options;
    int passed = sd_listen_fds(1);
    broker->listener_count = options->listen_count;
    broker->listeners = mem_zalloc(options->listen_count * sizeof *broker->listeners);
    for (int i = 0; i < passed; i++)
        if (!take_passed(broker, SD_LISTEN_FDS_START + i, error))
            return false;
    for (size_t i = 0; i < options->listen_count; i++)
        if (!broker->listeners[i].socket &&
            !open_own(broker, &broker->listeners[i], &options->listens[i], error))
            return false;
    return true;
}

void listeners_close(struct broker *broker)
{
    for (size_t i = 0; i < broker->listener_count; i++) {
        struct listener *listener = &broker->listeners[i];
        if (!listener->socket)
            continue;
        wheel_stop(&listener->pause);
        evconnlistener_free(listener->socket);
    }
    free(broker->listeners);
    broker->listeners = NULL;
    broker->listener_count = 0;
}
