// The disk's thread: takes all jobs that wait, commits them, tells the loop.
#include "disk/disk.h"

#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "disk/disk_file.h"

enum {
    RETRY_MS = 100,
    RETRY_MAX_MS = 5000,
    LOG_INTERVAL_MS = 60000,
    STOP_MS = 500, // for what fails, at the end: with what comes before, 10 s are the bound
    HANG_MS = 500, // for a call that does not return
};

struct job {
    struct list node;
    disk_work_fn *work;
    loop_fn *done;
    void *arg;
    bool reads; // alone, and not within a transaction
    bool lazy;  // others need not wait for it
};

struct disk {
    struct disk_options options;
    char *path, *what, *holds; // owned, in options
    struct sqlite3 *db;
    int lock_fd; // or -1
    sqlite3_stmt *begin, *commit, *rollback;
    struct event *wake; // of the loop, when something is finished
    int wake_fd;
    pthread_t thread;
    struct log_limit log_limit; // the thread's, as the next two
    int64_t retry_ms;           // 0: the last attempt succeeded
    bool told;                  // of the failure, in the log
    // What the thread has taken; lazy: after those have failed together with others.
    struct list writes, lazy, reads;
    pthread_mutex_t lock; // of what follows
    pthread_cond_t submitted;
    struct list waiting, finished;
    uint64_t jobs, commits;
    bool unwritable, unreadable;
    char *error;      // of the last attempt that failed; NULL: all was done
    char *told_error; // what disk_status gave out
    int64_t end_ms;   // when to give up; 0: nobody has asked for the end
    bool left;        // by disk_close
};

// ---- the thread ----

static void move_jobs(struct list *from, struct list *to)
{
    for (struct list *node; (node = list_take(from));)
        list_append(to, node);
}

static void free_jobs(struct list *jobs)
{
    for (struct list *node; (node = list_take(jobs));)
        free(list_entry(node, struct job, node));
}

static size_t count_jobs(const struct list *jobs)
{
    size_t count = 0;
    for (const struct list *node = jobs->next; node != jobs; node = node->next)
        count++;
    return count;
}

static bool step(sqlite3_stmt *statement)
{
    bool done = sqlite3_step(statement) == SQLITE_DONE;
    sqlite3_reset(statement);
    return done;
}

static bool commit_jobs(struct disk *disk, struct list *jobs)
{
    if (!step(disk->begin))
        return false;
    list_each (node, jobs) {
        struct job *job = list_entry(node, struct job, node);
        if (!job->work(disk->db, job->arg))
            return false;
    }
    return step(disk->commit);
}

// Before anything else is done with the database: that would change what its error is. The text is
// for disk_status. Then nothing is left of it.
static char *log_failure(struct disk *disk)
{
    char *problem = disk_file_problem(disk->db, &disk->options);
    if (log_limit_pass(&disk->log_limit, NULL)) {
        log_error("%s %s: %s. What needs it waits, and is not acknowledged; trying again",
                  disk->options.what, disk->options.path, problem);
        disk->told = true;
    }
    if (!sqlite3_get_autocommit(disk->db))
        step(disk->rollback);
    sqlite3_db_release_memory(disk->db); // the next attempt reads it from the disk
    return problem;
}

// Has the lock.
static void set_error(struct disk *disk, char *error)
{
    free(disk->error);
    disk->error = error;
}

static void finish(struct disk *disk, struct list *jobs)
{
    disk->jobs += count_jobs(jobs);
    move_jobs(jobs, &disk->finished);
    uint64_t one = 1;
    // The counter cannot overflow.
    if (!disk->left && write(disk->wake_fd, &one, sizeof one) < 0)
        return;
}

// Does the jobs, or leaves no trace of them; one that reads is alone. Has the lock, and lets it go
// meanwhile.
static bool attempt(struct disk *disk, struct list *jobs)
{
    if (list_empty(jobs))
        return true;
    struct job *first = list_entry(jobs->next, struct job, node);
    pthread_mutex_unlock(&disk->lock);
    bool ok = first->reads ? first->work(disk->db, first->arg) : commit_jobs(disk, jobs);
    char *error = ok ? NULL : log_failure(disk);
    pthread_mutex_lock(&disk->lock);
    if (!ok) {
        set_error(disk, error);
        return false;
    }
    disk->commits += !first->reads;
    finish(disk, jobs);
    return true;
}

// The first of the jobs, by itself; where it fails it goes to the others that have.
static void attempt_first(struct disk *disk, struct list *jobs, struct list *failed)
{
    struct list one;
    list_init(&one);
    list_append(&one, list_take(jobs));
    attempt(disk, &one);
    move_jobs(&one, failed);
}

// False: there is none.
static bool put_lazy_off(struct disk *disk)
{
    bool found = false;
    list_each (node, &disk->writes) {
        if (!list_entry(node, struct job, node)->lazy)
            continue;
        list_remove(node);
        list_append(&disk->lazy, node);
        found = true;
    }
    return found;
}

