// sensorlogd.conf and conf.d/*.conf: what they say, as plain structs.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/log.h"
#include "broker/broker.h"
#include "conf/problems.h"
#include "forward/forward.h"
#include "mqtt/subscriber.h"

// A [subscriber NAME]; the subscriptions of its options come from the mappings, by mapfile_bind.
struct subscriber_entry {
    struct subscriber_options options;
    uint8_t qos; // default of its subscriptions
    char *share; // or NULL
    char *uri;
    char *where; // file:line of the section
};

struct settings {
    char *file; // as given
    struct {
        char *conninfo, *schema, *writer;
        unsigned connections;
        bool migrate;
    } postgres;
    struct subscriber_entry *subscribers;
    size_t subscriber_count;
    struct broker_options broker;
    bool has_broker; // else what broker says has no meaning
    struct forward_options *forwards;
    size_t forward_count;
    struct {
        size_t max_rows, memory;
        int64_t linger_ms;
    } batch;
    struct {
        char *directory; // absolute or relative to the file that names it; NULL: not known
        char *file;      // that names it, and where; NULL: none does
        int line;
    } mappings;
    struct {
        char *directory; // for what must outlive the process; NULL: nowhere
        char *flaw;      // why what is to be kept at the default place cannot be; NULL: it can
    } state;
    struct {
        bool outage;             // mode; else there is no spool
        int64_t outage_after_ms; // without a usable connection
        char *file;              // NULL: none is named, and there is no state directory
        uint64_t max_bytes;
        bool drop_oldest; // on_full; else messages wait unacknowledged
    } spool;
    struct {
        char *listen_host; // NULL: no HTTP
        uint16_t listen_port;
    } http;
    enum log_level log_level;
};

// Reads FILE and conf.d/*.conf beside it; every mistake goes to problems, and what can be read is
// read all the same.
void settings_load(struct settings *settings, const char *file, struct problems *problems);
void settings_fini(struct settings *settings);
// The effective settings in the file's own syntax, secrets masked.
void settings_print(const struct settings *settings, FILE *out);
