// One received MQTT message, who holds it, and how it ends.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/books.h"
#include "core/budget.h"

// What a source is to a message: where the verdict goes. Embedded in the subscriber, the broker,
// the spool, a replay.
struct message;
struct message_source {
    const char *name; // of the source, as the configuration has it
    struct books books;
    // Called once per message when its last holder lets go; the message is freed when it returns.
    void (*settled)(struct message_source *source, struct message *message);
};

// MQTT 5 properties of a PUBLISH, independent of the wire.
enum message_property_kind {
    MESSAGE_USER_PROPERTY,
    MESSAGE_CONTENT_TYPE,
    MESSAGE_RESPONSE_TOPIC,
    MESSAGE_CORRELATION_DATA, // bytes, not text
    MESSAGE_PAYLOAD_FORMAT,   // value is "0" or "1"
    MESSAGE_EXPIRY,           // value is decimal seconds
};

struct message_property {
    enum message_property_kind kind;
    uint32_t name_length, value_length;
    const char *name; // of a user property, else NULL
    const char *value;
};

// Where a message that comes for the second time is kept: its entry goes in the transaction of its
// rows.
enum message_entry { MESSAGE_NO_ENTRY, MESSAGE_OF_SPOOL, MESSAGE_OF_REJECTS };

struct message {
    struct message_source *source;
    struct budget *budget;
    uint64_t number;     // in order of arrival, from 1: no two have the same
    int64_t entry;       // identifier of what it is kept as; see entry_kind
    const char *origin;  // name of the source that it came by first; that of source for most
    const char *only;    // NULL: any mapping may take it; else their names, each with a newline
    const char *writer;  // of the reject that it was: who rejected it, NULL where it has none
    uint64_t ticket;     // the source's own: which of its window's entries this is
    uint64_t generation; // the source's own: which connection it came by
    // QoS 2 of a session that outlives the daemon: stored with the rows, so that a repetition is
    // known. 0: there is none.
    uint64_t session;
    uint64_t content; // stored with it: a hash that tells contents apart, or 0. With it a message
                      // is a repetition only if it is the same, and was sent again
    uint16_t packet_id;
    int64_t received_us; // arrival, microseconds since 1970
    const char *topic;   // not NUL-terminated, like all of the following
    const uint8_t *payload;
    // NULL, or why it is to be rejected as a whole: static text, and a copy of more text.
    const char *flaw, *flaw_detail;
    const char *client_id; // of the publisher; NULL where the source cannot know it
    const struct message_property *properties;
    // Identifiers the broker sent with it; none: it may match any mapping.
    const uint32_t *subscriptions;
    size_t payload_length; // bytes that are here
    uint64_t full_length;  // bytes that were sent: more than payload_length if oversize
    uint32_t topic_length, client_id_length;
    uint32_t property_count, subscription_count;
    uint8_t qos;
    bool dup, retain;
    bool resent;        // its sender may have sent it before: it says so, or so does the order
    uint8_t entry_kind; // enum message_entry
    // From here on: the verdict so far, and who has not let go yet.
    uint8_t verdict; // enum verdict
    uint32_t holders;
    const char *reason; // static text, where the verdict has one
    size_t charged;     // bytes of the budget
};

// What a source knows of a message; message_new copies all of it into one piece of memory.
struct message_parts {
    const char *topic, *client_id;
    const char *origin, *only, *writer; // NULL, or as in struct message
    int64_t received_us;                // 0: now
    int64_t entry;
    const void *payload;
    const struct message_property *properties;
    const uint32_t *subscriptions;
    const char *flaw, *flaw_detail; // NULL, or static text and more text
    uint32_t topic_length, client_id_length;
    uint32_t property_count, subscription_count;
    size_t payload_length;
    uint64_t full_length;
    uint8_t qos, entry_kind;
    bool dup, retain;
};

// A message held once, by the caller; counted as received and charged to the budget (not NULL).
struct message *message_new(struct message_source *source, struct budget *budget,
                            const struct message_parts *parts);

static inline void message_hold(struct message *message)
{
    message->holders++;
}

// Lets go with the outcome of the holder's part; VERDICT_NONE says nothing. The weightiest verdict
// of all holders counts: ABANDONED, REJECTED, SPOOLED, STORED, DEDUPLICATED, DROPPED, SKIPPED.
// reason is static text. With the last holder the source hears of it and the message is gone.
void message_release(struct message *message, enum verdict verdict, const char *reason);
