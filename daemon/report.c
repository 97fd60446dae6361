// What people and monitoring see of the running daemon.
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "base/log.h"
#include "daemon.h"

// ---- STATUS= ----

static void append(char *text, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void append(char *text, size_t size, const char *format, ...)
{
    size_t used = strlen(text);
    va_list args;
    va_start(args, format);
    vsnprintf(text + used, size - used, format, args);
    va_end(args);
}

static void append_rate(struct daemon *daemon, char *text, size_t size)
{
    uint64_t rows = writer_counters(daemon->writer)->rows;
    int64_t now = loop_now_ms(), elapsed = now - daemon->last_ms;
    if (daemon->last_ms && elapsed > 0)
        append(text, size, "; %" PRIu64 " rows/s",
               (rows - daemon->last_rows) * 1000 / (uint64_t)elapsed);
    daemon->last_rows = rows;
    daemon->last_ms = now;
}

// Messages that are received and not settled: the lag behind the brokers.
static uint64_t pending(const struct daemon *daemon)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < daemon->configuration.settings.subscriber_count; i++)
        sum += books_pending(&subscriber_source(daemon->subscribers[i])->books);
    return sum;
}

void report_status(struct daemon *daemon, char *text, size_t size)
{
    const struct settings *settings = &daemon->configuration.settings;
    const char *tables = catalog_state(daemon->catalog);
    bool ready = catalog_ready(daemon->catalog);
    snprintf(text, size, "%sdatabase: %s", daemon->stopping ? "stopping; " : "",
             ready ? writer_state(daemon->writer) : tables);
    if (ready && strcmp(tables, "ok") != 0)
        append(text, size, "; tables: %s", tables);
    for (size_t i = 0; i < settings->subscriber_count; i++) {
        struct subscriber_status status;
        subscriber_status(daemon->subscribers[i], &status);
        append(text, size, "; %s: %s", settings->subscribers[i].options.name, status.state);
    }
    append_rate(daemon, text, size);
    append(text, size, "; %" PRIu64 " pending, lag %" PRId64 " ms", pending(daemon),
           writer_lag_ms(daemon->writer));
    uint64_t rejects = writer_counters(daemon->writer)->rejects;
    if (rejects > 0)
        append(text, size, "; %" PRIu64 " rejected", rejects);
    size_t stopped = 0;
    for (size_t i = 0; i < daemon->configuration.mappings.count; i++)
        stopped += daemon->targets[i]->stopped != NULL;
    if (stopped > 0)
        append(text, size, "; %zu mapping%s stopped, see the log", stopped,
               stopped == 1 ? "" : "s");
}

// ---- metrics ----

static void metric_help(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP sensorlog_%s %s\n# TYPE sensorlog_%s %s\n", name, help, name, type);
}

static void metric(FILE *out, const char *name, const char *type, const char *help, uint64_t value)
{
    metric_help(out, name, type, help);
    fprintf(out, "sensorlog_%s %" PRIu64 "\n", name, value);
}

// Names of sources and mappings are checked to need no escape.
static void labelled(FILE *out, const char *metric_name, const char *label, const char *name,
                     uint64_t value)
{
    fprintf(out, "sensorlog_%s{%s=\"%s\"} %" PRIu64 "\n", metric_name, label, name, value);
}

static void verdicts(FILE *out, const char *metric_name, const char *label, const char *name,
                     const struct books *books)
{
    for (int i = VERDICT_NONE + 1; i < VERDICT_COUNT; i++)
        fprintf(out, "sensorlog_%s{%s=\"%s\",verdict=\"%s\"} %" PRIu64 "\n", metric_name, label,
                name, verdict_name((enum verdict)i), books->verdicts[i]);
}

static const struct books *source_books(const struct daemon *daemon, size_t i, const char **name)
{
    const struct message_source *source = subscriber_source(daemon->subscribers[i]);
    *name = source->name;
    return &source->books;
}

static void source_metrics(struct daemon *daemon, FILE *out)
{
    size_t count = daemon->configuration.settings.subscriber_count;
    const char *name;
    metric_help(out, "messages_received_total", "counter", "Messages received, by source.");
    for (size_t i = 0; i < count; i++) {
        const struct books *books = source_books(daemon, i, &name);
        labelled(out, "messages_received_total", "source", name, books->received);
    }
    metric_help(out, "messages_total", "counter", "Messages by how they ended.");
    for (size_t i = 0; i < count; i++) {
        const struct books *books = source_books(daemon, i, &name);
        verdicts(out, "messages_total", "source", name, books);
    }
    metric_help(out, "messages_pending", "gauge", "Messages received and not ended.");
    for (size_t i = 0; i < count; i++) {
        const struct books *books = source_books(daemon, i, &name);
        labelled(out, "messages_pending", "source", name, books_pending(books));
    }
}

