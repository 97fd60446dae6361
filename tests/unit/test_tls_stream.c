// The stream over TLS is whole, whoever is at the other end.
#include "tls_rig.h"

#include <openssl/ssl.h>
#include <signal.h>

// ---- the stream ----

// Megabytes both ways at once, one end held now and then; then the ends, in order.
static void a_stream_over_tls_is_whole(void **state)
{
    struct pair *pair = *state;
    const size_t count = 400, size = 50000;
    uint8_t *bytes = mem_zalloc(size);
    meet(pair, GOOD_SERVER, GOOD_CLIENT, "localhost");
    expect_talk(pair);
    pair->server.packets = pair->client.packets = 0;
    struct bytes_writer w = bytes_writer(bytes, size);
    bytes_write_u8(&w, 0x30);
    bytes_write_varint(&w, size - 4);
    pair->server.hold_at = 7;
    for (size_t i = 0; i < count; i++) {
        conn_write(pair->client.conn, (struct bytes){bytes, size});
        conn_write(pair->server.conn, (struct bytes){bytes, size});
    }
    alarm(60);
    while (pair->server.packets < count || pair->client.packets < count) {
        turn(pair);
        if (strstr(pair->server.seen, "held")) {
            assert_int_equal(pair->server.packets, pair->server.hold_at - 1);
            pair->server.hold_at =
                pair->server.hold_at < count - 50 ? pair->server.hold_at + 50 : 0;
            conn_resume(pair->server.conn);
        }
        pair->server.seen[0] = pair->client.seen[0] = '\0';
    }
    alarm(0);
    assert_int_equal(conn_unsent(pair->client.conn), 0);
    free(bytes);
}

static void what_was_written_arrives_before_the_end(void **state)
{
    struct pair *pair = *state;
    size_t size = 3 * 1024 * 1024;
    uint8_t *bytes = mem_zalloc(size);
    struct bytes_writer w = bytes_writer(bytes, size);
    bytes_write_u8(&w, 0x30);
    bytes_write_varint(&w, size - 5);
    meet(pair, GOOD_SERVER, GOOD_CLIENT, "localhost");
    wait_for(pair, &pair->client, "open");
    pair->client.tells_drained = true;
    conn_write(pair->client.conn, (struct bytes){bytes, size});
    assert_int_equal(conn_unsent(pair->client.conn), size);
    conn_write(pair->client.conn, bytes_of("\xE0")); // DISCONNECT
    conn_write(pair->client.conn, (struct bytes){(const uint8_t *)"", 1});
    conn_finish(pair->client.conn);
    wait_for(pair, &pair->server, "closed");
    rig_expect(&pair->server, "PUBLISH 1000/3145723 DISCONNECT 0/0 closed");
    assert_string_equal(pair->server.why, "closed by the peer");
    conn_free(pair->server.conn);
    pair->server.conn = NULL;
    wait_for(pair, &pair->client, "closed");
    rig_expect(&pair->client, "open closed");
    free(bytes);
}

// What was written before has just left when the last word and the end are queued.
static void the_last_word_is_not_overtaken_by_the_end(void **state)
{
    struct pair *pair = *state;
    meet(pair, GOOD_SERVER, GOOD_CLIENT, "localhost");
    expect_talk(pair);
    pair->server.seen[0] = '\0';
    conn_write(pair->client.conn, bytes_of("\xC0")); // PINGREQ
    turn(pair);
    conn_write(pair->client.conn, (struct bytes){(const uint8_t *)"\0\xE0", 3});
    conn_finish(pair->client.conn);
    wait_for(pair, &pair->server, "closed");
    rig_expect(&pair->server, "PINGREQ 0/0 DISCONNECT 0/0 closed");
}

static void drained_comes_when_tls_has_sent_all(void **state)
{
    struct pair *pair = *state;
    meet(pair, GOOD_SERVER, GOOD_CLIENT, "localhost");
    wait_for(pair, &pair->client, "open");
    pair->client.tells_drained = true;
    conn_write(pair->client.conn, (struct bytes){rig_three, RIG_THREE_SIZE});
    assert_int_equal(conn_unsent(pair->client.conn), RIG_THREE_SIZE);
    wait_for(pair, &pair->client, "drained");
    assert_int_equal(conn_unsent(pair->client.conn), 0);
}

