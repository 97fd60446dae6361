// Any bytes as the columns of an entry of the spool: it becomes a message, whatever they are, and
// what has no flaw is written as it was read.
#include <stdlib.h>
#include <string.h>

#include "spool/spool_record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

static void settled(struct message_source *source, struct message *message)
{
    (void)source;
    (void)message;
}

// A byte says which columns are NULL and what the lengths of the others are like.
static void take_fields(struct bytes_reader *r, struct spool_record *record)
{
    for (size_t i = 0; i < SPOOL_FIELDS - 1; i++) {
        size_t length = bytes_read_u8(r);
        if (length == 255)
            continue;
        if (i == SPOOL_PROPERTIES)
            length *= 4;
        record->fields[i] = bytes_read(r, length < bytes_left(r) ? length : bytes_left(r));
    }
    record->fields[SPOOL_PAYLOAD] = bytes_read(r, bytes_left(r));
}

static void check_written(const struct spool_record *record, const struct message *message)
{
    struct spool_record again;
    spool_record_of(&again, message, NULL, record->flags & 16);
    uint8_t *memory = malloc(spool_record_size(&again) + 1);
    spool_record_copy(&again, message, memory);
    check(again.flags == record->flags && again.cost > 0);
    check(bytes_equal(again.fields[SPOOL_TOPIC], record->fields[SPOOL_TOPIC]));
    check(bytes_equal(again.fields[SPOOL_PAYLOAD], record->fields[SPOOL_PAYLOAD]));
    struct arena arena;
    struct spool_entry entry;
    arena_init(&arena);
    again.number = record->number;
    spool_record_read(&again, &arena, &entry);
    check(entry.parts.property_count == message->property_count);
    arena_fini(&arena);
    free(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct message_source source = {.name = "spool", .settled = settled};
    static struct budget budget = {.limit = SIZE_MAX};
    struct bytes_reader r = bytes_reader((struct bytes){data, size});
    struct spool_record record = {.number = 1, .received_us = 1, .flags = bytes_read_u8(&r)};
    take_fields(&r, &record);
    struct arena arena;
    struct spool_entry entry;
    arena_init(&arena);
    spool_record_read(&record, &arena, &entry);
    struct message *message = message_new(&source, &budget, &entry.parts);
    if (!message->flaw)
        check_written(&record, message);
    message_release(message, VERDICT_STORED, NULL);
    arena_fini(&arena);
    return 0;
}
