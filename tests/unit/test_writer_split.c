// Batches that PostgreSQL has no room for: in two, and in two again, and what the writer makes of
// that.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/writer_internal.h"
#include "writer_rig.h"

enum { SESSION = 1001 };

// ---- a batch in two ----

static struct message *receive(struct rig *rig, enum message_entry kind, int64_t entry)
{
    const struct message_parts parts = {.topic = "a",
                                        .topic_length = 1,
                                        .entry_kind = (uint8_t)kind,
                                        .entry = entry};
    struct message *message = message_new(&rig->source, &rig->budget, &parts);
    message->ticket = rig->received++;
    message->session = rig->session;
    message->packet_id = rig->packet_id;
    return message;
}

// Row n of the message; its note is in the batch's arena.
static void add_row(struct rig *rig, struct batch *batch, int target, struct message *message,
                    int64_t n)
{
    books_receive(&rig->targets[target].books);
    struct value *row = batch_reserve_row(batch, &rig->targets[target]);
    char *note = arena_printf(&batch->arena, "note %d", (int)n);
    row[0] = (struct value){.integer = rig_time(n)};
    row[1] = (struct value){.integer = n};
    row[2] = (struct value){.bytes = note, .length = (uint32_t)strlen(note)};
    batch_keep_row(batch, &rig->targets[target], message);
}

static void add_message(struct rig *rig, struct batch *batch, enum message_entry kind,
                        int64_t entry)
{
    struct message *message = receive(rig, kind, entry);
    add_row(rig, batch, PLAIN, message, (int64_t)message->ticket);
    message_release(message, VERDICT_NONE, NULL);
}

// Whatever the test did: no more than what it had before, and each message ends once.
static void end_batches(struct batch *batch, struct batch *later)
{
    batch_settle(batch);
    batch_settle(later);
    batch_free(batch);
    batch_free(later);
}

// Every third message has a part more, every fifth one that is rejected; of every seventh a row is
// refused.
static struct batch *mixed_batch(struct rig *rig, int64_t count)
{
    struct batch *batch = batch_new(&rig->budget);
    for (int64_t n = 0; n < count; n++) {
        struct message *message = receive(rig, MESSAGE_NO_ENTRY, 0);
        add_row(rig, batch, n % 2 ? PLAIN : KEYED, message, n);
        if (n % 3 == 0)
            add_row(rig, batch, OTHER, message, n);
        if (n % 5 == 0) {
            books_receive(&rig->targets[OTHER].books);
            char *detail = mem_printf("part %d", (int)n);
            batch_add_reject(batch, &rig->targets[OTHER], message, "malformed", detail, "");
            free(detail);
        }
        message_release(message, VERDICT_NONE, NULL);
        struct batch_group *group = &batch->groups[n % 2 ? PLAIN : KEYED];
        char *detail = mem_printf("row %d", (int)n);
        if (n % 7 == 0)
            batch_refuse_row(batch, group, group->count - 1, "refused", detail, "23514");
        free(detail);
    }
    return batch;
}

// The rows from first to before last are there, as they were, and nothing else.
static void assert_mixed(const struct batch *batch, int64_t first, int64_t last)
{
    size_t rows = 0, rejects = 0;
    int64_t next[RIG_TARGETS] = {first, first, first};
    for (size_t g = 0; g < batch->group_count; g++) {
        const struct batch_group *group = &batch->groups[g];
        size_t refused = 0;
        for (size_t row = 0; row < group->count; row++, rows++) {
            const struct value *values = group->values + row * 3;
            int64_t n = values[1].integer;
            char note[32];
            snprintf(note, sizeof note, "note %d", (int)n);
            assert_in_range(n, next[g], last - 1);
            assert_int_equal(values[0].integer, rig_time(n));
            assert_int_equal(values[2].length, strlen(note));
            assert_int_equal(memcmp(values[2].bytes, note, strlen(note)), 0);
            assert_int_equal(group->messages[row]->ticket, n);
            bool bad = n % 7 == 0 && g != OTHER;
            assert_int_equal(group->outcomes[row], bad ? VERDICT_REJECTED : VERDICT_NONE);
            refused += bad;
            next[g] = n + 1;
        }
        assert_int_equal(group->refused, refused);
    }
    for (size_t i = 0; i < batch->reject_count; i++, rejects++) {
        const struct batch_reject *reject = &batch->rejects[i];
        int n = (int)reject->message->ticket;
        char detail[32];
        snprintf(detail, sizeof detail, "%s %d", reject->of_row ? "row" : "part", n);
        assert_in_range(n, first, last - 1);
        assert_string_equal(reject->detail, detail);
        if (reject->of_row) {
            const struct batch_group *group = &batch->groups[reject->target->index];
            assert_int_equal(group->values[reject->row * 3 + 1].integer, n);
        }
    }
    size_t expected_rows = 0, expected_rejects = 0;
    for (int64_t n = first; n < last; n++) {
        expected_rows += n % 3 == 0 ? 2 : 1;
        expected_rejects += n % 5 == 0;
        expected_rejects += n % 7 == 0;
    }
    assert_int_equal(rows, expected_rows);
    assert_int_equal(batch->row_count, expected_rows);
    assert_int_equal(rejects, expected_rejects);
}

