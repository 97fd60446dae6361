// Which mappings a message goes through, what becomes of each part, and the verdict in the end.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/topic.h"
#include "pipeline/pipeline.h"
#include "sample_mapping.h"
#include "store/batch.h"
#include "store/spool.h"
#include "store/writer.h"

enum { MAPPINGS = 5 };

// Stands in for the writer: one batch, settled when the test says so.
static struct {
    struct batch *batch;
    int begun, ended;
} writer;

struct batch *writer_begin(struct writer *unused)
{
    (void)unused;
    writer.begun++;
    return writer.batch;
}

void writer_end(struct writer *unused)
{
    (void)unused;
    writer.ended++;
}

// Stands in for the spool: what it takes is let go at once.
struct spool {
    bool takes;
    unsigned taken;
    char only[60]; // of the last one; "any" where any mapping may take it
};

bool spool_takes(const struct spool *spool)
{
    return spool->takes;
}

void spool_take(struct spool *spool, struct message *message, const char *only)
{
    spool->taken++;
    snprintf(spool->only, sizeof spool->only, "%s", only ? only : "any");
    message_release(message, VERDICT_SPOOLED, NULL);
}

static struct {
    char verdict[60]; // of the last message that was settled: "stored", "skipped: no mapping"
} heard;

static void settled(struct message_source *source, struct message *message)
{
    (void)source;
    snprintf(heard.verdict, sizeof heard.verdict, "%s%s%s", verdict_name(message->verdict),
             message->reason ? ": " : "", message->reason ? message->reason : "");
}

struct stage {
    struct mapping mappings[MAPPINGS];
    struct pipeline *pipeline;
    struct budget budget;
    struct message_source site;
};

static const struct sample_column columns[] = {
    {.name = "time", .type = "timestamptz", .from = "received_at"},
    {.name = "value", .type = "int4", .from = "value"},
    {0},
};

// 0: all sensors; 1: the same filter shared, from "site" alone; 2: one level, retained copies too;
// 3: elsewhere; 4: of "other" alone.
static void set_up(struct stage *stage)
{
    static const char *const filters[MAPPINGS] = {"sensors/#", "$share/group/sensors/#",
                                                  "sensors/+", "elsewhere", "of/other"};
    *stage = (struct stage){
        .budget = {.limit = 1 << 20},
        .site = {.name = "site", .settled = settled},
    };
    for (unsigned i = 0; i < MAPPINGS; i++) {
        sample_mapping(&stage->mappings[i], filters[i], DECODER_TEXT, columns);
        stage->mappings[i].target.index = i;
        stage->mappings[i].subscription_id = i + 1;
    }
    for (int i = 1; i < MAPPINGS; i += 3) {
        stage->mappings[i].sources = mem_alloc(sizeof(char *));
        stage->mappings[i].sources[0] = mem_strdup(i == 1 ? "site" : "other");
        stage->mappings[i].source_count = 1;
    }
    stage->mappings[2].retained = true;
    writer.batch = batch_new(&stage->budget);
    writer.begun = writer.ended = 0;
    stage->pipeline = pipeline_new(stage->mappings, MAPPINGS, NULL);
    assert_non_null(stage->pipeline);
    heard.verdict[0] = '\0';
}

static void tear_down(struct stage *stage)
{
    pipeline_free(stage->pipeline);
    batch_free(writer.batch);
    for (int i = 0; i < MAPPINGS; i++) {
        assert_int_equal(books_pending(&stage->mappings[i].target.books), 0);
        mapping_fini(&stage->mappings[i]);
    }
    assert_int_equal(books_pending(&stage->site.books), 0);
    assert_int_equal(stage->budget.used, 0);
}

struct sent {
    const char *topic, *payload;
    bool retain;
    uint32_t subscriptions[2]; // 0: none
    uint64_t full_length;      // 0: that of the payload
    const char *flaw;
};

static void take(struct stage *stage, const struct sent *sent)
{
    uint32_t count = sent->subscriptions[1] ? 2 : sent->subscriptions[0] ? 1 : 0;
    size_t length = strlen(sent->payload);
    struct message_parts parts = {
        .topic = sent->topic,
        .topic_length = (uint32_t)strlen(sent->topic),
        .payload = sent->payload,
        .payload_length = length,
        .full_length = sent->full_length ? sent->full_length : length,
        .flaw = sent->flaw,
        .flaw_detail = "this one",
        .subscriptions = sent->subscriptions,
        .subscription_count = count,
        .qos = 1,
        .retain = sent->retain,
    };
    pipeline_take(stage->pipeline, message_new(&stage->site, &stage->budget, &parts));
}

