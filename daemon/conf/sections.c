// The tables of all sections and keys, and the checks of single values.
#include "conf/sections.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "conf/listen.h"
#include "conf/pathflaw.h"
#include "conf/scalar.h"
#include "conf/uri.h"
#include "store/pg.h"

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

static char *listen_take(void *base, const char *value)
{
    struct settings *settings = base;
    char *host = NULL;
    uint16_t port = 0;
    const char *flaw;
    if (*value && !uri_parse_address(value, &host, &port, &flaw))
        return mem_printf("'%s' %s", value, flaw);
    if (host && !listen_is_numeric(host)) {
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

static const struct key postgres_keys[] = {
    {"conninfo", KEY_TEXT, "host=/run/postgresql dbname=telemetry", SETTING(postgres.conninfo),
     .flaw = conninfo_flaw, .print = conninfo_print},
    {"schema", KEY_TEXT, "telemetry", SETTING(postgres.schema), .flaw = schema_flaw},
    {"writer", KEY_TEXT, NULL, SETTING(postgres.writer), .flaw = writer_flaw},
    {"connections", KEY_NUMBER, "1", SETTING(postgres.connections), .min = 1, .max = 32},
    {"migrate", KEY_BOOL, "true", SETTING(postgres.migrate)},
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
     .flaw = pathflaw_directory},
};

static const struct key_word spool_modes[] = {{"off", false}, {"outage", true}, {NULL, 0}};
static const struct key_word on_full[] = {{"withhold", false}, {"drop-oldest", true}, {NULL, 0}};
static const struct key spool_keys[] = {
    {"mode", KEY_WORD, "off", SETTING(spool.outage), .words = spool_modes},
    {"outage_after", KEY_MILLISECONDS, "5s", SETTING(spool.outage_after_ms), .max = 86400000},
    {"file", KEY_PATH, NULL, SETTING(spool.file)},
    {"max_bytes", KEY_BYTES, "1GiB", SETTING(spool.max_bytes), .min = 1 << 20,
     .max = UINT64_C(1) << 44},
    {"on_full", KEY_WORD, "withhold", SETTING(spool.drop_oldest), .words = on_full},
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

static const struct section section_postgres = {"postgres", "postgres",
                                                SECTION_KEYS(postgres_keys)};
static const struct section section_batch = {"batch", "batch", SECTION_KEYS(batch_keys)};
const struct section section_mappings = {"mappings", "mappings", SECTION_KEYS(mappings_keys)};
static const struct section section_state = {"state", "state", SECTION_KEYS(state_keys)};
const struct section section_spool = {"spool", "spool", SECTION_KEYS(spool_keys)};
static const struct section section_http = {"http", "http", SECTION_KEYS(http_keys)};
static const struct section section_log = {"log", "log", SECTION_KEYS(log_keys)};

const struct section *const sections[] = {
    &section_postgres,
    &section_subscriber,
    &section_broker,
    &section_forward,
    &section_batch,
    &section_mappings,
    &section_state,
    &section_spool,
    &section_http,
    &section_log,
    NULL,
};

const struct section *section_find(const char *name, size_t length)
{
    for (const struct section *const *section = sections; *section; section++) {
        if (strlen((*section)->name) == length && memcmp((*section)->name, name, length) == 0)
            return *section;
    }
    return NULL;
}

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
