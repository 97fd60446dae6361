// A client of the site's broker: its life, from connection to connection.
#include "mqtt/subscriber.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "mqtt/subscriber_internal.h"

#define DOWN "down: "
#define BACKOFF_MIN_MS 1000
#define BACKOFF_MAX_MS 60000
#define LASTED_MS 10000           // a connection up for so long ends the back-off
#define SAME_LOSS_MS (600 * 1000) // the same reason is logged again after so long

static void log_loss(struct subscriber *sub, enum log_level level, const char *down, bool was_up,
                     int64_t delay)
{
    int64_t now = loop_now_ms();
    bool same = !was_up && strcmp(down, sub->down) == 0;
    if (same && now - sub->down_logged_ms < SAME_LOSS_MS)
        level = LOG_LEVEL_DEBUG;
    else
        sub->down_logged_ms = now;
    log_write(level, "%s: %s %s:%u: %s; next try in %.1f s", sub->source.name,
              was_up ? "lost the connection to" : "no connection to", sub->options->host,
              sub->options->port, down + strlen(DOWN), (double)delay / 1000);
}

// Forgets what belongs to the connection alone.
static void connection_end(struct subscriber *sub)
{
    loop_timer_stop(sub->timer);
    loop_timer_stop(sub->ping);
    window_reset(&sub->window);
    sub->acks = bytes_writer(sub->ack_bytes, sizeof sub->ack_bytes);
    sub->stalled = sub->abandoned = sub->plan_again = false;
    sub->stalled_id = 0;
    for (size_t i = 0; i < sub->held.count; i++)
        sub->held.items[i].request = 0;
}

// The connection is freed by the next turn; what it calls until then is not heard.
static void discard(struct subscriber *sub)
{
    sub->conn_over = true;
    subscriber_turn_later(sub);
}

void subscriber_lost(struct subscriber *sub, enum log_level level, const char *format, ...)
{
    char down[sizeof sub->down] = DOWN;
    va_list args;
    va_start(args, format);
    vsnprintf(down + strlen(DOWN), sizeof down - strlen(DOWN), format, args);
    va_end(args);
    bool was_up = sub->state == SUBSCRIBER_UP;
    if (was_up && loop_now_ms() - sub->up_since_ms >= LASTED_MS)
        backoff_reset(&sub->backoff);
    int64_t delay = backoff_next_ms(&sub->backoff);
    log_loss(sub, level, down, was_up, delay);
    memcpy(sub->down, down, sizeof down);
    connection_end(sub);
    sub->state = SUBSCRIBER_WAITING;
    discard(sub);
    loop_timer_start(sub->timer, delay);
}

void subscriber_refuse(struct subscriber *sub, uint8_t reason, const char *text)
{
    struct packet packet = {.type = PACKET_DISCONNECT,
                            .version = sub->version,
                            .reason.reason = reason};
    bool told = sub->version == PACKET_V5 && sub->state == SUBSCRIBER_UP;
    if (told) {
        subscriber_release(sub);
        subscriber_send(sub, &packet);
    }
    subscriber_lost(sub, LOG_LEVEL_ERROR, "the broker breaks the protocol: %s", text);
    // Until the next attempt at most the connection stays, to bring the DISCONNECT across.
    if (told) {
        sub->conn_over = false;
        conn_finish(sub->conn);
    }
}

void subscriber_unanswered(struct subscriber *sub, const char *why)
{
    const char *then = "";
    if (sub->version < sub->options->protocol) {
        sub->version = sub->options->protocol;
        then = "; trying MQTT 5 again";
    } else if (sub->version == PACKET_V5 && ++sub->unanswered >= 2) {
        sub->version = PACKET_V311;
        sub->unanswered = 0;
        then = "; trying MQTT 3.1.1";
    }
    subscriber_lost(sub, LOG_LEVEL_WARN, "%s before CONNACK%s", why, then);
}

void subscriber_fall_back(struct subscriber *sub)
{
    log_info("%s: the broker does not speak MQTT 5: trying 3.1.1", sub->source.name);
    sub->version = PACKET_V311;
    connection_end(sub);
    sub->state = SUBSCRIBER_WAITING;
    discard(sub);
    loop_timer_start(sub->timer, 0);
}

void subscriber_send(struct subscriber *sub, const struct packet *packet)
{
    size_t size = packet_size(packet);
    struct bytes_writer writer = bytes_writer(mem_alloc(size), size);
    packet_write(&writer, packet);
    if (writer.bad)
        log_error("%s: %s does not fit into a packet", sub->source.name,
                  packet_type_name(packet->type));
    else
        conn_write(sub->conn, (struct bytes){writer.data, writer.length});
    explicit_bzero(writer.data, size); // a CONNECT has the password
    free(writer.data);
}