static const struct {
    struct sent sent;
    const char *parts;   // of mappings 0 to 4: r row, x reject, s skipped, - none
    const char *verdict; // once all is settled
} stories[] = {
    {{.topic = "sensors/1", .payload = "5"}, "rrr--", "stored"},
    {{.topic = "sensors/1/x", .payload = "5"}, "rr---", "stored"},
    {{.topic = "elsewhere", .payload = "5"}, "---r-", "stored"},
    {{.topic = "nowhere", .payload = "5"}, "-----", "skipped: no mapping"},
    {{.topic = "of/other", .payload = "5"}, "-----", "skipped: no mapping"},
    {{.topic = "$SYS/x", .payload = "5"}, "-----", "skipped: no mapping"},
    {{.topic = "elsewhere", .payload = "five"}, "---x-", "rejected: not a number"},
    {{.topic = "sensors/1", .payload = "five"}, "xxx--", "rejected: not a number"},
    {{.topic = "elsewhere", .payload = ""}, "---x-", "rejected: empty payload"},
    // retained copies
    {{.topic = "elsewhere", .payload = "5", .retain = true}, "---s-", "skipped: retained copy"},
    {{.topic = "sensors/1", .payload = "5", .retain = true}, "ssr--", "stored"},
    {{.topic = "sensors/1", .payload = "five", .retain = true}, "ssx--", "rejected: not a number"},
    // a copy for one of several subscriptions
    {{.topic = "sensors/1", .payload = "5", .subscriptions = {3}}, "--r--", "stored"},
    {{.topic = "sensors/1", .payload = "5", .subscriptions = {3, 1}}, "r-r--", "stored"},
    {{.topic = "sensors/1", .payload = "5", .subscriptions = {4}}, "-----", "skipped: no mapping"},
    // what was read through
    {{.topic = "elsewhere", .payload = "5", .full_length = 200000000},
     "---x-",
     "rejected: payload too large"},
};

static char part_of(const struct stage *stage, size_t i)
{
    const struct mapping *mapping = &stage->mappings[i];
    for (size_t r = 0; r < writer.batch->reject_count; r++) {
        if (writer.batch->rejects[r].target == &mapping->target)
            return 'x';
    }
    if (i < writer.batch->group_count && writer.batch->groups[i].count > 0)
        return 'r';
    return mapping->target.books.received > 0 ? 's' : '-';
}

static void each_part_finds_its_end(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof stories / sizeof *stories; i++) {
        struct stage stage;
        char parts[MAPPINGS + 1] = "";
        bool waits = strpbrk(stories[i].parts, "rx") != NULL;

        set_up(&stage);
        take(&stage, &stories[i].sent);
        for (size_t m = 0; m < MAPPINGS; m++)
            parts[m] = part_of(&stage, m);
        assert_string_equal(parts, stories[i].parts);
        // Nothing is said of the message before its batch is settled, and no batch begun for
        // nothing.
        assert_int_equal(heard.verdict[0] == '\0', waits);
        assert_int_equal(writer.begun, waits);
        assert_int_equal(writer.ended, waits);
        batch_settle(writer.batch);
        assert_string_equal(heard.verdict, stories[i].verdict);
        tear_down(&stage);
    }
}

static void a_stopped_mapping_rejects(void **state)
{
    (void)state;
    struct stage stage;
    char why[] = "column value is missing";

    set_up(&stage);
    stage.mappings[3].target.stopped = why;
    take(&stage, &(struct sent){.topic = "elsewhere", .payload = "5"});
    assert_int_equal(writer.batch->reject_count, 1);
    assert_string_equal(writer.batch->rejects[0].reason, "mapping stopped");
    assert_string_equal(writer.batch->rejects[0].detail, why);
    batch_settle(writer.batch);
    assert_string_equal(heard.verdict, "rejected: mapping stopped");
    stage.mappings[3].target.stopped = NULL;
    tear_down(&stage);
}

