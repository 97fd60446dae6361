// A timing wheel of seconds: an entry lies in the slot of the second in which it is due, modulo the
// number of slots.
#include "base/wheel.h"

#include <stdlib.h>

#include "base/mem.h"

#define SLOT_MS 1000
#define SLOT_COUNT 512

struct wheel {
    struct loop_timer *timer;
    int64_t done_tick; // all entries of this second and before have been looked at
    int64_t wake_tick; // for which the timer is started; 0: it is not
    struct list slots[SLOT_COUNT];
};

static struct list *slot_of(struct wheel *wheel, int64_t tick)
{
    return &wheel->slots[(uint64_t)tick % SLOT_COUNT];
}

// The first second from which on the time has come.
static int64_t tick_of(int64_t due_ms)
{
    return (due_ms + SLOT_MS - 1) / SLOT_MS;
}

static void wake_at(struct wheel *wheel, int64_t tick, int64_t now_ms)
{
    int64_t delay = tick * SLOT_MS - now_ms;
    wheel->wake_tick = tick;
    loop_timer_start(wheel->timer, delay > 0 ? delay : 0);
}

// The next second whose slot is not empty; what is there may be due a turn of the wheel later.
static void plan(struct wheel *wheel, int64_t now_ms)
{
    wheel->wake_tick = 0;
    for (int64_t tick = wheel->done_tick + 1; tick <= wheel->done_tick + SLOT_COUNT; tick++) {
        if (!list_empty(slot_of(wheel, tick))) {
            wake_at(wheel, tick, now_ms);
            return;
        }
    }
}

static void collect_due(struct list *slot, int64_t now_ms, struct list *due)
{
    list_each (node, slot) {
        if (list_entry(node, struct wheel_entry, node)->due_ms > now_ms)
            continue;
        list_remove(node);
        list_append(due, node);
    }
}

static void turn(void *arg)
{
    struct wheel *wheel = arg;
    int64_t now_ms = loop_now_ms(), tick = now_ms / SLOT_MS;
    struct list due;
    list_init(&due);
    int64_t first = wheel->done_tick + 1;
    if (tick - first >= SLOT_COUNT)
        first = tick - SLOT_COUNT + 1;
    for (; first <= tick; first++)
        collect_due(slot_of(wheel, first), now_ms, &due);
    wheel->done_tick = tick;
    plan(wheel, now_ms);
    for (struct list *node; (node = list_take(&due));) {
        struct wheel_entry *entry = list_entry(node, struct wheel_entry, node);
        entry->due_ms = 0;
        entry->fn(entry);
    }
}

struct wheel *wheel_new(struct loop *loop)
{
    struct wheel *wheel = mem_zalloc(sizeof *wheel);
    wheel->timer = loop_timer_new(loop, turn, wheel);
    for (size_t i = 0; i < SLOT_COUNT; i++)
        list_init(&wheel->slots[i]);
    return wheel;
}

void wheel_free(struct wheel *wheel)
{
    if (!wheel)
        return;
    for (size_t i = 0; i < SLOT_COUNT; i++)
        for (struct list *node; (node = list_take(&wheel->slots[i]));)
            list_entry(node, struct wheel_entry, node)->due_ms = 0;
    loop_timer_free(wheel->timer);
    free(wheel);
}

void wheel_entry_init(struct wheel_entry *entry, wheel_fn *fn)
{
    list_init(&entry->node);
    entry->due_ms = 0;
    entry->fn = fn;
}

void wheel_start(struct wheel *wheel, struct wheel_entry *entry, int64_t milliseconds)
{
    int64_t now_ms = loop_now_ms();
    list_remove(&entry->node);
    entry->due_ms = now_ms + milliseconds;
    if (wheel->wake_tick == 0) // nothing was looked at while nothing was there
        wheel->done_tick = now_ms / SLOT_MS - 1;
    int64_t tick = tick_of(entry->due_ms);
    if (tick <= wheel->done_tick)
        tick = wheel->done_tick + 1;
    list_append(slot_of(wheel, tick), &entry->node);
    if (wheel->wake_tick == 0 || tick < wheel->wake_tick)
        wake_at(wheel, tick, now_ms);
}

void wheel_stop(struct wheel_entry *entry)
{
    list_remove(&entry->node);
    entry->due_ms = 0;
}
