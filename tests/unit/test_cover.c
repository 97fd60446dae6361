// Filter sets that do not overlap: examples, and sets drawn at random with fixed seeds.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "core/cover.h"
#include "core/topic.h"
#include "topic_alphabet.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

enum { SET_MAX = 6, ROUNDS = 2000 };

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// "a/# 1, b 0": in alphabetical order, * for generalised; the caller frees.
static char *cover_text(const struct cover *cover)
{
    char *parts[SET_MAX], *text = mem_strdup("");
    for (size_t i = 0; i < cover->count; i++)
        parts[i] = mem_printf("%s %u%s", cover->filters[i].filter, cover->filters[i].qos,
                              cover->filters[i].generalised ? "*" : "");
    qsort(parts, cover->count, sizeof *parts, compare);
    for (size_t i = 0; i < cover->count; i++) {
        char *longer = mem_printf("%s%s%s", text, *text ? ", " : "", parts[i]);
        free(text);
        free(parts[i]);
        text = longer;
    }
    return text;
}

static void examples(void **state)
{
    (void)state;
    static const struct {
        const char *filters[SET_MAX];
        uint8_t qos[SET_MAX];
        const char *cover;
    } cases[] = {
        {{NULL}, {0}, ""},
        {{"a"}, {2}, "a 2"},
        {{"a", "a"}, {0, 2}, "a 2"},
        {{"a", "b"}, {0, 1}, "a 0, b 1"},
        {{"sensors/#", "sensors/altimeter/+", "sensors/+/1"}, {0, 1, 2}, "sensors/# 2"},
        {{"sensors/altimeter/+", "sensors/+/1"}, {1, 0}, "sensors/+/+ 1*"},
        {{"a/+", "+/b", "c/d"}, {0, 1, 2}, "+/+ 2*"},
        {{"a/+", "+/b", "c/d/e"}, {0, 1, 2}, "+/+ 1*, c/d/e 2"},
        {{"a/#", "+"}, {0, 1}, "+/# 1*"},
        {{"a/b/#", "a/+/c"}, {0, 1}, "a/+/# 1*"},
        {{"a/b/#", "+/b"}, {1, 1}, "+/b/# 1*"},
        {{"a/+", "+/b", "#"}, {0, 1, 0}, "# 1"}, // the original that covers all is no stand-in
        {{"#", "$SYS/#"}, {0, 1}, "# 0, $SYS/# 1"},
        {{"$SYS/+/x", "$SYS/a/+"}, {0, 1}, "$SYS/+/+ 1*"},
        {{"/a", "+/a"}, {1, 0}, "+/a 1"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        size_t count = 0;
        while (count < SET_MAX && cases[i].filters[count])
            count++;
        struct cover cover;
        cover_init(&cover, cases[i].filters, cases[i].qos, count);
        char *text = cover_text(&cover);
        assert_string_equal(text, cases[i].cover);
        free(text);
        cover_fini(&cover);
        assert_int_equal(cover.count, 0);
    }
}

// ---- at random ----

static uint32_t seed;

static size_t draw(size_t below)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % below;
}

struct drawn {
    const char *filters[SET_MAX];
    const struct topic_set *sets[SET_MAX];
    uint8_t qos[SET_MAX];
    size_t count;
};

// Every other set has filters of three levels and more alone: with # and + about, all would melt
// into one.
static struct drawn draw_set(const struct topic_alphabet *alphabet, unsigned number)
{
    struct drawn drawn = {.count = 1 + draw(SET_MAX)};
    for (size_t i = 0; i < drawn.count;) {
        size_t f = draw(alphabet->filter_count);
        const char *slash = strchr(alphabet->filters[f], '/');
        if (number % 2 && (*alphabet->filters[f] == '+' || !slash || !strchr(slash + 1, '/')))
            continue;
        drawn.filters[i] = alphabet->filters[f];
        drawn.sets[i] = &alphabet->matched[f];
        drawn.qos[i++] = (uint8_t)draw(3);
    }
    return drawn;
}

static bool any_overlap(const struct drawn *drawn)
{
    for (size_t i = 0; i < drawn->count; i++)
        for (size_t j = i + 1; j < drawn->count; j++)
            if (topic_set_intersects(drawn->sets[i], drawn->sets[j]))
                return true;
    return false;
}

static void assert_unchanged(const struct drawn *drawn, const struct cover *cover)
{
    assert_int_equal(cover->count, drawn->count);
    for (size_t i = 0; i < drawn->count; i++) {
        assert_string_equal(cover->filters[i].filter, drawn->filters[i]);
        assert_int_equal(cover->filters[i].qos, drawn->qos[i]);
        assert_false(cover->filters[i].generalised);
    }
}

static void assert_disjoint(const struct cover *cover, const struct topic_set *sets)
{
    for (size_t i = 0; i < cover->count; i++)
        for (size_t j = i + 1; j < cover->count; j++)
            if (topic_set_intersects(&sets[i], &sets[j]))
                fail_msg("'%s' overlaps '%s'", cover->filters[i].filter, cover->filters[j].filter);
}

// Each topic of an original comes under one filter of the cover, at no lower QoS.
static void assert_covered(const struct drawn *drawn, const struct cover *cover,
                           const struct topic_set *sets)
{
    for (size_t i = 0; i < drawn->count; i++) {
        bool found = false;
        for (size_t j = 0; j < cover->count; j++)
            if (topic_set_contains(&sets[j], drawn->sets[i]))
                found = cover->filters[j].qos >= drawn->qos[i];
        if (!found)
            fail_msg("'%s' is not covered", drawn->filters[i]);
    }
}

static void assert_marked(const struct drawn *drawn, const struct cover_filter *filter)
{
    bool original = false;
    for (size_t i = 0; i < drawn->count; i++)
        original |= strcmp(drawn->filters[i], filter->filter) == 0;
    if (!filter->generalised && !original)
        fail_msg("'%s' is no original, and not marked as generalised", filter->filter);
}

static void sets_at_random(void **state)
{
    const struct topic_alphabet *alphabet = *state;
    unsigned unchanged = 0, apart = 0;
    seed = 42;
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct drawn drawn = draw_set(alphabet, round);
        struct topic_set sets[SET_MAX];
        struct cover cover;
        cover_init(&cover, drawn.filters, drawn.qos, drawn.count);
        for (size_t i = 0; i < cover.count; i++) {
            const char *filter = cover.filters[i].filter;
            assert_true(topic_filter_valid(filter, strlen(filter)));
            assert_marked(&drawn, &cover.filters[i]);
            sets[i] = alphabet_set(alphabet, filter);
        }
        assert_disjoint(&cover, sets);
        assert_covered(&drawn, &cover, sets);
        if (!any_overlap(&drawn)) {
            assert_unchanged(&drawn, &cover);
            unchanged++;
        } else {
            apart += cover.count > 1;
        }
        cover_fini(&cover);
    }
    // The draw has to reach both kinds often.
    assert_in_range(unchanged, ROUNDS / 10, ROUNDS);
    assert_in_range(apart, ROUNDS / 10, ROUNDS);
}

static int make_alphabet(void **state)
{
    *state = alphabet_new();
    return 0;
}

static int free_alphabet(void **state)
{
    alphabet_free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples),
        cmocka_unit_test(sets_at_random),
    };
    return cmocka_run_group_tests(tests, make_alphabet, free_alphabet);
}
