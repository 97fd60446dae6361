// Topic names and filters: tables, and every pair over a small alphabet.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "core/topic.h"
#include "topic_alphabet.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static void names(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t length;
        bool valid;
    } cases[] = {
        {"a", 1, true},     {"a/b", 3, true},    {"/", 1, true},          {"//", 2, true},
        {"a b", 3, true},   {"$SYS/x", 6, true}, {"\xc3\xa4/x", 4, true}, {"", 0, false},
        {"a/+", 3, false},  {"a/#", 3, false},   {"a+", 2, false},        {"#", 1, false},
        {"a\0b", 3, false},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        if (topic_name_valid(cases[i].name, cases[i].length) != cases[i].valid)
            fail_msg("name '%s'", cases[i].name);
}

static void filters(void **state)
{
    (void)state;
    static const struct {
        const char *filter;
        bool valid;
    } cases[] = {
        {"a", true},
        {"#", true},
        {"+", true},
        {"/", true},
        {"+/+", true},
        {"/+", true},
        {"a/#", true},
        {"+/a/#", true},
        {"$SYS/#", true},
        {"//#", true},
        {"$share", true}, // an ordinary topic: no shared subscription without a second level
        {"$shared/a", true},
        {"$share/group/a", true},
        {"$share/group/+/#", true},
        {"$share/group//", true},
        {"", false},
        {"a#", false},
        {"#a", false},
        {"a/b#", false},
        {"#/a", false},
        {"a/#/b", false},
        {"a+", false},
        {"+a/b", false},
        {"++", false},
        {"##", false},
        {"$share/", false},
        {"$share/group", false},
        {"$share/group/", false},
        {"$share//a", false},
        {"$share/gr+up/a", false},
        {"$share/#/a", false},
        {"$share/+/a", false},
        {"$share/group/a#", false},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        if (topic_filter_valid(cases[i].filter, strlen(cases[i].filter)) != cases[i].valid)
            fail_msg("filter '%s'", cases[i].filter);
    assert_false(topic_filter_valid("a\0b", 3));
    assert_false(topic_filter_valid("$share/g\0/a", 11));
}

static void lengths_have_a_bound(void **state)
{
    (void)state;
    char *text = mem_alloc(65536);
    memset(text, 'a', 65536);
    assert_true(topic_name_valid(text, 65535));
    assert_false(topic_name_valid(text, 65536));
    assert_true(topic_filter_valid(text, 65535));
    assert_false(topic_filter_valid(text, 65536));
    free(text);
}

static void shared_filters(void **state)
{
    (void)state;
    static const struct {
        const char *filter, *inner;
    } cases[] = {
        {"$share/group/a/b", "a/b"}, {"$share/g//a", "/a"}, {"$share/g/#", "#"},  {"$share", NULL},
        {"$share/g", NULL},          {"$shared/g/a", NULL}, {"a/$share/g", NULL},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *inner = NULL;
        assert_int_equal(topic_filter_is_shared(cases[i].filter, &inner), cases[i].inner != NULL);
        assert_int_equal(topic_filter_is_shared(cases[i].filter, NULL), cases[i].inner != NULL);
        if (cases[i].inner)
            assert_string_equal(inner, cases[i].inner);
    }
}

// The examples of the specification [MQTT-4.7.1], and what is easily got wrong.
static void matches(void **state)
{
    (void)state;
    static const struct {
        const char *filter, *name;
        bool match;
    } cases[] = {
        {"sport/tennis/player1/#", "sport/tennis/player1", true},
        {"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
        {"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
        {"sport/tennis/player1/#", "sport/tennis/player2", false},
        {"sport/#", "sport", true},
        {"sport/#", "sport/", true},
        {"sport/#", "sports", false},
        {"sport/+", "sport", false},
        {"sport/+", "sport/", true},
        {"sport/+", "sport/a/b", false},
        {"+/+", "/finance", true},
        {"/+", "/finance", true},
        {"+", "/finance", false},
        {"+", "", true}, // what topic_name_valid has refused before
        {"a//b", "a//b", true},
        {"a/+/b", "a//b", true},
        {"a/b", "a//b", false},
        {"a/b", "A/b", false},
        {"#", "$SYS/load", false},
        {"+/load", "$SYS/load", false},
        {"+/#", "$SYS", false},
        {"$SYS/#", "$SYS/load", true},
        {"$SYS/+", "$SYS/load", true},
        {"$SYS/#", "$SYS", true},
        {"a/+", "a/$b", true},
        {"#", "a/$b", true},
        {"#", "/", true},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        if (topic_filter_matches(cases[i].filter, cases[i].name, strlen(cases[i].name)) !=
            cases[i].match)
            fail_msg("filter '%s', name '%s'", cases[i].filter, cases[i].name);
}

static void a_name_ends_with_its_length(void **state)
{
    (void)state;
    assert_true(topic_filter_matches("a/b", "a/bc/d", 3));
    assert_false(topic_filter_matches("a/bc", "a/bc/d", 3));
}

static void levels(void **state)
{
    (void)state;
    static const struct {
        const char *topic;
        unsigned index;
        const char *level;
    } cases[] = {
        {"sensors/altimeter/1", 0, "sensors"},
        {"sensors/altimeter/1", 2, "1"},
        {"sensors/altimeter/1", 3, NULL},
        {"/a", 0, ""},
        {"/a", 1, "a"},
        {"a/", 1, ""},
        {"a/", 2, NULL},
        {"a", 0, "a"},
        {"a", 4294967295u, NULL},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *level;
        size_t length;
        bool found =
            topic_level(cases[i].topic, strlen(cases[i].topic), cases[i].index, &level, &length);
        assert_int_equal(found, cases[i].level != NULL);
        if (found) {
            assert_int_equal(length, strlen(cases[i].level));
            assert_memory_equal(level, cases[i].level, length);
        }
    }
}

// ---- over the whole alphabet ----

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

static void the_alphabet_is_all_there(void **state)
{
    const struct topic_alphabet *alphabet = *state;
    assert_int_equal(alphabet->filter_count, 5 + 25 + 125 + 625 + 1 + 5 + 25 + 125 - 1);
    assert_int_equal(alphabet->topic_count, 4 + 16 + 64 + 256 + 1024 - 1);
    for (size_t i = 0; i < alphabet->filter_count; i++)
        assert_true(topic_filter_valid(alphabet->filters[i], strlen(alphabet->filters[i])));
    for (size_t i = 0; i < alphabet->topic_count; i++)
        assert_true(topic_name_valid(alphabet->topics[i], strlen(alphabet->topics[i])));
}

static void every_filter_against_every_topic(void **state)
{
    const struct topic_alphabet *alphabet = *state;
    for (size_t f = 0; f < alphabet->filter_count; f++) {
        for (size_t t = 0; t < alphabet->topic_count; t++) {
            const char *filter = alphabet->filters[f], *topic = alphabet->topics[t];
            if (topic_filter_matches(filter, topic, strlen(topic)) !=
                topic_set_has(&alphabet->matched[f], t))
                fail_msg("filter '%s', topic '%s'", filter, topic);
        }
    }
}

static void covers_and_overlaps_of_every_pair(void **state)
{
    const struct topic_alphabet *alphabet = *state;
    for (size_t i = 0; i < alphabet->filter_count; i++) {
        for (size_t j = 0; j < alphabet->filter_count; j++) {
            const char *a = alphabet->filters[i], *b = alphabet->filters[j];
            const struct topic_set *set_a = &alphabet->matched[i], *set_b = &alphabet->matched[j];
            if (topic_filter_covers(a, b) != topic_set_contains(set_a, set_b))
                fail_msg("does '%s' cover '%s'?", a, b);
            if (topic_filter_overlaps(a, b) != topic_set_intersects(set_a, set_b))
                fail_msg("does '%s' overlap '%s'?", a, b);
        }
    }
}

// How often each filter of the tree was reported for a topic.
static void count_match(void *arg, void *value)
{
    (void)arg;
    (*(unsigned *)value)++;
}

static void assert_tree_matches(const struct topic_alphabet *alphabet,
                                const struct topic_tree *tree, unsigned *counts, size_t step)
{
    for (size_t t = 0; t < alphabet->topic_count; t++) {
        const char *topic = alphabet->topics[t];
        memset(counts, 0, alphabet->filter_count * sizeof *counts);
        topic_tree_match(tree, topic, strlen(topic), count_match, NULL);
        for (size_t f = 0; f < alphabet->filter_count; f++) {
            bool match = f % step == 0 && topic_set_has(&alphabet->matched[f], t);
            if (counts[f] != match)
                fail_msg("filter '%s', topic '%s': %u times", alphabet->filters[f], topic,
                         counts[f]);
        }
    }
}

static void the_tree_agrees(void **state)
{
    const struct topic_alphabet *alphabet = *state;
    struct topic_tree *tree = topic_tree_new();
    unsigned *counts = mem_zalloc(alphabet->filter_count * sizeof *counts);
    for (size_t f = 0; f < alphabet->filter_count; f++)
        topic_tree_add(tree, alphabet->filters[f], &counts[f]);
    assert_tree_matches(alphabet, tree, counts, 1);
    for (size_t f = 0; f < alphabet->filter_count; f++)
        if (f % 3 != 0)
            assert_true(topic_tree_remove(tree, alphabet->filters[f], &counts[f]));
    assert_tree_matches(alphabet, tree, counts, 3);
    for (size_t f = 0; f < alphabet->filter_count; f++)
        assert_int_equal(topic_tree_remove(tree, alphabet->filters[f], &counts[f]), f % 3 == 0);
    topic_tree_free(tree);
    free(counts);
}

static void a_filter_may_have_several_values(void **state)
{
    (void)state;
    struct topic_tree *tree = topic_tree_new();
    unsigned counts[3] = {0};
    topic_tree_add(tree, "a/+", &counts[0]);
    topic_tree_add(tree, "a/+", &counts[1]);
    topic_tree_add(tree, "a/+", &counts[1]);
    topic_tree_add(tree, "a/#", &counts[2]);
    topic_tree_match(tree, "a/b", 3, count_match, NULL);
    assert_int_equal(counts[0], 1);
    assert_int_equal(counts[1], 2);
    assert_int_equal(counts[2], 1);
    assert_true(topic_tree_remove(tree, "a/+", &counts[1]));
    assert_false(topic_tree_remove(tree, "a/+", &counts[2]));
    assert_false(topic_tree_remove(tree, "b/+", &counts[0]));
    topic_tree_match(tree, "a/b", 3, count_match, NULL);
    assert_int_equal(counts[0], 2);
    assert_int_equal(counts[1], 3);
    assert_int_equal(counts[2], 2);
    topic_tree_match(tree, "", 0, count_match, NULL);
    assert_int_equal(counts[2], 2);
    topic_tree_free(tree);
    topic_tree_free(NULL);
}

static void the_first_match_is_enough(void **state)
{
    const struct topic_alphabet *alphabet = *state;
    for (size_t f = 0; f < alphabet->filter_count; f++) {
        struct topic_tree *tree = topic_tree_new();
        topic_tree_add(tree, alphabet->filters[f], tree);
        for (size_t t = 0; t < alphabet->topic_count; t++) {
            const char *topic = alphabet->topics[t];
            if (topic_tree_matches(tree, topic, strlen(topic)) !=
                topic_set_has(&alphabet->matched[f], t))
                fail_msg("filter '%s', topic '%s'", alphabet->filters[f], topic);
        }
        assert_true(topic_tree_remove(tree, alphabet->filters[f], tree));
        assert_false(topic_tree_matches(tree, "a", 1));
        topic_tree_free(tree);
    }
}

static void a_filter_is_found_by_itself(void **state)
{
    (void)state;
    static const char *const filters[] = {"a", "a/+", "a/#", "#", "+", "/"};
    struct topic_tree *tree = topic_tree_new();
    unsigned counts[COUNT(filters)] = {0};
    for (size_t i = 0; i < COUNT(filters); i++)
        topic_tree_add(tree, filters[i], &counts[i]);
    for (size_t i = 0; i < COUNT(filters); i++)
        assert_true(topic_tree_find(tree, filters[i], count_match, NULL));
    for (size_t i = 0; i < COUNT(filters); i++)
        assert_int_equal(counts[i], 1);
    assert_false(topic_tree_find(tree, "a/b", count_match, NULL));
    assert_false(topic_tree_find(tree, "a/b/c", count_match, NULL));
    assert_false(topic_tree_find(tree, "a/+/#", count_match, NULL));
    topic_tree_remove(tree, "a/+", &counts[1]);
    assert_false(topic_tree_find(tree, "a/+", count_match, NULL));
    topic_tree_free(tree);
}

// Many children under one level, many values of one filter; half of them go again.
static void a_wide_tree(void **state)
{
    (void)state;
    enum { WIDE = 20000 };
    struct topic_tree *tree = topic_tree_new();
    unsigned *counts = mem_zalloc(2 * WIDE * sizeof *counts);
    char filter[40];
    for (unsigned i = 0; i < WIDE; i++) {
        snprintf(filter, sizeof filter, "sensors/%u/%s", i, i % 2 ? "#" : "value");
        topic_tree_add(tree, filter, &counts[i]);
        topic_tree_add(tree, "all/of/them", &counts[WIDE + i]);
    }
    for (unsigned i = 0; i < WIDE; i += 4) {
        snprintf(filter, sizeof filter, "sensors/%u/%s", i, i % 2 ? "#" : "value");
        assert_true(topic_tree_remove(tree, filter, &counts[i]));
        if (i % 64 == 0)
            assert_true(topic_tree_remove(tree, "all/of/them", &counts[WIDE + i]));
    }
    for (unsigned i = 0; i < WIDE; i++) {
        snprintf(filter, sizeof filter, "sensors/%u/value", i);
        topic_tree_match(tree, filter, strlen(filter), count_match, NULL);
    }
    topic_tree_match(tree, "all/of/them", 11, count_match, NULL);
    for (unsigned i = 0; i < WIDE; i++) {
        assert_int_equal(counts[i], i % 4 != 0);
        assert_int_equal(counts[WIDE + i], i % 64 != 0);
    }
    topic_tree_free(tree);
    free(counts);
}

// AddressSanitizer's, where the program is built with it.
extern size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

// What a removed filter leaves behind would be memory that strangers take for good.
static void nothing_stays_of_a_removed_filter(void **state)
{
    (void)state;
    if (!__sanitizer_get_current_allocated_bytes)
        skip();
    struct topic_tree *tree = topic_tree_new();
    int value;
    topic_tree_add(tree, "stays/+/here", &value);
    size_t before = __sanitizer_get_current_allocated_bytes();
    char filter[60];
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 1000; i++) {
            snprintf(filter, sizeof filter, "%u/+/%u/%s", i % 100, i, i % 2 ? "#" : "x");
            if (round == 0)
                topic_tree_add(tree, filter, &value);
            else
                assert_true(topic_tree_remove(tree, filter, &value));
        }
    }
    topic_tree_add(tree, "stays/+/#", &value);
    assert_true(topic_tree_remove(tree, "stays/+/#", &value));
    assert_true(__sanitizer_get_current_allocated_bytes() <= before + 1024); // the root's buckets
    assert_true(topic_tree_matches(tree, "stays/x/here", 12));
    topic_tree_free(tree);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(filters),
        cmocka_unit_test(lengths_have_a_bound),
        cmocka_unit_test(shared_filters),
        cmocka_unit_test(matches),
        cmocka_unit_test(a_name_ends_with_its_length),
        cmocka_unit_test(levels),
        cmocka_unit_test(the_alphabet_is_all_there),
        cmocka_unit_test(every_filter_against_every_topic),
        cmocka_unit_test(covers_and_overlaps_of_every_pair),
        cmocka_unit_test(the_tree_agrees),
        cmocka_unit_test(a_filter_may_have_several_values),
        cmocka_unit_test(the_first_match_is_enough),
        cmocka_unit_test(a_filter_is_found_by_itself),
        cmocka_unit_test(a_wide_tree),
        cmocka_unit_test(nothing_stays_of_a_removed_filter),
    };
    return cmocka_run_group_tests(tests, make_alphabet, free_alphabet);
}
