// TLS: whose certificate is good, and why another is not. Both ends are ours.
#include "tls_rig.h"

#include <signal.h>

static void a_good_server_is_accepted(void **state)
{
    struct pair *pair = *state;
    meet(pair, GOOD_SERVER, GOOD_CLIENT, "localhost");
    expect_talk(pair);
    assert_null(conn_peer_name(pair->server.conn));
    assert_string_equal(conn_peer_name(pair->client.conn), "server");
    meet(pair, GOOD_SERVER, GOOD_CLIENT, "127.0.0.1");
    expect_talk(pair);
    meet(pair, SERVER(.certificate_file = files.chained, .key_file = files.chained_key),
         GOOD_CLIENT, "localhost");
    expect_talk(pair);
    meet(pair, GOOD_SERVER,
         CLIENT(.verify = true, .ca_file = files.ca, .crl_file = files.none_revoked), "localhost");
    expect_talk(pair);
}

// The client says why; the server hears an alert, or the end.
static void expect_refusal(struct pair *pair, const struct tls_options *server,
                           const struct tls_options *client, const char *host, const char *why)
{
    meet(pair, server, client, host);
    wait_for(pair, &pair->client, "closed");
    rig_expect(&pair->client, "closed");
    assert_string_equal(pair->client.why, why);
    wait_for(pair, &pair->server, "closed");
    rig_expect(&pair->server, "closed");
}

static void a_bad_server_is_refused_and_named(void **state)
{
    struct pair *pair = *state;
    struct tls_options *elsewhere =
        SERVER(.certificate_file = files.elsewhere, .key_file = files.elsewhere_key);
    struct tls_options *alone =
        SERVER(.certificate_file = files.alone, .key_file = files.alone_key);
    expect_refusal(pair, elsewhere, GOOD_CLIENT, "localhost",
                   "certificate of localhost: hostname mismatch");
    expect_refusal(pair, elsewhere, GOOD_CLIENT, "127.0.0.1",
                   "certificate of 127.0.0.1: IP address mismatch");
    expect_refusal(pair, SERVER(.certificate_file = files.expired, .key_file = files.expired_key),
                   GOOD_CLIENT, "localhost", "certificate of localhost: certificate has expired");
    expect_refusal(pair, alone, GOOD_CLIENT, "localhost",
                   "certificate of localhost: self-signed certificate (is its issuer in ca_file?)");
    expect_refusal(
        pair, GOOD_SERVER, CLIENT(.verify = true, .ca_file = files.other_ca), "localhost",
        "certificate of localhost: unable to get local issuer certificate (is its issuer "
        "in ca_file?)");
    expect_refusal(
        pair, GOOD_SERVER, CLIENT(.verify = true), "localhost", // the system's
        "certificate of localhost: unable to get local issuer certificate (is its issuer "
        "in ca_file?)");
    expect_refusal(pair, GOOD_SERVER,
                   CLIENT(.verify = true, .ca_file = files.ca, .crl_file = files.server_revoked),
                   "localhost", "certificate of localhost: certificate revoked");
    expect_refusal(pair, GOOD_SERVER,
                   CLIENT(.verify = true, .ca_file = files.ca, .crl_file = files.old_list),
                   "localhost", "certificate of localhost: CRL has expired (fetch a new crl_file)");
    expect_refusal(pair, SERVER(.certificate_file = files.chained, .key_file = files.chained_key),
                   CLIENT(.verify = true, .ca_file = files.ca, .crl_file = files.none_revoked),
                   "localhost",
                   "certificate of localhost: unable to get certificate CRL (crl_file has none of "
                   "its issuer)");
}

static void without_verification_any_server_is_accepted(void **state)
{
    struct pair *pair = *state;
    meet(pair, SERVER(.certificate_file = files.expired, .key_file = files.expired_key),
         CLIENT(.verify = false), "localhost");
    expect_talk(pair);
    assert_null(conn_peer_name(pair->client.conn)); // it is not known who that is
}

