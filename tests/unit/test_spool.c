// The spool's small parts: its queue, what counts as an outage, and how a batch is taken apart for
// it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "spool/spool_queue.h"
#include "store/batch.h"
#include "store/outage.h"

struct rig {
    struct message_source source;
    struct budget budget;
    size_t settled;
    enum verdict last;
};

static void note_settled(struct message_source *source, struct message *message)
{
    struct rig *rig = (struct rig *)source;
    rig->settled++;
    rig->last = (enum verdict)message->verdict;
}

static void set_up(struct rig *rig)
{
    *rig = (struct rig){
        .source = {.name = "site", .settled = note_settled},
        .budget = {.limit = 1 << 20},
    };
}

static struct message *message(struct rig *rig, enum message_entry kind, int64_t entry)
{
    const struct message_parts parts = {.topic = "t",
                                        .topic_length = 1,
                                        .payload = "1",
                                        .payload_length = 1,
                                        .full_length = 1,
                                        .entry_kind = (uint8_t)kind,
                                        .entry = entry};
    return message_new(&rig->source, &rig->budget, &parts);
}

// ---- the queue ----

// It grows while its first item is anywhere in the ring.
static void first_in_first_out(void **state)
{
    (void)state;
    struct spool_queue queue = {0};
    struct rig rig;
    set_up(&rig);
    uint64_t next = 0, expected = 0;
    for (size_t round = 0; round < 40; round++) {
        for (size_t i = 0; i < 40; i++) {
            struct message *added = message(&rig, MESSAGE_NO_ENTRY, 0);
            added->ticket = next++;
            spool_queue_append(&queue, added, i % 2 ? mem_strdup("a\n") : NULL, (int64_t)i);
            assert_ptr_equal(spool_queue_at(&queue, queue.count - 1)->message, added);
        }
        queue.given = 10;
        for (size_t i = 0; i < 25; i++) {
            struct message *taken = spool_queue_take(&queue);
            assert_int_equal(taken->ticket, expected++);
            message_release(taken, VERDICT_SPOOLED, NULL);
        }
        assert_int_equal(queue.given, 0);
        assert_int_equal(queue.count, next - expected);
    }
    while (queue.count > 0)
        message_release(spool_queue_take(&queue), VERDICT_SPOOLED, NULL);
    spool_queue_fini(&queue);
    assert_int_equal(rig.settled, next);
    assert_int_equal(rig.budget.used, 0);
}

// ---- outages ----

struct watch {
    struct loop *loop;
    struct outage outage;
    struct loop_timer *limit;
    unsigned lasted;
};

static void note_lasting(void *arg)
{
    struct watch *watch = arg;
    watch->lasted++;
    loop_stop(watch->loop);
}

static void give_up(void *arg)
{
    loop_stop(((struct watch *)arg)->loop);
}

// What happens, a letter each: d down, t trouble, u up, c a commit.
static const struct {
    const char *events;
    bool outage;
} outages[] = {
    {"", false},   {"d", true},    {"du", false}, {"dud", true},   {"t", true},
    {"tu", true},  {"tuc", false}, {"tdu", true}, {"dtuuu", true}, {"dtc", false},
    {"tct", true}, {"ducd", true}, {"dc", false}, {"uc", false},
};

static void what_is_an_outage(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof outages / sizeof *outages; i++) {
        struct watch watch = {.loop = loop_new()};
        outage_init(&watch.outage, watch.loop);
        outage_watch(&watch.outage, 1, note_lasting, &watch);
        for (const char *event = outages[i].events; *event; event++)
            (*event == 'd'   ? outage_down
             : *event == 't' ? outage_trouble
             : *event == 'u' ? outage_up
                             : outage_over)(&watch.outage);
        watch.limit = loop_timer_new(watch.loop, give_up, &watch);
        loop_timer_start(watch.limit, 30);
        loop_run(watch.loop);
        if (watch.lasted != outages[i].outage || watch.outage.lasting != outages[i].outage)
            fail_msg("%s: %u", outages[i].events, watch.lasted);
        outage_fini(&watch.outage);
        loop_timer_free(watch.limit);
        loop_free(watch.loop);
    }
}

// Without a spool nobody watches.
static void nobody_watches(void **state)
{
    (void)state;
    struct loop *loop = loop_new();
    struct outage outage;
    outage_init(&outage, loop);
    outage_down(&outage);
    outage_trouble(&outage);
    assert_false(loop_timer_pending(outage.timer));
    assert_false(outage.lasting);
    outage_fini(&outage);
    loop_free(loop);
}

// ---- a batch is taken apart ----

static struct target_column columns[] = {{.name = "time", .type = COLUMN_TIMESTAMPTZ}};

static void add(struct batch *batch, struct target *target, struct message *message, bool reject)
{
    books_receive(&target->books);
    if (reject) {
        batch_add_reject(batch, target, message, "bad", NULL, "");
    } else {
        *batch_reserve_row(batch, target) = (struct value){.integer = 1};
        batch_keep_row(batch, target, message);
    }
    message_release(message, VERDICT_NONE, NULL);
}

// The parts are spooled; the message is when the spool says so. What the spool gave is in its file.
static void unloading(void **state)
{
    (void)state;
    struct target target = {.mapping = (char[]){"m"}, .columns = columns, .column_count = 1};
    for (int reject = 0; reject < 2; reject++) {
        struct rig rig;
        set_up(&rig);
        target.books = (struct books){0};
        struct batch *batch = batch_new(&rig.budget);
        struct message *kept = message(&rig, MESSAGE_NO_ENTRY, 0);
        message_hold(kept); // as the spool does
        add(batch, &target, kept, reject);
        batch_unload(batch);
        assert_int_equal(target.books.verdicts[VERDICT_SPOOLED], 1);
        assert_int_equal(rig.settled, 0);
        message_release(kept, VERDICT_DROPPED, "no room");
        assert_int_equal(rig.last, VERDICT_DROPPED);
        add(batch, &target, message(&rig, MESSAGE_OF_SPOOL, 7), reject);
        assert_int_equal(batch->spool_to, 7);
        batch_unload(batch);
        assert_int_equal(target.books.verdicts[VERDICT_ABANDONED], 1);
        assert_int_equal(rig.last, VERDICT_ABANDONED);
        assert_int_equal(batch->spool_to, 0);
        assert_int_equal(books_pending(&target.books), 0);
        assert_int_equal(rig.budget.used, 0);
        batch_free(batch);
    }
}

// That an entry is done with makes a transaction due, though it has nothing to store.
static void an_entry_without_rows(void **state)
{
    (void)state;
    struct rig rig;
    set_up(&rig);
    struct batch *batch = batch_new(&rig.budget);
    assert_true(batch_empty(batch));
    batch_pass_entry(batch, 3);
    assert_false(batch_empty(batch));
    batch_settle(batch);
    assert_true(batch_empty(batch));
    batch_free(batch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_in_first_out),    cmocka_unit_test(what_is_an_outage),
        cmocka_unit_test(nobody_watches),        cmocka_unit_test(unloading),
        cmocka_unit_test(an_entry_without_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