// TLS and WebSocket at once.
static void websocket_goes_over_tls(void **state)
{
    struct pair *pair = *state;
    struct conn_transport server = {.tls = load(GOOD_SERVER), .websocket = true};
    struct conn_transport client = {.tls = load(GOOD_CLIENT), .websocket = true, .path = "/x"};
    meet_with(pair, &server, &client, "localhost");
    tls_free(server.tls);
    tls_free(client.tls);
    expect_talk(pair);
    conn_finish(pair->server.conn);
    wait_for(pair, &pair->client, "closed");
    assert_string_equal(pair->client.why, "closed by the peer");
}

// ---- strangers ----

static void who_speaks_no_tls_is_told_apart(void **state)
{
    struct pair *pair = *state;
    struct conn_transport server = {.tls = load(GOOD_SERVER)}, client = {.tls = load(GOOD_CLIENT)};
    static const char *const strangers[] = {"\x10\x0C---MQTT CONNECT---", "GET / HTTP/1.1\r\n\r\n"};
    for (size_t i = 0; i < 2; i++) {
        meet_with(pair, &server, NULL, "127.0.0.1");
        wait_for(pair, &pair->client, "open");
        conn_write(pair->client.conn, bytes_of(strangers[i]));
        wait_for(pair, &pair->server, "closed");
        rig_expect(&pair->server, "closed");
        assert_string_equal(pair->server.why, "the peer does not speak TLS on this port");
    }
    meet_with(pair, NULL, &client, "127.0.0.1");
    wait_for(pair, &pair->server, "malformed");
    conn_write(pair->server.conn, bytes_of("\x20\2CONNACK"));
    wait_for(pair, &pair->client, "closed");
    assert_string_equal(pair->client.why, "the peer does not speak TLS on this port");
    tls_free(server.tls);
    tls_free(client.tls);
}

// A port that takes no more connections: those that come wait in the kernel.
static int listen_and_fill(struct pair *pair, uint16_t *port, struct rig fill[2])
{
    int socket = rig_bind(port);
    assert_int_equal(listen(socket, 0), 0);
    for (int i = 0; i < 2; i++) {
        fill[i] = (struct rig){.loop = pair->client.loop, .peer = -1};
        rig_renew(&fill[i]);
        conn_connect(fill[i].conn, pair->worker, "127.0.0.1", *port, NULL);
    }
    wait_for(pair, &fill[0], "open");
    return socket;
}

// Ten seconds for each step; all three at once.
static void a_server_that_says_nothing_is_given_up(void **state)
{
    struct pair *pair = *state;
    struct conn_transport tls = {.tls = load(GOOD_CLIENT)}, websocket = {.websocket = true};
    struct rig over_websocket = {.loop = pair->client.loop, .peer = -1}, third = over_websocket;
    struct rig fill[2];
    uint16_t full;
    int full_socket = listen_and_fill(pair, &full, fill);
    rig_renew(&pair->client);
    rig_renew(&over_websocket);
    rig_renew(&third);
    conn_connect(pair->client.conn, pair->worker, "127.0.0.1", pair->port, &tls);
    conn_connect(over_websocket.conn, pair->worker, "127.0.0.1", pair->port, &websocket);
    conn_connect(third.conn, pair->worker, "127.0.0.1", full, &tls);
    wait_for(pair, &pair->client, "closed");
    wait_for(pair, &over_websocket, "closed");
    wait_for(pair, &third, "closed");
    assert_string_equal(pair->client.why, "no TLS handshake within 10 s");
    assert_string_equal(over_websocket.why, "no WebSocket handshake within 10 s");
    assert_string_equal(third.why, "no connection within 10 s");
    struct rig *rigs[] = {&over_websocket, &third, &fill[0], &fill[1]};
    for (size_t i = 0; i < 4; i++)
        hang_up(rigs[i]);
    close(full_socket);
    tls_free(tls.tls);
}

// A client of OpenSSL's own, not ours. Its protocol is that of ALPN, as OpenSSL writes it, or NULL.
struct stranger {
    SSL_CTX *context;
    SSL *ssl;
    int fd;
};