#define ASKING(level, ...)                                                                         \
    SERVER(.certificate_file = files.server, .key_file = files.server_key, .ca_file = files.ca,    \
           .clients = (level), __VA_ARGS__)
#define SHOWING(certificate, key)                                                                  \
    CLIENT(.verify = true, .ca_file = files.ca, .certificate_file = (certificate),                 \
           .key_file = (key))

static void clients_are_known_by_their_certificates(void **state)
{
    struct pair *pair = *state;
    for (enum tls_clients level = TLS_CLIENTS_OPTIONAL; level <= TLS_CLIENTS_REQUIRED; level++) {
        meet(pair, ASKING(level, .crl_file = files.client_revoked),
             SHOWING(files.client, files.client_key), "localhost");
        expect_talk(pair);
        assert_string_equal(conn_peer_name(pair->server.conn), "sensor 7");
    }
    meet(pair, ASKING(TLS_CLIENTS_OPTIONAL, .crl_file = files.client_revoked), GOOD_CLIENT,
         "localhost");
    expect_talk(pair);
    assert_null(conn_peer_name(pair->server.conn));
    // Nobody asked: what is shown counts for nothing.
    meet(pair, GOOD_SERVER, SHOWING(files.client, files.client_key), "localhost");
    expect_talk(pair);
    assert_null(conn_peer_name(pair->server.conn));
}

// With TLS 1.3 the client learns of it after its own handshake.
static void expect_client_refused(struct pair *pair, const struct tls_options *server,
                                  const struct tls_options *client, const char *why,
                                  const char *alert)
{
    meet(pair, server, client, "localhost");
    wait_for(pair, &pair->server, "closed");
    rig_expect(&pair->server, "closed");
    assert_string_equal(pair->server.why, why);
    conn_free(pair->server.conn);
    pair->server.conn = NULL;
    wait_for(pair, &pair->client, "closed");
    assert_non_null(strstr(pair->client.why, alert));
}

static void bad_clients_are_refused_and_named(void **state)
{
    struct pair *pair = *state;
    for (enum tls_clients level = TLS_CLIENTS_OPTIONAL; level <= TLS_CLIENTS_REQUIRED; level++) {
        expect_client_refused(pair, ASKING(level, .crl_file = files.client_revoked),
                              SHOWING(files.lost, files.lost_key),
                              "certificate of client lost: certificate revoked", "revoked");
        expect_client_refused(pair, ASKING(level, .crl_file = NULL),
                              SHOWING(files.expired, files.expired_key),
                              "certificate of client expired: certificate has expired", "expired");
        expect_client_refused(pair, ASKING(level, .crl_file = files.old_list),
                              SHOWING(files.client, files.client_key),
                              "certificate of client sensor 7: CRL has expired (fetch a new "
                              "crl_file)",
                              "expired");
        expect_client_refused(pair, ASKING(level, .crl_file = NULL),
                              SHOWING(files.alone, files.alone_key),
                              "certificate of client localhost: self-signed certificate (is its "
                              "issuer in ca_file?)",
                              "unknown ca");
    }
    expect_client_refused(pair, ASKING(TLS_CLIENTS_REQUIRED, .crl_file = NULL), GOOD_CLIENT,
                          "TLS: the client shows no certificate", "certificate required");
}

static void a_certificate_that_its_peer_refuses_is_ours_to_renew(void **state)
{
    struct pair *pair = *state;
    meet(pair, SERVER(.certificate_file = files.expired, .key_file = files.expired_key),
         GOOD_CLIENT, "localhost");
    wait_for(pair, &pair->server, "closed");
    assert_string_equal(pair->server.why, "TLS: the client does not accept our certificate "
                                          "(expired): renew certificate_file");
    expect_client_refused(pair, ASKING(TLS_CLIENTS_REQUIRED, .crl_file = NULL),
                          SHOWING(files.expired, files.expired_key),
                          "certificate of client expired: certificate has expired",
                          "TLS: the server does not accept our certificate (expired): renew");
}

