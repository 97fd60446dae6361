// What people see of the spool.
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "store/spool_internal.h"

enum { KEPT_LOG_MS = 600000 };

// The lines about outages are limited, and the last of them is to be true all the same: that one is
// over is said where the log says that there is one, and one that was not said is, at the next
// tick.
static void say_in_use(struct spool *spool)
{
    spool->said_in_use = true;
    spool->said_kept_ms = loop_now_ms();
}

void spool_say_begin(struct spool *spool)
{
    say_in_use(spool);
    log_info("spool %s: %" PRIu64 " message(s) from before wait for PostgreSQL%s",
             spool->options.path, spool_file_now(spool).count,
             spool->options.ends ? "; [spool] mode is off: it is emptied and not used any more"
                                 : "");
}

void spool_say_outage(struct spool *spool)
{
    if (!log_limit_pass(&spool->outage_limit, NULL))
        return;
    say_in_use(spool);
    log_warn("postgres: of no use for %" PRId64 ".%" PRId64
             " s; messages are kept in %s, and acknowledged when they are durable there",
             spool->options.outage_after_ms / 1000, spool->options.outage_after_ms % 1000 / 100,
             spool->options.path);
}

void spool_say_back(struct spool *spool)
{
    spool->ticked_drained = spool->counters.drained;
    spool->ticked_ms = loop_now_ms();
    spool->rate = 0;
    if (spool->said_in_use && log_limit_pass(&spool->back_limit, NULL))
        log_info("spool %s: PostgreSQL is back; storing %" PRIu64 " message(s)",
                 spool->options.path, spool_file_now(spool).count);
}

void spool_say_empty(struct spool *spool)
{
    if (!spool->said_in_use)
        return;
    spool->said_in_use = false;
    log_info("spool %s: empty; messages go to PostgreSQL directly", spool->options.path);
}

// What sets the bound.
static const char *bound(const struct spool *spool)
{
    return spool_file_now(spool).max_bytes < spool->options.max_bytes ? "the disk has no more room"
                                                                      : "[spool] max_bytes";
}

void spool_say_full(struct spool *spool)
{
    if (log_limit_pass(&spool->full_limit, NULL))
        log_warn("spool %s: full (%s), %" PRIu64 " message(s); what comes now waits "
                 "unacknowledged until PostgreSQL has taken some of them, QoS 0 is dropped",
                 spool->options.path, bound(spool), spool_file_now(spool).count);
}

void spool_say_dropped(struct spool *spool)
{
    if (log_limit_pass(&spool->drop_limit, NULL))
        log_warn("spool %s: full (%s); the oldest messages are dropped, %" PRIu64 " so far",
                 spool->options.path, bound(spool), spool->counters.dropped);
}

void spool_say_resolved(uint64_t count, bool committed)
{
    log_info("spool: a transaction that was cut off %s; it has %" PRIu64 " message(s) here",
             committed ? "had committed" : "had not committed", count);
}

static void measure(struct spool *spool)
{
    int64_t now = loop_now_ms(), elapsed = now - spool->ticked_ms;
    if (elapsed > 0)
        spool->rate = (spool->counters.drained - spool->ticked_drained) * 1000 / (uint64_t)elapsed;
    spool->ticked_drained = spool->counters.drained;
    spool->ticked_ms = now;
}

// Why, and what to do about it, the disk's thread has said.
static void say_stuck(struct spool *spool)
{
    if (log_limit_pass(&spool->stuck_limit, NULL))
        log_error("spool %s: what comes after message number %" PRId64 " cannot be read; %" PRIu64
                  " message(s) wait for it%s",
                  spool->options.path, spool->read_to, spool_left(spool),
                  spool->full || spool->holds_back ? "" : ", new ones are kept behind them");
}

void spool_say_progress(struct spool *spool)
{
    if (spool->state != SPOOL_DRAINING)
        return;
    measure(spool);
    if (spool->stuck) {
        say_stuck(spool);
        return;
    }
    uint64_t left = spool_left(spool);
    if (spool->rate > 0)
        log_info("spool %s: %" PRIu64 " message(s) left, %" PRIu64 "/s, about %" PRIu64 " s",
                 spool->options.path, left, spool->rate, left / spool->rate);
    else if (log_limit_pass(&spool->back_limit, NULL))
        log_info("spool %s: %" PRIu64 " message(s) left", spool->options.path, left);
    else
        return;
    say_in_use(spool);
}

static double mib(uint64_t bytes)
{
    return (double)bytes / (1 << 20);
}

void spool_say_kept(struct spool *spool)
{
    bool said = spool->said_in_use && loop_now_ms() - spool->said_kept_ms < KEPT_LOG_MS;
    if (spool->state != SPOOL_KEEPING || said)
        return;
    say_in_use(spool);
    struct spool_file_status file = spool_file_now(spool);
    log_warn("spool %s: PostgreSQL is away; %" PRIu64 " message(s) are kept, %.1f of %.1f MiB",
             spool->options.path, file.count, mib(file.bytes), mib(file.max_bytes));
}

int64_t spool_lag_ms(const struct spool *spool)
{
    struct spool_file_status file = spool_file_now(spool);
    int64_t now_us = loop_wall_us(), then_us = file.oldest_us; // which may be damaged
    return file.count > 0 && then_us >= 0 && then_us < now_us ? (now_us - then_us) / 1000 : 0;
}

static const char *state_name(enum spool_state state)
{
    static const char *const names[] = {
        [SPOOL_DIRECT] = "direct", [SPOOL_KEEPING] = "keeping", [SPOOL_DRAINING] = "draining"};
    return names[state];
}

const char *spool_status(struct spool *spool)
{
    struct spool_file_status file = spool_file_now(spool);
    if (file.count == 0 && spool->state == SPOOL_DIRECT && !file.failing)
        return "empty";
    char oldest[40] = "";
    time_t seconds = (time_t)(file.oldest_us / 1000000);
    struct tm when;
    if (file.count > 0 && gmtime_r(&seconds, &when))
        strftime(oldest, sizeof oldest, ", oldest of %FT%TZ", &when);
    int used = snprintf(spool->status, sizeof spool->status,
                        "%" PRIu64 " messages, %.1f of %.1f MiB%s; %s", file.count, mib(file.bytes),
                        mib(file.max_bytes), oldest, state_name(spool->state));
    size_t at = (size_t)used < sizeof spool->status ? (size_t)used : sizeof spool->status - 1;
    char *rest = spool->status + at;
    size_t size = sizeof spool->status - at;
    if (file.failing)
        snprintf(rest, size, "; the disk fails: %s", file.error);
    else if (spool->full)
        snprintf(rest, size, "; full");
    else if (spool->state == SPOOL_DRAINING && writer_refused(spool->writer))
        snprintf(rest, size, ", but PostgreSQL commits nothing");
    else if (spool->state == SPOOL_DRAINING && spool->rate > 0)
        snprintf(rest, size, ", %" PRIu64 "/s, %" PRIu64 " s left", spool->rate,
                 file.count / spool->rate);
    return spool->status;
}
