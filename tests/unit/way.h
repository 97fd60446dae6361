// A way to PostgreSQL, at a socket of its own, that can be held up and cut.
#pragma once

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/list.h"
#include "base/loop.h"
#include "base/mem.h"

struct way;

struct link {
    struct list node;
    struct way *way;
    struct bufferevent *client, *server; // either may be gone
    // Where in the stream of what is sent: the header of a message so far, and what is left of it.
    uint8_t header[5];
    size_t header_length, left;
    bool begun; // the first message has no type
};

struct way {
    struct loop *loop;
    char directory[32];
    struct evconnlistener *listener;
    struct list links;
    bool holding;    // answers wait
    unsigned opened; // connections so far
    unsigned syncs;  // that were sent: each is a round trip
};

static inline void link_free(struct link *link)
{
    list_remove(&link->node);
    if (link->client)
        bufferevent_free(link->client);
    if (link->server)
        bufferevent_free(link->server);
    free(link);
}

static inline void link_take_header(struct link *link)
{
    const uint8_t *size = link->header + link->begun;
    size_t length = (size_t)size[0] << 24 | (size_t)size[1] << 16 | (size_t)size[2] << 8 | size[3];
    link->way->syncs += link->begun && link->header[0] == 'S';
    link->left = length - 4;
    link->header_length = 0;
    link->begun = true;
}

static inline void link_count(struct link *link, const uint8_t *bytes, size_t length)
{
    while (length > 0) {
        size_t taken = link->left < length ? link->left : length;
        if (taken > 0) {
            link->left -= taken;
        } else {
            taken = 1;
            link->header[link->header_length++] = *bytes;
            if (link->header_length == 4u + link->begun)
                link_take_header(link);
        }
        bytes += taken;
        length -= taken;
    }
}

static inline void link_pass(struct bufferevent *from, void *arg)
{
    struct link *link = arg;
    struct bufferevent *to = from == link->client ? link->server : link->client;
    struct evbuffer *input = bufferevent_get_input(from);
    if (from == link->client)
        link_count(link, evbuffer_pullup(input, -1), evbuffer_get_length(input));
    if (to)
        bufferevent_write_buffer(to, bufferevent_get_input(from));
}

static inline void link_event(struct bufferevent *side, short what, void *arg)
{
    (void)side;
    if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
        link_free(arg);
}

static inline void way_path(struct sockaddr_un *address, const char *directory)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    const char *port = getenv("PGPORT");
    int length = snprintf(address->sun_path, sizeof address->sun_path, "%s/.s.PGSQL.%s", directory,
                          port ? port : "5432");
    assert_in_range(length, 1, sizeof address->sun_path - 1);
}

static inline void way_accept(struct evconnlistener *listener, evutil_socket_t fd,
                              struct sockaddr *from, int length, void *arg)
{
    (void)listener, (void)from, (void)length;
    struct way *way = arg;
    struct sockaddr_un address;
    way_path(&address, getenv("PGHOST"));
    struct event_base *base = loop_base(way->loop);
    struct link *link = mem_zalloc(sizeof *link);
    link->way = way;
    link->client = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
    link->server = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
    bufferevent_setcb(link->client, link_pass, NULL, link_event, link);
    bufferevent_setcb(link->server, link_pass, NULL, link_event, link);
    assert_int_equal(bufferevent_socket_connect(link->server, (struct sockaddr *)&address,
                                                sizeof address),
                     0);
    bufferevent_enable(link->client, EV_READ);
    if (!way->holding)
        bufferevent_enable(link->server, EV_READ);
    list_append(&way->links, &link->node);
    way->opened++;
}

static inline struct way *way_new(struct loop *loop)
{
    struct way *way = mem_zalloc(sizeof *way);
    way->loop = loop;
    list_init(&way->links);
    strcpy(way->directory, "/tmp/slway.XXXXXX");
    assert_non_null(mkdtemp(way->directory));
    struct sockaddr_un address;
    way_path(&address, way->directory);
    way->listener = evconnlistener_new_bind(loop_base(loop), way_accept, way, LEV_OPT_CLOSE_ON_FREE,
                                            -1, (struct sockaddr *)&address, sizeof address);
    assert_non_null(way->listener);
    return way;
}

// Answers wait from now on, or go on; what is sent to PostgreSQL passes.
static inline void way_hold(struct way *way, bool hold)
{
    way->holding = hold;
    list_each (node, &way->links) {
        struct link *link = list_entry(node, struct link, node);
        if (hold)
            bufferevent_disable(link->server, EV_READ);
        else
            bufferevent_enable(link->server, EV_READ);
    }
}

// What is sent to PostgreSQL over the connections of now waits, or goes on.
static inline void way_hold_requests(struct way *way, bool hold)
{
    list_each (node, &way->links) {
        struct link *link = list_entry(node, struct link, node);
        if (hold)
            bufferevent_disable(link->client, EV_READ);
        else
            bufferevent_enable(link->client, EV_READ);
    }
}

// The writer loses its connections, and so does PostgreSQL.
static inline void way_cut(struct way *way)
{
    list_each (node, &way->links)
        link_free(list_entry(node, struct link, node));
}

// The writer loses its connections; PostgreSQL does not hear of it.
static inline void way_cut_writer(struct way *way)
{
    list_each (node, &way->links) {
        struct link *link = list_entry(node, struct link, node);
        if (link->client)
            bufferevent_free(link->client);
        link->client = NULL;
    }
}

static inline void way_free(struct way *way)
{
    if (!way)
        return;
    way_cut(way);
    evconnlistener_free(way->listener);
    struct sockaddr_un address;
    way_path(&address, way->directory);
    unlink(address.sun_path);
    rmdir(way->directory);
    free(way);
}
