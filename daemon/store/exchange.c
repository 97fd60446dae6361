// QoS 2 identifiers, as they are committed: the table changes in the batches' transactions alone.
#include "store/exchange.h"

#include <stdlib.h>

#include "base/failpoint.h"
#include "base/mem.h"
#include "store/exchange_internal.h"
#include "store/writer.h"

bool writer_exchanges_known(const struct writer *writer)
{
    return writer_exchanges(writer)->known || writer_keeps(writer);
}

void writer_on_exchanges(struct writer *writer, loop_fn *loaded, void *arg)
{
    struct exchanges *exchanges = writer_exchanges(writer);
    exchanges->loaded = loaded;
    exchanges->loaded_arg = arg;
}

void writer_on_forgotten(struct writer *writer, exchange_fn *forgotten, void *arg)
{
    struct exchanges *exchanges = writer_exchanges(writer);
    exchanges->forgotten = forgotten;
    exchanges->forgotten_arg = arg;
}

void exchanges_forget(struct writer *writer, uint64_t session, uint16_t packet_id, bool told)
{
    if (exchanges_forget_in_file(writer, session, packet_id, told))
        return;
    batch_forget_exchange(writer_begin(writer), session, packet_id, told);
    writer_end(writer);
}

void writer_exchange_forget(struct writer *writer, uint64_t session, uint16_t packet_id)
{
    exchanges_forget(writer, session, packet_id, true);
}

static void end_sessions(void *arg, struct batch *batch)
{
    batch_end_sessions(batch, arg);
}

static bool is_ending(void *arg, uint64_t session)
{
    return exchange_set_has(arg, session, 0);
}

// What is on its way to the table is forgotten when it has arrived.
static void sweep(void *arg)
{
    struct writer *writer = arg;
    struct exchanges *exchanges = writer_exchanges(writer);
    writer_each_batch(writer, end_sessions, &exchanges->ending);
    exchanges_end(writer, is_ending, &exchanges->ending);
    exchange_set_fini(&exchanges->ending);
}

// Sessions end by the thousand when their time is up: all of a turn are looked for at once.
void writer_session_forget(struct writer *writer, uint64_t session)
{
    struct exchanges *exchanges = writer_exchanges(writer);
    exchange_set_add(&exchanges->ending, session, 0);
    loop_task_schedule(exchanges->sweep);
}

struct living {
    exchange_session_fn *lives;
    void *arg;
};

static bool is_dead(void *arg, uint64_t session)
{
    const struct living *living = arg;
    return !living->lives(living->arg, session);
}

void writer_sessions_keep(struct writer *writer, exchange_session_fn *lives, void *arg)
{
    struct living living = {lives, arg};
    exchanges_end(writer, is_dead, &living);
}

static void tell_loaded(void *arg)
{
    const struct exchanges *exchanges = arg;
    if (exchanges->loaded)
        exchanges->loaded(exchanges->loaded_arg);
}

struct exchanges *exchanges_new(struct loop *loop, struct writer *writer)
{
    struct exchanges *exchanges = mem_zalloc(sizeof *exchanges);
    exchanges->sweep = loop_task_new(loop, sweep, writer);
    exchanges->tell = loop_task_new(loop, tell_loaded, exchanges);
    list_init(&exchanges->waits);
    return exchanges;
}

void exchanges_free(struct exchanges *exchanges)
{
    exchanges_free_waits(exchanges);
    loop_task_free(exchanges->sweep);
    loop_task_free(exchanges->tell);
    exchange_set_fini(&exchanges->stored);
    exchange_set_fini(&exchanges->ending);
    free(exchanges);
}

void exchanges_load(struct exchanges *exchanges, struct exchange_set *loaded)
{
    bool first = !exchanges->known;
    exchange_set_fini(&exchanges->stored);
    exchanges->stored = *loaded;
    *loaded = (struct exchange_set){0};
    exchanges->known = true;
    if (first)
        tell_loaded(exchanges);
}

void exchanges_kept(struct exchanges *exchanges)
{
    if (!exchanges->known)
        loop_task_schedule(exchanges->tell);
}

// In the order of the transaction: deletes, then inserts.
void exchanges_committed(struct writer *writer, const struct batch *batch)
{
    struct exchanges *exchanges = writer_exchanges(writer);
    if (batch->forget_count > 0)
        FAILPOINT("forgotten");
    for (size_t i = 0; i < batch->exchange_count; i++) {
        const struct batch_exchange *it = &batch->exchanges[i];
        if (it->forget)
            exchange_set_remove(&exchanges->stored, it->session, it->packet_id);
    }
    for (size_t i = 0; i < batch->exchange_count; i++) {
        const struct batch_exchange *it = &batch->exchanges[i];
        if (it->forget)
            continue;
        exchange_set_add(&exchanges->stored, it->session, it->packet_id)->content = it->content;
        if (it->ended)
            exchanges_forget(writer, it->session, it->packet_id, false);
    }
    for (size_t i = 0; i < batch->exchange_count; i++) {
        const struct batch_exchange *it = &batch->exchanges[i];
        if (it->told && exchanges->forgotten)
            exchanges->forgotten(exchanges->forgotten_arg, it->session, it->packet_id);
    }
}