// No part of any mapping's, whichever match the topic.
static void a_flawed_message_is_rejected_as_a_whole(void **state)
{
    (void)state;
    static const char *const topics[] = {"sensors/1", "nowhere", "sensors/#", ""};
    for (size_t i = 0; i < sizeof topics / sizeof *topics; i++)
        for (int retain = 0; retain < 2; retain++) {
            struct stage stage;
            set_up(&stage);
            take(&stage, &(struct sent){.topic = topics[i],
                                        .payload = "5",
                                        .retain = retain,
                                        .flaw = "malformed"});
            assert_int_equal(writer.ended, 1);
            assert_int_equal(writer.batch->row_count, 0);
            assert_int_equal(writer.batch->reject_count, 1);
            assert_null(writer.batch->rejects[0].target);
            assert_string_equal(writer.batch->rejects[0].detail, "this one");
            for (size_t m = 0; m < MAPPINGS; m++)
                assert_int_equal(stage.mappings[m].target.books.received, 0);
            assert_string_equal(heard.verdict, "");
            batch_settle(writer.batch);
            assert_string_equal(heard.verdict, "rejected: malformed");
            tear_down(&stage);
        }
}

static void a_bad_part_leaves_no_row(void **state)
{
    (void)state;
    struct stage stage;
    set_up(&stage);
    take(&stage, &(struct sent){.topic = "elsewhere", .payload = "1"});
    take(&stage, &(struct sent){.topic = "elsewhere", .payload = "x"});
    take(&stage, &(struct sent){.topic = "elsewhere", .payload = "3"});
    assert_int_equal(writer.batch->row_count, 2);
    assert_int_equal(writer.batch->groups[3].values[1].integer, 1);
    assert_int_equal(writer.batch->groups[3].values[3].integer, 3);
    batch_settle(writer.batch);
    assert_int_equal(stage.site.books.verdicts[VERDICT_STORED], 2);
    assert_int_equal(stage.site.books.verdicts[VERDICT_REJECTED], 1);
    assert_int_equal(stage.mappings[3].target.books.verdicts[VERDICT_STORED], 2);
    assert_int_equal(stage.mappings[3].target.books.verdicts[VERDICT_REJECTED], 1);
    tear_down(&stage);
}

// Only what some mapping wants; and whatever is not wanted needs no disk.
static void the_spool_takes_what_is_wanted(void **state)
{
    (void)state;
    static const struct {
        struct sent sent;
        const char *only, *verdict;
    } kept[] = {
        {{.topic = "sensors/1", .payload = "5"}, "any", "spooled"},
        {{.topic = "elsewhere", .payload = "five"}, "any", "spooled"},
        {{.topic = "nowhere", .payload = "5"}, "", "skipped: no mapping"},
        {{.topic = "of/other", .payload = "5"}, "", "skipped: no mapping"},
        {{.topic = "elsewhere", .payload = "5", .retain = true}, "", "skipped: retained copy"},
        {{.topic = "sensors/1", .payload = "5", .retain = true}, "any", "spooled"},
        {{.topic = "nowhere", .payload = "", .flaw = "malformed"}, "any", "spooled"},
        {{.topic = "elsewhere", .payload = "5", .full_length = 1 << 30}, "any", "spooled"},
        {{.topic = "sensors/1", .payload = "5", .subscriptions = {3}}, "sensors/+\n", "spooled"},
        {{.topic = "sensors/1", .payload = "5", .subscriptions = {3, 1}},
         "sensors/#\nsensors/+\n",
         "spooled"},
        {{.topic = "sensors/1", .payload = "5", .subscriptions = {4}}, "", "skipped: no mapping"},
    };
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        struct spool spool = {.takes = true};
        struct stage stage;
        set_up(&stage);
        for (int m = 0; m < MAPPINGS; m++) {
            struct mapping *mapping = &stage.mappings[m];
            free(mapping->name);
            mapping->target.mapping = mapping->name = mem_strdup(mapping->filter);
        }
        pipeline_set_spool(stage.pipeline, &spool);
        take(&stage, &kept[i].sent);
        assert_string_equal(heard.verdict, kept[i].verdict);
        assert_string_equal(spool.only, kept[i].only);
        assert_int_equal(spool.taken, *kept[i].only != '\0');
        assert_int_equal(writer.begun, 0);
        spool.takes = false;
        take(&stage, &(struct sent){.topic = "elsewhere", .payload = "5"});
        assert_int_equal(writer.begun, 1);
        batch_settle(writer.batch);
        assert_string_equal(heard.verdict, "stored");
        tear_down(&stage);
    }
}

