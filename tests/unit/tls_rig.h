// Certificates of every kind, and a server's connection that meets a client's over the loopback.
#pragma once

#include "conn_rig.h"

#include <sys/stat.h>

#include "base/worker.h"
#include "certificates.h"
#include "mqtt/tls.h"

// ---- files ----

// Made once for all tests of a program.
static struct {
    char directory[64];
    char *ca, *other_ca, *server, *server_key, *chained, *chained_key, *expired, *expired_key;
    char *elsewhere, *elsewhere_key, *alone, *alone_key, *client, *client_key;
    char *lost, *lost_key, *encrypted_key, *garbage, *none_revoked, *client_revoked;
    char *server_revoked, *old_list;
} files;

static inline struct identity make(const char *name, const char *alternative,
                                   const struct identity *ca, int expires_s)
{
    return identity_new(&(struct identity_options){.common_name = name,
                                                   .alternative_names = alternative,
                                                   .issuer = ca,
                                                   .expires_s = expires_s});
}

static inline struct identity make_authority(const char *name, const struct identity *issuer)
{
    return identity_new(
        &(struct identity_options){.common_name = name, .issuer = issuer, .authority = true});
}

static inline void write_pair(const char *name, struct identity *identity,
                              const struct identity *chain, char **certificate, char **key)
{
    char file[40];
    snprintf(file, sizeof file, "%s.pem", name);
    *certificate = identity_write(files.directory, file, identity, chain);
    snprintf(file, sizeof file, "%s.key", name);
    *key = identity_write_key(files.directory, file, identity, NULL);
}

#define LOCAL "DNS:localhost,DNS:*.site.example,IP:127.0.0.1,IP:::1"

static inline int make_files(void **state)
{
    (void)state;
    const char *where = files.directory;
    strcpy(files.directory, "/tmp/test_tls.XXXXXX");
    assert_non_null(mkdtemp(files.directory));
    struct identity ca = make_authority("Test CA", NULL), other = make_authority("Other CA", NULL);
    struct identity middle = make_authority("Middle CA", &ca);
    struct identity server = make("server", LOCAL, &ca, 0), lost = make("lost", NULL, &ca, 0);
    struct identity chained = make("chained", LOCAL, &middle, 0);
    struct identity expired = make("expired", LOCAL, &ca, -60);
    struct identity elsewhere = make("localhost", "DNS:elsewhere.example,IP:192.0.2.1", &ca, 0);
    struct identity alone = make("localhost", LOCAL, NULL, 0);
    struct identity client = make("sensor 7", NULL, &ca, 0);
    files.ca = identity_write(where, "ca.pem", &ca, NULL);
    files.other_ca = identity_write(where, "other.pem", &other, NULL);
    write_pair("server", &server, NULL, &files.server, &files.server_key);
    write_pair("chained", &chained, &middle, &files.chained, &files.chained_key);
    write_pair("expired", &expired, NULL, &files.expired, &files.expired_key);
    write_pair("elsewhere", &elsewhere, NULL, &files.elsewhere, &files.elsewhere_key);
    write_pair("alone", &alone, NULL, &files.alone, &files.alone_key);
    write_pair("client", &client, NULL, &files.client, &files.client_key);
    write_pair("lost", &lost, NULL, &files.lost, &files.lost_key);
    files.encrypted_key = identity_write_key(where, "encrypted.key", &server, "secret");
    files.none_revoked = identity_write_revoked(where, "none.crl", &ca, NULL, 3600);
    files.client_revoked = identity_write_revoked(where, "lost.crl", &ca, &lost, 3600);
    files.server_revoked = identity_write_revoked(where, "server.crl", &ca, &server, 3600);
    files.old_list = identity_write_revoked(where, "old.crl", &ca, NULL, -60);
    files.garbage = mem_printf("%s/garbage", where);
    FILE *file = fopen(files.garbage, "w");
    fputs("-----BEGIN CERTIFICATE-----\nno such thing\n-----END CERTIFICATE-----\n", file);
    fclose(file);
    struct identity *all[] = {&ca,      &other,   &middle,    &server, &lost,
                              &chained, &expired, &elsewhere, &alone,  &client};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        identity_free(all[i]);
    return 0;
}

