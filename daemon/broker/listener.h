// The sockets that clients connect to.
#pragma once

#include <stdbool.h>

struct broker;

// Opens what the options list, or takes over the sockets that systemd passes. False with *error.
bool listeners_open(struct broker *broker, char **error);
// Nobody new comes any more; takes none.
void listeners_close(struct broker *broker);
