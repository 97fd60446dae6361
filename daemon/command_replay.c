// sensorlogd replay: sends rejected messages through the pipeline again. What each becomes commits
// in the transaction that takes its entry out of the reject table, so it may be stopped, or die, at
// any moment, and run beside the daemon.
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/list.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/mem.h"
#include "base/worker.h"
#include "commands.h"
#include "configuration.h"
#include "pipeline/pipeline.h"
#include "store/catalog.h"
#include "store/replay.h"
#include "store/writer.h"
#include "tally.h"

enum {
    TICK_MS = 500,
    AWAY_MS = 20000,        // the longest that PostgreSQL may be away
    PAGE_SHARE = 8,         // of the memory, in which text, bytes and rows of a page stand
    PAGE_MAX = 8 << 20,     // bytes
    PAGE_REPETITIONS = 100, // while another one takes entries of the same page
};

struct replay_run {
    struct configuration *configuration;
    bool dry;
    const char *whose; // rejects are wanted: a writer's, "*" all; NULL: ours and nobody's
    struct loop *loop;
    struct worker *worker;
    struct budget budget;
    struct catalog *catalog;
    struct writer *writer;
    struct pipeline *pipeline;
    struct replay *reader;
    struct message_source source;
    struct loop_signal *interrupt, *terminate;
    struct loop_timer *tick;
    struct loop_task *turn; // a page is done with
    int64_t alive_ms;       // when PostgreSQL was there last
    int64_t entries;        // as it began
    int64_t others;         // left to other writers
    char *other_writers;
    struct tally total;
    // The page that is under way: the entries after .. through.
    int64_t after_id, last_id;
    size_t page_entries, pending;
    struct tally page;
    size_t abandoned;
    unsigned repetitions;
    // Of a page that is read once more: up to where, how many should be there, and are.
    int64_t repeated_to;
    uint64_t expected, present;
    bool page_read, stopping, failed, done;
    // Of a dry run: the message that is looked at.
    struct arena arena;
    struct message *looked_at;
    unsigned matched, refusals;
};

// ---- what people see ----

static void clear_progress(void)
{
    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
}

static void show_progress(const struct replay_run *run)
{
    clear_progress();
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "%" PRIu64 " of %" PRId64,
                tally_replayed(&run->total) + tally_left(&run->total), run->entries);
}

static void print_total(const struct replay_run *run)
{
    clear_progress();
    tally_print(&run->total, run->dry);
    if (run->others > 0)
        printf("; %" PRId64 " left: rejected by other writers (%s), see --writer", run->others,
               run->other_writers);
    puts(run->done ? "" : "; not all were looked at");
}

static void fail(struct replay_run *run, const char *why)
{
    char *line = mem_strdup(why);
    log_clean(line);
    clear_progress();
    if (!run->failed)
        fprintf(stderr, "sensorlogd: %s\n", line);
    free(line);
    run->failed = true;
    loop_stop(run->loop);
}

// ---- a page ----

static void next_page(struct replay_run *run)
{
    run->page = (struct tally){0};
    run->page_read = false;
    run->abandoned = 0;
    replay_read(run->reader, run->after_id);
}

// Another replay has taken some of the page, and our transaction has done nothing: it is read once
// more, without them.
static void repeat_page(struct replay_run *run)
{
    run->repeated_to = run->last_id;
    run->expected = run->abandoned + tally_left(&run->page);
    run->present = 0;
    run->page.unwanted = run->page.incomplete = run->page.stopped = 0; // they are seen again
    tally_add(&run->total, &run->page);
    if (++run->repetitions > PAGE_REPETITIONS)
        fail(run, "rejects cannot be taken out of the table: do two replays run?");
    else
        next_page(run);
}

static void page_is_done(void *arg)
{
    struct replay_run *run = arg;
    FAILPOINT("replay");
    if (run->abandoned > 0 && !run->stopping) {
        repeat_page(run);
        return;
    }
    tally_add(&run->total, &run->page);
    show_progress(run);
    run->done = run->page_entries == 0;
    run->after_id = run->last_id;
    run->repetitions = 0;
    if (run->done || run->stopping)
        loop_stop(run->loop);
    else
        next_page(run);
}

static void page_read(void *arg, int64_t last_id, size_t entries)
{
    struct replay_run *run = arg;
    if (run->expected > run->present) {
        run->total.taken += run->expected - run->present;
        run->repetitions = 0;
    }
    run->expected = 0;
    run->last_id = last_id;
    run->page_entries = entries;
    run->page_read = true;
    if (run->pending == 0)
        loop_task_schedule(run->turn);
}

static void settled(struct message_source *source, struct message *message)
{
    struct replay_run *run = list_entry(source, struct replay_run, source);
    run->page.stored += message->verdict == VERDICT_STORED;
    run->page.known += message->verdict == VERDICT_DEDUPLICATED;
    run->page.refused += message->verdict == VERDICT_REJECTED;
    run->page.unwanted += message->verdict == VERDICT_SKIPPED;
    run->abandoned += message->verdict == VERDICT_ABANDONED;
    if (--run->pending == 0 && run->page_read)
        loop_task_schedule(run->turn);
}

