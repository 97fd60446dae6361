// Takes URIs of brokers and addresses to listen on apart.
#include "conf/uri.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "conf/scalar.h"

static const struct scheme {
    const char *prefix;
    uint16_t port;
    bool tls, websocket;
} schemes[] = {
    {"mqtt://", 1883, false, false},
    {"mqtts://", 8883, true, false},
    {"ws://", 80, false, true},
    {"wss://", 443, true, true},
};

static bool host_valid(const char *host, size_t length, bool bracketed)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    for (size_t i = 0; i < length; i++) {
        bool colon = bracketed && (host[i] == ':' || host[i] == '%');
        if (!strchr(letters, host[i]) && !colon)
            return false;
    }
    return length > 0;
}

static bool port_parse(const char *text, uint16_t *port)
{
    int64_t number;
    if (!scalar_number(text, &number) || number < 1 || number > UINT16_MAX)
        return false;
    *port = (uint16_t)number;
    return true;
}

// HOST, HOST:PORT, [IPv6] or [IPv6]:PORT; without a port *port stays as it is.
static bool address_parse(const char *text, char **host, uint16_t *port, bool *has_port,
                          const char **flaw)
{
    bool bracketed = text[0] == '[';
    const char *start = text + bracketed;
    const char *end = strpbrk(start, bracketed ? "]" : ":");
    if (!end && bracketed) {
        *flaw = "has a [ without ]";
        return false;
    }
    size_t length = end ? (size_t)(end - start) : strlen(start);
    const char *rest = start + length + bracketed;
    if (!host_valid(start, length, bracketed) || (*rest && *rest != ':')) {
        *flaw = "has no valid host; allowed: a name, an IPv4 address, or an IPv6 address in [ ]";
        return false;
    }
    *has_port = *rest == ':';
    if (*has_port && !port_parse(rest + 1, port)) {
        *flaw = strchr(rest + 1, ':') ? "has more than one port; an IPv6 address stands in [ ]"
                                      : "has no valid port; allowed: 1 to 65535";
        return false;
    }
    *host = mem_strndup(start, length);
    return true;
}

bool uri_parse_address(const char *text, char **host, uint16_t *port, const char **flaw)
{
    bool has_port;
    if (!address_parse(text, host, port, &has_port, flaw))
        return false;
    if (has_port)
        return true;
    free(*host);
    *host = NULL;
    *flaw = "has no port; allowed: HOST:PORT";
    return false;
}

// A path goes into a line of HTTP as it stands, so it has no blanks and no control characters.
static bool path_valid(const char *path)
{
    for (const char *at = path; *at; at++)
        if (*at <= ' ' || *at > '~' || *at == '#')
            return false;
    return *path == '/' || *path == '\0';
}

static const struct scheme *scheme_find(const char *text)
{
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
        if (strncmp(text, schemes[i].prefix, strlen(schemes[i].prefix)) == 0)
            return &schemes[i];
    return NULL;
}

bool uri_parse(const char *text, struct uri *uri, const char **flaw)
{
    const struct scheme *scheme = scheme_find(text);
    if (!scheme) {
        *flaw = "is no broker's address; allowed: mqtt, mqtts, ws or wss://HOST[:PORT]";
        return false;
    }
    *uri = (struct uri){.port = scheme->port, .tls = scheme->tls, .websocket = scheme->websocket};
    const char *authority = text + strlen(scheme->prefix);
    if (strchr(authority, '@')) {
        *flaw = "holds a user; allowed: the keys username and password_file";
        return false;
    }
    size_t length = strcspn(authority, "/?#");
    const char *path = authority + length;
    if (!scheme->websocket && *path && strcmp(path, "/") != 0) {
        *flaw = "has a path; allowed: HOST[:PORT] alone, a path with ws and wss";
        return false;
    }
    if (!path_valid(path)) {
        *flaw = "has no valid path; allowed: /PATH without blanks and #";
        return false;
    }
    char *address = mem_strndup(authority, length);
    bool has_port, good = address_parse(address, &uri->host, &uri->port, &has_port, flaw);
    free(address);
    if (good && scheme->websocket && *path)
        uri->path = mem_strdup(path);
    return good;
}
