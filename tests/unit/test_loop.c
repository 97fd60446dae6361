// The event loop: timers, tasks, posts from threads, signals.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "base/loop.h"

// What happened, in letters.
struct story {
    struct loop *loop;
    char text[64];
    size_t stop_at; // letters
    struct loop_timer *timer;
    struct loop_task *task;
};

static void tell(struct story *story, char letter)
{
    size_t length = strlen(story->text);
    assert_true(length + 1 < sizeof story->text);
    story->text[length] = letter;
    story->text[length + 1] = '\0';
    if (length + 1 == story->stop_at)
        loop_stop(story->loop);
}

static int setup(void **state)
{
    static struct story story;
    story = (struct story){.loop = loop_new()};
    *state = &story;
    return 0;
}

static int teardown(void **state)
{
    struct story *story = *state;
    loop_free(story->loop);
    return 0;
}

// ---- timers ----

static void tell_a(void *arg)
{
    tell(arg, 'a');
}

static void tell_b(void *arg)
{
    tell(arg, 'b');
}

static void tell_c(void *arg)
{
    tell(arg, 'c');
}

static void timers_run_in_the_order_of_their_times(void **state)
{
    struct story *story = *state;
    struct loop_timer *a = loop_timer_new(story->loop, tell_a, story);
    struct loop_timer *b = loop_timer_new(story->loop, tell_b, story);
    struct loop_timer *c = loop_timer_new(story->loop, tell_c, story);
    int64_t began = loop_now_ms();
    loop_timer_start(a, 30);
    loop_timer_start(b, 10);
    loop_timer_start(c, 20);
    assert_true(loop_timer_pending(a));
    story->stop_at = 3;
    loop_run(story->loop);
    assert_string_equal(story->text, "bca");
    assert_true(loop_now_ms() - began >= 29);
    assert_false(loop_timer_pending(a));
    assert_int_equal(loop_counters(story->loop)->timer_events, 3);
    loop_timer_free(a);
    loop_timer_free(b);
    loop_timer_free(c);
    loop_timer_free(NULL);
}

static void a_start_replaces_the_one_before(void **state)
{
    struct story *story = *state;
    struct loop_timer *a = loop_timer_new(story->loop, tell_a, story);
    struct loop_timer *b = loop_timer_new(story->loop, tell_b, story);
    struct loop_timer *c = loop_timer_new(story->loop, tell_c, story);
    loop_timer_start(a, 0);
    loop_timer_start(a, 20);
    loop_timer_start(b, 10);
    loop_timer_start(c, 0);
    loop_timer_stop(c);
    loop_timer_stop(c);
    assert_false(loop_timer_pending(c));
    story->stop_at = 2;
    loop_run(story->loop);
    assert_string_equal(story->text, "ba");
    loop_timer_free(a);
    loop_timer_free(b);
    loop_timer_free(c);
}

static void free_and_tell(void *arg)
{
    struct story *story = arg;
    loop_timer_free(story->timer);
    assert_true(loop_in_timer(story->loop));
    tell(story, 'f');
}

static void a_timer_may_free_itself(void **state)
{
    struct story *story = *state;
    story->timer = loop_timer_new(story->loop, free_and_tell, story);
    loop_timer_start(story->timer, 0);
    assert_false(loop_in_timer(story->loop));
    story->stop_at = 1;
    loop_run(story->loop);
    assert_string_equal(story->text, "f");
    assert_false(loop_in_timer(story->loop));
}

static void restart_and_tell(void *arg)
{
    struct story *story = arg;
    loop_timer_start(story->timer, 0);
    tell(story, 'r');
}

static void a_timer_may_start_itself_again(void **state)
{
    struct story *story = *state;
    story->timer = loop_timer_new(story->loop, restart_and_tell, story);
    loop_timer_start(story->timer, 0);
    story->stop_at = 3;
    loop_run(story->loop);
    assert_string_equal(story->text, "rrr");
    assert_true(loop_timer_pending(story->timer));
    loop_timer_free(story->timer);
}

// ---- tasks ----

static void readable(evutil_socket_t fd, short events, void *arg)
{
    (void)events;
    struct story *story = arg;
    char byte;
    assert_int_equal(read(fd, &byte, 1), 1);
    assert_false(loop_in_timer(story->loop));
    loop_task_schedule(story->task);
    tell(story, 'e');
}

static void a_task_runs_once_after_the_events_of_its_turn(void **state)
{
    struct story *story = *state;
    int pipes[3][2];
    struct event *events[3];
    story->task = loop_task_new(story->loop, tell_a, story);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pipe(pipes[i]), 0);
        assert_int_equal(write(pipes[i][1], "xy", 2), 2);
        events[i] =
            event_new(loop_base(story->loop), pipes[i][0], EV_READ | EV_PERSIST, readable, story);
        event_add(events[i], NULL);
    }
    story->stop_at = 8;
    loop_run(story->loop);
    assert_string_equal(story->text, "eeeaeeea");
    assert_int_equal(loop_counters(story->loop)->task_events, 2);
    assert_int_equal(loop_counters(story->loop)->timer_events, 0);
    for (int i = 0; i < 3; i++) {
        event_free(events[i]);
        close(pipes[i][0]);
        close(pipes[i][1]);
    }
    loop_task_free(story->task);
}

