// Log lines as they leave: prefixes, levels, hostile text, repeated lines.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"

static char caught[8192];

// What write_lines puts to standard error, as the journal's stream or not.
static const char *catch (bool journal, enum log_level level, void (*write_lines)(void))
{
    FILE *file = tmpfile();
    assert_non_null(file);
    int kept = dup(STDERR_FILENO);
    dup2(fileno(file), STDERR_FILENO);
    struct stat status;
    assert_int_equal(fstat(STDERR_FILENO, &status), 0);
    char stream[64];
    snprintf(stream, sizeof stream, "%ju:%ju", (uintmax_t)status.st_dev, (uintmax_t)status.st_ino);
    if (journal)
        setenv("JOURNAL_STREAM", stream, 1);
    else
        setenv("JOURNAL_STREAM", "1:2", 1); // of a parent, whose stream ours is not
    log_init(level);
    write_lines();
    dup2(kept, STDERR_FILENO);
    close(kept);
    rewind(file);
    caught[fread(caught, 1, sizeof caught - 1, file)] = '\0';
    fclose(file);
    unsetenv("JOURNAL_STREAM");
    log_init(LOG_LEVEL_INFO);
    return caught;
}

static void one_of_each(void)
{
    log_error("e %d", 1);
    log_warn("w");
    log_info("i");
    log_debug("d");
}

static void the_journal_gets_priorities(void **state)
{
    (void)state;
    assert_string_equal(catch (true, LOG_LEVEL_DEBUG, one_of_each), "<3>e 1\n<4>w\n<6>i\n<7>d\n");
    assert_string_equal(catch (true, LOG_LEVEL_INFO, one_of_each), "<3>e 1\n<4>w\n<6>i\n");
    assert_string_equal(catch (true, LOG_LEVEL_WARN, one_of_each), "<3>e 1\n<4>w\n");
    assert_string_equal(catch (true, LOG_LEVEL_ERROR, one_of_each), "<3>e 1\n");
}

static void elsewhere_lines_have_a_time(void **state)
{
    (void)state;
    const char *line = catch (false, LOG_LEVEL_WARN, one_of_each);
    int year, month, day, hour, minute, second, ms, used = 0;
    assert_int_equal(sscanf(line, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ error: e 1\n%n", &year, &month,
                            &day, &hour, &minute, &second, &ms, &used),
                     7);
    assert_true(used > 0 && year >= 2020);
    assert_string_equal(strstr(line + used, "Z ") + 2, "warning: w\n");
}

static void write_hostile(void)
{
    log_info("topic '%s'", "a\n<3>forged\x1b[31m\x7f\t\xc3\xa4");
}

static void a_stranger_makes_no_line(void **state)
{
    (void)state;
    assert_string_equal(catch (true, LOG_LEVEL_INFO, write_hostile),
                        "<6>topic 'a?<3>forged?[31m??\xc3\xa4'\n");
}

static void write_long(void)
{
    log_info("%0*d", 10000, 7);
    log_info("next");
}

static void a_long_line_is_cut(void **state)
{
    (void)state;
    const char *lines = catch (true, LOG_LEVEL_INFO, write_long);
    const char *end = strchr(lines, '\n');
    assert_in_range(end - lines, 1000, 4096);
    assert_string_equal(end, "\n<6>next\n");
}

static void repeated_lines_are_held_back(void **state)
{
    (void)state;
    struct log_limit hourly = {.interval_ms = 3600000}, always = {.interval_ms = 0};
    uint64_t suppressed = 99;
    assert_true(log_limit_pass(&hourly, &suppressed));
    assert_int_equal(suppressed, 0);
    for (int i = 0; i < 5; i++)
        assert_false(log_limit_pass(&hourly, &suppressed));
    hourly.next_ms = 0; // as if the hour were over
    assert_true(log_limit_pass(&hourly, &suppressed));
    assert_int_equal(suppressed, 5);
    assert_true(log_limit_pass(&always, NULL));
    assert_true(log_limit_pass(&always, NULL));
}

static void what_was_held_back_is_said_where_there_is_any(void **state)
{
    (void)state;
    char text[LOG_MORE_SIZE];
    assert_string_equal(log_more(0, text), "");
    assert_string_equal(log_more(3, text), " (3 more lately)");
    assert_string_equal(log_more(UINT64_MAX, text), " (18446744073709551615 more lately)");
}

static void causes_do_not_hide_each_other(void **state)
{
    (void)state;
    struct log_causes causes = {.interval_ms = 3600000};
    uint64_t suppressed;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < LOG_CAUSES; i++) {
            char cause[32];
            snprintf(cause, sizeof cause, "cause %d", i);
            assert_int_equal(log_cause_pass(&causes, cause, &suppressed), round == 0);
        }
    }
    assert_false(log_cause_pass(&causes, "one more", &suppressed));
    causes.items[0].limit.next_ms = 0;
    assert_true(log_cause_pass(&causes, "cause 0", &suppressed));
    assert_int_equal(suppressed, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_journal_gets_priorities),
        cmocka_unit_test(elsewhere_lines_have_a_time),
        cmocka_unit_test(a_stranger_makes_no_line),
        cmocka_unit_test(a_long_line_is_cut),
        cmocka_unit_test(repeated_lines_are_held_back),
        cmocka_unit_test(what_was_held_back_is_said_where_there_is_any),
        cmocka_unit_test(causes_do_not_hide_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
