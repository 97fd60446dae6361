// Messages: what they copy, who holds them, how they end; books and budget.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/message.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

// A source that notes how its messages end.
struct noting_source {
    struct message_source source;
    unsigned settled;
    enum verdict verdict;
    const char *reason;
    uint64_t ticket;
};

static void note_settled(struct message_source *source, struct message *message)
{
    struct noting_source *noting = (struct noting_source *)source;
    noting->settled++;
    noting->verdict = (enum verdict)message->verdict;
    noting->reason = message->reason;
    noting->ticket = message->ticket;
}

static struct noting_source new_source(void)
{
    return (struct noting_source){.source = {.name = "site", .settled = note_settled}};
}

static const struct message_parts small = {
    .topic = "a/b", .topic_length = 3, .payload = "1", .payload_length = 1, .full_length = 1};

static void copies_all_parts(void **state)
{
    (void)state;
    char topic[] = "sensors/x", client[] = "c1", payload[] = "12\0003", name[] = "unit",
         value[] = "m", data[] = "\0\1";
    const struct message_property properties[] = {
        {MESSAGE_USER_PROPERTY, 4, 1, name, value},
        {MESSAGE_CORRELATION_DATA, 0, 2, NULL, data},
    };
    uint32_t subscriptions[] = {7, 4294967295u};
    struct message_parts parts = {
        .topic = topic,
        .client_id = client,
        .payload = payload,
        .properties = properties,
        .subscriptions = subscriptions,
        .topic_length = 9,
        .client_id_length = 2,
        .property_count = 2,
        .subscription_count = 2,
        .payload_length = 4,
        .full_length = 400,
        .qos = 2,
        .dup = true,
        .retain = true,
    };
    struct noting_source source = new_source();
    struct budget budget = {.limit = 10000};
    struct message *message = message_new(&source.source, &budget, &parts);
    memset(topic, 'X', sizeof topic);
    memset(client, 'X', sizeof client);
    memset(payload, 'X', sizeof payload);
    memset(name, 'X', sizeof name);
    memset(value, 'X', sizeof value);
    memset(data, 'X', sizeof data);
    subscriptions[0] = subscriptions[1] = 0;

    assert_int_equal(message->topic_length, 9);
    assert_memory_equal(message->topic, "sensors/x", 9);
    assert_int_equal(message->client_id_length, 2);
    assert_memory_equal(message->client_id, "c1", 2);
    assert_int_equal(message->payload_length, 4);
    assert_memory_equal(message->payload, "12\0003", 4);
    assert_int_equal(message->full_length, 400);
    assert_int_equal(message->qos, 2);
    assert_true(message->dup && message->retain);
    assert_int_equal(message->subscription_count, 2);
    assert_int_equal(message->subscriptions[0], 7);
    assert_int_equal(message->subscriptions[1], 4294967295u);
    assert_int_equal(message->property_count, 2);
    assert_int_equal(message->properties[0].kind, MESSAGE_USER_PROPERTY);
    assert_memory_equal(message->properties[0].name, "unit", 4);
    assert_memory_equal(message->properties[0].value, "m", 1);
    assert_int_equal(message->properties[1].kind, MESSAGE_CORRELATION_DATA);
    assert_null(message->properties[1].name);
    assert_memory_equal(message->properties[1].value, "\0\1", 2);
    assert_true(message->received_us > 1600000000000000);
    message_release(message, VERDICT_STORED, NULL);
}

static void the_least_message(void **state)
{
    (void)state;
    struct noting_source source = new_source();
    struct budget budget = {.limit = 10000};
    const struct message_parts parts = {.topic = "a", .topic_length = 1};
    struct message *message = message_new(&source.source, &budget, &parts);
    assert_null(message->client_id);
    assert_int_equal(message->payload_length, 0);
    assert_int_equal(message->property_count, 0);
    message_release(message, VERDICT_SKIPPED, "no mapping");
    assert_int_equal(source.verdict, VERDICT_SKIPPED);
    assert_string_equal(source.reason, "no mapping");
}

// In the order of weight, as DESIGN has it.
static const enum verdict by_weight[] = {
    VERDICT_SKIPPED, VERDICT_DROPPED,  VERDICT_DEDUPLICATED, VERDICT_STORED,
    VERDICT_SPOOLED, VERDICT_REJECTED, VERDICT_ABANDONED,
};

