// A record of the spool in which bytes have changed: PostgreSQL must be able to take what becomes
// of it, or nothing behind it ever comes out of the spool.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "spool/spool_record.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define BYTES(literal)                                                                             \
    {                                                                                              \
        (const uint8_t *)(literal), sizeof(literal) - 1                                            \
    }
#define ARRIVED INT64_C(1700000000123456)

// Kind, lengths of name and value, both.
#define PROPERTY(kind, name_length, value_length, texts)                                           \
    kind "\0\0\0" name_length "\0\0\0" value_length texts
#define USER "\0"
#define CONTENT_TYPE "\1"
#define RESPONSE_TOPIC "\2"
#define CORRELATION "\3"
#define FORMAT "\4"
#define EXPIRY "\5"

static const struct spool_record whole = {
    .number = 7,
    .received_us = ARRIVED,
    .session = 5,
    .packet_id = 9,
    .content = 11,
    .full_length = 3,
    .flags = 1,
    .fields = {[SPOOL_ORIGIN] = BYTES("site"),
               [SPOOL_ONLY] = BYTES("one\n"),
               [SPOOL_TOPIC] = BYTES("count/\303\244"),
               [SPOOL_CLIENT_ID] = BYTES("c1"),
               [SPOOL_PROPERTIES] = BYTES(PROPERTY(USER, "\2", "\1", "k\1v") // as in "k\1": "v"
                                          PROPERTY(CONTENT_TYPE, "\0", "\1", "t")     //
                                          PROPERTY(RESPONSE_TOPIC, "\0", "\1", "r")   //
                                          PROPERTY(CORRELATION, "\0", "\2", "\0\377") // bytes
                                          PROPERTY(FORMAT, "\0", "\1", "1")           //
                                          PROPERTY(EXPIRY, "\0", "\012", "4294967295")),
               [SPOOL_PAYLOAD] = BYTES("\0\377x")},
};

static int setup(void **state)
{
    static struct arena arena;
    arena_init(&arena);
    *state = &arena;
    return 0;
}

static int teardown(void **state)
{
    arena_fini(*state);
    return 0;
}

static void assert_text(const char *text, size_t length, const char *wanted)
{
    assert_int_equal(length, strlen(wanted));
    assert_memory_equal(text, wanted, length);
}

static void assert_valid(const char *text, size_t length)
{
    assert_true(!text || utf8_valid(text, length));
}

// What any record becomes: texts that PostgreSQL takes, and numbers in its range.
static void assert_harmless(const struct spool_entry *entry)
{
    const struct message_parts *parts = &entry->parts;
    assert_valid(parts->topic, parts->topic_length);
    assert_valid(parts->client_id, parts->client_id_length);
    const char *const texts[] = {parts->origin, parts->only, parts->flaw, parts->flaw_detail};
    for (size_t i = 0; i < COUNT(texts); i++)
        assert_valid(texts[i], texts[i] ? strlen(texts[i]) : 0);
    for (uint32_t i = 0; i < parts->property_count; i++) {
        const struct message_property *property = &parts->properties[i];
        assert_valid(property->name, property->name_length);
        if (property->kind != MESSAGE_CORRELATION_DATA)
            assert_valid(property->value, property->value_length);
    }
    assert_true(entry->session == 0 || entry->packet_id > 0);
    assert_in_range(parts->received_us, 0, INT64_MAX / 1000);
    assert_true(parts->full_length <= INT64_MAX);
}

static void what_is_whole_has_no_flaw(void **state)
{
    struct spool_entry entry;
    spool_record_read(&whole, *state, &entry);
    const struct message_parts *parts = &entry.parts;
    assert_null(parts->flaw);
    assert_null(parts->flaw_detail);
    assert_text(parts->topic, parts->topic_length, "count/\303\244");
    assert_text(parts->client_id, parts->client_id_length, "c1");
    assert_string_equal(parts->origin, "site");
    assert_string_equal(parts->only, "one\n");
    assert_int_equal(parts->property_count, 6);
    assert_true(parts->received_us == ARRIVED);
    assert_int_equal(entry.session, 5);
    assert_int_equal(entry.packet_id, 9);
    assert_int_equal(parts->full_length, 3);
    assert_harmless(&entry);
}

// ---- texts ----

static void a_damaged_text_is_a_flaw(void **state)
{
    static const struct bytes bad[] = {BYTES("a\377"), BYTES("a\0b"), BYTES("\303"),
                                       BYTES("\355\240\200")};
    static const struct {
        enum spool_field field;
        const char *detail;
    } rows[] = {{SPOOL_ORIGIN, "origin"}, {SPOOL_ONLY, "only_for"},
                {SPOOL_TOPIC, "topic"},   {SPOOL_CLIENT_ID, "client_id"},
                {SPOOL_FLAW, "flaw"},     {SPOOL_FLAW_DETAIL, "flaw_detail"}};
    for (size_t i = 0; i < COUNT(rows) * COUNT(bad); i++) {
        struct spool_record record = whole;
        struct spool_entry entry;
        record.fields[rows[i / COUNT(bad)].field] = bad[i % COUNT(bad)];
        spool_record_read(&record, *state, &entry);
        assert_non_null(entry.parts.flaw);
        assert_string_equal(entry.parts.flaw, "damaged in the spool");
        assert_string_equal(entry.parts.flaw_detail, rows[i / COUNT(bad)].detail);
        assert_int_equal(entry.parts.payload_length, 3);
        assert_harmless(&entry);
    }
}

