// The window of unacknowledged messages: what is acknowledged when, and in which order.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "mqtt/window.h"

// A story of letters: a to z receive a message under packet identifier 1 to 26; A to Z settle it;
// '.' releases what can be released; '!' begins a new connection. Settling goes by the ticket of
// the identifier's last message.
static const struct {
    const char *name;
    uint16_t limit;
    const char *story;
    const char *released; // in letters, '.' after each release
    size_t left;
} stories[] = {
    {"nothing", 4, ".", ".", 0},
    {"one", 4, "a.A.", ".a.", 0},
    {"settled in order", 4, "abcABC.", "abc.", 0},
    {"settled in reverse order waits for the first", 4, "abcC.B.A.", "..abc.", 0},
    {"only the settled prefix", 4, "abcdACD.B.", "a.bcd.", 0},
    {"settled twice is released once", 4, "abAA.A.", "a..", 1},
    {"a hole stops what is behind it", 4, "abcdACD...", "a...", 3},
    {"identifiers come again", 2, "aA.aA.bB.aA.", "a.a.b.a.", 0},
    {"the ring wraps", 3, "abcAB.dCeD.fE.F.", "ab.cd.e.f.", 0},
    {"the ring wraps while full", 4, "abcdA.eB.fC.gD.hE.FGH.", "a.b.c.d.e.fgh.", 0},
    {"a new connection voids the verdicts of the old", 4, "ab!AB.", ".", 0},
    {"a new connection has its own order", 4, "ab!baA.B.", ".ba.", 0},
    {"settled but not released is void too", 4, "abB!abA.B.", "a.b.", 0},
    {"a limit of one", 1, "aA.bB.cC.", "a.b.c.", 0},
    {"a limit of none is one", 0, "aA.bB.", "a.b.", 0},
};

static void play(struct window *window, const char *story, char *out)
{
    uint64_t tickets[26], generations[26];
    for (; *story; story++) {
        struct window_entry entry;
        if (*story >= 'a' && *story <= 'z') {
            tickets[*story - 'a'] = window_push(window, (uint16_t)(*story - 'a' + 1), 1, 0);
            generations[*story - 'a'] = window->generation;
        } else if (*story >= 'A' && *story <= 'Z') {
            window_settle(window, generations[*story - 'A'], tickets[*story - 'A']);
        } else if (*story == '!') {
            window_reset(window);
        } else {
            while (window_release(window, &entry))
                *out++ = (char)('a' + entry.packet_id - 1);
            *out++ = '.';
        }
    }
    *out = '\0';
}

static void releases_the_settled_prefix_in_order(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof stories / sizeof *stories; i++) {
        struct window window;
        char released[100];
        window_init(&window, stories[i].limit);
        play(&window, stories[i].story, released);
        if (strcmp(released, stories[i].released) != 0 || window_count(&window) != stories[i].left)
            fail_msg("%s: released %s, not %s; %zu left", stories[i].name, released,
                     stories[i].released, window_count(&window));
        window_fini(&window);
    }
}

static void is_full_at_its_limit(void **state)
{
    (void)state;
    static const uint16_t limits[] = {1, 2, 3, 20, 1000, 1024, 65535};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        struct window window;
        struct window_entry entry;
        window_init(&window, limits[i]);
        uint64_t first = window.next;
        for (uint32_t id = 1; id <= limits[i]; id++) {
            assert_false(window_full(&window));
            window_push(&window, (uint16_t)id, 1, 0);
        }
        assert_true(window_full(&window));
        assert_int_equal(window_count(&window), limits[i]);
        assert_true(window_settle(&window, window.generation, first));
        assert_true(window_full(&window)); // until it is acknowledged
        assert_true(window_release(&window, &entry));
        assert_false(window_full(&window));
        assert_int_equal(entry.packet_id, 1);
        window_fini(&window);
    }
}

static void knows_the_identifiers_in_use(void **state)
{
    (void)state;
    static const uint16_t ids[] = {1, 63, 64, 65, 4096, 65534, 65535};
    const size_t count = sizeof ids / sizeof *ids;
    struct window window;
    struct window_entry entry;
    window_init(&window, 16);
    for (size_t i = 0; i < count; i++) {
        assert_false(window_holds(&window, ids[i]));
        assert_null(window_find(&window, ids[i], NULL));
        uint64_t ticket = window_push(&window, ids[i], (uint8_t)(1 + i % 2), 1000 + i), found;
        assert_true(window_holds(&window, ids[i]));
        assert_int_equal(window_find(&window, ids[i], &found)->hash, 1000 + i);
        assert_int_equal(found, ticket);
    }
    for (size_t i = 0; i < count; i++) {
        window_settle(&window, window.generation, i);
        assert_true(window_find(&window, ids[i], NULL)->settled);
        assert_true(window_release(&window, &entry));
        assert_int_equal(entry.qos, 1 + i % 2);
        assert_int_equal(entry.hash, 1000 + i);
        assert_false(window_holds(&window, ids[i]));
    }
    window_push(&window, 7, 2, 0);
    window_reset(&window);
    assert_false(window_holds(&window, 7));
    window_fini(&window);
}

static void settles_nothing_of_the_past(void **state)
{
    (void)state;
    struct window window;
    struct window_entry entry;
    window_init(&window, 4);
    uint64_t generation = window.generation, ticket = window_push(&window, 1, 1, 0);
    assert_false(window_settle(&window, generation, ticket + 1)); // not there yet
    assert_false(window_settle(&window, generation + 1, ticket));
    assert_true(window_settle(&window, generation, ticket));
    assert_true(window_release(&window, &entry));
    assert_false(window_settle(&window, generation, ticket)); // released
    ticket = window_push(&window, 1, 1, 0);
    window_reset(&window);
    uint64_t later = window_push(&window, 1, 1, 0);
    assert_false(window_settle(&window, generation, ticket));
    assert_false(window_settle(&window, generation, later));
    assert_false(window_release(&window, &entry));
    assert_true(window_settle(&window, window.generation, later));
    window_fini(&window);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(releases_the_settled_prefix_in_order),
        cmocka_unit_test(is_full_at_its_limit),
        cmocka_unit_test(knows_the_identifiers_in_use),
        cmocka_unit_test(settles_nothing_of_the_past),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
