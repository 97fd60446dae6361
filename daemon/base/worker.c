// A few threads for calls that block.
#include "base/worker.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"

enum { THREADS_MAX = 8 };

struct worker_job {
    struct list node; // in waiting, until a thread takes it
    struct worker *worker;
    loop_fn *work, *done, *dispose;
    void *arg;
    bool cancelled; // the loop's alone
};

struct worker {
    struct loop *loop;
    pthread_t threads[THREADS_MAX];
    unsigned thread_count;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct list waiting;
    bool ending;
    bool abandoned; // by worker_free: the loop may be gone
};

static void finish(void *arg)
{
    struct worker_job *job = arg;
    if (job->cancelled)
        job->dispose(job->arg);
    else
        job->done(job->arg);
    free(job);
}

static void *run_jobs(void *arg)
{
    struct worker *worker = arg;
    pthread_mutex_lock(&worker->lock);
    for (;;) {
        struct list *node = list_take(&worker->waiting);
        if (node) {
            struct worker_job *job = list_entry(node, struct worker_job, node);
            pthread_mutex_unlock(&worker->lock);
            job->work(job->arg);
            pthread_mutex_lock(&worker->lock);
            if (!worker->abandoned)
                loop_post(worker->loop, finish, job);
        } else if (worker->ending) {
            break;
        } else {
            pthread_cond_wait(&worker->wake, &worker->lock);
        }
    }
    pthread_mutex_unlock(&worker->lock);
    return NULL;
}

struct worker *worker_new(struct loop *loop, unsigned threads)
{
    struct worker *worker = mem_zalloc(sizeof *worker);
    worker->loop = loop;
    pthread_mutex_init(&worker->lock, NULL);
    pthread_cond_init(&worker->wake, NULL);
    list_init(&worker->waiting);
    for (unsigned i = 0; i < threads && i < THREADS_MAX; i++) {
        if (pthread_create(&worker->threads[worker->thread_count], NULL, run_jobs, worker) == 0)
            worker->thread_count++;
    }
    if (worker->thread_count == 0) {
        log_error("cannot start a thread");
        abort();
    }
    return worker;
}

// True when all threads have ended within a second.
static bool join_threads(struct worker *worker)
{
    struct timespec deadline;
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += 1;
    bool all = true;
    for (unsigned i = 0; i < worker->thread_count; i++)
        all =
            pthread_clockjoin_np(worker->threads[i], NULL, CLOCK_MONOTONIC, &deadline) == 0 && all;
    return all;
}

void worker_free(struct worker *worker)
{
    if (!worker)
        return;
    pthread_mutex_lock(&worker->lock);
    worker->ending = true;
    pthread_cond_broadcast(&worker->wake);
    pthread_mutex_unlock(&worker->lock);
    if (!join_threads(worker)) {
        pthread_mutex_lock(&worker->lock);
        worker->abandoned = true;
        pthread_mutex_unlock(&worker->lock);
        return;
    }
    loop_run_posts(worker->loop); // cancelled jobs that have just ended are disposed of
    pthread_cond_destroy(&worker->wake);
    pthread_mutex_destroy(&worker->lock);
    free(worker);
}

struct worker_job *worker_submit(struct worker *worker, loop_fn *work, loop_fn *done,
                                 loop_fn *dispose, void *arg)
{
    struct worker_job *job = mem_alloc(sizeof *job);
    *job = (struct worker_job){
        .worker = worker, .work = work, .done = done, .dispose = dispose, .arg = arg};
    list_init(&job->node);
    pthread_mutex_lock(&worker->lock);
    list_append(&worker->waiting, &job->node);
    pthread_cond_signal(&worker->wake);
    pthread_mutex_unlock(&worker->lock);
    return job;
}

struct worker_job *worker_skip(struct worker *worker, loop_fn *done, loop_fn *dispose, void *arg)
{
    struct worker_job *job = mem_alloc(sizeof *job);
    *job = (struct worker_job){.worker = worker, .done = done, .dispose = dispose, .arg = arg};
    list_init(&job->node);
    loop_post(worker->loop, finish, job);
    return job;
}

void worker_cancel(struct worker_job *job)
{
    job->cancelled = true;
    pthread_mutex_lock(&job->worker->lock);
    bool waits = !list_empty(&job->node);
    list_remove(&job->node);
    pthread_mutex_unlock(&job->worker->lock);
    if (waits) {
        job->dispose(job->arg);
        free(job);
    }
}
