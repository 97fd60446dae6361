// Addresses to listen on, as users write them.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "broker/broker.h"

// Whether the host is an IPv4 or IPv6 address, for which no name has to be looked up.
bool listen_is_numeric(const char *host);
// One or more of mqtt, mqtts, ws, wss://ADDRESS[:PORT], separated by blanks. NULL, or what is
// wrong, which the caller frees; on success the caller frees the list by listen_list_free.
char *listen_list_parse(const char *text, struct broker_listen **listens, size_t *count);
void listen_list_free(struct broker_listen *listens, size_t count);
