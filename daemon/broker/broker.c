// The broker as a whole: made of its parts, started, reloaded, stopped.
#include "broker/broker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "broker/broker_internal.h"
#include "broker/client.h"
#include "broker/listener.h"

#define LOG_INTERVAL_MS 10000 // between lines about strangers
#define STOP_MS 1000          // for clients to take their last bytes

// ---- what a reload replaces ----

// Of the configuration's files; a member is NULL where there is none.
struct files {
    struct accounts *accounts;
    struct acl *acl;
    struct tls *tls;
};

static void files_free(struct files *files)
{
    accounts_free(files->accounts);
    acl_free(files->acl);
    tls_free(files->tls);
}

static bool needs_tls(const struct broker_options *options)
{
    for (size_t i = 0; i < options->listen_count; i++)
        if (options->listens[i].tls)
            return true;
    return false;
}

static struct tls *load_tls(const struct broker_options *options, char **error)
{
    const struct tls_options tls = {
        .server = true,
        .ca_file = options->ca_file,
        .certificate_file = options->certificate_file,
        .key_file = options->key_file,
        .crl_file = options->crl_file,
        .clients = options->client_certificates,
    };
    return tls_new(&tls, error);
}

// All or nothing: false with *error.
static bool files_load(struct files *files, const struct broker_options *options, bool tls,
                       char **error)
{
    *files = (struct files){0};
    if (options->password_file && !(files->accounts = accounts_load(options->password_file, error)))
        return false;
    if ((options->acl_file && !(files->acl = acl_load(options->acl_file, error))) ||
        (tls && !(files->tls = load_tls(options, error)))) {
        files_free(files);
        return false;
    }
    return true;
}

static void files_use(struct broker *broker, const struct files *files)
{
    broker->accounts = files->accounts;
    broker->acl = files->acl;
    broker->tls = files->tls;
    broker->sessions->acl = files->acl;
}

// ---- calls from its parts ----

static void message_settled(struct message_source *source, struct message *message)
{
    client_settled((struct broker *)(void *)source, message);
}

static void session_ended(void *arg, struct session *session)
{
    struct broker *broker = arg;
    if (session->expiry > 0 && !broker->discarding)
        broker->counters.expired++;
    if (session->durable)
        broker->calls.session_ended(broker->calls.arg, session->id);
}

static void will_published(void *arg, struct session *session, struct publication *message)
{
    client_publish_will(arg, session->client_id, message);
}

static void check_stopped(struct broker *broker)
{
    loop_fn *stopped = broker->stopped;
    if (!stopped || !broker->state_saved || !list_empty(&broker->all))
        return;
    broker->stopped = NULL;
    wheel_stop(&broker->stop_timer);
    stopped(broker->stopped_arg); // which may free the broker
}

static void turn_end(void *arg)
{
    struct broker *broker = arg;
    clients_turn(broker);
    check_stopped(broker);
}

// ---- beginning ----

static bool open_state(struct broker *broker, char **error)
{
    const struct broker_options *options = broker->options;
    const struct session_limits limits = {.subscriptions = options->subscriptions,
                                          .queued_messages = options->queued_messages,
                                          .queued_bytes = options->queued_bytes};
    broker->state = state_open(broker->loop, &broker->memory, options->state, error);
    if (!broker->state)
        return false;
    broker->sessions = sessions_new(broker->wheel, broker->state, &broker->memory, &limits);
    broker->sessions->ended = session_ended;
    broker->sessions->will = will_published;
    broker->sessions->arg = broker;
    return true;
}

static struct broker *make(struct loop *loop, struct worker *worker, struct budget *budget,
                           const struct broker_options *options, const struct broker_calls *calls)
{
    struct broker *broker = mem_zalloc(sizeof *broker);
    broker->source = (struct message_source){.name = options->name, .settled = message_settled};
    broker->loop = loop;
    broker->worker = worker;
    broker->budget = budget;
    broker->memory = broker->unfinished = (struct budget){.limit = options->memory};
    broker->options = options;
    broker->calls = *calls;
    broker->wheel = wheel_new(loop);
    broker->turn = loop_task_new(loop, turn_end, broker);
    list_init(&broker->all);
    list_init(&broker->turning);
    list_init(&broker->stalled);
    struct log_limit *limits[] = {&broker->crowd_limit, &broker->accept_limit,
                                  &broker->denied_limit, &broker->subscribe_limit,
                                  &broker->memory_limit};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        limits[i]->interval_ms = LOG_INTERVAL_MS;
    broker->refusals.interval_ms = LOG_INTERVAL_MS;
    return broker;
}

