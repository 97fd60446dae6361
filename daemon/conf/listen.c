// Takes the built-in broker's addresses apart, and finds those that cannot stand side by side.
#include "conf/listen.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "conf/uri.h"

static const char allowed[] =
    "allowed: mqtt, mqtts, ws or wss://ADDRESS[:PORT], ADDRESS numeric, [IPv6] or *";

// The address of a numeric host; the caller frees by freeaddrinfo. NULL: it is none.
static struct addrinfo *address_of(const char *host)
{
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};
    struct addrinfo *address = NULL;
    return getaddrinfo(host, NULL, &hints, &address) == 0 ? address : NULL;
}

bool listen_is_numeric(const char *host)
{
    struct addrinfo *address = address_of(host);
    if (!address)
        return false;
    freeaddrinfo(address);
    return true;
}

static bool is_loopback(const struct addrinfo *address)
{
    if (address->ai_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)address->ai_addr;
        return ntohl(in->sin_addr.s_addr) >> 24 == 127;
    }
    const struct sockaddr_in6 *in6 = (const void *)address->ai_addr;
    return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
}

// The scheme's part and the rest of SCHEME://*:PORT; NULL where the host is no *.
static const char *after_star(const char *text)
{
    const char *host = strstr(text, "://");
    if (!host || host[3] != '*' || (host[4] != ':' && host[4] != '\0'))
        return NULL;
    return host + 4;
}

// As uri_parse, which knows no *.
static bool parse_uri(const char *text, struct uri *uri, const char **flaw)
{
    const char *rest = after_star(text);
    if (!rest)
        return uri_parse(text, uri, flaw);
    char *with_address = mem_printf("%.*s0.0.0.0%s", (int)(rest - text - 1), text, rest);
    bool good = uri_parse(with_address, uri, flaw);
    free(with_address);
    if (good) {
        free(uri->host);
        uri->host = mem_strdup("*");
    }
    return good;
}

static char *parse_one(const char *text, struct broker_listen *listen)
{
    static const char *const schemes[] = {"mqtt://", "mqtts://", "ws://", "wss://"};
    const char *flaw = NULL;
    struct uri uri = {0};
    bool known = false;
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
        known |= strncmp(text, schemes[i], strlen(schemes[i])) == 0;
    if (!known)
        return mem_printf("'%s' has no known scheme; %s", text, allowed);
    const char *path = strchr(strstr(text, "://") + 3, '/');
    if (path)
        return mem_printf("'%s' has a path; %s", text, allowed);
    if (!parse_uri(text, &uri, &flaw))
        return mem_printf("'%s' %s", text, flaw);
    bool star = strcmp(uri.host, "*") == 0;
    struct addrinfo *address = star ? NULL : address_of(uri.host);
    if (!star && !address) {
        free(uri.host);
        return mem_printf("'%s' has no numeric address; %s", text, allowed);
    }
    *listen = (struct broker_listen){
        .text = mem_strdup(text),
        .host = uri.host,
        .port = uri.port,
        .tls = uri.tls,
        .websocket = uri.websocket,
        .loopback = address && is_loopback(address),
    };
    if (address)
        freeaddrinfo(address);
    return NULL;
}

static bool is_any(const struct addrinfo *address)
{
    if (address->ai_family == AF_INET)
        return ((const struct sockaddr_in *)(const void *)address->ai_addr)->sin_addr.s_addr == 0;
    const struct sockaddr_in6 *in6 = (const void *)address->ai_addr;
    return IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr);
}

// Whether the two cannot be listened on at the same time.
static bool collide(const struct broker_listen *a, const struct broker_listen *b)
{
    if (a->port != b->port)
        return false;
    struct addrinfo *x = address_of(a->host), *y = address_of(b->host);
    bool result = true; // one of them is *
    if (x && y)
        result =
            x->ai_family == y->ai_family && (is_any(x) || is_any(y) ||
                                             (x->ai_addrlen == y->ai_addrlen &&
                                              memcmp(x->ai_addr, y->ai_addr, x->ai_addrlen) == 0));
    if (x)
        freeaddrinfo(x);
    if (y)
        freeaddrinfo(y);
    return result;
}

static char *find_collision(const struct broker_listen *listens, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < i; j++) {
            if (collide(&listens[i], &listens[j]))
                return mem_printf("'%s' and '%s' are the same address and port; choose another "
                                  "port for one of them",
                                  listens[j].text, listens[i].text);
        }
    }
    return NULL;
}

char *listen_list_parse(const char *text, struct broker_listen **listens, size_t *count)
{
    struct broker_listen *list = NULL;
    size_t used = 0, capacity = 0;
    char *copy = mem_strdup(text), *rest = NULL, *flaw = NULL;
    for (char *word = strtok_r(copy, " \t", &rest); word && !flaw;
         word = strtok_r(NULL, " \t", &rest)) {
        list = mem_grow(list, used, &capacity, sizeof *list);
        flaw = parse_one(word, &list[used]);
        used += !flaw;
    }
    free(copy);
    if (!flaw && used == 0)
        flaw = mem_printf("is empty; %s", allowed);
    if (!flaw)
        flaw = find_collision(list, used);
    if (flaw) {
        listen_list_free(list, used);
        return flaw;
    }
    *listens = list;
    *count = used;
    return NULL;
}

void listen_list_free(struct broker_listen *listens, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(listens[i].text);
        free(listens[i].host);
    }
    free(listens);
}
