// What an SQLSTATE means for a batch.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "store/sqlstate.h"

static void actions(void **state)
{
    (void)state;
    static const struct {
        const char *sqlstate, *constraint;
        enum sql_action action;
    } cases[] = {
        {"SL001", "", SQL_FENCED},
        {"SL002", "", SQL_WAIT},
        {"SL003", "", SQL_TAKEN},
        {"SL004", "", SQL_TAKEN},
        {"40001", "", SQL_RETRY},
        {"40002", "", SQL_RETRY},
        {"40P01", "", SQL_RETRY},
        {"08006", "", SQL_WAIT},
        {"53100", "", SQL_WAIT}, // disk full
        {"53200", "", SQL_SPLIT},
        {"53300", "", SQL_WAIT}, // too many connections
        {"57014", "", SQL_WAIT}, // cancelled
        {"57P01", "", SQL_WAIT}, // shutdown
        {"58030", "", SQL_WAIT}, // I/O error
        {"55P03", "", SQL_WAIT}, // lock not available
        {"25006", "", SQL_WAIT}, // read-only transaction
        {"25P02", "", SQL_WAIT},
        {"26000", "", SQL_WAIT}, // the session has lost its prepared statements
        {"28P01", "", SQL_WAIT},
        {"XX001", "", SQL_WAIT}, // data corrupted
        {"22003", "", SQL_ISOLATE},
        {"22P02", "", SQL_ISOLATE},
        {"23502", "", SQL_ISOLATE},
        {"23503", "fk", SQL_ISOLATE},
        {"23505", "key", SQL_ISOLATE},
        {"23514", "check", SQL_ISOLATE},
        {"23514", "", SQL_PARTITION},
        {"23P01", "exclusion", SQL_ISOLATE},
        {"44000", "", SQL_ISOLATE},
        {"P0001", "", SQL_ISOLATE},
        {"21000", "", SQL_ISOLATE},
        {"54000", "", SQL_ISOLATE},
        {"27000", "", SQL_ISOLATE},
        {"38000", "", SQL_ISOLATE},
        {"39004", "", SQL_ISOLATE},
        {"42P01", "", SQL_STOP}, // no such table
        {"42703", "", SQL_STOP}, // no such column
        {"42501", "", SQL_STOP}, // no permission
        {"42P10", "", SQL_STOP}, // no unique index for ON CONFLICT
        {"3F000", "", SQL_STOP},
        {"0A000", "", SQL_STOP},
        {"55000", "", SQL_STOP},
        {"ZZ123", "", SQL_ISOLATE}, // a trigger's own
        {"", "", SQL_ISOLATE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (sql_action_of(cases[i].sqlstate, cases[i].constraint) != cases[i].action)
            fail_msg("%s: %d", cases[i].sqlstate,
                     (int)sql_action_of(cases[i].sqlstate, cases[i].constraint));
}

// What is tried one by one within the server knows only what is no row's fault: for that the order
// of the table must not matter.
static void no_entry_hides_another_with_another_meaning(void **state)
{
    (void)state;
    enum sql_action action, other;
    const char *prefix, *longer;
    for (size_t i = 0; (prefix = sql_state(i, &action)); i++)
        for (size_t k = 0; (longer = sql_state(k, &other)); k++)
            if (k != i && strncmp(longer, prefix, strlen(prefix)) == 0 &&
                (k > i || (action == SQL_ISOLATE) != (other == SQL_ISOLATE)))
                fail_msg("%s and %s", prefix, longer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(actions),
        cmocka_unit_test(no_entry_hides_another_with_another_meaning),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