static void connection_metrics(struct daemon *daemon, FILE *out)
{
    static const struct {
        const char *name, *type, *help;
    } metrics[] = {
        {"source_connected", "gauge",
         "1 while the broker is connected and has granted the subscriptions."},
        {"source_connects_total", "counter", "Connections made."},
        {"window_full_total", "counter",
         "How often the broker could send no more before a commit."},
    };
    for (size_t m = 0; m < sizeof metrics / sizeof *metrics; m++) {
        metric_help(out, metrics[m].name, metrics[m].type, metrics[m].help);
        for (size_t i = 0; i < daemon->configuration.settings.subscriber_count; i++) {
            struct subscriber_status status;
            subscriber_status(daemon->subscribers[i], &status);
            uint64_t values[] = {status.connected && status.subscribed, status.connects,
                                 status.window_full};
            labelled(out, metrics[m].name, "source",
                     subscriber_source(daemon->subscribers[i])->name, values[m]);
        }
    }
}

static void mapping_metrics(struct daemon *daemon, FILE *out)
{
    size_t count = daemon->configuration.mappings.count;
    metric_help(out, "parts_received_total", "counter", "Messages taken by each mapping.");
    for (size_t i = 0; i < count; i++)
        labelled(out, "parts_received_total", "mapping", daemon->targets[i]->mapping,
                 daemon->targets[i]->books.received);
    metric_help(out, "parts_total", "counter", "Parts by how they ended.");
    for (size_t i = 0; i < count; i++)
        verdicts(out, "parts_total", "mapping", daemon->targets[i]->mapping,
                 &daemon->targets[i]->books);
    metric_help(out, "parts_pending", "gauge", "Parts not ended.");
    for (size_t i = 0; i < count; i++)
        labelled(out, "parts_pending", "mapping", daemon->targets[i]->mapping,
                 books_pending(&daemon->targets[i]->books));
    metric_help(out, "mapping_stopped", "gauge",
                "1 while the mapping's table does not take its rows.");
    for (size_t i = 0; i < count; i++)
        labelled(out, "mapping_stopped", "mapping", daemon->targets[i]->mapping,
                 daemon->targets[i]->stopped != NULL);
}

void report_metrics(struct daemon *daemon, FILE *out)
{
    const struct writer_counters *writer = writer_counters(daemon->writer);
    const struct loop_counters *loop = loop_counters(daemon->loop);
    source_metrics(daemon, out);
    connection_metrics(daemon, out);
    mapping_metrics(daemon, out);
    metric(out, "rows_total", "counter", "Rows committed.", writer->rows);
    metric(out, "rejects_total", "counter", "Entries of the reject table committed.",
           writer->rejects);
    metric(out, "commits_total", "counter", "Transactions committed.", writer->commits);
    metric(out, "commit_failures_total", "counter", "Transactions that failed.", writer->failures);
    metric(out, "commits_by_timer_total", "counter", "Transactions that a timer began.",
           writer->commits_by_timer);
    metric(out, "ambiguous_committed_total", "counter",
           "Cut-off COMMITs that turned out to have committed.", writer->resolved_committed);
    metric(out, "ambiguous_repeated_total", "counter",
           "Cut-off COMMITs that turned out not to have committed.", writer->resolved_repeated);
    metric(out, "database_up", "gauge", "1 while rows can be committed.",
           writer_usable(daemon->writer) > 0);
    metric(out, "database_connections", "gauge", "Connections that can commit.",
           writer_usable(daemon->writer));
    metric(out, "lag_milliseconds", "gauge",
           "How long the oldest message has waited for its commit.",
           (uint64_t)writer_lag_ms(daemon->writer));
    metric(out, "memory_bytes", "gauge", "Memory held by messages that wait.", daemon->budget.used);
    metric(out, "memory_peak_bytes", "gauge", "The most it has been.", daemon->budget.peak);
    metric(out, "memory_limit_bytes", "gauge", "[batch] memory.", daemon->budget.limit);
    metric(out, "loop_timer_events_total", "counter", "Timer callbacks of the event loop.",
           loop->timer_events);
    metric(out, "loop_task_events_total", "counter", "Deferred tasks of the event loop.",
           loop->task_events);
}

// ---- the last words ----

static void log_books(const char *kind, const char *name, const struct books *books)
{
    char text[256] = "";
    for (int i = VERDICT_NONE + 1; i < VERDICT_COUNT; i++)
        if (books->verdicts[i] > 0)
            append(text, sizeof text, ", %" PRIu64 " %s", books->verdicts[i],
                   verdict_name((enum verdict)i));
    log_info("%s %s: %" PRIu64 " received%s, %" PRIu64 " pending", kind, name, books->received,
             text, books_pending(books));
}

void report_books(const struct daemon *daemon)
{
    for (size_t i = 0; i < daemon->configuration.settings.subscriber_count; i++) {
        const char *name;
        const struct books *books = source_books(daemon, i, &name);
        log_books("source", name, books);
    }
    for (size_t i = 0; i < daemon->configuration.mappings.count; i++)
        log_books("mapping", daemon->targets[i]->mapping, &daemon->targets[i]->books);
}