static void each_message_is_in_one_half(void **state)
{
    rig_need_postgres();
    struct rig *rig = *state;
    for (int64_t count = 2; count < 80; count++) {
        rig->received = rig->settled = 0;
        memset(rig->verdicts, 0, sizeof rig->verdicts);
        struct batch *batch = mixed_batch(rig, count), *later = batch_new(&rig->budget);
        size_t bytes = batch->value_bytes, charged = batch->charged;
        assert_true(batch_may_split(batch));
        assert_true(batch_split(batch, later));
        assert_mixed(batch, 0, (count + 1) / 2);
        assert_mixed(later, (count + 1) / 2, count);
        assert_int_equal(batch->value_bytes + later->value_bytes, bytes);
        assert_int_equal(batch->charged + later->charged, charged + later->arena.used);
        batch_settle(batch);
        batch_free(batch); // with its arena
        assert_mixed(later, (count + 1) / 2, count);
        for (int64_t n = 0; n < count; n++)
            assert_int_equal(rig->verdicts[n], n >= (count + 1) / 2       ? VERDICT_NONE
                                               : n % 5 == 0 || n % 7 == 0 ? VERDICT_REJECTED
                                                                          : VERDICT_STORED);
        batch_settle(later);
        batch_free(later);
        assert_int_equal(rig->settled, count);
        assert_int_equal(rig->budget.used, 0);
    }
}

static void one_message_stays_whole(void **state)
{
    rig_need_postgres();
    struct rig *rig = *state;
    struct batch *batch = batch_new(&rig->budget), *later = batch_new(&rig->budget);
    struct message *message = receive(rig, MESSAGE_NO_ENTRY, 0);
    for (int64_t n = 0; n < 10; n++)
        add_row(rig, batch, n % 2 ? PLAIN : OTHER, message, n);
    batch_add_reject(batch, NULL, message, "malformed", NULL, "");
    message_release(message, VERDICT_NONE, NULL);
    batch_forget_exchange(batch, SESSION, 1, false);
    assert_false(batch_may_split(batch));
    assert_false(batch_split(batch, later));
    assert_int_equal(batch->row_count, 10);
    assert_true(batch_empty(later));
    end_batches(batch, later);
}

// Those that nothing is stored for, 4, 5 and 9, go with what follows them.
static void the_spools_entries_go_in_order(void **state)
{
    rig_need_postgres();
    struct rig *rig = *state;
    static const struct {
        int64_t entries[6]; // 0: a message of another source; negative: nothing is stored for it
        int64_t through, later_through;
    } cases[] = {{{1, 2, 3, 6, 7, 8}, 3, 8},     {{1, 2, -4, -5, 6, 7}, 2, 7},
                 {{1, 2, -5, 6, 7, -9}, 2, 9},   {{1, 2, 0, 0, 0, 0}, 2, 0},
                 {{0, 0, 0, 0, 7, 8}, 0, 8},     {{0, 0, 0, 0, 0, 0}, 0, 0},
                 {{-1, -2, -3, -4, 7, 8}, 7, 8}, {{0, 0, 0, 0, -7, -8}, 0, 8}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct batch *batch = batch_new(&rig->budget), *later = batch_new(&rig->budget);
        for (size_t k = 0; k < 6; k++) {
            int64_t entry = cases[i].entries[k];
            if (entry < 0)
                batch_pass_entry(batch, -entry);
            else
                add_message(rig, batch, entry > 0 ? MESSAGE_OF_SPOOL : MESSAGE_NO_ENTRY, entry);
        }
        assert_true(batch_split(batch, later));
        assert_int_equal(batch->spool_to, cases[i].through);
        assert_int_equal(later->spool_to, cases[i].later_through);
        end_batches(batch, later);
    }
}

