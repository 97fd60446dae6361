// The SQL of the batch writer, and its parameters as binary arrays.
#include "store/sql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/memtext.h"
#include "store/sql_array.h"

enum { INT8_OID = 20, TEXT_OID = 25 }; // of what is no array

// ---- parameters ----

void sql_params_init(struct sql_params *params)
{
    *params = (struct sql_params){0};
}

void sql_params_fini(struct sql_params *params)
{
    for (size_t i = 0; i < params->capacity; i++)
        sql_array_fini(&params->arrays[i]);
    free(params->arrays);
    free(params->values);
    free(params->lengths);
    free(params->formats);
    free(params->types);
}

static void reserve(struct sql_params *params, size_t count)
{
    if (count > params->capacity) {
        params->arrays = mem_realloc(params->arrays, count, sizeof *params->arrays);
        memset(params->arrays + params->capacity, 0,
               (count - params->capacity) * sizeof *params->arrays);
        params->values = mem_realloc(params->values, count, sizeof *params->values);
        params->lengths = mem_realloc(params->lengths, count, sizeof *params->lengths);
        params->formats = mem_realloc(params->formats, count, sizeof *params->formats);
        params->types = mem_realloc(params->types, count, sizeof *params->types);
        params->capacity = count;
    }
    params->params = (struct pg_params){
        .count = (int)count,
        .types = params->types,
        .values = params->values,
        .lengths = params->lengths,
        .formats = params->formats,
    };
}

static void set_array(struct sql_params *params, size_t index)
{
    sql_array_end(&params->arrays[index]);
    params->values[index] = (const char *)params->arrays[index].bytes;
    params->lengths[index] = (int)params->arrays[index].length;
    params->formats[index] = 1;
}

// A number as the bytes of an int8, in the room of an array.
static void set_count(struct sql_params *params, size_t index, size_t count)
{
    struct sql_array *array = &params->arrays[index];
    struct value number = {.integer = (int64_t)count};
    sql_array_start(array, COLUMN_INT8, 1);
    sql_array_add(array, COLUMN_INT8, &number);
    params->values[index] = (const char *)array->bytes + array->length - 8;
    params->lengths[index] = 8;
    params->formats[index] = 1;
}

size_t sql_encode_rows(struct sql_params *params, const struct batch_group *group,
                       const struct sql_rows *rows, bool keyed)
{
    const struct target *target = group->target;
    size_t columns = target->column_count, count = 0;
    for (size_t row = rows->first; row < rows->last; row++)
        count += group->outcomes[row] == rows->outcome;
    reserve(params, columns + keyed);
    for (size_t column = 0; column < columns; column++) {
        enum column_type type = target->columns[column].type;
        struct sql_array *array = &params->arrays[column];
        params->types[column] = sql_array_oid(type);
        sql_array_start(array, type, count);
        for (size_t row = rows->first; row < rows->last; row++)
            if (group->outcomes[row] == rows->outcome)
                sql_array_add(array, type, &group->values[row * columns + column]);
        set_array(params, column);
    }
    if (keyed)
        set_count(params, columns, count);
    return count;
}

struct sql_span sql_rows_span(const struct batch_group *group, const struct sql_rows *rows)
{
    struct sql_span span = {INT64_MAX, INT64_MIN};
    for (size_t row = rows->first; row < rows->last; row++) {
        int64_t time_us = group->values[row * group->target->column_count].integer;
        if (group->outcomes[row] != rows->outcome)
            continue;
        span.first_us = time_us < span.first_us ? time_us : span.first_us;
        span.last_us = time_us > span.last_us ? time_us : span.last_us;
    }
    return span;
}

void sql_encode_types(struct sql_params *params, const struct target *target, bool keyed)
{
    reserve(params, target->column_count + keyed);
    for (size_t i = 0; i < target->column_count; i++)
        params->types[i] = sql_array_oid(target->columns[i].type);
    if (keyed)
        params->types[target->column_count] = INT8_OID;
}

// ---- rejects ----

