// A spool's file in a directory of its own, messages for it, and what it tells.
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/mem.h"
#include "core/message.h"
#include "disk_faults.h"
#include "spool/spool_file.h"

enum { READ_MAX = 8192 };

struct rig {
    struct loop *loop;
    struct spool_file *file;
    struct message_source source;
    struct budget budget;
    char directory[40], path[64];
    uint64_t max_bytes;
    bool drop_oldest;
    int64_t durable, wanted; // entries: told, and waited for
    unsigned told, unsynced; // how often; while something was not synced
    uint64_t dropped, wanted_dropped;
    struct message *read[READ_MAX];       // of the source, as they came
    struct spool_entry entries[READ_MAX]; // whose parts are gone
    size_t read_count;
    bool reading, all;
    unsigned done; // of exchanges
};

static inline void note_settled(struct message_source *source, struct message *message)
{
    (void)source;
    (void)message;
}

static inline void note_durable(void *arg, int64_t number)
{
    struct rig *rig = arg;
    assert_true(number > rig->durable);
    rig->durable = number;
    rig->told++;
    rig->unsynced += disk_faults.unsynced;
    if (rig->wanted > 0 && number >= rig->wanted)
        loop_stop(rig->loop);
}

static inline void note_dropped(void *arg, uint64_t count)
{
    struct rig *rig = arg;
    rig->dropped += count;
    if (rig->wanted_dropped > 0 && rig->dropped >= rig->wanted_dropped)
        loop_stop(rig->loop);
}

static inline int setup(void **state)
{
    static struct rig rig;
    rig = (struct rig){.loop = loop_new(), .max_bytes = 64 << 20, .budget.limit = 1 << 30};
    rig.source = (struct message_source){.name = "spool", .settled = note_settled};
    strcpy(rig.directory, "/tmp/test_spool_file.XXXXXX");
    assert_non_null(mkdtemp(rig.directory));
    snprintf(rig.path, sizeof rig.path, "%s/spool.db", rig.directory);
    disk_faults_clear();
    *state = &rig;
    return 0;
}

static inline void forget_read(struct rig *rig)
{
    for (size_t i = 0; i < rig->read_count; i++)
        message_release(rig->read[i], VERDICT_STORED, NULL);
    rig->read_count = 0;
}

static inline int teardown(void **state)
{
    struct rig *rig = *state;
    disk_faults_clear();
    spool_file_close(rig->file);
    forget_read(rig);
    loop_free(rig->loop);
    char *command = mem_printf("rm -rf '%s'", rig->directory);
    assert_int_equal(system(command), 0);
    free(command);
    return 0;
}

static inline struct spool_file *try_open(struct rig *rig, char **error)
{
    const struct spool_file_options options = {rig->path, rig->max_bytes, rig->drop_oldest};
    const struct spool_file_calls calls = {note_durable, note_dropped, rig};
    return spool_file_open(rig->loop, &options, &calls, error);
}

static inline void open_file(struct rig *rig)
{
    char *error = NULL;
    rig->file = try_open(rig, &error);
    if (!rig->file)
        fail_msg("%s", error);
}

static inline void close_file(struct rig *rig)
{
    spool_file_close(rig->file);
    rig->file = NULL;
}

static inline void open_again(struct rig *rig)
{
    close_file(rig);
    open_file(rig);
}

// ---- messages ----

static inline struct message *new_message(struct rig *rig, const struct message_parts *parts)
{
    return message_new(&rig->source, &rig->budget, parts);
}

static inline struct message *small_message(struct rig *rig, int64_t value, size_t length)
{
    char *payload = mem_zalloc(length + 32);
    int digits = snprintf(payload, 32, "%lld", (long long)value);
    memset(payload + digits, ' ', length + 32 - (size_t)digits);
    if (length < (size_t)digits)
        length = (size_t)digits;
    const struct message_parts parts = {.topic = "sensors/altimeter/1",
                                        .topic_length = 19,
                                        .payload = payload,
                                        .payload_length = length,
                                        .full_length = length,
                                        .origin = "site",
                                        .qos = 1,
                                        .received_us = 1000000 + value};
    struct message *message = new_message(rig, &parts);
    free(payload);
    return message;
}

static inline int64_t put_sized(struct rig *rig, int64_t value, size_t length, int64_t doubt)
{
    struct message *message = small_message(rig, value, length);
    int64_t number = spool_file_put(rig->file, message, NULL, doubt, false);
    message_release(message, VERDICT_SPOOLED, NULL);
    return number;
}

static inline int64_t put(struct rig *rig, int64_t value)
{
    return put_sized(rig, value, 10, 0);
}

static inline void wait_durable(struct rig *rig, int64_t number)
{
    rig->wanted = number;
    if (rig->durable < number)
        loop_run(rig->loop);
    rig->wanted = 0;
}

// ---- reading ----

static inline void note_entry(void *arg, const struct spool_entry *entry)
{
    struct rig *rig = arg;
    assert_true(rig->read_count < READ_MAX);
    rig->entries[rig->read_count] = *entry;
    rig->read[rig->read_count++] = new_message(rig, &entry->parts);
}

static inline void note_read(void *arg, bool all)
{
    struct rig *rig = arg;
    rig->reading = false;
    rig->all = all;
    loop_stop(rig->loop);
}

static inline void begin_read(struct rig *rig, int64_t after, size_t count, size_t bytes)
{
    const struct spool_file_reading reading = {note_entry, note_read, rig};
    forget_read(rig);
    rig->reading = true;
    spool_file_read(rig->file, after, count, bytes, &reading);
}

static inline void read_after(struct rig *rig, int64_t after, size_t count, size_t bytes)
{
    begin_read(rig, after, count, bytes);
    while (rig->reading)
        loop_run(rig->loop);
}

static inline void read_all(struct rig *rig)
{
    read_after(rig, 0, READ_MAX, SIZE_MAX);
    assert_true(rig->all);
}

static inline int64_t value_of(const struct message *message)
{
    char text[32] = "";
    memcpy(text, message->payload, message->payload_length < 31 ? message->payload_length : 31);
    return atoll(text);
}

// Waits until all that was submitted has been done.
static inline void settle(struct rig *rig)
{
    read_after(rig, INT64_MAX - 1, 1, 1);
}

static inline struct spool_file_status status_of(struct rig *rig)
{
    struct spool_file_status status;
    spool_file_status(rig->file, &status);
    return status;
}

static inline int64_t size_of(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 ? status.st_size : 0;
}
