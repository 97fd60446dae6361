// The spool's file: entries in order, what is durable, what goes, its identity.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"
#include "spool/spool_file_internal.h"
#include "spool/spool_look.h"
#include "spool_file_rig.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

// ---- entries ----

static struct message *rich_message(struct rig *rig)
{
    static const struct message_property properties[] = {
        {MESSAGE_USER_PROPERTY, 4, 2, "unit", "ft"},
        {MESSAGE_USER_PROPERTY, 0, 0, "", ""},
        {MESSAGE_CORRELATION_DATA, 0, 2, NULL, "\0\1"},
        {MESSAGE_EXPIRY, 0, 2, NULL, "60"},
    };
    struct message *message = new_message(rig, &(struct message_parts){
                                                   .topic = "a/\303\244",
                                                   .topic_length = 4,
                                                   .client_id = "c1",
                                                   .client_id_length = 2,
                                                   .origin = "site",
                                                   .only = "one\ntwo\n",
                                                   .received_us = 1700000000123456,
                                                   .payload = "\0\377x",
                                                   .payload_length = 3,
                                                   .full_length = 300000,
                                                   .properties = properties,
                                                   .property_count = COUNT(properties),
                                                   .flaw = "properties too large",
                                                   .flaw_detail = "70000 bytes",
                                                   .qos = 2,
                                                   .dup = true,
                                                   .retain = true,
                                               });
    message->session = UINT64_C(0xFEDCBA9876543210);
    message->content = UINT64_C(0x8000000000000001);
    message->packet_id = 65535;
    return message;
}

static void assert_text(const char *text, size_t length, const char *wanted)
{
    assert_int_equal(length, strlen(wanted));
    assert_memory_equal(text, wanted, length);
}

static void an_entry_has_all_of_its_message(void **state)
{
    struct rig *rig = *state;
    open_file(rig);
    struct message *message = rich_message(rig);
    assert_int_equal(spool_file_put(rig->file, message, NULL, 0, true), 1);
    assert_int_equal(spool_file_put(rig->file, message, "three\n", 0, false), 2);
    wait_durable(rig, 2);
    open_again(rig);
    read_all(rig);
    assert_int_equal(rig->read_count, 2);
    const struct spool_entry *entry = &rig->entries[0];
    assert_int_equal(entry->number, 1);
    assert_true(entry->session == message->session && entry->content == message->content);
    assert_int_equal(entry->packet_id, 65535);
    assert_true(entry->unsure);
    assert_false(rig->entries[1].unsure);
    const struct message *read = rig->read[0];
    assert_text(read->topic, read->topic_length, "a/\303\244");
    assert_text(read->client_id, read->client_id_length, "c1");
    assert_string_equal(read->origin, "site");
    assert_string_equal(read->only, "one\ntwo\n");
    assert_string_equal(rig->read[1]->only, "three\n");
    assert_int_equal(read->received_us, 1700000000123456);
    assert_int_equal(read->payload_length, 3);
    assert_memory_equal(read->payload, "\0\377x", 3);
    assert_int_equal(read->full_length, 300000);
    assert_string_equal(read->flaw, "properties too large");
    assert_string_equal(read->flaw_detail, "70000 bytes");
    assert_int_equal(read->qos, 2);
    assert_true(read->dup && read->retain);
    assert_int_equal(read->entry, 1);
    assert_int_equal(read->entry_kind, MESSAGE_OF_SPOOL);
    assert_int_equal(read->property_count, 4);
    for (size_t i = 0; i < 4; i++) {
        const struct message_property *got = &read->properties[i], *was = &message->properties[i];
        assert_int_equal(got->kind, was->kind);
        assert_true(!got->name == !was->name);
        assert_int_equal(got->name_length, was->name_length);
        if (was->name)
            assert_memory_equal(got->name, was->name, was->name_length);
        assert_int_equal(got->value_length, was->value_length);
        assert_memory_equal(got->value, was->value, was->value_length);
    }
    message_release(message, VERDICT_SPOOLED, NULL);
}

static void an_entry_has_no_more_than_its_message(void **state)
{
    struct rig *rig = *state;
    open_file(rig);
    struct message *message =
        new_message(rig, &(struct message_parts){.topic = "a", .topic_length = 1});
    spool_file_put(rig->file, message, NULL, 0, false);
    message_release(message, VERDICT_SPOOLED, NULL);
    read_all(rig);
    assert_int_equal(rig->read_count, 1);
    const struct message *read = rig->read[0];
    assert_int_equal(read->payload_length, 0);
    assert_int_equal(read->full_length, 0);
    assert_null(read->client_id);
    assert_null(read->only);
    assert_null(read->flaw);
    assert_null(read->flaw_detail);
    assert_int_equal(read->property_count, 0);
    assert_int_equal(read->qos, 0);
    assert_false(read->dup || read->retain);
    assert_int_equal(rig->entries[0].session, 0);
}

