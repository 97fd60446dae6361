// Threads for what blocks, and names resolved by them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <unistd.h>

#include "base/resolve.h"
#include "base/worker.h"

struct rig {
    struct loop *loop;
    struct worker *worker;
    pthread_t loop_thread;
};

// One job, told by the test when to go on.
struct job {
    struct rig *rig;
    struct worker_job *handle;
    sem_t begun, go;
    bool waits; // for go
    unsigned worked, done, disposed;
    bool on_loop;
    pid_t thread; // that has worked
};

static struct job new_job(struct rig *rig, bool waits)
{
    struct job job = {.rig = rig, .waits = waits};
    return job;
}

static void work(void *arg)
{
    struct job *job = arg;
    job->on_loop |= pthread_equal(pthread_self(), job->rig->loop_thread) != 0;
    job->thread = gettid();
    sem_post(&job->begun);
    if (job->waits)
        sem_wait(&job->go);
    job->worked++;
}

static void done(void *arg)
{
    struct job *job = arg;
    assert_true(pthread_equal(pthread_self(), job->rig->loop_thread));
    job->done++;
    loop_stop(job->rig->loop);
}

static void dispose(void *arg)
{
    struct job *job = arg;
    job->disposed++;
    loop_stop(job->rig->loop);
}

static void submit(struct job *job)
{
    sem_init(&job->begun, 0, 0);
    sem_init(&job->go, 0, 0);
    job->handle = worker_submit(job->rig->worker, work, done, dispose, job);
}

static int setup(void **state)
{
    static struct rig rig;
    rig.loop = loop_new();
    rig.worker = worker_new(rig.loop, 1);
    rig.loop_thread = pthread_self();
    *state = &rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;
    worker_free(rig->worker);
    loop_free(rig->loop);
    return 0;
}

static void work_is_done_elsewhere_and_told_here(void **state)
{
    struct job job = new_job(*state, false);
    submit(&job);
    assert_int_equal(job.done, 0);
    loop_run(job.rig->loop);
    assert_int_equal(job.worked, 1);
    assert_int_equal(job.done, 1);
    assert_int_equal(job.disposed, 0);
    assert_false(job.on_loop);
}

static void a_waiting_job_is_cancelled_at_once(void **state)
{
    struct job first = new_job(*state, true), second = new_job(*state, false);
    submit(&first);
    submit(&second);
    sem_wait(&first.begun);
    worker_cancel(second.handle);
    assert_int_equal(second.disposed, 1);
    sem_post(&first.go);
    loop_run(first.rig->loop);
    assert_int_equal(first.done, 1);
    assert_int_equal(second.worked, 0);
    assert_int_equal(second.done, 0);
}

static void a_running_job_is_disposed_of_when_it_ends(void **state)
{
    struct job job = new_job(*state, true);
    submit(&job);
    sem_wait(&job.begun);
    worker_cancel(job.handle);
    assert_int_equal(job.disposed, 0);
    sem_post(&job.go);
    loop_run(job.rig->loop);
    assert_int_equal(job.worked, 1);
    assert_int_equal(job.done, 0);
    assert_int_equal(job.disposed, 1);
}

// With one thread, the second job begins after the first has been posted to the loop.
static void a_job_that_has_ended_can_be_cancelled_before_it_is_told(void **state)
{
    struct job first = new_job(*state, false), second = new_job(*state, true);
    submit(&first);
    submit(&second);
    sem_wait(&second.begun);
    worker_cancel(first.handle);
    loop_run(first.rig->loop);
    assert_int_equal(first.worked, 1);
    assert_int_equal(first.done, 0);
    assert_int_equal(first.disposed, 1);
    sem_post(&second.go);
    loop_run(second.rig->loop);
    assert_int_equal(second.done, 1);
}

static void freeing_disposes_of_cancelled_jobs(void **state)
{
    struct rig *rig = *state;
    struct job job = new_job(rig, true);
    submit(&job);
    sem_wait(&job.begun);
    worker_cancel(job.handle);
    sem_post(&job.go);
    worker_free(rig->worker);
    rig->worker = NULL;
    assert_int_equal(job.disposed, 1);
    assert_int_equal(job.done, 0);
}

static bool thread_lives(pid_t thread)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d", (int)thread);
    return access(path, F_OK) == 0;
}

// A name server hangs: the stop does not, and the call that ends later finds no loop, and does not
// look for one.
static void a_blocked_call_does_not_hold_up_the_end(void **state)
{
    struct rig *rig = *state;
    static struct job job; // outlives this test, as such a call does
    job = new_job(rig, true);
    submit(&job);
    sem_wait(&job.begun);
    worker_cancel(job.handle);
    int64_t began = loop_now_ms();
    worker_free(rig->worker);
    assert_in_range(loop_now_ms() - began, 0, 2000);
    loop_free(rig->loop);
    *rig = (struct rig){.loop = NULL};
    sem_post(&job.go);
    while (thread_lives(job.thread))
        sched_yield();
    assert_int_equal(job.worked, 1);
    assert_int_equal(job.done, 0);
}

