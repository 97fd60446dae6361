// The state: what is written is given back, and goes when nobody needs it any more.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"
#include "state_rig.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

// ---- what is written is given back ----

static void write_everything(struct state_rig *rig)
{
    struct state *state = rig->state;
    state_put_session(state, &(struct state_session){.id = 7,
                                                     .client_id = "meter",
                                                     .username = "anna",
                                                     .expiry = UINT32_MAX,
                                                     .ended_us = 5000000,
                                                     .next_packet_id = 65535,
                                                     .version = 4});
    rig_session(rig, INT64_MAX, "c");
    state_put_subscription(state, 7,
                           &(struct state_subscription){.filter = "$share/g/a/+/#",
                                                        .id = 268435455,
                                                        .qos = 2,
                                                        .retain_handling = 2,
                                                        .no_local = true,
                                                        .retain_as_published = true});
    state_put_subscription(state, 7, &(struct state_subscription){.filter = "b"});
    const struct publication_parts parts = {
        .topic = bytes_of("a/b"),
        .payload = bytes_of("42"),
        .properties = {(const uint8_t *)"\x01\x01\x03\0\x04json", 9},
        .publisher = INT64_MAX,
        .received_us = 123456789,
        .expires_ms = loop_now_ms() + 3600000,
        .qos = 2,
        .retain = true,
    };
    struct publication *full = publication_new(&rig->budget, &parts);
    struct publication *empty = rig_publication(rig, "gone", "");
    state_put_will(state, 7, full, 30);
    state_put_delivery(state, 7,
                       &(struct state_delivery){.packet_id = 65535,
                                                .qos = 2,
                                                .sent = true,
                                                .subscription_ids = {(const uint8_t *)"\x0b\x05",
                                                                     2}},
                       full);
    state_put_delivery(state, 7, &(struct state_delivery){.packet_id = 1, .qos = 1, .retain = true},
                       empty);
    state_put_incoming(state, 7, &(struct state_incoming){.packet_id = 9, .mapped = true}, full);
    state_put_incoming(state, 7, &(struct state_incoming){.packet_id = 10, .mapped = true}, NULL);
    state_put_retained(state, full);
    publication_release(full);
    publication_release(empty);
}

static const char everything[] = "session 9223372036854775807 c - 60 0 1 v5\n"
                                 "session 7 meter anna 4294967295 5000000 65535 v4\n"
                                 "7 subscription $share/g/a/+/# id 268435455 qos 2 rh 2 nl rap\n"
                                 "7 subscription b id 0 qos 0 rh 0\n"
                                 "7 will after 30 a/b=42 +3600s R\n"
                                 "7 delivery 65535 qos 2 sent 0b 05 a/b=42 +3600s R\n"
                                 "7 delivery 1 qos 1 retain gone=\n"
                                 "7 incoming 9 mapped a/b=42 +3600s R\n"
                                 "7 incoming 10 mapped nothing\n"
                                 "retained a/b=42 +3600s R\n";

static void what_is_written_is_given_back(void **arg)
{
    struct state_rig *rig = *arg;
    rig_open(rig);
    write_everything(rig);
    assert_string_equal(rig_reload(rig), everything);
    assert_string_equal(rig_reload(rig), everything); // reading changes nothing
    rig_close(rig);
    assert_int_equal(rig_count(rig, "publication"), 2); // however many refer to them
}

// ---- what the publications hold beyond that ----

struct held {
    struct publication *publication;
};

static void hold_retained(void *arg, struct publication *publication)
{
    struct held *held = arg;
    held->publication = publication_hold(publication);
}

static void ignore_session(void *arg, const struct state_session *session)
{
    (void)arg, (void)session;
}

