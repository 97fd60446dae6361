// Tries the database and the brokers once.
#include "probe.h"

#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/mem.h"
#include "base/worker.h"
#include "mqtt/subscriber.h"
#include "store/catalog.h"
#include "store/grants.h"
#include "store/look.h"
#include "store/pg.h"

enum { BROKER_TIMEOUT_MS = 10000, BROKER_POLL_MS = 20 };

struct probe {
    struct configuration *configuration;
    struct loop *loop;
    struct worker *worker;
    struct target **targets;
    struct pg *pg;
    const char *sql; // that is asked
    pg_result_fn *answered;
    bool ok;
    // the broker that is tried
    struct subscriber *subscriber;
    const char *broker;
    struct loop_timer *poll;
    int64_t deadline_ms;
};

struct probe *probe_new(struct configuration *configuration)
{
    struct probe *probe = mem_zalloc(sizeof *probe);
    signal(SIGPIPE, SIG_IGN);
    probe->configuration = configuration;
    probe->loop = loop_new();
    probe->worker = worker_new(probe->loop, 1);
    probe->targets = mem_zalloc(configuration->mappings.count * sizeof *probe->targets);
    for (size_t i = 0; i < configuration->mappings.count; i++)
        probe->targets[i] = &configuration->mappings.items[i].target;
    return probe;
}

void probe_free(struct probe *probe)
{
    if (!probe)
        return;
    worker_free(probe->worker);
    loop_free(probe->loop);
    free(probe->targets);
    free(probe);
}

// ---- database ----

static void database_looked_at(void *arg, const struct pg_result *result)
{
    struct probe *probe = arg;
    unsigned found = look_findings(result);
    for (unsigned i = 0; i < LOOK_COUNT; i++)
        if (found & 1U << i)
            fprintf(stderr, "warning: database: %s: %s\n", look_name(i), look_meaning(i));
    probe->ok = true;
    loop_stop(probe->loop);
}

static void database_up(void *arg)
{
    struct probe *probe = arg;
    pg_query(probe->pg, probe->sql, NULL, probe->answered, probe);
}

static void database_down(void *arg, const char *why)
{
    struct probe *probe = arg;
    char *masked = pg_conninfo_masked(probe->configuration->settings.postgres.conninfo, NULL);
    fprintf(stderr, "database: %s (conninfo: %s)\n", why, masked ? masked : "?");
    free(masked);
    loop_stop(probe->loop);
}

static bool ask_database(struct probe *probe, const char *sql, pg_result_fn *answered)
{
    const struct pg_calls calls = {.up = database_up, .down = database_down, .arg = probe};
    probe->pg = pg_new(probe->loop, probe->worker, probe->configuration->settings.postgres.conninfo,
                       "sensorlogd check", false, &calls);
    probe->sql = sql;
    probe->answered = answered;
    probe->ok = false;
    pg_connect(probe->pg);
    loop_run(probe->loop);
    pg_free(probe->pg);
    return probe->ok;
}

bool probe_database(struct probe *probe)
{
    return ask_database(probe, look_sql(), database_looked_at);
}

static void grants_seen(void *arg, const struct pg_result *result)
{
    struct probe *probe = arg;
    if (!result->ok)
        fprintf(stderr, "database: the role's privileges cannot be seen: %s\n", result->message);
    for (int i = 0; i < result->rows; i++)
        fprintf(stderr, "database: the role lacks a privilege on sensorlogd's own tables: %s\n",
                pg_value(result, i, 0));
    probe->ok = result->ok && result->rows == 0;
    loop_stop(probe->loop);
}

bool probe_grants(struct probe *probe)
{
    return ask_database(probe, grants_missing_sql(), grants_seen);
}

static struct catalog *catalog_of(struct probe *probe, bool migrate)
{
    const struct catalog_options options = {
        .conninfo = probe->configuration->settings.postgres.conninfo,
        .migrate = migrate,
    };
    return catalog_new(probe->loop, probe->worker, probe->targets,
                       probe->configuration->mappings.count, &options);
}

