// sensorlogd run: wires the parts together, runs the loop, takes them apart again.
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/log.h"
#include "base/mem.h"
#include "commands.h"
#include "daemon.h"
#include "store/exchange.h"

// The two bounds of a stop leave time, of 10 s, for the broker's state to become durable.
enum {
    WORKER_THREADS = 2,
    DRAIN_MS = 6000,
    DISCONNECT_MS = 2500,
    REPEAT_LOG_MS = 600000,
};

// ---- calls upward ----

static void take_message(void *arg, struct message *message)
{
    struct daemon *daemon = arg;
    FAILPOINT("receive");
    pipeline_take(daemon->pipeline, message);
}

static void window_is_full(void *arg)
{
    struct daemon *daemon = arg;
    writer_hurry(daemon->writer);
}

static void room_again(void *arg)
{
    struct daemon *daemon = arg;
    for (size_t i = 0; i < daemon->configuration.settings.subscriber_count; i++)
        subscriber_resume(daemon->subscribers[i]);
    if (daemon->broker)
        broker_resume(daemon->broker);
}

static bool is_wanted(void *arg, const char *topic, size_t length)
{
    const struct daemon *daemon = arg;
    return pipeline_wants(daemon->pipeline, daemon->configuration.settings.broker.name, topic,
                          length);
}

static bool exchanges_known(void *arg)
{
    const struct daemon *daemon = arg;
    return writer_exchanges_known(daemon->writer);
}

static bool exchange_stored(void *arg, uint64_t session, uint16_t packet_id)
{
    const struct daemon *daemon = arg;
    return writer_exchange_stored(daemon->writer, session, packet_id);
}

static bool exchange_may_be_stored(void *arg, uint64_t session, uint16_t packet_id)
{
    const struct daemon *daemon = arg;
    return writer_exchange_may_be_stored(daemon->writer, session, packet_id);
}

static bool message_stored(void *arg, const struct message *message)
{
    const struct daemon *daemon = arg;
    return writer_message_stored(daemon->writer, message);
}

static void exchange_forget(void *arg, uint64_t session, uint16_t packet_id)
{
    struct daemon *daemon = arg;
    writer_exchange_forget(daemon->writer, session, packet_id);
}

static void session_ended(void *arg, uint64_t session)
{
    struct daemon *daemon = arg;
    writer_session_forget(daemon->writer, session);
}

static bool session_lives(void *arg, uint64_t session)
{
    const struct daemon *daemon = arg;
    for (size_t i = 0; i < daemon->configuration.settings.subscriber_count; i++)
        if (subscriber_has_session(daemon->subscribers[i], session))
            return true;
    return daemon->broker && broker_has_session(daemon->broker, session);
}

static void exchanges_loaded(void *arg)
{
    struct daemon *daemon = arg;
    writer_sessions_keep(daemon->writer, session_lives, daemon);
    for (size_t i = 0; i < daemon->configuration.settings.subscriber_count; i++)
        subscriber_exchanges_loaded(daemon->subscribers[i]);
    if (daemon->broker)
        broker_exchanges_loaded(daemon->broker);
}

static void exchange_forgotten(void *arg, uint64_t session, uint16_t packet_id)
{
    struct daemon *daemon = arg;
    for (size_t i = 0; i < daemon->configuration.settings.subscriber_count; i++)
        subscriber_exchange_forgotten(daemon->subscribers[i], session, packet_id);
    if (daemon->broker)
        broker_exchange_forgotten(daemon->broker, session, packet_id);
}

static void catalog_is_ready(void *arg, bool ok, const char *detail)
{
    struct daemon *daemon = arg;
    if (ok)
        writer_start(daemon->writer);
    else if (log_limit_pass(&daemon->refused_limit, NULL))
        log_error("postgres: %s", detail);
}

static void status_line(void *arg, char *text, size_t size)
{
    report_status(arg, text, size);
}

static void metrics_text(void *arg, FILE *out)
{
    report_metrics(arg, out);
}

