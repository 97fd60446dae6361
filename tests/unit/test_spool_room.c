// The spool's file on a disk that has less room than the configuration gives it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <sys/statvfs.h>

#include "base/log.h"
#include "spool/spool_file_internal.h"
#include "spool_file_rig.h"

enum { MIB = 1 << 20 };

static struct {
    uint64_t total, free; // 0: cannot be looked at
} disk;

// In the place of the C library's.
int statvfs(const char *restrict path, struct statvfs *restrict system)
{
    (void)path;
    *system = (struct statvfs){.f_frsize = 4096,
                               .f_blocks = disk.total / 4096,
                               .f_bavail = disk.free / 4096};
    errno = EIO;
    return disk.total ? 0 : -1;
}

static void set_disk(uint64_t total, uint64_t free)
{
    disk.total = total;
    disk.free = free;
}

// It is not looked at with each message.
static void wait_seen(struct rig *rig, uint64_t limit_before)
{
    while (status_of(rig).max_bytes == limit_before)
        usleep(1000);
}

// What becomes durable is taken from the disk, twice, or at each look there would be more room.
static int64_t put_until_full(struct rig *rig)
{
    uint64_t free = disk.free, before = status_of(rig).bytes;
    int64_t last = 0;
    for (int64_t number; (number = put_sized(rig, 0, 10000, 0)) > 0; last = number) {
        wait_durable(rig, number);
        uint64_t taken = 2 * (status_of(rig).bytes - before);
        disk.free = free > taken ? free - taken : 0;
    }
    return last;
}

static void delete_through(struct rig *rig, int64_t number, uint64_t left)
{
    spool_file_delete(rig->file, number);
    do
        settle(rig);
    while (status_of(rig).count > left);
}

static void a_reserve_is_left_on_the_disk(void **state)
{
    struct rig *rig = *state;
    set_disk(16 * MIB, 12 * MIB); // a quarter of all is reserved, and all is written twice
    open_file(rig);
    put_until_full(rig);
    assert_in_range(status_of(rig).bytes, 3 * MIB, 4 * MIB + MIB / 16);
    assert_in_range(status_of(rig).max_bytes, 3 * MIB, 4 * MIB + MIB / 16);
}

static void what_has_gone_makes_room_in_the_file(void **state)
{
    struct rig *rig = *state;
    set_disk(16 * MIB, 12 * MIB);
    open_file(rig);
    int64_t last = put_until_full(rig);
    set_disk(16 * MIB, 12 * MIB);
    open_again(rig); // all of it is in the file, not in the log
    uint64_t limit = status_of(rig).max_bytes;
    set_disk(16 * MIB, 1 * MIB);
    wait_seen(rig, limit);
    assert_int_equal(put(rig, 1), 0);
    delete_through(rig, last - 20, 20);
    uint64_t bytes = status_of(rig).bytes;
    assert_true(put_until_full(rig) > last);
    assert_in_range(status_of(rig).bytes, bytes + 2 * MIB, 4 * MIB);
}

// The others are not dropped because something else has filled the disk.
static void on_a_full_disk_as_many_are_dropped_as_come(void **state)
{
    struct rig *rig = *state;
    rig->drop_oldest = true;
    set_disk(16 * MIB, 16 * MIB);
    open_file(rig);
    for (int64_t i = 1; i <= 100; i++)
        put_sized(rig, i, 10000, 0);
    wait_durable(rig, 100);
    assert_int_equal(rig->dropped, 0);
    uint64_t limit = status_of(rig).max_bytes;
    set_disk(16 * MIB, 1 * MIB);
    wait_seen(rig, limit);
    for (int64_t i = 101; i <= 110; i++) {
        wait_durable(rig, put_sized(rig, i, 10000, 0));
        settle(rig); // what is to go is not there at the next look
    }
    assert_in_range(rig->dropped, 10, 12);
}

// Though what there is is far above what there may be now.
static void a_disk_that_has_less_room_makes_the_oldest_go(void **state)
{
    struct rig *rig = *state;
    rig->drop_oldest = true;
    set_disk(64 * MIB, 64 * MIB);
    open_file(rig);
    for (int64_t i = 1; i <= 400; i++)
        put_sized(rig, i, 10000, 0);
    wait_durable(rig, 400); // in the log, most of it: the file is small
    uint64_t limit = status_of(rig).max_bytes;
    rig->file->room->max_bytes = MIB; // as a disk would that somebody else has filled
    wait_seen(rig, limit);
    assert_int_equal(put_sized(rig, 401, 10000, 0), 0);
    settle(rig);
    assert_in_range(status_of(rig).bytes, 1, MIB);
    assert_int_equal(put_sized(rig, 401, 10000, 0), 401);
}

static void a_disk_that_cannot_be_looked_at_has_room(void **state)
{
    struct rig *rig = *state;
    set_disk(0, 0);
    open_file(rig);
    assert_int_equal(put(rig, 1), 1);
    assert_int_equal(put(rig, 2), 2);
    assert_int_equal(status_of(rig).max_bytes, rig->max_bytes);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_reserve_is_left_on_the_disk),
        TEST(what_has_gone_makes_room_in_the_file),
        TEST(on_a_full_disk_as_many_are_dropped_as_come),
        TEST(a_disk_that_has_less_room_makes_the_oldest_go),
        TEST(a_disk_that_cannot_be_looked_at_has_room),
    };
    log_init(LOG_LEVEL_INFO);
    disk_faults_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