static void entries_are_read_in_order_in_parts(void **state)
{
    enum { MANY = 1000 };
    struct rig *rig = *state;
    open_file(rig);
    for (int64_t i = 1; i <= MANY; i++)
        assert_int_equal(put(rig, i), i);
    int64_t after = 0;
    for (bool all = false; !all; all = rig->all) {
        read_after(rig, after, 300, SIZE_MAX);
        assert_int_equal(rig->read_count, after < 900 ? 300 : 100);
        for (size_t i = 0; i < rig->read_count; i++) {
            assert_int_equal(rig->entries[i].number, ++after);
            assert_int_equal(value_of(rig->read[i]), after);
        }
    }
    assert_int_equal(after, MANY);
    read_after(rig, 0, MANY, 2 * (19 + 10)); // topics and payloads
    assert_int_equal(rig->read_count, 2);
    assert_false(rig->all);
    read_after(rig, 0, MANY, 1); // one at least
    assert_int_equal(rig->read_count, 1);
    read_after(rig, MANY, MANY, SIZE_MAX);
    assert_int_equal(rig->read_count, 0);
    assert_true(rig->all);
}

static void what_is_told_is_synced(void **state)
{
    struct rig *rig = *state;
    open_file(rig);
    for (int64_t i = 1; i <= 200; i++) {
        put(rig, i);
        if (i % 10 == 0)
            wait_durable(rig, i);
    }
    assert_int_equal(rig->unsynced, 0);
    assert_int_equal(rig->durable, 200);
    assert_in_range(rig->told, 20, 199); // what comes together is told together
}

static void a_number_never_comes_again(void **state)
{
    struct rig *rig = *state;
    open_file(rig);
    char *id = mem_strdup(spool_file_id(rig->file));
    assert_int_equal(strlen(id), 32);
    for (int64_t i = 1; i <= 3; i++)
        assert_int_equal(put(rig, i), i);
    spool_file_delete(rig->file, 3);
    open_again(rig);
    assert_int_equal(status_of(rig).count, 0);
    assert_string_equal(spool_file_id(rig->file), id);
    assert_int_equal(put(rig, 4), 4);
    // What is stored may be more than the file knows: it is an old copy.
    spool_file_delete(rig->file, 100);
    assert_int_equal(put(rig, 5), 101);
    settle(rig);
    spool_file_delete(rig->file, 200);
    open_again(rig);
    assert_int_equal(put(rig, 6), 201);
    close_file(rig);
    assert_int_equal(unlink(rig->path), 0);
    open_file(rig);
    assert_string_not_equal(spool_file_id(rig->file), id);
    free(id);
}

// ---- what goes ----

static void what_is_stored_goes(void **state)
{
    enum { MANY = 12000 }; // in several steps
    struct rig *rig = *state;
    open_file(rig);
    for (int64_t i = 1; i <= MANY; i++)
        put(rig, i);
    struct spool_file_status status = status_of(rig);
    assert_int_equal(status.count, MANY);
    assert_int_equal(status.first, 1);
    assert_int_equal(status.last, MANY);
    assert_int_equal(status.oldest_us, 1000001);
    spool_file_delete(rig->file, 11000);
    assert_int_equal(put(rig, MANY + 1), MANY + 1); // comes meanwhile
    do
        settle(rig);
    while (status_of(rig).first <= 11000);
    status = status_of(rig);
    assert_int_equal(status.count, 1001);
    assert_int_equal(status.first, 11001);
    assert_int_equal(status.oldest_us, 1011001);
    read_all(rig);
    assert_int_equal(rig->read_count, 1001);
    assert_int_equal(rig->entries[0].number, 11001);
    spool_file_delete(rig->file, MANY + 1);
    assert_int_equal(put(rig, 0), MANY + 2); // the first again, and not in the file yet
    do
        settle(rig);
    while (status_of(rig).count > 1);
    status = status_of(rig);
    assert_int_equal(status.first, MANY + 2);
    assert_int_equal(status.oldest_us, 1000000);
    open_again(rig);
    struct spool_file_status after = status_of(rig);
    assert_int_equal(after.count, 1);
    assert_int_equal(after.bytes, status.bytes);
    assert_int_equal(after.first, MANY + 2);
    assert_int_equal(after.oldest_us, 1000000);
}

