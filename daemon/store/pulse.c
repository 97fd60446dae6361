// Whether PostgreSQL answers at all, asked by a connection of its own.
#include "store/pulse.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "store/pg.h"

enum {
    PATIENCE_MIN_MS = 1000,
    ANSWER_MIN_MS = 2000, // a busy server takes a while to open a connection
    ANSWER_MAX_MS = 8000, // less than what it takes until a connection counts as failed
    REPEAT_LOG_MS = 60000,
};

struct pulse {
    struct loop_timer *timer;
    struct pg *pg;
    int64_t patience_ms;
    struct pulse_calls calls;
    bool asking;
    int64_t work;     // at the last look
    int64_t quiet_ms; // since when it has been that
    struct log_limit limit;
};

static int64_t at_least(int64_t value, int64_t least)
{
    return value > least ? value : least;
}

static int64_t quiet(const struct pulse *pulse)
{
    return loop_now_ms() - pulse->quiet_ms;
}

// The longer it has been quiet, the more seldom it is asked.
static void wait_on(struct pulse *pulse)
{
    loop_timer_start(pulse->timer, at_least(pulse->patience_ms, quiet(pulse) / 4));
}

static void answered(struct pulse *pulse)
{
    pulse->asking = false;
    pg_disconnect(pulse->pg);
    if (pulse->calls.work(pulse->calls.arg) == pulse->work && log_limit_pass(&pulse->limit, NULL))
        log_info("postgres: nothing has been committed for %" PRId64 " s, and the server answers:"
                 " a lock, or a statement that takes long",
                 quiet(pulse) / 1000);
    wait_on(pulse);
}

static void took(void *arg, const struct pg_result *result)
{
    (void)result; // that it has no right to it is an answer, too
    answered(arg);
}

// Its COMMIT waits for the disk, and for whom else COMMIT has to wait for.
static void now_up(void *arg)
{
    struct pulse *pulse = arg;
    pg_script(pulse->pg,
              "SELECT pg_catalog.set_config('synchronous_commit', 'on', false)"
              " WHERE pg_catalog.current_setting('synchronous_commit') = 'off';"
              "SELECT pg_catalog.pg_logical_emit_message(true, 'sensorlogd', '')",
              took, pulse);
}

// Whoever refuses answers; who has gone away is missed by the other connections.
static void now_down(void *arg, const char *why)
{
    (void)why;
    struct pulse *pulse = arg;
    pulse->asking = false;
    wait_on(pulse);
}

static void ask(struct pulse *pulse)
{
    int64_t answer_ms = at_least(pulse->patience_ms, ANSWER_MIN_MS);
    pulse->asking = true;
    pg_connect(pulse->pg);
    loop_timer_start(pulse->timer, answer_ms < ANSWER_MAX_MS ? answer_ms : ANSWER_MAX_MS);
}

// Whether something has been done since the last look, which it is from here on.
static bool begin(struct pulse *pulse)
{
    int64_t before = pulse->work;
    pg_disconnect(pulse->pg);
    pulse->asking = false;
    pulse->work = pulse->calls.work(pulse->calls.arg);
    if (pulse->work != before)
        pulse->quiet_ms = loop_now_ms();
    return pulse->work != before;
}

static void look(void *arg)
{
    struct pulse *pulse = arg;
    bool asked = pulse->asking, moved = begin(pulse);
    if (pulse->work < 0)
        return;
    if (!moved && !asked) {
        ask(pulse);
        return;
    }
    if (!moved)
        pulse->calls.silent(pulse->calls.arg, quiet(pulse));
    wait_on(pulse);
}

struct pulse *pulse_new(struct loop *loop, struct worker *worker, const char *conninfo,
                        int64_t patience_ms, const struct pulse_calls *calls)
{
    struct pulse *pulse = mem_zalloc(sizeof *pulse);
    const struct pg_calls pg_calls = {.up = now_up, .down = now_down, .arg = pulse};
    pulse->pg = pg_new(loop, worker, conninfo, "sensorlogd pulse", false, &pg_calls);
    pulse->timer = loop_timer_new(loop, look, pulse);
    pulse->patience_ms = at_least(patience_ms, PATIENCE_MIN_MS);
    pulse->calls = *calls;
    pulse->limit.interval_ms = REPEAT_LOG_MS;
    return pulse;
}

void pulse_free(struct pulse *pulse)
{
    if (!pulse)
        return;
    pg_free(pulse->pg);
    loop_timer_free(pulse->timer);
    free(pulse);
}

void pulse_watch(struct pulse *pulse)
{
    if (loop_timer_pending(pulse->timer))
        return;
    pulse->quiet_ms = loop_now_ms();
    begin(pulse);
    loop_timer_start(pulse->timer, pulse->patience_ms);
}
