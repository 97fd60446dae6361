// Retained messages: every filter against every topic, expiry, and many of them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "base/loop.h"
#include "broker/retained.h"
#include "core/topic.h"
#include "topic_alphabet.h"

static struct budget budget;

static int setup(void **state)
{
    budget = (struct budget){.limit = SIZE_MAX};
    *state = retained_new();
    return 0;
}

static int teardown(void **state)
{
    retained_free(*state);
    assert_int_equal(budget.used, 0);
    return 0;
}

static void set_expiring(struct retained *retained, const char *topic, const char *payload,
                         int64_t expires_ms)
{
    const struct publication_parts parts = {.topic = bytes_of(topic),
                                            .payload = bytes_of(payload),
                                            .expires_ms = expires_ms};
    struct publication *publication = publication_new(&budget, &parts);
    retained_set(retained, publication);
    publication_release(publication);
}

static void set(struct retained *retained, const char *topic, const char *payload)
{
    set_expiring(retained, topic, payload, INT64_MAX);
}

// What a match gives, as "topic=payload " each.
struct found {
    char text[4096], expired[256];
    size_t count;
    const char *filter;
};

static void add_text(char *text, size_t size, const struct publication *publication)
{
    size_t used = strlen(text);
    snprintf(text + used, size - used, "%.*s=%.*s ", (int)publication->topic.length,
             (const char *)publication->topic.data, (int)publication->payload.length,
             (const char *)publication->payload.data);
}

static void find(void *arg, struct publication *publication)
{
    struct found *found = arg;
    found->count++;
    if (found->count < 50)
        add_text(found->text, sizeof found->text, publication);
    assert_true(topic_filter_matches(found->filter, (const char *)publication->topic.data,
                                     publication->topic.length));
}

static void find_expired(void *arg, struct publication *publication)
{
    struct found *found = arg;
    add_text(found->expired, sizeof found->expired, publication);
}

static struct found match(struct retained *retained, const char *filter)
{
    struct found found = {.filter = filter};
    retained_match(retained, filter, find, find_expired, &found);
    return found;
}

static void one_message_per_topic(void **state)
{
    struct retained *retained = *state;
    set(retained, "a", "1");
    set(retained, "a", "2");
    set(retained, "a/b", "3");
    assert_int_equal(retained_count(retained), 2);
    assert_string_equal(match(retained, "a").text, "a=2 ");
    assert_string_equal(match(retained, "#").text, "a=2 a/b=3 ");
    assert_false(retained_clear(retained, bytes_of("b")));
    assert_false(retained_clear(retained, bytes_of("a/")));
    assert_true(retained_clear(retained, bytes_of("a")));
    assert_false(retained_clear(retained, bytes_of("a")));
    assert_int_equal(retained_count(retained), 1);
    assert_string_equal(match(retained, "#").text, "a/b=3 ");
    assert_true(retained_clear(retained, bytes_of("a/b")));
    assert_string_equal(match(retained, "#").text, "");
    assert_int_equal(budget.used, 0);
    retained_free(NULL);
}

static void filters(void **state)
{
    static const struct {
        const char *filter, *found;
    } cases[] = {
        {"#", "/=. //=. /x=. a=. a/=. a/b=. a/b/c=. a/bb/c=. a-=. a-/b=. b/b=. "},
        {"+", "a=. a-=. "},
        {"+/+", "/=. /x=. a/=. a/b=. a-/b=. b/b=. "},
        {"+/b", "a/b=. a-/b=. b/b=. "},
        {"+/b/#", "a/b=. a/b/c=. a-/b=. b/b=. "},
        {"+/+/c", "a/b/c=. a/bb/c=. "},
        {"a/#", "a=. a/=. a/b=. a/b/c=. a/bb/c=. "},
        {"a/+", "a/=. a/b=. "},
        {"a/", "a/=. "},
        {"/#", "/=. //=. /x=. "},
        {"/+", "/=. /x=. "},
        {"//+", "//=. "},
        {"+//", "//=. "},
        {"$SYS/#", "$SYS/a=. $SYS/b/c=. "},
        {"$SYS/+", "$SYS/a=. "},
        {"+/a", ""},
        {"b", ""},
        {"zz/#", ""},
    };
    static const char *const topics[] = {"a", "a-", "a-/b", "a/b", "a/b/c",  "a/bb/c",  "a/",
                                         "/", "//", "/x",   "b/b", "$SYS/a", "$SYS/b/c"};
    struct retained *retained = *state;
    for (size_t i = 0; i < sizeof topics / sizeof *topics; i++)
        set(retained, topics[i], ".");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct found found = match(retained, cases[i].filter);
        if (strcmp(found.text, cases[i].found) != 0)
            fail_msg("%s: '%s' != '%s'", cases[i].filter, found.text, cases[i].found);
    }
}