static void schedule_and_tell(void *arg)
{
    struct story *story = arg;
    assert_false(loop_in_timer(story->loop));
    loop_task_schedule(story->task);
    tell(story, 't');
}

static void a_task_may_schedule_itself(void **state)
{
    struct story *story = *state;
    story->task = loop_task_new(story->loop, schedule_and_tell, story);
    loop_task_schedule(story->task);
    loop_task_schedule(story->task);
    story->stop_at = 3;
    loop_run(story->loop);
    assert_string_equal(story->text, "ttt");
    loop_task_free(story->task);
}

static void a_freed_task_does_not_run(void **state)
{
    struct story *story = *state;
    struct loop_task *gone = loop_task_new(story->loop, tell_a, story);
    struct loop_task *stays = loop_task_new(story->loop, tell_b, story);
    loop_task_schedule(gone);
    loop_task_schedule(stays);
    loop_task_free(gone);
    story->stop_at = 1;
    loop_run(story->loop);
    assert_string_equal(story->text, "b");
    loop_task_free(stays);
    loop_task_free(NULL);
}

// ---- posts ----

enum { POSTERS = 4, POSTS = 1000 };

struct poster {
    struct story *story;
    pthread_t thread, loop_thread;
    unsigned next, out_of_order;
    unsigned *left; // posts of all threads
    struct numbered {
        struct poster *poster;
        unsigned number;
    } posts[POSTS];
};

static void take_post(void *arg)
{
    const struct numbered *post = arg;
    struct poster *poster = post->poster;
    poster->out_of_order += post->number != poster->next++;
    poster->out_of_order += !pthread_equal(pthread_self(), poster->loop_thread);
    if (--*poster->left == 0)
        loop_stop(poster->story->loop);
}

static void *post_all(void *arg)
{
    struct poster *poster = arg;
    for (unsigned i = 0; i < POSTS; i++) {
        poster->posts[i] = (struct numbered){poster, i};
        loop_post(poster->story->loop, take_post, &poster->posts[i]);
    }
    return NULL;
}

static void posts_of_threads_come_in_their_order(void **state)
{
    struct story *story = *state;
    static struct poster posters[POSTERS];
    unsigned left = POSTERS * POSTS;
    for (int i = 0; i < POSTERS; i++) {
        posters[i] = (struct poster){.story = story, .left = &left};
        posters[i].loop_thread = pthread_self();
        assert_int_equal(pthread_create(&posters[i].thread, NULL, post_all, &posters[i]), 0);
    }
    loop_run(story->loop);
    for (int i = 0; i < POSTERS; i++) {
        pthread_join(posters[i].thread, NULL);
        assert_int_equal(posters[i].next, POSTS);
        assert_int_equal(posters[i].out_of_order, 0);
    }
    assert_int_equal(loop_counters(story->loop)->posts, POSTERS * POSTS);
}

static void post_again(void *arg)
{
    struct story *story = arg;
    loop_post(story->loop, tell_b, story);
    tell(story, 'p');
}

static void posts_can_be_run_at_once(void **state)
{
    struct story *story = *state;
    loop_post(story->loop, tell_a, story);
    loop_post(story->loop, post_again, story);
    loop_run_posts(story->loop);
    assert_string_equal(story->text, "ap"); // what they post waits for its turn
    story->stop_at = 3;
    loop_run(story->loop);
    assert_string_equal(story->text, "apb");
    loop_post(story->loop, tell_a, story); // forgotten by loop_free
}

// ---- signals, clocks ----

static void take_signal(int number, void *arg)
{
    assert_int_equal(number, SIGUSR1);
    tell(arg, 's');
}

static void signals_come_from_the_loop(void **state)
{
    struct story *story = *state;
    struct loop_signal *handler = loop_signal_new(story->loop, SIGUSR1, take_signal, story);
    raise(SIGUSR1);
    assert_string_equal(story->text, "");
    story->stop_at = 1;
    loop_run(story->loop);
    assert_string_equal(story->text, "s");
    loop_signal_free(handler);
    loop_signal_free(NULL);
}

static void clocks(void **state)
{
    (void)state;
    int64_t before = (int64_t)time(NULL), wall = loop_wall_us(), after = (int64_t)time(NULL) + 1;
    assert_true(before * 1000000 <= wall && wall <= after * 1000000);
    int64_t first = loop_now_ms();
    assert_true(first > 0 && loop_now_ms() >= first);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(timers_run_in_the_order_of_their_times),
        TEST(a_start_replaces_the_one_before),
        TEST(a_timer_may_free_itself),
        TEST(a_timer_may_start_itself_again),
        TEST(a_task_runs_once_after_the_events_of_its_turn),
        TEST(a_task_may_schedule_itself),
        TEST(a_freed_task_does_not_run),
        TEST(posts_of_threads_come_in_their_order),
        TEST(posts_can_be_run_at_once),
        TEST(signals_come_from_the_loop),
        TEST(clocks),
    };
    loop_free(NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
