// The state on a disk that is full or fails, and kill -9.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/log.h"
#include "state_rig.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

// ---- a disk that fails ----

static void count_call(void *arg, uint64_t a, uint64_t b)
{
    (void)b;
    unsigned *called = arg;
    assert_int_equal(*called, a); // in order
    ++*called;
}

static bool is_failing(struct state_rig *rig)
{
    struct state_status status;
    state_status(rig->state, &status);
    assert_int_equal(status.failing, status.error != NULL);
    return status.failing;
}

// A client that comes and goes, with a will each time.
static void come_and_go(struct state_rig *rig, unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        struct publication *will = rig_publication(rig, "will", "gone");
        rig_session(rig, 1, "c");
        state_put_will(rig->state, 1, will, i);
        publication_release(will);
        rig_turn(rig);
    }
}

static void a_disk_that_fails_holds_everything_back(void **arg)
{
    static const int errors[] = {SQLITE_FULL, SQLITE_IOERR_WRITE, SQLITE_IOERR_FSYNC,
                                 SQLITE_READONLY};
    struct state_rig *rig = *arg;
    for (size_t i = 0; i < COUNT(errors); i++) {
        unsigned called = 0;
        rig_open(rig);
        disk_faults.fail = errors[i];
        come_and_go(rig, 3);
        while (!is_failing(rig))
            rig_turn(rig);
        state_when_durable(rig->state, count_call, &called, 0, 0);
        come_and_go(rig, 2);
        state_when_durable(rig->state, count_call, &called, 1, 0);
        size_t used = rig->budget.used;
        come_and_go(rig, 500);
        assert_int_equal(rig->budget.used, used); // what is held back does not grow with time
        assert_int_equal(called, 0);
        assert_false(state_is_durable(rig->state));
        disk_faults_clear();
        rig_settle(rig);
        assert_int_equal(called, 2);
        assert_false(is_failing(rig));
        assert_string_equal(rig_reload(rig), "session 1 c - 60 0 1 v5\n"
                                             "1 will after 499 will=gone\n");
        state_drop_session(rig->state, 1);
        rig_close(rig);
    }
}

// The kernel itself refuses to let the file grow; then it no longer does.
static void a_file_that_must_not_grow_is_written_when_it_may(void **arg)
{
    enum { MESSAGES = 40 };
    struct state_rig *rig = *arg;
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit before, tight;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    tight = before;
    tight.rlim_cur = 200 * 1024;
    rig_open(rig);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    static char payload[20000];
    memset(payload, 'x', sizeof payload - 1);
    unsigned called = 0;
    for (unsigned i = 0; i < MESSAGES; i++) {
        char topic[16];
        snprintf(topic, sizeof topic, "t%u", i);
        struct publication *publication = rig_publication(rig, topic, payload);
        state_put_retained(rig->state, publication);
        publication_release(publication);
        state_when_durable(rig->state, count_call, &called, i, 0);
        rig_turn(rig);
    }
    while (!is_failing(rig))
        rig_turn(rig);
    assert_true(called < MESSAGES);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    rig_settle(rig);
    assert_int_equal(called, MESSAGES);
    rig_close(rig);
    assert_int_equal(rig_count(rig, "retained"), MESSAGES);
    assert_int_equal(rig_count(rig, "publication"), MESSAGES);
}

// Shared messages come and go, in turns.
static void write_turns(struct state_rig *rig)
{
    struct publication *shared[4];
    for (uint16_t i = 0; i < 4; i++) {
        char payload[8];
        snprintf(payload, sizeof payload, "%d", i);
        shared[i] = rig_publication(rig, "t", payload);
        for (uint64_t session = 1; session <= 3; session++) {
            rig_session(rig, session, session == 1 ? "a" : session == 2 ? "b" : "c");
            rig_deliver(rig, session, (uint16_t)(i + 1), 2, shared[i]);
        }
        state_put_incoming(rig->state, 1, &(struct state_incoming){.packet_id = i + 1}, shared[i]);
        state_put_retained(rig->state, shared[i]);
        if (i > 0) {
            state_drop_delivery(rig->state, 1, i, shared[i - 1]);
            state_release_delivery(rig->state, 2, i);
            state_drop_incoming(rig->state, 1, i, shared[i - 1]);
        }
        if (i == 2)
            state_drop_session(rig->state, 3);
        rig_settle(rig);
    }
    for (int i = 0; i < 4; i++)
        publication_release(shared[i]);
}

static void whatever_call_fails_all_is_there_once(void **arg)
{
    static const int errors[] = {SQLITE_FULL, SQLITE_IOERR_WRITE, SQLITE_IOERR_FSYNC};
    struct state_rig *rig = *arg;
    for (int call = 1; call <= 40; call++) {
        rig_open(rig);
        disk_faults.fail_once = errors[call % 3];
        disk_faults.fail_in = call;
        write_turns(rig);
        disk_faults.fail_in = 0;
        assert_string_equal(rig_reload(rig), "session 1 a - 60 0 1 v5\n"
                                             "1 delivery 4 qos 2 t=3\n"
                                             "1 incoming 4 t=3\n"
                                             "session 2 b - 60 0 1 v5\n"
                                             "2 delivery 1 qos 2 released nothing\n"
                                             "2 delivery 2 qos 2 released nothing\n"
                                             "2 delivery 3 qos 2 released nothing\n"
                                             "2 delivery 4 qos 2 t=3\n"
                                             "session 3 c - 60 0 1 v5\n"
                                             "3 delivery 4 qos 2 t=3\n"
                                             "retained t=3\n");
        rig_close(rig);
        assert_int_equal(rig_count(rig, "publication"), 1);
        assert_int_equal(unlink(rig->path), 0);
    }
}