// ---- an entry ----

static bool is_stopped(const struct replay_run *run, const char *name)
{
    const struct mappings *mappings = &run->configuration->mappings;
    for (size_t i = 0; name && i < mappings->count; i++)
        if (strcmp(mappings->items[i].name, name) == 0)
            return mappings->items[i].target.stopped != NULL;
    return false;
}

static void try_mapping(void *arg, const struct mapping *mapping, struct plan *plan)
{
    struct replay_run *run = arg;
    const struct message *message = run->looked_at;
    struct decode_error error = {.reason = ""};
    if (!pipeline_concerns(mapping, message))
        return;
    run->matched++;
    arena_reset(&run->arena);
    struct value *values = arena_alloc(&run->arena, mapping->target.column_count * sizeof *values);
    memset(values, 0, mapping->target.column_count * sizeof *values);
    if (plan_decode(plan, message, message->received_us, &run->arena, values, &error))
        return;
    run->refusals++;
    char *line = mem_printf("id %" PRId64 ", topic %.*s, mapping %s: %s%s%s", message->entry,
                            (int)message->topic_length, message->topic, mapping->name, error.reason,
                            *error.detail ? ": " : "", error.detail);
    log_clean(line);
    puts(line);
    free(line);
}

// Through the decoders alone.
static void look_at(struct replay_run *run, struct message *message)
{
    enum verdict verdict = VERDICT_SKIPPED;
    run->looked_at = message;
    run->matched = run->refusals = 0;
    pipeline_match(run->pipeline, message, try_mapping, run);
    if (run->matched > 0)
        verdict = run->refusals > 0 ? VERDICT_REJECTED : VERDICT_STORED;
    message_release(message, verdict, NULL);
}

static void take_entry(void *arg, const struct replay_entry *entry)
{
    struct replay_run *run = arg;
    run->present += entry->parts.entry <= run->repeated_to;
    if (entry->cut) {
        run->page.incomplete++;
    } else if (is_stopped(run, entry->mapping)) {
        run->page.stopped++;
    } else {
        run->pending++;
        struct message *message = message_new(&run->source, &run->budget, &entry->parts);
        if (run->dry)
            look_at(run, message);
        else
            pipeline_take(run->pipeline, message);
    }
}

// ---- what else comes ----

static void opened(void *arg, const struct replay_count *count)
{
    struct replay_run *run = arg;
    run->entries = count->entries;
    run->others = count->others;
    run->other_writers = mem_strdup(count->writers);
    log_clean(run->other_writers);
    next_page(run);
}

static void reader_failed(void *arg, const char *why)
{
    struct replay_run *run = arg;
    char *text = mem_printf("sensorlog.reject cannot be read: %s", why);
    fail(run, text);
    free(text);
}

// What the catalog has made at its start is told; from here on the progress is.
static void be_quiet(const struct replay_run *run)
{
    enum log_level level = run->configuration->settings.log_level;
    log_init(level == LOG_LEVEL_INFO ? LOG_LEVEL_WARN : level);
}

static void catalog_is_ready(void *arg, bool ok, const char *detail)
{
    struct replay_run *run = arg;
    if (!ok) {
        fail(run, detail);
        return;
    }
    be_quiet(run);
    writer_start(run->writer);
    replay_start(run->reader);
}

// Why nothing goes on; NULL where it does, or may.
static const char *trouble(struct replay_run *run)
{
    if (run->catalog && !catalog_ready(run->catalog))
        return catalog_state(run->catalog);
    if (*replay_trouble(run->reader))
        return replay_trouble(run->reader);
    return run->writer && writer_usable(run->writer) == 0 ? writer_state(run->writer) : NULL;
}

static void tick(void *arg)
{
    struct replay_run *run = arg;
    const char *why = trouble(run);
    if (!why)
        run->alive_ms = loop_now_ms();
    loop_timer_start(run->tick, TICK_MS);
    if (loop_now_ms() - run->alive_ms < AWAY_MS)
        return;
    char *text = mem_printf("given up after %d s: %s", AWAY_MS / 1000, why);
    fail(run, text);
    free(text);
}

// What is under way is committed; the rest stays where it is.
static void stop(int number, void *arg)
{
    struct replay_run *run = arg;
    (void)number;
    if (run->stopping || !run->page_read)
        loop_stop(run->loop);
    run->stopping = true;
}

// ---- life ----