// At three quarters of the keepalive: a PINGREQ. By the next time its answer must be there, or
// anything else, for the answer may be far behind it. While nothing is read nothing can be seen,
// and its lack is no failure.
static void ping_due(void *arg)
{
    struct subscriber *sub = arg;
    if (sub->pong_due && !sub->stalled) {
        subscriber_lost(sub, LOG_LEVEL_WARN, "no PINGRESP");
        return;
    }
    subscriber_send(sub, &(struct packet){.type = PACKET_PINGREQ, .version = sub->version});
    sub->pong_due = true;
    loop_timer_start(sub->ping, sub->limits.keepalive * 750);
}

void subscriber_keep_alive(struct subscriber *sub)
{
    sub->pong_due = false;
    if (sub->limits.keepalive > 0)
        loop_timer_start(sub->ping, sub->limits.keepalive * 750);
}

static enum conn_next packet_came(void *arg, const struct packet_frame *frame, struct bytes body)
{
    struct subscriber *sub = arg;
    if (sub->conn_over)
        return CONN_HOLD;
    sub->pong_due = false; // whatever it is, the broker is there
    if (frame->type == PACKET_PUBLISH && sub->state == SUBSCRIBER_UP)
        return subscriber_take_publish(sub, frame, body);
    struct packet packet;
    struct packet_error error = {REASON_PACKET_TOO_LARGE, "packet is too large"};
    bool greeting = sub->state == SUBSCRIBER_GREETING;
    if (frame->body_length == body.length &&
        packet_parse(frame, body.data, sub->version, PACKET_FROM_SERVER, &packet, &error))
        subscriber_take_packet(sub, &packet);
    else if (greeting)
        subscriber_unanswered(sub, "unintelligible answer");
    else
        subscriber_refuse(sub, error.reason, error.text);
    return sub->state == SUBSCRIBER_UP ? CONN_NEXT : CONN_HOLD;
}

static void malformed(void *arg, const struct packet_error *error)
{
    struct subscriber *sub = arg;
    if (sub->conn_over)
        return;
    if (sub->state == SUBSCRIBER_GREETING)
        subscriber_unanswered(sub, "unintelligible answer");
    else
        subscriber_refuse(sub, error->reason, error->text);
}

static void opened(void *arg)
{
    struct subscriber *sub = arg;
    if (sub->conn_over)
        return;
    sub->state = SUBSCRIBER_GREETING;
    loop_timer_start(sub->timer, CONNACK_TIMEOUT_MS);
    subscriber_greet(sub);
}

static void stop_now(struct subscriber *sub)
{
    connection_end(sub);
    sub->state = SUBSCRIBER_STOPPED;
    discard(sub);
}

static void closed(void *arg, const char *why)
{
    struct subscriber *sub = arg;
    if (sub->conn_over)
        return;
    if (sub->state == SUBSCRIBER_STOPPING)
        stop_now(sub);
    else if (sub->state == SUBSCRIBER_WAITING)
        discard(sub);
    else if (sub->state == SUBSCRIBER_GREETING)
        subscriber_unanswered(sub, why);
    else
        subscriber_lost(sub, LOG_LEVEL_WARN, "%s", why);
}

static void connect_now(struct subscriber *sub)
{
    static const struct conn_calls calls = {.open = opened,
                                            .packet = packet_came,
                                            .malformed = malformed,
                                            .closed = closed};
    const struct subscriber_options *options = sub->options;
    if (!subscriber_tls_ready(sub))
        return;
    struct conn_transport transport = {.tls = sub->tls,
                                       .websocket = options->websocket,
                                       .path = options->path};
    sub->conn_limits = (struct conn_limits){.packet = options->max_payload + PUBLISH_HEAD_KEEP,
                                            .keep = PAYLOAD_KEEP + PUBLISH_HEAD_KEEP};
    conn_free(sub->conn);
    sub->conn_over = false;
    sub->conn = conn_new(sub->loop, &sub->conn_limits, &calls, sub);
    sub->state = SUBSCRIBER_CONNECTING;
    conn_connect(sub->conn, sub->worker, options->host, options->port, &transport);
}

static void timer_due(void *arg)
{
    struct subscriber *sub = arg;
    switch (sub->state) {
    case SUBSCRIBER_WAITING:
        connect_now(sub);
        return;
    case SUBSCRIBER_GREETING:
        subscriber_lost(sub, LOG_LEVEL_WARN, "no CONNACK within %d s", CONNACK_TIMEOUT_MS / 1000);
        return;
    case SUBSCRIBER_UP:
        // While nothing is read the answer cannot be seen.
        if (sub->stalled)
            loop_timer_start(sub->timer, SUBACK_TIMEOUT_MS);
        else
            subscriber_lost(sub, LOG_LEVEL_WARN, "no SUBACK within %d s", SUBACK_TIMEOUT_MS / 1000);
        return;
    case SUBSCRIBER_STOPPING:
        stop_now(sub);
        return;
    default:
        return;
    }
}

