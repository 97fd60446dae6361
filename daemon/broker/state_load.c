// What the file holds, given back at the start. It may hold anything: what makes no sense is left
// out, and the log says so.
#include <inttypes.h>
#include <sqlite3.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/utf8.h"
#include "broker/state_internal.h"
#include "core/topic.h"
#include "mqtt/property.h"

enum { COMPLAINTS_MAX = 10, SUBSCRIPTION_ID_MAX = 268435455 };

enum query { SUBSCRIPTIONS, WILLS, DELIVERIES, INCOMINGS, QUERIES };

static const char *const queries[QUERIES] = {
    [SUBSCRIPTIONS] = "SELECT filter, id, qos, retain_handling, no_local, retain_as_published"
                      " FROM subscription WHERE session = ?",
    [WILLS] = "SELECT publication, delay FROM will WHERE session = ?",
    [DELIVERIES] = "SELECT packet_id, publication, qos, phase, retain, sent, subscription_ids"
                   " FROM delivery WHERE session = ? ORDER BY position",
    [INCOMINGS] = "SELECT packet_id, publication, mapped FROM incoming WHERE session = ?",
};

struct load {
    struct state *state;
    const struct state_load_calls *calls;
    struct sqlite3 *db;
    struct publication **publications; // by id
    size_t count, capacity;
    uint64_t session; // whose rows are read
    char *client_id;  // of the last session
    size_t complaints;
    bool failed; // an inner query
    sqlite3_stmt *queries[QUERIES];
};

// ---- values ----

