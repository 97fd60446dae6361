// The keys of [subscriber NAME].
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "conf/pathflaw.h"
#include "conf/sections.h"
#include "conf/uri.h"

static char *share_flaw(const char *value)
{
    bool valid = !strpbrk(value, "/+#"); // [MQTT-4.8.2-2]
    return valid ? NULL : mem_printf("'%s' contains one of / + #", value);
}

static char *uri_take(void *base, const char *value)
{
    struct subscriber_entry *entry = base;
    struct uri uri;
    const char *flaw;
    free(entry->uri);
    entry->uri = mem_strdup(value);
    if (!uri_parse(value, &uri, &flaw)) // which may hold a password
        return strchr(value, '@') ? mem_strdup(flaw) : mem_printf("'%s' %s", value, flaw);
    free(entry->options.host);
    entry->options.host = uri.host;
    free(entry->options.path);
    entry->options.path = uri.path;
    entry->options.port = uri.port;
    entry->options.tls = uri.tls;
    entry->options.websocket = uri.websocket;
    return NULL;
}

static void uri_print(const void *base, FILE *out)
{
    const struct subscriber_entry *entry = base;
    if (entry->options.host)
        fprintf(out, "uri = %s\n", entry->uri);
}

#define ENTRY(member) KEY_AT(struct subscriber_entry, member)

static const struct key_word protocols[] = {{"5", 5}, {"3.1.1", 4}, {NULL, 0}};
static const struct key_word never[] = {{"never", UINT32_MAX}, {NULL, 0}};

static const struct key keys[] = {
    {"uri", KEY_OWN, NULL, .take = uri_take, .print = uri_print},
    {"client_id", KEY_TEXT, NULL, .may_be_empty = true, ENTRY(options.client_id)},
    {"protocol", KEY_WORD, "5", ENTRY(options.protocol), .words = protocols},
    {"username", KEY_TEXT, NULL, .may_be_empty = true, ENTRY(options.username)},
    {"password_file", KEY_PATH, NULL, .may_be_empty = true, ENTRY(options.password_file),
     .flaw = pathflaw_file},
    {"ca_file", KEY_PATH, NULL, .may_be_empty = true, ENTRY(options.ca_file),
     .flaw = pathflaw_file},
    {"certificate_file", KEY_PATH, NULL, .may_be_empty = true, ENTRY(options.certificate_file),
     .flaw = pathflaw_file},
    {"key_file", KEY_PATH, NULL, .may_be_empty = true, ENTRY(options.key_file),
     .flaw = pathflaw_file},
    {"crl_file", KEY_PATH, NULL, .may_be_empty = true, ENTRY(options.crl_file),
     .flaw = pathflaw_file},
    {"verify", KEY_BOOL, "true", ENTRY(options.verify)},
    {"keepalive", KEY_SECONDS, "60", ENTRY(options.keepalive), .min = 1, .max = UINT16_MAX},
    {"qos", KEY_NUMBER, "1", ENTRY(qos), .max = 2},
    {"window", KEY_NUMBER, "1000", ENTRY(options.window), .min = 1, .max = UINT16_MAX},
    {"share", KEY_TEXT, NULL, .may_be_empty = true, ENTRY(share), .flaw = share_flaw},
    {"session_expiry", KEY_SECONDS, "7d", ENTRY(options.session_expiry), .max = UINT32_MAX - 1,
     .words = never},
    {"max_payload", KEY_BYTES, "1MiB", ENTRY(options.max_payload), .min = 1 << 10,
     .max = 256 << 20},
};

const struct section section_subscriber = {"subscriber", "subscriber NAME", SECTION_KEYS(keys),
                                           .named = true};
