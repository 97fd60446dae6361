// Calendar arithmetic of partitions; the C library knows the calendar.
#include "store/partition.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { FIRST_YEAR = 1000, LAST_YEAR = 9998 }; // four digits, with the end of the last period

static const int64_t SECOND_US = 1000000;

// The UTC calendar of a time, and the microseconds within its second; false where the year has no
// four digits.
static bool break_down(int64_t time_us, struct tm *tm, int *microseconds)
{
    time_t clock = (time_t)(time_us / SECOND_US);
    *microseconds = (int)(time_us % SECOND_US);
    if (*microseconds < 0) { // the second is the one before, not the nearer to 1970
        *microseconds += (int)SECOND_US;
        clock--;
    }
    return gmtime_r(&clock, tm) && tm->tm_year + 1900 >= FIRST_YEAR &&
           tm->tm_year + 1900 <= LAST_YEAR + 1;
}

static int64_t to_us(struct tm *tm)
{
    return (int64_t)timegm(tm) * SECOND_US;
}

bool partition_range_of(enum partition_by by, int64_t time_us, struct partition_range *range)
{
    struct tm from;
    int microseconds;
    if (!break_down(time_us, &from, &microseconds) || from.tm_year + 1900 > LAST_YEAR)
        return false;
    from.tm_hour = from.tm_min = from.tm_sec = 0;
    if (by == PARTITION_WEEK)
        from.tm_mday -= (from.tm_wday + 6) % 7; // Monday; timegm carries what is out of range
    if (by == PARTITION_MONTH || by == PARTITION_YEAR)
        from.tm_mday = 1;
    if (by == PARTITION_YEAR)
        from.tm_mon = 0;
    struct tm to = from;
    switch (by) {
    case PARTITION_DAY:
        to.tm_mday += 1;
        break;
    case PARTITION_WEEK:
        to.tm_mday += 7;
        break;
    case PARTITION_MONTH:
        to.tm_mon += 1;
        break;
    case PARTITION_YEAR:
        to.tm_year += 1;
        break;
    }
    *range = (struct partition_range){.from = to_us(&from), .to = to_us(&to)};
    return from.tm_year + 1900 >= FIRST_YEAR; // a week may begin in the year before
}

// FNV-1a, to tell cut names apart.
static uint32_t checksum(const char *text)
{
    uint32_t sum = 2166136261u;
    for (; *text; text++)
        sum = (sum ^ (unsigned char)*text) * 16777619u;
    return sum;
}

static void join(char name[PARTITION_NAME_SIZE], const char *table, const char *suffix)
{
    char mark[16] = ""; // tells tables apart whose names are cut to the same
    size_t length = strlen(table), room = PARTITION_NAME_SIZE - 1 - strlen(suffix);
    if (length > room) {
        snprintf(mark, sizeof mark, "_%08x", checksum(table));
        length = room - strlen(mark);
        while (length > 0 && ((unsigned char)table[length] & 0xC0) == 0x80)
            length--; // not within a character
    }
    memcpy(name, table, length);
    char *end = stpcpy(name + length, mark);
    strcpy(end, suffix);
}

void partition_name(char name[PARTITION_NAME_SIZE], const char *table, enum partition_by by,
                    int64_t from_us)
{
    struct tm tm = {0};
    int microseconds;
    char suffix[32] = "";
    break_down(from_us, &tm, &microseconds);
    switch (by) {
    case PARTITION_DAY:
        strftime(suffix, sizeof suffix, "_p%Y_%m_%d", &tm);
        break;
    case PARTITION_WEEK:
        strftime(suffix, sizeof suffix, "_p%Gw%V", &tm);
        break;
    case PARTITION_MONTH:
        strftime(suffix, sizeof suffix, "_p%Y_%m", &tm);
        break;
    case PARTITION_YEAR:
        strftime(suffix, sizeof suffix, "_p%Y", &tm);
        break;
    }
    join(name, table, suffix);
}

void partition_name_exact(char name[PARTITION_NAME_SIZE], const char *table, int64_t from_us)
{
    struct tm tm = {0};
    int microseconds;
    char suffix[40] = "";
    if (break_down(from_us, &tm, &microseconds)) {
        size_t length = strftime(suffix, sizeof suffix, "_p%Y%m%d_%H%M%S", &tm);
        if (microseconds != 0)
            snprintf(suffix + length, sizeof suffix - length, "_%06d", microseconds);
    }
    join(name, table, suffix);
}

void partition_bound(char text[PARTITION_BOUND_SIZE], int64_t time_us)
{
    struct tm tm = {0};
    int microseconds;
    text[0] = '\0';
    if (!break_down(time_us, &tm, &microseconds))
        return;
    size_t length = strftime(text, PARTITION_BOUND_SIZE, "%Y-%m-%d %H:%M:%S", &tm);
    snprintf(text + length, PARTITION_BOUND_SIZE - length, ".%06d+00", microseconds);
}
