// A few threads for calls that block, such as name resolution; results come back on the loop.
#pragma once

#include "base/loop.h"

struct worker;
struct worker_job;

struct worker *worker_new(struct loop *loop, unsigned threads);
// All jobs must have ended or been cancelled. A call that still blocks is waited for one second,
// then left to the end of the process: a name server that hangs must not hold up a stop.
void worker_free(struct worker *worker);

// Runs work(arg) on a thread, then done(arg) on the loop, which also frees arg where that is to be
// freed. The job is freed after done.
struct worker_job *worker_submit(struct worker *worker, loop_fn *work, loop_fn *done,
                                 loop_fn *dispose, void *arg);
// The same for what is done already: no thread takes it, done comes from the loop all the same.
struct worker_job *worker_skip(struct worker *worker, loop_fn *done, loop_fn *dispose, void *arg);
// done is not called; dispose(arg) is, at once or when the running work has ended.
void worker_cancel(struct worker_job *job);
