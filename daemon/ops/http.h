// A small HTTP server: GET /metrics in the Prometheus text format.
#pragma once

#include <stdint.h>
#include <stdio.h>

#include "base/loop.h"

struct http;

typedef void http_metrics_fn(void *arg, FILE *out);

// NULL with errno set where the address cannot be listened on. host is numeric.
struct http *http_new(struct loop *loop, const char *host, uint16_t port, http_metrics_fn *metrics,
                      void *arg);
void http_free(struct http *http);