static void make_writer(struct replay_run *run, const char *name)
{
    const struct settings *settings = &run->configuration->settings;
    const struct catalog_options catalog_options = {
        .conninfo = settings->postgres.conninfo,
        .migrate = settings->postgres.migrate,
    };
    // One connection: then rows commit in the order of the entries.
    const struct writer_options writer_options = {
        .conninfo = settings->postgres.conninfo,
        .name = name,
        .connections = 1,
        .max_rows = settings->batch.max_rows,
    };
    size_t count = run->configuration->mappings.count;
    struct target **targets = mem_alloc((count + 1) * sizeof(struct target *));
    for (size_t i = 0; i < count; i++)
        targets[i] = &run->configuration->mappings.items[i].target;
    run->catalog = catalog_new(run->loop, run->worker, targets, count, &catalog_options);
    run->writer = writer_new(run->loop, run->worker, run->catalog, &run->budget, &writer_options);
    free(targets);
}

// NULL: anybody's.
static const char *rejected_by(const struct replay_run *run)
{
    if (!run->whose)
        return run->configuration->settings.postgres.writer;
    return strcmp(run->whose, "*") == 0 ? NULL : run->whose;
}

static void make_reader(struct replay_run *run, const char *name, const char *mapping)
{
    const struct settings *settings = &run->configuration->settings;
    size_t share = settings->batch.memory / PAGE_SHARE;
    const struct replay_options options = {
        .conninfo = settings->postgres.conninfo,
        .name = run->dry ? NULL : name,
        .mapping = mapping,
        .writer = rejected_by(run),
        .unnamed = !run->whose,
        .page_bytes = share < PAGE_MAX ? share : PAGE_MAX,
    };
    const struct replay_calls calls = {.opened = opened,
                                       .entry = take_entry,
                                       .page = page_read,
                                       .failed = reader_failed,
                                       .arg = run};
    run->reader = replay_new(run->loop, run->worker, &options, &calls);
}

static bool make(struct replay_run *run, const char *name, const char *mapping)
{
    const struct settings *settings = &run->configuration->settings;
    const struct mappings *mappings = &run->configuration->mappings;
    run->loop = loop_new();
    run->worker = worker_new(run->loop, 1);
    run->budget.limit = settings->batch.memory;
    run->source = (struct message_source){.name = "replay", .settled = settled};
    run->tick = loop_timer_new(run->loop, tick, run);
    run->turn = loop_task_new(run->loop, page_is_done, run);
    run->interrupt = loop_signal_new(run->loop, SIGINT, stop, run);
    run->terminate = loop_signal_new(run->loop, SIGTERM, stop, run);
    arena_init(&run->arena);
    if (!run->dry)
        make_writer(run, name);
    make_reader(run, name, mapping);
    run->pipeline = pipeline_new(mappings->items, mappings->count, run->writer);
    return run->pipeline != NULL;
}

static void take_apart(struct replay_run *run)
{
    writer_free(run->writer);
    replay_free(run->reader);
    pipeline_free(run->pipeline);
    catalog_free(run->catalog);
    arena_fini(&run->arena);
    loop_signal_free(run->interrupt);
    loop_signal_free(run->terminate);
    loop_timer_free(run->tick);
    loop_task_free(run->turn);
    worker_free(run->worker);
    loop_free(run->loop);
}

static int replay(struct replay_run *run, const char *mapping)
{
    char *name = mem_printf("%s/replay", run->configuration->settings.postgres.writer);
    bool made = make(run, name, mapping);
    if (made) {
        run->alive_ms = loop_now_ms();
        loop_timer_start(run->tick, TICK_MS);
        if (run->dry) {
            be_quiet(run);
            replay_start(run->reader);
        } else {
            catalog_start(run->catalog, catalog_is_ready, run);
        }
        loop_run(run->loop);
        if (!run->failed || tally_replayed(&run->total) > 0)
            print_total(run);
    }
    take_apart(run);
    free(run->other_writers);
    free(name);
    bool all = made && run->done && run->total.refused == 0 && tally_left(&run->total) == 0;
    return all ? EXIT_SUCCESS : EXIT_FAILURE;
}

static bool has_mapping(const struct configuration *configuration, const char *name)
{
    for (size_t i = 0; i < configuration->mappings.count; i++)
        if (strcmp(configuration->mappings.items[i].name, name) == 0)
            return true;
    fprintf(stderr, "sensorlogd: there is no mapping \"%s\" in the configuration\n", name);
    return false;
}

int command_replay(const struct arguments *arguments)
{
    struct configuration configuration;
    int status = EXIT_CONFIGURATION;
    signal(SIGPIPE, SIG_IGN);
    if (configuration_must_load(&configuration, arguments->config)) {
        log_init(configuration.settings.log_level);
        struct replay_run run = {.configuration = &configuration,
                                 .dry = arguments->dry_run,
                                 .whose = arguments->writer};
        status = !arguments->mapping || has_mapping(&configuration, arguments->mapping)
                     ? replay(&run, arguments->mapping)
                     : EXIT_FAILURE;
    }
    configuration_fini(&configuration);
    return status;
}
