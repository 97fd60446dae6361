// The keys of [broker].
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "broker/accounts.h"
#include "broker/acl.h"
#include "conf/listen.h"
#include "conf/pathflaw.h"
#include "conf/sections.h"
#include "mqtt/tls.h"

static char *listen_take(void *base, const char *value)
{
    struct broker_options *options = &((struct settings *)base)->broker;
    struct broker_listen *listens;
    size_t count;
    char *flaw = listen_list_parse(value, &listens, &count);
    if (flaw)
        return flaw;
    listen_list_free(options->listens, options->listen_count);
    options->listens = listens;
    options->listen_count = count;
    return NULL;
}

static void listen_print(const void *base, FILE *out)
{
    const struct broker_options *options = &((const struct settings *)base)->broker;
    fputs("listen =", out);
    for (size_t i = 0; i < options->listen_count; i++)
        fprintf(out, " %s", options->listens[i].text);
    putc('\n', out);
}

static char *password_file_flaw(const char *path)
{
    char *error = NULL;
    accounts_free(accounts_load(path, &error));
    return error;
}

static char *acl_file_flaw(const char *path)
{
    char *error = NULL;
    acl_free(acl_load(path, &error));
    return error;
}

#define OPTION(member) KEY_AT(struct settings, broker.member)
enum { DAY = 86400 };

static const struct key_word clients[] = {{"none", TLS_CLIENTS_NONE},
                                          {"optional", TLS_CLIENTS_OPTIONAL},
                                          {"required", TLS_CLIENTS_REQUIRED},
                                          {NULL, 0}};
static const struct key_word never[] = {{"never", UINT32_MAX}, {NULL, 0}};

// Bounds of memory are such that what is counted in bytes fits into 32 bits where it has to.
static const struct key keys[] = {
    {"listen", KEY_OWN, "mqtt://127.0.0.1:1883", .take = listen_take, .print = listen_print},
    {"allow_anonymous", KEY_BOOL, NULL, OPTION(allow_anonymous)},
    {"password_file", KEY_PATH, NULL, .may_be_empty = true, OPTION(password_file),
     .flaw = password_file_flaw},
    {"acl_file", KEY_PATH, NULL, .may_be_empty = true, OPTION(acl_file), .flaw = acl_file_flaw},
    {"state", KEY_PATH, NULL, .may_be_empty = true, OPTION(state)},
    {"ca_file", KEY_PATH, NULL, .may_be_empty = true, OPTION(ca_file), .flaw = pathflaw_file},
    {"certificate_file", KEY_PATH, NULL, .may_be_empty = true, OPTION(certificate_file),
     .flaw = pathflaw_file},
    {"key_file", KEY_PATH, NULL, .may_be_empty = true, OPTION(key_file), .flaw = pathflaw_file},
    {"crl_file", KEY_PATH, NULL, .may_be_empty = true, OPTION(crl_file), .flaw = pathflaw_file},
    {"client_certificates", KEY_WORD, "none", OPTION(client_certificates), .words = clients},
    {"certificate_as_username", KEY_BOOL, "false", OPTION(certificate_as_username)},
    {"connections", KEY_NUMBER, "10000", OPTION(connections), .min = 1, .max = 1000000},
    {"connect_timeout", KEY_SECONDS, "10s", OPTION(connect_timeout), .min = 1, .max = 3600},
    {"packet_size", KEY_BYTES, "1MiB", OPTION(packet_size), .min = 1 << 10, .max = 256 << 20},
    {"window", KEY_NUMBER, "20", OPTION(window), .min = 1, .max = UINT16_MAX},
    {"inflight", KEY_NUMBER, "20", OPTION(inflight), .min = 1, .max = UINT16_MAX},
    {"topic_aliases", KEY_NUMBER, "10", OPTION(topic_aliases), .max = UINT16_MAX},
    {"keepalive", KEY_SECONDS, "0s", OPTION(keepalive), .max = UINT16_MAX},
    {"session_expiry", KEY_SECONDS, "7d", OPTION(session_expiry), .max = UINT32_MAX - 1,
     .words = never},
    {"subscriptions", KEY_NUMBER, "1000", OPTION(subscriptions), .min = 1, .max = 1000000},
    {"queued_messages", KEY_NUMBER, "1000", OPTION(queued_messages), .min = 1, .max = 100000000},
    {"queued_bytes", KEY_BYTES, "4MiB", OPTION(queued_bytes), .min = 1 << 10,
     .max = UINT64_C(1) << 40},
    {"received_bytes", KEY_BYTES, "256KiB", OPTION(received_bytes), .min = 1 << 10, .max = 1 << 30},
    {"unsent_bytes", KEY_BYTES, "256KiB", OPTION(unsent_bytes), .min = 1 << 10, .max = 1 << 30},
    {"write_timeout", KEY_SECONDS, "60s", OPTION(write_timeout), .min = 1, .max = DAY},
    {"memory", KEY_BYTES, "64MiB", OPTION(memory), .min = 1 << 20, .max = UINT64_C(1) << 40},
    {"sys_interval", KEY_SECONDS, "10s", OPTION(sys_interval), .max = DAY},
};

// What mosquitto.conf calls otherwise.
static const char *foreign(const char *key)
{
    static const struct {
        const char *key, *hint;
    } hints[] = {
        {"listener", "mosquitto's listener is: listen = mqtt://ADDRESS:PORT"},
        {"port", "mosquitto's port is: listen = mqtt://ADDRESS:PORT"},
        {"bind_address", "mosquitto's bind_address is: listen = mqtt://ADDRESS:PORT"},
        {"protocol", "mosquitto's protocol websockets is: listen = ws://ADDRESS:PORT"},
        {"persistence", "mosquitto's persistence is the key state, which names the file"},
        {"persistence_file", "mosquitto's persistence_file is the key state"},
        {"persistence_location", "mosquitto's persistence_location is the key state"},
        {"persistent_client_expiration", "mosquitto's persistent_client_expiration is: "
                                         "session_expiry"},
        {"cafile", "mosquitto's cafile is: ca_file"},
        {"capath", "there is no directory of authorities; write them into one ca_file"},
        {"certfile", "mosquitto's certfile is: certificate_file"},
        {"keyfile", "mosquitto's keyfile is: key_file"},
        {"crlfile", "mosquitto's crlfile is: crl_file"},
        {"require_certificate", "mosquitto's require_certificate is: client_certificates = "
                                "required"},
        {"use_identity_as_username", "mosquitto's use_identity_as_username is: "
                                     "certificate_as_username"},
        {"max_connections", "mosquitto's max_connections is: connections"},
        {"max_inflight_messages", "mosquitto's max_inflight_messages is: inflight, and window for "
                                  "publishers"},
        {"max_queued_messages", "mosquitto's max_queued_messages is: queued_messages"},
        {"max_queued_bytes", "mosquitto's max_queued_bytes is: queued_bytes"},
        {"max_packet_size", "mosquitto's max_packet_size is: packet_size"},
        {"message_size_limit", "mosquitto's message_size_limit is: packet_size"},
        {"max_keepalive", "mosquitto's max_keepalive is: keepalive"},
        {"max_topic_alias", "mosquitto's max_topic_alias is: topic_aliases"},
        {"memory_limit", "mosquitto's memory_limit is: memory"},
    };
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++) {
        if (strcmp(hints[i].key, key) == 0)
            return hints[i].hint;
    }
    return NULL;
}

const struct section section_broker = {"broker", "broker", SECTION_KEYS(keys), .foreign = foreign};
