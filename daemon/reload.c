// SIGHUP: reads the configuration again and takes over what can change while messages flow: the
// broker's accounts, access rules and certificates, the subscribers' certificates, the mappings.
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "changes.h"
#include "daemon.h"

enum { SWEEP_MS = 1000 }; // between looks whether the last rows of a former mapping are settled

// ---- mappings ----

static void add_mapping(void *arg, struct mapping *mapping)
{
    struct daemon *daemon = arg;
    catalog_add(daemon->catalog, &mapping->target);
    if (!pipeline_add(daemon->pipeline, mapping))
        abort(); // its plan was tried with the configuration
}

static void remove_mapping(void *arg, struct mapping *mapping)
{
    struct daemon *daemon = arg;
    catalog_remove(daemon->catalog, &mapping->target);
    pipeline_remove(daemon->pipeline, mapping);
}

static void forget_mapping(void *arg, struct mapping *mapping)
{
    struct daemon *daemon = arg;
    catalog_forget(daemon->catalog, &mapping->target);
    pipeline_forget(daemon->pipeline, mapping);
}

static struct live_calls live_calls(struct daemon *daemon)
{
    return (struct live_calls){.add = add_mapping,
                               .remove = remove_mapping,
                               .forget = forget_mapping,
                               .arg = daemon};
}

static void sweep(void *arg)
{
    struct daemon *daemon = arg;
    const struct live_calls calls = live_calls(daemon);
    if (live_sweep(&daemon->live, &calls))
        loop_timer_start(daemon->sweep, SWEEP_MS);
}

static void reload_mappings(struct daemon *daemon, struct configuration *next)
{
    const struct live_calls calls = live_calls(daemon);
    if (live_replace(&daemon->live, &next->mappings, &calls))
        sweep(daemon);
}

// ---- subscribers ----

static bool same_subscriptions(const struct subscriber_options *a,
                               const struct subscriber_options *b)
{
    bool same = a->subscription_count == b->subscription_count;
    for (size_t i = 0; same && i < a->subscription_count; i++) {
        const struct subscription *x = &a->subscriptions[i], *y = &b->subscriptions[i];
        same = strcmp(x->filter, y->filter) == 0 && x->qos == y->qos &&
               x->retained == y->retained && x->id == y->id;
    }
    return same;
}

// The subscriber reads its options as they are.
static void swap_subscriptions(struct subscriber_options *a, struct subscriber_options *b)
{
    struct subscription *subscriptions = a->subscriptions;
    size_t count = a->subscription_count;
    a->subscriptions = b->subscriptions;
    a->subscription_count = b->subscription_count;
    b->subscriptions = subscriptions;
    b->subscription_count = count;
}

static struct subscriber_options *options_of(struct settings *settings, const char *name)
{
    for (size_t i = 0; i < settings->subscriber_count; i++)
        if (strcmp(settings->subscribers[i].options.name, name) == 0)
            return &settings->subscribers[i].options;
    return NULL;
}

static void reload_subscriptions(struct daemon *daemon, struct settings *next)
{
    struct settings *running = &daemon->configuration.settings;
    for (size_t i = 0; i < running->subscriber_count; i++) {
        struct subscriber_options *options = &running->subscribers[i].options;
        struct subscriber_options *wanted = options_of(next, options->name);
        if (!wanted || same_subscriptions(options, wanted))
            continue;
        swap_subscriptions(options, wanted);
        subscriber_resubscribe(daemon->subscribers[i]);
    }
}

static bool reload_certificates(struct daemon *daemon, struct settings *next)
{
    const struct settings *running = &daemon->configuration.settings;
    for (size_t i = 0; i < running->subscriber_count; i++) {
        const struct subscriber_options *options = &running->subscribers[i].options;
        const struct subscriber_options *wanted = options_of(next, options->name);
        char *error = NULL;
        if (!wanted || !options->tls || !wanted->tls ||
            subscriber_reload_tls(daemon->subscribers[i], wanted, &error))
            continue;
        log_error("[subscriber %s]: %s", options->name, error);
        free(error);
        return false;
    }
    return true;
}

// ---- all of it ----

static bool reload_broker(struct daemon *daemon, const struct settings *next)
{
    char *error = NULL;
    if (!daemon->broker || !next->has_broker ||
        broker_reload(daemon->broker, &next->broker, &error))
        return true;
    log_error("[broker]: %s", error);
    free(error);
    return false;
}

// What can fail comes first; from there on all is taken over.
static bool take_over(struct daemon *daemon, struct configuration *next)
{
    if (!reload_certificates(daemon, &next->settings) || !reload_broker(daemon, &next->settings))
        return false;
    log_init(next->settings.log_level);
    changes_log(&daemon->configuration.settings, &next->settings);
    size_t count = next->mappings.count;
    reload_mappings(daemon, next);
    reload_subscriptions(daemon, &next->settings);
    log_info("the configuration is read again: %zu mapping(s)", count);
    return true;
}

static void reload(struct daemon *daemon)
{
    struct configuration *next = mem_alloc(sizeof *next);
    bool loaded = configuration_load(next, daemon->file, &daemon->live);
    if (!loaded)
        configuration_complain(next);
    if (!loaded || !take_over(daemon, next)) {
        log_error("the configuration is not reloaded: all stays as it was");
        configuration_free(next);
    } else if (daemon->broker && next->settings.has_broker) {
        configuration_free(daemon->reloaded);
        daemon->reloaded = next;
    } else {
        configuration_free(next);
    }
}

static void hung_up(int number, void *arg)
{
    struct daemon *daemon = arg;
    if (daemon->stopping)
        return;
    log_info("%s: reading the configuration again", strsignal(number));
    notify_reloading(daemon->notify);
    reload(daemon);
    notify_ready(daemon->notify);
}

void reload_init(struct daemon *daemon)
{
    daemon->sweep = loop_timer_new(daemon->loop, sweep, daemon);
    daemon->hang_up = loop_signal_new(daemon->loop, SIGHUP, hung_up, daemon);
}

void reload_fini(struct daemon *daemon)
{
    const struct live_calls calls = live_calls(daemon);
    live_sweep(&daemon->live, &calls);
    loop_signal_free(daemon->hang_up);
    loop_timer_free(daemon->sweep);
}