// ---- the stop ----

static void part_disconnected(void *arg)
{
    struct daemon *daemon = arg;
    if (--daemon->connected_parts == 0)
        loop_stop(daemon->loop);
}

// What is committed is acknowledged; then DISCONNECT. What is not stays with its sender.
static void disconnect_all(void *arg)
{
    struct daemon *daemon = arg;
    if (daemon->disconnecting)
        return;
    daemon->disconnecting = true;
    loop_timer_start(daemon->deadline, DISCONNECT_MS);
    for (size_t i = 0; i < daemon->configuration.settings.subscriber_count; i++)
        subscriber_stop(daemon->subscribers[i], part_disconnected, daemon);
    if (daemon->broker)
        broker_stop(daemon->broker, part_disconnected, daemon);
}

// The time for what is under way is over.
static void deadline_passed(void *arg)
{
    struct daemon *daemon = arg;
    if (daemon->disconnecting)
        loop_stop(daemon->loop);
    else
        disconnect_all(daemon);
}

// No more messages come in. Relays may as well stop now: what they have not sent is kept.
static void quiesce_all(struct daemon *daemon)
{
    size_t count = daemon->configuration.settings.subscriber_count;
    daemon->connected_parts = count;
    for (size_t i = 0; i < count; i++)
        subscriber_quiesce(daemon->subscribers[i]);
    if (!daemon->broker)
        return;
    daemon->connected_parts += 2;
    broker_quiesce(daemon->broker);
    relays_stop(daemon->relays, part_disconnected, daemon);
}

static void stop(int number, void *arg)
{
    struct daemon *daemon = arg;
    if (daemon->stopping) {
        log_warn("%s again: stopping at once", strsignal(number));
        loop_stop(daemon->loop);
        return;
    }
    log_info("%s: committing what is in, then stopping", strsignal(number));
    daemon->stopping = true;
    notify_stopping(daemon->notify);
    quiesce_all(daemon);
    loop_timer_start(daemon->deadline, DRAIN_MS);
    if (daemon->spool)
        spool_stop(daemon->spool, disconnect_all, daemon);
    else
        writer_drain(daemon->writer, disconnect_all, daemon);
}

// ---- wiring ----

static void make_catalog(struct daemon *daemon)
{
    const struct settings *settings = &daemon->configuration.settings;
    const struct catalog_options options = {
        .conninfo = settings->postgres.conninfo,
        .migrate = settings->postgres.migrate,
    };
    size_t count = daemon->live.count;
    struct target **targets = mem_alloc((count + 1) * sizeof(struct target *));
    for (size_t i = 0; i < count; i++)
        targets[i] = &daemon->live.items[i]->target;
    daemon->catalog = catalog_new(daemon->loop, daemon->worker, targets, count, &options);
    free(targets);
}

static void make_writer(struct daemon *daemon)
{
    const struct settings *settings = &daemon->configuration.settings;
    const struct writer_options writer_options = {
        .conninfo = settings->postgres.conninfo,
        .name = settings->postgres.writer,
        .connections = settings->postgres.connections,
        .max_rows = settings->batch.max_rows,
        .linger_ms = settings->batch.linger_ms,
        .patience_ms = settings->spool.outage_after_ms,
        .exchanges = settings->has_broker || settings->subscriber_count > 0,
    };
    daemon->writer =
        writer_new(daemon->loop, daemon->worker, daemon->catalog, &daemon->budget, &writer_options);
    writer_on_exchanges(daemon->writer, exchanges_loaded, daemon);
    writer_on_forgotten(daemon->writer, exchange_forgotten, daemon);
}

static void take_entry(void *arg, struct message *message)
{
    struct daemon *daemon = arg;
    pipeline_take(daemon->pipeline, message);
}

// What was acknowledged when it was kept is stored, and be the mode another one now.
static bool needs_spool(const struct settings *settings)
{
    return settings->spool.outage ||
           (settings->spool.file && access(settings->spool.file, F_OK) == 0);
}

