// What the state makes of a file: time that has gone on, nonsense, damage.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"
#include "state_rig.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

// ---- time goes on while nobody is there ----

static void publish_expiring(struct state_rig *rig, const char *topic, int64_t seconds)
{
    const struct publication_parts parts = {
        .topic = bytes_of(topic),
        .payload = bytes_of("p"),
        .received_us = 2000000,
        .expires_ms = loop_now_ms() + seconds * 1000,
    };
    struct publication *publication = publication_new(&rig->budget, &parts);
    state_put_retained(rig->state, publication);
    rig_deliver(rig, 1, 1, 1, publication); // nobody was there, QoS 1
    rig_deliver(rig, 1, 2, 2, publication); // nobody was there
    state_put_delivery(rig->state, 1,
                       &(struct state_delivery){.packet_id = 3, .qos = 2, .sent = true},
                       publication);
    rig_deliver(rig, 2, 1, 1, publication); // it ended later: perhaps sent, QoS 1
    rig_deliver(rig, 2, 2, 2, publication); // perhaps sent
    rig_deliver(rig, 3, 1, 2, publication); // it was there to the last
    state_put_incoming(rig->state, 3, &(struct state_incoming){.packet_id = 4}, publication);
    state_put_will(rig->state, 3, publication, 1);
    publication_release(publication);
}

static void put_ended(struct state_rig *rig, uint64_t id, const char *client_id, int64_t ended_us)
{
    const struct state_session session = {
        .id = id, .client_id = client_id, .expiry = 9, .ended_us = ended_us, .version = 5};
    state_put_session(rig->state, &session);
}

static void what_has_expired_meanwhile_is_gone(void **arg)
{
    struct state_rig *rig = *arg;
    rig_open(rig);
    put_ended(rig, 1, "a", 1000000);
    put_ended(rig, 2, "b", 3000000);
    put_ended(rig, 3, "c", 0);
    publish_expiring(rig, "t", 100);
    assert_string_equal(rig_reload(rig), "session 1 a - 9 1000000 0 v5\n"
                                         "1 delivery 1 qos 1 t=p +100s\n"
                                         "1 delivery 2 qos 2 t=p +100s\n"
                                         "1 delivery 3 qos 2 sent t=p +100s\n"
                                         "session 2 b - 9 3000000 0 v5\n"
                                         "2 delivery 1 qos 1 t=p +100s\n"
                                         "2 delivery 2 qos 2 t=p +100s\n"
                                         "session 3 c - 9 0 0 v5\n"
                                         "3 will after 1 t=p +100s\n"
                                         "3 delivery 1 qos 2 t=p +100s\n"
                                         "3 incoming 4 t=p +100s\n"
                                         "retained t=p +100s\n");
    rig_close(rig);
    rig_edit(rig,
             "UPDATE publication SET expires_us = expires_us - 160000000"); // a minute too late
    rig_open(rig);
    static const char left[] = "session 1 a - 9 1000000 0 v5\n"
                               "1 delivery 3 qos 2 sent t=p -60s\n"
                               "session 2 b - 9 3000000 0 v5\n"
                               "2 delivery 2 qos 2 t=p -60s\n"
                               "session 3 c - 9 0 0 v5\n"
                               "3 will after 1 t=p -60s\n"
                               "3 delivery 1 qos 2 t=p -60s\n"
                               "3 incoming 4 nothing\n";
    assert_string_equal(rig_load(rig), left);
    rig_close(rig);
    assert_int_equal(rig_count(rig, "delivery"), 3);
    assert_int_equal(rig_count(rig, "retained"), 0);
    rig_edit(rig, "DELETE FROM will; DELETE FROM session");
    rig_open(rig);
    assert_string_equal(rig_load(rig), "");
    rig_close(rig);
    assert_int_equal(rig_count(rig, "publication"), 0);
}

// ---- nonsense ----

static void write_one_of_each(struct state_rig *rig)
{
    rig_open(rig);
    struct publication *a = rig_publication(rig, "a", "1"), *b = rig_publication(rig, "b", "2");
    rig_session(rig, 1, "c");
    state_put_subscription(rig->state, 1, &(struct state_subscription){.filter = "x", .qos = 2});
    state_put_will(rig->state, 1, a, 5);
    rig_deliver(rig, 1, 1, 2, a);
    state_put_incoming(rig->state, 1, &(struct state_incoming){.packet_id = 3}, a);
    state_put_retained(rig->state, a);
    state_put_retained(rig->state, b);
    publication_release(a);
    publication_release(b);
    rig_close(rig);
}

