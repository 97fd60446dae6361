// Reads the reject table, a page at a time.
#include "store/replay.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/backoff.h"
#include "base/mem.h"
#include "store/pg.h"
#include "store/sqlstate.h"

enum {
    PAGE_ENTRIES = 1000,
    BACKOFF_MIN_MS = 200,
    BACKOFF_MAX_MS = 2000,
    LOCK_RETRY_MS = 500,
};

struct replay {
    struct replay_options options;
    struct replay_calls calls;
    struct pg *pg;
    struct loop_timer *timer; // until the next attempt
    struct backoff backoff;
    bool opened, ready, wanted;
    int64_t greatest_id, after_id;
    char trouble[512];
    // Of the page that is read: its bytes, and the properties of one entry.
    struct arena arena;
    struct message_property *properties;
    size_t property_capacity;
};

// Of the entries which: $1 the mapping, $2 the writer, $3 whether also those without one.
#define OF_MAPPING "($1::text IS NULL OR mapping = $1::text)"
#define OF_WRITER                                                                                  \
    "(($2::text IS NULL OR writer = $2::text OR (writer IS NULL AND $3::bool)) IS TRUE)"
enum { WHICH_PARAMS = 3 };

// Of the other writers it names those with the most entries.
static const char count_sql[] =
    "WITH counted AS ("
    "SELECT writer, count(*) AS n, max(id) AS last_id, " OF_WRITER " AS taken,"
    " row_number() OVER (PARTITION BY " OF_WRITER " ORDER BY count(*) DESC, writer) AS rank"
    " FROM sensorlog.reject WHERE " OF_MAPPING " GROUP BY writer) "
    "SELECT coalesce(max(last_id), 0), coalesce(sum(n) FILTER (WHERE taken), 0),"
    " coalesce(sum(n) FILTER (WHERE NOT taken), 0),"
    " coalesce(string_agg(CASE rank WHEN 4 THEN '...' ELSE coalesce(writer, 'unknown') END, ', '"
    " ORDER BY rank) FILTER (WHERE NOT taken AND rank <= 4), '') FROM counted";

// An entry is one row with its payload, and one more for each property: so PostgreSQL takes the
// JSON apart.
static const char page_sql[] =
    "WITH entry AS ("
    "SELECT *, payload_length > octet_length(payload) AS cut, row_number() OVER by_id AS n,"
    " sum(octet_length(payload) + octet_length(topic)"
    " + coalesce(octet_length(properties::text), 0)) OVER by_id AS bytes"
    " FROM (SELECT * FROM sensorlog.reject WHERE " OF_MAPPING " AND " OF_WRITER
    " AND id > $4::int8 AND id <= $5::int8 ORDER BY id LIMIT $6::int8) AS r"
    " WINDOW by_id AS (ORDER BY id)) "
    "SELECT e.id, e.mapping, e.source, e.cut, coalesce(e.qos, 0), coalesce(e.retain, false)::int,"
    " coalesce(e.dup, false)::int, CASE WHEN isfinite(e.received_at)"
    " THEN (extract(epoch FROM e.received_at) * 1000000)::int8 END,"
    " CASE WHEN part.kind = 'payload' THEN e.topic END,"
    " CASE WHEN part.kind = 'payload' THEN e.client_id END,"
    " CASE WHEN part.kind = 'payload' THEN e.writer END,"
    " part.kind, encode(convert_to(part.name, 'UTF8'), 'hex'), encode(part.value, 'hex')"
    " FROM entry e CROSS JOIN LATERAL ("
    "SELECT 0 AS rank, 0::int8 AS n, 'payload' AS kind, NULL AS name,"
    " CASE WHEN NOT e.cut THEN e.payload END AS value"
    " UNION ALL "
    "SELECT 1, u.n, 'user', u.pair ->> 0, convert_to(u.pair ->> 1, 'UTF8')"
    " FROM jsonb_array_elements(CASE jsonb_typeof(e.properties -> 'user')"
    " WHEN 'array' THEN e.properties -> 'user' END) WITH ORDINALITY AS u(pair, n)"
    " WHERE NOT e.cut AND u.pair ->> 0 IS NOT NULL AND u.pair ->> 1 IS NOT NULL"
    " UNION ALL "
    "SELECT 2, 0, o.key, NULL, CASE WHEN o.key <> 'correlation_data'"
    " THEN convert_to(e.properties ->> o.key, 'UTF8')"
    " WHEN e.properties ->> o.key ~ '^([0-9a-f]{2})*$'"
    " THEN decode(e.properties ->> o.key, 'hex') END"
    " FROM unnest('{content_type,response_topic,correlation_data,payload_format,"
    "message_expiry}'::text[]) AS o(key) WHERE NOT e.cut AND e.properties ? o.key"
    ") AS part WHERE e.n = 1 OR e.bytes <= $7::int8 ORDER BY e.id, part.rank, part.n, part.kind";

