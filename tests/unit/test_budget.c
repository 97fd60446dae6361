// The budget: when it is full, when there is room again, and what another limit makes of it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/budget.h"

static void hear_of_room(void *arg)
{
    unsigned *rooms = arg;
    ++*rooms;
}

static void it_is_full_until_a_quarter_is_free(void **state)
{
    (void)state;
    unsigned rooms = 0;
    struct budget budget = {.limit = 100, .room = hear_of_room, .arg = &rooms};
    budget_take(&budget, 99);
    assert_false(budget.full);
    budget_take(&budget, 1);
    assert_true(budget.full);
    budget_give(&budget, 25);
    assert_true(budget.full);
    budget_give(&budget, 1);
    assert_false(budget.full);
    budget_give(&budget, 74);
    assert_int_equal(rooms, 1);
    assert_int_equal(budget.used, 0);
    assert_int_equal(budget.peak, 100);
}

static void a_higher_limit_ends_full(void **state)
{
    (void)state;
    unsigned rooms = 0;
    struct budget budget = {.limit = 100, .room = hear_of_room, .arg = &rooms};
    budget_take(&budget, 110);
    budget_set_limit(&budget, 110);
    assert_true(budget.full);
    assert_int_equal(rooms, 0);
    budget_set_limit(&budget, 111);
    assert_false(budget.full);
    assert_int_equal(rooms, 1);
    budget_set_limit(&budget, 1000);
    assert_int_equal(rooms, 1);
    budget_take(&budget, 1);
    assert_false(budget.full);
}

static void a_lower_limit_makes_full(void **state)
{
    (void)state;
    unsigned rooms = 0;
    struct budget budget = {.limit = 100, .room = hear_of_room, .arg = &rooms};
    budget_take(&budget, 50);
    budget_set_limit(&budget, 51);
    assert_false(budget.full);
    budget_set_limit(&budget, 50);
    assert_true(budget.full);
    budget_give(&budget, 12);
    assert_true(budget.full);
    budget_give(&budget, 1);
    assert_false(budget.full);
    assert_int_equal(rooms, 1);
}

// Only more room than there was ends it early.
static void the_same_or_a_lower_limit_does_not_end_full(void **state)
{
    (void)state;
    unsigned rooms = 0;
    struct budget budget = {.limit = 100, .room = hear_of_room, .arg = &rooms};
    budget_take(&budget, 100);
    budget_give(&budget, 20);
    budget_set_limit(&budget, 100);
    assert_true(budget.full);
    budget_set_limit(&budget, 90);
    assert_true(budget.full);
    assert_int_equal(rooms, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_full_until_a_quarter_is_free),
        cmocka_unit_test(a_higher_limit_ends_full),
        cmocka_unit_test(a_lower_limit_makes_full),
        cmocka_unit_test(the_same_or_a_lower_limit_does_not_end_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