static int64_t whole_size(struct rig *rig)
{
    close_file(rig); // all is in the one file then
    int64_t size = size_of(rig->path);
    open_file(rig);
    return size;
}

// Where rows fit badly into pages too.
static void the_file_is_not_much_larger_than_its_bound(void **state)
{
    static const size_t lengths[] = {1,    100,  700,  1340, 1900, 2000,
                                     3000, 3900, 4100, 5000, 9000, 60000};
    struct rig *rig = *state;
    rig->max_bytes = 4 << 20;
    for (size_t i = 0; i < COUNT(lengths); i++) {
        open_file(rig);
        int64_t number = 0;
        while ((number = put_sized(rig, 0, lengths[i], 0)) > 0)
            if (number % 1000 == 0)
                wait_durable(rig, number);
        struct spool_file_status status = status_of(rig);
        assert_in_range(status.bytes, rig->max_bytes * 9 / 10, rig->max_bytes);
        int64_t size = whole_size(rig);
        if (size > (int64_t)rig->max_bytes * 13 / 10 || size < (int64_t)rig->max_bytes * 7 / 10)
            fail_msg("%zu bytes of payload: the file has %lld", lengths[i], (long long)size);
        close_file(rig);
        assert_int_equal(unlink(rig->path), 0);
        rig->durable = 0;
    }
}

static void room_is_used_again_and_given_back(void **state)
{
    struct rig *rig = *state;
    rig->max_bytes = 4 << 20;
    open_file(rig);
    int64_t last = 0, largest = 0;
    for (int round = 0; round < 5; round++) {
        for (int64_t number; (number = put_sized(rig, 0, 500, 0)) > 0;)
            last = number;
        struct message *message = small_message(rig, 0, 500);
        assert_false(spool_file_has_room(rig->file, message));
        wait_durable(rig, last);
        // All but a few: the file does not get smaller, nor larger with the next.
        spool_file_delete(rig->file, last - 10);
        do
            settle(rig);
        while (status_of(rig).count > 10);
        assert_true(spool_file_has_room(rig->file, message));
        message_release(message, VERDICT_SPOOLED, NULL);
        int64_t size = whole_size(rig);
        if (round == 0)
            largest = size;
        assert_in_range(size, 3 << 20, largest + (largest >> 3));
    }
    spool_file_delete(rig->file, last);
    char *log = mem_printf("%s-wal", rig->path);
    while (size_of(rig->path) > 2 << 20)
        settle(rig);
    assert_in_range(size_of(log), 0, 20 << 20);
    free(log);
    assert_int_equal(put(rig, 1), last + 1);
    read_after(rig, last, 10, SIZE_MAX);
    assert_int_equal(rig->read_count, 1);
}

// Else it could never be taken.
static void one_message_always_has_room(void **state)
{
    struct rig *rig = *state;
    rig->max_bytes = 1 << 20;
    open_file(rig);
    assert_int_equal(put_sized(rig, 1, 3 << 20, 0), 1);
    assert_int_equal(put(rig, 2), 0);
    wait_durable(rig, 1);
    spool_file_delete(rig->file, 1);
    settle(rig);
    assert_int_equal(put(rig, 2), 2);
}

static void the_oldest_that_is_not_being_stored_is_dropped(void **state)
{
    struct rig *rig = *state;
    rig->max_bytes = 1 << 20;
    rig->drop_oldest = true;
    open_file(rig);
    for (int64_t i = 1; i <= 50; i++)
        put_sized(rig, i, 10000, 0);
    read_after(rig, 0, 5, SIZE_MAX);
    spool_file_delete(rig->file, 3);
    read_after(rig, 5, 2, SIZE_MAX);
    assert_int_equal(rig->entries[1].number, 7);
    for (int64_t i = 51; i <= 500; i++) {
        int64_t number = put_sized(rig, i, 10000, 0);
        assert_int_equal(number, i);
        wait_durable(rig, number);
    }
    settle(rig);
    struct spool_file_status status = status_of(rig);
    assert_in_range(status.bytes, rig->max_bytes * 8 / 10, rig->max_bytes);
    assert_int_equal(status.dropped, rig->dropped);
    assert_int_equal(status.count + status.dropped + 3, 500);
    read_after(rig, 3, READ_MAX, SIZE_MAX);
    assert_int_equal(rig->read_count, status.count);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(rig->entries[i].number, 4 + i);
    for (size_t i = 4; i < rig->read_count; i++) // the last that came
        assert_int_equal(rig->entries[i].number, 501 - rig->read_count + i);
    open_again(rig);
    assert_int_equal(status_of(rig).bytes, status.bytes);
}

