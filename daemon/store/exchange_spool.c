// QoS 2 identifiers while the spool takes what PostgreSQL cannot. What the spool's file says of an
// identifier is later than what PostgreSQL has of it, and goes before that.
#include <stdlib.h>

#include "base/mem.h"
#include "spool/spool_file.h"
#include "store/exchange_internal.h"
#include "store/writer_internal.h"

// What goes on when the file's word on an identifier is durable.
struct file_wait {
    struct list node;
    struct writer *writer;
    uint64_t session;
    uint16_t packet_id;
    bool told;
};

static struct file_wait *wait_new(struct writer *writer, uint64_t session, uint16_t packet_id,
                                  bool told)
{
    struct file_wait *wait = mem_zalloc(sizeof *wait);
    *wait = (struct file_wait){.writer = writer,
                               .session = session,
                               .packet_id = packet_id,
                               .told = told};
    list_append(&writer->exchanges->waits, &wait->node);
    return wait;
}

static struct file_wait wait_end(void *arg)
{
    struct file_wait *wait = arg, ended = *wait;
    list_remove(&wait->node);
    free(wait);
    return ended;
}

static void void_durable(void *arg)
{
    struct file_wait wait = wait_end(arg);
    const struct exchanges *exchanges = wait.writer->exchanges;
    if (wait.told && exchanges->forgotten)
        exchanges->forgotten(exchanges->forgotten_arg, wait.session, wait.packet_id);
}

static void make_void(struct writer *writer, uint64_t session, uint16_t packet_id, bool told)
{
    spool_file_set_exchange(writer->spool_file, session, packet_id, SPOOL_EXCHANGE_VOID,
                            void_durable, wait_new(writer, session, packet_id, told));
}

static void unknown_durable(void *arg)
{
    struct file_wait wait = wait_end(arg);
    exchanges_forget(wait.writer, wait.session, wait.packet_id, wait.told);
}

bool exchanges_forget_in_file(struct writer *writer, uint64_t session, uint16_t packet_id,
                              bool told)
{
    if (writer->keeps) {
        make_void(writer, session, packet_id, told);
        return true;
    }
    if (!writer->spool_file ||
        spool_file_exchange(writer->spool_file, session, packet_id) == SPOOL_EXCHANGE_UNKNOWN)
        return false;
    // Its message came by the spool, so PostgreSQL has it too.
    spool_file_set_exchange(writer->spool_file, session, packet_id, SPOOL_EXCHANGE_UNKNOWN,
                            unknown_durable, wait_new(writer, session, packet_id, told));
    return true;
}

void exchanges_free_waits(struct exchanges *exchanges)
{
    for (struct list *node; (node = list_take(&exchanges->waits));)
        free(list_entry(node, struct file_wait, node));
}

// ---- what is stored ----

// What comes again has the same content, where that is known, and from a broker, of which the
// content is known, was sent again.
static bool repeats(const struct message *message, uint64_t content)
{
    if (message->content == 0)
        return true;
    return message->resent && (content == message->content || content == 0);
}

bool exchanges_in_database(const struct writer *writer, const struct message *message)
{
    const struct exchange_id *id =
        exchange_set_find(&writer->exchanges->stored, message->session, message->packet_id);
    return id && repeats(message, id->content);
}

static enum spool_exchange file_says(const struct writer *writer, uint64_t session,
                                     uint16_t packet_id)
{
    return writer->spool_file ? spool_file_exchange(writer->spool_file, session, packet_id)
                              : SPOOL_EXCHANGE_UNKNOWN;
}

bool writer_exchange_stored(const struct writer *writer, uint64_t session, uint16_t packet_id)
{
    enum spool_exchange says = file_says(writer, session, packet_id);
    return says == SPOOL_EXCHANGE_STORED ||
           (says == SPOOL_EXCHANGE_UNKNOWN &&
            exchange_set_has(&writer->exchanges->stored, session, packet_id));
}

bool writer_exchange_may_be_stored(const struct writer *writer, uint64_t session,
                                   uint16_t packet_id)
{
    return writer_exchange_stored(writer, session, packet_id) ||
           (!writer->exchanges->known &&
            file_says(writer, session, packet_id) == SPOOL_EXCHANGE_UNKNOWN);
}

bool writer_message_stored(const struct writer *writer, const struct message *message)
{
    uint64_t session = message->session;
    switch (file_says(writer, session, message->packet_id)) {
    case SPOOL_EXCHANGE_STORED:
        return repeats(message, spool_file_exchange_content(writer->spool_file, session,
                                                            message->packet_id));
    case SPOOL_EXCHANGE_VOID:
        return false;
    default:
        return exchanges_in_database(writer, message);
    }
}

bool writer_message_unsure(const struct writer *writer, const struct message *message)
{
    return !writer->exchanges->known && repeats(message, 0) &&
           file_says(writer, message->session, message->packet_id) == SPOOL_EXCHANGE_UNKNOWN;
}

// ---- from PostgreSQL to the file, and back ----

void exchanges_unload(struct writer *writer, const struct batch *batch)
{
    for (size_t i = 0; i < batch->exchange_count; i++) {
        const struct batch_exchange *it = &batch->exchanges[i];
        if (it->forget)
            exchanges_forget(writer, it->session, it->packet_id, it->told);
    }
}

// The spool looks again whether all is done.
static void cleared(void *arg)
{
    struct writer *writer = arg;
    if (--writer->exchanges->clearing == 0)
        writer->spool.committed(writer->spool.arg, 0);
}

struct sweep {
    struct writer *writer;
    size_t left;
};

// Nothing else is under way, so what is known of PostgreSQL is so.
static void sweep_void(void *arg, uint64_t session, uint16_t packet_id, enum spool_exchange what)
{
    struct sweep *sweep = arg;
    struct writer *writer = sweep->writer;
    if (what != SPOOL_EXCHANGE_VOID)
        return;
    if (exchange_set_has(&writer->exchanges->stored, session, packet_id)) {
        batch_forget_exchange(writer_begin(writer), session, packet_id, false);
        sweep->left++;
        return;
    }
    writer->exchanges->clearing++;
    spool_file_set_exchange(writer->spool_file, session, packet_id, SPOOL_EXCHANGE_UNKNOWN, cleared,
                            writer);
}

bool exchanges_sweep_void(struct writer *writer)
{
    struct sweep sweep = {.writer = writer};
    spool_file_each_exchange(writer->spool_file, sweep_void, &sweep);
    if (sweep.left > 0)
        writer_end(writer);
    return sweep.left == 0 && writer->exchanges->clearing == 0;
}

// ---- sessions ----

struct ending {
    struct writer *writer;
    exchange_session_fn *ends;
    void *arg;
};

static void end_one(void *arg, uint64_t session, uint16_t packet_id, enum spool_exchange what)
{
    const struct ending *ending = arg;
    if (what == SPOOL_EXCHANGE_STORED && ending->ends(ending->arg, session))
        exchanges_forget(ending->writer, session, packet_id, false);
}

void exchanges_end(struct writer *writer, exchange_session_fn *ends, void *arg)
{
    const struct exchange_set *stored = &writer->exchanges->stored;
    for (size_t i = 0; i < stored->capacity; i++) {
        struct exchange_id id = stored->slots[i];
        if (id.session != 0 && ends(arg, id.session))
            exchanges_forget(writer, id.session, id.packet_id, false);
    }
    struct ending ending = {writer, ends, arg};
    if (writer->spool_file)
        spool_file_each_exchange(writer->spool_file, end_one, &ending);
}