static void a_damaged_topic_is_escaped(void **state)
{
    struct spool_record record = whole;
    struct spool_entry entry;
    record.fields[SPOOL_TOPIC] = (struct bytes)BYTES("\377count/\0\303\2441\303");
    spool_record_read(&record, *state, &entry);
    assert_text(entry.parts.topic, entry.parts.topic_length, "\\xFFcount/\\x00\303\2441\\xC3");
}

static void all_that_is_damaged_is_named(void **state)
{
    struct spool_record record = whole;
    struct spool_entry entry;
    record.fields[SPOOL_TOPIC] = (struct bytes)BYTES("\377");
    record.fields[SPOOL_FLAW] = (struct bytes)BYTES("malformed PUBLISH");
    record.fields[SPOOL_FLAW_DETAIL] = (struct bytes)BYTES("a field runs past the end");
    record.received_us = -1;
    spool_record_read(&record, *state, &entry);
    assert_string_equal(entry.parts.flaw, "damaged in the spool");
    assert_string_equal(entry.parts.flaw_detail, "topic, received_us");
}

// ---- properties ----

static void damaged_properties_are_left_out(void **state)
{
    static const struct bytes rows[] = {
        BYTES(PROPERTY(USER, "\1", "\1", "k\377")),
        BYTES(PROPERTY(USER, "\1", "\1", "\377v")),
        BYTES(PROPERTY(USER, "\1", "\1", "k\0")),
        BYTES(PROPERTY(USER, "\1", "\1", "kv") PROPERTY(CONTENT_TYPE, "\0", "\1", "\377")),
        BYTES(PROPERTY(RESPONSE_TOPIC, "\0", "\1", "\0")),
        BYTES(PROPERTY(CONTENT_TYPE, "\1", "\1", "kv")), // has no name
        BYTES(PROPERTY(FORMAT, "\0", "\1", "2")),
        BYTES(PROPERTY(FORMAT, "\0", "\2", "11")),
        BYTES(PROPERTY(FORMAT, "\0", "\0", "")),
        BYTES(PROPERTY(EXPIRY, "\0", "\1", "a")),
        BYTES(PROPERTY(EXPIRY, "\0", "\0", "")),
        BYTES(PROPERTY(EXPIRY, "\0", "\2", "01")), // JSON has no such number
        BYTES(PROPERTY(EXPIRY, "\0", "\2", "-1")),
        BYTES(PROPERTY(EXPIRY, "\0", "\012", "4294967296")),
        BYTES(PROPERTY(EXPIRY, "\0", "\013", "42949672950")),
        BYTES(PROPERTY("\6", "\0", "\1", "v")),
        BYTES(PROPERTY(USER, "\1", "\2", "kv")), // ends too early
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct spool_record record = whole;
        struct spool_entry entry;
        record.fields[SPOOL_PROPERTIES] = rows[i];
        spool_record_read(&record, *state, &entry);
        assert_non_null(entry.parts.flaw);
        assert_string_equal(entry.parts.flaw, "damaged in the spool");
        assert_string_equal(entry.parts.flaw_detail, "properties");
        assert_int_equal(entry.parts.property_count, 0);
        assert_harmless(&entry);
    }
}

// ---- numbers ----

static void a_damaged_number_is_a_flaw(void **state)
{
    static const int64_t times[] = {INT64_MIN, INT64_MIN + 2,        -INT64_C(210866803200000001),
                                    -1,        INT64_MAX / 1000 + 1, INT64_MAX};
    struct spool_entry entry;
    for (size_t i = 0; i < COUNT(times); i++) {
        struct spool_record record = whole;
        record.received_us = times[i];
        spool_record_read(&record, *state, &entry);
        assert_non_null(entry.parts.flaw);
        assert_string_equal(entry.parts.flaw_detail, "received_us");
        assert_int_equal(entry.parts.received_us, 0); // now
        assert_harmless(&entry);
    }
    static const uint64_t packet_ids[] = {0, 65536 + 9, UINT64_C(1) << 32 | 9, UINT64_MAX};
    for (size_t i = 0; i < COUNT(packet_ids); i++) {
        struct spool_record record = whole;
        record.packet_id = packet_ids[i];
        spool_record_read(&record, *state, &entry);
        assert_non_null(entry.parts.flaw);
        assert_string_equal(entry.parts.flaw_detail, "packet_id");
        assert_int_equal(entry.session, 0);
        assert_int_equal(entry.packet_id, 0);
        assert_harmless(&entry);
    }
    static const uint64_t lengths[] = {268435456, INT64_MAX, UINT64_MAX};
    for (size_t i = 0; i < COUNT(lengths); i++) {
        struct spool_record record = whole;
        record.full_length = lengths[i];
        spool_record_read(&record, *state, &entry);
        assert_non_null(entry.parts.flaw);
        assert_string_equal(entry.parts.flaw_detail, "full_length");
        assert_int_equal(entry.parts.full_length, 3);
        assert_harmless(&entry);
    }
    static const uint64_t flags[] = {3, 32, UINT64_C(1) << 32 | 1, UINT64_MAX};
    for (size_t i = 0; i < COUNT(flags); i++) {
        struct spool_record record = whole;
        record.flags = flags[i];
        spool_record_read(&record, *state, &entry);
        assert_non_null(entry.parts.flaw);
        assert_string_equal(entry.parts.flaw_detail, "flags");
        assert_harmless(&entry);
    }
}