static bool attempt_writes(struct disk *disk)
{
    bool ok = attempt(disk, &disk->writes) || (put_lazy_off(disk) && attempt(disk, &disk->writes));
    disk->unwritable = !ok;
    return ok;
}

// In order: those behind one that fails rely on it.
static void attempt_lazy(struct disk *disk)
{
    struct list failed;
    list_init(&failed);
    while (!list_empty(&disk->lazy) && list_empty(&failed))
        attempt_first(disk, &disk->lazy, &failed);
    move_jobs(&disk->lazy, &failed);
    move_jobs(&failed, &disk->lazy);
}

// Those that fail stay, the others do not wait for them.
static void attempt_reads(struct disk *disk, struct list *reads)
{
    struct list failed;
    list_init(&failed);
    while (!list_empty(reads))
        attempt_first(disk, reads, &failed);
    move_jobs(&failed, reads);
}

static void recovered(struct disk *disk)
{
    if (disk->retry_ms && disk->told)
        log_info("%s %s: writing again", disk->options.what, disk->options.path);
    disk->told = false;
    disk->retry_ms = 0;
    set_error(disk, NULL);
}

static void take_waiting(struct disk *disk, struct list *reads)
{
    for (struct list *node; (node = list_take(&disk->waiting));) {
        const struct job *job = list_entry(node, struct job, node);
        bool behind = job->lazy && !list_empty(&disk->lazy);
        list_append(job->reads ? reads : behind ? &disk->lazy : &disk->writes, node);
    }
}

// What comes meanwhile is done, unless it is like what has failed.
static void go_on_meanwhile(struct disk *disk)
{
    struct list reads;
    list_init(&reads);
    take_waiting(disk, &reads);
    if (!disk->unwritable)
        attempt_writes(disk);
    attempt_reads(disk, &reads);
    move_jobs(&reads, &disk->reads);
    disk->unreadable = !list_empty(&disk->reads);
}

// True when it is time for another attempt, false when it is too late for one.
static bool wait_to_retry(struct disk *disk)
{
    disk->retry_ms = disk->retry_ms ? disk->retry_ms * 2 : RETRY_MS;
    if (disk->retry_ms > RETRY_MAX_MS)
        disk->retry_ms = RETRY_MAX_MS;
    for (int64_t began = loop_now_ms();;) {
        int64_t now = loop_now_ms();
        if (disk->end_ms && now >= disk->end_ms)
            return false;
        int64_t due = began + (disk->end_ms ? RETRY_MS : disk->retry_ms);
        if (now >= due)
            return true;
        struct timespec until = {due / 1000, due % 1000 * 1000000};
        if (list_empty(&disk->waiting)) // what came during an attempt has signalled in vain
            pthread_cond_timedwait(&disk->submitted, &disk->lock, &until);
        go_on_meanwhile(disk);
    }
}

static void close_database(struct sqlite3 *db)
{
    for (sqlite3_stmt *statement; (statement = sqlite3_next_stmt(db, NULL));)
        sqlite3_finalize(statement);
    sqlite3_close(db);
}

static bool is_idle(const struct disk *disk)
{
    return list_empty(&disk->writes) && list_empty(&disk->lazy) && list_empty(&disk->reads);
}

static void run_jobs(struct disk *disk)
{
    for (;;) {
        take_waiting(disk, &disk->reads);
        if (is_idle(disk)) {
            if (disk->end_ms)
                return;
            pthread_cond_wait(&disk->submitted, &disk->lock);
            continue;
        }
        if (attempt_writes(disk)) // they rely on all writes before them
            attempt_lazy(disk);
        attempt_reads(disk, &disk->reads);
        disk->unreadable = !list_empty(&disk->reads);
        if (is_idle(disk))
            recovered(disk);
        else if (!wait_to_retry(disk))
            return;
    }
}

static void *run(void *arg)
{
    struct disk *disk = arg;
    pthread_mutex_lock(&disk->lock);
    run_jobs(disk);
    take_waiting(disk, &disk->reads);
    if (!list_empty(&disk->writes))
        log_error("%s %s: stopping with writes that could not be made; none was acknowledged",
                  disk->options.what, disk->options.path);
    pthread_mutex_unlock(&disk->lock);
    close_database(disk->db);
    if (disk->lock_fd >= 0)
        close(disk->lock_fd);
    return NULL;
}

// ---- the loop's side ----

static void take_finished(evutil_socket_t fd, short events, void *arg)
{
    (void)events;
    struct disk *disk = arg;
    uint64_t count;
    if (read(fd, &count, sizeof count) != sizeof count)
        return;
    struct list jobs;
    list_init(&jobs);
    pthread_mutex_lock(&disk->lock);
    move_jobs(&disk->finished, &jobs);
    pthread_mutex_unlock(&disk->lock);
    for (struct list *node; (node = list_take(&jobs));) {
        struct job *job = list_entry(node, struct job, node);
        job->done(job->arg);
        free(job);
    }
}

