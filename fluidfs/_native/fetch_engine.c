#include "fetch_engine.h"
#include "thread_signals.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define TICKET_BUCKETS 1024

/* An HTTP head (64 KiB) lives on a worker's stack; musl's default of 128 KiB is too tight for OpenSSL above it. */
#define STACK_BYTES ((size_t)512 * 1024)

#define BUFFER_ALIGNMENT 4096

typedef enum { QUEUED, RUNNING, DONE } job_state;

typedef struct job {
    /* Set before the job is queued: */
    ff_engine *engine;
    ff_order order;
    uint64_t ticket;
    char *target, *version; /* what order.range points to */
    atomic_bool cancelled;
    /* Under the engine's lock: */
    job_state state;
    int worker;
    struct job *before, *after; /* in its queue */
    struct job *next_of_bucket;
    bool reported; /* is on the list of reports */
    struct job *next_report;
    uint64_t bytes_done;
    ff_result result; /* of its worker alone until DONE */
} job;

typedef struct {
    job *first, *last;
} job_queue;

typedef struct {
    ff_engine *engine;
    int index;
    pthread_t thread;
    int wake_fd;
    void *buffer;
} worker;

struct ff_engine {
    pthread_mutex_t lock;
    pthread_cond_t work; /* a queue is not empty, or stopping */
    job_queue urgent, patient;
    job *by_ticket[TICKET_BUCKETS];
    job *first_report, *last_report;
    size_t reports;
    bool signalled; /* the eventfd has been written since it was last read */
    bool stopping;
    uint64_t last_ticket;
    uint64_t in_flight, busy_workers;
    int event_fd;
    pid_t process;
    size_t chunk_bytes;
    ff_counters *counters;
    int worker_count; /* that have been started */
    worker workers[FF_WORKERS_MAX];
};

static void signal_fd(int fd) {
    const uint64_t one = 1;
    ssize_t ignored = write(fd, &one, sizeof one);
    (void)ignored;
}

static void enqueue(job_queue *queue, job *added) {
    added->before = queue->last;
    added->after = NULL;
    *(queue->last != NULL ? &queue->last->after : &queue->first) = added;
    queue->last = added;
}

static void unqueue(job_queue *queue, job *removed) {
    *(removed->before != NULL ? &removed->before->after : &queue->first) = removed->after;
    *(removed->after != NULL ? &removed->after->before : &queue->last) = removed->before;
    removed->before = removed->after = NULL;
}

static job_queue *queue_of(ff_engine *self, const job *of) { return of->order.urgent ? &self->urgent : &self->patient; }

static job **bucket_of(ff_engine *self, uint64_t ticket) { return &self->by_ticket[ticket % TICKET_BUCKETS]; }

static void free_job(job *self) {
    free(self->target);
    free(self->version);
    free(self);
}

/* Under the lock. */
static void report(ff_engine *self, job *about) {
    if (about->reported)
        return;
    about->reported = true;
    about->next_report = NULL;
    *(self->last_report != NULL ? &self->last_report->next_report : &self->first_report) = about;
    self->last_report = about;
    self->reports++;
    if (!self->signalled) {
        self->signalled = true;
        signal_fd(self->event_fd);
    }
}

static void report_progress(void *context, uint64_t delivered) {
    job *running = context;
    ff_engine *self = running->engine;
    pthread_mutex_lock(&self->lock);
    running->bytes_done = delivered;
    report(self, running);
    pthread_mutex_unlock(&self->lock);
}

/* Ends the sink's part, then the job's. Its result is set; nobody else drives it. */
static void finish(ff_engine *self, job *ended, uint64_t delivered) {
    int outcome = ended->order.sink->end(ended->order.sink, (int)ended->result.status);
    if (outcome < 0 && ended->result.status == FF_OK)
        ff_result_set(&ended->result, FF_SINK, -outcome, "the bytes could not be kept: %m");
    pthread_mutex_lock(&self->lock);
    for (job **link = bucket_of(self, ended->ticket); *link != NULL; link = &(*link)->next_of_bucket)
        if (*link == ended) {
            *link = ended->next_of_bucket;
            break;
        }
    if (ended->state == RUNNING && ended->worker >= 0)
        self->busy_workers--;
    ended->state = DONE;
    ended->bytes_done = delivered;
    self->in_flight--;
    report(self, ended);
    pthread_mutex_unlock(&self->lock);
}

