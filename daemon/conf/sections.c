// The tables of all sections and keys, and the checks of single values.
#include "conf/sections.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "conf/scalar.h"
#include "conf/uri.h"
#include "store/pg.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static char *conninfo_flaw(const char *value)
{
    char *error = NULL, *masked = pg_conninfo_masked(value, &error);
    free(masked);
    return error;
}

static void conninfo_print(const void *base, FILE *out)
{
    const struct settings *settings = base;
    char *error = NULL, *masked = pg_conninfo_masked(settings->postgres.conninfo, &error);
    fprintf(out, "conninfo = %s\n", masked ? masked : "");
    free(masked);
    free(error);
}

static char *schema_flaw(const char *value)
{
    const char *flaw = scalar_identifier_flaw(value);
    if (flaw)
        return mem_printf("'%s' %s", value, flaw);
    if (strcmp(value, "sensorlog") == 0)
        return mem_strdup(
            "'sensorlog' is the schema of sensorlogd's own tables; mapped tables live in another");
    if (strncmp(value, "pg_", 3) == 0 || strcmp(value, "information_schema") == 0)
        return mem_printf("'%s' is reserved by PostgreSQL", value);
    return NULL;
}

static char *writer_flaw(const char *value)
{
    enum { WRITER_MAX = 255 };
    return strlen(value) <= WRITER_MAX ? NULL : mem_strdup("is longer than 255 bytes");
}

static char *share_flaw(const char *value)
{
    bool valid = !strpbrk(value, "/+#"); // [MQTT-4.8.2-2]
    return valid ? NULL : mem_printf("'%s' contains one of / + #", value);
}

static char *directory_flaw(const char *path)
{
    struct stat status;
    if (stat(path, &status) != 0)
        return mem_printf("'%s': %s", path, strerror(errno));
    return S_ISDIR(status.st_mode) ? NULL : mem_printf("'%s' is no directory", path);
}

static char *password_file_flaw(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return mem_printf("'%s' cannot be opened: %s", path, strerror(errno));
    char byte;
    ssize_t n = read(fd, &byte, 1);
    int error = errno;
    close(fd);
    if (n < 0)
        return mem_printf("'%s' cannot be read: %s", path, strerror(error));
    return n == 1 ? NULL : mem_printf("'%s' is empty", path);
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
    entry->options.port = uri.port;
    entry->options.tls = uri.tls;
    entry->options.websocket = uri.websocket;
    if (uri.tls || uri.websocket)
        return mem_printf("'%s': mqtts, ws and wss are not part of this release; "
                          "allowed: mqtt://HOST[:PORT]",
                          value);
    return NULL;
}

static void uri_print(const void *base, FILE *out)
{
    const struct subscriber_entry *entry = base;
    if (entry->options.host)
        fprintf(out, "uri = %s\n", entry->uri);
}

static char *mode_take(void *base, const char *value)
{
    (void)base; // there is nothing to choose yet
    if (strcmp(value, "off") == 0)
        return NULL;
    if (strcmp(value, "outage") == 0)
        return mem_strdup("the spool is not part of this release; allowed: off");
    return mem_printf("'%s' is not allowed; allowed: off", value);
}

static void mode_print(const void *base, FILE *out)
{
    (void)base;
    fputs("mode = off\n", out);
}

static bool is_numeric_host(const char *host)
{
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST};
    struct addrinfo *address = NULL;
    bool numeric = getaddrinfo(host, NULL, &hints, &address) == 0;
    if (numeric)
        freeaddrinfo(address);
    return numeric;
}

static char *listen_take(void *base, const char *value)
{
    struct settings *settings = base;
    char *host = NULL;
    uint16_t port = 0;
    const char *flaw;
    if (*value && !uri_parse_address(value, &host, &port, &flaw))
        return mem_printf("'%s' %s", value, flaw);
    if (host && !is_numeric_host(host)) {
        free(host);
        return mem_printf("'%s' has no numeric address; allowed: 127.0.0.1:PORT, [::1]:PORT, ...",
                          value);
    }
    free(settings->http.listen_host);
    settings->http.listen_host = host;
    settings->http.listen_port = port;
    return NULL;
}

static void listen_print(const void *base, FILE *out)
{
    const struct settings *settings = base;
    const char *host = settings->http.listen_host;
    if (!host)
        fputs("listen =\n", out);
    else
        fprintf(out, strchr(host, ':') ? "listen = [%s]:%u\n" : "listen = %s:%u\n", host,
                settings->http.listen_port);
}

#define SETTING(member) KEY_AT(struct settings, member)
#define ENTRY(member) KEY_AT(struct subscriber_entry, member)