static void fill_to_the_bound(struct rig *rig)
{
    rig->max_bytes = 1 << 20;
    rig->drop_oldest = true;
    open_file(rig);
    int64_t number = 0;
    while (status_of(rig).bytes + 20000 < rig->max_bytes)
        number = put_sized(rig, number + 1, 10000, 0);
    wait_durable(rig, number);
}

// The ten that were read are there, and those of the others that came last.
static void assert_ten_are_left(struct rig *rig)
{
    int64_t first = rig->entries[0].number;
    do
        settle(rig);
    while (rig->file->dropping);
    struct spool_file_status status = status_of(rig);
    assert_true(rig->dropped > 0);
    assert_int_equal(status.first, first);
    assert_int_equal(status.count + rig->dropped, status.last);
    read_all(rig);
    assert_int_equal(rig->read_count, status.count);
    for (size_t i = 0; i < status.count; i++)
        assert_int_equal(rig->entries[i].number,
                         (i < 10 ? first : status.last + 1 - (int64_t)status.count) + (int64_t)i);
    open_again(rig);
    assert_int_equal(status_of(rig).count, status.count);
    assert_int_equal(status_of(rig).bytes, status.bytes);
}

static void put_too_many(struct rig *rig)
{
    for (int64_t i = 0; i < 8; i++)
        assert_true(put_sized(rig, i, 10000, 0) > 0);
}

static uint64_t jobs_of(struct rig *rig)
{
    struct disk_status status;
    disk_status(rig->file->disk, &status);
    return status.jobs;
}

// Others come before anybody here knows how far the reading went.
static void what_is_being_read_is_not_dropped(void **state)
{
    struct rig *rig = *state;
    fill_to_the_bound(rig);
    uint64_t before = jobs_of(rig);
    begin_read(rig, 0, 10, SIZE_MAX);
    while (jobs_of(rig) == before)
        usleep(1000);
    put_too_many(rig);
    while (rig->reading)
        loop_run(rig->loop);
    assert_int_equal(rig->read_count, 10);
    assert_ten_are_left(rig);
}

// They were to go first, but the disk was full then.
static void what_was_to_be_dropped_is_not_once_it_is_read(void **state)
{
    struct rig *rig = *state;
    fill_to_the_bound(rig);
    disk_faults.fail = SQLITE_FULL;
    put_too_many(rig);
    for (unsigned calls = disk_faults.calls; disk_faults.calls < calls + 4;)
        usleep(1000);
    read_after(rig, 0, 10, SIZE_MAX);
    disk_faults_clear();
    wait_durable(rig, status_of(rig).last);
    assert_ten_are_left(rig);
}

// That they are stored is known from PostgreSQL, and they go in several steps.
static void what_is_stored_is_not_dropped(void **state)
{
    enum { MANY = 12000, STORED = 11000 };
    struct rig *rig = *state;
    rig->max_bytes = 2 << 20;
    rig->drop_oldest = true;
    open_file(rig);
    for (int64_t i = 1; i <= MANY; i++)
        put(rig, i);
    wait_durable(rig, MANY);
    open_again(rig);
    spool_file_delete(rig->file, STORED);
    int64_t last = MANY;
    while (status_of(rig).bytes <= rig->max_bytes + 10000)
        last = put_sized(rig, 0, 100000, 0);
    do
        settle(rig);
    while (rig->file->dropping || rig->file->deleting);
    assert_true(rig->dropped > 0);
    assert_int_equal(status_of(rig).count + rig->dropped, last - STORED);
}

static int fail_once(void *arg, struct sqlite3 *database, const char *name, int pages)
{
    (void)database, (void)name, (void)pages;
    unsigned *commits = arg;
    return ++*commits == 1 ? SQLITE_IOERR : SQLITE_OK;
}

// SQLite may say that a commit has failed that has not.
static void what_went_after_all_is_counted_once(void **state)
{
    struct rig *rig = *state;
    unsigned commits = 0;
    fill_to_the_bound(rig);
    read_after(rig, 0, 10, SIZE_MAX);
    sqlite3_wal_hook(disk_database(rig->file->disk), fail_once, &commits);
    put_too_many(rig);
    wait_durable(rig, status_of(rig).last);
    assert_true(commits > 0);
    assert_ten_are_left(rig);
    commits = 0;
    sqlite3_wal_hook(disk_database(rig->file->disk), fail_once, &commits);
    spool_file_delete(rig->file, 10);
    do
        settle(rig);
    while (status_of(rig).first <= 10);
    struct spool_file_status status = status_of(rig);
    assert_true(commits > 0);
    open_again(rig);
    assert_int_equal(status_of(rig).count, status.count);
    assert_int_equal(status_of(rig).bytes, status.bytes);
}

