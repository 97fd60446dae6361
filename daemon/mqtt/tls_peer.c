// What TLS knows of the peer: who it is, and why it was not accepted.
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "mqtt/tls_internal.h"

static char *common_name(const X509 *certificate)
{
    X509_NAME *subject = X509_get_subject_name(certificate);
    int index = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    unsigned char *text = NULL;
    char *name = NULL;
    if (index < 0)
        return NULL;
    int length =
        ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, index)));
    if (length > 0 && strlen((char *)text) == (size_t)length) // a NUL within it would hide the rest
        name = mem_strdup((char *)text);
    OPENSSL_free(text);
    return name;
}

// Where an SSL keeps the name of the peer that failed: it has no certificate of it afterwards.
static int failed_name_index = -1;

static void free_name(void *parent, void *name, CRYPTO_EX_DATA *data, int index, long number,
                      void *pointer)
{
    (void)parent, (void)data, (void)index, (void)number, (void)pointer;
    free(name);
}

int tls_verified(int good, X509_STORE_CTX *verification)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(verification, SSL_get_ex_data_X509_STORE_CTX_idx());
    if (failed_name_index < 0)
        failed_name_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, free_name);
    if (!good && !SSL_get_ex_data(ssl, failed_name_index))
        SSL_set_ex_data(ssl, failed_name_index,
                        common_name(X509_STORE_CTX_get0_cert(verification)));
    return good;
}

char *tls_peer_name(const struct ssl_st *ssl)
{
    X509 *certificate = SSL_get0_peer_certificate(ssl);
    return certificate && SSL_get_verify_result(ssl) == X509_V_OK ? common_name(certificate) : NULL;
}

// What to do about it, or nothing.
static const char *advice(long result)
{
    switch (result) {
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        return " (is its issuer in ca_file?)";
    case X509_V_ERR_CRL_HAS_EXPIRED:
        return " (fetch a new crl_file)";
    case X509_V_ERR_UNABLE_TO_GET_CRL:
        return " (crl_file has none of its issuer)";
    case X509_V_ERR_CERT_NOT_YET_VALID:
    case X509_V_ERR_CRL_NOT_YET_VALID:
        return " (is the clock right?)";
    default:
        return "";
    }
}

static void explain_verification(const SSL *ssl, const char *host, long result, char *why,
                                 size_t size)
{
    const char *text = X509_verify_cert_error_string(result);
    const char *name = SSL_get_ex_data(ssl, failed_name_index);
    if (host)
        snprintf(why, size, "certificate of %s: %s%s", host, text, advice(result));
    else
        snprintf(why, size, "certificate of client %.60s: %s%s", name ? name : "without a name",
                 text, advice(result));
    log_clean(why);
}

void tls_explain(const struct ssl_st *ssl, const char *host, unsigned long error, char *why,
                 size_t size)
{
    int reason = ERR_GET_LIB(error) == ERR_LIB_SSL ? ERR_GET_REASON(error) : 0;
    const char *text = ERR_reason_error_string(error);
    long result = SSL_get_verify_result(ssl);
    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED && result != X509_V_OK)
        explain_verification(ssl, host, result, why, size);
    else if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
        snprintf(why, size, "TLS: the client shows no certificate");
    else if (reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_HTTP_REQUEST)
        snprintf(why, size, "the peer does not speak TLS on this port");
    else if (reason == SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED)
        snprintf(why, size,
                 "TLS: the %s does not accept our certificate (expired): renew certificate_file",
                 SSL_is_server(ssl) ? "client" : "server");
    else if (reason >= SSL_AD_REASON_OFFSET)
        snprintf(why, size, "TLS: the peer says '%s'%s", text ? text : "unknown alert",
                 reason == SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED ? " (give certificate_file)"
                                                                   : "");
    else
        snprintf(why, size, "TLS: %s", text ? text : "unknown error");
}
