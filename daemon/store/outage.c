// How long PostgreSQL has been of no use.
#include "store/outage.h"

static void lasts(void *arg)
{
    struct outage *outage = arg;
    outage->lasting = true;
    outage->lasts(outage->arg);
}

void outage_init(struct outage *outage, struct loop *loop)
{
    *outage = (struct outage){.timer = loop_timer_new(loop, lasts, outage)};
}

void outage_fini(struct outage *outage)
{
    loop_timer_free(outage->timer);
}

void outage_watch(struct outage *outage, int64_t after_ms, loop_fn *fn, void *arg)
{
    outage->after_ms = after_ms;
    outage->lasts = fn;
    outage->arg = arg;
}

void outage_down(struct outage *outage)
{
    if (outage->lasts && !outage->lasting && !loop_timer_pending(outage->timer))
        loop_timer_start(outage->timer, outage->after_ms);
}

void outage_found(struct outage *outage)
{
    loop_timer_stop(outage->timer);
    if (outage->lasts && !outage->lasting)
        lasts(outage);
}

void outage_trouble(struct outage *outage)
{
    outage->troubled = true;
    outage_down(outage);
}

void outage_up(struct outage *outage)
{
    if (outage->troubled)
        return;
    outage->lasting = false;
    loop_timer_stop(outage->timer);
}

void outage_over(struct outage *outage)
{
    outage->troubled = false;
    outage_up(outage);
}
