// Batches: rows and rejects, and how their messages end.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/batch.h"

enum { SETTLED_MAX = 4096 };

static struct target_column columns[] = {
    {.name = "time", .type = COLUMN_TIMESTAMPTZ, .required = true},
    {.name = "value", .type = COLUMN_INT8},
};

struct rig {
    struct message_source source;
    struct budget budget;
    struct batch *batch;
    struct target targets[2];
    // In the order in which they ended.
    struct {
        uint64_t ticket;
        enum verdict verdict;
        const char *reason;
    } settled[SETTLED_MAX];
    size_t settled_count;
    struct batch *next; // what is read when a message ends goes here
};

static struct message *receive(struct rig *rig, uint64_t ticket)
{
    const struct message_parts parts = {.topic = "a", .topic_length = 1};
    struct message *message = message_new(&rig->source, &rig->budget, &parts);
    message->ticket = ticket;
    return message;
}

static void add_row(struct rig *rig, struct batch *batch, size_t target, struct message *message,
                    int64_t number)
{
    books_receive(&rig->targets[target].books);
    struct value *row = batch_reserve_row(batch, &rig->targets[target]);
    row[0] = (struct value){.integer = (int64_t)message->ticket};
    row[1] = (struct value){.integer = number};
    batch_keep_row(batch, &rig->targets[target], message);
}

static void note_settled(struct message_source *source, struct message *message)
{
    struct rig *rig = (struct rig *)source;
    assert_true(rig->settled_count < SETTLED_MAX);
    size_t at = rig->settled_count++;
    rig->settled[at].ticket = message->ticket;
    rig->settled[at].verdict = (enum verdict)message->verdict;
    rig->settled[at].reason = message->reason;
    if (rig->next) {
        struct message *another = receive(rig, 1000 + message->ticket);
        add_row(rig, rig->next, 0, another, 0);
        message_release(another, VERDICT_NONE, NULL);
    }
}

static int setup(void **state)
{
    struct rig *rig = mem_zalloc(sizeof *rig);
    rig->source = (struct message_source){.name = "site", .settled = note_settled};
    rig->budget.limit = 1 << 20;
    for (unsigned i = 0; i < 2; i++)
        rig->targets[i] = (struct target){.index = i, .columns = columns, .column_count = 2};
    rig->batch = batch_new(&rig->budget);
    *state = rig;
    return 0;
}

