/* What waits is queued for: asks and notes, which Python drains, and work, which the workers do. A queue has a reference of
 * its own: a request may be answered while it is in one. */
#include "parking.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "parking_parts.h"

struct ff_note {
    ff_ask ask;
    ff_note *next;
};

/* ---- with the lock held */

static bool nothing_asked(const ff_parking *self) { return self->ask_first == NULL && self->note_first == NULL; }

static void wake_python(ff_parking *self) {
    uint64_t one = 1;
    /* It fails only when the counter is full, and then it is readable. */
    ssize_t n = write(self->event_fd, &one, sizeof one);
    (void)n;
}

void ff_parked_queue_ask(ff_parking *self, ff_parked *request) {
    request->working = false;
    request->tries++;
    /* Python may have it tried again on hearing of something else, before it hears of this. */
    if (request->asking)
        return;
    bool wake = nothing_asked(self);
    request->refs++;
    request->asking = true;
    request->next_ask = NULL;
    if (self->ask_last != NULL)
        self->ask_last->next_ask = request;
    else
        self->ask_first = request;
    self->ask_last = request;
    if (wake)
        wake_python(self);
}

static ff_parked *unqueue_ask(ff_parking *self) {
    ff_parked *request = self->ask_first;
    self->ask_first = request->next_ask;
    if (self->ask_first == NULL)
        self->ask_last = NULL;
    request->asking = false;
    return request;
}

static ff_note *unqueue_note(ff_parking *self) {
    ff_note *note = self->note_first;
    self->note_first = note->next;
    if (self->note_first == NULL)
        self->note_last = NULL;
    return note;
}

bool ff_parked_queue_work(ff_parking *self, ff_parked *request) {
    request->refs++;
    request->working = true;
    request->next_work = NULL;
    self->queued_work++;
    if (self->work_last != NULL)
        self->work_last->next_work = request;
    else
        self->work_first = request;
    self->work_last = request;
    pthread_cond_signal(&self->work);
    return self->queued_work > self->idle_workers;
}

static ff_parked *unqueue_work(ff_parking *self) {
    ff_parked *request = self->work_first;
    self->queued_work--;
    self->work_first = request->next_work;
    if (self->work_first == NULL)
        self->work_last = NULL;
    return request;
}

void ff_parking_free_queues(ff_parking *self) {
    while (self->work_first != NULL)
        ff_parked_unref(self, unqueue_work(self));
    while (self->ask_first != NULL)
        ff_parked_unref(self, unqueue_ask(self));
    while (self->note_first != NULL)
        free(unqueue_note(self));
}

/* ---- asks */

bool ff_parking_ask(ff_parking *self, ff_parked *request, ff_ask_kind ask) {
    pthread_mutex_lock(&self->lock);
    bool open = !self->closing;
    if (open) {
        request->ask = ask;
        ff_parked_enter(self, request);
        ff_parked_queue_ask(self, request);
    }
    pthread_mutex_unlock(&self->lock);
    return open;
}

bool ff_parking_ask_again(ff_parking *self, ff_parked *request) {
    pthread_mutex_lock(&self->lock);
    bool ours = !request->claimed && !self->closing;
    if (ours) {
        request->ask = FF_ASK_READ;
        ff_parked_queue_ask(self, request);
    }
    pthread_mutex_unlock(&self->lock);
    return ours;
}

void ff_parking_note(ff_parking *self, const ff_ask *note) {
    ff_note *entry = malloc(sizeof *entry);
    if (entry == NULL)
        return;
    entry->ask = *note;
    entry->ask.ticket = 0;
    entry->next = NULL;
    pthread_mutex_lock(&self->lock);
    bool wake = nothing_asked(self), keep = !self->closing;
    if (keep) {
        if (self->note_last != NULL)
            self->note_last->next = entry;
        else
            self->note_first = entry;
        self->note_last = entry;
        if (wake)
            wake_python(self);
    }
    pthread_mutex_unlock(&self->lock);
    if (!keep)
        free(entry);
}

static void describe(const ff_parked *request, ff_ask *out) {
    *out = (ff_ask){
        .kind = request->ask,
        .tries = request->tries,
        .ticket = request->ticket,
        .node = request->node,
        .content_id = request->content == NULL ? 0 : request->content->id,
        .fh = request->handle == NULL ? 0 : request->handle->fh,
        .offset = request->offset,
        .length = request->length,
        .ahead_from = request->ahead_from,
        .ahead_to = request->ahead_to,
        .name_bytes = request->name_bytes,
    };
    memcpy(out->name, request->name, request->name_bytes);
}

size_t ff_parking_drain(ff_parking *self, ff_ask *out, size_t capacity) {
    size_t count = 0;
    pthread_mutex_lock(&self->lock);
    while (count < capacity && self->ask_first != NULL) {
        ff_parked *request = unqueue_ask(self);
        if (!request->claimed)
            describe(request, &out[count++]);
        ff_parked_unref(self, request);
    }
    while (count < capacity && self->note_first != NULL) {
        ff_note *note = unqueue_note(self);
        out[count++] = note->ask;
        free(note);
    }
    uint64_t ignored;
    if (nothing_asked(self)) {
        ssize_t n = read(self->event_fd, &ignored, sizeof ignored);
        (void)n;
    }
    pthread_mutex_unlock(&self->lock);
    return count;
}

/* ---- work */

bool ff_parking_work(ff_parking *self, ff_parked *request, bool *want_worker) {
    pthread_mutex_lock(&self->lock);
    bool open = !self->closing;
    if (open) {
        ff_parked_enter(self, request);
        *want_worker = ff_parked_queue_work(self, request);
    }
    pthread_mutex_unlock(&self->lock);
    return open;
}

bool ff_parking_retry(ff_parking *self, uint64_t ticket, bool *want_worker) {
    pthread_mutex_lock(&self->lock);
    ff_parked *request = self->closing ? NULL : ff_parked_find(self, ticket);
    if (request != NULL && request->ask != FF_ASK_READ)
        request = NULL;
    *want_worker = request != NULL && !request->working && ff_parked_queue_work(self, request);
    pthread_mutex_unlock(&self->lock);
    return request != NULL;
}

ff_parked *ff_parking_next_work(ff_parking *self) {
    ff_parked *request = NULL;
    pthread_mutex_lock(&self->lock);
    while (request == NULL && !self->closing) {
        self->idle_workers++;
        while (self->work_first == NULL && !self->closing)
            pthread_cond_wait(&self->work, &self->lock);
        self->idle_workers--;
        if (self->closing)
            break;
        request = unqueue_work(self);
        if (request->claimed) { /* answered meanwhile: a disk that is slow need not read it */
            ff_parked_unref(self, request);
            request = NULL;
        }
    }
    pthread_mutex_unlock(&self->lock);
    return request;
}
