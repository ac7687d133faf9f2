/* The table of what waits: who entered, who is taken out to be answered, who was interrupted. */
#include "parking.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "clock.h"
#include "parking_parts.h"

int ff_parking_init(ff_parking *self, ff_handles *handles) {
    *self = (ff_parking){.next_ticket = 1, .handles = handles};
    self->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (self->event_fd < 0)
        return -errno;
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->work, NULL);
    return 0;
}

void ff_parking_free(ff_parking *self) {
    pthread_mutex_lock(&self->lock);
    ff_parking_free_queues(self);
    while (self->first != NULL) {
        ff_parked *request = self->first;
        ff_parked_leave(self, request);
        ff_parked_unref(self, request);
    }
    pthread_mutex_unlock(&self->lock);
    close(self->event_fd);
    pthread_cond_destroy(&self->work);
    pthread_mutex_destroy(&self->lock);
}

ff_parked *ff_parked_new(uint64_t unique, int device_fd, uint32_t opcode, pid_t requester) {
    ff_parked *request = calloc(1, sizeof *request);
    if (request == NULL)
        return NULL;
    request->unique = unique;
    request->device_fd = device_fd;
    request->opcode = opcode;
    request->requester = requester;
    request->refs = 1;
    request->ask = FF_ASK_NOTHING;
    return request;
}

void ff_parked_drop(ff_parking *self, ff_parked *request) {
    if (request == NULL)
        return;
    pthread_mutex_lock(&self->lock);
    ff_parked_unref(self, request);
    pthread_mutex_unlock(&self->lock);
}

/* ---- with the lock held */

/* Neither dropping a content nor a handle waits for anything, or calls back. */
void ff_parked_unref(ff_parking *self, ff_parked *request) {
    if (--request->refs > 0)
        return;
    ff_content_drop(request->content);
    ff_handle_drop(self->handles, request->handle);
    free(request);
}

static ff_parked **bucket_of(ff_parking *self, uint64_t ticket) {
    return &self->by_ticket[ticket % FF_PARKING_BUCKETS];
}

static bool take_early_interrupt(ff_parking *self, uint64_t unique) {
    for (unsigned i = 0; i < self->early_count; i++) {
        if (self->early[i] == unique) {
            self->early[i] = self->early[--self->early_count];
            return true;
        }
    }
    return false;
}

void ff_parked_enter(ff_parking *self, ff_parked *request) {
    request->ticket = self->next_ticket++;
    request->since_ns = ff_monotonic_ns();
    request->interrupted = take_early_interrupt(self, request->unique);
    self->interrupted += request->interrupted;
    ff_parked **bucket = bucket_of(self, request->ticket);
    request->bucket_next = *bucket;
    *bucket = request;
    request->before = self->last;
    request->after = NULL;
    if (self->last != NULL)
        self->last->after = request;
    else
        self->first = request;
    self->last = request;
    self->waiting++;
}

void ff_parked_leave(ff_parking *self, ff_parked *request) {
    request->claimed = true;
    ff_parked **at = bucket_of(self, request->ticket);
    while (*at != request)
        at = &(*at)->bucket_next;
    *at = request->bucket_next;
    if (request->before != NULL)
        request->before->after = request->after;
    else
        self->first = request->after;
    if (request->after != NULL)
        request->after->before = request->before;
    else
        self->last = request->before;
    self->waiting--;
    self->interrupted -= request->interrupted;
}

ff_parked *ff_parked_find(ff_parking *self, uint64_t ticket) {
    ff_parked *request = *bucket_of(self, ticket);
    while (request != NULL && request->ticket != ticket)
        request = request->bucket_next;
    return request;
}

/* ---- */

bool ff_parking_wait(ff_parking *self, ff_parked *request) {
    pthread_mutex_lock(&self->lock);
    bool open = !self->closing;
    if (open) {
        request->ask = FF_ASK_PYFUSE3;
        ff_parked_enter(self, request);
    }
    pthread_mutex_unlock(&self->lock);
    return open;
}

ff_parked *ff_parking_take(ff_parking *self, uint64_t ticket) {
    pthread_mutex_lock(&self->lock);
    ff_parked *request = ff_parked_find(self, ticket);
    if (request != NULL)
        ff_parked_leave(self, request);
    pthread_mutex_unlock(&self->lock);
    return request;
}

ff_parked *ff_parking_take_unique(ff_parking *self, uint64_t unique) {
    pthread_mutex_lock(&self->lock);
    ff_parked *request = self->first;
    while (request != NULL && (request->unique != unique || request->ask != FF_ASK_PYFUSE3))
        request = request->after;
    if (request != NULL)
        ff_parked_leave(self, request);
    pthread_mutex_unlock(&self->lock);
    return request;
}

bool ff_parking_claim(ff_parking *self, ff_parked *request) {
    pthread_mutex_lock(&self->lock);
    bool ours = !request->claimed;
    if (ours) {
        ff_parked_leave(self, request);
        request->refs--; /* the table's; the caller has its own */
    }
    pthread_mutex_unlock(&self->lock);
    return ours;
}

size_t ff_parking_give_up(ff_parking *self, bool (*give_up)(void *context, const ff_parked *request),
                          void *context, ff_parked **out, size_t capacity) {
    size_t count = 0;
    pthread_mutex_lock(&self->lock);
    ff_parked *request = self->first;
    while (request != NULL && count < capacity) {
        ff_parked *after = request->after;
        if (give_up(context, request)) {
            ff_parked_leave(self, request);
            out[count++] = request;
        }
        request = after;
    }
    pthread_mutex_unlock(&self->lock);
    return count;
}

void ff_parking_interrupt(ff_parking *self, uint64_t unique) {
    pthread_mutex_lock(&self->lock);
    ff_parked *request = self->first;
    while (request != NULL && request->unique != unique)
        request = request->after;
    if (request != NULL) {
        self->interrupted += !request->interrupted;
        request->interrupted = true;
    } else {
        /* It is being served, and most likely answered at once; or about to be parked. */
        if (self->early_count == FF_INTERRUPTS)
            memmove(self->early, self->early + 1, --self->early_count * sizeof *self->early);
        self->early[self->early_count++] = unique;
    }
    pthread_mutex_unlock(&self->lock);
}

size_t ff_parking_interrupted(ff_parking *self, ff_interrupted *out, size_t capacity) {
    size_t count = 0;
    pthread_mutex_lock(&self->lock);
    ff_parked *request = self->interrupted == 0 ? NULL : self->first;
    for (; request != NULL && count < capacity; request = request->after)
        if (request->interrupted)
            out[count++] = (ff_interrupted){request->ticket, request->requester, request->since_ns};
    pthread_mutex_unlock(&self->lock);
    return count;
}

void ff_parking_close(ff_parking *self) {
    pthread_mutex_lock(&self->lock);
    self->closing = true;
    pthread_cond_broadcast(&self->work);
    pthread_mutex_unlock(&self->lock);
}

size_t ff_parking_waiting(ff_parking *self) {
    pthread_mutex_lock(&self->lock);
    size_t waiting = self->waiting;
    pthread_mutex_unlock(&self->lock);
    return waiting;
}
