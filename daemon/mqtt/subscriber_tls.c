// The subscriber's certificates: loaded before its first connection, and again when it is told to.
#include <stdlib.h>

#include "mqtt/subscriber_internal.h"

static struct tls *load(const struct subscriber_options *options, char **error)
{
    const struct tls_options files = {
        .ca_file = options->ca_file,
        .certificate_file = options->certificate_file,
        .key_file = options->key_file,
        .crl_file = options->crl_file,
        .verify = options->verify,
    };
    return tls_new(&files, error);
}

bool subscriber_tls_ready(struct subscriber *sub)
{
    char *error;
    if (!sub->options->tls || sub->tls)
        return true;
    sub->tls = load(sub->options, &error);
    if (sub->tls)
        return true;
    subscriber_lost(sub, LOG_LEVEL_ERROR, "%s", error);
    free(error);
    return false;
}

bool subscriber_reload_tls(struct subscriber *sub, const struct subscriber_options *options,
                           char **error)
{
    if (!options->tls)
        return true;
    struct tls *tls = load(options, error);
    if (!tls)
        return false;
    tls_free(sub->tls);
    sub->tls = tls;
    return true;
}
