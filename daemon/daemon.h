// The running daemon: its parts, for the files that know all of them (run.c,
// reload.c, report.c, metrics.c).
#pragma once

#include <stdio.h>

#include "base/loop.h"
#include "base/worker.h"
#include "broker/broker.h"
#include "configuration.h"
#include "core/budget.h"
#include "mqtt/subscriber.h"
#include "ops/http.h"
#include "ops/notify.h"
#include "pipeline/pipeline.h"
#include "relay.h"
#include "store/catalog.h"
#include "store/spool.h"
#include "store/writer.h"

struct daemon {
    const char *file;                   // of the configuration
    struct configuration configuration; // as it was at the start
    struct configuration *reloaded;     // whose [broker] is in force; NULL: still the first one's
    struct live live;                   // the mappings
    struct loop_timer *sweep;           // of those that are leaving
    struct loop *loop;
    struct worker *worker;
    struct budget budget;
    struct catalog *catalog;
    struct writer *writer;
    struct spool *spool; // NULL: there is none
    struct pipeline *pipeline;
    struct subscriber **subscribers;
    struct worker *logins; // password hashes, which a name server that hangs must not hold up
    struct broker *broker; // NULL: there is none; nor are there relays then
    struct relays *relays;
    struct notify *notify;
    struct http *http;
    struct loop_signal *terminate, *interrupt, *hang_up;
    struct loop_timer *deadline;
    bool stopping, disconnecting;
    size_t connected_parts;         // subscribers, broker, relays that have not said DISCONNECT yet
    struct log_limit refused_limit; // for lines that say why the database cannot be used
    // For rates in the status line.
    uint64_t last_rows;
    int64_t last_ms;
};

// report.c: what people see.
void report_status(struct daemon *daemon, char *text, size_t size);
// How long the oldest message that is not in the database has been waiting; 0 where there is none.
int64_t report_lag_ms(const struct daemon *daemon);
// A line per source and mapping with its books, at the end.
void report_books(const struct daemon *daemon);
// The sources of messages: subscribers, then the broker, then the spool.
size_t report_source_count(const struct daemon *daemon);
const struct message_source *report_source(const struct daemon *daemon, size_t index);

// reload.c: reads the configuration again and takes over what can change while messages flow.
void reload_init(struct daemon *daemon);
// After the writer is freed.
void reload_fini(struct daemon *daemon);

// metrics.c: what monitoring sees.
void report_metrics(struct daemon *daemon, FILE *out);