static void rejects_are_taken_with_their_rows(void **state)
{
    rig_need_postgres();
    struct rig *rig = *state;
    struct batch *batch = batch_new(&rig->budget), *later = batch_new(&rig->budget);
    for (int64_t entry = 11; entry <= 16; entry++)
        add_message(rig, batch, MESSAGE_OF_REJECTS, entry);
    assert_true(batch_split(batch, later));
    assert_int_equal(batch->taken_count, 3);
    assert_int_equal(later->taken_count, 3);
    for (int64_t i = 0; i < 3; i++) {
        assert_int_equal(batch->taken[i], 11 + i);
        assert_int_equal(later->taken[i], 14 + i);
    }
    end_batches(batch, later);
}

// What is forgotten and stored again is in one transaction, in which deletes come first.
static void an_identifier_is_forgotten_where_it_is_stored_again(void **state)
{
    rig_need_postgres();
    struct rig *rig = *state;
    struct batch *batch = batch_new(&rig->budget), *later = batch_new(&rig->budget);
    rig->session = SESSION;
    for (uint16_t id = 1; id <= 8; id++) {
        batch_forget_exchange(batch, SESSION, id, id % 2);
        rig->packet_id = id;
        if (id > 2)
            add_message(rig, batch, MESSAGE_NO_ENTRY, 0);
    }
    assert_true(batch_split(batch, later));
    assert_int_equal(batch->exchange_count, 5 + 3);
    assert_int_equal(batch->forget_count, 5);
    assert_int_equal(later->exchange_count, 3 + 3);
    assert_int_equal(later->forget_count, 3);
    for (size_t i = 0; i < batch->exchange_count; i++)
        assert_in_range(batch->exchanges[i].packet_id, 1, 5);
    for (size_t i = 0; i < later->exchange_count; i++)
        assert_in_range(later->exchanges[i].packet_id, 6, 8);
    end_batches(batch, later);
}

// ---- the writer ----

// No more than so many rows of the table at a time: to PostgreSQL a statement is too large.
static void set_room(struct rig *rig, const char *table, int rows)
{
    char *sql = mem_printf(
        "CREATE OR REPLACE FUNCTION telemetry.room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF (SELECT count(*) FROM rows) > %d THEN RAISE EXCEPTION 'out of shared memory'"
        " USING ERRCODE = '53200'; END IF; RETURN NULL; END $$;"
        "CREATE OR REPLACE TRIGGER room AFTER INSERT ON telemetry.%s REFERENCING NEW TABLE AS rows"
        " FOR EACH STATEMENT EXECUTE FUNCTION telemetry.room()",
        rows, table);
    rig_run(rig->server, sql);
    free(sql);
}

static void halved_until_there_is_room(void **state)
{
    struct rig *rig = rig_with(state, (struct writer_options){0});
    set_room(rig, "plain", 100);
    rig_feed_range(rig, PLAIN, 0, 1000);
    writer_start(rig->writer);
    rig_wait_all(rig);
    rig_assert_verdicts(rig, 0, 1000, VERDICT_STORED);
    for (uint64_t n = 0; n < 1000; n++)
        assert_int_equal(rig->order[n], n);
    // 500, 250, 125, 62; what is left may be 62 and more.
    assert_in_range(writer_counters(rig->writer)->failures, 4, 5);
    assert_in_range(writer_counters(rig->writer)->commits, 10, 20);
    rig_assert_text(rig->server, "SELECT count(*), count(DISTINCT n) FROM telemetry.plain",
                    "1000|1000");
    rig_assert_text(
        rig->server,
        "SELECT bool_and(before < n) FROM (SELECT n, lag(max(n)) OVER"
        " (ORDER BY xmin::text::int8, n) AS before FROM telemetry.plain GROUP BY n, xmin) t",
        "t");
}