// It was acknowledged, so it does not vanish when no mapping wants it any more.
static void what_the_spool_gives_back_is_stored_or_rejected(void **state)
{
    (void)state;
    static const struct {
        const char *topic;
        bool retain;
        const char *only, *verdict;
    } given[] = {
        {"elsewhere", false, NULL, "stored"},
        {"nowhere", false, NULL, "rejected: no mapping takes it any more"},
        {"elsewhere", true, NULL, "rejected: no mapping takes it any more"},
        {"elsewhere", false, "gone\n", "rejected: no mapping takes it any more"},
        {"sensors/1", true, NULL, "stored"},
    };
    for (size_t i = 0; i < sizeof given / sizeof *given; i++) {
        struct spool spool = {.takes = true};
        struct stage stage;
        set_up(&stage);
        pipeline_set_spool(stage.pipeline, &spool);
        const struct message_parts parts = {
            .topic = given[i].topic,
            .topic_length = (uint32_t)strlen(given[i].topic),
            .payload = "5",
            .payload_length = 1,
            .full_length = 1,
            .retain = given[i].retain,
            .only = given[i].only,
            .entry = 7,
            .entry_kind = MESSAGE_OF_SPOOL,
        };
        pipeline_take(stage.pipeline, message_new(&stage.site, &stage.budget, &parts));
        assert_int_equal(spool.taken, 0);
        assert_int_equal(writer.batch->spool_to, 7);
        batch_settle(writer.batch);
        assert_string_equal(heard.verdict, given[i].verdict);
        tear_down(&stage);
    }
}

static void count_match(void *arg, const struct mapping *mapping, struct plan *plan)
{
    char *found = arg;
    assert_non_null(plan);
    found[mapping->subscription_id - 1] = '+';
}

// To explain a topic, wherever the message would come from.
static void matches_can_be_asked_for(void **state)
{
    (void)state;
    static const char *const asked[][2] = {{"sensors/1", "+++--"},
                                           {"of/other", "----+"},
                                           {"nowhere", "-----"}};
    struct stage stage;

    set_up(&stage);
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        char found[MAPPINGS + 1] = "-----";
        struct message message = {.topic = asked[i][0],
                                  .topic_length = (uint32_t)strlen(asked[i][0])};
        pipeline_match(stage.pipeline, &message, count_match, found);
        assert_string_equal(found, asked[i][1]);
    }
    assert_int_equal(stage.mappings[0].target.books.received, 0);
    tear_down(&stage);
}

static void a_bad_plan_makes_no_pipeline(void **state)
{
    (void)state;
    static const struct sample_column bad[] = {
        {.name = "time", .type = "timestamptz", .from = "received_at"},
        {.name = "value", .type = "float8", .from = "value", .unit = "parrots"},
        {0},
    };
    struct mapping mappings[2];
    sample_mapping(&mappings[0], "a", DECODER_TEXT, columns);
    sample_mapping(&mappings[1], "b", DECODER_TEXT, bad);
    assert_null(pipeline_new(mappings, 2, NULL));
    mapping_fini(&mappings[0]);
    mapping_fini(&mappings[1]);
    pipeline_free(NULL);
}

static void it_is_said_what_is_wanted(void **state)
{
    (void)state;
    static const struct {
        const char *source, *topic;
        bool wanted;
    } asked[] = {
        {"site", "sensors/1", true},   {"broker", "sensors/1/2", true}, {"broker", "sensors", true},
        {"site", "elsewhere", true},   {"site", "of/other", false},     {"other", "of/other", true},
        {"site", "of/other/1", false}, {"site", "nowhere", false},      {"site", "$SYS/x", false},
    };
    struct stage stage;

    set_up(&stage);
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++)
        assert_int_equal(pipeline_wants(stage.pipeline, asked[i].source, asked[i].topic,
                                        strlen(asked[i].topic)),
                         asked[i].wanted);
    for (size_t i = 0; i < MAPPINGS; i++)
        pipeline_remove(stage.pipeline, &stage.mappings[i]);
    assert_false(pipeline_wants(stage.pipeline, "site", "sensors/1", 9));
    tear_down(&stage);
}

