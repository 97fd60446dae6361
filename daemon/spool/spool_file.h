// The spool's file: messages that are durable on the local disk until PostgreSQL has them.
//
// Entries have numbers that rise from 1, never again the same in one file. All calls are the
// loop's; SQLite works on the disk's thread, in the order of the calls. What is put waits in memory
// until it is durable, and is not counted there: callers hold its message, and so its budget, until
// then.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"
#include "core/message.h"

struct spool_file;

struct spool_file_options {
    const char *path;
    uint64_t max_bytes; // of entries
    bool drop_oldest;   // when they are reached: the oldest go, else there is no more room; what
                        // finds none may come again when some were dropped
};

// One entry as it is read: all that message_new needs. Valid during the call.
struct spool_entry {
    int64_t number;
    struct message_parts parts; // with origin, only, received_us, entry and entry_kind
    uint64_t session, content;  // of QoS 2, or 0; as in struct message
    uint16_t packet_id;
    bool unsure; // its identifier may have been stored before: PostgreSQL knows
};

// A transaction of which it is not known whether it has committed, and whose messages are entries.
struct spool_doubt {
    int64_t id; // from 1
    char *writer;
    int64_t epoch, seq;
    unsigned lane;
};

struct spool_file_calls {
    // Entries through this number are durable.
    void (*durable)(void *arg, int64_t number);
    // So many of the oldest were dropped, for want of room.
    void (*dropped)(void *arg, uint64_t count);
    void *arg;
};

// Opens, or creates, the file, and keeps a second daemon out; reads all of it once. NULL with
// *error, which the caller frees, as disk_open.
struct spool_file *spool_file_open(struct loop *loop, const struct spool_file_options *options,
                                   const struct spool_file_calls *calls, char **error);
// Waits, at most a second, until what was put is durable; calls nothing any more.
void spool_file_close(struct spool_file *file);
// At random: what PostgreSQL knows the file by. Valid until it is renewed.
const char *spool_file_id(const struct spool_file *file);
// Another identity, durable before what is put from now on; without effect unless the file is
// empty. What was copied while it was empty is another spool then.
void spool_file_renew(struct spool_file *file);

// Appends the message, which is copied; with only (NULL: as the message has it) instead of its own,
// as of the doubt (0: none), its QoS 2 identifier, if it has one, stored with it. The entry's
// number, or 0 where there is no room.
int64_t spool_file_put(struct spool_file *file, const struct message *message, const char *only,
                       int64_t doubt, bool unsure);
// Whether the message would find room. In an empty file every one does.
bool spool_file_has_room(const struct spool_file *file, const struct message *message);

// Reads entries after a number, in order, until there are count of them or bytes of payload and
// topic, but one at least; calls entry for each, then read. What was put before is among them, but
// for what the disk does not take: where there is nothing else, the reading waits until it does.
// From the loop, not from within this call; one reading at a time. What has been read is not
// dropped for want of room.
struct spool_file_reading {
    void (*entry)(void *arg, const struct spool_entry *entry);
    void (*read)(void *arg, bool all); // all: there is nothing after them
    void *arg;
};
void spool_file_read(struct spool_file *file, int64_t after, size_t count, size_t bytes,
                     const struct spool_file_reading *reading);
// The reading that is under way, if any, calls nothing any more; another one may begin.
void spool_file_read_no_more(struct spool_file *file);
// Entries through number are stored elsewhere and go, thousands at a time; later ones get numbers
// after it.
void spool_file_delete(struct spool_file *file, int64_t through);

// ---- transactions in doubt ----

// The doubt's id; writer is copied. It is durable with the first entry that is put for it.
int64_t spool_file_doubt(struct spool_file *file, const char *writer, int64_t epoch, unsigned lane,
                         int64_t seq);
// Those that are not resolved, oldest first; until the next call that changes them.
size_t spool_file_doubts(const struct spool_file *file, const struct spool_doubt **doubts);
// committed: its entries go, they are stored. Else they stay, as entries like others. How many
// entries it had.
uint64_t spool_file_resolve(struct spool_file *file, int64_t doubt, bool committed);

// ---- QoS 2 identifiers ----

// What the file says of an identifier: its message is, or was, an entry; or PostgreSQL's record of
// it is void, because the exchange ended while PostgreSQL was away.
enum spool_exchange { SPOOL_EXCHANGE_UNKNOWN, SPOOL_EXCHANGE_STORED, SPOOL_EXCHANGE_VOID };

enum spool_exchange spool_file_exchange(const struct spool_file *file, uint64_t session,
                                        uint16_t packet_id);
// The content, as of struct message, that an identifier that is stored was put with; 0: unknown.
uint64_t spool_file_exchange_content(const struct spool_file *file, uint64_t session,
                                     uint16_t packet_id);
// Sets what it says; done(arg), unless NULL, is called from the loop when that is durable.
// SPOOL_EXCHANGE_UNKNOWN removes it.
void spool_file_set_exchange(struct spool_file *file, uint64_t session, uint16_t packet_id,
                             enum spool_exchange what, loop_fn *done, void *arg);
// All of which the file says something; fn may set those that it is called for.
typedef void spool_exchange_fn(void *arg, uint64_t session, uint16_t packet_id,
                               enum spool_exchange what);
void spool_file_each_exchange(const struct spool_file *file, spool_exchange_fn *fn, void *arg);

// ---- what is in it ----

struct spool_file_status {
    uint64_t count, bytes, max_bytes; // entries, and what of max_bytes they take; the disk may have
                                      // less room than the options say
    int64_t first, last;              // their numbers; 0 where there are none
    int64_t oldest_us;                // when the first came, microseconds since 1970; 0
    uint64_t dropped;                 // since it was opened
    bool failing;                     // the disk is full or broken: tried again and again
    bool unwritable, unreadable;      // what is put, or what is read, waits for that
    const char *error;                // why; valid until the next call
};
void spool_file_status(const struct spool_file *file, struct spool_file_status *status);