static void finish_cancelled(ff_engine *self, job *queued) {
    ff_result_set(&queued->result, FF_CANCELLED, 0, "cancelled");
    finish(self, queued, 0);
}

static void carry_out(worker *self, job *running) {
    ff_waiter waiter = {.wake_fd = self->wake_fd, .cancelled = &running->cancelled};
    const ff_range *range = &running->order.range;
    ff_delivery delivery;
    ff_delivery_init(&delivery, running->order.sink, self->buffer, self->engine->chunk_bytes, range->offset,
                     range->length);
    delivery.progress = report_progress;
    delivery.context = running;
    running->order.source->fetch(running->order.source, range, &delivery, &waiter, &running->result);
    finish(self->engine, running, delivery.delivered);
}

/* Waits for a job. NULL when the engine stops. */
static job *next_job(worker *self) {
    ff_engine *engine = self->engine;
    job *taken = NULL;
    pthread_mutex_lock(&engine->lock);
    while (engine->urgent.first == NULL && engine->patient.first == NULL && !engine->stopping)
        pthread_cond_wait(&engine->work, &engine->lock);
    if (!engine->stopping) {
        taken = engine->urgent.first != NULL ? engine->urgent.first : engine->patient.first;
        unqueue(queue_of(engine, taken), taken);
        taken->state = RUNNING;
        taken->worker = self->index;
        engine->busy_workers++;
    }
    pthread_mutex_unlock(&engine->lock);
    return taken;
}

static void *work(void *argument) {
    worker *self = argument;
    for (job *taken = next_job(self); taken != NULL; taken = next_job(self))
        carry_out(self, taken);
    return NULL;
}

static int start_worker(ff_engine *self, int index, const pthread_attr_t *attributes) {
    worker *started = &self->workers[index];
    started->engine = self;
    started->index = index;
    started->buffer = aligned_alloc(BUFFER_ALIGNMENT, self->chunk_bytes);
    if (started->buffer == NULL)
        return ENOMEM;
    started->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int error = started->wake_fd >= 0 ? pthread_create(&started->thread, attributes, work, started) : errno;
    if (error != 0) {
        free(started->buffer);
        if (started->wake_fd >= 0)
            close(started->wake_fd);
        return error;
    }
    pthread_setname_np(started->thread, "fluidfs-fetch");
    self->worker_count++;
    return 0;
}