static void what_a_clock_can_say_is_no_flaw(void **state)
{
    static const int64_t times[] = {0, 1, INT64_MAX / 1000};
    for (size_t i = 0; i < COUNT(times); i++) {
        struct spool_record record = whole;
        struct spool_entry entry;
        record.received_us = times[i];
        spool_record_read(&record, *state, &entry);
        assert_null(entry.parts.flaw);
        assert_true(entry.parts.received_us == times[i]);
    }
}

// ---- lengths ----

static void a_flawed_message_may_have_a_topic_of_escapes(void **state)
{
    enum { ESCAPED = 4 * UINT16_MAX };
    static char topic[ESCAPED + 1];
    static const struct {
        size_t length;
        const char *flaw, *wanted;
    } rows[] = {
        {UINT16_MAX, "", NULL},
        {UINT16_MAX + 1, "", "damaged in the spool"},
        {UINT16_MAX, "malformed PUBLISH", "malformed PUBLISH"},
        {ESCAPED, "malformed PUBLISH", "malformed PUBLISH"},
        {ESCAPED + 1, "malformed PUBLISH", "damaged in the spool"},
    };
    memset(topic, 'x', sizeof topic);
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct spool_record record = whole;
        struct spool_entry entry;
        record.fields[SPOOL_TOPIC] = (struct bytes){(const uint8_t *)topic, rows[i].length};
        if (*rows[i].flaw)
            record.fields[SPOOL_FLAW] = bytes_of(rows[i].flaw);
        spool_record_read(&record, *state, &entry);
        assert_true(!entry.parts.flaw == !rows[i].wanted);
        if (rows[i].wanted)
            assert_string_equal(entry.parts.flaw, rows[i].wanted);
        assert_int_equal(entry.parts.topic_length,
                         rows[i].length <= ESCAPED ? rows[i].length : ESCAPED);
    }
}

static void a_client_id_that_mqtt_cannot_have_is_left_out(void **state)
{
    static char id[UINT16_MAX + 1];
    struct spool_record record = whole;
    struct spool_entry entry;
    memset(id, 'x', sizeof id);
    record.fields[SPOOL_CLIENT_ID] = (struct bytes){(const uint8_t *)id, sizeof id};
    spool_record_read(&record, *state, &entry);
    assert_string_equal(entry.parts.flaw_detail, "client_id");
    assert_null(entry.parts.client_id);
    assert_int_equal(entry.parts.client_id_length, 0);
}

static void a_property_that_mqtt_cannot_have_is_left_out(void **state)
{
    static const struct {
        uint32_t name, value;
        bool good;
    } rows[] = {{UINT16_MAX, UINT16_MAX, true},
                {UINT16_MAX + 1, 1, false},
                {1, UINT16_MAX + 1, false}};
    static uint8_t memory[9 + 2 * (UINT16_MAX + 1)];
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct spool_record record = whole;
        struct spool_entry entry;
        struct bytes_writer w = bytes_writer(memory, sizeof memory);
        bytes_write_u8(&w, MESSAGE_USER_PROPERTY);
        bytes_write_u32(&w, rows[i].name);
        bytes_write_u32(&w, rows[i].value);
        size_t length = rows[i].name + rows[i].value;
        memset(bytes_reserve(&w, length), 'x', length);
        record.fields[SPOOL_PROPERTIES] = (struct bytes){memory, w.length};
        spool_record_read(&record, *state, &entry);
        assert_int_equal(!entry.parts.flaw, rows[i].good);
        assert_int_equal(entry.parts.property_count, rows[i].good);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_is_whole_has_no_flaw),
        TEST(a_damaged_text_is_a_flaw),
        TEST(a_damaged_topic_is_escaped),
        TEST(all_that_is_damaged_is_named),
        TEST(damaged_properties_are_left_out),
        TEST(a_damaged_number_is_a_flaw),
        TEST(what_a_clock_can_say_is_no_flaw),
        TEST(a_flawed_message_may_have_a_topic_of_escapes),
        TEST(a_client_id_that_mqtt_cannot_have_is_left_out),
        TEST(a_property_that_mqtt_cannot_have_is_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
