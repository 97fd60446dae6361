// TLS settings: certificates, keys and lists of revoked certificates, from files into an SSL_CTX.
#include "mqtt/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "mqtt/tls_internal.h"

enum { SOON_DAYS = 14 }; // in which an expiry is worth a warning

struct tls {
    SSL_CTX *context;
    unsigned holders;
    bool verify;
};

// What OpenSSL calls a protocol of ALPN: its length and its name.
static const char alpn_mqtt[] = "\4mqtt", alpn_http[] = "\10http/1.1";

// ---- files ----

// Whether there is nothing of the kind in the file, by OpenSSL's several ways to say so.
static bool holds_nothing(unsigned long code)
{
    int reason = ERR_GET_REASON(code);
    switch (ERR_GET_LIB(code)) {
    case ERR_LIB_PEM:
        return reason == PEM_R_NO_START_LINE;
    case ERR_LIB_X509:
        return reason == X509_R_NO_CERTIFICATE_OR_CRL_FOUND || reason == X509_R_NO_CRL_FOUND;
    default:
        return ERR_GET_LIB(code) == ERR_LIB_OSSL_DECODER || code == 0;
    }
}

// Why the file could not be loaded; takes what OpenSSL has to say.
static char *file_error(const char *path, const char *what)
{
    unsigned long code = ERR_peek_error();
    const char *reason = ERR_reason_error_string(code);
    ERR_clear_error();
    FILE *file = fopen(path, "re");
    if (!file && errno == EACCES)
        return mem_printf("%s: %s; let the user that the daemon runs as read it", path,
                          strerror(errno));
    if (!file)
        return mem_printf("%s: %s", path, strerror(errno));
    fclose(file);
    if (holds_nothing(code))
        return mem_printf("%s: holds no %s in PEM format", path, what);
    return mem_printf("%s: no valid %s: %s", path, what, reason ? reason : "unknown error");
}

// A password would have to be typed: nobody is there.
static int no_password(char *buffer, int size, int writing, void *asked)
{
    (void)buffer, (void)size, (void)writing;
    *(bool *)asked = true;
    return -1;
}

static char *load_key(SSL_CTX *context, const struct tls_options *options)
{
    bool asked = false;
    SSL_CTX_set_default_passwd_cb(context, no_password);
    SSL_CTX_set_default_passwd_cb_userdata(context, &asked);
    bool good = SSL_CTX_use_PrivateKey_file(context, options->key_file, SSL_FILETYPE_PEM) == 1 &&
                SSL_CTX_check_private_key(context) == 1;
    SSL_CTX_set_default_passwd_cb_userdata(context, NULL);
    if (good)
        return NULL;
    unsigned long code = ERR_peek_error();
    bool other = ERR_GET_LIB(code) == ERR_LIB_X509 || ERR_GET_LIB(code) == ERR_LIB_SSL;
    if (asked) {
        ERR_clear_error();
        return mem_printf("%s: the key is encrypted; store it without a password (openssl pkey), "
                          "readable for the daemon alone",
                          options->key_file);
    }
    if (other) {
        ERR_clear_error();
        return mem_printf("%s: the key does not belong to the certificate in %s", options->key_file,
                          options->certificate_file);
    }
    return file_error(options->key_file, "private key");
}

static char *load_certificate(SSL_CTX *context, const struct tls_options *options)
{
    if (!options->certificate_file && !options->key_file && !options->server)
        return NULL;
    if (!options->certificate_file)
        return mem_strdup("TLS needs a certificate: certificate_file is not given");
    if (!options->key_file)
        return mem_printf("%s: the certificate needs its key: key_file is not given",
                          options->certificate_file);
    if (SSL_CTX_use_certificate_chain_file(context, options->certificate_file) != 1)
        return file_error(options->certificate_file, "certificate");
    return load_key(context, options);
}

static char *load_authorities(SSL_CTX *context, const struct tls_options *options)
{
    if (!options->ca_file) {
        if (!options->server)
            SSL_CTX_set_default_verify_paths(context);
        return NULL;
    }
    if (SSL_CTX_load_verify_file(context, options->ca_file) != 1)
        return file_error(options->ca_file, "certificate");
    if (options->server) // clients are told whose certificates are asked for
        SSL_CTX_set_client_CA_list(context, SSL_load_client_CA_file(options->ca_file));
    return NULL;
}

// Only the peer's own certificate is looked up: authorities' lists are seldom at hand.
static char *load_revoked(SSL_CTX *context, const struct tls_options *options)
{
    if (!options->crl_file)
        return NULL;
    X509_STORE *store = SSL_CTX_get_cert_store(context);
    X509_LOOKUP *lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());
    if (X509_load_crl_file(lookup, options->crl_file, X509_FILETYPE_PEM) < 1)
        return file_error(options->crl_file, "list of revoked certificates");
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
    return NULL;
}

