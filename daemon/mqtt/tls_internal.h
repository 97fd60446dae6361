// What the files of TLS share; nobody else includes it.
#pragma once

#include <openssl/x509_vfy.h>

#include "mqtt/tls.h"

// OpenSSL's verification calls it for each certificate: keeps the name of a peer that fails.
int tls_verified(int good, X509_STORE_CTX *verification);