// Whatever a test did: all is given back, and the books balance.
static int teardown(void **state)
{
    struct rig *rig = *state;
    assert_true(batch_empty(rig->batch));
    batch_free(rig->batch);
    assert_int_equal(rig->budget.used, 0);
    assert_int_equal(books_pending(&rig->source.books), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(books_pending(&rig->targets[i].books), 0);
    free(rig);
    return 0;
}

// A message with one row for the target.
static void add_message(struct rig *rig, uint64_t ticket, size_t target)
{
    struct message *message = receive(rig, ticket);
    add_row(rig, rig->batch, target, message, (int64_t)ticket);
    message_release(message, VERDICT_NONE, NULL);
}

static void assert_settled(const struct rig *rig, size_t at, uint64_t ticket, enum verdict verdict)
{
    assert_true(at < rig->settled_count);
    assert_int_equal(rig->settled[at].ticket, ticket);
    assert_int_equal(rig->settled[at].verdict, verdict);
}

static void rows_are_settled_in_their_order(void **state)
{
    enum { ROWS = 1000 };
    struct rig *rig = *state;
    for (uint64_t i = 0; i < ROWS; i++)
        add_message(rig, i, 0);
    assert_int_equal(rig->batch->row_count, ROWS);
    assert_int_equal(rig->batch->groups[0].count, ROWS);
    for (size_t i = 0; i < ROWS; i++)
        assert_int_equal(rig->batch->groups[0].values[2 * i + 1].integer, i);
    assert_int_equal(rig->settled_count, 0);
    batch_settle(rig->batch);
    assert_int_equal(rig->settled_count, ROWS);
    for (size_t i = 0; i < ROWS; i++)
        assert_settled(rig, i, i, VERDICT_STORED);
    assert_int_equal(rig->targets[0].books.verdicts[VERDICT_STORED], ROWS);
}

static void a_batch_is_used_again(void **state)
{
    struct rig *rig = *state;
    for (uint64_t round = 0; round < 3; round++) {
        add_message(rig, round, 1);
        assert_int_equal(rig->batch->row_count, 1);
        assert_int_equal(rig->batch->groups[1].values[1].integer, round);
        batch_settle(rig->batch);
        assert_true(batch_empty(rig->batch));
        assert_settled(rig, round, round, VERDICT_STORED);
    }
}

static void outcomes_become_verdicts(void **state)
{
    struct rig *rig = *state;
    for (uint64_t i = 0; i < 4; i++)
        add_message(rig, i, 0);
    struct batch_group *group = &rig->batch->groups[0];
    group->outcomes[1] = VERDICT_DEDUPLICATED;
    batch_refuse_row(rig->batch, group, 2, "refused", "why", "23514");
    batch_settle(rig->batch);
    assert_int_equal(rig->settled_count, 4);
    assert_settled(rig, 0, 0, VERDICT_STORED);
    assert_settled(rig, 1, 1, VERDICT_DEDUPLICATED);
    assert_settled(rig, 2, 2, VERDICT_REJECTED);
    assert_settled(rig, 3, 3, VERDICT_STORED);
    const struct books *books = &rig->targets[0].books;
    assert_int_equal(books->verdicts[VERDICT_STORED], 2);
    assert_int_equal(books->verdicts[VERDICT_DEDUPLICATED], 1);
    assert_int_equal(books->verdicts[VERDICT_REJECTED], 1);
}

static void a_message_of_two_mappings_ends_once(void **state)
{
    static const struct {
        enum verdict first, second, whole;
    } cases[] = {
        {VERDICT_NONE, VERDICT_NONE, VERDICT_STORED},
        {VERDICT_NONE, VERDICT_DEDUPLICATED, VERDICT_STORED},
        {VERDICT_DEDUPLICATED, VERDICT_DEDUPLICATED, VERDICT_DEDUPLICATED},
        {VERDICT_REJECTED, VERDICT_NONE, VERDICT_REJECTED},
        {VERDICT_DEDUPLICATED, VERDICT_REJECTED, VERDICT_REJECTED},
    };
    struct rig *rig = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct message *message = receive(rig, i);
        add_row(rig, rig->batch, 0, message, 1);
        add_row(rig, rig->batch, 1, message, 2);
        add_row(rig, rig->batch, 1, message, 3);
        message_release(message, VERDICT_NONE, NULL);
        enum verdict outcomes[] = {cases[i].first, cases[i].second};
        for (int target = 0; target < 2; target++) {
            struct batch_group *group = &rig->batch->groups[target];
            for (size_t row = 0; row < group->count; row++) {
                if (outcomes[target] == VERDICT_REJECTED)
                    batch_refuse_row(rig->batch, group, row, "refused", NULL, "23505");
                else
                    group->outcomes[row] = (uint8_t)outcomes[target];
            }
        }
        batch_settle(rig->batch);
        assert_int_equal(rig->settled_count, i + 1);
        assert_settled(rig, i, i, cases[i].whole);
    }
}

static void a_reserved_row_need_not_be_kept(void **state)
{
    struct rig *rig = *state;
    for (uint64_t i = 0; i < 40; i++) {
        struct value *row = batch_reserve_row(rig->batch, &rig->targets[0]);
        row[1].integer = -1;
        add_message(rig, i, 0);
    }
    assert_int_equal(rig->batch->row_count, 40);
    for (size_t i = 0; i < 40; i++)
        assert_int_equal(rig->batch->groups[0].values[2 * i + 1].integer, i);
    batch_reserve_row(rig->batch, &rig->targets[1]);
    batch_settle(rig->batch);
    assert_int_equal(rig->settled_count, 40);
}