// ---- kill -9 ----

enum { KEPT = 5, SESSIONS = 3 };

struct worker {
    struct state_rig *rig;
    struct loop_task *task;
    struct publication *last[KEPT];
    uint16_t turn, reported;
    int pipe;
};

static void report(void *arg, uint64_t turn, uint64_t b)
{
    (void)b;
    struct worker *worker = arg;
    uint16_t number = worker->reported = (uint16_t)turn;
    if (write(worker->pipe, &number, sizeof number) != sizeof number)
        _exit(1);
    loop_task_schedule(worker->task);
}

// To each session the message of this turn, which is retained too; the one KEPT turns ago goes.
static void work_a_turn(void *arg)
{
    struct worker *worker = arg;
    struct state *state = worker->rig->state;
    if ((uint16_t)(worker->turn - worker->reported) > 20)
        return;
    uint16_t turn = ++worker->turn;
    char payload[8];
    snprintf(payload, sizeof payload, "%d", turn);
    struct publication **slot = &worker->last[turn % KEPT];
    for (uint64_t session = 1; session <= SESSIONS; session++)
        if (turn > KEPT)
            state_drop_delivery(state, session, (uint16_t)(turn - KEPT), *slot);
    publication_release(*slot);
    *slot = rig_publication(worker->rig, "last", payload);
    state_put_retained(state, *slot);
    for (uint64_t session = 1; session <= SESSIONS; session++)
        rig_deliver(worker->rig, session, turn, 1, *slot);
    state_when_durable(state, report, worker, turn, 0);
    loop_task_schedule(worker->task);
}

// What an earlier process has left.
struct survey {
    struct publication **last; // to be filled, by turn; or NULL
    unsigned deliveries[SESSIONS + 1];
    uint16_t newest[SESSIONS + 1], retained;
    bool torn;
};

static int payload_number(const struct publication *publication)
{
    char text[16] = "";
    size_t length = publication->payload.length;
    memcpy(text, publication->payload.data, length < sizeof text ? length : 0);
    return atoi(text);
}

static void survey_session(void *arg, const struct state_session *session)
{
    (void)arg, (void)session;
}

static void survey_delivery(void *arg, uint64_t session, const struct state_delivery *delivery,
                            struct publication *publication)
{
    struct survey *survey = arg;
    uint16_t id = delivery->packet_id, before = survey->newest[session];
    survey->torn |= payload_number(publication) != id || (before && id != before + 1);
    survey->deliveries[session]++;
    survey->newest[session] = id;
    struct publication **slot = survey->last ? &survey->last[id % KEPT] : NULL;
    if (slot && !*slot)
        *slot = publication_hold(publication);
}

static void survey_retained(void *arg, struct publication *publication)
{
    struct survey *survey = arg;
    survey->retained = (uint16_t)payload_number(publication);
}

static struct survey look_around(struct state_rig *rig, struct publication **last)
{
    struct survey survey = {.last = last};
    const struct state_load_calls calls = {.session = survey_session,
                                           .delivery = survey_delivery,
                                           .retained = survey_retained,
                                           .arg = &survey};
    char *error = NULL;
    if (!state_load(rig->state, &calls, &error))
        fail_msg("%s", error);
    return survey;
}

// Until it is killed.
static void live(struct state_rig *rig, int pipe)
{
    rig_open(rig);
    struct worker worker = {.rig = rig, .pipe = pipe};
    worker.turn = worker.reported = look_around(rig, worker.last).retained;
    if (worker.turn == 0) {
        rig_session(rig, 1, "a");
        rig_session(rig, 2, "b");
        rig_session(rig, 3, "c");
    }
    worker.task = loop_task_new(rig->loop, work_a_turn, &worker);
    loop_task_schedule(worker.task);
    loop_run(rig->loop);
    _exit(1);
}

// The last turn that a life had reported as durable when it ended.
static uint16_t live_and_die(struct state_rig *rig, unsigned reports)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0)
        live(rig, ends[1]);
    close(ends[1]);
    uint16_t number = 0, last = 0;
    while (read(ends[0], &number, sizeof number) == sizeof number) {
        assert_true(number > last);
        last = number;
        if (--reports == 0)
            kill(child, SIGKILL);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    close(ends[0]);
    return last;
}

static void kill_loses_nothing_and_tears_no_turn(void **arg)
{
    struct state_rig *rig = *arg;
    unsigned random = 1;
    for (int life = 0; life < 40; life++) {
        uint16_t reported = live_and_die(rig, 1 + (unsigned)rand_r(&random) % 50);
        rig_open(rig);
        struct survey survey = look_around(rig, NULL);
        rig_close(rig);
        assert_false(survey.torn);
        assert_true(survey.retained >= reported);
        unsigned kept = survey.retained < KEPT ? survey.retained : KEPT;
        for (int session = 1; session <= SESSIONS; session++) {
            assert_int_equal(survey.newest[session], survey.retained);
            assert_int_equal(survey.deliveries[session], kept);
        }
        assert_int_equal(rig_count(rig, "publication"), kept);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, state_rig_setup, state_rig_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_disk_that_fails_holds_everything_back),
        TEST(a_file_that_must_not_grow_is_written_when_it_may),
        TEST(whatever_call_fails_all_is_there_once),
        TEST(kill_loses_nothing_and_tears_no_turn),
    };
    log_init(LOG_LEVEL_ERROR);
    disk_faults_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
