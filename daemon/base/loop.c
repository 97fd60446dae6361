// The event loop.
#include "base/loop.h"

#include <event2/event.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"

struct posted {
    struct list node;
    loop_fn *fn;
    void *arg;
};

struct loop {
    struct event_base *base;
    struct loop_counters counters;
    bool in_timer;
    // What other threads post: a list under a lock, and an eventfd that wakes the loop.
    pthread_mutex_t lock;
    struct list posted;
    int wake_fd;
    struct event *wake;
};

struct loop_timer {
    struct loop *loop;
    struct event *event;
    loop_fn *fn;
    void *arg;
};

struct loop_task {
    struct loop *loop;
    struct event *event;
    loop_fn *fn;
    void *arg;
    bool scheduled;
};

struct loop_signal {
    struct event *event;
    loop_signal_fn *fn;
    void *arg;
};

void loop_run_posts(struct loop *loop)
{
    struct list taken;
    list_init(&taken);
    pthread_mutex_lock(&loop->lock);
    for (struct list *node; (node = list_take(&loop->posted));)
        list_append(&taken, node);
    pthread_mutex_unlock(&loop->lock);
    for (struct list *node; (node = list_take(&taken));) {
        struct posted *posted = list_entry(node, struct posted, node);
        loop->counters.posts++;
        posted->fn(posted->arg);
        free(posted);
    }
}

static void woken(evutil_socket_t fd, short events, void *arg)
{
    (void)events;
    uint64_t count;
    if (read(fd, &count, sizeof count) == sizeof count)
        loop_run_posts(arg);
}

struct loop *loop_new(void)
{
    struct loop *loop = mem_zalloc(sizeof *loop);
    pthread_mutex_init(&loop->lock, NULL);
    list_init(&loop->posted);
    loop->base = event_base_new();
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!loop->base || loop->wake_fd < 0) {
        log_error("cannot make an event loop");
        abort();
    }
    loop->wake = event_new(loop->base, loop->wake_fd, EV_READ | EV_PERSIST, woken, loop);
    event_add(loop->wake, NULL);
    return loop;
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    for (struct list *node; (node = list_take(&loop->posted));)
        free(list_entry(node, struct posted, node));
    event_free(loop->wake);
    close(loop->wake_fd);
    event_base_free(loop->base);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}

struct event_base *loop_base(struct loop *loop)
{
    return loop->base;
}

const struct loop_counters *loop_counters(const struct loop *loop)
{
    return &loop->counters;
}

bool loop_in_timer(const struct loop *loop)
{
    return loop->in_timer;
}

void loop_run(struct loop *loop)
{
    event_base_loop(loop->base, EVLOOP_NO_EXIT_ON_EMPTY);
}

void loop_stop(struct loop *loop)
{
    event_base_loopbreak(loop->base);
}

static void timer_fired(evutil_socket_t fd, short events, void *arg)
{
    (void)fd, (void)events;
    struct loop_timer *timer = arg;
    struct loop *loop = timer->loop;
    loop->counters.timer_events++;
    loop->in_timer = true;
    timer->fn(timer->arg);
    loop->in_timer = false;
}

struct loop_timer *loop_timer_new(struct loop *loop, loop_fn *fn, void *arg)
{
    struct loop_timer *timer = mem_zalloc(sizeof *timer);
    *timer = (struct loop_timer){.loop = loop, .fn = fn, .arg = arg};
    timer->event = event_new(loop->base, -1, 0, timer_fired, timer);
    return timer;
}

void loop_timer_start(struct loop_timer *timer, int64_t milliseconds)
{
    struct timeval delay = {.tv_sec = milliseconds / 1000, .tv_usec = (milliseconds % 1000) * 1000};
    event_add(timer->event, &delay);
}

void loop_timer_stop(struct loop_timer *timer)
{
    event_del(timer->event);
}

bool loop_timer_pending(const struct loop_timer *timer)
{
    return event_pending(timer->event, EV_TIMEOUT, NULL) != 0;
}

void loop_timer_free(struct loop_timer *timer)
{
    if (!timer)
        return;
    event_free(timer->event);
    free(timer);
}

static void task_due(evutil_socket_t fd, short events, void *arg)
{
    (void)fd, (void)events;
    struct loop_task *task = arg;
    task->scheduled = false;
    task->loop->counters.task_events++;
    task->fn(task->arg);
}

struct loop_task *loop_task_new(struct loop *loop, loop_fn *fn, void *arg)
{
    struct loop_task *task = mem_zalloc(sizeof *task);
    *task = (struct loop_task){.loop = loop, .fn = fn, .arg = arg};
    task->event = event_new(loop->base, -1, 0, task_due, task);
    return task;
}

void loop_task_schedule(struct loop_task *task)
{
    if (task->scheduled)
        return;
    task->scheduled = true;
    event_active(task->event, EV_TIMEOUT, 0);
}

void loop_task_free(struct loop_task *task)
{
    if (!task)
        return;
    event_free(task->event);
    free(task);
}

static void signal_caught(evutil_socket_t number, short events, void *arg)
{
    (void)events;
    struct loop_signal *handler = arg;
    handler->fn((int)number, handler->arg);
}

struct loop_signal *loop_signal_new(struct loop *loop, int number, loop_signal_fn *fn, void *arg)
{
    struct loop_signal *handler = mem_zalloc(sizeof *handler);
    *handler = (struct loop_signal){.fn = fn, .arg = arg};
    handler->event = evsignal_new(loop->base, number, signal_caught, handler);
    event_add(handler->event, NULL);
    return handler;
}

void loop_signal_free(struct loop_signal *handler)
{
    if (!handler)
        return;
    event_free(handler->event);
    free(handler);
}

void loop_post(struct loop *loop, loop_fn *fn, void *arg)
{
    struct posted *posted = mem_alloc(sizeof *posted);
    posted->fn = fn;
    posted->arg = arg;
    pthread_mutex_lock(&loop->lock);
    list_append(&loop->posted, &posted->node);
    pthread_mutex_unlock(&loop->lock);
    uint64_t one = 1;
    // The counter cannot overflow, and a wake-up that is pending already serves this post too.
    if (write(loop->wake_fd, &one, sizeof one) < 0)
        return;
}

int64_t loop_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t loop_wall_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}
