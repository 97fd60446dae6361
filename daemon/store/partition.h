// Partitions by day, ISO week, month or year, in UTC: pure calendar arithmetic.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "store/target.h"

enum {
    PARTITION_NAME_SIZE = 64,
    PARTITION_BOUND_SIZE = 40
}; // with NUL; PostgreSQL's names have 63 bytes

// Microseconds since 1970; from <= time < to.
struct partition_range {
    int64_t from, to;
};

// The period that the time falls into. False outside the years 1000 to 9998: those have no
// partitions.
bool partition_range_of(enum partition_by by, int64_t time_us, struct partition_range *range);
// TABLE_p2026_11_23, TABLE_p2026w47, TABLE_p2026_11 or TABLE_p2026 for the period that begins at
// from_us. The table's part is cut, with a checksum of all of it, where the name would be too long.
void partition_name(char name[PARTITION_NAME_SIZE], const char *table, enum partition_by by,
                    int64_t from_us);
// TABLE_p20261123_101500 for a range that is no whole period, or whose name is taken.
void partition_name_exact(char name[PARTITION_NAME_SIZE], const char *table, int64_t from_us);
// The time as PostgreSQL reads it whatever its settings: "2026-11-23 10:15:00.000000+00".
void partition_bound(char text[PARTITION_BOUND_SIZE], int64_t time_us);