static void leave_out(struct load *load, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void leave_out(struct load *load, const char *format, ...)
{
    if (load->complaints++ >= COMPLAINTS_MAX)
        return;
    va_list args;
    va_start(args, format);
    char *text = mem_vprintf(format, args);
    va_end(args);
    log_warn("broker state %s: left out: %s", load->state->path, text);
    free(text);
}

static struct bytes column_bytes(sqlite3_stmt *row, int column)
{
    const void *data = sqlite3_column_blob(row, column);
    return (struct bytes){data ? data : (const uint8_t *)"",
                          data ? (size_t)sqlite3_column_bytes(row, column) : 0};
}

// False where the number is not from 0 to most.
static bool column_number(sqlite3_stmt *row, int column, int64_t most, int64_t *number)
{
    *number = sqlite3_column_int64(row, column);
    return sqlite3_column_type(row, column) == SQLITE_INTEGER && *number >= 0 && *number <= most;
}

// The clock that a publication goes by.
static bool column_expiry(sqlite3_stmt *row, int column, int64_t *expires_ms)
{
    *expires_ms = INT64_MAX;
    if (sqlite3_column_type(row, column) == SQLITE_NULL)
        return true;
    int64_t expires_us;
    if (!column_number(row, column, INT64_MAX, &expires_us))
        return false;
    *expires_ms = loop_now_ms() + (expires_us - loop_wall_us()) / 1000;
    return true;
}

static bool properties_valid(struct bytes block)
{
    if (block.length == 0)
        return true;
    size_t size = block.length + BYTES_VARINT_SIZE_MAX;
    uint8_t *copy = mem_alloc(size);
    struct bytes_writer w = bytes_writer(copy, size);
    bytes_write_varint(&w, block.length);
    bytes_write(&w, block);
    struct bytes_reader r = bytes_reader((struct bytes){copy, w.length});
    struct property_set set;
    struct packet_error error;
    bool valid =
        !w.bad && property_parse(&r, PACKET_PUBLISH, PACKET_FROM_SERVER, &set, &error) && !r.bad;
    free(copy);
    return valid;
}

// ---- publications ----

static void load_publication(struct load *load, sqlite3_stmt *row)
{
    int64_t id = sqlite3_column_int64(row, 0), publisher, received_us, qos, retain;
    struct publication_parts parts = {
        .topic = column_bytes(row, 6),
        .properties = column_bytes(row, 7),
        .payload = column_bytes(row, 8),
    };
    bool valid = id > 0 && column_number(row, 1, INT64_MAX, &publisher) &&
                 column_number(row, 2, INT64_MAX, &received_us) &&
                 column_expiry(row, 3, &parts.expires_ms) && column_number(row, 4, 2, &qos) &&
                 column_number(row, 5, 1, &retain) && parts.payload.length <= BYTES_VARINT_MAX &&
                 topic_name_valid((const char *)parts.topic.data, parts.topic.length) &&
                 utf8_valid(parts.topic.data, parts.topic.length) &&
                 properties_valid(parts.properties);
    if (!valid) {
        leave_out(load, "message %" PRId64 " is none that MQTT knows", id);
        return;
    }
    parts.publisher = (uint64_t)publisher;
    parts.received_us = received_us;
    parts.qos = (uint8_t)qos;
    parts.retain = retain != 0;
    load->publications =
        mem_grow(load->publications, load->count, &load->capacity, sizeof *load->publications);
    struct publication *publication = publication_new(load->state->budget, &parts);
    publication->id = id;
    load->publications[load->count++] = publication;
}

static int compare_ids(const void *key, const void *element)
{
    const int64_t id = *(const int64_t *)key;
    const struct publication *publication = *(struct publication *const *)element;
    return id < publication->id ? -1 : id > publication->id;
}

// NULL where there is none, or it was left out.
static struct publication *column_publication(const struct load *load, sqlite3_stmt *row,
                                              int column)
{
    int64_t id = sqlite3_column_int64(row, column);
    if (load->count == 0)
        return NULL;
    struct publication **found =
        bsearch(&id, load->publications, load->count, sizeof *load->publications, compare_ids);
    return found ? *found : NULL;
}

// ---- what belongs to a session ----

static void load_subscription(struct load *load, sqlite3_stmt *row)
{
    struct bytes filter = column_bytes(row, 0);
    int64_t id, qos, handling, no_local, as_published;
    bool valid = topic_filter_valid((const char *)filter.data, filter.length) &&
                 utf8_valid(filter.data, filter.length) &&
                 column_number(row, 1, SUBSCRIPTION_ID_MAX, &id) &&
                 column_number(row, 2, 2, &qos) && column_number(row, 3, 2, &handling) &&
                 column_number(row, 4, 1, &no_local) && column_number(row, 5, 1, &as_published);
    if (!valid) {
        leave_out(load, "subscription '%.*s' of session %" PRIu64 ", which cannot be",
                  (int)filter.length, (const char *)filter.data, load->session);
        return;
    }
    const struct state_subscription subscription = {
        .filter = (const char *)sqlite3_column_text(row, 0),
        .id = (uint32_t)id,
        .qos = (uint8_t)qos,
        .retain_handling = (uint8_t)handling,
        .no_local = no_local != 0,
        .retain_as_published = as_published != 0,
    };
    load->calls->subscription(load->calls->arg, load->session, &subscription);
}

static void load_will(struct load *load, sqlite3_stmt *row)
{
    struct publication *will = column_publication(load, row, 0);
    int64_t delay;
    if (will && column_number(row, 1, UINT32_MAX, &delay))
        load->calls->will(load->calls->arg, load->session, will, (uint32_t)delay);
    else
        leave_out(load, "the will of session %" PRIu64, load->session);
}

static void load_delivery(struct load *load, sqlite3_stmt *row)
{
    struct publication *publication = column_publication(load, row, 1);
    struct bytes ids = column_bytes(row, 6);
    int64_t packet_id, qos, phase, retain, sent;
    bool valid = column_number(row, 0, UINT16_MAX, &packet_id) && packet_id > 0 &&
                 column_number(row, 2, 2, &qos) && qos > 0 &&
                 column_number(row, 3, STATE_RELEASED, &phase) &&
                 column_number(row, 4, 1, &retain) && column_number(row, 5, 1, &sent) &&
                 (publication || phase == STATE_RELEASED) && properties_valid(ids);
    if (!valid) {
        leave_out(load, "delivery %lld to session %" PRIu64, sqlite3_column_int64(row, 0),
                  load->session);
        return;
    }
    const struct state_delivery delivery = {
        .packet_id = (uint16_t)packet_id,
        .qos = (uint8_t)qos,
        .phase = (uint8_t)phase,
        .retain = retain != 0,
        .sent = sent != 0,
        .subscription_ids = ids,
    };
    load->calls->delivery(load->calls->arg, load->session, &delivery,
                          phase == STATE_RELEASED ? NULL : publication);
}

static void load_incoming(struct load *load, sqlite3_stmt *row)
{
    int64_t packet_id, mapped;
    if (!column_number(row, 0, UINT16_MAX, &packet_id) || packet_id == 0 ||
        !column_number(row, 2, 1, &mapped)) {
        leave_out(load, "QoS 2 identifier %lld of session %" PRIu64, sqlite3_column_int64(row, 0),
                  load->session);
        return;
    }
    struct publication *publication = column_publication(load, row, 1);
    if (!publication && sqlite3_column_type(row, 1) != SQLITE_NULL)
        leave_out(load, "the message with QoS 2 identifier %" PRId64 " of session %" PRIu64,
                  packet_id, load->session);
    const struct state_incoming incoming = {.packet_id = (uint16_t)packet_id,
                                            .mapped = mapped != 0};
    load->calls->incoming(load->calls->arg, load->session, &incoming, publication);
}

// ---- rows ----

typedef void row_fn(struct load *load, sqlite3_stmt *row);

static bool each_row(struct load *load, sqlite3_stmt *statement, row_fn *fn)
{
    int result;
    while ((result = sqlite3_step(statement)) == SQLITE_ROW)
        fn(load, statement);
    sqlite3_reset(statement);
    return result == SQLITE_DONE;
}

static bool each_row_of(struct load *load, const char *sql, row_fn *fn)
{
    sqlite3_stmt *statement;
    bool ok = sqlite3_prepare_v2(load->db, sql, -1, &statement, NULL) == SQLITE_OK &&
              each_row(load, statement, fn);
    sqlite3_finalize(statement);
    return ok;
}

static void load_belongings(struct load *load)
{
    static row_fn *const fns[QUERIES] = {
        [SUBSCRIPTIONS] = load_subscription,
        [WILLS] = load_will,
        [DELIVERIES] = load_delivery,
        [INCOMINGS] = load_incoming,
    };
    for (int i = 0; i < QUERIES; i++) {
        sqlite3_bind_int64(load->queries[i], 1, (int64_t)load->session);
        if (!each_row(load, load->queries[i], fns[i]))
            load->failed = true;
    }
}

// Of one client the session that ended last comes first.
static void load_session(struct load *load, sqlite3_stmt *row)
{
    struct bytes client_id = column_bytes(row, 1), username = column_bytes(row, 2);
    int64_t id, expiry, ended_us, next_packet_id, version;
    bool valid = column_number(row, 0, INT64_MAX, &id) && id > 0 && client_id.length > 0 &&
                 client_id.length <= UINT16_MAX && utf8_valid(client_id.data, client_id.length) &&
                 username.length <= UINT16_MAX && utf8_valid(username.data, username.length) &&
                 column_number(row, 3, UINT32_MAX, &expiry) &&
                 column_number(row, 4, INT64_MAX, &ended_us) &&
                 column_number(row, 5, UINT16_MAX, &next_packet_id) &&
                 column_number(row, 6, UINT8_MAX, &version);
    bool again = load->client_id && bytes_equal(bytes_of(load->client_id), client_id);
    if (!valid || again) {
        leave_out(load, "session %lld of client '%.*s', which %s", sqlite3_column_int64(row, 0),
                  (int)client_id.length, (const char *)client_id.data,
                  again ? "has another one" : "cannot be");
        return;
    }
    free(load->client_id);
    load->client_id = mem_strndup((const char *)client_id.data, client_id.length);
    const struct state_session session = {
        .id = (uint64_t)id,
        .client_id = load->client_id,
        .username = (const char *)sqlite3_column_text(row, 2),
        .expiry = (uint32_t)expiry,
        .ended_us = ended_us,
        .next_packet_id = (uint16_t)next_packet_id,
        .version = (uint8_t)version,
    };
    load->session = session.id;
    load->calls->session(load->calls->arg, &session);
    load_belongings(load);
}

static void load_retained(struct load *load, sqlite3_stmt *row)
{
    struct publication *publication = column_publication(load, row, 1);
    struct bytes topic = column_bytes(row, 0);
    if (publication && bytes_equal(publication->topic, topic))
        load->calls->retained(load->calls->arg, publication);
    else
        leave_out(load, "the retained message of '%.*s'", (int)topic.length,
                  (const char *)topic.data);
}

// ---- all ----

static bool load_all(struct load *load)
{
    for (int i = 0; i < QUERIES; i++)
        if (sqlite3_prepare_v2(load->db, queries[i], -1, &load->queries[i], NULL) != SQLITE_OK)
            return false;
    return each_row_of(load,
                       "SELECT id, publisher, received_us, expires_us, qos, retain, topic,"
                       " properties, payload FROM publication ORDER BY id",
                       load_publication) &&
           each_row_of(load,
                       "SELECT id, client_id, username, expiry, ended_us, next_packet_id, version"
                       " FROM session ORDER BY client_id, ended_us <> 0, ended_us DESC",
                       load_session) &&
           !load->failed &&
           each_row_of(load, "SELECT topic, publication FROM retained ORDER BY topic",
                       load_retained);
}

static void load_fini(struct load *load)
{
    for (int i = 0; i < QUERIES; i++)
        sqlite3_finalize(load->queries[i]);
    for (size_t i = 0; i < load->count; i++)
        publication_release(load->publications[i]);
    free(load->publications);
    free(load->client_id);
}

bool state_load(struct state *state, const struct state_load_calls *calls, char **error)
{
    if (!state->disk)
        return true;
    struct load load = {.state = state, .calls = calls, .db = disk_database(state->disk)};
    state_clean(load.db, state->path);
    bool ok = load_all(&load);
    if (!ok)
        *error =
            mem_printf("broker state %s: it cannot be read (%s): look at the kernel's log, the "
                       "disk may be failing; or move it away, and begin without it",
                       state->path, sqlite3_errmsg(load.db));
    if (load.complaints > COMPLAINTS_MAX)
        log_warn("broker state %s: left out: %zu more of such", state->path,
                 load.complaints - COMPLAINTS_MAX);
    load_fini(&load);
    return ok;
}
