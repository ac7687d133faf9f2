/* Worker threads that fetch ranges into sinks, two queues of jobs for them, and one list of reports about these.
 *
 * A job is queued, then running, then done; its ticket names it. While it runs there is at most one report about its
 * progress; the last report says how it ended. So the list is as long as there are jobs, at most.
 *
 * Threads: every function may be called from any thread, ff_engine_stop and ff_engine_free from one only. One lock
 * guards the queues, the list and every field of a job that more than one thread uses; it is never held during I/O or
 * a sink's or source's function. A job's fields that are set before it is queued are read without the lock by its
 * worker: taking it off the queue, under the lock, orders them. `cancelled` is the exception: see waiter.h. Workers
 * block all signals (SIGPIPE among them) and know nothing of Python.
 *
 * Ownership: source, sink and owner of a job are borrowed until its last report was taken.
 */
#ifndef FLUIDFS_FETCH_ENGINE_H
#define FLUIDFS_FETCH_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "counters.h"
#include "sink.h"
#include "source.h"

#define FF_WORKERS_MAX 64

typedef struct ff_engine ff_engine;

typedef struct {
    ff_source *source;
    ff_sink *sink;
    void *owner; /* handed back in the last report */
    ff_range range; /* its strings are copied */
    bool urgent;    /* before all that is not */
} ff_order;

typedef struct {
    uint64_t ticket;
    bool done;
    uint64_t bytes_done; /* that the sink has taken */
    ff_result result;    /* of done ones */
    void *owner;         /* of done ones, else NULL */
} ff_report;

typedef struct {
    uint64_t in_flight; /* queued or running */
    uint64_t busy_workers;
} ff_engine_load;

/* Starts `workers` (1 to FF_WORKERS_MAX) threads, each with a buffer of `chunk_bytes` (a multiple of
 * FF_DELIVERY_UNIT). Holds `counters`. NULL with errno set. */
ff_engine *ff_engine_new(int workers, size_t chunk_bytes, ff_counters *counters);

/* An eventfd that is readable when there are reports that ff_engine_acknowledge has not been called for. */
int ff_engine_fd(const ff_engine *self);

/* Queues a job. Returns 0, -ENOMEM, or -ESHUTDOWN after ff_engine_stop. */
int ff_engine_submit(ff_engine *self, const ff_order *order, uint64_t *ticket);

/* Ends a job with FF_CANCELLED soon, if it is not done: a running one as soon as its worker wakes, a queued one before
 * this returns (the caller's thread then drives the end of its sink). */
void ff_engine_cancel(ff_engine *self, uint64_t ticket);

/* Makes the descriptor unreadable and returns how many reports there are to take now. */
size_t ff_engine_acknowledge(ff_engine *self);

/* Takes the oldest report. False if there is none. */
bool ff_engine_take_report(ff_engine *self, ff_report *report);

ff_engine_load ff_engine_measure(ff_engine *self);

/* Cancels all jobs and joins the workers: at once but for a sink's or a disk's call that has to return. Reports remain
 * to be taken. A second call does nothing. */
void ff_engine_stop(ff_engine *self);

/* Whether this process started the engine. A forked child has no workers, and locks that may be held for ever: it must
 * leave the engine alone. */
bool ff_engine_is_ours(const ff_engine *self);

/* After ff_engine_stop, and after all reports were taken. */
void ff_engine_free(ff_engine *self);

#endif