static inline int remove_files(void **state)
{
    (void)state;
    char **all[] = {&files.ca,
                    &files.other_ca,
                    &files.server,
                    &files.server_key,
                    &files.chained,
                    &files.chained_key,
                    &files.expired,
                    &files.expired_key,
                    &files.elsewhere,
                    &files.elsewhere_key,
                    &files.alone,
                    &files.alone_key,
                    &files.client,
                    &files.client_key,
                    &files.lost,
                    &files.lost_key,
                    &files.garbage,
                    &files.encrypted_key,
                    &files.none_revoked,
                    &files.old_list,
                    &files.client_revoked,
                    &files.server_revoked};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        unlink(*all[i]);
        free(*all[i]);
    }
    return rmdir(files.directory);
}

static inline struct tls *load(const struct tls_options *options)
{
    char *error;
    struct tls *tls = tls_new(options, &error);
    if (!tls)
        print_message("%s\n", error);
    assert_non_null(tls);
    return tls;
}

// ---- a server's connection and a client's ----

struct pair {
    struct rig server, client; // one loop
    struct worker *worker;
    int listener;
    uint16_t port;
};

static inline int set_up(void **state)
{
    struct pair *pair = mem_zalloc(sizeof *pair);
    pair->server.loop = pair->client.loop = loop_new();
    pair->server.peer = pair->client.peer = -1;
    pair->worker = worker_new(pair->server.loop, 1);
    pair->listener = rig_bind(&pair->port);
    assert_int_equal(listen(pair->listener, 5), 0);
    *state = pair;
    return 0;
}

static inline void hang_up(struct rig *rig)
{
    conn_free(rig->conn);
    if (rig->peer >= 0)
        close(rig->peer);
    *rig = (struct rig){.loop = rig->loop, .peer = -1};
}

static inline int tear_down(void **state)
{
    struct pair *pair = *state;
    hang_up(&pair->server);
    hang_up(&pair->client);
    close(pair->listener);
    worker_free(pair->worker);
    loop_free(pair->server.loop);
    free(pair);
    return 0;
}

static inline void turn(struct pair *pair)
{
    event_base_loop(loop_base(pair->server.loop), EVLOOP_ONCE | EVLOOP_NONBLOCK);
}

static inline int accept_one(struct pair *pair)
{
    int fd = -1;
    alarm(30);
    while ((fd = accept4(pair->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) < 0)
        turn(pair);
    alarm(0);
    return fd;
}

static inline void wait_for(struct pair *pair, struct rig *rig, const char *text)
{
    alarm(30);
    while (!strstr(rig->seen, text))
        turn(pair);
    alarm(0);
}

// Connects as a client with these options to a server with these.
static inline void meet_with(struct pair *pair, const struct conn_transport *server,
                             const struct conn_transport *client, const char *host)
{
    hang_up(&pair->server);
    hang_up(&pair->client);
    rig_renew(&pair->client);
    conn_connect(pair->client.conn, pair->worker, host, pair->port, client);
    rig_renew(&pair->server);
    conn_attach(pair->server.conn, accept_one(pair), server);
}

static inline void meet(struct pair *pair, const struct tls_options *server,
                        const struct tls_options *client, const char *host)
{
    struct conn_transport at_server = {.tls = load(server)}, at_client = {.tls = load(client)};
    meet_with(pair, &at_server, &at_client, host);
    tls_free(at_server.tls); // the connections keep theirs
    tls_free(at_client.tls);
}

// Each end says something, and the other hears it.
static inline void expect_talk(struct pair *pair)
{
    wait_for(pair, &pair->client, "open");
    conn_write(pair->client.conn, (struct bytes){rig_three, RIG_THREE_SIZE});
    wait_for(pair, &pair->server, RIG_THREE);
    conn_write(pair->server.conn, (struct bytes){rig_three, RIG_THREE_SIZE});
    wait_for(pair, &pair->client, "open " RIG_THREE);
}

#define SERVER(...) (&(struct tls_options){.server = true, __VA_ARGS__})
#define CLIENT(...) (&(struct tls_options){__VA_ARGS__})
#define GOOD_SERVER SERVER(.certificate_file = files.server, .key_file = files.server_key)
#define GOOD_CLIENT CLIENT(.verify = true, .ca_file = files.ca)