// The next one begins with what there was room for, and each that is committed asks for more.
static void later_batches_grow_again(void **state)
{
    struct rig *rig = rig_with(state, (struct writer_options){0});
    set_room(rig, "plain", 100);
    rig_feed_range(rig, PLAIN, 0, 1000);
    writer_start(rig->writer);
    rig_wait_all(rig);
    uint64_t failures = writer_counters(rig->writer)->failures;
    rig_feed_range(rig, PLAIN, 1000, 2000);
    rig_wait_all(rig);
    assert_in_range(writer_counters(rig->writer)->failures, failures, failures + 3);
    rig_run(rig->server, "DROP TRIGGER room ON telemetry.plain");
    for (int64_t n = 0; n < 100; n++) {
        rig_feed(rig, PLAIN, 2000 + n);
        rig_wait_all(rig);
    }
    uint64_t commits = writer_counters(rig->writer)->commits;
    rig_feed_range(rig, PLAIN, 2100, 3100);
    rig_wait_all(rig);
    assert_in_range(writer_counters(rig->writer)->commits, commits + 1, commits + 2);
}

static void one_message_waits_until_there_is_room(void **state)
{
    struct rig *rig = rig_with(state, (struct writer_options){0});
    set_room(rig, "plain", 4);
    for (int64_t n = 0; n < 20; n++) {
        const struct part parts[] = {{PLAIN, n, NULL},
                                     {PLAIN, n, NULL},
                                     {PLAIN, n, NULL},
                                     {PLAIN, n, NULL},
                                     {PLAIN, n, NULL}};
        rig_feed_message(rig, parts, n == 10 ? 5 : 1, NULL);
    }
    writer_start(rig->writer);
    rig_wait_state(rig, "not even one message fits: raise PostgreSQL's max_locks_per_transaction");
    assert_false(writer_commits(rig->writer));
    rig_assert_text(rig->server, "SELECT count(*) FROM telemetry.plain", "10");
    set_room(rig, "plain", 5);
    rig_wait_all(rig);
    rig_assert_verdicts(rig, 0, 20, VERDICT_STORED);
    rig_assert_text(rig->server, "SELECT count(*) FROM telemetry.plain", "24");
}

// Two tables, of which one has little room: a message's rows are in one transaction nevertheless.
static void a_messages_rows_stay_together(void **state)
{
    struct rig *rig = rig_with(state, (struct writer_options){.connections = 2});
    set_room(rig, "other", 30);
    for (int64_t n = 0; n < 300; n++) {
        const struct part parts[] = {{PLAIN, n, NULL}, {OTHER, n, NULL}, {KEYED, n, NULL}};
        rig_feed_message(rig, parts, 3, n % 10 ? NULL : "malformed");
    }
    writer_start(rig->writer);
    rig_wait_all(rig);
    rig_assert_text(rig->server,
                    "SELECT count(*) FROM telemetry.plain p JOIN telemetry.other o USING (n)"
                    " JOIN telemetry.keyed k USING (n) WHERE p.xmin = o.xmin AND o.xmin = k.xmin",
                    "300");
    rig_assert_text(rig->server, "SELECT count(*) FROM sensorlog.reject", "30");
    for (uint64_t n = 0; n < 300; n++)
        assert_int_equal(rig->verdicts[n], n % 10 ? VERDICT_STORED : VERDICT_REJECTED);
}

