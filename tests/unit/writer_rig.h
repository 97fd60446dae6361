// What the tests of the batch writer share: a catalog that says what the test wants, and a source
// that notes how its messages end.
#pragma once

#include "base/list.h"
#include "base/log.h"
#include "store/catalog.h"
#include "store/writer.h"
#include "store_rig.h"
#include "way.h"

enum { RIG_TARGETS = 3, RIG_MESSAGES_MAX = 16384, RIG_OWED_MAX = 16 };

// ---- the catalog ----

struct catalog {
    int64_t missing_from, missing_to; // times without a partition
    struct {
        catalog_fn *done;
        void *arg;
    } owed[RIG_OWED_MAX];
    size_t owed_count;
    unsigned needs, refreshes, stops, beginnings;
    size_t needed_times; // of the last need
};

bool catalog_has(const struct catalog *catalog, const struct target *target, int64_t time_us)
{
    (void)target;
    return time_us < catalog->missing_from || time_us >= catalog->missing_to;
}

static inline void catalog_owe(struct catalog *catalog, catalog_fn *done, void *arg)
{
    assert_true(catalog->owed_count < RIG_OWED_MAX);
    catalog->owed[catalog->owed_count].done = done;
    catalog->owed[catalog->owed_count++].arg = arg;
}

void catalog_need(struct catalog *catalog, struct target *target, const int64_t *times_us,
                  size_t count, catalog_fn *done, void *arg)
{
    for (size_t i = 0; i < count; i++)
        assert_false(catalog_has(catalog, target, times_us[i]));
    catalog->needs++;
    catalog->needed_times = count;
    catalog_owe(catalog, done, arg);
}

void catalog_refresh(struct catalog *catalog, struct target *target, catalog_fn *done, void *arg)
{
    (void)target;
    catalog->refreshes++;
    catalog_owe(catalog, done, arg);
}

void catalog_stop(struct catalog *catalog, struct target *target, const char *why)
{
    catalog->stops++;
    free(target->stopped);
    target->stopped = mem_strdup(why);
}

void catalog_begin_again(struct catalog *catalog)
{
    catalog->beginnings++;
}

// All that was asked gets this answer.
static inline void catalog_answer(struct catalog *catalog, bool ok, const char *detail)
{
    struct catalog asked = *catalog;
    catalog->owed_count = 0;
    for (size_t i = 0; i < asked.owed_count; i++)
        asked.owed[i].done(asked.owed[i].arg, ok, detail);
}

// ---- the writer and what it is given ----

struct rig {
    struct message_source source;
    struct budget budget;
    struct loop *loop;
    struct worker *worker;
    struct catalog catalog;
    struct target targets[RIG_TARGETS];
    struct writer *writer;
    struct way *way;
    char *conninfo;
    PGconn *server, *other; // the test's own connections
    uint64_t received;
    int64_t now_us;   // when messages arrive; 0: now
    uint64_t session; // QoS 2: of the messages to come; 0: none
    uint16_t packet_id;
    uint64_t content; // stored with the identifier
    bool dup;         // of the messages to come
    bool exchanges;   // the writers to come keep QoS 2 identifiers
    size_t settled;
    uint8_t verdicts[RIG_MESSAGES_MAX]; // by ticket
    uint64_t order[RIG_MESSAGES_MAX];   // tickets as they ended
    bool drained;
    // of a wait
    size_t wanted;
    PGconn *asked;
    const char *question;
};

static struct target_column rig_columns[] = {
    {.name = "time", .type = COLUMN_TIMESTAMPTZ, .required = true},
    {.name = "n", .type = COLUMN_INT8},
    {.name = "note", .type = COLUMN_TEXT},
};

static struct target_column rig_key_columns[] = {
    {.name = "time", .type = COLUMN_TIMESTAMPTZ, .required = true, .key = true},
    {.name = "n", .type = COLUMN_INT8, .required = true, .key = true},
    {.name = "note", .type = COLUMN_TEXT},
};

// The targets: two tables without a key, and one with.
enum { PLAIN, OTHER, KEYED };

static const struct target rig_targets[RIG_TARGETS] = {
    {.index = 0,
     .mapping = (char[]){"plain"},
     .schema = (char[]){"telemetry"},
     .table = (char[]){"plain"},
     .columns = rig_columns,
     .column_count = 3},
    {.index = 1,
     .mapping = (char[]){"other"},
     .schema = (char[]){"telemetry"},
     .table = (char[]){"other"},
     .columns = rig_columns,
     .column_count = 3},
    {.index = 2,
     .mapping = (char[]){"keyed"},
     .schema = (char[]){"telemetry"},
     .table = (char[]){"keyed"},
     .columns = rig_key_columns,
     .column_count = 3,
     .key_count = 2},
};

static const char rig_tables[] =
    "CREATE TABLE telemetry.plain (time timestamptz NOT NULL, n int8, note text);"
    "CREATE TABLE telemetry.other (LIKE telemetry.plain);"
    "CREATE TABLE telemetry.keyed (LIKE telemetry.plain, UNIQUE (n, time))";

