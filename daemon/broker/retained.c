// Retained messages in the order of their topics: "/" comes before all other bytes, so a level is
// followed by all that is below it, and a match skips what it cannot want. It takes a pointer per
// message, whatever levels topics have, and recurses nowhere.
#include "broker/retained.h"

#include <stdlib.h>
#include <string.h>

#include "base/loop.h"
#include "base/mem.h"

enum { RUN_MAX = 128, NEAR = 8 };

// Neighbours in the order; never empty.
struct run {
    size_t count;
    struct publication *items[RUN_MAX];
};

struct retained {
    struct run **runs;
    size_t run_count, run_capacity;
    size_t count;
};

// Of an item, or the end: { run_count, 0 }.
struct place {
    size_t run, index;
};

// Where to go: before the first topic that is not less than prefix and rest together, or, with
// whole, behind all that is at or below that level.
struct bound {
    struct bytes prefix, rest;
    bool whole;
};

// ---- order ----

static unsigned rank(uint8_t byte)
{
    return byte == '/' ? 0 : byte + 1u;
}

static int order(struct bytes a, struct bytes b)
{
    size_t shorter = a.length < b.length ? a.length : b.length;
    for (size_t i = 0; i < shorter; i++)
        if (a.data[i] != b.data[i])
            return rank(a.data[i]) < rank(b.data[i]) ? -1 : 1;
    return a.length < b.length ? -1 : a.length > b.length;
}

static struct bytes from(struct bytes text, size_t start)
{
    return (struct bytes){text.data + start, text.length - start};
}

static bool is_before(struct bytes topic, const struct bound *bound)
{
    size_t shared = bound->prefix.length < topic.length ? bound->prefix.length : topic.length;
    int comes = order((struct bytes){topic.data, shared}, bound->prefix);
    if (comes == 0)
        comes = order(from(topic, shared), bound->rest);
    if (comes <= 0 || !bound->whole)
        return comes < 0 || (comes == 0 && bound->whole);
    size_t length = bound->prefix.length + bound->rest.length;
    return topic.length > length && topic.data[length] == '/' &&
           memcmp(topic.data, bound->prefix.data, bound->prefix.length) == 0 &&
           memcmp(topic.data + bound->prefix.length, bound->rest.data, bound->rest.length) == 0;
}

// ---- the set ----

struct retained *retained_new(void)
{
    return mem_zalloc(sizeof(struct retained));
}

void retained_free(struct retained *retained)
{
    if (!retained)
        return;
    for (size_t r = 0; r < retained->run_count; r++) {
        for (size_t i = 0; i < retained->runs[r]->count; i++)
            publication_release(retained->runs[r]->items[i]);
        free(retained->runs[r]);
    }
    free(retained->runs);
    free(retained);
}

size_t retained_count(const struct retained *retained)
{
    return retained->count;
}

static struct publication *item_at(const struct retained *retained, struct place place)
{
    return place.run < retained->run_count ? retained->runs[place.run]->items[place.index] : NULL;
}

static struct place following(const struct retained *retained, struct place place)
{
    if (++place.index < retained->runs[place.run]->count)
        return place;
    return (struct place){place.run + 1, 0};
}

static struct place find(const struct retained *retained, const struct bound *bound)
{
    size_t low = 0, high = retained->run_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct run *run = retained->runs[middle];
        if (is_before(run->items[run->count - 1]->topic, bound))
            low = middle + 1;
        else
            high = middle;
    }
    struct place place = {low, 0};
    high = low < retained->run_count ? retained->runs[low]->count : 0;
    for (low = 0; low < high;) {
        size_t middle = (low + high) / 2;
        if (is_before(retained->runs[place.run]->items[middle]->topic, bound))
            low = middle + 1;
        else
            high = middle;
    }
    place.index = low;
    return place;
}

static struct place find_topic(const struct retained *retained, struct bytes topic, bool *found)
{
    struct place place = find(retained, &(struct bound){.prefix = topic});
    const struct publication *item = item_at(retained, place);
    *found = item && bytes_equal(item->topic, topic);
    return place;
}

