// What monitoring sees of the running daemon: metrics in Prometheus' text format.
#include <inttypes.h>

#include "daemon.h"
#include "spool/spool_file.h"

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

static void source_metrics(const struct daemon *daemon, FILE *out)
{
    size_t count = report_source_count(daemon);
    metric_help(out, "messages_received_total", "counter", "Messages received, by source.");
    for (size_t i = 0; i < count; i++) {
        const struct message_source *source = report_source(daemon, i);
        labelled(out, "messages_received_total", "source", source->name, source->books.received);
    }
    metric_help(out, "messages_total", "counter", "Messages by how they ended.");
    for (size_t i = 0; i < count; i++) {
        const struct message_source *source = report_source(daemon, i);
        verdicts(out, "messages_total", "source", source->name, &source->books);
    }
    metric_help(out, "messages_pending", "gauge", "Messages received and not ended.");
    for (size_t i = 0; i < count; i++) {
        const struct message_source *source = report_source(daemon, i);
        labelled(out, "messages_pending", "source", source->name, books_pending(&source->books));
    }
}

static void connection_metrics(const struct daemon *daemon, FILE *out)
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

static void mapping_metrics(const struct daemon *daemon, FILE *out)
{
    const struct live *live = &daemon->live;
    metric_help(out, "parts_received_total", "counter", "Messages taken by each mapping.");
    for (size_t i = 0; i < live->count; i++)
        labelled(out, "parts_received_total", "mapping", live->items[i]->name,
                 live_books(live, live->items[i]).received);
    metric_help(out, "parts_total", "counter", "Parts by how they ended.");
    for (size_t i = 0; i < live->count; i++) {
        const struct books books = live_books(live, live->items[i]);
        verdicts(out, "parts_total", "mapping", live->items[i]->name, &books);
    }
    metric_help(out, "parts_pending", "gauge", "Parts not ended.");
    for (size_t i = 0; i < live->count; i++) {
        const struct books books = live_books(live, live->items[i]);
        labelled(out, "parts_pending", "mapping", live->items[i]->name, books_pending(&books));
    }
    metric_help(out, "mapping_conflicts_total", "counter",
                "Rows whose key was there already with other values.");
    for (size_t i = 0; i < live->count; i++)
        labelled(out, "mapping_conflicts_total", "mapping", live->items[i]->name,
                 live_conflicts(live, live->items[i]));
    metric_help(out, "mapping_stopped", "gauge",
                "1 while the mapping's table does not take its rows.");
    for (size_t i = 0; i < live->count; i++)
        labelled(out, "mapping_stopped", "mapping", live->items[i]->name,
                 live->items[i]->target.stopped != NULL);
}

static void broker_metrics(const struct daemon *daemon, FILE *out)
{
    struct broker_status status;
    broker_status(daemon->broker, &status);
    metric(out, "broker_clients", "gauge", "Clients connected to the built-in broker.",
           status.clients);
    metric(out, "broker_sessions", "gauge", "Sessions, with or without a connection.",
           status.sessions);
    metric(out, "broker_subscriptions", "gauge", "Subscriptions of all sessions.",
           status.subscriptions);
    metric(out, "broker_retained", "gauge", "Retained messages.", status.retained);
    metric(out, "broker_connections_total", "counter", "Connections accepted.",
           status.connections_total);
    metric(out, "broker_refused_total", "counter", "Connections and CONNECTs refused.",
           status.refused_total);
    metric(out, "broker_received_total", "counter", "PUBLISH packets received.", status.received);
    metric(out, "broker_sent_total", "counter", "PUBLISH packets sent.", status.sent);
    metric(out, "broker_received_bytes_total", "counter", "Bytes of payload received.",
           status.received_bytes);
    metric(out, "broker_sent_bytes_total", "counter", "Bytes of payload sent.", status.sent_bytes);
    metric(out, "broker_queued", "gauge", "Deliveries that wait in sessions.", status.queued);
    metric(out, "broker_dropped_total", "counter",
           "Deliveries not made: queue full, reader slow, message expired.", status.dropped);
    metric(out, "broker_memory_bytes", "gauge", "Memory of what waits and what is retained.",
           status.memory_used);
    metric(out, "broker_memory_peak_bytes", "gauge", "The most it has been.", status.memory_peak);
    metric(out, "broker_state_failing", "gauge", "1 while the state file cannot be written.",
           status.state_failing);
}

