// Relays messages to an upstream broker: its life, from line to line.
#include "forward/forward.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/backoff.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/resolve.h"
#include "base/secret.h"
#include "forward/line.h"

#define DOWN "down: "

enum {
    BACKOFF_MIN_MS = 1000,
    BACKOFF_MAX_MS = 60000,
    LASTED_MS = 10000,         // a connection up for so long ends the back-off
    SAME_DOWN_MS = 600 * 1000, // the same reason is logged again after so long
    FLIGHT_MS = 1000,          // a stop waits so long for acknowledgements
    REFUSED_LOG_MS = 60 * 1000,
};

enum forward_state { FORWARD_IDLE, FORWARD_CONNECTING, FORWARD_UP, FORWARD_WAITING };

struct forward {
    struct loop *loop;
    struct worker *names, *paho;
    const struct forward_options *options;
    struct forward_calls calls;
    enum forward_state state;
    uint8_t version;         // of the next line: 5, or 4 where the upstream does not speak it
    struct resolve *resolve; // under way
    struct line *line;
    struct loop_timer *timer; // until the next attempt; when stopping, for what is in flight
    struct backoff backoff;
    int64_t up_since_ms, down_logged_ms;
    char down[320];
    size_t in_flight; // delivered and not done
    uint64_t connects, forwarded, dropped;
    struct log_limit refused_limit;
    // The stop.
    bool stopping, closing;
    loop_fn *stopped;
    void *stopped_arg;
};

static void log_down(struct forward *forward, const char *down, bool was_up, int64_t delay)
{
    int64_t now = loop_now_ms();
    bool same = !was_up && strcmp(down, forward->down) == 0;
    enum log_level level = LOG_LEVEL_WARN;
    if (same && now - forward->down_logged_ms < SAME_DOWN_MS)
        level = LOG_LEVEL_DEBUG;
    else
        forward->down_logged_ms = now;
    log_write(level, "forward %s: %s %s: %s; next try in %.1f s", forward->options->name,
              was_up ? "lost the connection to" : "no connection to", forward->options->uri,
              down + strlen(DOWN), (double)delay / 1000);
}

static void wait_and_retry(struct forward *forward, const char *why)
{
    char down[sizeof forward->down];
    snprintf(down, sizeof down, DOWN "%s", why);
    bool was_up = forward->state == FORWARD_UP;
    if (was_up && loop_now_ms() - forward->up_since_ms >= LASTED_MS)
        backoff_reset(&forward->backoff);
    int64_t delay = backoff_next_ms(&forward->backoff);
    log_down(forward, down, was_up, delay);
    memcpy(forward->down, down, sizeof down);
    forward->state = FORWARD_WAITING;
    loop_timer_start(forward->timer, delay);
}

// ---- the line's calls ----

static void line_is_up(void *arg)
{
    struct forward *forward = arg;
    const struct forward_options *options = forward->options;
    forward->state = FORWARD_UP;
    forward->up_since_ms = loop_now_ms();
    forward->connects++;
    log_info("forward %s: connected to %s as %s, MQTT %s", options->name, options->uri,
             options->client_id, forward->version == 5 ? "5" : "3.1.1");
    if (!forward->stopping)
        forward->calls.open(forward->calls.arg);
}

static void close_line(struct forward *forward)
{
    forward->closing = true;
    loop_timer_stop(forward->timer);
    line_close(forward->line);
}

static void message_done(void *arg, uint16_t packet_id, const char *refused)
{
    struct forward *forward = arg;
    char more[LOG_MORE_SIZE];
    uint64_t suppressed;
    forward->in_flight--;
    if (!refused)
        forward->forwarded++;
    else
        forward->dropped++;
    if (refused && log_limit_pass(&forward->refused_limit, &suppressed))
        log_warn("forward %s: a message is not forwarded: %s%s", forward->options->name, refused,
                 log_more(suppressed, more));
    if (packet_id != 0)
        forward->calls.done(forward->calls.arg, packet_id);
    if (forward->stopping && !forward->closing && forward->in_flight == 0)
        close_line(forward);
}

static void open_line(struct forward *forward);

