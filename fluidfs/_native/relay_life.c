/* How a relay begins and ends. */
#include "relay.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "relay_parts.h"
#include "thread_signals.h"

/* Gets a thread out of a read of the device. Nobody else uses it, and by default it does nothing. */
#define NUDGE SIGURG
#define NUDGE_EVERY_US 2000
#define STOP_NS 5000000000

static void nudged(int signal_number) { (void)signal_number; }

ff_relay *ff_relay_new(const ff_relay_options *options, ff_names *names, ff_contents *contents) {
    ff_relay *self = calloc(1, sizeof *self);
    if (self == NULL)
        return NULL;
    self->options = *options;
    self->names = names;
    self->contents = contents;
    self->pair[0] = self->pair[1] = self->watch_fd = -1;
    self->backing = (ff_backing){.open = ff_backing_open,
                                 .close = ff_backing_close,
                                 .allowed = ff_backing_allowed,
                                 .context = self,
                                 .boot_id = self->options.boot_id};
    if (ff_handles_init(&self->handles, names) != 0)
        goto no_handles;
    if (ff_parking_init(&self->parking, &self->handles) != 0)
        goto no_parking;
    if (ff_outbox_init(&self->to_python) != 0)
        goto no_to_python;
    if (ff_outbox_init(&self->to_kernel) != 0)
        goto no_to_kernel;
    self->servers = calloc(options->threads, sizeof *self->servers);
    self->workers = calloc(options->workers, sizeof *self->workers);
    self->watch_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (self->servers == NULL || self->workers == NULL || self->watch_fd < 0 ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, self->pair) < 0)
        goto no_rest;
    pthread_mutex_init(&self->workers_lock, NULL);
    sem_init(&self->places, 0, options->at_device);
    return self;
no_rest:
    free(self->servers);
    free(self->workers);
    if (self->watch_fd >= 0)
        close(self->watch_fd);
    ff_outbox_free(&self->to_kernel);
no_to_kernel:
    ff_outbox_free(&self->to_python);
no_to_python:
    ff_parking_free(&self->parking);
no_parking:
    ff_handles_free(&self->handles, &self->backing);
no_handles:
    free(self);
    return NULL;
}

/* A clone of the device for a thread of its own; the device itself where that is not allowed, which is slower only where
 * many threads are at it. */
static int clone_device(ff_relay *self) {
    if ((self->options.off & FF_OFF_CLONE) != 0)
        return self->options.device_fd;
    int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return self->options.device_fd;
    uint32_t device = (uint32_t)self->options.device_fd;
    if (ioctl(fd, FF_DEV_IOC_CLONE, &device) < 0) {
        close(fd);
        return self->options.device_fd;
    }
    self->clones++;
    return fd;
}

static int start_server(ff_relay *self, unsigned index) {
    ff_server *server = &self->servers[index];
    server->relay = self;
    server->device_fd = index == 0 ? self->options.device_fd : clone_device(self);
    server->request = aligned_alloc(FF_BUFFER_ALIGN, FF_REQUEST_ROOM);
    server->answer = aligned_alloc(FF_BUFFER_ALIGN, FF_MESSAGE_BYTES);
    if (server->request == NULL || server->answer == NULL)
        return -ENOMEM;
    int error = ff_start_thread(&server->thread, ff_run_server, server);
    server->started = error == 0;
    return error;
}

int ff_start_thread(pthread_t *thread, void *(*run)(void *context), void *context) {
    sigset_t all, mask;
    ff_thread_signals(&all);
    sigdelset(&all, NUDGE);
    pthread_sigmask(SIG_SETMASK, &all, &mask);
    int error = -pthread_create(thread, NULL, run, context);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    return error;
}

/* Signals do not count: one that comes just before the read is lost, so they are sent until the thread is out. */
static bool stop_server(ff_server *server, int64_t deadline_ns) {
    if (!server->started)
        return true;
    while (!atomic_load(&server->done)) {
        if (ff_monotonic_ns() > deadline_ns)
            return false;
        pthread_kill(server->thread, NUDGE);
        usleep(NUDGE_EVERY_US);
    }
    pthread_join(server->thread, NULL);
    server->started = false;
    return true;
}

