// The $SYS topics, by the names and in the formats of mosquitto, for its tools read them.
#include "broker/sys.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "broker/retained.h"

#define BROKER "$SYS/broker/"

enum figure {
    UPTIME,
    CLIENTS_TOTAL,
    CLIENTS_CONNECTED,
    CLIENTS_DISCONNECTED,
    CLIENTS_MAXIMUM,
    CLIENTS_EXPIRED,
    MESSAGES_RECEIVED,
    MESSAGES_SENT,
    MESSAGES_STORED,
    PUBLISH_RECEIVED,
    PUBLISH_SENT,
    PUBLISH_DROPPED,
    PUBLISH_BYTES_RECEIVED,
    PUBLISH_BYTES_SENT,
    BYTES_RECEIVED,
    BYTES_SENT,
    SUBSCRIPTIONS,
    RETAINED,
    STORE_MESSAGES,
    STORE_BYTES,
    FIGURES, // with a topic of their own
    SOCKETS = FIGURES,
    CONNECTIONS,
    ALL_FIGURES,
};

static const char *const topics[FIGURES] = {
    [UPTIME] = "uptime",
    [CLIENTS_TOTAL] = "clients/total",
    [CLIENTS_CONNECTED] = "clients/connected",
    [CLIENTS_DISCONNECTED] = "clients/disconnected",
    [CLIENTS_MAXIMUM] = "clients/maximum",
    [CLIENTS_EXPIRED] = "clients/expired",
    [MESSAGES_RECEIVED] = "messages/received",
    [MESSAGES_SENT] = "messages/sent",
    [MESSAGES_STORED] = "messages/stored",
    [PUBLISH_RECEIVED] = "publish/messages/received",
    [PUBLISH_SENT] = "publish/messages/sent",
    [PUBLISH_DROPPED] = "publish/messages/dropped",
    [PUBLISH_BYTES_RECEIVED] = "publish/bytes/received",
    [PUBLISH_BYTES_SENT] = "publish/bytes/sent",
    [BYTES_RECEIVED] = "bytes/received",
    [BYTES_SENT] = "bytes/sent",
    [SUBSCRIPTIONS] = "subscriptions/count",
    [RETAINED] = "retained messages/count",
    [STORE_MESSAGES] = "store/messages/count",
    [STORE_BYTES] = "store/messages/bytes",
};

// How much a minute, smoothed over one, five and fifteen of them, as a system's load is.
static const struct load {
    const char *topic;
    enum figure figure;
} loads[] = {
    {"load/messages/received", MESSAGES_RECEIVED},
    {"load/messages/sent", MESSAGES_SENT},
    {"load/publish/received", PUBLISH_RECEIVED},
    {"load/publish/sent", PUBLISH_SENT},
    {"load/publish/dropped", PUBLISH_DROPPED},
    {"load/bytes/received", BYTES_RECEIVED},
    {"load/bytes/sent", BYTES_SENT},
    {"load/sockets", SOCKETS},
    {"load/connections", CONNECTIONS},
};
enum { LOADS = sizeof loads / sizeof *loads, SPANS = 3 };
static const int span_minutes[SPANS] = {1, 5, 15};

struct sys {
    struct sessions *sessions;
    const struct sys_counters *counters;
    struct loop_timer *timer;
    uint32_t interval; // seconds; 0: none
    int64_t started_ms, last_ms;
    bool published;                // once, at least
    uint64_t figures[ALL_FIGURES]; // as last time
    double averages[LOADS][SPANS];
    double told[LOADS][SPANS]; // as they were published
};

static void publish(struct sys *sys, const char *topic, const char *text)
{
    char full[100];
    snprintf(full, sizeof full, BROKER "%s", topic);
    const struct publication_parts parts = {
        .topic = bytes_of(full),
        .payload = bytes_of(text),
        .received_us = loop_wall_us(),
        .expires_ms = INT64_MAX,
        .retain = true,
    };
    struct publication *publication = publication_new(sys->sessions->budget, &parts);
    sessions_publish(sys->sessions, publication);
    publication_release(publication);
}