static void publications_are_whole(void **arg)
{
    struct state_rig *rig = *arg;
    rig_open(rig);
    uint8_t payload[70000];
    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (uint8_t)(i * 7);
    const struct publication_parts parts = {
        .topic = bytes_of("\xc3\xa4/x"),
        .payload = {payload, sizeof payload},
        .properties = {(const uint8_t *)"\x26\0\x01k\0\x01v\x26\0\x01k\0\0", 13},
        .publisher = 77,
        .received_us = 1700000000123456,
        .expires_ms = INT64_MAX,
        .qos = 2,
    };
    struct publication *put = publication_new(&rig->budget, &parts);
    state_put_retained(rig->state, put);
    publication_release(put);
    rig_close(rig);
    rig_open(rig);
    struct held held = {NULL};
    const struct state_load_calls calls = {.session = ignore_session,
                                           .retained = hold_retained,
                                           .arg = &held};
    char *error = NULL;
    assert_true(state_load(rig->state, &calls, &error));
    struct publication *got = held.publication;
    assert_non_null(got);
    assert_int_equal(got->holders, 1);
    assert_true(bytes_equal(got->topic, parts.topic));
    assert_true(bytes_equal(got->payload, parts.payload));
    assert_true(bytes_equal(got->properties, parts.properties));
    assert_int_equal(got->publisher, 77);
    assert_int_equal(got->received_us, parts.received_us);
    assert_int_equal(got->qos, 2);
    assert_true(rig->budget.used >= got->charged);
    publication_release(got);
}

// ---- changes ----

// It has no message of its own to be missed, whether or not others have one.
static void a_released_delivery_stays_where_no_message_is_left(void **arg)
{
    struct state_rig *rig = *arg;
    rig_open(rig);
    struct publication *publication = rig_publication(rig, "a", "1");
    rig_session(rig, 1, "c");
    rig_deliver(rig, 1, 1, 2, publication);
    state_release_delivery(rig->state, 1, 1);
    publication_release(publication);
    const char *told = rig_reload(rig);
    assert_non_null(strstr(told, "1 delivery 1 qos 2 released nothing\n"));
}

// One step and what is there after it; each by a process of its own.
static void later_writes_change_earlier_ones(void **arg)
{
    struct state_rig *rig = *arg;
    rig_open(rig);
    struct publication *a = rig_publication(rig, "a", "1"), *b = rig_publication(rig, "a", "2");
    rig_session(rig, 1, "c");
    rig_session(rig, 1, "c");
    state_put_subscription(rig->state, 1, &(struct state_subscription){.filter = "x", .qos = 1});
    state_put_will(rig->state, 1, a, 5);
    state_put_retained(rig->state, a);
    rig_deliver(rig, 1, 1, 2, a);
    rig_settle(rig);
    state_put_session(rig->state, &(struct state_session){.id = 1,
                                                          .client_id = "c",
                                                          .expiry = 90,
                                                          .ended_us = 4,
                                                          .next_packet_id = 2,
                                                          .version = 5});
    state_put_subscription(rig->state, 1, &(struct state_subscription){.filter = "x", .qos = 2});
    state_put_will(rig->state, 1, b, 6);
    state_put_retained(rig->state, b);
    state_release_delivery(rig->state, 1, 1);
    publication_release(a);
    publication_release(b);
    assert_string_equal(rig_reload(rig), "session 1 c - 90 4 2 v5\n"
                                         "1 subscription x id 0 qos 2 rh 0\n"
                                         "1 will after 6 a=2\n"
                                         "1 delivery 1 qos 2 released nothing\n"
                                         "retained a=2\n");
    state_drop_subscription(rig->state, 1, "x");
    state_drop_subscription(rig->state, 1, "never");
    state_drop_will(rig->state, 1);
    state_drop_will(rig->state, 1);
    state_drop_delivery(rig->state, 1, 1, NULL);
    state_drop_delivery(rig->state, 1, 2, NULL);
    state_drop_retained(rig->state, bytes_of("a"));
    state_drop_retained(rig->state, bytes_of("never"));
    assert_string_equal(rig_reload(rig), "session 1 c - 90 4 2 v5\n");
    rig_close(rig);
    assert_int_equal(rig_count(rig, "publication"), 0);
}

