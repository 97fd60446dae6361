// sensorlogd run: wires the parts together, runs the loop, takes them apart again.
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "commands.h"
#include "daemon.h"

enum { WORKER_THREADS = 2, DRAIN_MS = 7000, DISCONNECT_MS = 1500, REPEAT_LOG_MS = 600000 };

// ---- calls upward ----

static void take_message(void *arg, struct message *message)
{
    struct daemon *daemon = arg;
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

static void subscriber_stopped(void *arg)
{
    struct daemon *daemon = arg;
    if (--daemon->stopping_subscribers == 0)
        loop_stop(daemon->loop);
}

// What is committed is acknowledged; then DISCONNECT. What is not stays with the broker.
static void disconnect_all(void *arg)
{
    struct daemon *daemon = arg;
    if (daemon->stopping_subscribers > 0) // they are at it
        return;
    size_t count = daemon->configuration.settings.subscriber_count;
    daemon->stopping_subscribers = count;
    loop_timer_start(daemon->deadline, DISCONNECT_MS);
    for (size_t i = 0; i < count; i++)
        subscriber_stop(daemon->subscribers[i], subscriber_stopped, daemon);
}

// The time for what is under way is over.
static void deadline_passed(void *arg)
{
    struct daemon *daemon = arg;
    if (daemon->stopping_subscribers > 0)
        loop_stop(daemon->loop);
    else
        disconnect_all(daemon);
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
    for (size_t i = 0; i < daemon->configuration.settings.subscriber_count; i++)
        subscriber_quiesce(daemon->subscribers[i]);
    loop_timer_start(daemon->deadline, DRAIN_MS);
    writer_drain(daemon->writer, disconnect_all, daemon);
}

// ---- wiring ----

static void make_store(struct daemon *daemon)
{
    const struct settings *settings = &daemon->configuration.settings;
    struct mappings *mappings = &daemon->configuration.mappings;
    daemon->budget =
        (struct budget){.limit = settings->batch.memory, .room = room_again, .arg = daemon};
    daemon->targets = mem_zalloc(mappings->count * sizeof(struct target *));
    for (size_t i = 0; i < mappings->count; i++)
        daemon->targets[i] = &mappings->items[i].target;
    const struct catalog_options catalog_options = {
        .conninfo = settings->postgres.conninfo,
        .migrate = settings->postgres.migrate,
    };
    daemon->catalog = catalog_new(daemon->loop, daemon->worker, daemon->targets, mappings->count,
                                  &catalog_options);
    const struct writer_options writer_options = {
        .conninfo = settings->postgres.conninfo,
        .name = settings->postgres.writer,
        .connections = settings->postgres.connections,
        .max_rows = settings->batch.max_rows,
        .linger_ms = settings->batch.linger_ms,
    };
    daemon->writer =
        writer_new(daemon->loop, daemon->worker, daemon->catalog, &daemon->budget, &writer_options);
}

static void make_subscribers(struct daemon *daemon)
{
    struct settings *settings = &daemon->configuration.settings;
    const struct subscriber_calls calls = {.message = take_message,
                                           .window_full = window_is_full,
                                           .arg = daemon};
    daemon->subscribers = mem_zalloc(settings->subscriber_count * sizeof(struct subscriber *));
    for (size_t i = 0; i < settings->subscriber_count; i++)
        daemon->subscribers[i] = subscriber_new(daemon->loop, daemon->worker, &daemon->budget,
                                                &settings->subscribers[i].options, &calls);
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
// signal.
static void mask_stops(int how)
{
    sigset_t stops;
    sigemptyset(&stops);
    sigaddset(&stops, SIGTERM);
    sigaddset(&stops, SIGINT);
    sigprocmask(how, &stops, NULL);
}

static bool make(struct daemon *daemon)
{
    daemon->refused_limit.interval_ms = REPEAT_LOG_MS;
    daemon->loop = loop_new();
    daemon->worker = worker_new(daemon->loop, WORKER_THREADS);
    daemon->deadline = loop_timer_new(daemon->loop, deadline_passed, daemon);
    make_store(daemon);
    daemon->pipeline = pipeline_new(daemon->configuration.mappings.items,
                                    daemon->configuration.mappings.count, daemon->writer);
    make_subscribers(daemon);
    daemon->notify = notify_new(daemon->loop, status_line, daemon);
    daemon->terminate = loop_signal_new(daemon->loop, SIGTERM, stop, daemon);
    daemon->interrupt = loop_signal_new(daemon->loop, SIGINT, stop, daemon);
    mask_stops(SIG_UNBLOCK);
    return daemon->pipeline && listen_http(daemon);
}

// The writer goes before the sources: what it abandons is still a message of theirs.
static void take_apart(struct daemon *daemon)
{
    writer_free(daemon->writer);
    report_books(daemon);
    for (size_t i = 0; i < daemon->configuration.settings.subscriber_count; i++)
        subscriber_free(daemon->subscribers[i]);
    free(daemon->subscribers);
    pipeline_free(daemon->pipeline);
    catalog_free(daemon->catalog);
    free(daemon->targets);
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
    int status = EXIT_FAILURE;
    if (make(daemon)) {
        catalog_start(daemon->catalog, catalog_is_ready, daemon);
        for (size_t i = 0; i < daemon->configuration.settings.subscriber_count; i++)
            subscriber_start(daemon->subscribers[i]);
        notify_ready(daemon->notify);
        loop_run(daemon->loop);
        status = EXIT_SUCCESS;
    }
    take_apart(daemon);
    return status;
}

int command_run(const struct arguments *arguments)
{
    struct daemon daemon = {.stopping = false};
    int status = EXIT_CONFIGURATION;
    signal(SIGPIPE, SIG_IGN);
    mask_stops(SIG_BLOCK);
    if (configuration_must_load(&daemon.configuration, arguments->config)) {
        log_init(daemon.configuration.settings.log_level);
        log_info("sensorlogd %s: %zu mapping(s), %zu subscriber(s), writer \"%s\"",
                 SENSORLOGD_VERSION, daemon.configuration.mappings.count,
                 daemon.configuration.settings.subscriber_count,
                 daemon.configuration.settings.postgres.writer);
        status = run(&daemon);
    }
    configuration_fini(&daemon.configuration);
    return status;
}