static void several_threads_work_at_once(void **state)
{
    struct rig *rig = *state;
    struct worker *one = rig->worker;
    rig->worker = worker_new(rig->loop, 3);
    struct job jobs[3];
    for (int i = 0; i < 3; i++) {
        jobs[i] = new_job(rig, true);
        submit(&jobs[i]);
    }
    for (int i = 0; i < 3; i++)
        sem_wait(&jobs[i].begun); // would wait for ever if they came one by one
    for (int i = 2; i >= 0; i--) {
        sem_post(&jobs[i].go);
        loop_run(rig->loop);
        assert_int_equal(jobs[i].done, 1);
    }
    worker_free(rig->worker);
    rig->worker = one;
}

// ---- names ----

struct lookup {
    struct rig *rig;
    unsigned called;
    char error[128];
    char address[INET6_ADDRSTRLEN];
    unsigned port;
};

static void looked_up(void *arg, const struct addrinfo *addresses, const char *error)
{
    struct lookup *lookup = arg;
    lookup->called++;
    loop_stop(lookup->rig->loop);
    if (error) {
        strncpy(lookup->error, error, sizeof lookup->error - 1);
        return;
    }
    if (addresses->ai_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)addresses->ai_addr;
        lookup->port = ntohs(in->sin_port);
        inet_ntop(AF_INET, &in->sin_addr, lookup->address, sizeof lookup->address);
    } else {
        const struct sockaddr_in6 *in6 = (const void *)addresses->ai_addr;
        lookup->port = ntohs(in6->sin6_port);
        inet_ntop(AF_INET6, &in6->sin6_addr, lookup->address, sizeof lookup->address);
    }
}

// More than 63 letters are no label of a name, so no server has to be asked.
static const char no_name[] =
    "a2345678901234567890123456789012345678901234567890123456789012345.test";

static void names_are_resolved(void **state)
{
    static const struct {
        const char *host, *address;
    } cases[] = {{"127.0.0.1", "127.0.0.1"}, {"::1", "::1"}, {no_name, NULL}};
    struct rig *rig = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct lookup lookup = {.rig = rig};
        assert_non_null(resolve_start(rig->worker, cases[i].host, 1883, looked_up, &lookup));
        assert_int_equal(lookup.called, 0);
        loop_run(rig->loop);
        assert_int_equal(lookup.called, 1);
        if (cases[i].address) {
            assert_string_equal(lookup.error, "");
            assert_string_equal(lookup.address, cases[i].address);
            assert_int_equal(lookup.port, 1883);
        } else {
            assert_string_not_equal(lookup.error, "");
        }
    }
}

static void a_cancelled_name_is_not_told(void **state)
{
    struct rig *rig = *state;
    struct lookup cancelled = {.rig = rig}, other = {.rig = rig};
    struct job blocker = new_job(rig, true);
    submit(&blocker);
    struct resolve *resolve = resolve_start(rig->worker, "localhost", 1, looked_up, &cancelled);
    resolve_start(rig->worker, "localhost", 2, looked_up, &other);
    resolve_cancel(resolve);
    resolve_cancel(NULL);
    sem_post(&blocker.go);
    while (!other.called)
        loop_run(rig->loop);
    assert_int_equal(cancelled.called, 0);
    assert_int_equal(other.port, 2);
}

static void an_address_does_not_queue_behind_names(void **state)
{
    struct rig *rig = *state;
    struct job blocker = new_job(rig, true);
    submit(&blocker);
    struct lookup lookup = {.rig = rig};
    resolve_start(rig->worker, "127.0.0.1", 3, looked_up, &lookup);
    loop_run(rig->loop); // the only thread is busy
    assert_int_equal(lookup.port, 3);
    sem_post(&blocker.go);
    while (!blocker.done)
        loop_run(rig->loop);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(work_is_done_elsewhere_and_told_here),
        TEST(a_waiting_job_is_cancelled_at_once),
        TEST(a_running_job_is_disposed_of_when_it_ends),
        TEST(a_job_that_has_ended_can_be_cancelled_before_it_is_told),
        TEST(freeing_disposes_of_cancelled_jobs),
        TEST(a_blocked_call_does_not_hold_up_the_end),
        TEST(several_threads_work_at_once),
        TEST(names_are_resolved),
        TEST(a_cancelled_name_is_not_told),
        TEST(an_address_does_not_queue_behind_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
