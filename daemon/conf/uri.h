// Addresses as users write them: a broker's URI, and HOST:PORT.
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct uri {
    char *host; // the caller frees
    uint16_t port;
    bool tls, websocket;
    char *path; // of a WebSocket, with its query; NULL: none given; the caller frees
};

// mqtt or mqtts://HOST[:PORT], ws or wss://HOST[:PORT][/PATH]; IPv6 addresses in brackets. False
// with *flaw (static text).
bool uri_parse(const char *text, struct uri *uri, const char **flaw);
// HOST:PORT. False with *flaw (static text); else the caller frees *host.
bool uri_parse_address(const char *text, char **host, uint16_t *port, const char **flaw);
