// A conninfo with its host names resolved, since libpq resolves names synchronously.
#pragma once

#include "base/worker.h"

struct pg_address;

// keywords and values are NULL-terminated and valid during the call; NULL with error (text) on
// failure.
typedef void pg_address_fn(void *arg, const char *const *keywords, const char *const *values,
                           const char *error);

// Fills hostaddr where a host is a name, and keepalive settings where there are none. fn is called
// once, from the loop, never from within this call, unless cancelled.
struct pg_address *pg_address_start(struct worker *worker, const char *conninfo,
                                    const char *application_name, pg_address_fn *fn, void *arg);
void pg_address_cancel(struct pg_address *address);
