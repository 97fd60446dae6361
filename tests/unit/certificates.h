// Certificates for tests, made on the spot: authorities, servers, clients, lists of revoked ones.
#pragma once

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct identity {
    EVP_PKEY *key;
    X509 *certificate;
};

struct identity_options {
    const char *common_name;
    const char *alternative_names; // "DNS:localhost,IP:127.0.0.1", or NULL
    const struct identity *issuer; // NULL: it signs itself
    int expires_s;                 // from now; 0: in an hour
    bool authority;
};

static inline void identity_extend(X509 *certificate, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
}

static inline struct identity identity_new(const struct identity_options *options)
{
    static long serial = 100;
    struct identity made = {EVP_EC_gen("P-256"), X509_new()};
    X509 *certificate = made.certificate;
    const struct identity *issuer = options->issuer ? options->issuer : &made;
    X509_NAME *name = X509_get_subject_name(certificate);
    X509_set_version(certificate, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial++);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -7200);
    X509_gmtime_adj(X509_getm_notAfter(certificate),
                    options->expires_s ? options->expires_s : 3600);
    X509_set_pubkey(certificate, made.key);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                               (const unsigned char *)options->common_name, -1, -1, 0);
    X509_set_issuer_name(certificate, X509_get_subject_name(issuer->certificate));
    if (options->authority)
        identity_extend(certificate, issuer->certificate, NID_basic_constraints,
                        "critical,CA:TRUE");
    if (options->alternative_names)
        identity_extend(certificate, issuer->certificate, NID_subject_alt_name,
                        options->alternative_names);
    X509_sign(certificate, issuer->key, EVP_sha256());
    return made;
}

static inline void identity_free(struct identity *identity)
{
    EVP_PKEY_free(identity->key);
    X509_free(identity->certificate);
}

// Its certificate, and behind it that of chain unless NULL, into a new file; the caller frees the
// path.
static inline char *identity_write(const char *directory, const char *name,
                                   const struct identity *identity, const struct identity *chain)
{
    char *path = mem_printf("%s/%s", directory, name);
    FILE *file = fopen(path, "w");
    PEM_write_X509(file, identity->certificate);
    if (chain)
        PEM_write_X509(file, chain->certificate);
    fclose(file);
    return path;
}

// Its key, encrypted where there is a password.
static inline char *identity_write_key(const char *directory, const char *name,
                                       const struct identity *identity, const char *password)
{
    char *path = mem_printf("%s/%s", directory, name);
    FILE *file = fopen(path, "w");
    PEM_write_PrivateKey(file, identity->key, password ? EVP_aes_128_cbc() : NULL,
                         (const unsigned char *)password, password ? (int)strlen(password) : 0,
                         NULL, NULL);
    fclose(file);
    return path;
}

// The authority's list of revoked certificates, of one or none, to be renewed in so many seconds.
static inline char *identity_write_revoked(const char *directory, const char *name,
                                           const struct identity *authority,
                                           const struct identity *revoked, int expires_s)
{
    char *path = mem_printf("%s/%s", directory, name);
    X509_CRL *list = X509_CRL_new();
    ASN1_TIME *time = X509_gmtime_adj(NULL, -3600);
    X509_CRL_set_version(list, X509_CRL_VERSION_2);
    X509_CRL_set_issuer_name(list, X509_get_subject_name(authority->certificate));
    X509_CRL_set1_lastUpdate(list, time);
    if (revoked) {
        X509_REVOKED *entry = X509_REVOKED_new();
        X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(revoked->certificate));
        X509_REVOKED_set_revocationDate(entry, time);
        X509_CRL_add0_revoked(list, entry);
    }
    X509_gmtime_adj(time, expires_s);
    X509_CRL_set1_nextUpdate(list, time);
    X509_CRL_sign(list, authority->key, EVP_sha256());
    FILE *file = fopen(path, "w");
    PEM_write_X509_CRL(file, list);
    fclose(file);
    ASN1_TIME_free(time);
    X509_CRL_free(list);
    return path;
}
