// TLS by OpenSSL: what certificates and settings of a listener or a subscriber become.
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct tls; // counted: who opens connections holds it; connections keep theirs in any case
struct ssl_st;

enum tls_clients { TLS_CLIENTS_NONE, TLS_CLIENTS_OPTIONAL, TLS_CLIENTS_REQUIRED };

// Paths not owned; NULL: not given.
struct tls_options {
    bool server;
    const char *ca_file; // client: NULL is the system's; server: for clients' certificates
    const char *certificate_file, *key_file; // PEM, the certificate with its chain
    const char *crl_file;
    enum tls_clients clients; // server
    bool verify;              // client: the server's certificate and its name
};

// TLS 1.2 or later. NULL with *error ("FILE: why, what to do"), which the caller frees.
struct tls *tls_new(const struct tls_options *options, char **error);
struct tls *tls_hold(struct tls *tls);
void tls_free(struct tls *tls); // lets go
// A connection's SSL, owned by the caller; host (client): SNI and the name or address to verify.
// ALPN is "mqtt", that of a WebSocket "http/1.1"; a client without ALPN is served all the same.
struct ssl_st *tls_session(struct tls *tls, const char *host, bool websocket);

// Whether the certificate has expired, or does so within 14 days: "FILE expires on DATE: what to
// do", which the caller frees; else NULL, also where it cannot be read.
char *tls_expiry(const char *certificate_file);

// Why the stream failed, for people: error is OpenSSL's, host as above.
void tls_explain(const struct ssl_st *ssl, const char *host, unsigned long error, char *why,
                 size_t size);
// The Common Name of the peer's certificate, which the caller frees; NULL where there is none or it
// is not verified.
char *tls_peer_name(const struct ssl_st *ssl);