static bool prepare(struct disk *disk)
{
    return sqlite3_prepare_v3(disk->db, "BEGIN IMMEDIATE", -1, SQLITE_PREPARE_PERSISTENT,
                              &disk->begin, NULL) == SQLITE_OK &&
           sqlite3_prepare_v3(disk->db, "COMMIT", -1, SQLITE_PREPARE_PERSISTENT, &disk->commit,
                              NULL) == SQLITE_OK &&
           sqlite3_prepare_v3(disk->db, "ROLLBACK", -1, SQLITE_PREPARE_PERSISTENT, &disk->rollback,
                              NULL) == SQLITE_OK;
}

// Signals are for the loop's thread.
static bool start_thread(struct disk *disk)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool started = pthread_create(&disk->thread, NULL, run, disk) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started;
}

static void init_lock(struct disk *disk)
{
    pthread_mutex_init(&disk->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC); // as loop_now_ms
    pthread_cond_init(&disk->submitted, &attributes);
    pthread_condattr_destroy(&attributes);
}

static void disk_free(struct disk *disk)
{
    pthread_cond_destroy(&disk->submitted);
    pthread_mutex_destroy(&disk->lock);
    struct list *const lists[] = {&disk->writes, &disk->lazy, &disk->reads, &disk->waiting,
                                  &disk->finished};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        free_jobs(lists[i]);
    free(disk->error);
    free(disk->told_error);
    free(disk->path);
    free(disk->what);
    free(disk->holds);
    free(disk);
}

struct disk *disk_open(struct loop *loop, const struct disk_options *options, char **error)
{
    int lock_fd = -1;
    struct sqlite3 *db = disk_file_open(options, &lock_fd, error);
    if (!db)
        return NULL;
    struct disk *disk = mem_zalloc(sizeof *disk);
    *disk = (struct disk){
        .options = *options,
        .path = mem_strdup(options->path),
        .what = mem_strdup(options->what),
        .holds = mem_strdup(options->holds),
        .db = db,
        .lock_fd = lock_fd,
        .wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
        .log_limit = {.interval_ms = LOG_INTERVAL_MS},
    };
    disk->options.path = disk->path;
    disk->options.what = disk->what;
    disk->options.holds = disk->holds;
    list_init(&disk->writes);
    list_init(&disk->lazy);
    list_init(&disk->reads);
    list_init(&disk->waiting);
    list_init(&disk->finished);
    init_lock(disk);
    disk->wake =
        event_new(loop_base(loop), disk->wake_fd, EV_READ | EV_PERSIST, take_finished, disk);
    if (disk->wake_fd < 0 || !disk->wake || !prepare(disk) || !start_thread(disk)) {
        log_error("cannot start the thread of %s", options->path);
        abort();
    }
    event_add(disk->wake, NULL);
    return disk;
}

bool disk_close(struct disk *disk)
{
    if (!disk)
        return true;
    pthread_mutex_lock(&disk->lock);
    disk->end_ms = loop_now_ms() + STOP_MS;
    pthread_cond_signal(&disk->submitted);
    pthread_mutex_unlock(&disk->lock);
    int64_t late_ms = disk->end_ms + HANG_MS;
    struct timespec late = {late_ms / 1000, late_ms % 1000 * 1000000};
    bool ended = pthread_clockjoin_np(disk->thread, NULL, CLOCK_MONOTONIC, &late) == 0;
    pthread_mutex_lock(&disk->lock);
    disk->left = true;
    event_free(disk->wake);
    close(disk->wake_fd);
    pthread_mutex_unlock(&disk->lock);
    if (ended)
        disk_free(disk);
    else
        log_error("%s %s: the disk does not answer; stopping without it", disk->options.what,
                  disk->options.path);
    return ended;
}

struct sqlite3 *disk_database(struct disk *disk)
{
    return disk->db;
}

static void submit(struct disk *disk, const struct job *from)
{
    struct job *job = mem_alloc(sizeof *job);
    *job = *from;
    pthread_mutex_lock(&disk->lock);
    list_append(&disk->waiting, &job->node);
    pthread_cond_signal(&disk->submitted);
    pthread_mutex_unlock(&disk->lock);
}

void disk_submit(struct disk *disk, disk_work_fn *work, loop_fn *done, void *arg)
{
    submit(disk, &(struct job){.work = work, .done = done, .arg = arg});
}

void disk_submit_lazy(struct disk *disk, disk_work_fn *work, loop_fn *done, void *arg)
{
    submit(disk, &(struct job){.work = work, .done = done, .arg = arg, .lazy = true});
}

void disk_submit_read(struct disk *disk, disk_work_fn *work, loop_fn *done, void *arg)
{
    submit(disk, &(struct job){.work = work, .done = done, .arg = arg, .reads = true});
}

void disk_status(struct disk *disk, struct disk_status *status)
{
    pthread_mutex_lock(&disk->lock);
    free(disk->told_error);
    disk->told_error = disk->error ? mem_strdup(disk->error) : NULL;
    *status = (struct disk_status){.jobs = disk->jobs,
                                   .commits = disk->commits,
                                   .failing = disk->error != NULL,
                                   .unwritable = disk->unwritable,
                                   .unreadable = disk->unreadable,
                                   .error = disk->told_error};
    pthread_mutex_unlock(&disk->lock);
}