static void expiry_is_foreseen(void **state)
{
    (void)state;
    static const struct {
        int expires_s;
        const char *said; // NULL: nothing
    } cases[] = {
        {-3600, "has expired on 2"},
        {3600, "expires on 2"},
        {14 * 86400 - 60, "expires on 2"},
        {14 * 86400 + 60, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct identity one = identity_new(
            &(struct identity_options){.common_name = "one", .expires_s = cases[i].expires_s});
        char *path = identity_write(files.directory, "expiring", &one, NULL);
        char *text = tls_expiry(path);
        assert_true(cases[i].said ? text && strstr(text, cases[i].said) &&
                                        strncmp(text, path, strlen(path)) == 0 &&
                                        strstr(text, ": renew it and reload")
                                  : !text);
        free(text);
        unlink(path);
        free(path);
        identity_free(&one);
    }
    assert_null(tls_expiry(files.garbage));
    assert_null(tls_expiry("/nonexistent"));
}

// ---- files that are no good ----

static void expect_error(const struct tls_options *options, const char *path, const char *text)
{
    char *error, *expected = path ? mem_printf("%s: %s", path, text) : mem_strdup(text);
    assert_null(tls_new(options, &error));
    assert_string_equal(error, expected);
    free(error);
    free(expected);
}

static void files_that_are_no_good_are_named(void **state)
{
    (void)state;
    char *missing = mem_printf("%s/missing", files.directory);
    expect_error(SERVER(.certificate_file = missing, .key_file = files.server_key), missing,
                 "No such file or directory");
    expect_error(SERVER(.certificate_file = files.server, .key_file = missing), missing,
                 "No such file or directory");
    expect_error(CLIENT(.ca_file = missing), missing, "No such file or directory");
    expect_error(CLIENT(.crl_file = missing), missing, "No such file or directory");
    expect_error(SERVER(.certificate_file = files.server_key, .key_file = files.server_key),
                 files.server_key, "holds no certificate in PEM format");
    expect_error(SERVER(.certificate_file = files.server, .key_file = files.server), files.server,
                 "holds no private key in PEM format");
    expect_error(CLIENT(.ca_file = files.server_key), files.server_key,
                 "holds no certificate in PEM format");
    expect_error(CLIENT(.crl_file = files.ca), files.ca,
                 "holds no list of revoked certificates in PEM format");
    expect_error(SERVER(.certificate_file = files.garbage, .key_file = files.server_key),
                 files.garbage, "no valid certificate: bad base64 decode");
    expect_error(SERVER(.certificate_file = files.server, .key_file = files.encrypted_key),
                 files.encrypted_key,
                 "the key is encrypted; store it without a password (openssl pkey), readable for "
                 "the daemon alone");
    char *text = mem_printf("the key does not belong to the certificate in %s", files.server);
    expect_error(SERVER(.certificate_file = files.server, .key_file = files.client_key),
                 files.client_key, text);
    free(text);
    expect_error(SERVER(.key_file = files.server_key), NULL,
                 "TLS needs a certificate: certificate_file is not given");
    expect_error(CLIENT(.certificate_file = files.client), files.client,
                 "the certificate needs its key: key_file is not given");
    expect_error(SERVER(.certificate_file = files.server, .key_file = files.server_key,
                        .clients = TLS_CLIENTS_OPTIONAL),
                 NULL, "client certificates cannot be verified: ca_file is not given");
    free(missing);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_certificate_that_its_peer_refuses_is_ours_to_renew),
        TEST(expiry_is_foreseen),
        TEST(a_good_server_is_accepted),
        TEST(a_bad_server_is_refused_and_named),
        TEST(without_verification_any_server_is_accepted),
        TEST(clients_are_known_by_their_certificates),
        TEST(bad_clients_are_refused_and_named),
        cmocka_unit_test(files_that_are_no_good_are_named),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