static void insert_run(struct retained *retained, size_t at)
{
    retained->runs = mem_grow(retained->runs, retained->run_count, &retained->run_capacity,
                              sizeof *retained->runs);
    memmove(retained->runs + at + 1, retained->runs + at,
            (retained->run_count - at) * sizeof *retained->runs);
    retained->runs[at] = mem_alloc(sizeof **retained->runs);
    retained->runs[at]->count = 0;
    retained->run_count++;
}

static void drop_run(struct retained *retained, size_t at)
{
    free(retained->runs[at]);
    retained->run_count--;
    memmove(retained->runs + at, retained->runs + at + 1,
            (retained->run_count - at) * sizeof *retained->runs);
}

// Room in the run of the place. What comes in order fills the runs.
static struct place make_room(struct retained *retained, struct place place)
{
    if (place.run == retained->run_count && place.run > 0) {
        place.run--;
        place.index = retained->runs[place.run]->count;
    }
    if (retained->run_count == 0 || place.index == RUN_MAX) {
        place = (struct place){retained->run_count ? place.run + 1 : 0, 0};
        insert_run(retained, place.run);
        return place;
    }
    struct run *run = retained->runs[place.run];
    if (run->count < RUN_MAX)
        return place;
    insert_run(retained, place.run + 1);
    struct run *upper = retained->runs[place.run + 1];
    run->count = RUN_MAX / 2;
    upper->count = RUN_MAX - run->count;
    memcpy(upper->items, run->items + run->count, upper->count * sizeof *upper->items);
    if (place.index <= run->count)
        return place;
    return (struct place){place.run + 1, place.index - run->count};
}

void retained_set(struct retained *retained, struct publication *publication)
{
    bool found;
    struct place place = find_topic(retained, publication->topic, &found);
    publication_hold(publication);
    if (found) {
        struct publication **item = &retained->runs[place.run]->items[place.index];
        publication_release(*item);
        *item = publication;
        return;
    }
    place = make_room(retained, place);
    struct run *run = retained->runs[place.run];
    memmove(run->items + place.index + 1, run->items + place.index,
            (run->count - place.index) * sizeof *run->items);
    run->items[place.index] = publication;
    run->count++;
    retained->count++;
}

// The run after this one becomes part of it where both are small.
static void join_runs(struct retained *retained, size_t at)
{
    if (at + 1 >= retained->run_count)
        return;
    struct run *run = retained->runs[at], *next = retained->runs[at + 1];
    if (run->count + next->count > RUN_MAX / 2)
        return;
    memcpy(run->items + run->count, next->items, next->count * sizeof *next->items);
    run->count += next->count;
    drop_run(retained, at + 1);
}

static void remove_at(struct retained *retained, struct place place)
{
    struct run *run = retained->runs[place.run];
    run->count--;
    memmove(run->items + place.index, run->items + place.index + 1,
            (run->count - place.index) * sizeof *run->items);
    retained->count--;
    if (run->count == 0) {
        drop_run(retained, place.run);
        return;
    }
    join_runs(retained, place.run);
    if (place.run > 0)
        join_runs(retained, place.run - 1);
}

bool retained_clear(struct retained *retained, struct bytes topic)
{
    bool found;
    struct place place = find_topic(retained, topic, &found);
    if (!found)
        return false;
    struct publication *publication = item_at(retained, place);
    remove_at(retained, place);
    publication_release(publication);
    return true;
}

// ---- match ----

// Levels of a text; the current one is from start to end.
struct level {
    struct bytes text;
    size_t start, end;
};

static struct level level_from(struct bytes text, size_t start)
{
    const uint8_t *slash = NULL;
    if (start < text.length)
        slash = memchr(text.data + start, '/', text.length - start);
    return (struct level){text, start, slash ? (size_t)(slash - text.data) : text.length};
}

