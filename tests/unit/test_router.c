// Which subscriptions and groups a topic reaches.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "broker/router.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

struct fixture {
    struct router *router;
    char seen[500]; // Subscription Identifiers, and [of the members] of groups
};

static int set_up(void **state)
{
    struct fixture *f = mem_zalloc(sizeof *f);
    f->router = router_new();
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    router_free(f->router);
    free(f);
    return 0;
}

static struct subscription_entry *add(struct fixture *f, const char *filter, uint32_t id)
{
    struct subscription_entry *entry = mem_zalloc(sizeof *entry + strlen(filter) + 1);
    strcpy(entry->filter, filter);
    entry->id = id;
    router_add(f->router, entry);
    return entry;
}

static void drop(struct fixture *f, struct subscription_entry *entry)
{
    router_remove(f->router, entry);
    free(entry);
}

static void each(void *arg, struct subscription_entry *entry)
{
    struct fixture *f = arg;
    size_t used = strlen(f->seen);
    snprintf(f->seen + used, sizeof f->seen - used, "%s%u", used ? " " : "", entry->id);
}

static void share(void *arg, struct group *group)
{
    struct fixture *f = arg;
    size_t used = strlen(f->seen);
    used += (size_t)snprintf(f->seen + used, sizeof f->seen - used, "%s[", used ? " " : "");
    for (size_t i = 0; i < group->count; i++)
        used += (size_t)snprintf(f->seen + used, sizeof f->seen - used, "%s%u", i ? " " : "",
                                 group->members[i]->id);
    snprintf(f->seen + used, sizeof f->seen - used, "]");
}

#define assert_reaches(f, topic, text)                                                             \
    do {                                                                                           \
        const struct router_calls calls = {each, share, f};                                        \
        (f)->seen[0] = '\0';                                                                       \
        router_match((f)->router, bytes_of(topic), &calls);                                        \
        assert_string_equal((f)->seen, text);                                                      \
        assert_int_equal(router_wants((f)->router, bytes_of(topic)), *(text) != '\0');             \
    } while (0)

static void subscriptions_are_found(void **state)
{
    struct fixture *f = *state;
    struct subscription_entry *a = add(f, "a/b", 1), *b = add(f, "a/b", 2), *c = add(f, "a/#", 3),
                              *d = add(f, "$SYS/#", 4);
    assert_reaches(f, "a/b", "3 1 2");
    assert_reaches(f, "a", "3");
    assert_reaches(f, "b", "");
    assert_reaches(f, "$SYS/uptime", "4");
    drop(f, a);
    drop(f, c);
    assert_reaches(f, "a/b", "2");
    assert_reaches(f, "a", "");
    drop(f, b);
    drop(f, d);
    assert_reaches(f, "a/b", "");
    assert_reaches(f, "$SYS/uptime", "");
}

static void groups_go_by_name_and_filter(void **state)
{
    struct fixture *f = *state;
    struct subscription_entry *entries[] = {
        add(f, "$share/g/a/+", 1), add(f, "$share/g/a/+", 2), add(f, "$share/h/a/+", 3),
        add(f, "$share/g/a/#", 4), add(f, "a/+", 5),          add(f, "$share/g/a/+", 6),
        add(f, "$share/g", 7), // an ordinary filter
    };
    assert_reaches(f, "a/b", "5 [4] [1 2 6] [3]");
    assert_reaches(f, "a", "[4]");
    assert_reaches(f, "$share/g", "7");
    assert_reaches(f, "$share/g/a/b", "");
    assert_ptr_equal(entries[0]->group, entries[5]->group);
    assert_ptr_not_equal(entries[0]->group, entries[2]->group);
    drop(f, entries[1]);
    assert_reaches(f, "a/b", "5 [4] [1 6] [3]");
    drop(f, entries[0]);
    drop(f, entries[5]);
    assert_reaches(f, "a/b", "5 [4] [3]");
    entries[0] = add(f, "$share/g/a/+", 8);
    assert_reaches(f, "a/b", "5 [4] [3] [8]");
    drop(f, entries[0]);
    for (size_t i = 2; i < COUNT(entries); i++)
        if (i != 5)
            drop(f, entries[i]);
    assert_reaches(f, "a/b", "");
}

// Who leaves does not make another's turn come late.
static void turns_outlive_those_who_leave(void **state)
{
    struct fixture *f = *state;
    struct subscription_entry *a = add(f, "$share/g/t", 1), *b = add(f, "$share/g/t", 2),
                              *c = add(f, "$share/g/t", 3);
    struct group *group = c->group;
    group->turn = 2;
    drop(f, a);
    assert_int_equal(group->turn, 1);
    drop(f, b);
    assert_int_equal(group->turn, 0);
    assert_ptr_equal(group->members[0], c);
    drop(f, c);
    router_free(NULL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(subscriptions_are_found),
        TEST(groups_go_by_name_and_filter),
        TEST(turns_outlive_those_who_leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
