// Inside a line: what its three kinds of threads share. The loop's never calls paho, whose calls
// block: they wait for a lock that paho holds while it looks up names. The worker's alone calls it.
// paho's own come with callbacks and only leave word.
#pragma once

#include <MQTTAsync.h>
#include <pthread.h>

#include "base/list.h"
#include "forward/line.h"

// Of QoS 0 that is not written yet: beyond it QoS 0 is dropped.
enum { LINE_QOS0_MESSAGES = 1000, LINE_QOS0_BYTES = 4 << 20 };

// A message on its way: outgoing, then flying (paho has it, with a pointer to this), then finished.
struct item {
    struct list node;
    struct line *line;
    const char *refused; // static text, or NULL: the upstream has it
    int64_t expires_ms;
    size_t size;
    struct bytes payload, properties;
    uint16_t packet_id;
    uint8_t qos; // as it was delivered
    bool retain;
    char topic[]; // with prefix and NUL; behind it the other bytes
};

struct line_limits {
    uint32_t packet; // bytes
    uint8_t qos;
    bool retain;
};

struct line {
    struct loop *loop;
    struct worker *paho;
    struct line_calls calls;
    uint8_t version;
    bool tls, verify;
    uint16_t window, keepalive;
    char *uri, *client_id, *username, *password;
    char *ca_file, *certificate_file, *key_file;
    char *prefix;
    // The loop's.
    unsigned jobs; // submitted to the worker, and not ended
    bool told_up, told_down, closing, freed;
    size_t qos0_count, qos0_bytes;
    // The worker's.
    MQTTAsync client;
    bool started, ended;
    // The upstream's, known with up.
    struct line_limits limits;
    // Everybody's, under the lock.
    pthread_mutex_t lock;
    bool ending; // to be disconnected and destroyed
    bool called; // the worker will come
    bool posted; // the loop will come
    bool deaf;   // the loop does not listen any more, and may be gone
    struct list outgoing, flying, finished;
    size_t flying_bytes;
    bool up, down, bad_version;
    char why[300], tls_error[200];
};

// The worker's: does what there is to do.
void line_work(struct line *line);
// The loop's: takes what has been left for it.
void line_hear(struct line *line);