// The end of a turn of the loop: acknowledgements, all in one write; and a connection's end.
static void turn_end(void *arg)
{
    struct subscriber *sub = arg;
    sub->turn_due = false;
    if (sub->state == SUBSCRIBER_UP) {
        subscriber_release(sub);
        if (conn_unsent(sub->conn) > UNSENT_MAX)
            subscriber_lost(sub, LOG_LEVEL_WARN, "the broker takes no acknowledgements");
        else if (sub->abandoned && !sub->quiet)
            subscriber_lost(sub, LOG_LEVEL_WARN, "a message was abandoned, it is to be sent again");
    }
    if (sub->conn_over) {
        conn_free(sub->conn);
        sub->conn = NULL;
        sub->conn_over = false;
    }
    loop_fn *stopped = sub->state == SUBSCRIBER_STOPPED ? sub->stopped : NULL;
    if (stopped) {
        sub->stopped = NULL;
        stopped(sub->stopped_arg); // which may free the subscriber
    }
}

struct subscriber *subscriber_new(struct loop *loop, struct worker *worker, struct budget *budget,
                                  const struct subscriber_options *options,
                                  const struct subscriber_calls *calls)
{
    struct subscriber *sub = mem_zalloc(sizeof *sub);
    sub->source.name = options->name;
    sub->source.settled = subscriber_settled;
    sub->loop = loop;
    sub->worker = worker;
    sub->budget = budget;
    sub->options = options;
    sub->calls = *calls;
    sub->version = options->protocol;
    sub->turn = loop_task_new(loop, turn_end, sub);
    sub->timer = loop_timer_new(loop, timer_due, sub);
    sub->ping = loop_timer_new(loop, ping_due, sub);
    sub->acks = bytes_writer(sub->ack_bytes, sizeof sub->ack_bytes);
    sub->flaw_limit.interval_ms = FLAW_LOG_MS;
    sub->backoff = (struct backoff){.minimum_ms = BACKOFF_MIN_MS, .maximum_ms = BACKOFF_MAX_MS};
    window_init(&sub->window, options->window);
    return sub;
}

void subscriber_free(struct subscriber *sub)
{
    if (!sub)
        return;
    subscriber_abandon_waiting(sub);
    conn_free(sub->conn);
    tls_free(sub->tls);
    loop_task_free(sub->turn);
    loop_timer_free(sub->timer);
    loop_timer_free(sub->ping);
    window_fini(&sub->window);
    filters_clear(&sub->wanted);
    filters_clear(&sub->held);
    filters_clear(&sub->refused);
    free(sub->exchanges);
    message_properties_fini(&sub->properties);
    free(sub->identifiers);
    free(sub->topic);
    free(sub->assigned_id);
    free(sub);
}

void subscriber_start(struct subscriber *sub)
{
    subscriber_remember(sub);
    connect_now(sub);
}

void subscriber_resume(struct subscriber *sub)
{
    subscriber_unstall(sub);
}

void subscriber_quiesce(struct subscriber *sub)
{
    sub->quiet = true;
    subscriber_abandon_waiting(sub);
}

void subscriber_stop(struct subscriber *sub, loop_fn *done, void *arg)
{
    sub->quiet = true;
    sub->stopped = done;
    sub->stopped_arg = arg;
    if (sub->state != SUBSCRIBER_UP) {
        stop_now(sub);
        return;
    }
    subscriber_release(sub);
    subscriber_send(sub, &(struct packet){.type = PACKET_DISCONNECT, .version = sub->version});
    conn_finish(sub->conn);
    loop_timer_stop(sub->ping);
    sub->state = SUBSCRIBER_STOPPING;
    loop_timer_start(sub->timer, STOP_TIMEOUT_MS);
}

const struct message_source *subscriber_source(const struct subscriber *sub)
{
    return &sub->source;
}

static const char *state_text(const struct subscriber *sub)
{
    switch (sub->state) {
    case SUBSCRIBER_UP:
        return "connected";
    case SUBSCRIBER_STOPPING:
        return "stopping";
    case SUBSCRIBER_IDLE:
    case SUBSCRIBER_STOPPED:
        return "stopped";
    default:
        return sub->down[0] ? sub->down : "connecting";
    }
}

void subscriber_status(const struct subscriber *sub, struct subscriber_status *status)
{
    *status = (struct subscriber_status){
        .state = state_text(sub),
        .connected = sub->state == SUBSCRIBER_UP,
        .subscribed = subscriber_subscribed(sub),
        .paused = sub->stalled,
        .unacknowledged = window_count(&sub->window),
        .connects = sub->connects,
        .window_full = sub->window_fillings,
    };
}
