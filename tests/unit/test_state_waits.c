// Who waits for the state is called in order, and no later than needed.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sched.h>

#include "base/log.h"
#include "broker/state_internal.h"
#include "state_rig.h"

struct story {
    struct state_rig *rig;
    char text[64];
};

static void tell(void *arg, uint64_t letter, uint64_t stop)
{
    struct story *story = arg;
    size_t length = strlen(story->text);
    assert_true(length + 1 < sizeof story->text);
    story->text[length] = (char)letter;
    story->text[length + 1] = '\0';
    if (stop)
        loop_stop(story->rig->loop);
}

static void when_durable(struct story *story, char letter, bool stop)
{
    state_when_durable(story->rig->state, tell, story, (uint64_t)letter, stop);
}

static void who_waits_is_called_in_order_from_the_loop(void **arg)
{
    struct story story = {.rig = *arg};
    struct state_rig *rig = *arg;
    rig_open(rig);
    assert_true(state_is_durable(rig->state));
    when_durable(&story, 'a', false);
    assert_string_equal(story.text, ""); // nothing is waited for, yet not from within
    rig_session(rig, 1, "c");
    assert_false(state_is_durable(rig->state));
    when_durable(&story, 'b', false);
    when_durable(&story, 'c', true);
    rig_turn(rig);
    rig_session(rig, 2, "d");
    when_durable(&story, 'd', false);
    while (!state_is_durable(rig->state))
        rig_settle(rig);
    assert_string_equal(story.text, "abcd");
    when_durable(&story, 'e', true);
    loop_run(rig->loop);
    assert_string_equal(story.text, "abcde");
}

static void write_again(void *arg, uint64_t a, uint64_t b)
{
    (void)a, (void)b;
    struct story *story = arg;
    rig_session(story->rig, 2, "again");
    when_durable(story, 'w', true);
    tell(story, 'v', false);
}

static void who_is_called_may_write_and_wait(void **arg)
{
    struct story story = {.rig = *arg};
    struct state_rig *rig = *arg;
    rig_open(rig);
    rig_session(rig, 1, "c");
    state_when_durable(rig->state, write_again, &story, 0, 0);
    when_durable(&story, 'x', false);
    loop_run(rig->loop);
    assert_string_equal(story.text, "vxw");
    assert_string_equal(rig_reload(rig), "session 2 again - 60 0 1 v5\nsession 1 c - 60 0 1 v5\n");
}

static void nobody_is_called_after_the_end(void **arg)
{
    struct story story = {.rig = *arg};
    struct state_rig *rig = *arg;
    rig_open(rig);
    rig_session(rig, 1, "c");
    when_durable(&story, 'a', false);
    rig_turn(rig); // it is at the disk
    rig_session(rig, 2, "d");
    when_durable(&story, 'b', false);
    rig_close(rig);
    rig_turn(rig);
    assert_string_equal(story.text, "");
    rig_open(rig);
    assert_string_equal(rig_load(rig), "session 1 c - 60 0 1 v5\nsession 2 d - 60 0 1 v5\n");
}

// ---- while the disk is busy ----

// A batch is at the disk, which holds it until disk_faults.hold is cleared.
static void occupy_disk(struct state_rig *rig)
{
    disk_faults.hold = true;
    rig_session(rig, 1, "c");
    rig_turn(rig);
    while (!disk_faults.held)
        sched_yield();
}

static uint64_t commits(struct state_rig *rig)
{
    struct state_status status;
    state_status(rig->state, &status);
    return status.commits;
}

static void what_is_acknowledged_at_once_costs_no_disk(void **arg)
{
    struct story story = {.rig = *arg};
    struct state_rig *rig = *arg;
    rig_open(rig);
    occupy_disk(rig);
    size_t used = rig->budget.used;
    for (uint16_t id = 1; id <= 5000; id++) {
        struct publication *publication = rig_publication(rig, "t", "p");
        rig_deliver(rig, 1, id, 1, publication);
        rig_turn(rig);
        state_drop_delivery(rig->state, 1, id, publication);
        publication_release(publication);
    }
    assert_in_range(rig->budget.used, used, used + 32768); // nor memory
    when_durable(&story, 'p', true);
    rig_turn(rig);
    assert_string_equal(story.text, "");
    disk_faults.hold = false;
    loop_run(rig->loop);
    assert_string_equal(story.text, "p");
    assert_int_equal(commits(rig), 1);
    assert_true(state_is_durable(rig->state));
}

// Before the next commit begins.
static void tell_and_hold(void *arg, uint64_t letter, uint64_t stop)
{
    disk_faults.hold = true;
    tell(arg, letter, stop);
}

// Only who has written something that is left, or waits behind it, waits for the next commit.
static void who_waits_for_nothing_that_is_left_waits_no_longer(void **arg)
{
    struct story story = {.rig = *arg};
    struct state_rig *rig = *arg;
    rig_open(rig);
    occupy_disk(rig);
    struct publication *a = rig_publication(rig, "a", "1"), *b = rig_publication(rig, "b", "2");
    rig_deliver(rig, 1, 1, 1, a);
    state_when_durable(rig->state, tell_and_hold, &story, 'a', true);
    rig_deliver(rig, 1, 2, 1, b);
    when_durable(&story, 'b', false);
    rig_deliver(rig, 1, 3, 1, a);
    when_durable(&story, 'c', true);
    state_drop_delivery(rig->state, 1, 3, a);
    state_drop_delivery(rig->state, 1, 1, a);
    publication_release(a);
    publication_release(b);
    disk_faults.hold = false;
    loop_run(rig->loop);
    assert_string_equal(story.text, "a");
    disk_faults.hold = false;
    loop_run(rig->loop);
    assert_string_equal(story.text, "abc");
    assert_string_equal(rig_reload(rig), "session 1 c - 60 0 1 v5\n1 delivery 2 qos 1 b=2\n");
}

// As of wills and sessions the last counts, in any order of what is said of two topics.
static void what_is_retained_again_replaces_what_waits(void **arg)
{
    struct state_rig *rig = *arg;
    rig_open(rig);
    for (int i = 0; i <= 1000; i++) {
        char payload[16];
        snprintf(payload, sizeof payload, "%d", i);
        struct publication *kept = rig_publication(rig, "kept", payload),
                           *dropped = rig_publication(rig, "dropped", payload);
        state_drop_retained(rig->state, kept->topic);
        state_put_retained(rig->state, kept);
        state_put_retained(rig->state, dropped);
        state_drop_retained(rig->state, dropped->topic);
        publication_release(kept);
        publication_release(dropped);
    }
    assert_int_equal(rig->state->open->op_count, 2);
    assert_string_equal(rig_reload(rig), "retained kept=1000\n");
    rig_close(rig);
    assert_int_equal(rig_count(rig, "publication"), 1);
    rig_open(rig);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, state_rig_setup, state_rig_teardown)
    const struct CMUnitTest tests[] = {
        TEST(who_waits_is_called_in_order_from_the_loop),
        TEST(who_is_called_may_write_and_wait),
        TEST(nobody_is_called_after_the_end),
        TEST(what_is_acknowledged_at_once_costs_no_disk),
        TEST(who_waits_for_nothing_that_is_left_waits_no_longer),
        TEST(what_is_retained_again_replaces_what_waits),
    };
    log_init(LOG_LEVEL_WARN);
    disk_faults_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
