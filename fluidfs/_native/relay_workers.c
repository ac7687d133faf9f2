/* Threads that wait for disks and compare checksums, so that those that serve need not. They start as they are needed. */
#include "relay_parts.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

static void work_on(ff_relay *self, ff_parked *request, char *buffer) {
    int64_t n = ff_content_read(request->content, request->offset, buffer, request->length, false);
    if (n < 0) {
        if (ff_parking_ask_again(&self->parking, request))
            ff_count_python(self, request->opcode);
        return;
    }
    if (!ff_parking_claim(&self->parking, request))
        return;
    ff_count(&self->read_requests, 1);
    ff_count(&self->read_bytes, (uint64_t)n);
    if (request->tries == 0)
        ff_count(&self->read_hit_bytes, (uint64_t)n);
    ff_reply(self, request->device_fd, request->unique, buffer, (size_t)n);
}

static void *run_worker(void *context) {
    ff_relay *self = context;
    char *buffer = aligned_alloc(FF_BUFFER_ALIGN, FF_MESSAGE_BYTES);
    ff_parked *request;
    /* Without a buffer the request is left to the watchdog, and to workers that have one. */
    while (buffer != NULL && (request = ff_parking_next_work(&self->parking)) != NULL) {
        work_on(self, request, buffer);
        ff_parked_drop(&self->parking, request);
    }
    free(buffer);
    return NULL;
}

void ff_want_worker(ff_relay *self) {
    pthread_mutex_lock(&self->workers_lock);
    if (self->worker_count < self->options.workers && !atomic_load(&self->stopping) &&
        ff_start_thread(&self->workers[self->worker_count], run_worker, self) == 0)
        self->worker_count++;
    pthread_mutex_unlock(&self->workers_lock);
}

bool ff_join_workers(ff_relay *self, int64_t deadline_ns) {
    pthread_mutex_lock(&self->workers_lock); /* none is started any more */
    unsigned count = self->worker_count, stuck = 0;
    pthread_mutex_unlock(&self->workers_lock);
    for (unsigned i = 0; i < count; i++) {
        int64_t left_ns = deadline_ns - ff_monotonic_ns();
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        left_ns = left_ns > 0 ? left_ns : 0;
        until.tv_sec += left_ns / 1000000000;
        until.tv_nsec += left_ns % 1000000000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000;
        }
        if (pthread_timedjoin_np(self->workers[i], NULL, &until) != 0)
            self->workers[stuck++] = self->workers[i];
    }
    self->worker_count = stuck;
    return stuck == 0;
}