struct broker *broker_new(struct loop *loop, struct worker *worker, struct budget *budget,
                          const struct broker_options *options, const struct broker_calls *calls,
                          char **error)
{
    struct files files;
    if (!files_load(&files, options, needs_tls(options), error))
        return NULL;
    struct broker *broker = make(loop, worker, budget, options, calls);
    if (!open_state(broker, error)) {
        files_free(&files);
        broker_free(broker);
        return NULL;
    }
    files_use(broker, &files);
    if (!sessions_load(broker->sessions, error)) {
        broker_free(broker);
        return NULL;
    }
    broker->sys = sys_new(loop, broker->sessions, &broker->counters, options->sys_interval);
    return broker;
}

bool broker_start(struct broker *broker, char **error)
{
    return listeners_open(broker, error);
}

void broker_free(struct broker *broker)
{
    if (!broker)
        return;
    exchanges_abandon(broker);
    listeners_close(broker);
    clients_free(broker);
    sys_free(broker->sys);
    state_close(broker->state);
    sessions_free(broker->sessions);
    struct files files = {broker->accounts, broker->acl, broker->tls};
    files_free(&files);
    wheel_free(broker->wheel);
    loop_task_free(broker->turn);
    message_properties_fini(&broker->properties);
    free(broker->scratch);
    free(broker);
}

// ---- running ----

bool broker_reload(struct broker *broker, const struct broker_options *options, char **error)
{
    struct files files, before = {broker->accounts, broker->acl, broker->tls};
    if (!files_load(&files, options, before.tls != NULL, error))
        return false;
    broker->options = options; // but the name of before stays: messages on their way have it
    budget_set_limit(&broker->memory, options->memory);
    budget_set_limit(&broker->unfinished, options->memory);
    broker->sessions->limits = (struct session_limits){
        .subscriptions = options->subscriptions,
        .queued_messages = options->queued_messages,
        .queued_bytes = options->queued_bytes,
    };
    sys_set_interval(broker->sys, options->sys_interval);
    files_use(broker, &files);
    clients_check(broker, before.accounts);
    files_free(&before);
    return true;
}

bool broker_has_session(const struct broker *broker, uint64_t session)
{
    return session_by_id(broker->sessions, session) != NULL;
}

void broker_resume(struct broker *broker)
{
    clients_resume(broker);
}

void broker_exchanges_loaded(struct broker *broker)
{
    exchanges_judge(broker);
}

void broker_exchange_forgotten(struct broker *broker, uint64_t session, uint16_t packet_id)
{
    exchange_forgotten(broker, session, packet_id);
}

// ---- the end ----

void broker_quiesce(struct broker *broker)
{
    broker->quiet = true;
    listeners_close(broker);
    exchanges_abandon(broker);
}

static void state_saved(void *arg, uint64_t unused_a, uint64_t unused_b)
{
    (void)unused_a, (void)unused_b;
    struct broker *broker = arg;
    broker->state_saved = true;
    loop_task_schedule(broker->turn);
}

static void stop_late(struct wheel_entry *entry)
{
    struct broker *broker = list_entry(entry, struct broker, stop_timer);
    clients_cut(broker);
    loop_task_schedule(broker->turn);
}

void broker_stop(struct broker *broker, loop_fn *done, void *arg)
{
    broker_quiesce(broker);
    broker->stopped = done;
    broker->stopped_arg = arg;
    clients_end(broker, REASON_SERVER_SHUTTING_DOWN, "the broker stops");
    wheel_entry_init(&broker->stop_timer, stop_late);
    wheel_start(broker->wheel, &broker->stop_timer, STOP_MS);
    state_when_durable(broker->state, state_saved, broker, 0, 0);
    loop_task_schedule(broker->turn);
}

// ---- looking at it ----

const struct message_source *broker_source(const struct broker *broker)
{
    return &broker->source;
}

static const char *describe(struct broker *broker, const struct state_status *state)
{
    size_t size = sizeof broker->status_text, clients = broker->counters.clients;
    if (state->failing)
        snprintf(broker->status_text, size, "state: %s", state->error ? state->error : "failing");
    else
        snprintf(broker->status_text, size, "%zu client%s", clients, clients == 1 ? "" : "s");
    return broker->status_text;
}

void broker_status(struct broker *broker, struct broker_status *status)
{
    const struct sessions *sessions = broker->sessions;
    const struct sessions_counters *sent = &sessions->counters;
    struct state_status state;
    state_status(broker->state, &state);
    *status = (struct broker_status){
        .clients = broker->counters.clients,
        .sessions = sessions->count,
        .subscriptions = sessions->subscription_count,
        .retained = retained_count(sessions->retained),
        .connections_total = broker->counters.sockets,
        .refused_total = broker->refused,
        .received = broker->counters.publish_received,
        .sent = sent->sent,
        .received_bytes = broker->counters.publish_received_bytes,
        .sent_bytes = sent->sent_bytes,
        .queued = sessions->queued,
        .dropped =
            sent->dropped_full + sent->dropped_slow + sent->dropped_expired + sent->dropped_denied,
        .memory_used = broker->memory.used,
        .memory_peak = broker->memory.peak,
        .state_failing = state.failing,
        .state = describe(broker, &state),
    };
}