static void compare_all(struct retained *retained, const struct topic_alphabet *alphabet,
                        const struct topic_set *present)
{
    for (size_t f = 0; f < alphabet->filter_count; f++) {
        size_t wanted = 0;
        for (size_t i = 0; i < TOPICS_MAX / 64; i++)
            wanted +=
                (size_t)__builtin_popcountll(alphabet->matched[f].words[i] & present->words[i]);
        struct found found = match(retained, alphabet->filters[f]);
        if (found.count != wanted) // of different topics, which match
            fail_msg("%s: %zu, not %zu", alphabet->filters[f], found.count, wanted);
    }
}

// All there are, then fewer and fewer, in any order.
static void every_filter_against_every_topic(void **state)
{
    struct retained *retained = *state;
    struct topic_alphabet *alphabet = alphabet_new();
    struct topic_set present = {{0}};
    unsigned random = 1;
    for (size_t i = 0; i < alphabet->topic_count; i++) {
        set(retained, alphabet->topics[i], ".");
        present.words[i / 64] |= UINT64_C(1) << i % 64;
    }
    compare_all(retained, alphabet, &present);
    for (int round = 0; round < 6; round++) {
        for (size_t i = 0; i < alphabet->topic_count; i++) {
            if (rand_r(&random) % 2)
                continue;
            bool there = topic_set_has(&present, i);
            if (retained_clear(retained, bytes_of(alphabet->topics[i])) != there)
                fail_msg("%s", alphabet->topics[i]);
            present.words[i / 64] &= ~(UINT64_C(1) << i % 64);
        }
        compare_all(retained, alphabet, &present);
    }
    alphabet_free(alphabet);
}

static void what_has_expired_is_dropped_when_it_is_found(void **state)
{
    struct retained *retained = *state;
    int64_t past = loop_now_ms() - 1, future = past + 3600000;
    set_expiring(retained, "a/1", "x", past);
    set_expiring(retained, "a/2", "y", future);
    set_expiring(retained, "a/3", "x", past);
    set_expiring(retained, "b/1", "x", past);
    struct found found = match(retained, "a/+");
    assert_string_equal(found.text, "a/2=y ");
    assert_string_equal(found.expired, "a/1=x a/3=x ");
    assert_int_equal(retained_count(retained), 2);
    found = match(retained, "#");
    assert_string_equal(found.text, "a/2=y ");
    assert_string_equal(found.expired, "b/1=x ");
    assert_string_equal(match(retained, "#").expired, "");
}

// ---- many ----

enum { MANY = 20000 };

static const char *many_topic(unsigned number)
{
    static char topic[64];
    snprintf(topic, sizeof topic, "site/%u/device/%u/value", number % 100, number);
    return topic;
}

static void many_in_any_order_come_and_go(void **state)
{
    struct retained *retained = *state;
    for (unsigned i = 0; i < MANY; i++)
        set(retained, many_topic(i * 7919 % MANY), "v");
    assert_int_equal(retained_count(retained), MANY);
    assert_int_equal(match(retained, "site/7/#").count, MANY / 100);
    assert_int_equal(match(retained, "site/+/device/1234/value").count, 1);
    for (unsigned i = 0; i < MANY; i++)
        if (i % 100 != 7)
            assert_true(retained_clear(retained, bytes_of(many_topic(i * 7919 % MANY))));
    assert_int_equal(retained_count(retained), MANY / 100);
    assert_int_equal(match(retained, "#").count, MANY / 100);
}

// A topic of nothing but levels is as good as any other: no memory for each level, no recursion.
static void topics_of_very_many_levels(void **state)
{
    struct retained *retained = *state;
    char *topic = mem_alloc(65536), *filter = mem_alloc(65536);
    memset(topic, '/', 65535);
    topic[65535] = '\0';
    for (int i = 0; i < 20; i++) {
        topic[65534 - i] = 'x';
        set(retained, topic, "v");
    }
    assert_in_range(budget.used, 20 * 65535, 20 * 66000);
    assert_int_equal(match(retained, "#").count, 20);
    for (int i = 0; i < 65534; i += 2)
        memcpy(filter + i, "+/", 2);
    strcpy(filter + 65534, "#");
    assert_int_equal(match(retained, filter).count, 20);
    strcpy(filter + 65534, "+");
    assert_int_equal(match(retained, filter).count, 0);
    free(topic);
    free(filter);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(one_message_per_topic),
        TEST(filters),
        TEST(every_filter_against_every_topic),
        TEST(what_has_expired_is_dropped_when_it_is_found),
        TEST(many_in_any_order_come_and_go),
        TEST(topics_of_very_many_levels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