static void of_several_changes_in_a_turn_the_last_counts(void **arg)
{
    struct state_rig *rig = *arg;
    rig_open(rig);
    struct publication *a = rig_publication(rig, "a", "1"), *b = rig_publication(rig, "b", "2");
    rig_session(rig, 1, "short");
    state_put_session(rig->state, &(struct state_session){.id = 1,
                                                          .client_id = "longer",
                                                          .username = "u",
                                                          .expiry = 1,
                                                          .version = 4});
    rig_session(rig, 2, "other");
    state_put_will(rig->state, 1, a, 1);
    state_drop_will(rig->state, 1);
    state_put_will(rig->state, 1, b, 2);
    state_put_will(rig->state, 2, a, 1);
    state_drop_will(rig->state, 2);
    state_put_retained(rig->state, a);
    state_drop_retained(rig->state, bytes_of("a"));
    state_put_retained(rig->state, a);
    rig_deliver(rig, 2, 5, 1, a);
    state_drop_delivery(rig->state, 2, 5, a);
    rig_deliver(rig, 2, 5, 1, b); // the identifier again
    publication_release(a);
    publication_release(b);
    assert_string_equal(rig_reload(rig), "session 1 longer u 1 0 0 v4\n"
                                         "1 will after 2 b=2\n"
                                         "session 2 other - 60 0 1 v5\n"
                                         "2 delivery 5 qos 1 b=2\n"
                                         "retained a=1\n");
}

static void deliveries_keep_their_order(void **arg)
{
    struct state_rig *rig = *arg;
    rig_open(rig);
    rig_session(rig, 1, "c");
    static const uint16_t order[] = {65534, 65535, 1, 2, 40, 3};
    for (size_t i = 0; i < COUNT(order); i++) {
        if (i == 3) // and over a restart
            rig_reload(rig);
        struct publication *publication = rig_publication(rig, "t", "p");
        rig_deliver(rig, 1, order[i], 1, publication);
        publication_release(publication);
    }
    assert_string_equal(rig_reload(rig), "session 1 c - 60 0 1 v5\n"
                                         "1 delivery 65534 qos 1 t=p\n"
                                         "1 delivery 65535 qos 1 t=p\n"
                                         "1 delivery 1 qos 1 t=p\n"
                                         "1 delivery 2 qos 1 t=p\n"
                                         "1 delivery 40 qos 1 t=p\n"
                                         "1 delivery 3 qos 1 t=p\n");
}

// ---- references ----

static void a_publication_goes_with_its_last_reference(void **arg)
{
    struct state_rig *rig = *arg;
    rig_open(rig);
    struct publication *publication = rig_publication(rig, "t", "shared");
    for (uint64_t session = 1; session <= 3; session++) {
        char name[8];
        snprintf(name, sizeof name, "c%d", (int)session);
        rig_session(rig, session, name);
        rig_deliver(rig, session, 1, 2, publication);
    }
    state_put_incoming(rig->state, 1, &(struct state_incoming){.packet_id = 4}, publication);
    static const struct {
        char step;
        int left;
    } steps[] = {{'1', 1}, {'r', 1}, {'2', 1}, {'i', 0}};
    for (size_t i = 0; i < COUNT(steps); i++) {
        if (steps[i].step == '1')
            state_drop_delivery(rig->state, 1, 1, publication);
        else if (steps[i].step == 'r')
            state_release_delivery(rig->state, 2, 1);
        else if (steps[i].step == '2')
            state_drop_session(rig->state, 3);
        else
            state_drop_incoming(rig->state, 1, 4, NULL); // of whom it was is not known
        rig_close(rig);
        assert_int_equal(rig_count(rig, "publication"), steps[i].left);
        rig_open(rig);
    }
    state_drop_delivery(rig->state, 2, 1, NULL);
    // It is stored anew where it is needed again.
    rig_deliver(rig, 1, 2, 1, publication);
    publication_release(publication);
    assert_string_equal(rig_reload(rig), "session 1 c1 - 60 0 1 v5\n"
                                         "1 delivery 2 qos 1 t=shared\n"
                                         "session 2 c2 - 60 0 1 v5\n");
}