enum reject_column {
    REJECT_RECEIVED_AT,
    REJECT_SOURCE,
    REJECT_MAPPING,
    REJECT_TOPIC,
    REJECT_PAYLOAD,
    REJECT_PAYLOAD_LENGTH,
    REJECT_PROPERTIES,
    REJECT_QOS,
    REJECT_RETAIN,
    REJECT_DUP,
    REJECT_REASON,
    REJECT_DETAIL,
    REJECT_SQLSTATE,
    REJECT_CLIENT_ID,
    REJECT_WRITER,
    REJECT_COLUMNS,
};

static const enum column_type reject_types[REJECT_COLUMNS] = {
    [REJECT_RECEIVED_AT] = COLUMN_TIMESTAMPTZ,
    [REJECT_SOURCE] = COLUMN_TEXT,
    [REJECT_MAPPING] = COLUMN_TEXT,
    [REJECT_TOPIC] = COLUMN_TEXT,
    [REJECT_PAYLOAD] = COLUMN_BYTEA,
    [REJECT_PAYLOAD_LENGTH] = COLUMN_INT8,
    [REJECT_PROPERTIES] = COLUMN_JSONB,
    [REJECT_QOS] = COLUMN_INT2,
    [REJECT_RETAIN] = COLUMN_BOOL,
    [REJECT_DUP] = COLUMN_BOOL,
    [REJECT_REASON] = COLUMN_TEXT,
    [REJECT_DETAIL] = COLUMN_TEXT,
    [REJECT_SQLSTATE] = COLUMN_TEXT,
    [REJECT_CLIENT_ID] = COLUMN_TEXT,
    [REJECT_WRITER] = COLUMN_TEXT,
};

// In step, for the arrays are of one length; as one function in FROM they take ten times as long.
const char *sql_insert_rejects(void)
{
    return "INSERT INTO sensorlog.reject (received_at, source, mapping, topic, payload,"
           " payload_length, properties, qos, retain, dup, reason, detail, sqlstate,"
           " client_id, writer)"
           " SELECT unnest($1::timestamptz[]), unnest($2::text[]), unnest($3::text[]),"
           " unnest($4::text[]), unnest($5::bytea[]), unnest($6::int8[]), unnest($7::jsonb[]),"
           " unnest($8::int2[]), unnest($9::bool[]), unnest($10::bool[]), unnest($11::text[]),"
           " unnest($12::text[]), unnest($13::text[]), unnest($14::text[]),"
           " unnest($15::text[])";
}

void sql_encode_reject_types(struct sql_params *params)
{
    reserve(params, REJECT_COLUMNS);
    for (size_t i = 0; i < REJECT_COLUMNS; i++)
        params->types[i] = sql_array_oid(reject_types[i]);
}

static struct value bytes_value(const void *bytes, size_t length)
{
    return (struct value){.bytes = bytes, .length = (uint32_t)length, .null = !bytes};
}

static struct value text_value(const char *text)
{
    return bytes_value(text, text ? strlen(text) : 0);
}

static void put_json_string(FILE *out, const char *text, size_t length)
{
    fputc('"', out);
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c < 0x20)
            fprintf(out, "\\u%04x", c);
        else
            fputc(c, out);
    }
    fputc('"', out);
}

static void put_hex_string(FILE *out, const char *bytes, size_t length)
{
    fputc('"', out);
    for (size_t i = 0; i < length; i++)
        fprintf(out, "%02x", (unsigned char)bytes[i]);
    fputc('"', out);
}

// User properties may repeat and have an order, so they are pairs in an array.
static void put_user_properties(FILE *out, const struct message *message)
{
    const char *separator = "";
    fputs("\"user\": [", out);
    for (uint32_t i = 0; i < message->property_count; i++) {
        const struct message_property *property = &message->properties[i];
        if (property->kind != MESSAGE_USER_PROPERTY)
            continue;
        fprintf(out, "%s[", separator);
        put_json_string(out, property->name, property->name_length);
        fputs(", ", out);
        put_json_string(out, property->value, property->value_length);
        fputc(']', out);
        separator = ", ";
    }
    fputs("]", out);
}