static void line_is_down(void *arg, const char *why, bool version)
{
    struct forward *forward = arg;
    bool was_up = forward->state == FORWARD_UP;
    if (forward->stopping) {
        close_line(forward); // no answer will come any more
        return;
    }
    if (was_up)
        forward->calls.close(forward->calls.arg);
    forward->in_flight = 0;
    if (version) {
        log_info("forward %s: %s: trying 3.1.1", forward->options->name, why);
        forward->version = 4;
        open_line(forward);
        return;
    }
    if (was_up) // whoever comes back may be another
        forward->version = 5;
    wait_and_retry(forward, why);
    line_free(forward->line);
    forward->line = NULL;
}

static void line_is_closed(void *arg)
{
    struct forward *forward = arg;
    forward->stopped(forward->stopped_arg);
}

// Replaces the line that there was.
static void open_line(struct forward *forward)
{
    const struct forward_options *options = forward->options;
    char *error = NULL;
    char *password = NULL;
    if (options->password_file && !(password = secret_read(options->password_file, &error))) {
        wait_and_retry(forward, error);
        free(error);
        return;
    }
    const struct line_options line_options = {.forward = options,
                                              .password = password,
                                              .version = forward->version};
    const struct line_calls calls = {.up = line_is_up,
                                     .done = message_done,
                                     .down = line_is_down,
                                     .closed = line_is_closed,
                                     .arg = forward};
    line_free(forward->line);
    forward->line = line_open(forward->loop, forward->paho, &line_options, &calls);
    forward->state = FORWARD_CONNECTING;
    secret_free(password);
}

// paho looks the name up again, with a lock held that its other connections need: by now there is a
// name server that answers.
static void looked_up(void *arg, const struct addrinfo *addresses, const char *error)
{
    struct forward *forward = arg;
    (void)addresses;
    forward->resolve = NULL;
    if (error)
        wait_and_retry(forward, error);
    else
        open_line(forward);
}

static void connect_now(struct forward *forward)
{
    const struct forward_options *options = forward->options;
    forward->state = FORWARD_CONNECTING;
    forward->resolve =
        resolve_start(forward->names, options->host, options->port, looked_up, forward);
}

static void time_is_up(void *arg)
{
    struct forward *forward = arg;
    if (forward->stopping)
        close_line(forward);
    else
        connect_now(forward);
}

// ---- the caller's ----

struct forward *forward_new(struct loop *loop, struct worker *names, struct worker *paho,
                            const struct forward_options *options,
                            const struct forward_calls *calls)
{
    struct forward *forward = mem_alloc(sizeof *forward);
    *forward = (struct forward){
        .loop = loop,
        .names = names,
        .paho = paho,
        .options = options,
        .calls = *calls,
        .version = 5,
        .backoff = {.minimum_ms = BACKOFF_MIN_MS, .maximum_ms = BACKOFF_MAX_MS},
        .refused_limit = {.interval_ms = REFUSED_LOG_MS},
    };
    forward->timer = loop_timer_new(loop, time_is_up, forward);
    return forward;
}

void forward_free(struct forward *forward)
{
    if (!forward)
        return;
    resolve_cancel(forward->resolve);
    line_free(forward->line);
    loop_timer_free(forward->timer);
    free(forward);
}

void forward_start(struct forward *forward)
{
    connect_now(forward);
}

void forward_deliver(struct forward *forward, const struct forward_message *message)
{
    if (line_send(forward->line, message))
        forward->in_flight++;
    else
        forward->dropped++;
}

void forward_stop(struct forward *forward, loop_fn *done, void *arg)
{
    forward->stopping = true;
    forward->stopped = done;
    forward->stopped_arg = arg;
    loop_timer_stop(forward->timer);
    resolve_cancel(forward->resolve);
    forward->resolve = NULL;
    if (!forward->line)
        loop_post(forward->loop, done, arg);
    else if (forward->in_flight > 0)
        loop_timer_start(forward->timer, FLIGHT_MS);
    else
        close_line(forward);
}

void forward_status(const struct forward *forward, struct forward_status *status)
{
    static const char *const names[] = {
        [FORWARD_IDLE] = "idle", [FORWARD_CONNECTING] = "connecting", [FORWARD_UP] = "connected"};
    *status = (struct forward_status){
        .state = forward->state == FORWARD_WAITING ? forward->down : names[forward->state],
        .connected = forward->state == FORWARD_UP,
        .connects = forward->connects,
        .forwarded = forward->forwarded,
        .dropped = forward->dropped,
    };
}