// Wherever the next entry is.
static void assert_large_ones_come(struct rig *rig, int64_t first, int64_t last)
{
    for (int64_t i = first, number; i <= last; i++) {
        for (uint64_t dropped; (number = put_sized(rig, i, 300000, 0)) == 0;) {
            dropped = rig->dropped;
            settle(rig);
            assert_true(rig->dropped > dropped);
        }
        assert_int_equal(number, i);
        wait_durable(rig, number);
    }
}

// More than what may be too much for a moment.
static void the_oldest_make_room_for_large_ones(void **state)
{
    struct rig *rig = *state;
    rig->max_bytes = 1 << 20;
    rig->drop_oldest = true;
    open_file(rig);
    assert_large_ones_come(rig, 1, 10);
    assert_int_equal(status_of(rig).count, 3);
    assert_int_equal(rig->dropped, 7);
    assert_int_equal(put_sized(rig, 11, 2 << 20, 0), 0); // all are to go
    settle(rig);
    assert_int_equal(rig->dropped, 10);
    assert_int_equal(put_sized(rig, 11, 2 << 20, 0), 11);
}

// ---- its identity ----

// As anybody sees it who has the file as it is on the disk.
static void assert_id_on_disk(struct rig *rig, const char *id)
{
    struct spool_look_totals totals;
    char *error = NULL;
    struct spool_look *look = spool_look_open(rig->path, &error);
    if (!look || !spool_look_totals(look, &totals, &error))
        fail_msg("%s", error);
    assert_string_equal(totals.id, id);
    spool_look_close(look);
}

static void an_empty_file_gets_another_identity(void **state)
{
    struct rig *rig = *state;
    open_file(rig);
    char *first = mem_strdup(spool_file_id(rig->file));
    assert_int_equal(put(rig, 1), 1);
    spool_file_renew(rig->file);
    assert_string_equal(spool_file_id(rig->file), first); // it is not empty
    spool_file_delete(rig->file, 1);
    spool_file_renew(rig->file);
    assert_string_equal(spool_file_id(rig->file), first); // nor yet
    settle(rig);
    spool_file_renew(rig->file);
    char *second = mem_strdup(spool_file_id(rig->file));
    assert_int_equal(strlen(second), strlen(first));
    assert_string_not_equal(second, first);
    assert_int_equal(put(rig, 2), 2);
    wait_durable(rig, 2);
    assert_id_on_disk(rig, second);
    assert_int_equal(rig->unsynced, 0);
    open_again(rig);
    assert_string_equal(spool_file_id(rig->file), second);
    assert_int_equal(put(rig, 3), 3);
    free(first);
    free(second);
}

static void a_doubt_keeps_the_identity(void **state)
{
    struct rig *rig = *state;
    open_file(rig);
    char *id = mem_strdup(spool_file_id(rig->file));
    int64_t doubt = spool_file_doubt(rig->file, "edge7", 1, 0, 1);
    spool_file_renew(rig->file);
    assert_string_equal(spool_file_id(rig->file), id);
    spool_file_resolve(rig->file, doubt, false);
    spool_file_renew(rig->file);
    assert_string_not_equal(spool_file_id(rig->file), id);
    free(id);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(an_entry_has_all_of_its_message),
        TEST(an_entry_has_no_more_than_its_message),
        TEST(entries_are_read_in_order_in_parts),
        TEST(what_is_told_is_synced),
        TEST(a_number_never_comes_again),
        TEST(what_is_stored_goes),
        TEST(the_file_is_not_much_larger_than_its_bound),
        TEST(room_is_used_again_and_given_back),
        TEST(one_message_always_has_room),
        TEST(the_oldest_that_is_not_being_stored_is_dropped),
        TEST(what_is_being_read_is_not_dropped),
        TEST(what_was_to_be_dropped_is_not_once_it_is_read),
        TEST(what_is_stored_is_not_dropped),
        TEST(what_went_after_all_is_counted_once),
        TEST(the_oldest_make_room_for_large_ones),
        TEST(an_empty_file_gets_another_identity),
        TEST(a_doubt_keeps_the_identity),
    };
    log_init(LOG_LEVEL_INFO);
    disk_faults_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