static void put_other_property(FILE *out, const struct message_property *property)
{
    static const char *const names[] = {
        [MESSAGE_CONTENT_TYPE] = "content_type",
        [MESSAGE_RESPONSE_TOPIC] = "response_topic",
        [MESSAGE_CORRELATION_DATA] = "correlation_data",
        [MESSAGE_PAYLOAD_FORMAT] = "payload_format",
        [MESSAGE_EXPIRY] = "message_expiry",
    };
    fprintf(out, ", \"%s\": ", names[property->kind]);
    switch (property->kind) {
    case MESSAGE_CORRELATION_DATA:
        put_hex_string(out, property->value, property->value_length);
        break;
    case MESSAGE_PAYLOAD_FORMAT:
    case MESSAGE_EXPIRY:
        fwrite(property->value, 1, property->value_length, out);
        break;
    default:
        put_json_string(out, property->value, property->value_length);
        break;
    }
}

// NULL where the message has none; the caller frees.
static char *properties_json(const struct message *message)
{
    if (message->property_count == 0)
        return NULL;
    struct memtext text;
    memtext_open(&text);
    fputc('{', text.out);
    put_user_properties(text.out, message);
    for (uint32_t i = 0; i < message->property_count; i++)
        if (message->properties[i].kind != MESSAGE_USER_PROPERTY)
            put_other_property(text.out, &message->properties[i]);
    fputc('}', text.out);
    return memtext_close(&text);
}

// What a replay rejects again keeps the writer that it had.
static void add_reject(struct sql_params *params, const struct batch_reject *reject,
                       const char *writer)
{
    const struct message *message = reject->message;
    char *properties = properties_json(message);
    const struct value values[REJECT_COLUMNS] = {
        [REJECT_RECEIVED_AT] = {.integer = message->received_us},
        [REJECT_SOURCE] = text_value(message->origin),
        [REJECT_MAPPING] = text_value(reject->target ? reject->target->mapping : NULL),
        [REJECT_TOPIC] = bytes_value(message->topic, message->topic_length),
        [REJECT_PAYLOAD] = bytes_value(message->payload, message->payload_length),
        [REJECT_PAYLOAD_LENGTH] = {.integer = (int64_t)message->full_length},
        [REJECT_PROPERTIES] = text_value(properties),
        [REJECT_QOS] = {.integer = message->qos},
        [REJECT_RETAIN] = {.boolean = message->retain},
        [REJECT_DUP] = {.boolean = message->dup},
        [REJECT_REASON] = text_value(reject->reason),
        [REJECT_DETAIL] = text_value(reject->detail),
        [REJECT_SQLSTATE] = text_value(*reject->sqlstate ? reject->sqlstate : NULL),
        [REJECT_CLIENT_ID] = bytes_value(message->client_id, message->client_id_length),
        [REJECT_WRITER] =
            text_value(message->entry_kind == MESSAGE_OF_REJECTS ? message->writer : writer),
    };
    for (size_t i = 0; i < REJECT_COLUMNS; i++)
        sql_array_add(&params->arrays[i], reject_types[i], &values[i]);
    free(properties);
}

void sql_encode_rejects(struct sql_params *params, const struct batch *batch, const char *writer)
{
    reserve(params, REJECT_COLUMNS);
    for (size_t i = 0; i < REJECT_COLUMNS; i++)
        sql_array_start(&params->arrays[i], reject_types[i], batch->reject_count);
    for (size_t i = 0; i < batch->reject_count; i++)
        add_reject(params, &batch->rejects[i], writer);
    for (size_t i = 0; i < REJECT_COLUMNS; i++)
        set_array(params, i);
}

// ---- exchanges ----

enum {
    EXCHANGE_WRITER,
    EXCHANGE_SESSION,
    EXCHANGE_PACKET_ID,
    EXCHANGE_HASH,
    EXCHANGE_PARAMS, // of what is stored; what is deleted has no hash
};