enum page_column {
    PAGE_ID,
    PAGE_MAPPING,
    PAGE_SOURCE,
    PAGE_CUT,
    PAGE_QOS,
    PAGE_RETAIN,
    PAGE_DUP,
    PAGE_RECEIVED_US,
    PAGE_TOPIC,
    PAGE_CLIENT_ID,
    PAGE_WRITER,
    PAGE_KIND,
    PAGE_NAME,
    PAGE_VALUE,
};

static const char *const kinds[] = {
    [MESSAGE_USER_PROPERTY] = "user",
    [MESSAGE_CONTENT_TYPE] = "content_type",
    [MESSAGE_RESPONSE_TOPIC] = "response_topic",
    [MESSAGE_CORRELATION_DATA] = "correlation_data",
    [MESSAGE_PAYLOAD_FORMAT] = "payload_format",
    [MESSAGE_EXPIRY] = "message_expiry",
};

static void now_down(void *arg, const char *why)
{
    struct replay *replay = arg;
    replay->ready = false;
    snprintf(replay->trouble, sizeof replay->trouble, "%s", why);
    loop_timer_start(replay->timer, backoff_next_ms(&replay->backoff));
}

static void refused(struct replay *replay, const struct pg_result *result)
{
    enum sql_action action = sql_action_of(result->sqlstate, "");
    if (action == SQL_WAIT || action == SQL_RETRY || action == SQL_SPLIT) {
        now_down(replay, result->message);
        pg_disconnect(replay->pg);
    } else {
        replay->calls.failed(replay->calls.arg, result->message);
    }
}

// ---- a page ----

static unsigned nibble(char digit)
{
    return (unsigned)(digit <= '9' ? digit - '0' : digit - 'a' + 10);
}

// In the arena; NULL where the value is null.
static const char *bytes_of(struct replay *replay, const struct pg_result *result, int row,
                            int column, size_t *length)
{
    const char *hex = pg_value(result, row, column);
    *length = hex ? strlen(hex) / 2 : 0;
    if (!hex)
        return NULL;
    char *bytes = arena_alloc(&replay->arena, *length + 1);
    for (size_t i = 0; i < *length; i++)
        bytes[i] = (char)(nibble(hex[2 * i]) << 4 | nibble(hex[2 * i + 1]));
    return bytes;
}

static bool property_of(struct replay *replay, const struct pg_result *result, int row,
                        struct message_property *property)
{
    const char *kind = pg_value(result, row, PAGE_KIND);
    size_t k = 0, name_length, value_length;
    while (k < sizeof kinds / sizeof *kinds && strcmp(kinds[k], kind) != 0)
        k++;
    if (k == sizeof kinds / sizeof *kinds)
        return false;
    property->kind = (enum message_property_kind)k;
    property->name = bytes_of(replay, result, row, PAGE_NAME, &name_length);
    property->value = bytes_of(replay, result, row, PAGE_VALUE, &value_length);
    property->name_length = (uint32_t)name_length;
    property->value_length = (uint32_t)value_length;
    return property->value != NULL;
}