static void rejects_of_a_part_and_of_the_whole(void **state)
{
    struct rig *rig = *state;
    char detail[] = "at byte 7";
    struct message *part = receive(rig, 1), *whole = receive(rig, 2);
    add_row(rig, rig->batch, 1, part, 5);
    books_receive(&rig->targets[0].books);
    batch_add_reject(rig->batch, &rig->targets[0], part, "malformed", detail, "");
    batch_add_reject(rig->batch, NULL, whole, "oversize", NULL, "");
    message_release(part, VERDICT_NONE, NULL);
    message_release(whole, VERDICT_NONE, NULL);
    memset(detail, 'X', sizeof detail - 1);
    assert_int_equal(rig->batch->reject_count, 2);
    assert_string_equal(rig->batch->rejects[0].detail, "at byte 7");
    assert_string_equal(rig->batch->rejects[0].sqlstate, "");
    assert_null(rig->batch->rejects[1].detail);
    assert_false(batch_empty(rig->batch));

    batch_settle(rig->batch);
    assert_int_equal(rig->settled_count, 2);
    assert_settled(rig, 0, 1, VERDICT_REJECTED);
    assert_string_equal(rig->settled[0].reason, "malformed");
    assert_settled(rig, 1, 2, VERDICT_REJECTED);
    assert_string_equal(rig->settled[1].reason, "oversize");
    assert_int_equal(rig->targets[0].books.verdicts[VERDICT_REJECTED], 1);
    assert_int_equal(rig->targets[1].books.verdicts[VERDICT_STORED], 1);
}

static void a_refused_row_stays_refused(void **state)
{
    struct rig *rig = *state;
    for (uint64_t i = 0; i < 3; i++)
        add_message(rig, i, 0);
    struct batch_group *group = &rig->batch->groups[0];
    group->outcomes[0] = VERDICT_DEDUPLICATED;
    batch_refuse_row(rig->batch, group, 1, "refused", "first", "23514");
    batch_refuse_row(rig->batch, group, 1, "refused again", "second", "23505");
    batch_reset_outcomes(rig->batch);
    assert_int_equal(group->outcomes[0], VERDICT_NONE);
    assert_int_equal(group->outcomes[1], VERDICT_REJECTED);
    assert_int_equal(group->refused, 1);
    assert_int_equal(rig->batch->reject_count, 1);
    const struct batch_reject *reject = &rig->batch->rejects[0];
    assert_string_equal(reject->reason, "refused");
    assert_string_equal(reject->detail, "first");
    assert_string_equal(reject->sqlstate, "23514");
    assert_ptr_equal(reject->target, &rig->targets[0]);
    assert_int_equal(reject->message->ticket, 1);
    batch_settle(rig->batch);
    assert_settled(rig, 0, 0, VERDICT_STORED);
    assert_settled(rig, 1, 1, VERDICT_REJECTED);
    assert_int_equal(group->refused, 0);
}

static void abandoning_ends_all(void **state)
{
    struct rig *rig = *state;
    for (uint64_t i = 0; i < 3; i++)
        add_message(rig, i, i % 2);
    batch_refuse_row(rig->batch, &rig->batch->groups[0], 0, "refused", NULL, "23514");
    rig->batch->groups[0].outcomes[1] = VERDICT_DEDUPLICATED;
    struct message *message = receive(rig, 3);
    books_receive(&rig->targets[1].books);
    batch_add_reject(rig->batch, &rig->targets[1], message, "malformed", NULL, "");
    message_release(message, VERDICT_NONE, NULL);
    batch_abandon(rig->batch);
    assert_int_equal(rig->settled_count, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(rig->settled[i].verdict, VERDICT_ABANDONED);
        assert_null(rig->settled[i].reason);
    }
    assert_int_equal(rig->targets[0].books.verdicts[VERDICT_ABANDONED], 2);
    assert_int_equal(rig->targets[1].books.verdicts[VERDICT_ABANDONED], 2);
}