static bool make_spool(struct daemon *daemon)
{
    const struct settings *settings = &daemon->configuration.settings;
    const struct spool_options options = {
        .path = settings->spool.file,
        .outage_after_ms = settings->spool.outage_after_ms,
        .max_bytes = settings->spool.max_bytes,
        .drop_oldest = settings->spool.drop_oldest,
        .max_entries = settings->batch.max_rows,
        .ends = !settings->spool.outage,
    };
    const struct spool_calls calls = {.message = take_entry, .arg = daemon};
    char *error = NULL;
    if (!needs_spool(settings))
        return true;
    daemon->spool =
        spool_new(daemon->loop, daemon->writer, &daemon->budget, &options, &calls, &error);
    if (!daemon->spool) {
        log_error("[spool]: %s", error);
        free(error);
        return false;
    }
    pipeline_set_spool(daemon->pipeline, daemon->spool);
    return true;
}

static void make_subscribers(struct daemon *daemon)
{
    struct settings *settings = &daemon->configuration.settings;
    const struct subscriber_calls calls = {.message = take_message,
                                           .window_full = window_is_full,
                                           .exchanges_known = exchanges_known,
                                           .exchange_may_be_stored = exchange_may_be_stored,
                                           .message_stored = message_stored,
                                           .exchange_forget = exchange_forget,
                                           .session_ended = session_ended,
                                           .arg = daemon};
    daemon->subscribers = mem_zalloc(settings->subscriber_count * sizeof(struct subscriber *));
    for (size_t i = 0; i < settings->subscriber_count; i++)
        daemon->subscribers[i] = subscriber_new(daemon->loop, daemon->worker, &daemon->budget,
                                                &settings->subscribers[i].options, &calls);
}

// Opens no port yet.
static bool make_broker(struct daemon *daemon)
{
    const struct settings *settings = &daemon->configuration.settings;
    const struct broker_calls calls = {.wants = is_wanted,
                                       .message = take_message,
                                       .window_full = window_is_full,
                                       .exchanges_known = exchanges_known,
                                       .exchange_stored = exchange_stored,
                                       .exchange_forget = exchange_forget,
                                       .session_ended = session_ended,
                                       .arg = daemon};
    char *error = NULL;
    if (!settings->has_broker)
        return true;
    daemon->logins = worker_new(daemon->loop, WORKER_THREADS);
    daemon->broker = broker_new(daemon->loop, daemon->logins, &daemon->budget, &settings->broker,
                                &calls, &error);
    if (!daemon->broker) {
        log_error("[broker]: %s", error);
        free(error);
        return false;
    }
    daemon->relays =
        relays_new(daemon->loop, daemon->broker, settings->forwards, settings->forward_count);
    return true;
}

static bool start_broker(struct daemon *daemon)
{
    char *error = NULL;
    if (!daemon->broker)
        return true;
    if (!broker_start(daemon->broker, &error)) {
        log_error("[broker]: %s", error);
        free(error);
        return false;
    }
    relays_start(daemon->relays);
    return true;
}

static bool make_pipeline(struct daemon *daemon)
{
    daemon->pipeline = pipeline_new(NULL, 0, daemon->writer);
    for (size_t i = 0; i < daemon->live.count; i++)
        if (!pipeline_add(daemon->pipeline, daemon->live.items[i]))
            return false;
    return true;
}

static bool listen_http(struct daemon *daemon)
{
    const struct settings *settings = &daemon->configuration.settings;
    if (!settings->http.listen_host)
        return true;
    daemon->http = http_new(daemon->loop, settings->http.listen_host, settings->http.listen_port,
                            metrics_text, daemon);
    if (!daemon->http)
        log_error("[http] listen: cannot listen on %s port %u: %s", settings->http.listen_host,
                  settings->http.listen_port, strerror(errno));
    return daemon->http != NULL;
}

