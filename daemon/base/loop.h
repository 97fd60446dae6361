// The event loop: libevent's, with counters, so that a test can see what woke the daemon.
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct event_base;

struct loop; // one per process
struct loop_timer;
struct loop_task;
struct loop_signal;

struct loop_counters {
    uint64_t timer_events; // timer callbacks run
    uint64_t task_events;  // deferred tasks run
    uint64_t posts;        // calls posted by other threads
};

typedef void loop_fn(void *arg);
typedef void loop_signal_fn(int signal_number, void *arg);

struct loop *loop_new(void);
void loop_free(struct loop *loop);
struct event_base *loop_base(struct loop *loop);
const struct loop_counters *loop_counters(const struct loop *loop);
// True while a timer's callback runs.
bool loop_in_timer(const struct loop *loop);
// Runs until loop_stop is called.
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

// A one-shot timer; start replaces a start before it. The callback may free its own timer.
struct loop_timer *loop_timer_new(struct loop *loop, loop_fn *fn, void *arg);
void loop_timer_start(struct loop_timer *timer, int64_t milliseconds);
void loop_timer_stop(struct loop_timer *timer);
bool loop_timer_pending(const struct loop_timer *timer);
void loop_timer_free(struct loop_timer *timer);

// A task runs once, after the events that are already due in this turn of the loop, however often
// it is scheduled before it has run.
struct loop_task *loop_task_new(struct loop *loop, loop_fn *fn, void *arg);
void loop_task_schedule(struct loop_task *task);
void loop_task_free(struct loop_task *task);

struct loop_signal *loop_signal_new(struct loop *loop, int number, loop_signal_fn *fn, void *arg);
void loop_signal_free(struct loop_signal *handler);

// From any thread: has fn(arg) called by the loop, in the order of the posts.
void loop_post(struct loop *loop, loop_fn *fn, void *arg);
// Runs at once what has been posted.
void loop_run_posts(struct loop *loop);

// Monotonic milliseconds, and wall-clock microseconds since 1970.
int64_t loop_now_ms(void);
int64_t loop_wall_us(void);