char *tls_expiry(const char *path)
{
    FILE *file = fopen(path, "re");
    X509 *certificate = file ? PEM_read_X509(file, NULL, no_password, &(bool){false}) : NULL;
    time_t now = time(NULL), soon = now + SOON_DAYS * 86400;
    const ASN1_TIME *end = certificate ? X509_get0_notAfter(certificate) : NULL;
    char *text = NULL, date[16];
    struct tm day;
    if (end && ASN1_TIME_to_tm(end, &day) == 1 && X509_cmp_time(end, &soon) < 0) {
        strftime(date, sizeof date, "%Y-%m-%d", &day);
        text = mem_printf("%s %s on %s: renew it and reload", path,
                          X509_cmp_time(end, &now) < 0 ? "has expired" : "expires", date);
    }
    X509_free(certificate);
    if (file)
        fclose(file);
    ERR_clear_error();
    return text;
}

// ---- settings ----

static int select_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_length,
                           const unsigned char *in, unsigned in_length, void *arg)
{
    (void)arg;
    const char *ours = SSL_get_app_data(ssl);
    unsigned char *found;
    if (SSL_select_next_proto(&found, out_length, (const unsigned char *)ours,
                              (unsigned)strlen(ours), in, in_length) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_NOACK;
    *out = found;
    return SSL_TLSEXT_ERR_OK;
}

static int verify_mode(const struct tls_options *options)
{
    if (!options->server)
        return options->verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE;
    if (options->clients == TLS_CLIENTS_NONE)
        return SSL_VERIFY_NONE;
    return options->clients == TLS_CLIENTS_REQUIRED
               ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT
               : SSL_VERIFY_PEER;
}

static SSL_CTX *context_new(const struct tls_options *options)
{
    SSL_CTX *context = SSL_CTX_new(options->server ? TLS_server_method() : TLS_client_method());
    if (!context)
        return NULL;
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    // No session is resumed: each connection's certificate is looked at, as it is now. A peer that
    // ends without saying so does not matter: MQTT has its own end.
    SSL_CTX_set_options(context,
                        SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_num_tickets(context, 0);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS); // most connections are idle
    SSL_CTX_set_verify(context, verify_mode(options), tls_verified);
    if (options->server)
        SSL_CTX_set_alpn_select_cb(context, select_protocol, NULL);
    return context;
}

static char *load(SSL_CTX *context, const struct tls_options *options)
{
    if (options->server && options->clients != TLS_CLIENTS_NONE && !options->ca_file)
        return mem_strdup("client certificates cannot be verified: ca_file is not given");
    char *error = load_certificate(context, options);
    if (!error)
        error = load_authorities(context, options);
    return error ? error : load_revoked(context, options);
}

struct tls *tls_new(const struct tls_options *options, char **error)
{
    ERR_clear_error();
    SSL_CTX *context = context_new(options);
    *error = context ? load(context, options) : mem_strdup("OpenSSL does not start");
    if (*error) {
        SSL_CTX_free(context);
        return NULL;
    }
    struct tls *tls = mem_alloc(sizeof *tls);
    *tls = (struct tls){.context = context, .holders = 1, .verify = options->verify};
    return tls;
}

struct tls *tls_hold(struct tls *tls)
{
    tls->holders++;
    return tls;
}

void tls_free(struct tls *tls)
{
    if (!tls || --tls->holders > 0)
        return;
    SSL_CTX_free(tls->context);
    free(tls);
}

// ---- sessions ----

// IPv6 addresses may have a zone, which no certificate knows.
static void expect_host(SSL *ssl, const char *host, bool verify)
{
    X509_VERIFY_PARAM *expected = SSL_get0_param(ssl);
    char name[256];
    struct in6_addr address;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(host, "%"), host);
    bool numeric =
        inet_pton(AF_INET, name, &address) == 1 || inet_pton(AF_INET6, name, &address) == 1;
    if (!numeric)
        SSL_set_tlsext_host_name(ssl, name);
    if (!verify)
        return;
    X509_VERIFY_PARAM_set_hostflags(expected, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (numeric)
        X509_VERIFY_PARAM_set1_ip_asc(expected, name);
    else
        X509_VERIFY_PARAM_set1_host(expected, name, 0);
}

struct ssl_st *tls_session(struct tls *tls, const char *host, bool websocket)
{
    const char *protocol = websocket ? alpn_http : alpn_mqtt;
    SSL *ssl = SSL_new(tls->context);
    if (!ssl)
        abort(); // out of memory
    if (host) {
        expect_host(ssl, host, tls->verify);
        SSL_set_alpn_protos(ssl, (const unsigned char *)protocol, (unsigned)strlen(protocol));
    } else {
        SSL_set_app_data(ssl, (char *)protocol);
    }
    return ssl;
}
