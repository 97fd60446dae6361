// Looks at the settings as a whole.
#include "conf/crosscheck.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "conf/pathflaw.h"

struct checker {
    struct settings *settings;
    const struct places *places;
    struct problems *problems;
    const struct section *section; // that is looked at
    size_t index;
};

// A problem in the line of the key, or of the section where the key is not given.
static void add(const struct checker *checker, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void add(const struct checker *checker, const char *key, const char *format, ...)
{
    const struct place *place = places_of(checker->places, checker->section, checker->index, key);
    va_list args;
    va_start(args, format);
    char *text = mem_vprintf(format, args);
    va_end(args);
    problems_add(checker->problems, place->file, place->line, "%s", text);
    free(text);
}

static bool given(const struct checker *checker, const char *key)
{
    return places_find(checker->places, checker->section, checker->index, key) != NULL;
}

// Whether it was given a value, be it a wrong one, of which enough is said already.
static bool has(const struct checker *checker, const char *key)
{
    const struct place *place = places_find(checker->places, checker->section, checker->index, key);
    return place && !place->empty;
}

// Whether a client of this address would come to the built-in broker, as far as that can be seen.
static bool is_itself(const struct checker *checker, const char *host, uint16_t port)
{
    const struct broker_options *broker = &checker->settings->broker;
    for (size_t i = 0; checker->settings->has_broker && host && i < broker->listen_count; i++) {
        const struct broker_listen *listen = &broker->listens[i];
        bool loopback = strcasecmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 ||
                        strcmp(host, "::1") == 0;
        bool any = strcmp(listen->host, "*") == 0 || strcmp(listen->host, "0.0.0.0") == 0 ||
                   strcmp(listen->host, "::") == 0;
        bool same = strcmp(listen->host, host) == 0 ||
                    (loopback && (any || (listen->loopback && strcasecmp(host, "localhost") == 0)));
        if (same && listen->port == port)
            return true;
    }
    return false;
}

// It works for now: no mistake, but it must be known in time.
static void warn_of_expiry(const struct checker *checker, const char *path)
{
    const struct place *place =
        places_find(checker->places, checker->section, checker->index, "certificate_file");
    char *text = path && place ? tls_expiry(path) : NULL;
    if (text)
        log_warn("%s:%d: certificate_file: %s", place->file, place->line, text);
    free(text);
}

// Loads the certificates, where all files were found and nothing is missing.
static void check_certificates(const struct checker *checker, const struct tls_options *options)
{
    const struct {
        const char *key, *path;
    } files[] = {
        {"ca_file", options->ca_file},
        {"certificate_file", options->certificate_file},
        {"key_file", options->key_file},
        {"crl_file", options->crl_file},
    };
    enum { FILES = sizeof files / sizeof *files };
    bool clients = options->server && options->clients != TLS_CLIENTS_NONE;
    if (!options->certificate_file != !options->key_file ||
        (options->server && !options->certificate_file) || (clients && !options->ca_file))
        return;
    for (size_t i = 0; i < FILES; i++) {
        if (has(checker, files[i].key) && !files[i].path)
            return;
    }
    char *error = NULL;
    tls_free(tls_new(options, &error));
    const char *key = NULL; // whose path the error begins with
    for (size_t i = 0; error && !key && i < FILES; i++) {
        size_t length = files[i].path ? strlen(files[i].path) : 0;
        if (length > 0 && strncmp(error, files[i].path, length) == 0)
            key = files[i].key;
    }
    if (error)
        add(checker, key, "%s%s%s", key ? key : "", key ? ": " : "", error);
    else
        warn_of_expiry(checker, options->certificate_file);
    free(error);
}

// ---- subscribers ----

// What a broker knows one of its clients by.
struct peer {
    const char *host, *client_id;
    uint16_t port;
};

#define PEER_OF(options) ((struct peer){(options)->host, (options)->client_id, (options)->port})

static bool same_session(struct peer a, struct peer b)
{
    return a.client_id && b.client_id && a.host && b.host && strcasecmp(a.host, b.host) == 0 &&
           a.port == b.port && strcmp(a.client_id, b.client_id) == 0;
}

static void check_session(const struct checker *checker, const struct subscriber_options *options)
{
    for (size_t i = 0; i < checker->index; i++) {
        // A broker lets only the last one stay [MQTT-3.1.4-3].
        const struct subscriber_entry *other = &checker->settings->subscribers[i];
        if (same_session(PEER_OF(&other->options), PEER_OF(options)))
            add(checker, NULL,
                "[subscriber %s] has the same broker and client_id as [subscriber %s] (%s)",
                options->name, other->options.name, other->where);
    }
}

// Who gives certificates believes that the connection is encrypted.
static void check_client_tls(const struct checker *checker, const char *host, bool tls)
{
    static const char *const keys[] = {"ca_file", "certificate_file", "key_file", "crl_file"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (host && !tls && has(checker, keys[i]))
            add(checker, keys[i], "%s has no meaning without encryption; allowed: a uri of %s",
                keys[i], checker->section == &section_forward ? "mqtts" : "mqtts or wss");
    }
    if (has(checker, "certificate_file") != has(checker, "key_file"))
        add(checker, has(checker, "key_file") ? "key_file" : "certificate_file",
            "certificate_file and key_file are needed together");
}

static void check_subscriber(const struct checker *checker)
{
    const struct settings *settings = checker->settings;
    const struct subscriber_entry *entry = &settings->subscribers[checker->index];
    const struct subscriber_options *options = &entry->options;
    if (!entry->uri)
        add(checker, NULL, "[subscriber %s] has no uri", options->name);
    if (is_itself(checker, options->host, options->port)) // each message would come twice
        add(checker, "uri",
            "[subscriber %s]: '%s' is the built-in broker itself, which needs no subscriber",
            options->name, entry->uri);
    if (options->password_file && !options->username) // [MQTT-3.1.2-22]
        add(checker, NULL, "[subscriber %s] has a password_file and no username", options->name);
    if (options->max_payload > settings->batch.memory)
        add(checker, NULL, "[subscriber %s]: max_payload is greater than memory of [batch]",
            options->name);
    check_client_tls(checker, options->host, options->tls);
    if (options->tls)
        check_certificates(checker, &(struct tls_options){
                                        .ca_file = options->ca_file,
                                        .certificate_file = options->certificate_file,
                                        .key_file = options->key_file,
                                        .crl_file = options->crl_file,
                                        .verify = options->verify,
                                    });
    check_session(checker, options);
}

// ---- the built-in broker ----

static const struct broker_listen *first_public(const struct broker_options *options)
{
    for (size_t i = 0; i < options->listen_count; i++) {
        if (!options->listens[i].loopback)
            return &options->listens[i];
    }
    return NULL;
}

static const struct broker_listen *first_tls(const struct broker_options *options)
{
    for (size_t i = 0; i < options->listen_count; i++) {
        if (options->listens[i].tls)
            return &options->listens[i];
    }
    return NULL;
}

static void check_login(const struct checker *checker, struct broker_options *options)
{
    const struct broker_listen *open = first_public(options);
    bool by_certificate = options->certificate_as_username && first_tls(options) &&
                          options->client_certificates != TLS_CLIENTS_NONE;
    bool by_password = has(checker, "password_file");
    if (!given(checker, "allow_anonymous"))
        options->allow_anonymous = !open && !has(checker, "password_file");
    if (options->allow_anonymous || by_password || by_certificate)
        return;
    if (given(checker, "allow_anonymous"))
        add(checker, "allow_anonymous",
            "allow_anonymous is false and there is no password_file: nobody could log in; "
            "make one with: sensorlogd passwd FILE USER");
    else if (open)
        add(checker, "listen",
            "'%s' is open to other machines and there is no password_file: nobody could log in; "
            "make one with: sensorlogd passwd FILE USER, or set allow_anonymous = true",
            open->text);
}

static void check_broker_tls(const struct checker *checker, const struct broker_options *options)
{
    const struct broker_listen *tls = first_tls(options);
    bool clients = options->client_certificates != TLS_CLIENTS_NONE;
    if (tls && !has(checker, "certificate_file"))
        add(checker, "listen", "'%s' needs a certificate_file", tls->text);
    if (tls && !has(checker, "key_file"))
        add(checker, "listen", "'%s' needs a key_file", tls->text);
    if (clients && !has(checker, "ca_file"))
        add(checker, "client_certificates",
            "client_certificates needs a ca_file, which has the authority that signs them");
    if (clients && !tls)
        add(checker, "client_certificates",
            "client_certificates needs a listener with TLS; allowed: mqtts or wss");
    if (options->certificate_as_username && !clients)
        add(checker, "certificate_as_username",
            "certificate_as_username needs client_certificates; allowed: optional, required");
    if (has(checker, "crl_file") && !clients)
        add(checker, "crl_file", "crl_file needs client_certificates; allowed: optional, required");
    if (tls)
        check_certificates(checker, &(struct tls_options){
                                        .server = true,
                                        .ca_file = options->ca_file,
                                        .certificate_file = options->certificate_file,
                                        .key_file = options->key_file,
                                        .crl_file = options->crl_file,
                                        .clients = options->client_certificates,
                                    });
}

static void check_sizes(const struct checker *checker, const struct broker_options *options)
{
    if (options->packet_size > checker->settings->batch.memory)
        add(checker, "packet_size", "packet_size is greater than memory of [batch]");
    if (options->packet_size > options->memory)
        add(checker, "packet_size", "packet_size is greater than memory of [broker]");
}

// ---- files that are kept in the state directory unless they are named ----

// flaw, if any, is said where the key names the file, or else kept for whoever is to run: what is
// at the default place is known on the machine alone that it is meant for. Frees it.
static void add_place(const struct checker *checker, const char *key, char *flaw, const char *cure)
{
    char **kept = &checker->settings->state.flaw;
    if (flaw && given(checker, key))
        add(checker, key, "%s: the directory %s; %s", key, flaw, cure);
    else if (flaw && !*kept)
        *kept =
            mem_printf("[%s] %s: the directory %s; %s", checker->section->name, key, flaw, cure);
    free(flaw);
}

static void check_state(const struct checker *checker, struct broker_options *options)
{
    const char *directory = checker->settings->state.directory;
    if (!given(checker, "state") && directory)
        options->state = mem_printf("%s/broker.db", directory);
    if (!options->state)
        return;
    char *parent = pathflaw_parent(options->state);
    add_place(checker, "state", pathflaw_directory(parent),
              "it must be there, or 'state =' keeps nothing");
    free(parent);
}

static void check_broker(const struct checker *checker)
{
    struct broker_options *options = &checker->settings->broker;
    check_login(checker, options);
    check_broker_tls(checker, options);
    check_sizes(checker, options);
    check_state(checker, options);
}

// ---- forwards ----

static void check_forward(const struct checker *checker)
{
    const struct settings *settings = checker->settings;
    const struct forward_options *options = &settings->forwards[checker->index];
    if (!settings->has_broker)
        add(checker, NULL, "[forward %s] needs a [broker], whose messages it forwards",
            options->name);
    if (!options->uri)
        add(checker, NULL, "[forward %s] has no uri", options->name);
    if (is_itself(checker, options->host, options->port)) // it would come again and again
        add(checker, "uri", "[forward %s]: '%s' is this broker itself", options->name,
            options->uri);
    if (options->password_file && !options->username) // [MQTT-3.1.2-22]
        add(checker, NULL, "[forward %s] has a password_file and no username", options->name);
    check_client_tls(checker, options->host, options->tls);
    if (options->tls)
        check_certificates(checker, &(struct tls_options){
                                        .ca_file = options->ca_file,
                                        .certificate_file = options->certificate_file,
                                        .key_file = options->key_file,
                                        .verify = options->verify,
                                    });
    for (size_t i = 0; i < checker->index; i++) {
        if (same_session(PEER_OF(&settings->forwards[i]), PEER_OF(options)))
            add(checker, NULL, "[forward %s] has the same broker and client_id as [forward %s]",
                options->name, settings->forwards[i].name);
    }
}

// ---- spool ----

// Also where it is not in use: "sensorlogd spool" can still look into it.
static void name_spool(struct settings *settings)
{
    if (!settings->spool.file && settings->state.directory)
        settings->spool.file = mem_printf("%s/spool.db", settings->state.directory);
}

static void check_spool(const struct checker *checker)
{
    const struct settings *settings = checker->settings;
    const char *file = settings->spool.file;
    if (!file) {
        if (!given(checker, "file"))
            add(checker, "mode", "mode = outage needs a file, since [state] has no directory");
        return;
    }
    char *parent = pathflaw_parent(file);
    add_place(checker, "file", pathflaw_writable(parent),
              "it must be there and writable, or name another file");
    free(parent);
    char *flaw = given(checker, "file") ? pathflaw_database(file) : NULL;
    if (flaw)
        add(checker, "file",
            "file: %s; name one of the spool's own, which is made if it is not there", flaw);
    free(flaw);
    const char *state = settings->has_broker ? settings->broker.state : NULL;
    if (state && pathflaw_same(file, state))
        add(checker, "file", "file: '%s' is the state of [broker] already; name another file",
            file);
}

void crosscheck_settings(struct settings *settings, const struct places *places,
                         struct problems *problems)
{
    struct checker checker = {settings, places, problems, &section_subscriber, 0};
    for (; checker.index < settings->subscriber_count; checker.index++) {
        settings->subscribers[checker.index].options.state_directory = settings->state.directory;
        check_subscriber(&checker);
    }
    checker.section = &section_broker;
    checker.index = 0;
    if (settings->has_broker)
        check_broker(&checker);
    checker.section = &section_spool;
    name_spool(settings);
    if (settings->spool.outage)
        check_spool(&checker);
    checker.section = &section_forward;
    for (; checker.index < settings->forward_count; checker.index++)
        check_forward(&checker);
}