// Looked for first, and found again in the parts, or found in a part.
static void rows_at_fault_and_no_room(void **state)
{
    static const char *const faults[] = {
        "ALTER TABLE telemetry.plain ADD CHECK (n % 3 <> 0)",
        "CREATE FUNCTION telemetry.raise() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.n % 3 = 0 THEN RAISE 'bad'; END IF; RETURN NULL; END $$;"
        "CREATE TRIGGER raise AFTER INSERT ON telemetry.plain FOR EACH ROW EXECUTE FUNCTION"
        " telemetry.raise()",
        "CREATE FUNCTION telemetry.raise() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.n % 3 = 0 THEN RAISE 'bad'; END IF; RETURN NULL; END $$;"
        "CREATE CONSTRAINT TRIGGER raise AFTER INSERT ON telemetry.plain DEFERRABLE INITIALLY"
        " DEFERRED FOR EACH ROW EXECUTE FUNCTION telemetry.raise()",
    };
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        if (i)
            rig_setup(state);
        struct rig *rig = rig_with(state, (struct writer_options){0});
        rig_run(rig->server, faults[i]);
        set_room(rig, "other", 40);
        for (int64_t n = 0; n < 300; n++) {
            const struct part parts[] = {{PLAIN, n, "note"}, {OTHER, n, NULL}};
            rig_feed_message(rig, parts, 2, NULL);
        }
        writer_start(rig->writer);
        rig_wait_all(rig);
        for (uint64_t n = 0; n < 300; n++)
            assert_int_equal(rig->verdicts[n], n % 3 ? VERDICT_STORED : VERDICT_REJECTED);
        rig_assert_text(rig->server,
                        "SELECT (SELECT count(DISTINCT n) FROM telemetry.plain),"
                        " (SELECT count(*) FROM telemetry.plain),"
                        " (SELECT count(*) FROM telemetry.other),"
                        " (SELECT count(*) FROM sensorlog.reject)",
                        "200|200|300|100");
        if (i + 1 < sizeof faults / sizeof *faults)
            rig_teardown(state);
    }
}

static void identifiers_are_stored_with_their_part(void **state)
{
    struct rig *rig = *state;
    rig_need_postgres();
    rig->exchanges = true;
    rig = rig_with(state, (struct writer_options){0});
    set_room(rig, "plain", 10);
    rig->session = SESSION;
    for (rig->packet_id = 1; rig->packet_id <= 100; rig->packet_id++)
        rig_feed(rig, PLAIN, rig->packet_id);
    writer_start(rig->writer);
    rig_wait_all(rig);
    rig_assert_text(rig->server,
                    "SELECT count(*) FROM sensorlog.exchange e JOIN telemetry.plain p"
                    " ON p.n = e.packet_id AND p.xmin = e.xmin WHERE session = 1001",
                    "100");
}

static void feed_entry(struct rig *rig, int64_t entry)
{
    add_message(rig, writer_begin(rig->writer), MESSAGE_OF_SPOOL, entry);
    writer_end(rig->writer);
}

// Of transactions with the spool's entries one is under way at a time: which part that is may
// change.
static void entries_follow_what_has_none(void **state)
{
    struct rig *rig = rig_with(state, (struct writer_options){.connections = 2});
    rig->writer->epoch.spool = "a file";
    set_room(rig, "plain", 10);
    rig_feed_range(rig, PLAIN, 0, 10);
    for (int64_t entry = 1; entry <= 30; entry++)
        feed_entry(rig, entry);
    writer_start(rig->writer);
    rig_wait_all(rig);
    feed_entry(rig, 31);
    rig_wait_all(rig);
    rig_assert_verdicts(rig, 0, 41, VERDICT_STORED);
    rig_assert_text(rig->server, "SELECT sensorlog.spool_position('a file')", "31");
    rig_assert_text(rig->server, "SELECT count(DISTINCT n), count(*) FROM telemetry.plain",
                    "41|41");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        TEST(each_message_is_in_one_half),
        TEST(one_message_stays_whole),
        TEST(the_spools_entries_go_in_order),
        TEST(rejects_are_taken_with_their_rows),
        TEST(an_identifier_is_forgotten_where_it_is_stored_again),
        TEST(halved_until_there_is_room),
        TEST(later_batches_grow_again),
        TEST(one_message_waits_until_there_is_room),
        TEST(a_messages_rows_stay_together),
        TEST(rows_at_fault_and_no_room),
        TEST(identifiers_are_stored_with_their_part),
        TEST(entries_follow_what_has_none),
    };
    return cmocka_run_group_tests(tests, rig_begin, rig_end);
}
