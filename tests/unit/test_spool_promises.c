// What the spool's file knows besides its entries: transactions in doubt, QoS 2 identifiers.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"
#include "spool_file_rig.h"

// ---- doubts ----

static void assert_doubt(struct rig *rig, size_t at, int64_t id, const char *writer, int64_t epoch,
                         unsigned lane, int64_t seq)
{
    const struct spool_doubt *doubts;
    assert_true(at < spool_file_doubts(rig->file, &doubts));
    assert_int_equal(doubts[at].id, id);
    assert_string_equal(doubts[at].writer, writer);
    assert_int_equal(doubts[at].epoch, epoch);
    assert_int_equal(doubts[at].lane, lane);
    assert_int_equal(doubts[at].seq, seq);
}

static size_t doubt_count(struct rig *rig)
{
    const struct spool_doubt *doubts;
    return spool_file_doubts(rig->file, &doubts);
}

static void what_had_committed_goes_and_what_had_not_stays(void **state)
{
    struct rig *rig = *state;
    open_file(rig);
    int64_t one = spool_file_doubt(rig->file, "edge7", 12, 3, 4567);
    int64_t two = spool_file_doubt(rig->file, "edge8", INT64_MAX, INT32_MAX, 1);
    assert_int_equal(one, 1);
    assert_int_equal(two, 2);
    for (int64_t i = 0; i < 30; i++) // none, one, two, ...
        put_sized(rig, i, 10, i % 3);
    wait_durable(rig, 30);
    open_again(rig);
    assert_int_equal(doubt_count(rig), 2);
    assert_doubt(rig, 0, 1, "edge7", 12, 3, 4567);
    assert_doubt(rig, 1, 2, "edge8", INT64_MAX, INT32_MAX, 1);
    uint64_t before = status_of(rig).bytes;
    assert_int_equal(spool_file_resolve(rig->file, one, true), 10);
    assert_int_equal(spool_file_resolve(rig->file, two, false), 10);
    assert_int_equal(spool_file_resolve(rig->file, two, true), 0); // it is resolved
    assert_int_equal(doubt_count(rig), 0);
    read_all(rig);
    assert_int_equal(rig->read_count, 20);
    for (size_t i = 0; i < 20; i++)
        assert_int_equal(rig->entries[i].number, i / 2 * 3 + 1 + i % 2 * 2);
    assert_int_equal(status_of(rig).count, 20);
    assert_in_range(status_of(rig).bytes, before / 2, before * 3 / 4);
    // The same identifiers again have nothing of those before.
    open_again(rig);
    assert_int_equal(doubt_count(rig), 0);
    assert_int_equal(spool_file_doubt(rig->file, "edge7", 13, 0, 1), 1);
    assert_int_equal(spool_file_doubt(rig->file, "edge7", 13, 1, 1), 2);
    assert_int_equal(spool_file_resolve(rig->file, 2, true), 0);
    read_all(rig);
    assert_int_equal(rig->read_count, 20);
}

static void the_last_entries_may_go_with_their_doubt(void **state)
{
    struct rig *rig = *state;
    open_file(rig);
    int64_t doubt = spool_file_doubt(rig->file, "edge7", 1, 0, 1);
    put_sized(rig, 1, 10, doubt);
    put_sized(rig, 2, 10, doubt);
    assert_int_equal(spool_file_resolve(rig->file, doubt, true), 2);
    open_again(rig);
    assert_int_equal(status_of(rig).count, 0);
    assert_int_equal(put(rig, 3), 3);
}

// ---- QoS 2 identifiers ----

static void put_exchange(struct rig *rig, uint64_t session, uint16_t packet_id)
{
    struct message *message = small_message(rig, 0, 10);
    message->session = session;
    message->packet_id = packet_id;
    message->content = 77;
    assert_true(spool_file_put(rig->file, message, NULL, 0, false) > 0);
    message_release(message, VERDICT_SPOOLED, NULL);
}

static void exchange_done(void *arg)
{
    struct rig *rig = arg;
    rig->done++;
    rig->unsynced += disk_faults.unsynced;
    loop_stop(rig->loop);
}

static void identifiers_outlive_their_entries(void **state)
{
    const uint64_t session = UINT64_C(0xFFFFFFFFFFFFFFFF);
    struct rig *rig = *state;
    open_file(rig);
    assert_int_equal(spool_file_exchange(rig->file, session, 1), SPOOL_EXCHANGE_UNKNOWN);
    put_exchange(rig, session, 1);
    put_exchange(rig, session, 65535);
    assert_int_equal(spool_file_exchange(rig->file, session, 1), SPOOL_EXCHANGE_STORED);
    spool_file_set_exchange(rig->file, 5, 7, SPOOL_EXCHANGE_VOID, exchange_done, rig);
    loop_run(rig->loop);
    spool_file_delete(rig->file, 2);
    open_again(rig);
    assert_int_equal(rig->done, 1);
    assert_int_equal(rig->unsynced, 0);
    assert_int_equal(spool_file_exchange(rig->file, session, 1), SPOOL_EXCHANGE_STORED);
    assert_int_equal(spool_file_exchange(rig->file, session, 65535), SPOOL_EXCHANGE_STORED);
    assert_int_equal(spool_file_exchange_content(rig->file, session, 65535), 77);
    assert_int_equal(spool_file_exchange(rig->file, session, 2), SPOOL_EXCHANGE_UNKNOWN);
    assert_int_equal(spool_file_exchange(rig->file, 5, 7), SPOOL_EXCHANGE_VOID);
    spool_file_set_exchange(rig->file, session, 1, SPOOL_EXCHANGE_UNKNOWN, NULL, NULL);
    spool_file_set_exchange(rig->file, session, 65535, SPOOL_EXCHANGE_VOID, NULL, NULL);
    put_exchange(rig, 5, 7);
    open_again(rig);
    assert_int_equal(spool_file_exchange(rig->file, session, 1), SPOOL_EXCHANGE_UNKNOWN);
    assert_int_equal(spool_file_exchange(rig->file, session, 65535), SPOOL_EXCHANGE_VOID);
    assert_int_equal(spool_file_exchange(rig->file, 5, 7), SPOOL_EXCHANGE_STORED);
}

static void end_exchange(void *arg, uint64_t session, uint16_t packet_id, enum spool_exchange what)
{
    struct rig *rig = arg;
    assert_int_equal(what, packet_id % 2 ? SPOOL_EXCHANGE_STORED : SPOOL_EXCHANGE_VOID);
    rig->done++;
    if (what == SPOOL_EXCHANGE_VOID)
        spool_file_set_exchange(rig->file, session, packet_id, SPOOL_EXCHANGE_UNKNOWN, NULL, NULL);
}

static void all_identifiers_can_be_gone_through(void **state)
{
    struct rig *rig = *state;
    open_file(rig);
    for (uint16_t i = 1; i <= 1000; i++)
        spool_file_set_exchange(rig->file, 1 + i / 10, i,
                                i % 2 ? SPOOL_EXCHANGE_STORED : SPOOL_EXCHANGE_VOID, NULL, NULL);
    spool_file_each_exchange(rig->file, end_exchange, rig);
    assert_int_equal(rig->done, 1000);
    open_again(rig);
    rig->done = 0;
    spool_file_each_exchange(rig->file, end_exchange, rig);
    assert_int_equal(rig->done, 500);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_had_committed_goes_and_what_had_not_stays),
        TEST(the_last_entries_may_go_with_their_doubt),
        TEST(identifiers_outlive_their_entries),
        TEST(all_identifiers_can_be_gone_through),
    };
    log_init(LOG_LEVEL_INFO);
    disk_faults_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
