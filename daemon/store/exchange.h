// QoS 2 identifiers that are stored in the transaction of the rows (sensorlog.exchange): whether
// the rows of a repeated PUBLISH exist is then known for certain.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"

struct message;
struct writer;

// True once the identifiers of this writer's sessions are loaded, after all transactions of earlier
// epochs have ended, or while messages go into the spool's file; loaded(arg) is called from the
// loop when either comes true.
bool writer_exchanges_known(const struct writer *writer);
void writer_on_exchanges(struct writer *writer, loop_fn *loaded, void *arg);
// Whether a message with this identifier has been stored, or is in the spool's file, and has not
// been forgotten.
bool writer_exchange_stored(const struct writer *writer, uint64_t session, uint16_t packet_id);
// The same, and also true where that cannot be told yet: then it is to be forgotten in any case.
bool writer_exchange_may_be_stored(const struct writer *writer, uint64_t session,
                                   uint16_t packet_id);
// The same for this message, which has a session: whether it repeats what was stored; see content
// in core/message.h.
bool writer_message_stored(const struct writer *writer, const struct message *message);
// Whether that cannot be told yet: what PostgreSQL has is not loaded, and the file does not say.
bool writer_message_unsure(const struct writer *writer, const struct message *message);
// Removes it with the next transaction; forgotten(arg, session, packet_id) follows its commit.
// Without a database it waits, until messages go into the spool's file: then that says so.
typedef void exchange_fn(void *arg, uint64_t session, uint16_t packet_id);
void writer_exchange_forget(struct writer *writer, uint64_t session, uint16_t packet_id);
void writer_on_forgotten(struct writer *writer, exchange_fn *forgotten, void *arg);
// Forgets whole sessions that no longer are, when convenient; nobody is told.
void writer_session_forget(struct writer *writer, uint64_t session);
// The same for all sessions that are stored and of which lives says false.
typedef bool exchange_session_fn(void *arg, uint64_t session);
void writer_sessions_keep(struct writer *writer, exchange_session_fn *lives, void *arg);