static struct stranger stranger_meets(struct pair *pair, const struct conn_transport *server,
                                      const char *protocols, int version)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(pair->port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct stranger stranger = {.context = SSL_CTX_new(TLS_client_method()),
                                .fd = socket(AF_INET, SOCK_STREAM, 0)};
    SSL_CTX_set_security_level(stranger.context, 0); // what is old too
    SSL_CTX_set_max_proto_version(stranger.context, version);
    stranger.ssl = SSL_new(stranger.context);
    if (protocols)
        SSL_set_alpn_protos(stranger.ssl, (const unsigned char *)protocols,
                            (unsigned)strlen(protocols));
    assert_int_equal(connect(stranger.fd, (struct sockaddr *)&address, sizeof address), 0);
    evutil_make_socket_nonblocking(stranger.fd);
    SSL_set_fd(stranger.ssl, stranger.fd);
    hang_up(&pair->server);
    rig_renew(&pair->server);
    conn_attach(pair->server.conn, accept_one(pair), server);
    alarm(30);
    for (int result = 0; result != 1 && !strstr(pair->server.seen, "closed"); turn(pair))
        result = SSL_connect(stranger.ssl);
    alarm(0);
    return stranger;
}

static void stranger_free(struct stranger *stranger)
{
    SSL_free(stranger->ssl);
    SSL_CTX_free(stranger->context);
    if (stranger->fd >= 0)
        close(stranger->fd);
}

static const struct {
    const char *offered;
    bool websocket;
    const char *selected;
} protocols[] = {
    {"\4mqtt", false, "mqtt"},      {"\3foo\4mqtt", false, "mqtt"},
    {"\3foo", false, ""},           {NULL, false, ""},
    {"\4mqtt", true, ""},           {"\10http/1.1", true, "http/1.1"},
    {"\2h2\10http/1.1", false, ""},
};

static void the_protocol_is_agreed_on_where_it_is_offered(void **state)
{
    struct pair *pair = *state;
    for (size_t i = 0; i < sizeof protocols / sizeof *protocols; i++) {
        struct conn_transport server = {.tls = load(GOOD_SERVER),
                                        .websocket = protocols[i].websocket};
        struct stranger stranger =
            stranger_meets(pair, &server, protocols[i].offered, TLS1_3_VERSION);
        const unsigned char *selected;
        unsigned length;
        assert_int_equal(SSL_is_init_finished(stranger.ssl), 1);
        SSL_get0_alpn_selected(stranger.ssl, &selected, &length);
        assert_int_equal(length, strlen(protocols[i].selected));
        assert_memory_equal(selected, protocols[i].selected, length);
        stranger_free(&stranger);
        tls_free(server.tls);
    }
}

static void old_versions_are_refused(void **state)
{
    struct pair *pair = *state;
    struct conn_transport server = {.tls = load(GOOD_SERVER)};
    struct stranger new = stranger_meets(pair, &server, NULL, TLS1_2_VERSION);
    assert_int_equal(SSL_is_init_finished(new.ssl), 1);
    stranger_free(&new);
    struct stranger old = stranger_meets(pair, &server, NULL, TLS1_1_VERSION);
    assert_int_equal(SSL_is_init_finished(old.ssl), 0);
    assert_string_equal(pair->server.why, "TLS: unsupported protocol");
    stranger_free(&old);
    tls_free(server.tls);
}

// Sensors lose their power: a stream that just ends is an end like any other.
static void an_end_without_goodbye_is_an_end(void **state)
{
    struct pair *pair = *state;
    struct conn_transport server = {.tls = load(GOOD_SERVER)};
    struct stranger stranger = stranger_meets(pair, &server, NULL, TLS1_3_VERSION);
    assert_int_equal(SSL_write(stranger.ssl, rig_three, RIG_THREE_SIZE), RIG_THREE_SIZE);
    close(stranger.fd);
    stranger.fd = -1;
    wait_for(pair, &pair->server, "closed");
    rig_expect(&pair->server, RIG_THREE " closed");
    assert_string_equal(pair->server.why, "closed by the peer");
    stranger_free(&stranger);
    tls_free(server.tls);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_stream_over_tls_is_whole),
        TEST(what_was_written_arrives_before_the_end),
        TEST(the_last_word_is_not_overtaken_by_the_end),
        TEST(drained_comes_when_tls_has_sent_all),
        TEST(websocket_goes_over_tls),
        TEST(who_speaks_no_tls_is_told_apart),
        TEST(a_server_that_says_nothing_is_given_up),
        TEST(the_protocol_is_agreed_on_where_it_is_offered),
        TEST(old_versions_are_refused),
        TEST(an_end_without_goodbye_is_an_end),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