// The rows after first that are of the same entry; returns the first that is not.
static int read_properties(struct replay *replay, const struct pg_result *result, int first,
                           struct message_parts *parts)
{
    int row = first + 1;
    parts->property_count = 0;
    for (; row < result->rows && pg_integer(result, row, PAGE_ID) == parts->entry; row++) {
        replay->properties = mem_grow(replay->properties, parts->property_count,
                                      &replay->property_capacity, sizeof *replay->properties);
        parts->property_count +=
            property_of(replay, result, row, &replay->properties[parts->property_count]);
    }
    parts->properties = replay->properties;
    return row;
}

// Which mappings it is for, as struct message has it.
static const char *only(struct replay *replay, const char *mapping)
{
    return mapping ? arena_printf(&replay->arena, "%s\n", mapping) : NULL;
}

// Returns the row after the entry's.
static int read_entry(struct replay *replay, const struct pg_result *result, int row)
{
    const char *topic = pg_value(result, row, PAGE_TOPIC);
    const char *client_id = pg_value(result, row, PAGE_CLIENT_ID);
    struct replay_entry entry = {.mapping = pg_value(result, row, PAGE_MAPPING),
                                 .cut = *pg_value(result, row, PAGE_CUT) == 't'};
    struct message_parts *parts = &entry.parts;
    arena_reset(&replay->arena);
    *parts = (struct message_parts){
        .topic = topic,
        .topic_length = (uint32_t)strlen(topic),
        .client_id = client_id,
        .client_id_length = client_id ? (uint32_t)strlen(client_id) : 0,
        .origin = pg_value(result, row, PAGE_SOURCE),
        .only = only(replay, entry.mapping),
        .writer = pg_value(result, row, PAGE_WRITER),
        .received_us = pg_integer(result, row, PAGE_RECEIVED_US),
        .entry = pg_integer(result, row, PAGE_ID),
        .entry_kind = MESSAGE_OF_REJECTS,
        .qos = (uint8_t)pg_integer(result, row, PAGE_QOS),
        .retain = pg_integer(result, row, PAGE_RETAIN) != 0,
        .dup = pg_integer(result, row, PAGE_DUP) != 0,
    };
    parts->payload = bytes_of(replay, result, row, PAGE_VALUE, &parts->payload_length);
    parts->full_length = parts->payload_length;
    row = read_properties(replay, result, row, parts);
    replay->calls.entry(replay->calls.arg, &entry);
    return row;
}

static void page_came(void *arg, const struct pg_result *result)
{
    struct replay *replay = arg;
    size_t entries = 0;
    if (!result->ok) {
        refused(replay, result);
        return;
    }
    replay->wanted = false;
    for (int row = 0; row < result->rows; entries++) {
        replay->after_id = pg_integer(result, row, PAGE_ID);
        row = read_entry(replay, result, row);
    }
    replay->calls.page(replay->calls.arg, replay->after_id, entries);
}

static void put_which(const struct replay *replay, const char *values[WHICH_PARAMS])
{
    values[0] = replay->options.mapping;
    values[1] = replay->options.writer;
    values[2] = replay->options.unnamed ? "t" : "f";
}

static void ask(struct replay *replay)
{
    char after[24], greatest[24], entries[24], bytes[24];
    snprintf(after, sizeof after, "%" PRId64, replay->after_id);
    snprintf(greatest, sizeof greatest, "%" PRId64, replay->greatest_id);
    snprintf(entries, sizeof entries, "%d", PAGE_ENTRIES);
    snprintf(bytes, sizeof bytes, "%zu", replay->options.page_bytes);
    const char *values[] = {NULL, NULL, NULL, after, greatest, entries, bytes};
    const struct pg_params params = {.count = WHICH_PARAMS + 4, .values = values};
    put_which(replay, values);
    pg_query(replay->pg, page_sql, &params, page_came, replay);
}

// ---- opening ----

