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
    pthread_mutex_t lock;       // of what follows
    pthread_cond_t submitted;
    struct list waiting, finished;
    uint64_t jobs, commits;
    char *error;      // of the last attempt, NULL: it succeeded
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
// for disk_status.
static char *log_failure(struct disk *disk)
{
    char *problem = disk_file_problem(disk->db, &disk->options);
    if (log_limit_pass(&disk->log_limit, NULL)) {
        log_error("%s %s: %s. What needs it waits, and is not acknowledged; trying again",
                  disk->options.what, disk->options.path, problem);
        disk->told = true;
    }
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

// Commits the jobs, or leaves no trace of them. Has the lock, and lets it go meanwhile.
static bool attempt(struct disk *disk, struct list *jobs)
{
    if (list_empty(jobs))
        return true;
    pthread_mutex_unlock(&disk->lock);
    char *error = NULL;
    bool ok = commit_jobs(disk, jobs);
    if (!ok) {
        error = log_failure(disk);
        if (!sqlite3_get_autocommit(disk->db))
            step(disk->rollback);
    }
    pthread_mutex_lock(&disk->lock);
    if (!ok) {
        set_error(disk, error);
        return false;
    }
    disk->commits++;
    finish(disk, jobs);
    return true;
}

// As attempt, of jobs that read: those that fail stay, the others do not wait for them.
static bool attempt_reads(struct disk *disk, struct list *jobs)
{
    list_each (node, jobs) {
        struct job *job = list_entry(node, struct job, node);
        pthread_mutex_unlock(&disk->lock);
        bool ok = job->work(disk->db, job->arg);
        char *error = ok ? NULL : log_failure(disk);
        pthread_mutex_lock(&disk->lock);
        if (!ok) {
            set_error(disk, error);
            continue;
        }
        struct list read;
        list_init(&read);
        list_remove(node);
        list_append(&read, node);
        finish(disk, &read);
    }
    return list_empty(jobs);
}

static void recovered(struct disk *disk)
{
    if (disk->retry_ms && disk->told)
        log_info("%s %s: writing again", disk->options.what, disk->options.path);
    disk->told = false;
    disk->retry_ms = 0;
    set_error(disk, NULL);
}

static void take_waiting(struct disk *disk, struct list *writes, struct list *reads)
{
    for (struct list *node; (node = list_take(&disk->waiting));)
        list_append(list_entry(node, struct job, node)->reads ? reads : writes, node);
}

// What reads and comes meanwhile need not wait for what cannot be written.
static void read_meanwhile(struct disk *disk, struct list *writes, struct list *reads)
{
    struct list fresh;
    list_init(&fresh);
    take_waiting(disk, writes, &fresh);
    attempt_reads(disk, &fresh);
    move_jobs(&fresh, reads);
}

// True when it is time for another attempt, false when it is too late for one.
static bool wait_to_retry(struct disk *disk, struct list *writes, struct list *reads)
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
        pthread_cond_timedwait(&disk->submitted, &disk->lock, &until);
        read_meanwhile(disk, writes, reads);
    }
}

static void close_database(struct sqlite3 *db)
{
    for (sqlite3_stmt *statement; (statement = sqlite3_next_stmt(db, NULL));)
        sqlite3_finalize(statement);
    sqlite3_close(db);
}

static void run_jobs(struct disk *disk, struct list *writes, struct list *reads)
{
    for (;;) {
        take_waiting(disk, writes, reads);
        if (list_empty(writes) && list_empty(reads)) {
            if (disk->end_ms)
                return;
            pthread_cond_wait(&disk->submitted, &disk->lock);
            continue;
        }
        bool written = attempt(disk, writes);
        if (attempt_reads(disk, reads) && written)
            recovered(disk);
        else if (!wait_to_retry(disk, writes, reads))
            return;
    }
}

static void *run(void *arg)
{
    struct disk *disk = arg;
    struct list writes, reads;
    list_init(&writes);
    list_init(&reads);
    pthread_mutex_lock(&disk->lock);
    run_jobs(disk, &writes, &reads);
    take_waiting(disk, &writes, &reads);
    if (!list_empty(&writes))
        log_error("%s %s: stopping with writes that could not be made; none was acknowledged",
                  disk->options.what, disk->options.path);
    free_jobs(&writes);
    free_jobs(&reads);
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
    free_jobs(&disk->waiting);
    free_jobs(&disk->finished);
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
                                   .error = disk->told_error};
    pthread_mutex_unlock(&disk->lock);
}