// What is said to have been put may be wrong: then nothing that others need goes.
static void a_drop_trusts_the_row(void **arg)
{
    struct state_rig *rig = *arg;
    rig_open(rig);
    struct publication *a = rig_publication(rig, "a", "1"), *b = rig_publication(rig, "b", "2");
    rig_session(rig, 1, "c");
    rig_deliver(rig, 1, 1, 1, a);
    rig_deliver(rig, 1, 2, 1, b);
    rig_settle(rig);
    state_drop_delivery(rig->state, 1, 1, b);
    state_drop_delivery(rig->state, 1, 1, b);
    publication_release(a);
    publication_release(b);
    assert_string_equal(rig_reload(rig), "session 1 c - 60 0 1 v5\n"
                                         "1 delivery 2 qos 1 b=2\n");
    rig_close(rig);
    assert_int_equal(rig_count(rig, "publication"), 1);
}

// As when a batch is repeated that was committed after all: the row is replaced, not doubled.
static void what_is_there_already_is_replaced(void **arg)
{
    struct state_rig *rig = *arg;
    rig_open(rig);
    struct publication *a = rig_publication(rig, "a", "1"), *b = rig_publication(rig, "b", "2");
    struct publication *const versions[] = {a, a, b};
    rig_session(rig, 1, "c");
    for (size_t i = 0; i < COUNT(versions); i++) {
        rig_deliver(rig, 1, 1, 1, versions[i]);
        state_put_incoming(rig->state, 1, &(struct state_incoming){.packet_id = 1}, versions[i]);
        rig_settle(rig);
    }
    publication_release(a);
    publication_release(b);
    assert_string_equal(rig_reload(rig), "session 1 c - 60 0 1 v5\n"
                                         "1 delivery 1 qos 1 b=2\n"
                                         "1 incoming 1 b=2\n");
    rig_close(rig);
    assert_int_equal(rig_count(rig, "publication"), 1);
}

static void a_session_goes_with_all_that_belongs_to_it(void **arg)
{
    static const char *const tables[] = {"session",  "subscription", "publication", "will",
                                         "delivery", "incoming",     "retained"};
    struct state_rig *rig = *arg;
    rig_open(rig);
    write_everything(rig);
    rig_settle(rig);
    state_drop_session(rig->state, 7);
    state_drop_session(rig->state, 8); // which is not there
    assert_string_equal(rig_reload(rig), "session 9223372036854775807 c - 60 0 1 v5\n"
                                         "retained a/b=42 +3600s R\n");
    state_drop_session(rig->state, INT64_MAX);
    state_drop_retained(rig->state, bytes_of("a/b"));
    rig_close(rig);
    for (size_t i = 0; i < COUNT(tables); i++)
        assert_int_equal(rig_count(rig, tables[i]), 0);
}

// ---- anything, in any order ----

enum { MODEL_SESSIONS = 4, MODEL_IDS = 50, MODEL_SHARED = 500 };

struct model {
    struct publication *shared[MODEL_SHARED];
    int of[MODEL_SESSIONS + 1][MODEL_IDS + 1]; // which one is queued; -1: none
    bool used[MODEL_SHARED];
    unsigned wrong, seen;
};

