// What systemd is told: ready, status, stopping, and that the loop still turns.
#pragma once

#include <stddef.h>

#include "base/loop.h"

struct notify;

// Writes the status line into text.
typedef void notify_status_fn(void *arg, char *text, size_t size);

// Sends STATUS= every few seconds where it has changed, and WATCHDOG=1 where the unit asks for it.
struct notify *notify_new(struct loop *loop, notify_status_fn *status, void *arg);
void notify_free(struct notify *notify);
void notify_ready(struct notify *notify);
// The configuration is being read again; notify_ready ends it.
void notify_reloading(struct notify *notify);
void notify_stopping(struct notify *notify);