static void read_figures(const struct sys *sys, int64_t now, uint64_t figures[ALL_FIGURES])
{
    const struct sys_counters *counters = sys->counters;
    const struct sessions *sessions = sys->sessions;
    const struct sessions_counters *sent = &sessions->counters;
    size_t connected = counters->clients;
    size_t away = sessions->count - connected - counters->taps;
    uint64_t stored = sessions->queued + retained_count(sessions->retained);
    const uint64_t values[ALL_FIGURES] = {
        [UPTIME] = (uint64_t)(now - sys->started_ms) / 1000,
        [CLIENTS_TOTAL] = connected + away,
        [CLIENTS_CONNECTED] = connected,
        [CLIENTS_DISCONNECTED] = away,
        [CLIENTS_MAXIMUM] = counters->clients_maximum,
        [CLIENTS_EXPIRED] = counters->expired,
        [MESSAGES_RECEIVED] = counters->packets_received,
        [MESSAGES_SENT] = counters->answers_sent + sent->sent,
        [MESSAGES_STORED] = stored,
        [PUBLISH_RECEIVED] = counters->publish_received,
        [PUBLISH_SENT] = sent->sent,
        [PUBLISH_DROPPED] = sent->dropped_full + sent->dropped_slow,
        [PUBLISH_BYTES_RECEIVED] = counters->publish_received_bytes,
        [PUBLISH_BYTES_SENT] = sent->sent_bytes,
        [BYTES_RECEIVED] = counters->bytes_received,
        [BYTES_SENT] = counters->answer_bytes_sent + sent->sent_bytes,
        [SUBSCRIPTIONS] = sessions->subscription_count,
        [RETAINED] = retained_count(sessions->retained),
        [STORE_MESSAGES] = stored,
        [STORE_BYTES] = sessions->budget->used,
        [SOCKETS] = counters->sockets,
        [CONNECTIONS] = counters->connects,
    };
    memcpy(figures, values, sizeof values);
}

static void publish_load(struct sys *sys, size_t load, size_t span)
{
    char topic[80], text[32];
    double average = sys->averages[load][span];
    if (sys->published && fabs(average - sys->told[load][span]) < 0.01)
        return;
    sys->told[load][span] = average;
    snprintf(topic, sizeof topic, "%s/%dmin", loads[load].topic, span_minutes[span]);
    snprintf(text, sizeof text, "%.2f", average);
    publish(sys, topic, text);
}

static void publish_loads(struct sys *sys, const uint64_t figures[ALL_FIGURES], int64_t passed_ms)
{
    double minutes = (double)passed_ms / 60000;
    for (size_t i = 0; i < LOADS; i++) {
        enum figure figure = loads[i].figure;
        double rate = minutes > 0 ? (double)(figures[figure] - sys->figures[figure]) / minutes : 0;
        for (size_t span = 0; span < SPANS; span++) {
            double *average = &sys->averages[i][span];
            *average = rate + exp(-minutes / span_minutes[span]) * (*average - rate);
            publish_load(sys, i, span);
        }
    }
}

static void publish_figure(struct sys *sys, enum figure figure, uint64_t value)
{
    char text[40];
    if (sys->published && value == sys->figures[figure])
        return;
    snprintf(text, sizeof text, "%llu%s", (unsigned long long)value,
             figure == UPTIME ? " seconds" : "");
    publish(sys, topics[figure], text);
}

static void tick(void *arg)
{
    struct sys *sys = arg;
    uint64_t figures[ALL_FIGURES];
    int64_t now = loop_now_ms();
    read_figures(sys, now, figures);
    if (!sys->published)
        publish(sys, "version", "sensorlogd version " SENSORLOGD_VERSION);
    for (enum figure figure = 0; figure < FIGURES; figure++)
        publish_figure(sys, figure, figures[figure]);
    publish_loads(sys, figures, now - sys->last_ms);
    memcpy(sys->figures, figures, sizeof figures);
    sys->last_ms = now;
    sys->published = true;
    loop_timer_start(sys->timer, (int64_t)sys->interval * 1000);
}

struct sys *sys_new(struct loop *loop, struct sessions *sessions,
                    const struct sys_counters *counters, uint32_t interval)
{
    struct sys *sys = mem_zalloc(sizeof *sys);
    sys->sessions = sessions;
    sys->counters = counters;
    sys->timer = loop_timer_new(loop, tick, sys);
    sys->started_ms = sys->last_ms = loop_now_ms();
    sys_set_interval(sys, interval);
    return sys;
}

void sys_set_interval(struct sys *sys, uint32_t interval)
{
    if (interval == sys->interval)
        return;
    sys->interval = interval;
    if (interval == 0)
        loop_timer_stop(sys->timer);
    else
        loop_timer_start(sys->timer, 0);
}

void sys_free(struct sys *sys)
{
    if (!sys)
        return;
    loop_timer_free(sys->timer);
    free(sys);
}