static void serve(struct replay *replay)
{
    replay->ready = true;
    replay->trouble[0] = '\0';
    backoff_reset(&replay->backoff);
    if (replay->wanted)
        ask(replay);
}

static void counted(void *arg, const struct pg_result *result)
{
    struct replay *replay = arg;
    if (!result->ok) {
        refused(replay, result);
        return;
    }
    replay->opened = true;
    replay->greatest_id = pg_integer(result, 0, 0);
    serve(replay);
    const struct replay_count count = {.entries = pg_integer(result, 0, 1),
                                       .others = pg_integer(result, 0, 2),
                                       .writers = pg_value(result, 0, 3)};
    replay->calls.opened(replay->calls.arg, &count);
}

static void open_table(struct replay *replay)
{
    const char *values[WHICH_PARAMS];
    const struct pg_params params = {.count = WHICH_PARAMS, .values = values};
    put_which(replay, values);
    if (replay->opened)
        serve(replay);
    else
        pg_query(replay->pg, count_sql, &params, counted, replay);
}

static void lock_tried(void *arg, const struct pg_result *result)
{
    struct replay *replay = arg;
    if (!result->ok) {
        refused(replay, result);
    } else if (*pg_value(result, 0, 0) == 't') {
        open_table(replay);
    } else {
        snprintf(replay->trouble, sizeof replay->trouble,
                 "another replay by the writer name \"%s\" is running", replay->options.name);
        loop_timer_start(replay->timer, LOCK_RETRY_MS);
    }
}

// Two with one name would fence each other off in turns.
static void lock(struct replay *replay)
{
    const char *const values[] = {replay->options.name};
    const struct pg_params params = {.count = 1, .values = values};
    if (!replay->options.name)
        open_table(replay);
    else
        pg_query(replay->pg,
                 "SELECT pg_catalog.pg_try_advisory_lock("
                 "pg_catalog.hashtextextended('sensorlogd ' || $1::text, 0))",
                 &params, lock_tried, replay);
}

static void timeout_set(void *arg, const struct pg_result *result)
{
    struct replay *replay = arg;
    if (result->ok)
        lock(replay);
    else
        refused(replay, result);
}

// A page, or the count, may take longer than a role's statements are allowed to.
static void now_up(void *arg)
{
    struct replay *replay = arg;
    pg_query(replay->pg, "SET statement_timeout = 0", NULL, timeout_set, replay);
}

static void timer_due(void *arg)
{
    struct replay *replay = arg;
    if (pg_connected(replay->pg))
        lock(replay);
    else
        pg_connect(replay->pg);
}

// ---- life ----

struct replay *replay_new(struct loop *loop, struct worker *worker,
                          const struct replay_options *options, const struct replay_calls *calls)
{
    struct replay *replay = mem_zalloc(sizeof *replay);
    const struct pg_calls pg_calls = {.up = now_up, .down = now_down, .arg = replay};
    replay->options = *options;
    replay->calls = *calls;
    replay->backoff = (struct backoff){.minimum_ms = BACKOFF_MIN_MS, .maximum_ms = BACKOFF_MAX_MS};
    replay->timer = loop_timer_new(loop, timer_due, replay);
    replay->pg = pg_new(loop, worker, options->conninfo, "sensorlogd replay", false, &pg_calls);
    snprintf(replay->trouble, sizeof replay->trouble, "not connected yet");
    arena_init(&replay->arena);
    return replay;
}

void replay_free(struct replay *replay)
{
    if (!replay)
        return;
    pg_free(replay->pg);
    loop_timer_free(replay->timer);
    arena_fini(&replay->arena);
    free(replay->properties);
    free(replay);
}

void replay_start(struct replay *replay)
{
    pg_connect(replay->pg);
}

void replay_read(struct replay *replay, int64_t after_id)
{
    replay->after_id = after_id;
    replay->wanted = true;
    if (replay->ready)
        ask(replay);
}

const char *replay_trouble(const struct replay *replay)
{
    return replay->trouble;
}
