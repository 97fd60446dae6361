// An entry of the spool as the file has it: what a message is made of, in columns.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "core/message.h"
#include "spool/spool_file.h"

enum spool_field {
    SPOOL_ORIGIN,
    SPOOL_ONLY,
    SPOOL_TOPIC,
    SPOOL_CLIENT_ID,
    SPOOL_FLAW,
    SPOOL_FLAW_DETAIL,
    SPOOL_PROPERTIES, // encoded
    SPOOL_PAYLOAD,
    SPOOL_FIELDS
};

struct spool_record {
    int64_t number, cost, received_us;
    int64_t doubt;             // 0: none
    uint64_t session, content; // of QoS 2, or 0
    uint64_t full_length;
    uint64_t flags; // QoS, DUP, RETAIN, unsure
    uint64_t packet_id;
    struct bytes fields[SPOOL_FIELDS]; // without data: NULL
};

// What the message's record has beside number and doubt; the fields point into the message, but the
// properties are only as long as they will be. only: NULL, or instead of the message's.
void spool_record_of(struct spool_record *record, const struct message *message, const char *only,
                     bool unsure);
size_t spool_record_size(const struct spool_record *record); // of all fields
// Moves the fields to memory of that size, and encodes the properties there.
void spool_record_copy(struct spool_record *record, const struct message *message, uint8_t *memory);
// All fields again: into entry, which points into them and the arena. They may be any bytes: where
// no daemon can have written them, the entry has a flaw, whose detail names the columns, and what
// PostgreSQL would refuse is left out, a topic escaped, a time 0.
void spool_record_read(const struct spool_record *record, struct arena *arena,
                       struct spool_entry *entry);
