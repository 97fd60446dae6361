// What people see of the running daemon.
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

size_t report_source_count(const struct daemon *daemon)
{
    return daemon->configuration.settings.subscriber_count + (daemon->broker != NULL) +
           (daemon->spool != NULL);
}

const struct message_source *report_source(const struct daemon *daemon, size_t index)
{
    size_t subscribers = daemon->configuration.settings.subscriber_count;
    if (index < subscribers)
        return subscriber_source(daemon->subscribers[index]);
    return index == subscribers && daemon->broker ? broker_source(daemon->broker)
                                                  : spool_source(daemon->spool);
}

// Messages that are received and not settled: the lag behind the senders.
static uint64_t pending(const struct daemon *daemon)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < report_source_count(daemon); i++)
        sum += books_pending(&report_source(daemon, i)->books);
    return sum;
}

static void append_subscribers(const struct daemon *daemon, char *text, size_t size)
{
    for (size_t i = 0; i < daemon->configuration.settings.subscriber_count; i++) {
        struct subscriber_status status;
        subscriber_status(daemon->subscribers[i], &status);
        append(text, size, "; %s: %s", subscriber_source(daemon->subscribers[i])->name,
               status.state);
    }
}

static void append_broker(const struct daemon *daemon, char *text, size_t size)
{
    if (!daemon->broker)
        return;
    struct broker_status broker;
    broker_status(daemon->broker, &broker);
    append(text, size, "; %s: %s", broker_source(daemon->broker)->name, broker.state);
    for (size_t i = 0; i < relays_count(daemon->relays); i++) {
        struct relay_status relay;
        relays_status(daemon->relays, i, &relay);
        append(text, size, "; forward %s: %s", relay.name, relay.forward.state);
    }
}

// Of what is not in the database yet, the spool's included.
int64_t report_lag_ms(const struct daemon *daemon)
{
    int64_t lag = writer_lag_ms(daemon->writer);
    if (!daemon->spool)
        return lag;
    int64_t spooled = spool_lag_ms(daemon->spool);
    return spooled > lag ? spooled : lag;
}

void report_status(struct daemon *daemon, char *text, size_t size)
{
    const char *tables = catalog_state(daemon->catalog);
    bool ready = catalog_ready(daemon->catalog);
    snprintf(text, size, "%sdatabase: %s", daemon->stopping ? "stopping; " : "",
             ready ? writer_state(daemon->writer) : tables);
    if (ready && strcmp(tables, "ok") != 0)
        append(text, size, "; tables: %s", tables);
    if (daemon->spool)
        append(text, size, "; spool: %s", spool_status(daemon->spool));
    append_subscribers(daemon, text, size);
    append_broker(daemon, text, size);
    append_rate(daemon, text, size);
    append(text, size, "; %" PRIu64 " pending, lag %" PRId64 " ms", pending(daemon),
           report_lag_ms(daemon));
    uint64_t rejects = writer_counters(daemon->writer)->rejects;
    if (rejects > 0)
        append(text, size, "; %" PRIu64 " rejected", rejects);
    size_t stopped = 0;
    for (size_t i = 0; i < daemon->live.count; i++)
        stopped += daemon->live.items[i]->target.stopped != NULL;
    if (stopped > 0)
        append(text, size, "; %zu mapping%s stopped, see the log", stopped,
               stopped == 1 ? "" : "s");
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
    for (size_t i = 0; i < report_source_count(daemon); i++) {
        const struct message_source *source = report_source(daemon, i);
        log_books("source", source->name, &source->books);
    }
    for (size_t i = 0; i < daemon->live.count; i++) {
        const struct books books = live_books(&daemon->live, daemon->live.items[i]);
        log_books("mapping", daemon->live.items[i]->name, &books);
    }
}