static void what_makes_no_sense_is_left_out(void **arg)
{
    static const struct {
        const char *sql, *dump;
    } cases[] = {
        {"DELETE FROM session", "retained a=1\nretained b=2\n"},
        {"DELETE FROM publication WHERE topic = 'a'", "session 1 c - 60 0 1 v5\n"
                                                      "1 subscription x id 0 qos 2 rh 0\n"
                                                      "1 incoming 3 nothing\nretained b=2\n"},
        {"UPDATE publication SET topic = 'a/#' WHERE topic = 'a'",
         "session 1 c - 60 0 1 v5\n1 subscription x id 0 qos 2 rh 0\n"
         "1 incoming 3 nothing\nretained b=2\n"},
        {"UPDATE publication SET properties = x'0b' WHERE topic = 'a'",
         "session 1 c - 60 0 1 v5\n1 subscription x id 0 qos 2 rh 0\n"
         "1 incoming 3 nothing\nretained b=2\n"},
        {"UPDATE session SET client_id = CAST(x'ff' AS TEXT)", "retained a=1\nretained b=2\n"},
        {"UPDATE session SET client_id = ''", "retained a=1\nretained b=2\n"},
        {"INSERT INTO session VALUES (2, 'c', NULL, 1, 2, 3, 4); DELETE FROM delivery;"
         "DELETE FROM will; DELETE FROM incoming; DELETE FROM subscription",
         "session 1 c - 60 0 1 v5\nretained a=1\nretained b=2\n"},
        {"DELETE FROM delivery; DELETE FROM will; DELETE FROM incoming;"
         "UPDATE subscription SET filter = 'x#'",
         "session 1 c - 60 0 1 v5\nretained a=1\nretained b=2\n"},
        {"DELETE FROM subscription; DELETE FROM will; DELETE FROM incoming;"
         "UPDATE delivery SET packet_id = 0",
         "session 1 c - 60 0 1 v5\nretained a=1\nretained b=2\n"},
        {"DELETE FROM subscription; DELETE FROM will; DELETE FROM incoming;"
         "UPDATE delivery SET publication = NULL",
         "session 1 c - 60 0 1 v5\nretained a=1\nretained b=2\n"},
        {"DELETE FROM subscription; DELETE FROM will; DELETE FROM incoming;"
         "UPDATE delivery SET subscription_ids = x'0bff'",
         "session 1 c - 60 0 1 v5\nretained a=1\nretained b=2\n"},
        {"DELETE FROM session; UPDATE retained SET topic = 'c' WHERE topic = 'a'",
         "retained b=2\n"},
    };
    struct state_rig *rig = *arg;
    for (size_t i = 0; i < COUNT(cases); i++) {
        write_one_of_each(rig);
        rig_edit(rig, cases[i].sql);
        rig_open(rig);
        assert_string_equal(rig_load(rig), cases[i].dump);
        rig_close(rig);
        assert_int_equal(unlink(rig->path), 0);
    }
}

static void assert_refused(struct state_rig *rig, const char *said)
{
    char *error = NULL;
    rig->state = state_open(rig->loop, &rig->budget, rig->path, &error);
    assert_null(rig->state);
    if (!strstr(error, said) || !strstr(error, rig->path))
        fail_msg("'%s' does not say '%s'", error, said);
    free(error);
}

static void what_cannot_be_is_damage(void **arg)
{
    static const struct {
        const char *sql, *said;
    } cases[] = {
        {"UPDATE delivery SET packet_id = 65536", "the file is damaged"},
        {"UPDATE session SET expiry = -1", "the file is damaged"},
        {"UPDATE session SET expiry = -1", "the messages that wait for them"}, // what is lost
        {"PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql ="
         " replace(sql, 'ended_us INTEGER', 'ended_us TEXT')",
         "the file is damaged"},
        {"DROP TABLE retained", "not as this release makes them (no such table"},
        {"ALTER TABLE will DROP COLUMN delay", "not as this release makes them"},
        {"PRAGMA application_id = 7", "another program"},
        {"PRAGMA user_version = 1000", "a newer release"},
        {"INSERT INTO publication VALUES (9223372036854775807, 0, 0, NULL, 0, 0, 't', x'', x'')",
         "not as this release makes them"},
    };
    struct state_rig *rig = *arg;
    for (size_t i = 0; i < COUNT(cases); i++) {
        write_one_of_each(rig);
        char *sql = mem_printf("PRAGMA ignore_check_constraints = ON; %s", cases[i].sql);
        rig_edit(rig, sql);
        free(sql);
        assert_refused(rig, cases[i].said);
        assert_int_equal(unlink(rig->path), 0);
    }
}

// Tables like ours but without any rules, and anything in them.
static void loosen(struct state_rig *rig)
{
    static const char *const tables[] = {"session",  "subscription", "publication", "will",
                                         "delivery", "incoming",     "retained"};
    struct memtext sql;
    memtext_open(&sql);
    fputs("BEGIN", sql.out);
    for (size_t i = 0; i < COUNT(tables); i++)
        fprintf(sql.out,
                "; CREATE TABLE loose AS SELECT * FROM %s; DROP TABLE %s;"
                "ALTER TABLE loose RENAME TO %s",
                tables[i], tables[i], tables[i]);
    fputs("; COMMIT", sql.out);
    rig_edit(rig, memtext_close(&sql));
    free(sql.bytes);
}

