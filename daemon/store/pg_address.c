// A conninfo with its host names resolved on a worker thread.
#include "store/pg_address.h"

#include <arpa/inet.h>
#include <libpq-fe.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "store/pg.h"

enum { PARAMETERS_MAX = 64 };

struct pg_address {
    struct worker_job *job;
    PQconninfoOption *options; // what the user gave
    char *error;
    char *host, *hostaddr, *port; // lists of equal length; NULL where nothing had to be resolved
    char *application_name;
    pg_address_fn *fn;
    void *arg;
};

static const char *option(const PQconninfoOption *options, const char *keyword)
{
    for (; options->keyword; options++)
        if (strcmp(options->keyword, keyword) == 0)
            return options->val && *options->val ? options->val : NULL;
    return NULL;
}

static void append(char **list, const char *item, size_t length)
{
    char *longer =
        *list ? mem_printf("%s,%.*s", *list, (int)length, item) : mem_strndup(item, length);
    free(*list);
    *list = longer;
}

// The element number index of a comma-separated list; a list of one holds for all.
static const char *element(const char *list, size_t index, size_t *length)
{
    if (!list) {
        *length = 0;
        return "";
    }
    if (!strchr(list, ','))
        index = 0;
    while (index-- > 0 && *list) {
        list += strcspn(list, ",");
        list += *list == ',';
    }
    *length = strcspn(list, ",");
    return list;
}

static void add_entry(struct pg_address *address, size_t index, const char *host, size_t length,
                      const char *numeric)
{
    size_t port_length;
    const char *port = element(option(address->options, "port"), index, &port_length);
    append(&address->host, host, length);
    append(&address->hostaddr, numeric, strlen(numeric));
    append(&address->port, port, port_length);
}

static void resolve_one(struct pg_address *address, size_t index, const char *host, size_t length)
{
    if (length == 0 || *host == '/' || *host == '@') {
        add_entry(address, index, host, length, "");
        return;
    }
    char *name = mem_strndup(host, length);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found = NULL;
    int status = getaddrinfo(name, NULL, &hints, &found);
    for (struct addrinfo *at = found; at; at = at->ai_next) {
        char numeric[NI_MAXHOST];
        if (getnameinfo(at->ai_addr, at->ai_addrlen, numeric, sizeof numeric, NULL, 0,
                        NI_NUMERICHOST) == 0)
            add_entry(address, index, host, length, numeric);
    }
    if (status != 0 && !address->error)
        address->error = mem_printf("cannot resolve host \"%s\": %s", name, gai_strerror(status));
    if (found)
        freeaddrinfo(found);
    free(name);
}

// The list of hosts, NULL where it did not parse or somebody else resolves them.
static const char *hosts_of(const struct pg_address *address)
{
    if (!address->options || option(address->options, "hostaddr") ||
        option(address->options, "service"))
        return NULL;
    const char *hosts = option(address->options, "host");
    return hosts ? hosts : getenv("PGHOST");
}

static void resolve_all(void *arg)
{
    struct pg_address *address = arg;
    size_t index = 0;
    for (const char *at = hosts_of(address);; at++, index++) {
        size_t length = strcspn(at, ",");
        resolve_one(address, index, at, length);
        at += length;
        if (!*at)
            break;
    }
    if (address->host) { // one that resolves is enough
        free(address->error);
        address->error = NULL;
    }
}

static void address_free(void *arg)
{
    struct pg_address *address = arg;
    PQconninfoFree(address->options);
    free(address->error);
    free(address->host);
    free(address->hostaddr);
    free(address->port);
    free(address->application_name);
    free(address);
}

struct parameters {
    const char *keywords[PARAMETERS_MAX + 1], *values[PARAMETERS_MAX + 1];
    size_t count;
};

// The first value of a keyword stays.
static void set(struct parameters *parameters, const char *keyword, const char *value)
{
    for (size_t i = 0; i < parameters->count; i++)
        if (strcmp(parameters->keywords[i], keyword) == 0)
            return;
    if (!value || parameters->count == PARAMETERS_MAX)
        return;
    parameters->keywords[parameters->count] = keyword;
    parameters->values[parameters->count++] = value;
}

static void resolved(void *arg)
{
    struct pg_address *address = arg;
    if (address->error) {
        address->fn(address->arg, NULL, NULL, address->error);
        address_free(address);
        return;
    }
    struct parameters parameters = {.count = 0};
    set(&parameters, "host", address->host);
    set(&parameters, "hostaddr", address->hostaddr);
    if (address->port && strspn(address->port, ",") != strlen(address->port))
        set(&parameters, "port", address->port);
    for (PQconninfoOption *at = address->options; at->keyword; at++)
        set(&parameters, at->keyword, at->val && *at->val ? at->val : NULL);
    set(&parameters, "application_name", address->application_name);
    // Without these a connection whose peer is gone would be waited for until the kernel's two
    // hours are over.
    set(&parameters, "keepalives_idle", "10");
    set(&parameters, "keepalives_interval", "5");
    set(&parameters, "keepalives_count", "3");
    set(&parameters, "tcp_user_timeout", "30000");
    set(&parameters, "client_encoding", "UTF8");
    address->fn(address->arg, parameters.keywords, parameters.values, NULL);
    address_free(address);
}

static bool is_numeric(const char *host, size_t length)
{
    char text[INET6_ADDRSTRLEN];
    unsigned char address[sizeof(struct in6_addr)];
    if (length >= sizeof text)
        return false;
    memcpy(text, host, length);
    text[length] = '\0';
    return inet_pton(AF_INET, text, address) == 1 || inet_pton(AF_INET6, text, address) == 1;
}

// Sockets and numeric addresses must not queue behind names that nobody answers for.
static bool needs_lookup(const struct pg_address *address)
{
    const char *hosts = hosts_of(address);
    if (!hosts)
        return false;
    for (const char *at = hosts;; at++) {
        size_t length = strcspn(at, ",");
        if (length > 0 && *at != '/' && *at != '@' && !is_numeric(at, length))
            return true;
        at += length;
        if (!*at)
            return false;
    }
}

struct pg_address *pg_address_start(struct worker *worker, const char *conninfo,
                                    const char *application_name, pg_address_fn *fn, void *arg)
{
    struct pg_address *address = mem_zalloc(sizeof *address);
    address->fn = fn;
    address->arg = arg;
    address->application_name = mem_strdup(application_name);
    address->options = PQconninfoParse(conninfo, NULL);
    if (!address->options) { // libpq's message may quote the password
        char *why = NULL;
        free(pg_conninfo_masked(conninfo, &why));
        address->error = mem_printf("conninfo: %s", why ? why : "out of memory");
        free(why);
    }
    if (needs_lookup(address))
        address->job = worker_submit(worker, resolve_all, resolved, address_free, address);
    else
        address->job = worker_skip(worker, resolved, address_free, address);
    return address;
}

void pg_address_cancel(struct pg_address *address)
{
    if (address)
        worker_cancel(address->job);
}
