// A small HTTP server on libevent's.
#include "ops/http.h"

#include <event2/buffer.h>
#include <event2/http.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/memtext.h"

enum { BODY_MAX = 4096, HEADERS_MAX = 8192, TIMEOUT_S = 10 };

struct http {
    struct evhttp *server;
    http_metrics_fn *metrics;
    void *arg;
};

static void send_metrics(struct evhttp_request *request, void *arg)
{
    struct http *http = arg;
    struct memtext text;
    memtext_open(&text);
    http->metrics(http->arg, text.out);
    char *bytes = memtext_close(&text);
    struct evbuffer *body = evbuffer_new();
    evbuffer_add(body, bytes, text.length);
    evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type",
                      "text/plain; version=0.0.4; charset=utf-8");
    evhttp_send_reply(request, HTTP_OK, "OK", body);
    evbuffer_free(body);
    free(bytes);
}

static void not_found(struct evhttp_request *request, void *arg)
{
    (void)arg;
    evhttp_send_error(request, HTTP_NOTFOUND, NULL);
}

struct http *http_new(struct loop *loop, const char *host, uint16_t port, http_metrics_fn *metrics,
                      void *arg)
{
    struct http *http = mem_zalloc(sizeof *http);
    http->metrics = metrics;
    http->arg = arg;
    http->server = evhttp_new(loop_base(loop));
    if (!http->server || evhttp_bind_socket(http->server, host, port) != 0) {
        http_free(http);
        return NULL;
    }
    evhttp_set_allowed_methods(http->server, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD);
    evhttp_set_max_body_size(http->server, BODY_MAX);
    evhttp_set_max_headers_size(http->server, HEADERS_MAX);
    evhttp_set_timeout(http->server, TIMEOUT_S);
    evhttp_set_cb(http->server, "/metrics", send_metrics, http);
    evhttp_set_gencb(http->server, not_found, http);
    return http;
}

void http_free(struct http *http)
{
    if (!http)
        return;
    if (http->server)
        evhttp_free(http->server);
    free(http);
}
