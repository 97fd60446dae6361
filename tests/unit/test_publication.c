// Publications: copies of their parts, in one piece of memory that the budget knows of.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "broker/publication.h"

static void parts_are_copied(void **state)
{
    (void)state;
    struct budget budget = {.limit = 1 << 20};
    char topic[] = "a/b", payload[] = "\0\1\2", properties[] = "xyz";
    const struct publication_parts parts = {
        .topic = bytes_of(topic),
        .payload = {(const uint8_t *)payload, 3},
        .properties = bytes_of(properties),
        .publisher = 9,
        .received_us = 8,
        .expires_ms = 7,
        .qos = 2,
        .retain = true,
    };
    struct publication *publication = publication_new(&budget, &parts);
    memset(topic, '?', 3);
    memset(payload, '?', 3);
    memset(properties, '?', 3);
    assert_true(bytes_equal(publication->topic, bytes_of("a/b")));
    assert_true(bytes_equal(publication->payload, (struct bytes){(const uint8_t *)"\0\1\2", 3}));
    assert_true(bytes_equal(publication->properties, bytes_of("xyz")));
    assert_int_equal(publication->publisher, 9);
    assert_int_equal(publication->received_us, 8);
    assert_int_equal(publication->expires_ms, 7);
    assert_int_equal(publication->qos, 2);
    assert_true(publication->retain);
    assert_int_equal(publication->id, 0);
    publication_release(publication);
    assert_int_equal(budget.used, 0);
}

static void it_goes_with_its_last_holder(void **state)
{
    (void)state;
    struct budget budget = {.limit = 1 << 20};
    const struct publication_parts parts = {.topic = bytes_of("t")};
    struct publication *publication = publication_new(&budget, &parts);
    assert_int_equal(publication->payload.length, 0);
    assert_ptr_equal(publication_hold(publication), publication);
    publication_release(publication);
    assert_int_equal(budget.used, publication->charged);
    publication_release(publication);
    assert_int_equal(budget.used, 0);
    publication_release(NULL);
}

static void hear_of_room(void *arg)
{
    ++*(unsigned *)arg;
}

static void the_budget_is_charged_with_what_it_takes(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 100, 5000, 200000};
    static uint8_t payload[200000];
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        unsigned rooms = 0;
        struct budget budget = {.limit = sizes[i] + 1, .room = hear_of_room, .arg = &rooms};
        const struct publication_parts parts = {.topic = bytes_of("topic"),
                                                .payload = {payload, sizes[i]}};
        struct publication *publication = publication_new(&budget, &parts);
        size_t least = sizeof *publication + 5 + sizes[i];
        assert_in_range(budget.used, least, least + 4096 + 64);
        assert_true(budget.full);
        publication_release(publication);
        assert_int_equal(rooms, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_are_copied),
        cmocka_unit_test(it_goes_with_its_last_holder),
        cmocka_unit_test(the_budget_is_charged_with_what_it_takes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
