// Host names to addresses without blocking the loop.
#include "base/resolve.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

struct resolve {
    struct worker_job *job;
    char *host;
    char port[8];
    struct addrinfo *addresses;
    int status; // of getaddrinfo
    resolve_fn *fn;
    void *arg;
};

static void look_up_by(struct resolve *resolve, int flags)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC,
                                   .ai_socktype = SOCK_STREAM,
                                   .ai_flags = flags};
    resolve->status = getaddrinfo(resolve->host, resolve->port, &hints, &resolve->addresses);
}

static void look_up(void *arg)
{
    look_up_by(arg, 0);
}

static void dispose(void *arg)
{
    struct resolve *resolve = arg;
    if (resolve->addresses)
        freeaddrinfo(resolve->addresses);
    free(resolve->host);
    free(resolve);
}

static void looked_up(void *arg)
{
    struct resolve *resolve = arg;
    const char *error = resolve->status ? gai_strerror(resolve->status) : NULL;
    resolve->fn(resolve->arg, resolve->addresses, error);
    dispose(resolve);
}

struct resolve *resolve_start(struct worker *worker, const char *host, uint16_t port,
                              resolve_fn *fn, void *arg)
{
    struct resolve *resolve = mem_zalloc(sizeof *resolve);
    resolve->host = mem_strdup(host);
    snprintf(resolve->port, sizeof resolve->port, "%u", port);
    resolve->fn = fn;
    resolve->arg = arg;
    // A numeric address needs nobody's answer, and must not queue behind names that nobody answers
    // for.
    look_up_by(resolve, AI_NUMERICHOST | AI_NUMERICSERV);
    if (resolve->status == 0)
        resolve->job = worker_skip(worker, looked_up, dispose, resolve);
    else
        resolve->job = worker_submit(worker, look_up, looked_up, dispose, resolve);
    return resolve;
}

void resolve_cancel(struct resolve *resolve)
{
    if (resolve)
        worker_cancel(resolve->job);
}