// What a removed mapping has decoded stays valid until it is forgotten, presets and all.
static void mappings_come_and_go(void **state)
{
    (void)state;
    static const struct sample_column with_preset[] = {
        {.name = "time", .type = "timestamptz", .from = "received_at"},
        {.name = "value", .type = "numeric", .constant = "12.50"},
        {0},
    };
    static const struct sent sent = {.topic = "guests/1", .payload = "1"};
    struct mapping guest;
    struct stage stage;

    set_up(&stage);
    sample_mapping(&guest, "$share/some/guests/+", DECODER_TEXT, with_preset);
    guest.target.index = MAPPINGS;
    assert_true(pipeline_add(stage.pipeline, &guest));
    take(&stage, &sent);
    pipeline_remove(stage.pipeline, &guest);
    pipeline_remove(stage.pipeline, &guest);
    const struct batch_group *group = &writer.batch->groups[MAPPINGS];
    assert_int_equal(group->count, 1);
    assert_memory_equal(group->values[1].bytes, "12.50", 5);
    batch_settle(writer.batch);
    assert_string_equal(heard.verdict, "stored");
    take(&stage, &sent);
    assert_string_equal(heard.verdict, "skipped: no mapping");
    pipeline_forget(stage.pipeline, &guest);
    // Again, and forgotten without having been removed.
    assert_true(pipeline_add(stage.pipeline, &guest));
    assert_true(pipeline_wants(stage.pipeline, "site", "guests/1", 8));
    pipeline_forget(stage.pipeline, &guest);
    assert_false(pipeline_wants(stage.pipeline, "site", "guests/1", 8));
    assert_int_equal(guest.target.books.received, 1);
    mapping_fini(&guest);
    tear_down(&stage);
}

// Topics that were asked for before are answered as new ones are, whatever was added since; many
// share a place, some are too long to be remembered, some match too much.
static void what_is_remembered_is_right(void **state)
{
    (void)state;
    enum { TOPICS = 3000, FILTERS = 6 };
    static const char *const filters[FILTERS] = {"#", "a/+", "a/#", "+/7", "a/7", "+/+"};
    struct mapping mappings[FILTERS];
    struct pipeline *pipeline = pipeline_new(NULL, 0, NULL);
    char topic[128];

    for (size_t f = 0; f <= FILTERS; f++) {
        for (int turn = 0; turn < 2 * TOPICS; turn++) {
            int i = turn % TOPICS;
            bool is_long = i % 10 == 9;
            int length = snprintf(topic, sizeof topic, "%s/%.*d", i % 2 ? "a" : "b",
                                  is_long ? 100 : 1, i % 15 ? i : 7);
            bool wanted = false;
            for (size_t k = 0; k < f; k++)
                wanted =
                    wanted || topic_filter_matches(filters[FILTERS - 1 - k], topic, (size_t)length);
            assert_int_equal(pipeline_wants(pipeline, "site", topic, (size_t)length), wanted);
        }
        if (f == FILTERS)
            break;
        sample_mapping(&mappings[f], filters[FILTERS - 1 - f], DECODER_TEXT, columns);
        assert_true(pipeline_add(pipeline, &mappings[f]));
    }
    for (size_t f = 0; f < FILTERS; f++) {
        pipeline_forget(pipeline, &mappings[FILTERS - 1 - f]);
        mapping_fini(&mappings[FILTERS - 1 - f]);
        assert_int_equal(pipeline_wants(pipeline, "site", "a/8", 3), f < FILTERS - 1);
    }
    pipeline_free(pipeline);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_part_finds_its_end),
        cmocka_unit_test(a_stopped_mapping_rejects),
        cmocka_unit_test(a_flawed_message_is_rejected_as_a_whole),
        cmocka_unit_test(a_bad_part_leaves_no_row),
        cmocka_unit_test(the_spool_takes_what_is_wanted),
        cmocka_unit_test(what_the_spool_gives_back_is_stored_or_rejected),
        cmocka_unit_test(matches_can_be_asked_for),
        cmocka_unit_test(a_bad_plan_makes_no_pipeline),
        cmocka_unit_test(it_is_said_what_is_wanted),
        cmocka_unit_test(mappings_come_and_go),
        cmocka_unit_test(what_is_remembered_is_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