static inline void rig_note_settled(struct message_source *source, struct message *message)
{
    struct rig *rig = (struct rig *)source;
    assert_int_equal(rig->verdicts[message->ticket], VERDICT_NONE);
    rig->verdicts[message->ticket] = message->verdict;
    rig->order[rig->settled++] = message->ticket;
}

struct part {
    int target;
    int64_t n;
    const char *note; // or NULL
};

// µs since 1970 of the reading n.
static inline int64_t rig_time(int64_t n)
{
    return 1700000000000000 + n * 1000000;
}

// One message whose parts are rows; its ticket. reject: the reason of a reject of the whole, or
// NULL.
static inline uint64_t rig_feed_message(struct rig *rig, const struct part *parts, size_t count,
                                        const char *reject)
{
    const struct message_parts whole = {.topic = "sensors/x",
                                        .topic_length = 9,
                                        .payload = "1",
                                        .payload_length = 1,
                                        .full_length = 1};
    struct message *message = message_new(&rig->source, &rig->budget, &whole);
    assert_true(rig->received < RIG_MESSAGES_MAX);
    message->ticket = rig->received++;
    if (rig->now_us)
        message->received_us = rig->now_us;
    message->session = rig->session;
    message->packet_id = rig->packet_id;
    message->content = rig->content;
    message->dup = rig->dup;
    struct batch *batch = writer_begin(rig->writer);
    for (size_t i = 0; i < count; i++) {
        struct target *target = &rig->targets[parts[i].target];
        books_receive(&target->books);
        struct value *row = batch_reserve_row(batch, target);
        const char *note = parts[i].note;
        row[0] = (struct value){.integer = rig_time(parts[i].n)};
        row[1] = (struct value){.integer = parts[i].n};
        row[2] = (struct value){.null = true};
        if (note)
            row[2] = (struct value){.bytes = arena_copy(&batch->arena, note, strlen(note)),
                                    .length = (uint32_t)strlen(note)};
        for (size_t k = 3; k < target->column_count; k++)
            row[k] = (struct value){.null = true};
        batch_keep_row(batch, target, message);
    }
    if (reject)
        batch_add_reject(batch, NULL, message, reject, NULL, "");
    uint64_t ticket = message->ticket;
    message_release(message, VERDICT_NONE, NULL);
    writer_end(rig->writer);
    return ticket;
}

static inline uint64_t rig_feed(struct rig *rig, int target, int64_t n)
{
    const struct part part = {target, n, NULL};
    return rig_feed_message(rig, &part, 1, NULL);
}

// Readings [first, last), a message each.
static inline void rig_feed_range(struct rig *rig, int target, int64_t first, int64_t last)
{
    for (int64_t n = first; n < last; n++)
        rig_feed(rig, target, n);
}

// ---- waiting ----

static inline bool rig_settled(void *arg)
{
    const struct rig *rig = arg;
    return rig->settled >= rig->wanted;
}

static inline void rig_wait_settled(struct rig *rig, size_t count)
{
    rig->wanted = count;
    if (!rig_until(rig->loop, rig_settled, rig))
        fail_msg("%zu of %zu messages have ended; connections: %s", rig->settled, count,
                 writer_state(rig->writer));
}

static inline void rig_wait_all(struct rig *rig)
{
    rig_wait_settled(rig, rig->received);
}

static inline bool rig_usable(void *arg)
{
    const struct rig *rig = arg;
    return writer_usable(rig->writer) == rig->wanted;
}

static inline void rig_wait_usable(struct rig *rig, unsigned connections)
{
    rig->wanted = connections;
    if (!rig_until(rig->loop, rig_usable, rig))
        fail_msg("connections: %s", writer_state(rig->writer));
}

static inline bool rig_answered(void *arg)
{
    const struct rig *rig = arg;
    return rig_number(rig->asked, rig->question) == (long)rig->wanted;
}

// Until the query on one of the test's connections finds the number.
static inline void rig_wait_number(struct rig *rig, PGconn *asked, const char *sql, size_t number)
{
    rig->asked = asked;
    rig->question = sql;
    rig->wanted = number;
    if (!rig_until(rig->loop, rig_answered, rig))
        fail_msg("%s: %ld", sql, rig_number(asked, sql));
}

// So many of the writer's transactions wait for a lock.
static inline void rig_wait_blocked(struct rig *rig, unsigned count)
{
    rig_wait_number(rig, rig->server,
                    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                    " AND datname = current_database() AND application_name = 'sensorlogd'",
                    count);
}

static inline bool rig_says(void *arg)
{
    const struct rig *rig = arg;
    return strstr(writer_state(rig->writer), rig->question) != NULL;
}

// Until the writer's state has these words.
static inline void rig_wait_state(struct rig *rig, const char *words)
{
    rig->question = words;
    if (!rig_until(rig->loop, rig_says, rig))
        fail_msg("connections: %s", writer_state(rig->writer));
}

