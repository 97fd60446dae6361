// Linger: a transaction for more rows, at the price of time. The input has gone quiet when no row
// has come since the last tick.
#include "store/writer_internal.h"

enum { TICKS = 8 }; // per linger: how often it is looked whether the input has gone quiet

static void start_tick(struct writer *writer)
{
    writer->rows_at_tick = writer_gathered(writer);
    loop_timer_start(writer->tick, writer->options.linger_ms / TICKS + 1);
}

void writer_linger_due(void *arg)
{
    struct writer *writer = arg;
    if (++writer->ticks < TICKS && writer_gathered(writer) != writer->rows_at_tick) {
        start_tick(writer);
        return;
    }
    writer->hurried = true;
    writer_flush(writer);
}

void writer_linger(struct writer *writer)
{
    if (loop_timer_pending(writer->tick) || writer->hurried)
        return;
    writer->ticks = 0;
    start_tick(writer);
}