const char *sql_exchanges(bool forget)
{
    return forget ? "DELETE FROM sensorlog.exchange e"
                    " USING unnest($2::int8[], $3::int4[]) AS u(session, packet_id)"
                    " WHERE e.writer = $1 AND e.session = u.session AND e.packet_id = u.packet_id"
                  : "INSERT INTO sensorlog.exchange (writer, session, packet_id, hash)"
                    " SELECT DISTINCT ON (u.session, u.packet_id) $1, u.session, u.packet_id,"
                    " u.hash FROM unnest($2::int8[], $3::int4[], $4::int8[]) WITH ORDINALITY"
                    " AS u(session, packet_id, hash, n)"
                    " ORDER BY u.session, u.packet_id, u.n DESC"
                    " ON CONFLICT (writer, session, packet_id) DO UPDATE SET hash = excluded.hash";
}

const char *sql_load_exchanges(void)
{
    return "SELECT session, packet_id, hash FROM sensorlog.exchange WHERE writer = $1";
}

void sql_encode_exchange_types(struct sql_params *params, bool forget)
{
    reserve(params, forget ? EXCHANGE_HASH : EXCHANGE_PARAMS);
    params->types[EXCHANGE_WRITER] = TEXT_OID;
    params->types[EXCHANGE_SESSION] = sql_array_oid(COLUMN_INT8);
    params->types[EXCHANGE_PACKET_ID] = sql_array_oid(COLUMN_INT4);
    if (!forget)
        params->types[EXCHANGE_HASH] = sql_array_oid(COLUMN_INT8);
}

void sql_encode_exchanges(struct sql_params *params, const struct batch *batch, const char *writer,
                          bool forget)
{
    size_t count = forget ? batch->forget_count : batch->exchange_count - batch->forget_count;
    reserve(params, forget ? EXCHANGE_HASH : EXCHANGE_PARAMS);
    struct sql_array *sessions = &params->arrays[EXCHANGE_SESSION];
    struct sql_array *packet_ids = &params->arrays[EXCHANGE_PACKET_ID];
    struct sql_array *hashes = forget ? NULL : &params->arrays[EXCHANGE_HASH];
    sql_array_start(sessions, COLUMN_INT8, count);
    sql_array_start(packet_ids, COLUMN_INT4, count);
    if (hashes)
        sql_array_start(hashes, COLUMN_INT8, count);
    for (size_t i = 0; i < batch->exchange_count; i++) {
        const struct batch_exchange *exchange = &batch->exchanges[i];
        if (exchange->forget != forget)
            continue;
        const struct value session = {.integer = (int64_t)exchange->session};
        const struct value packet_id = {.integer = exchange->packet_id};
        const struct value hash = {.integer = (int64_t)exchange->content};
        sql_array_add(sessions, COLUMN_INT8, &session);
        sql_array_add(packet_ids, COLUMN_INT4, &packet_id);
        if (hashes)
            sql_array_add(hashes, COLUMN_INT8, &hash);
    }
    params->values[EXCHANGE_WRITER] = writer;
    params->lengths[EXCHANGE_WRITER] = 0; // text, with its NUL
    params->formats[EXCHANGE_WRITER] = 0;
    set_array(params, EXCHANGE_SESSION);
    set_array(params, EXCHANGE_PACKET_ID);
    if (hashes)
        set_array(params, EXCHANGE_HASH);
}

// ---- entries ----

const char *sql_advance_spool(void)
{
    return "SELECT sensorlog.spool_advance($1, $2, $3)";
}

void sql_encode_spool(struct sql_params *params, const struct batch *batch, const char *spool)
{
    reserve(params, 3);
    params->types[0] = TEXT_OID;
    params->values[0] = spool;
    params->lengths[0] = params->formats[0] = 0;
    params->types[1] = params->types[2] = INT8_OID;
    set_count(params, 1, (size_t)batch->spool_from);
    set_count(params, 2, (size_t)batch->spool_to);
}

const char *sql_take_rejects(void)
{
    return "SELECT sensorlog.take_rejects($1)";
}

void sql_encode_taken(struct sql_params *params, const struct batch *batch)
{
    reserve(params, 1);
    params->types[0] = sql_array_oid(COLUMN_INT8);
    sql_array_start(&params->arrays[0], COLUMN_INT8, batch->taken_count);
    for (size_t i = 0; i < batch->taken_count; i++) {
        const struct value entry = {.integer = batch->taken[i]};
        sql_array_add(&params->arrays[0], COLUMN_INT8, &entry);
    }
    set_array(params, 0);
}
