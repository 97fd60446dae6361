// What the files of the broker share; nobody else includes it.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/log.h"
#include "base/wheel.h"
#include "broker/accounts.h"
#include "broker/acl.h"
#include "broker/broker.h"
#include "broker/retained.h"
#include "broker/session.h"
#include "broker/state.h"
#include "broker/sys.h"
#include "mqtt/message_properties.h"

struct client;
struct listener;

// The clients that are connected, by id: a serial number that is never used twice, and a slot.
struct client_table {
    struct client **slots; // NULL: free
    size_t capacity;
    uint32_t *free_slots; // a stack of them
    size_t free_count;
    uint64_t last_serial;
};

struct broker {
    struct message_source source; // first: settled finds the broker by it
    struct loop *loop;
    struct worker *worker;    // of the broker alone: it checks passwords
    struct budget *budget;    // of messages on their way to the database
    struct budget memory;     // of publications
    struct budget unfinished; // of packets that have not come as a whole
    const struct broker_options *options;
    struct broker_calls calls;
    struct wheel *wheel;
    struct state *state;
    struct sessions *sessions;
    struct sys *sys;
    struct sys_counters counters;
    uint64_t refused; // CONNECTs, and connections beyond the limit

    // What a reload replaces.
    struct accounts *accounts; // NULL: there is no password file
    struct acl *acl;
    struct tls *tls; // of all listeners that have it

    struct listener *listeners;
    size_t listener_count;
    size_t connections; // sockets, of whatever state

    struct client_table clients;
    struct list all;     // clients of whatever state
    struct list turning; // clients with something to do at the end of this turn of the loop
    struct list stalled; // clients that wait for room in the budget
    struct loop_task *turn;
    struct message **judging; // of QoS 2, until PostgreSQL's identifiers are known
    size_t judging_count, judging_capacity;

    bool quiet;      // takes no new messages, no new connections
    bool discarding; // a session ends because its client wants a new one
    loop_fn *stopped;
    void *stopped_arg;
    bool state_saved; // while stopping: all of it is durable
    struct wheel_entry stop_timer;

    struct log_limit crowd_limit, accept_limit, denied_limit, subscribe_limit, memory_limit;
    struct log_causes refusals; // of connections and CONNECTs
    uint8_t *scratch;           // encoded properties of one publication
    size_t scratch_capacity;
    struct message_properties properties; // of one message
    char status_text[160];
};