// From the start until there are handlers a stop waits, so that it is a stop and no death by a
// signal; and a reload too.
static void mask_signals(int how)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    sigprocmask(how, &signals, NULL);
}

static bool make(struct daemon *daemon)
{
    daemon->refused_limit.interval_ms = REPEAT_LOG_MS;
    daemon->loop = loop_new();
    daemon->worker = worker_new(daemon->loop, WORKER_THREADS);
    daemon->deadline = loop_timer_new(daemon->loop, deadline_passed, daemon);
    daemon->budget = (struct budget){.limit = daemon->configuration.settings.batch.memory,
                                     .room = room_again,
                                     .arg = daemon};
    live_init(&daemon->live, &daemon->configuration.mappings);
    make_catalog(daemon);
    make_writer(daemon);
    make_subscribers(daemon);
    daemon->notify = notify_new(daemon->loop, status_line, daemon);
    daemon->terminate = loop_signal_new(daemon->loop, SIGTERM, stop, daemon);
    daemon->interrupt = loop_signal_new(daemon->loop, SIGINT, stop, daemon);
    reload_init(daemon);
    mask_signals(SIG_UNBLOCK);
    return make_pipeline(daemon) && make_spool(daemon) && make_broker(daemon) &&
           listen_http(daemon);
}

// The writer goes before the sources: what it abandons is still a message of theirs. So does what
// the spool keeps in memory; the spool itself is a source too.
static void take_apart(struct daemon *daemon, bool started)
{
    writer_free(daemon->writer);
    spool_abandon(daemon->spool);
    if (started)
        report_books(daemon);
    spool_free(daemon->spool);
    reload_fini(daemon);
    for (size_t i = 0; i < daemon->configuration.settings.subscriber_count; i++)
        subscriber_free(daemon->subscribers[i]);
    free(daemon->subscribers);
    relays_free(daemon->relays);
    broker_free(daemon->broker);
    configuration_free(daemon->reloaded);
    worker_free(daemon->logins);
    pipeline_free(daemon->pipeline);
    catalog_free(daemon->catalog);
    live_fini(&daemon->live);
    http_free(daemon->http);
    notify_free(daemon->notify);
    loop_signal_free(daemon->terminate);
    loop_signal_free(daemon->interrupt);
    loop_timer_free(daemon->deadline);
    worker_free(daemon->worker);
    loop_free(daemon->loop);
}

static int run(struct daemon *daemon)
{
    bool started = make(daemon) && start_broker(daemon);
    if (started) {
        catalog_start(daemon->catalog, catalog_is_ready, daemon);
        for (size_t i = 0; i < daemon->configuration.settings.subscriber_count; i++)
            subscriber_start(daemon->subscribers[i]);
        notify_ready(daemon->notify);
        loop_run(daemon->loop);
    }
    take_apart(daemon, started);
    return started ? EXIT_SUCCESS : EXIT_FAILURE;
}

static bool has_state(const struct settings *settings)
{
    if (settings->state.flaw)
        log_error("%s", settings->state.flaw);
    return !settings->state.flaw;
}

int command_run(const struct arguments *arguments)
{
    struct daemon daemon = {.file = arguments->config};
    int status = EXIT_CONFIGURATION;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); // a limit on file sizes is a full disk, not an end
    mask_signals(SIG_BLOCK);
    if (configuration_must_load(&daemon.configuration, arguments->config)) {
        const struct settings *settings = &daemon.configuration.settings;
        log_init(settings->log_level);
        log_info("sensorlogd %s: %zu mapping(s), %zu subscriber(s)%s, writer \"%s\"",
                 SENSORLOGD_VERSION, daemon.configuration.mappings.count,
                 settings->subscriber_count, settings->has_broker ? ", the built-in broker" : "",
                 settings->postgres.writer);
        status = has_state(settings) ? run(&daemon) : EXIT_CONFIGURATION;
    }
    configuration_fini(&daemon.configuration);
    return status;
}
