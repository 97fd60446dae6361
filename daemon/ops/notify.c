// What systemd is told [sd_notify(3), sd_watchdog_enabled(3)].
#include "ops/notify.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"

enum { STATUS_FIRST_MS = 100, STATUS_INTERVAL_MS = 2000, STATUS_BYTES = 900 };

struct notify {
    notify_status_fn *status;
    void *arg;
    struct loop_timer *status_timer, *watchdog_timer;
    int64_t interval_ms, watchdog_ms;
    char last[STATUS_BYTES];
};

static void send_status(struct notify *notify)
{
    char text[STATUS_BYTES];
    notify->status(notify->arg, text, sizeof text);
    log_clean(text); // a newline would begin another assignment [sd_notify(3)]
    if (strcmp(text, notify->last) == 0)
        return;
    memcpy(notify->last, text, sizeof text);
    sd_notifyf(0, "STATUS=%s", text);
}

static void status_due(void *arg)
{
    struct notify *notify = arg;
    send_status(notify);
    // Much changes in the first second, little later.
    notify->interval_ms = notify->interval_ms ? notify->interval_ms * 2 : STATUS_FIRST_MS;
    if (notify->interval_ms > STATUS_INTERVAL_MS)
        notify->interval_ms = STATUS_INTERVAL_MS;
    loop_timer_start(notify->status_timer, notify->interval_ms);
}

static void watchdog_due(void *arg)
{
    struct notify *notify = arg;
    sd_notify(0, "WATCHDOG=1");
    loop_timer_start(notify->watchdog_timer, notify->watchdog_ms);
}

struct notify *notify_new(struct loop *loop, notify_status_fn *status, void *arg)
{
    struct notify *notify = mem_zalloc(sizeof *notify);
    notify->status = status;
    notify->arg = arg;
    notify->status_timer = loop_timer_new(loop, status_due, notify);
    notify->watchdog_timer = loop_timer_new(loop, watchdog_due, notify);
    uint64_t watchdog_us = 0;
    if (sd_watchdog_enabled(0, &watchdog_us) > 0 && watchdog_us >= 2000) {
        notify->watchdog_ms = (int64_t)(watchdog_us / 2000); // twice per interval
        watchdog_due(notify);
    }
    return notify;
}

void notify_free(struct notify *notify)
{
    if (!notify)
        return;
    loop_timer_free(notify->status_timer);
    loop_timer_free(notify->watchdog_timer);
    free(notify);
}

void notify_ready(struct notify *notify)
{
    sd_notify(0, "READY=1");
    status_due(notify);
}

void notify_reloading(struct notify *notify)
{
    (void)notify;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRId64,
               (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000);
}

void notify_stopping(struct notify *notify)
{
    sd_notify(0, "STOPPING=1");
    send_status(notify);
}