static void memory_is_charged(void **state)
{
    struct rig *rig = *state;
    struct message *message = receive(rig, 1);
    size_t before = rig->budget.used;
    arena_alloc(&rig->batch->arena, 50000); // an unescaped text, say
    add_row(rig, rig->batch, 0, message, 1);
    assert_true(rig->budget.used - before >= 50000 + 2 * sizeof(struct value));
    before = rig->budget.used;
    char *detail = mem_zalloc(30001);
    memset(detail, 'x', 30000);
    batch_add_reject(rig->batch, NULL, message, "malformed", detail, "");
    free(detail);
    assert_in_range(rig->budget.used - before, 30000, 31000);
    message_release(message, VERDICT_NONE, NULL);
    batch_settle(rig->batch);
    assert_int_equal(rig->budget.used, 0);
    add_message(rig, 2, 0);
    assert_true(rig->budget.used < 1000);
    batch_settle(rig->batch);
}

// PostgreSQL takes no message of a GiB: who fills batches looks at what they are when written.
static void all_of_a_reject_counts(void **state)
{
    struct rig *rig = *state;
    enum { LENGTH = 100000 };
    char *control = mem_zalloc(LENGTH + 1);
    memset(control, '\001', LENGTH); // six characters in JSON
    const struct message_property property = {.kind = MESSAGE_USER_PROPERTY,
                                              .name_length = 1,
                                              .value_length = LENGTH,
                                              .name = "a",
                                              .value = control};
    const struct message_parts parts = {.topic = control,
                                        .topic_length = LENGTH / 2,
                                        .payload = control,
                                        .payload_length = LENGTH,
                                        .properties = &property,
                                        .property_count = 1};
    struct message *message = message_new(&rig->source, &rig->budget, &parts);
    for (int i = 0; i < 2; i++)
        books_receive(&rig->targets[i].books);
    batch_add_reject(rig->batch, &rig->targets[0], message, "malformed", control, "");
    size_t one = rig->batch->value_bytes;
    assert_true(one >= LENGTH * 6 + LENGTH / 2 + LENGTH + LENGTH);
    batch_add_reject(rig->batch, &rig->targets[1], message, "malformed", control, "");
    assert_int_equal(rig->batch->value_bytes, 2 * one);
    message_release(message, VERDICT_NONE, NULL);
    batch_settle(rig->batch);
    assert_int_equal(rig->batch->value_bytes, 0);
    free(control);
}

// As a window that has moved lets more be read.
static void what_a_message_sets_off_goes_to_another_batch(void **state)
{
    struct rig *rig = *state;
    rig->next = batch_new(&rig->budget);
    for (uint64_t i = 0; i < 100; i++)
        add_message(rig, i, 0);
    batch_settle(rig->batch);
    struct batch *next = rig->next;
    rig->next = NULL;
    assert_int_equal(next->row_count, 100);
    batch_settle(next);
    batch_free(next);
    assert_int_equal(rig->settled_count, 200);
    assert_settled(rig, 100, 1000, VERDICT_STORED);
}

static void nothing_is_freed_without_complaint(void **state)
{
    (void)state;
    batch_free(NULL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(rows_are_settled_in_their_order),
        TEST(a_batch_is_used_again),
        TEST(all_of_a_reject_counts),
        TEST(outcomes_become_verdicts),
        TEST(a_message_of_two_mappings_ends_once),
        TEST(a_reserved_row_need_not_be_kept),
        TEST(rejects_of_a_part_and_of_the_whole),
        TEST(a_refused_row_stays_refused),
        TEST(abandoning_ends_all),
        TEST(memory_is_charged),
        TEST(what_a_message_sets_off_goes_to_another_batch),
        TEST(nothing_is_freed_without_complaint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
