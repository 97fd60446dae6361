// Connection strings and quoted texts.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/pg.h"
#include "store/pg_address.h"
#include "store_rig.h"

// More than 63 letters are no label of a name, so no server has to be asked.
#define NO_NAME "a2345678901234567890123456789012345678901234567890123456789012345.test"

#define COUNT(array) (sizeof(array) / sizeof *(array))

// ---- what libpq is given ----

struct found {
    struct loop *loop;
    char text[512];
    unsigned calls;
};

static void take_address(void *arg, const char *const *keywords, const char *const *values,
                         const char *error)
{
    static const char *const shown[] = {
        "host", "hostaddr", "port", "application_name", "keepalives_idle", "dbname"};
    struct found *found = arg;
    found->calls++;
    snprintf(found->text, sizeof found->text, "%s", error ? error : "");
    for (size_t i = 0; !error && i < COUNT(shown); i++) {
        size_t times = 0;
        for (size_t k = 0; keywords[k]; k++) {
            if (strcmp(keywords[k], shown[i]) != 0)
                continue;
            size_t used = strlen(found->text);
            snprintf(found->text + used, sizeof found->text - used, "%s%s=%s", used ? " " : "",
                     shown[i], values[k]);
            assert_int_equal(times++, 0);
        }
    }
    loop_stop(found->loop);
}

static void hosts_are_resolved_before(void **state)
{
    (void)state;
    static const struct {
        const char *conninfo, *found;
    } cases[] = {
        // Sockets and addresses pass as they are.
        {"host=127.0.0.1", "host=127.0.0.1 application_name=me keepalives_idle=10"},
        {"host=127.0.0.1,/run/x,::1 port=1,,3 keepalives_idle=60",
         "host=127.0.0.1,/run/x,::1 port=1,,3 application_name=me keepalives_idle=60"},
        {"host=/run/postgresql dbname=telemetry",
         "host=/run/postgresql application_name=me keepalives_idle=10 dbname=telemetry"},
        {"host=db.test hostaddr=10.0.0.1 application_name=other",
         "host=db.test hostaddr=10.0.0.1 application_name=other keepalives_idle=10"},
        {"postgresql://u@[::1]:5433/d",
         "host=::1 port=5433 application_name=me keepalives_idle=10 dbname=d"},
        // A name that is none is left out; each of the others keeps its port.
        {"host=" NO_NAME ",127.0.0.1,/run/x,::1 port=1,2,3,",
         "host=127.0.0.1,/run/x,::1 hostaddr=127.0.0.1,,::1 port=2,3, application_name=me"
         " keepalives_idle=10"},
        {"host=127.0.0.1," NO_NAME ",127.0.0.2 port=5433",
         "host=127.0.0.1,127.0.0.2 hostaddr=127.0.0.1,127.0.0.2 port=5433,5433"
         " application_name=me keepalives_idle=10"},
        {"host=" NO_NAME ",127.0.0.1",
         "host=127.0.0.1 hostaddr=127.0.0.1 application_name=me keepalives_idle=10"},
    };
    struct loop *loop = loop_new();
    struct worker *worker = worker_new(loop, 1);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct found found = {.loop = loop};
        pg_address_start(worker, cases[i].conninfo, "me", take_address, &found);
        assert_int_equal(found.calls, 0);
        loop_run(loop);
        assert_int_equal(found.calls, 1);
        assert_string_equal(found.text, cases[i].found);
    }
    struct found cancelled = {.loop = loop}, last = {.loop = loop};
    pg_address_cancel(pg_address_start(worker, "host=127.0.0.1", "me", take_address, &cancelled));
    pg_address_cancel(pg_address_start(worker, "host=" NO_NAME, "me", take_address, &cancelled));
    pg_address_cancel(NULL);
    pg_address_start(worker, "host=127.0.0.1", "me", take_address, &last);
    loop_run(loop);
    assert_int_equal(cancelled.calls, 0);
    assert_int_equal(last.calls, 1);
    worker_free(worker);
    loop_free(loop);
}

// ---- texts ----

static void passwords_are_masked(void **state)
{
    (void)state;
    static const struct {
        const char *conninfo, *masked, *error;
    } cases[] = {
        {"", "", NULL},
        {"host=h dbname=d", "dbname=d host=h", NULL},
        {"host=h password=secret", "password=******** host=h", NULL},
        {"password='it''s' user=u", NULL, "malformed connection string"},
        {"password='secret two' user='a b'", "user='a b' password=********", NULL},
        {"user='it\\'s' dbname='a\\\\b'", "user='it\\'s' dbname='a\\\\b'", NULL},
        {"options=''", "options=''", NULL},
        {"sslpassword=secret", "sslpassword=********", NULL},
        {"postgresql://u:secret@h:5433/d", "user=u password=******** dbname=d host=h port=5433",
         NULL},
        {"postgresql://u:secret@[::1", NULL, "malformed connection string"},
        {"password secret", NULL, "malformed connection string"},
        {"host", NULL, "missing \"=\" after \"host\" in connection info string"},
        {"hots=h", NULL, "invalid connection option \"hots\""},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *error = NULL, *masked = pg_conninfo_masked(cases[i].conninfo, &error);
        if (cases[i].masked) {
            assert_non_null(masked);
            assert_string_equal(masked, cases[i].masked);
            assert_null(error);
        } else {
            assert_null(masked);
            assert_non_null(error);
            assert_memory_equal(error, cases[i].error, strlen(cases[i].error));
            assert_null(strstr(error, "secret"));
            assert_null(pg_conninfo_masked(cases[i].conninfo, NULL));
        }
        free(masked);
        free(error);
    }
}

// All that means something to SQL, in all orders of up to four.
static void make_text(unsigned number, char *text)
{
    static const char *const pieces[] = {"'",  "\"", "\\", "a",        " ", ";",
                                         "--", "$$", "\n", "\xc3\xa4", "E", "%"};
    text[0] = '\0';
    for (; number > 0; number /= COUNT(pieces))
        strcat(text, pieces[number % COUNT(pieces)]);
}

static void quoted_texts_come_back(void **state)
{
    (void)state;
    rig_need_postgres();
    PGconn *server = rig_connect("");
    enum { TEXTS = 12 * 12 * 12 * 2 };
    static const char *const strings[] = {"on", "off"};
    rig_run(server, "SET escape_string_warning = off");
    for (unsigned i = 0; i < COUNT(strings) * TEXTS; i++) {
        char text[32], set[64];
        make_text(i % TEXTS, text);
        if (i % TEXTS == 0) {
            snprintf(set, sizeof set, "SET standard_conforming_strings = %s", strings[i / TEXTS]);
            rig_run(server, set);
        }
        char *literal = pg_quote_literal(text), *name = pg_quote_identifier(*text ? text : "x");
        char *sql = mem_printf("SELECT %s AS %s", literal, name);
        PGresult *result = PQexec(server, sql);
        if (PQresultStatus(result) != PGRES_TUPLES_OK)
            fail_msg("%s: %s", sql, PQerrorMessage(server));
        assert_string_equal(PQgetvalue(result, 0, 0), text);
        assert_string_equal(PQfname(result, 0), *text ? text : "x");
        PQclear(result);
        free(sql);
        free(literal);
        free(name);
    }
    PQfinish(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hosts_are_resolved_before),
        cmocka_unit_test(passwords_are_masked),
        cmocka_unit_test(quoted_texts_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
