// The exchanges of QoS 2 of one session, compared with a plain array.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "broker/incoming.h"
#include "broker/session.h"
#include "broker/state.h"

static struct budget budget = {.limit = SIZE_MAX};
static struct sessions sessions = {.budget = &budget};

static struct publication *some_publication(void)
{
    return publication_new(&budget, &(struct publication_parts){.topic = bytes_of("t")});
}

static size_t count(const struct session *session)
{
    size_t n = 0;
    for (uint32_t id = 1; id <= 65535; id++)
        n += incoming_find(session, (uint16_t)id) != NULL;
    assert_int_equal(incoming_count(session), n);
    return n;
}

static void finds_what_was_added(void **state)
{
    (void)state;
    static const uint16_t ids[] = {1, 5, 9, 13, 2, 65535, 32768, 16384, 3, 17};
    struct session session = {.sessions = &sessions};
    assert_null(incoming_find(&session, 1));
    incoming_remove(&session, 1);
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        assert_null(incoming_find(&session, ids[i]));
        struct exchange *exchange = incoming_add(&session, ids[i]);
        assert_int_equal(exchange->packet_id, ids[i]);
        assert_int_equal(exchange->phase, EXCHANGE_PENDING);
        assert_int_equal(exchange->waits, 0);
        assert_ptr_equal(incoming_find(&session, ids[i]), exchange);
        assert_int_equal(count(&session), i + 1);
    }
    incoming_free(&session);
    assert_null(session.incoming);
    assert_null(incoming_find(&session, 1));
}

static void each_exchange_has_another_serial(void **state)
{
    (void)state;
    struct session session = {.sessions = &sessions};
    uint32_t first = incoming_add(&session, 7)->serial;
    incoming_remove(&session, 7);
    assert_int_not_equal(incoming_add(&session, 7)->serial, first);
    incoming_free(&session);
}

// Adds and removes at random among few identifiers that collide, and among all.
static void agrees_with_a_plain_array(void **state)
{
    (void)state;
    static const uint16_t steps[] = {1, 4, 64, 1024};
    static uint32_t model[65536]; // serials
    unsigned seed = 1;
    for (size_t s = 0; s < sizeof steps / sizeof *steps; s++) {
        struct session session = {.sessions = &sessions};
        size_t there = 0;
        memset(model, 0, sizeof model);
        for (unsigned turn = 0; turn < 20000; turn++) {
            uint16_t id = (uint16_t)(1 + (unsigned)rand_r(&seed) % 40 * steps[s]);
            struct exchange *exchange = incoming_find(&session, id);
            assert_int_equal(exchange ? exchange->serial : 0, model[id]);
            if (exchange) {
                incoming_remove(&session, id);
                model[id] = 0;
                there--;
            } else {
                model[id] = incoming_add(&session, id)->serial;
                there++;
            }
            if (turn % 1000 == 0)
                assert_int_equal(count(&session), there);
        }
        incoming_free(&session);
    }
}

static void all_identifiers_fit(void **state)
{
    (void)state;
    struct session session = {.sessions = &sessions};
    for (uint32_t id = 1; id <= 65535; id++)
        incoming_add(&session, (uint16_t)id)->reason = (uint8_t)id;
    for (uint32_t id = 65535; id >= 1; id--) {
        assert_int_equal(incoming_find(&session, (uint16_t)id)->reason, (uint8_t)id);
        incoming_remove(&session, (uint16_t)id);
    }
    assert_int_equal(count(&session), 0);
    incoming_free(&session);
}

static void takes_of_the_budget(void **state)
{
    (void)state;
    struct session session = {.sessions = &sessions};
    size_t before = budget.used;
    for (uint16_t id = 100; id < 200; id++)
        incoming_add(&session, id);
    assert_true(budget.used >= before + 100 * sizeof(struct exchange));
    incoming_add(&session, 1)->publication = some_publication();
    incoming_add(&session, 2)->publication = some_publication();
    incoming_remove(&session, 1);
    incoming_free(&session);
    assert_int_equal(budget.used, before);
}

static void what_is_loaded_was_received(void **state)
{
    (void)state;
    struct session session = {.sessions = &sessions};
    struct publication *publication = some_publication();
    incoming_load(&session, &(struct state_incoming){.packet_id = 3, .mapped = true}, publication);
    incoming_load(&session, &(struct state_incoming){.packet_id = 4}, NULL);
    publication_release(publication);
    const struct exchange *exchange = incoming_find(&session, 3);
    assert_int_equal(exchange->phase, EXCHANGE_RECEIVED);
    assert_true(exchange->mapped && exchange->unsure);
    assert_int_equal(exchange->publication->topic.length, 1);
    exchange = incoming_find(&session, 4);
    assert_false(exchange->mapped || exchange->unsure);
    assert_null(exchange->publication);
    incoming_free(&session);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_what_was_added),
        cmocka_unit_test(each_exchange_has_another_serial),
        cmocka_unit_test(agrees_with_a_plain_array),
        cmocka_unit_test(all_identifiers_fit),
        cmocka_unit_test(takes_of_the_budget),
        cmocka_unit_test(what_is_loaded_was_received),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