static void model_step(struct state_rig *rig, struct model *model, unsigned *random)
{
    uint64_t session = 1 + (unsigned)rand_r(random) % MODEL_SESSIONS;
    uint16_t id = (uint16_t)(1 + (unsigned)rand_r(random) % MODEL_IDS);
    int *of = &model->of[session][id];
    if (rand_r(random) % 400 == 0) {
        state_drop_session(rig->state, session);
        memset(model->of[session], -1, sizeof model->of[session]);
        rig_settle(rig);
        rig_session(rig, session, session == 1 ? "1" : session == 2 ? "2" : "more");
    } else if (*of < 0) {
        *of = rand_r(random) % MODEL_SHARED;
        rig_deliver(rig, session, id, 1, model->shared[*of]);
    } else {
        state_drop_delivery(rig->state, session, id, model->shared[*of]);
        *of = -1;
    }
    if (rand_r(random) % 16 == 0)
        rig_turn(rig);
}

static void compare_delivery(void *arg, uint64_t session, const struct state_delivery *delivery,
                             struct publication *publication)
{
    struct model *model = arg;
    int of = model->of[session][delivery->packet_id];
    model->wrong += of < 0 || !bytes_equal(model->shared[of]->payload, publication->payload);
    model->seen++;
}

static void any_writes_in_any_order(void **arg)
{
    static struct model model;
    struct state_rig *rig = *arg;
    unsigned random = 7, wanted = 0, used = 0;
    rig_open(rig);
    for (int i = 0; i < MODEL_SHARED; i++) {
        char payload[16];
        snprintf(payload, sizeof payload, "%d", i);
        model.shared[i] = rig_publication(rig, "t", payload);
    }
    memset(model.of, -1, sizeof model.of);
    rig_session(rig, 1, "1");
    rig_session(rig, 2, "2");
    for (int i = 0; i < 20000; i++)
        model_step(rig, &model, &random);
    for (int session = 3; session <= MODEL_SESSIONS; session++) // of whom nothing is there
        state_drop_session(rig->state, (uint64_t)session);
    for (int session = 1; session <= 2; session++)
        for (int id = 1; id <= MODEL_IDS; id++) {
            int of = model.of[session][id];
            wanted += of >= 0;
            used += of >= 0 && !model.used[of];
            if (of >= 0)
                model.used[of] = true;
        }
    rig_close(rig);
    assert_int_equal(rig_count(rig, "publication"), used);
    rig_open(rig);
    const struct state_load_calls calls = {.session = ignore_session,
                                           .delivery = compare_delivery,
                                           .arg = &model};
    char *error = NULL;
    assert_true(state_load(rig->state, &calls, &error));
    assert_int_equal(model.wrong, 0);
    assert_int_equal(model.seen, wanted);
    for (int i = 0; i < MODEL_SHARED; i++)
        publication_release(model.shared[i]);
}

// ---- no file ----

static void without_a_file_everything_is_durable(void **arg)
{
    struct state_rig *rig = *arg;
    char *error = NULL;
    rig->state = state_open(rig->loop, &rig->budget, NULL, &error);
    assert_non_null(rig->state);
    assert_string_equal(rig_load(rig), "");
    write_everything(rig);
    assert_int_equal(rig->budget.used, 0); // and nothing is held
    assert_true(state_is_durable(rig->state));
    rig_settle(rig);
    struct state_status status;
    state_status(rig->state, &status);
    assert_int_equal(status.commits, 0);
    assert_false(status.failing);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, state_rig_setup, state_rig_teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_is_written_is_given_back),
        TEST(publications_are_whole),
        TEST(a_released_delivery_stays_where_no_message_is_left),
        TEST(later_writes_change_earlier_ones),
        TEST(of_several_changes_in_a_turn_the_last_counts),
        TEST(deliveries_keep_their_order),
        TEST(a_publication_goes_with_its_last_reference),
        TEST(a_drop_trusts_the_row),
        TEST(what_is_there_already_is_replaced),
        TEST(a_session_goes_with_all_that_belongs_to_it),
        TEST(any_writes_in_any_order),
        TEST(without_a_file_everything_is_durable),
    };
    log_init(LOG_LEVEL_WARN);
    disk_faults_install();
    state_close(NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