static void stop_thread(pthread_t thread, bool *running) {
    if (*running)
        pthread_join(thread, NULL);
    *running = false;
}

/* Answers what waits for them, and ends the threads. False: one of them is stuck. */
static bool end_threads(ff_relay *self) {
    int64_t deadline_ns = ff_monotonic_ns() + STOP_NS;
    bool stuck = false;
    ff_parking_close(&self->parking);
    ff_answer_all(self, EIO);
    atomic_store(&self->stopping, true);
    while (atomic_load(&self->answering) > 0)
        sched_yield();
    for (unsigned i = 0; i < self->options.threads; i++)
        sem_post(&self->places);
    ff_wake(self->to_python.event_fd);
    ff_wake(self->to_kernel.event_fd);
    ff_wake(self->watch_fd);
    for (unsigned i = 0; i < self->options.threads; i++)
        stuck = !stop_server(&self->servers[i], deadline_ns) || stuck;
    stop_thread(self->pair_thread, &self->pair_running);
    stop_thread(self->watch_thread, &self->watch_running);
    stuck = !ff_join_workers(self, deadline_ns) || stuck;
    return ff_end_notify(self, deadline_ns) && !stuck;
}

/* Closes a descriptor, or (when a stuck thread may yet use its number) has it stand for nothing. */
static void close_device(int *fd, bool stuck) {
    int nothing = stuck ? open("/dev/null", O_RDWR | O_CLOEXEC) : -1;
    if (nothing >= 0) {
        dup3(nothing, *fd, O_CLOEXEC);
        close(nothing);
    } else if (!stuck) {
        close(*fd);
        *fd = -1;
    }
}

static void close_clones(ff_relay *self, bool stuck) {
    for (unsigned i = 0; i < self->options.threads; i++)
        if (self->servers[i].device_fd != self->options.device_fd && self->servers[i].device_fd > 0)
            close_device(&self->servers[i].device_fd, stuck);
}

int ff_relay_start(ff_relay *self) {
    struct sigaction before, mine = {.sa_handler = nudged}; /* without SA_RESTART: a nudged read returns */
    sigemptyset(&mine.sa_mask);
    if (sigaction(NUDGE, NULL, &before) < 0)
        return -errno;
    if (before.sa_handler == SIG_DFL || before.sa_handler == SIG_IGN)
        sigaction(NUDGE, &mine, NULL);
    atomic_store(&self->beat_ns, ff_monotonic_ns());
    int error = ff_start_thread(&self->pair_thread, ff_run_pair, self);
    self->pair_running = error == 0;
    if (error == 0) {
        error = ff_start_thread(&self->notify_thread, ff_run_notify, self);
        self->notify_running = error == 0;
    }
    for (unsigned i = 0; i < self->options.threads && error == 0; i++)
        error = start_server(self, i);
    if (error == 0) {
        error = ff_start_thread(&self->watch_thread, ff_run_watch, self);
        self->watch_running = error == 0;
    }
    if (error != 0) {
        end_threads(self);
        ff_handles_close_all(&self->handles, &self->backing);
        close_clones(self, false);
    }
    return error;
}

bool ff_relay_stop(ff_relay *self) {
    bool stuck = !end_threads(self);
    if (!stuck)
        ff_handles_close_all(&self->handles, &self->backing);
    close_clones(self, stuck);
    if (self->options.device_fd >= 0)
        close_device(&self->options.device_fd, stuck);
    return !stuck;
}

void ff_relay_free(ff_relay *self) {
    for (unsigned i = 0; i < self->options.threads; i++) {
        free(self->servers[i].request);
        free(self->servers[i].answer);
    }
    free(self->servers);
    free(self->workers);
    close(self->pair[0]);
    if (self->pair[1] >= 0)
        close(self->pair[1]);
    close(self->watch_fd);
    ff_parking_free(&self->parking);
    ff_handles_free(&self->handles, &self->backing);
    ff_outbox_free(&self->to_kernel);
    ff_outbox_free(&self->to_python);
    sem_destroy(&self->places);
    pthread_mutex_destroy(&self->workers_lock);
    free(self);
}