static const struct key postgres_keys[] = {
    {"conninfo", KEY_TEXT, "host=/run/postgresql dbname=telemetry", SETTING(postgres.conninfo),
     .flaw = conninfo_flaw, .print = conninfo_print},
    {"schema", KEY_TEXT, "telemetry", SETTING(postgres.schema), .flaw = schema_flaw},
    {"writer", KEY_TEXT, NULL, SETTING(postgres.writer), .flaw = writer_flaw},
    {"connections", KEY_NUMBER, "1", SETTING(postgres.connections), .min = 1, .max = 32},
    {"migrate", KEY_BOOL, "true", SETTING(postgres.migrate)},
};

static const struct key_word protocols[] = {{"5", 5}, {"3.1.1", 4}, {NULL, 0}};
static const struct key_word never[] = {{"never", UINT32_MAX}, {NULL, 0}};

static const struct key subscriber_keys[] = {
    {"uri", KEY_OWN, NULL, .take = uri_take, .print = uri_print},
    {"client_id", KEY_TEXT, NULL, .may_be_empty = true, ENTRY(options.client_id)},
    {"protocol", KEY_WORD, "5", ENTRY(options.protocol), .words = protocols},
    {"username", KEY_TEXT, NULL, .may_be_empty = true, ENTRY(options.username)},
    {"password_file", KEY_PATH, NULL, .may_be_empty = true, ENTRY(options.password_file),
     .flaw = password_file_flaw},
    {"keepalive", KEY_SECONDS, "60", ENTRY(options.keepalive), .min = 1, .max = UINT16_MAX},
    {"qos", KEY_NUMBER, "1", ENTRY(qos), .max = 2},
    {"window", KEY_NUMBER, "1000", ENTRY(options.window), .min = 1, .max = UINT16_MAX},
    {"share", KEY_TEXT, NULL, .may_be_empty = true, ENTRY(share), .flaw = share_flaw},
    {"session_expiry", KEY_SECONDS, "7d", ENTRY(options.session_expiry), .max = UINT32_MAX - 1,
     .words = never},
    {"max_payload", KEY_BYTES, "1MiB", ENTRY(options.max_payload), .min = 1 << 10,
     .max = 256 << 20},
};

static const struct key batch_keys[] = {
    {"max_rows", KEY_NUMBER, "10000", SETTING(batch.max_rows), .min = 1, .max = 1000000},
    {"linger", KEY_MILLISECONDS, "0ms", SETTING(batch.linger_ms), .max = 60000},
    {"memory", KEY_BYTES, "64MiB", SETTING(batch.memory), .min = 1 << 20, .max = UINT64_C(1) << 40},
};

static const struct key mappings_keys[] = {
    {"directory", KEY_PATH, "topics.d", SETTING(mappings.directory)},
};

static const struct key state_keys[] = {
    {"directory", KEY_PATH, NULL, .may_be_empty = true, SETTING(state.directory),
     .flaw = directory_flaw},
};

static const struct key spool_keys[] = {
    {"mode", KEY_OWN, NULL, .take = mode_take, .print = mode_print},
    {"outage_after", KEY_MILLISECONDS, "5s", SETTING(spool.outage_after_ms), .max = 86400000},
};

static const struct key http_keys[] = {
    {"listen", KEY_OWN, NULL, .take = listen_take, .print = listen_print},
};

static const struct key_word levels[] = {
    {"error", LOG_LEVEL_ERROR},
    {"warning", LOG_LEVEL_WARN},
    {"info", LOG_LEVEL_INFO},
    {"debug", LOG_LEVEL_DEBUG},
    {NULL, 0},
};
static const struct key log_keys[] = {
    {"level", KEY_WORD, "info", SETTING(log_level), .words = levels},
};

const struct section sections[SECTION_COUNT] = {
    {"postgres", false, NULL, postgres_keys, COUNT(postgres_keys)},
    {"subscriber", true, NULL, subscriber_keys, COUNT(subscriber_keys)},
    {"broker", false, "the built-in broker is not part of this release", NULL, 0},
    {"batch", false, NULL, batch_keys, COUNT(batch_keys)},
    {"mappings", false, NULL, mappings_keys, COUNT(mappings_keys)},
    {"state", false, NULL, state_keys, COUNT(state_keys)},
    {"spool", false, NULL, spool_keys, COUNT(spool_keys)},
    {"http", false, NULL, http_keys, COUNT(http_keys)},
    {"log", false, NULL, log_keys, COUNT(log_keys)},
};

void section_init(const struct section *section, void *base, const char *file)
{
    for (size_t i = 0; i < section->key_count; i++) {
        const struct key *key = &section->keys[i];
        if (key->initial)
            free(key_set(key, base, key->initial, file));
    }
}

void section_fini(const struct section *section, void *base)
{
    for (size_t i = 0; i < section->key_count; i++)
        key_clear(&section->keys[i], base);
}

const struct key *section_key(const struct section *section, const char *name)
{
    for (size_t i = 0; i < section->key_count; i++) {
        if (strcmp(section->keys[i].name, name) == 0)
            return &section->keys[i];
    }
    return NULL;
}
