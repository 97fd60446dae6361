// One connection to an upstream broker, by paho: from CONNECT to DISCONNECT or to its loss. A line
// is never used again, so that nothing of an old connection can come back by a new one.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "base/worker.h"
#include "forward/forward.h"

// Texts are copied.
struct line_options {
    const struct forward_options *forward;
    const char *password; // or NULL
    uint8_t version;      // 5, or 4 for 3.1.1
};

// From the loop, never from within a call of line.h; none after line_free.
struct line_calls {
    void (*up)(void *arg);
    // The upstream has taken the message over, or (refused: why) will never take it.
    void (*done)(void *arg, uint16_t packet_id, const char *refused);
    // The connection is lost, or has never been there. version: the upstream does not speak it.
    void (*down)(void *arg, const char *why, bool version);
    void (*closed)(void *arg); // after line_close
    void *arg;
};

struct line;

// Begins to connect.
struct line *line_open(struct loop *loop, struct worker *paho, const struct line_options *options,
                       const struct line_calls *calls);
// Between up and down. False: it is QoS 0, and too much of that has not been written yet.
bool line_send(struct line *line, const struct forward_message *message);
// Says DISCONNECT; then calls closed.
void line_close(struct line *line);
// At any time: what paho still has to do goes on without the caller. Takes NULL.
void line_free(struct line *line);
