// Host names to addresses without blocking the loop.
#pragma once

#include <netdb.h>
#include <stddef.h>
#include <stdint.h>

#include "base/worker.h"

struct resolve;

// error is NULL on success, else why not (static text). addresses belong to the call, freed after
// it returns.
typedef void resolve_fn(void *arg, const struct addrinfo *addresses, const char *error);

// Looks host (a name or a numeric address) and port up; fn is called once from the loop, never from
// within this call, unless cancelled.
struct resolve *resolve_start(struct worker *worker, const char *host, uint16_t port,
                              resolve_fn *fn, void *arg);
void resolve_cancel(struct resolve *resolve);
