// The running daemon: its parts, for the two files that know all of them (run.c, report.c).
#pragma once

#include <stdio.h>

#include "base/loop.h"
#include "base/worker.h"
#include "configuration.h"
#include "core/budget.h"
#include "mqtt/subscriber.h"
#include "ops/http.h"
#include "ops/notify.h"
#include "pipeline/pipeline.h"
#include "store/catalog.h"
#include "store/writer.h"

struct daemon {
    struct configuration configuration;
    struct loop *loop;
    struct worker *worker;
    struct budget budget;
    struct target **targets;
    struct catalog *catalog;
    struct writer *writer;
    struct pipeline *pipeline;
    struct subscriber **subscribers;
    struct notify *notify;
    struct http *http;
    struct loop_signal *terminate, *interrupt;
    struct loop_timer *deadline;
    size_t stopping_subscribers; // that have not said DISCONNECT yet
    bool stopping;
    struct log_limit refused_limit; // for lines that say why the database cannot be used
    // For rates in the status line.
    uint64_t last_rows;
    int64_t last_ms;
};

// report.c: what people and monitoring see.
void report_status(struct daemon *daemon, char *text, size_t size);
void report_metrics(struct daemon *daemon, FILE *out);
// A line per source and mapping with its books, at the end.
void report_books(const struct daemon *daemon);