static void tables_seen(void *arg, bool ok, const char *detail)
{
    struct probe *probe = arg;
    if (!ok)
        fprintf(stderr, "database: %s\n", detail);
    probe->ok = ok;
    loop_stop(probe->loop);
}

bool probe_tables(struct probe *probe, bool migrate)
{
    struct catalog *catalog = catalog_of(probe, migrate);
    probe->ok = false;
    catalog_start(catalog, tables_seen, probe);
    loop_run(probe->loop);
    const char *findings = catalog_findings(catalog);
    fputs(findings, stderr);
    bool ok = probe->ok && !*findings;
    catalog_free(catalog);
    return ok;
}

void probe_print_migration(struct probe *probe)
{
    struct catalog *catalog = catalog_of(probe, true);
    catalog_print(catalog);
    catalog_free(catalog);
}

// ---- brokers ----

static void refuse_message(void *arg, struct message *message)
{
    (void)arg;
    message_release(message, VERDICT_ABANDONED, NULL);
}

static void ignore(void *arg)
{
    (void)arg;
}

static void broker_done(void *arg)
{
    struct probe *probe = arg;
    loop_stop(probe->loop);
}

static void poll_broker(void *arg)
{
    struct probe *probe = arg;
    struct subscriber_status status;
    subscriber_status(probe->subscriber, &status);
    bool failed = strncmp(status.state, "down", 4) == 0;
    if (!status.connected && !failed && loop_now_ms() < probe->deadline_ms) {
        loop_timer_start(probe->poll, BROKER_POLL_MS);
        return;
    }
    probe->ok = status.connected;
    if (!status.connected)
        fprintf(stderr, "broker %s: %s\n", probe->broker, status.state);
    subscriber_stop(probe->subscriber, broker_done, probe);
}

static bool probe_broker(struct probe *probe, const struct subscriber_options *configured)
{
    // Nothing is subscribed, and the session ends with the connection.
    struct subscriber_options options = *configured;
    char *client_id = mem_printf("%.40s-check", configured->client_id);
    options.client_id = client_id;
    options.subscriptions = NULL;
    options.subscription_count = 0;
    options.session_expiry = 0;
    options.state_directory = NULL;
    struct budget budget = {.limit = SIZE_MAX};
    const struct subscriber_calls calls = {.message = refuse_message, .window_full = ignore};
    probe->subscriber = subscriber_new(probe->loop, probe->worker, &budget, &options, &calls);
    probe->broker = configured->name;
    probe->deadline_ms = loop_now_ms() + BROKER_TIMEOUT_MS;
    probe->poll = loop_timer_new(probe->loop, poll_broker, probe);
    loop_timer_start(probe->poll, BROKER_POLL_MS);
    subscriber_start(probe->subscriber);
    loop_run(probe->loop);
    loop_timer_free(probe->poll);
    subscriber_free(probe->subscriber);
    free(client_id);
    return probe->ok;
}

// It may be running, or be given its sockets by systemd: whether the address is this machine's is
// all that can be tried.
static bool has_address(const struct addrinfo *address)
{
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool has = fd >= 0 && bind(fd, address->ai_addr, address->ai_addrlen) == 0;
    if (fd >= 0)
        close(fd);
    return has;
}

static bool probe_listener(const struct broker_listen *listen)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST};
    struct addrinfo *address;
    if (strcmp(listen->host, "*") == 0 || getaddrinfo(listen->host, NULL, &hints, &address) != 0)
        return true;
    bool ok = has_address(address);
    freeaddrinfo(address);
    if (!ok)
        fprintf(stderr, "[broker]: cannot listen on %s: this machine has no such address\n",
                listen->text);
    return ok;
}

bool probe_brokers(struct probe *probe)
{
    const struct settings *settings = &probe->configuration->settings;
    bool ok = true;
    for (size_t i = 0; settings->has_broker && i < settings->broker.listen_count; i++)
        ok = probe_listener(&settings->broker.listens[i]) && ok;
    for (size_t i = 0; i < settings->subscriber_count; i++)
        ok = probe_broker(probe, &settings->subscribers[i].options) && ok;
    return ok;
}