static inline bool rig_asked(void *arg)
{
    return ((const struct rig *)arg)->catalog.owed_count > 0;
}

// Until the writer has asked the catalog for something.
static inline void rig_wait_asked(struct rig *rig)
{
    assert_true(rig_until(rig->loop, rig_asked, rig));
}

static inline void rig_note_drained(void *arg)
{
    ((struct rig *)arg)->drained = true;
}

static inline bool rig_drained(void *arg)
{
    return ((const struct rig *)arg)->drained;
}

static inline void rig_assert_verdicts(const struct rig *rig, uint64_t first, uint64_t last,
                                       enum verdict verdict)
{
    for (uint64_t ticket = first; ticket < last; ticket++)
        if (rig->verdicts[ticket] != verdict)
            fail_msg("message %d of %d: %s", (int)ticket, (int)rig->received,
                     verdict_name((enum verdict)rig->verdicts[ticket]));
}

// ---- life ----

static const char rig_database[] = "unit_writer";

static inline int rig_begin(void **state)
{
    log_init(LOG_LEVEL_ERROR);
    if (rig_has_postgres())
        *state = rig_create_database(rig_database);
    return 0;
}

static inline int rig_end(void **state)
{
    if (rig_has_postgres())
        rig_drop_database(rig_database);
    free(*state);
    *state = NULL;
    return 0;
}

// *state is the database's conninfo before, and is again after rig_teardown.
static inline int rig_setup(void **state)
{
    if (!rig_has_postgres())
        return 0;
    struct rig *rig = mem_zalloc(sizeof *rig);
    rig->source = (struct message_source){.name = "site", .settled = rig_note_settled};
    rig->budget.limit = 64 << 20;
    memcpy(rig->targets, rig_targets, sizeof rig_targets);
    rig->conninfo = *state;
    rig->loop = loop_new();
    rig->worker = worker_new(rig->loop, 1);
    rig->server = rig_connect(rig->conninfo);
    rig->other = rig_connect(rig->conninfo);
    rig_make_schemas(rig->server);
    rig_run(rig->server, rig_tables);
    rig_run(rig->server, "SET TimeZone = 'UTC'");
    *state = rig;
    return 0;
}

// With the name of the target's table for each @.
static inline void rig_run_on(struct rig *rig, const char *text, int target)
{
    char *sql = mem_strdup(text);
    for (char *at; (at = strchr(sql, '@'));) {
        char *longer = mem_printf("%.*stelemetry.%s%s", (int)(at - sql), sql,
                                  rig->targets[target].table, at + 1);
        free(sql);
        sql = longer;
    }
    rig_run(rig->server, sql);
    free(sql);
}

// Whatever a test did: all is given back, and the books balance.
static inline int rig_teardown(void **state)
{
    if (!rig_has_postgres())
        return 0;
    struct rig *rig = *state;
    *state = rig->conninfo;
    writer_free(rig->writer);
    way_free(rig->way);
    PQfinish(rig->other);
    PQfinish(rig->server);
    worker_free(rig->worker);
    loop_free(rig->loop);
    assert_int_equal(rig->settled, rig->received);
    assert_int_equal(rig->budget.used, 0);
    assert_int_equal(books_pending(&rig->source.books), 0);
    for (int i = 0; i < RIG_TARGETS; i++) {
        assert_int_equal(books_pending(&rig->targets[i].books), 0);
        free(rig->targets[i].stopped);
    }
    free(rig);
    return 0;
}

// A writer that has not started yet. Further options: writer_options' own.
static inline struct rig *rig_with(void **state, struct writer_options options)
{
    rig_need_postgres();
    struct rig *rig = *state;
    if (!options.conninfo)
        options.conninfo = rig->conninfo;
    if (!options.name)
        options.name = "edge";
    if (!options.connections)
        options.connections = 1;
    if (!options.max_rows)
        options.max_rows = 1000;
    options.exchanges = rig->exchanges;
    rig->writer = writer_new(rig->loop, rig->worker, &rig->catalog, &rig->budget, &options);
    return rig;
}

// One that is connected.
static inline struct rig *rig_up(void **state, struct writer_options options)
{
    struct rig *rig = rig_with(state, options);
    writer_start(rig->writer);
    rig_wait_usable(rig, options.connections ? options.connections : 1);
    return rig;
}

// One whose connections can be cut.
static inline struct rig *rig_up_by_way(void **state, unsigned connections)
{
    rig_need_postgres();
    struct rig *rig = *state;
    rig->way = way_new(rig->loop);
    char where[80];
    snprintf(where, sizeof where, "host=%s dbname=%s", rig->way->directory, rig_database);
    static char kept[80]; // options.conninfo is not copied
    strcpy(kept, where);
    return rig_up(state, (struct writer_options){.conninfo = kept, .connections = connections});
}
