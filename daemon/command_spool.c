// sensorlogd spool: what is in the spool's file, while the daemon runs or not.
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "commands.h"
#include "conf/scalar.h"
#include "configuration.h"
#include "spool/spool_look.h"

enum { GROUPS_MAX = 30, LEVELS = 2, TOPIC_SHOWN = 120, PAYLOAD_SHOWN = 60 };

// Messages of one origin whose topics begin alike.
struct group {
    char *origin, *prefix;
    uint64_t count;
};

struct sum {
    uint64_t count, bytes;
    int64_t first, first_us, last, last_us;
    struct group groups[GROUPS_MAX];
    size_t group_count;
    uint64_t others; // messages of further groups
    uint64_t left;   // to list
};

// ---- texts ----

static void print_time(int64_t us)
{
    time_t seconds = (time_t)(us / 1000000);
    struct tm tm;
    char text[40];
    gmtime_r(&seconds, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    printf("%s.%03" PRId64 "Z", text, us % 1000000 / 1000);
}

// A terminal takes control characters, those of two bytes (C1) too, for orders.
static void print_safely(const char *text, size_t length, size_t shown)
{
    size_t end = length < shown ? length : shown;
    while (end < length && end > 0 && ((unsigned char)text[end] & 0xC0) == 0x80)
        end--; // not within a character
    bool is_text = utf8_valid(text, end);
    for (size_t i = 0; i < end; i++) {
        unsigned char c = (unsigned char)text[i];
        bool c1 = c == 0xC2 && i + 1 < end && (unsigned char)text[i + 1] < 0xA0;
        if (c < 0x20 || c == 0x7F || (c >= 0x80 && !is_text))
            printf("\\x%02x", c);
        else if (c1)
            printf("\\xc2\\x%02x", (unsigned char)text[++i]);
        else if (c == '\\')
            fputs("\\\\", stdout);
        else
            putchar(c);
    }
    if (end < length)
        printf("... (%zu bytes)", length);
}

// ---- the entries ----

static size_t prefix_length(const struct message_parts *parts)
{
    size_t levels = 0;
    for (size_t i = 0; i < parts->topic_length; i++)
        if (parts->topic[i] == '/' && ++levels == LEVELS)
            return i + 1;
    return parts->topic_length;
}

static bool is_of(const struct group *group, const char *origin, const char *prefix, size_t length)
{
    return strcmp(group->origin, origin) == 0 && strlen(group->prefix) == length &&
           memcmp(group->prefix, prefix, length) == 0;
}

static void count_group(struct sum *sum, const struct message_parts *parts)
{
    const char *origin = parts->origin ? parts->origin : "";
    size_t length = prefix_length(parts), i = 0;
    while (i < sum->group_count && !is_of(&sum->groups[i], origin, parts->topic, length))
        i++;
    if (i == GROUPS_MAX) {
        sum->others++;
        return;
    }
    if (i == sum->group_count)
        sum->groups[sum->group_count++] =
            (struct group){mem_strdup(origin), mem_strndup(parts->topic, length), 0};
    sum->groups[i].count++;
}

static bool count_entry(void *arg, const struct spool_entry *entry, int64_t cost)
{
    struct sum *sum = arg;
    if (sum->count++ == 0) {
        sum->first = entry->number;
        sum->first_us = entry->parts.received_us;
    }
    sum->last = entry->number;
    sum->last_us = entry->parts.received_us;
    sum->bytes += (uint64_t)cost;
    count_group(sum, &entry->parts);
    return true;
}

static bool print_entry(void *arg, const struct spool_entry *entry, int64_t cost)
{
    (void)cost;
    struct sum *sum = arg;
    const struct message_parts *parts = &entry->parts;
    if (sum->left == 0)
        return false;
    sum->left--;
    printf("%" PRId64 "  ", entry->number);
    print_time(parts->received_us);
    printf("  %s  ", parts->origin ? parts->origin : "");
    print_safely(parts->topic, parts->topic_length, TOPIC_SHOWN);
    fputs("  ", stdout);
    print_safely(parts->payload ? parts->payload : "", parts->payload_length, PAYLOAD_SHOWN);
    if (parts->flaw)
        printf("  [%s]", parts->flaw);
    putchar('\n');
    return true;
}

// ---- the summary ----

static void print_end(const char *what, int64_t number, int64_t us)
{
    printf("%s number %" PRId64 ", of ", what, number);
    print_time(us);
    putchar('\n');
}

static void print_groups(const struct sum *sum)
{
    puts("\n    messages  origin            topics");
    for (size_t i = 0; i < sum->group_count; i++) {
        const struct group *group = &sum->groups[i];
        size_t length = strlen(group->prefix);
        printf("%12" PRIu64 "  %-16s  ", group->count, group->origin);
        print_safely(group->prefix, length, TOPIC_SHOWN);
        puts(length > 0 && group->prefix[length - 1] == '/' ? "#" : "");
    }
    if (sum->others > 0)
        printf("%12" PRIu64 "  others\n", sum->others);
}

static void print_sum(const struct settings *settings, const struct spool_look_totals *totals,
                      const struct sum *sum)
{
    const double mib = 1 << 20;
    printf("file:               %s\n", settings->spool.file);
    printf("identifier:         %s\n", totals->id);
    printf("in use:             %s\n", totals->in_use ? "yes, a daemon has it" : "no");
    printf("messages:           %" PRIu64 ", %.1f of %.1f MiB\n", sum->count,
           (double)sum->bytes / mib, (double)settings->spool.max_bytes / mib);
    if (sum->count > 0) {
        print_end("oldest:            ", sum->first, sum->first_us);
        print_end("newest:            ", sum->last, sum->last_us);
    }
    printf("in doubt:           %" PRIu64 " transactions, which may have been committed\n",
           totals->doubts);
    printf("QoS 2 identifiers:  %" PRIu64 " stored, %" PRIu64 " ended\n", totals->stored,
           totals->voids);
    if (sum->group_count > 0)
        print_groups(sum);
    if (!settings->spool.outage && sum->count > 0)
        puts("\nThese messages were acknowledged and are not stored yet. [spool] mode is off: "
             "sensorlogd run stores them first, and then does without a spool.");
}

static bool look_into(struct spool_look *look, const struct settings *settings, uint64_t list,
                      char **error)
{
    struct spool_look_totals totals;
    struct sum sum = {.left = list};
    bool ok = spool_look_totals(look, &totals, error) &&
              spool_look_entries(look, count_entry, &sum, error);
    if (ok)
        print_sum(settings, &totals, &sum);
    if (ok && list > 0 && sum.count > 0) {
        putchar('\n');
        ok = spool_look_entries(look, print_entry, &sum, error);
    }
    for (size_t i = 0; i < sum.group_count; i++) {
        free(sum.groups[i].origin);
        free(sum.groups[i].prefix);
    }
    return ok;
}

static int show(const struct settings *settings, uint64_t list)
{
    const char *path = settings->spool.file;
    if (!path || (access(path, F_OK) != 0 && errno == ENOENT)) {
        if (settings->spool.outage)
            printf("no messages: there is no file %s yet\n", path);
        else
            puts("no messages: [spool] mode is off");
        return EXIT_SUCCESS;
    }
    char *error = NULL;
    struct spool_look *look = spool_look_open(path, &error);
    bool ok = look && look_into(look, settings, list, &error);
    spool_look_close(look);
    if (!ok)
        fprintf(stderr, "sensorlogd: %s\n", error);
    free(error);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

int command_spool(const struct arguments *arguments)
{
    int64_t list = 0;
    if (arguments->list && !scalar_number(arguments->list, &list)) {
        fprintf(stderr, "sensorlogd: --list: '%s' is no number of messages\n", arguments->list);
        return EXIT_USAGE;
    }
    struct configuration configuration;
    int status = EXIT_CONFIGURATION;
    if (configuration_must_load(&configuration, arguments->config))
        status = show(&configuration.settings, (uint64_t)list);
    configuration_fini(&configuration);
    return status;
}
