// The window of unacknowledged messages: what is acknowledged when, and in which order.
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
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
    {"the ring grows while it is not at its start", 26, "abcABC.defghiDEF.jklmnoGHIJKLMNO.",
     "abc.def.ghijklmno.", 0},
};

static uint64_t push(struct window *window, uint16_t packet_id, uint8_t qos, uint64_t hash)
{
    const struct window_entry entry = {.hash = hash,
                                       .packet_id = packet_id,
                                       .qos = qos,
                                       .waits = 1};
    return window_push(window, &entry);
}

static bool settle(struct window *window, uint64_t generation, uint64_t ticket)
{
    return window_settle(window, generation, ticket, 0);
}

static void play(struct window *window, const char *story, char *out)
{
    uint64_t tickets[26], generations[26];
    for (; *story; story++) {
        struct window_entry entry;
        if (*story >= 'a' && *story <= 'z') {
            tickets[*story - 'a'] = push(window, (uint16_t)(*story - 'a' + 1), 1, 0);
            generations[*story - 'a'] = window->generation;
        } else if (*story >= 'A' && *story <= 'Z') {
            settle(window, generations[*story - 'A'], tickets[*story - 'A']);
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
            push(&window, (uint16_t)id, 1, 0);
        }
        assert_true(window_full(&window));
        assert_int_equal(window_count(&window), limits[i]);
        assert_true(settle(&window, window.generation, first));
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
        uint64_t ticket = push(&window, ids[i], (uint8_t)(1 + i % 2), 1000 + i), found;
        assert_true(window_holds(&window, ids[i]));
        assert_int_equal(window_find(&window, ids[i], &found)->hash, 1000 + i);
        assert_int_equal(found, ticket);
    }
    for (size_t i = 0; i < count; i++) {
        settle(&window, window.generation, i);
        assert_int_equal(window_find(&window, ids[i], NULL)->waits, 0);
        assert_true(window_release(&window, &entry));
        assert_int_equal(entry.qos, 1 + i % 2);
        assert_int_equal(entry.hash, 1000 + i);
        assert_false(window_holds(&window, ids[i]));
    }
    push(&window, 7, 2, 0);
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
    uint64_t generation = window.generation, ticket = push(&window, 1, 1, 0);
    assert_false(settle(&window, generation, ticket + 1)); // not there yet
    assert_false(settle(&window, generation + 1, ticket));
    assert_true(settle(&window, generation, ticket));
    assert_true(window_release(&window, &entry));
    assert_false(settle(&window, generation, ticket)); // released
    ticket = push(&window, 1, 1, 0);
    window_reset(&window);
    uint64_t later = push(&window, 1, 1, 0);
    assert_false(settle(&window, generation, ticket));
    assert_false(settle(&window, generation, later));
    assert_false(window_release(&window, &entry));
    assert_true(settle(&window, window.generation, later));
    window_fini(&window);
}

// Few identifiers are looked for in the ring, many in a set: from either, and from one to the
// other.
static void knows_many_identifiers(void **state)
{
    (void)state;
    struct window window;
    struct window_entry entry;
    window_init(&window, 65535);
    assert_false(window_holds(&window, 1));
    for (uint32_t turn = 0; turn < 3; turn++) {
        for (uint32_t id = 1; id <= 300; id++) {
            uint16_t packet_id = (uint16_t)(id * 211);
            assert_false(window_holds(&window, packet_id));
            uint64_t ticket = push(&window, packet_id, 1, id), found;
            assert_true(window_holds(&window, packet_id));
            assert_false(window_holds(&window, (uint16_t)(packet_id + 1)));
            assert_int_equal(window_find(&window, 211, NULL)->hash, 1);
            assert_int_equal(window_find(&window, packet_id, &found)->hash, id);
            assert_int_equal(found, ticket);
        }
        if (turn == 1) {
            window_reset(&window);
            continue;
        }
        for (uint32_t id = 1; id <= 300; id++) {
            assert_true(settle(&window, window.generation, window.first));
            assert_true(window_release(&window, &entry));
            assert_int_equal(entry.hash, id);
            assert_false(window_holds(&window, entry.packet_id));
        }
    }
    window_fini(&window);
}

// With few entries, and with so many that their identifiers are in a set.
static void drops_an_entry_that_needs_no_answer(void **state)
{
    (void)state;
    static const uint16_t counts[] = {3, 300};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct window window;
        struct window_entry entry;
        window_init(&window, 1000);
        for (uint16_t id = 1; id <= counts[i]; id++)
            push(&window, id, 2, id);
        settle(&window, window.generation, 1);
        window_drop(&window, 1);
        assert_false(window_holds(&window, 2));
        push(&window, 2, 1, 999);
        assert_int_equal(window_find(&window, 2, NULL)->hash, 999);
        assert_false(window_release(&window, &entry));
        settle(&window, window.generation, 0);
        assert_true(window_release(&window, &entry));
        assert_int_equal(entry.packet_id, 1);
        assert_true(window_release(&window, &entry));
        assert_int_equal(entry.packet_id, 0);
        assert_true(window_holds(&window, 2));
        assert_false(window_release(&window, &entry));
        window_fini(&window);
    }
}

static void waits_for_all_that_it_should(void **state)
{
    (void)state;
    static const struct {
        uint8_t waits, given, settled[3]; // reasons
        uint8_t settles, reason;
    } cases[] = {
        {0, 0x10, {0}, 0, 0x10},          {1, 0, {0}, 1, 0},
        {1, 0, {0x99}, 1, 0x99},          {2, 0, {0, 0}, 2, 0},
        {2, 0, {0x99, 0}, 2, 0x99},       {2, 0x97, {0, 0x99}, 2, 0x99},
        {3, 0x99, {0, 0, 0x97}, 3, 0x99},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct window window;
        struct window_entry entry = {.packet_id = 7,
                                     .qos = 1,
                                     .size = 50,
                                     .waits = cases[i].waits,
                                     .reason = cases[i].given};
        window_init(&window, 2);
        uint64_t ticket = window_push(&window, &entry);
        for (uint8_t n = 0; n < cases[i].settles; n++) {
            assert_false(window_release(&window, &entry));
            assert_true(window_settle(&window, window.generation, ticket, cases[i].settled[n]));
        }
        assert_true(window_release(&window, &entry));
        assert_int_equal(entry.reason, cases[i].reason);
        assert_int_equal(entry.size, 50);
        window_fini(&window);
    }
}

static void takes_memory_as_it_is_used(void **state)
{
    (void)state;
    struct window window;
    window_init(&window, 65535);
    assert_null(window.ring);
    for (uint16_t id = 1; id <= 64; id++)
        push(&window, id, 1, 0);
    assert_int_equal(window.mask, 63);
    assert_null(window.ids);
    push(&window, 65, 1, 0);
    assert_non_null(window.ids);
    window_fini(&window);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(releases_the_settled_prefix_in_order),
        cmocka_unit_test(is_full_at_its_limit),
        cmocka_unit_test(knows_the_identifiers_in_use),
        cmocka_unit_test(settles_nothing_of_the_past),
        cmocka_unit_test(knows_many_identifiers),
        cmocka_unit_test(drops_an_entry_that_needs_no_answer),
        cmocka_unit_test(waits_for_all_that_it_should),
        cmocka_unit_test(takes_memory_as_it_is_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
