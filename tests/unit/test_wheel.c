// The wheel: entries are due when they should be, and never after they were stopped.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/wheel.h"

struct item {
    struct wheel_entry entry; // first
    struct fixture *fixture;
    int64_t wanted_ms; // not before
    unsigned fired;
    struct item *stops, *starts; // what it does to others when it is due
    bool frees_itself;
};

struct fixture {
    struct loop *loop;
    struct wheel *wheel;
    struct loop_timer *give_up;
    unsigned due, until; // the loop stops at that many
    bool gave_up;
};

static void fired(struct wheel_entry *entry)
{
    struct item *item = (struct item *)(void *)entry;
    struct fixture *f = item->fixture;
    int64_t late = loop_now_ms() - item->wanted_ms;
    assert_true(late >= 0 && late < 10000); // a second, and what a busy machine adds
    assert_false(wheel_started(entry));
    item->fired++;
    if (item->stops)
        wheel_stop(&item->stops->entry);
    if (item->starts) {
        item->starts->wanted_ms = loop_now_ms();
        wheel_start(f->wheel, &item->starts->entry, 0);
    }
    if (item->frees_itself)
        free(item);
    if (++f->due == f->until)
        loop_stop(f->loop);
}

static void give_up(void *arg)
{
    struct fixture *f = arg;
    f->gave_up = true;
    loop_stop(f->loop);
}

static int set_up(void **state)
{
    struct fixture *f = mem_zalloc(sizeof *f);
    f->loop = loop_new();
    f->wheel = wheel_new(f->loop);
    f->give_up = loop_timer_new(f->loop, give_up, f);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    wheel_free(f->wheel);
    loop_timer_free(f->give_up);
    loop_free(f->loop);
    free(f);
    return 0;
}

static void item_init(struct item *item, struct fixture *f)
{
    *item = (struct item){.fixture = f};
    wheel_entry_init(&item->entry, fired);
}

static void start(struct item *item, int64_t milliseconds)
{
    item->wanted_ms = loop_now_ms() + milliseconds;
    wheel_start(item->fixture->wheel, &item->entry, milliseconds);
}

static void run_until(struct fixture *f, unsigned due)
{
    f->due = 0;
    f->until = due;
    f->gave_up = false;
    loop_timer_start(f->give_up, 10000);
    loop_run(f->loop);
    assert_false(f->gave_up);
}

static void is_due_within_a_second(void **state)
{
    struct fixture *f = *state;
    static const int64_t delays[] = {0, 1, 400, 999, 1000, 1001, 1700, 2300};
    enum { COUNT = sizeof delays / sizeof *delays };
    struct item items[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        item_init(&items[i], f);
        assert_false(wheel_started(&items[i].entry));
        start(&items[i], delays[COUNT - 1 - i]); // the latest first
        assert_true(wheel_started(&items[i].entry));
    }
    run_until(f, COUNT);
    for (size_t i = 0; i < COUNT; i++)
        assert_int_equal(items[i].fired, 1);
}

static void stop_and_start_again(void **state)
{
    struct fixture *f = *state;
    struct item stopped, replaced, last;
    item_init(&stopped, f);
    item_init(&replaced, f);
    item_init(&last, f);
    start(&stopped, 100);
    start(&replaced, 100);
    start(&replaced, 1500);
    start(&last, 2600);
    wheel_stop(&stopped.entry);
    wheel_stop(&stopped.entry);
    run_until(f, 2);
    assert_int_equal(stopped.fired, 0);
    assert_int_equal(replaced.fired, 1);
    assert_int_equal(last.fired, 1);
}

// Those of one second are due together; each may end or begin others of them.
static void may_stop_start_and_free_others(void **state)
{
    struct fixture *f = *state;
    struct item victim, killer, starter, started, *freed = mem_alloc(sizeof *freed);
    item_init(&killer, f);
    item_init(&victim, f);
    item_init(&starter, f);
    item_init(&started, f);
    item_init(freed, f);
    killer.stops = &victim;
    starter.starts = &started;
    freed->frees_itself = true;
    start(&killer, 10);
    start(freed, 10);
    start(&victim, 10);
    start(&starter, 10);
    run_until(f, 4);
    assert_int_equal(killer.fired, 1);
    assert_int_equal(victim.fired, 0);
    assert_int_equal(starter.fired, 1);
    assert_int_equal(started.fired, 1);
}

// What is due after many turns of the wheel lies in the slot of something near.
static void far_ones_wait(void **state)
{
    struct fixture *f = *state;
    struct item far[3], near;
    static const int64_t delays[] = {512000, 1024000, 4294967295000};
    for (size_t i = 0; i < 3; i++) {
        item_init(&far[i], f);
        start(&far[i], delays[i]);
    }
    item_init(&near, f);
    start(&near, 500);
    run_until(f, 1);
    start(&near, 500);
    run_until(f, 1);
    assert_int_equal(near.fired, 2);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(far[i].fired, 0);
        assert_true(wheel_started(&far[i].entry));
        wheel_stop(&far[i].entry);
    }
}

static void nothing_ticks_with_nothing_near(void **state)
{
    struct fixture *f = *state;
    struct item stopped, far;
    item_init(&stopped, f);
    item_init(&far, f);
    start(&far, 400000);
    start(&stopped, 100);
    wheel_stop(&stopped.entry);
    uint64_t before = loop_counters(f->loop)->timer_events;
    loop_timer_start(f->give_up, 2500);
    loop_run(f->loop);
    // One second was planned before the stop; the other event is the end of this test.
    assert_true(loop_counters(f->loop)->timer_events - before <= 2);
    wheel_stop(&far.entry);
}

static void freeing_it_forgets_its_entries(void **state)
{
    struct fixture *f = *state;
    struct item item;
    item_init(&item, f);
    start(&item, 1000);
    wheel_free(f->wheel);
    f->wheel = NULL;
    assert_false(wheel_started(&item.entry));
    wheel_stop(&item.entry);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(is_due_within_a_second, set_up, tear_down),
        cmocka_unit_test_setup_teardown(stop_and_start_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(may_stop_start_and_free_others, set_up, tear_down),
        cmocka_unit_test_setup_teardown(far_ones_wait, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nothing_ticks_with_nothing_near, set_up, tear_down),
        cmocka_unit_test_setup_teardown(freeing_it_forgets_its_entries, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