static void the_weightiest_verdict_counts(void **state)
{
    (void)state;
    static const char *const reasons[] = {"first", "second"};
    for (size_t first = 0; first < COUNT(by_weight); first++) {
        for (size_t second = 0; second < COUNT(by_weight); second++) {
            struct noting_source source = new_source();
            struct budget budget = {.limit = 10000};
            struct message *message = message_new(&source.source, &budget, &small);
            message_hold(message);
            message_hold(message);
            message_release(message, by_weight[first], reasons[0]);
            message_release(message, by_weight[second], reasons[1]);
            assert_int_equal(source.settled, 0);
            message_release(message, VERDICT_NONE, "unheard");
            size_t weightiest = first >= second ? first : second;
            assert_int_equal(source.settled, 1);
            assert_int_equal(source.verdict, by_weight[weightiest]);
            assert_string_equal(source.reason, reasons[first < second]);
        }
    }
}

static void the_books_balance(void **state)
{
    (void)state;
    struct noting_source source = new_source();
    struct books *books = &source.source.books;
    struct budget budget = {.limit = 100000};
    struct message *messages[COUNT(by_weight)];
    for (size_t i = 0; i < COUNT(by_weight); i++) {
        messages[i] = message_new(&source.source, &budget, &small);
        messages[i]->ticket = 100 + i;
        assert_int_equal(books_pending(books), i + 1);
    }
    for (size_t i = 0; i < COUNT(by_weight); i++) {
        message_release(messages[i], by_weight[i], NULL);
        assert_int_equal(source.settled, i + 1);
        assert_int_equal(source.ticket, 100 + i);
        assert_int_equal(books->verdicts[by_weight[i]], 1);
        assert_int_equal(books_pending(books), COUNT(by_weight) - i - 1);
    }
    assert_int_equal(books->received, COUNT(by_weight));
    assert_int_equal(books->verdicts[VERDICT_NONE], 0);
}

static void verdicts_have_names(void **state)
{
    (void)state;
    static const char *const names[] = {"skipped", "dropped",  "deduplicated", "stored",
                                        "spooled", "rejected", "abandoned"};
    for (size_t i = 0; i < COUNT(by_weight); i++)
        assert_string_equal(verdict_name(by_weight[i]), names[i]);
}

// ---- the budget ----

static void count_room(void *arg)
{
    ++*(unsigned *)arg;
}

static void the_budget_fills_and_has_room_again(void **state)
{
    (void)state;
    static const struct {
        int change;
        bool full;
        unsigned rooms; // calls so far
    } steps[] = {
        {999, false, 0},   {1, true, 0},    {500, true, 0},  {-500, true, 0}, // at the limit again
        {-250, true, 0}, // three quarters: not yet
        {-1, false, 1},    {-1, false, 1},  {251, false, 1}, {1, true, 1},
        {-1000, false, 2}, {2000, true, 2}, {-1, true, 2},
    };
    unsigned rooms = 0;
    struct budget budget = {.limit = 1000, .room = count_room, .arg = &rooms};
    size_t used = 0;
    for (size_t i = 0; i < COUNT(steps); i++) {
        if (steps[i].change > 0)
            budget_take(&budget, (size_t)steps[i].change);
        else
            budget_give(&budget, (size_t)-steps[i].change);
        used = (size_t)((int)used + steps[i].change);
        if (budget.full != steps[i].full || rooms != steps[i].rooms || budget.used != used)
            fail_msg("step %zu: full %d, %u calls, %zu used", i, budget.full, rooms, budget.used);
    }
    assert_int_equal(budget.peak, 2000);
}

// "Room again" finds the message gone: what it calls may read a message of the same size.
struct room_check {
    const struct budget *budget;
    const struct noting_source *source;
    size_t used;
    unsigned settled;
};

static void check_room(void *arg)
{
    struct room_check *check = arg;
    check->used = check->budget->used;
    check->settled = check->source->settled;
}

static void a_message_gives_its_bytes_back(void **state)
{
    (void)state;
    struct noting_source source = new_source();
    struct room_check check = {.source = &source, .used = 1};
    struct budget budget = {.limit = 1, .room = check_room, .arg = &check};
    check.budget = &budget;
    struct message *message = message_new(&source.source, &budget, &small);
    assert_true(budget.used >= sizeof *message + 4);
    assert_int_equal(budget.used, message->charged);
    assert_true(budget.full);
    message_hold(message);
    message_release(message, VERDICT_STORED, NULL);
    assert_true(budget.full);
    message_release(message, VERDICT_STORED, NULL);
    assert_int_equal(budget.used, 0);
    assert_false(budget.full);
    assert_int_equal(check.used, 0);
    assert_int_equal(check.settled, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_all_parts),
        cmocka_unit_test(the_least_message),
        cmocka_unit_test(the_weightiest_verdict_counts),
        cmocka_unit_test(the_books_balance),
        cmocka_unit_test(verdicts_have_names),
        cmocka_unit_test(the_budget_fills_and_has_room_again),
        cmocka_unit_test(a_message_gives_its_bytes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