static bool is_last(const struct level *level)
{
    return level->end == level->text.length;
}

static bool is_wild(const struct level *level, uint8_t wildcard)
{
    return level->end - level->start == 1 && level->text.data[level->start] == wildcard;
}

static struct bytes bytes_of_level(const struct level *level)
{
    return (struct bytes){level->text.data + level->start, level->end - level->start};
}

static struct bytes up_to(struct bytes text, size_t end)
{
    return (struct bytes){text.data, end};
}

enum judgement { MATCHES, GO_ON, GO_TO, NO_MORE };

// What the filter says to a topic: of one that does not match, where the next could be.
static enum judgement judge(struct bytes filter, struct bytes topic, struct bound *next)
{
    static const struct bytes nothing = {(const uint8_t *)"", 0};
    struct level f = level_from(filter, 0), t = level_from(topic, 0);
    size_t plus_end = SIZE_MAX; // in the topic, of the last level that a + stands for
    for (;; f = level_from(filter, f.end + 1), t = level_from(topic, t.end + 1)) {
        bool hash = is_wild(&f, '#'), plus = is_wild(&f, '+');
        if ((hash || plus) && f.start == 0 && topic.data[0] == '$') { // [MQTT-4.7.2-1]
            static const uint8_t after_dollar = '$' + 1;
            *next = (struct bound){{&after_dollar, 1}, nothing, false};
            return GO_TO;
        }
        if (hash)
            return MATCHES;
        int comes = plus ? 0 : order(bytes_of_level(&t), bytes_of_level(&f));
        if (comes < 0) {
            *next = (struct bound){up_to(topic, t.start), bytes_of_level(&f), false};
            return GO_TO;
        }
        if (comes > 0) {
            *next = (struct bound){up_to(topic, plus_end), nothing, true};
            return plus_end == SIZE_MAX ? NO_MORE : GO_TO;
        }
        if (plus)
            plus_end = t.end;
        if (is_last(&f)) {
            *next = (struct bound){up_to(topic, t.end), nothing, true};
            return is_last(&t) ? MATCHES : GO_TO;
        }
        if (is_last(&t)) {
            struct level below = level_from(filter, f.end + 1);
            return is_wild(&below, '#') ? MATCHES : GO_ON;
        }
    }
}

// The first place from here on that is not before the bound; often it is near.
static struct place go_to(const struct retained *retained, struct place place,
                          const struct bound *bound)
{
    for (unsigned i = 0; i < NEAR; i++) {
        place = following(retained, place);
        const struct publication *item = item_at(retained, place);
        if (!item || !is_before(item->topic, bound))
            return place;
    }
    return find(retained, bound);
}

// The place of what came after it.
static struct place drop_expired(struct retained *retained, struct place place)
{
    struct publication *publication = item_at(retained, place);
    remove_at(retained, place);
    place = find(retained, &(struct bound){.prefix = publication->topic});
    publication_release(publication);
    return place;
}

// What all topics that match begin with.
static struct bytes literal_start(struct bytes filter)
{
    size_t length = strcspn((const char *)filter.data, "+#");
    return up_to(filter, length > 0 && length < filter.length ? length - 1 : length);
}

void retained_match(struct retained *retained, const char *filter_text, retained_fn *fn,
                    retained_fn *expired, void *arg)
{
    struct bytes filter = bytes_of(filter_text);
    int64_t now = loop_now_ms();
    struct place place = find(retained, &(struct bound){.prefix = literal_start(filter)});
    for (struct publication *item; (item = item_at(retained, place));) {
        struct bound next;
        switch (judge(filter, item->topic, &next)) {
        case MATCHES:
            if (item->expires_ms <= now) {
                expired(arg, item);
                place = drop_expired(retained, place);
                break;
            }
            fn(arg, item);
            // fallthrough
        case GO_ON:
            place = following(retained, place);
            break;
        case GO_TO:
            place = go_to(retained, place, &next);
            break;
        case NO_MORE:
            return;
        }
    }
}