static void relay_metrics(const struct daemon *daemon, FILE *out)
{
    static const struct {
        const char *name, *type, *help;
    } metrics[] = {
        {"forward_connected", "gauge", "1 while the upstream broker is connected."},
        {"forward_connects_total", "counter", "Connections to the upstream broker."},
        {"forward_sent_total", "counter", "Messages that the upstream broker has taken over."},
        {"forward_dropped_total", "counter", "Messages that it was not given, or has refused."},
        {"forward_queued", "gauge", "Messages that wait for it."},
    };
    size_t count = relays_count(daemon->relays);
    for (size_t m = 0; count > 0 && m < sizeof metrics / sizeof *metrics; m++) {
        metric_help(out, metrics[m].name, metrics[m].type, metrics[m].help);
        for (size_t i = 0; i < count; i++) {
            struct relay_status status;
            relays_status(daemon->relays, i, &status);
            const struct forward_status *forward = &status.forward;
            uint64_t values[] = {forward->connected, forward->connects, forward->forwarded,
                                 forward->dropped, status.queued};
            labelled(out, metrics[m].name, "forward", status.name, values[m]);
        }
    }
}

static void writer_metrics(const struct daemon *daemon, FILE *out)
{
    const struct writer_counters *writer = writer_counters(daemon->writer);
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
           writer_commits(daemon->writer));
    metric(out, "database_connections", "gauge", "Connections that can commit.",
           writer_usable(daemon->writer));
    metric(out, "lag_milliseconds", "gauge",
           "How long the oldest message has waited for its commit.",
           (uint64_t)report_lag_ms(daemon));
}

static void spool_metrics(const struct daemon *daemon, FILE *out)
{
    struct spool_file_status file;
    spool_file_status(spool_file_of(daemon->spool), &file);
    const struct spool_counters *counters = spool_counters(daemon->spool);
    metric(out, "spool_messages", "gauge", "Messages in the spool's file.", file.count);
    metric(out, "spool_bytes", "gauge", "What they take of the file.", file.bytes);
    metric(out, "spool_limit_bytes", "gauge",
           "What they may take: [spool] max_bytes, or less where the disk has less room.",
           file.max_bytes);
    metric_help(out, "spool_oldest_timestamp_seconds", "gauge",
                "When the oldest of them came; 0: there is none.");
    fprintf(out, "sensorlog_spool_oldest_timestamp_seconds %.3f\n", (double)file.oldest_us / 1e6);
    metric(out, "spool_state", "gauge",
           "0: messages go to PostgreSQL, 1: they are kept, 2: they are kept and drained.",
           (uint64_t)spool_state(daemon->spool));
    metric(out, "spool_failing", "gauge",
           "1 while the spool's file cannot be written, or not be read.", file.failing);
    metric(out, "spool_kept_total", "counter", "Messages that became durable in the spool.",
           counters->kept);
    metric(out, "spool_drained_total", "counter", "Messages of the spool that were committed.",
           counters->drained);
    metric(out, "spool_resolved_total", "counter",
           "Messages of the spool that turned out to have been committed before.",
           counters->resolved);
    metric(out, "spool_dropped_total", "counter",
           "Messages of the spool that were dropped for want of room.", counters->dropped);
}

void report_metrics(struct daemon *daemon, FILE *out)
{
    const struct loop_counters *loop = loop_counters(daemon->loop);
    source_metrics(daemon, out);
    connection_metrics(daemon, out);
    if (daemon->broker) {
        broker_metrics(daemon, out);
        relay_metrics(daemon, out);
    }
    mapping_metrics(daemon, out);
    writer_metrics(daemon, out);
    if (daemon->spool)
        spool_metrics(daemon, out);
    metric(out, "memory_bytes", "gauge", "Memory held by messages that wait.", daemon->budget.used);
    metric(out, "memory_peak_bytes", "gauge", "The most it has been.", daemon->budget.peak);
    metric(out, "memory_limit_bytes", "gauge", "[batch] memory.", daemon->budget.limit);
    metric(out, "loop_timer_events_total", "counter", "Timer callbacks of the event loop.",
           loop->timer_events);
    metric(out, "loop_task_events_total", "counter", "Deferred tasks of the event loop.",
           loop->task_events);
}