static void insert_anything(struct state_rig *rig, unsigned *random)
{
    static const struct {
        const char *name;
        unsigned columns;
    } tables[] = {{"session", 7},  {"subscription", 7}, {"publication", 9}, {"will", 3},
                  {"delivery", 9}, {"incoming", 4},     {"retained", 2}};
    static const char *const values[] = {"NULL",
                                         "0",
                                         "1",
                                         "2",
                                         "3",
                                         "1",
                                         "2",
                                         "1",
                                         "-1",
                                         "65535",
                                         "65536",
                                         "4294967296",
                                         "9223372036854775807",
                                         "-9223372036854775808",
                                         "1e300",
                                         "0.5",
                                         "'a'",
                                         "'a/b'",
                                         "'a/#'",
                                         "''",
                                         "'1'",
                                         "CAST(x'fffe' AS TEXT)",
                                         "x''",
                                         "x'00'",
                                         "x'0b05'",
                                         "x'0bffffffffff'",
                                         "zeroblob(100000)",
                                         "CAST(zeroblob(100000) AS TEXT)"};
    struct memtext sql;
    memtext_open(&sql);
    fputs("BEGIN", sql.out);
    for (int row = 0; row < 60; row++) {
        size_t table = (size_t)rand_r(random) % COUNT(tables);
        fprintf(sql.out, "; INSERT INTO %s VALUES (", tables[table].name);
        for (unsigned i = 0; i < tables[table].columns; i++)
            fprintf(sql.out, "%s%s", i ? ", " : "", values[(size_t)rand_r(random) % COUNT(values)]);
        fputc(')', sql.out);
    }
    fputs("; COMMIT", sql.out);
    rig_edit(rig, memtext_close(&sql));
    free(sql.bytes);
}

static void anything_in_the_tables_is_survived(void **arg)
{
    struct state_rig *rig = *arg;
    for (unsigned seed = 1; seed <= 40; seed++) {
        unsigned random = seed;
        write_one_of_each(rig);
        loosen(rig);
        insert_anything(rig, &random);
        char *error = NULL;
        rig->state = state_open(rig->loop, &rig->budget, rig->path, &error);
        if (rig->state) {
            rig_load(rig);
            rig_session(rig, 1, "c");
            state_drop_session(rig->state, 2);
            state_drop_delivery(rig->state, 1, 1, NULL);
            rig_settle(rig);
            rig_close(rig);
        }
        free(error);
        assert_int_equal(unlink(rig->path), 0);
    }
}

static void any_damage_is_survived(void **arg)
{
    struct state_rig *rig = *arg;
    write_one_of_each(rig);
    FILE *file = fopen(rig->path, "r+b");
    static unsigned char bytes[256 * 1024];
    size_t length = fread(bytes, 1, sizeof bytes, file);
    assert_true(length > 0 && length < sizeof bytes);
    for (unsigned seed = 1; seed <= 200; seed++) {
        unsigned random = seed;
        rewind(file);
        assert_int_equal(fwrite(bytes, 1, length, file), length);
        for (int i = 0; i < 3; i++) {
            fseek(file, rand_r(&random) % (long)length, SEEK_SET);
            fputc(rand_r(&random) & 0xFF, file);
        }
        fflush(file);
        char *error = NULL;
        rig->state = state_open(rig->loop, &rig->budget, rig->path, &error);
        if (rig->state)
            rig_load(rig);
        free(error);
        rig_close(rig);
    }
    fclose(file);
}

// It starts all the same; what cannot be removed now is removed another time.
static void a_disk_that_is_full_at_the_start_is_no_reason_not_to(void **arg)
{
    struct state_rig *rig = *arg;
    write_one_of_each(rig);
    rig_edit(rig, "DELETE FROM session");
    rig_open(rig);
    disk_faults.fail = SQLITE_FULL;
    assert_string_equal(rig_load(rig), "retained a=1\nretained b=2\n");
    disk_faults_clear();
    rig_session(rig, 2, "d");
    assert_string_equal(rig_reload(rig), "session 2 d - 60 0 1 v5\nretained a=1\nretained b=2\n");
    rig_close(rig);
    assert_int_equal(rig_count(rig, "delivery"), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, state_rig_setup, state_rig_teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_has_expired_meanwhile_is_gone),
        TEST(what_makes_no_sense_is_left_out),
        TEST(what_cannot_be_is_damage),
        TEST(anything_in_the_tables_is_survived),
        TEST(any_damage_is_survived),
        TEST(a_disk_that_is_full_at_the_start_is_no_reason_not_to),
    };
    log_init(LOG_LEVEL_ERROR);
    disk_faults_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