static int start_workers(ff_engine *self, int count) {
    pthread_attr_t attributes;
    sigset_t all, before;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    /* A thread inherits the mask of the one that creates it. */
    ff_thread_signals(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = 0;
    for (int i = 0; i < count && error == 0; i++)
        error = start_worker(self, i, &attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return error;
}

ff_engine *ff_engine_new(int workers, size_t chunk_bytes, ff_counters *counters) {
    if (workers < 1 || workers > FF_WORKERS_MAX || chunk_bytes == 0 || chunk_bytes % FF_DELIVERY_UNIT != 0) {
        errno = EINVAL;
        return NULL;
    }
    ff_engine *self = calloc(1, sizeof *self);
    if (self == NULL)
        return NULL;
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->work, NULL);
    self->process = getpid();
    self->chunk_bytes = chunk_bytes;
    self->counters = ff_counters_hold(counters);
    self->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int error = self->event_fd >= 0 ? start_workers(self, workers) : errno;
    if (error != 0) {
        ff_engine_stop(self);
        ff_engine_free(self);
        errno = error;
        return NULL;
    }
    return self;
}

int ff_engine_fd(const ff_engine *self) { return self->event_fd; }

int ff_engine_submit(ff_engine *self, const ff_order *order, uint64_t *ticket) {
    job *added = calloc(1, sizeof *added);
    if (added == NULL)
        return -ENOMEM;
    added->engine = self;
    added->order = *order;
    added->worker = -1;
    atomic_init(&added->cancelled, false);
    added->target = strdup(order->range.target);
    added->version = strdup(order->range.version);
    if (added->target == NULL || added->version == NULL) {
        free_job(added);
        return -ENOMEM;
    }
    added->order.range.target = added->target;
    added->order.range.version = added->version;

    pthread_mutex_lock(&self->lock);
    bool stopping = self->stopping;
    if (!stopping) {
        *ticket = added->ticket = ++self->last_ticket;
        job **bucket = bucket_of(self, added->ticket);
        added->next_of_bucket = *bucket;
        *bucket = added;
        enqueue(queue_of(self, added), added);
        self->in_flight++;
        pthread_cond_signal(&self->work);
    }
    pthread_mutex_unlock(&self->lock);
    if (!stopping)
        return 0;
    free_job(added);
    return -ESHUTDOWN;
}

/* Under the lock: flags a job. Returns true if it was queued and is now the caller's to finish. */
static bool cancel_locked(ff_engine *self, job *cancelled) {
    atomic_store_explicit(&cancelled->cancelled, true, memory_order_release);
    if (cancelled->state == QUEUED) {
        unqueue(queue_of(self, cancelled), cancelled);
        cancelled->state = RUNNING;
        return true;
    }
    if (cancelled->state == RUNNING && cancelled->worker >= 0)
        signal_fd(self->workers[cancelled->worker].wake_fd);
    return false;
}

void ff_engine_cancel(ff_engine *self, uint64_t ticket) {
    pthread_mutex_lock(&self->lock);
    job *found = *bucket_of(self, ticket);
    while (found != NULL && found->ticket != ticket)
        found = found->next_of_bucket;
    bool mine = found != NULL && cancel_locked(self, found);
    pthread_mutex_unlock(&self->lock);
    if (mine)
        finish_cancelled(self, found);
}

size_t ff_engine_acknowledge(ff_engine *self) {
    uint64_t signals;
    pthread_mutex_lock(&self->lock);
    size_t reports = self->reports;
    ssize_t ignored = read(self->event_fd, &signals, sizeof signals);
    (void)ignored;
    self->signalled = false;
    pthread_mutex_unlock(&self->lock);
    return reports;
}

bool ff_engine_take_report(ff_engine *self, ff_report *taken) {
    pthread_mutex_lock(&self->lock);
    job *about = self->first_report;
    if (about == NULL) {
        pthread_mutex_unlock(&self->lock);
        return false;
    }
    self->first_report = about->next_report;
    if (self->first_report == NULL)
        self->last_report = NULL;
    self->reports--;
    about->reported = false;
    taken->ticket = about->ticket;
    taken->done = about->state == DONE;
    taken->bytes_done = about->bytes_done;
    taken->owner = NULL;
    pthread_mutex_unlock(&self->lock);
    if (taken->done) {
        taken->owner = about->order.owner;
        taken->result = about->result;
        free_job(about);
    }
    return true;
}

ff_engine_load ff_engine_measure(ff_engine *self) {
    pthread_mutex_lock(&self->lock);
    ff_engine_load load = {.in_flight = self->in_flight, .busy_workers = self->busy_workers};
    pthread_mutex_unlock(&self->lock);
    return load;
}

void ff_engine_stop(ff_engine *self) {
    job *queued = NULL;
    pthread_mutex_lock(&self->lock);
    bool stopped = self->stopping;
    self->stopping = true;
    for (int i = 0; i < TICKET_BUCKETS && !stopped; i++)
        for (job *live = self->by_ticket[i]; live != NULL; live = live->next_of_bucket)
            if (cancel_locked(self, live)) {
                live->after = queued;
                queued = live;
            }
    pthread_cond_broadcast(&self->work);
    pthread_mutex_unlock(&self->lock);
    if (stopped)
        return;
    while (queued != NULL) {
        job *next = queued->after;
        finish_cancelled(self, queued);
        queued = next;
    }
    for (int i = 0; i < self->worker_count; i++)
        pthread_join(self->workers[i].thread, NULL);
}

bool ff_engine_is_ours(const ff_engine *self) { return getpid() == self->process; }

void ff_engine_free(ff_engine *self) {
    for (int i = 0; i < self->worker_count; i++) {
        close(self->workers[i].wake_fd);
        free(self->workers[i].buffer);
    }
    if (self->event_fd >= 0)
        close(self->event_fd);
    pthread_cond_destroy(&self->work);
    pthread_mutex_destroy(&self->lock);
    ff_counters_release(self->counters);
    free(self);
}
