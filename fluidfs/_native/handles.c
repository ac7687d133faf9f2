#include "handles.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

#define FIRST_CAPACITY 64u
#define SLOT_BITS 32

int ff_handles_init(ff_handles *self, ff_names *names) {
    *self = (ff_handles){.names = names, .capacity = FIRST_CAPACITY};
    self->slots = calloc(FIRST_CAPACITY, sizeof *self->slots);
    self->generations = calloc(FIRST_CAPACITY, sizeof *self->generations);
    if (self->slots == NULL || self->generations == NULL) {
        free(self->slots);
        free(self->generations);
        return -ENOMEM;
    }
    pthread_mutex_init(&self->lock, NULL);
    return 0;
}

void ff_handle_drop(ff_handles *self, ff_handle *handle) {
    if (handle == NULL || atomic_fetch_sub_explicit(&handle->refs, 1, memory_order_acq_rel) != 1)
        return;
    ff_content_drop(handle->content);
    if (handle->listing != NULL)
        ff_names_drop_listing(self->names, handle->listing);
    pthread_mutex_destroy(&handle->lock);
    free(handle);
}

static bool grow(ff_handles *self) {
    uint32_t capacity = self->capacity * 2;
    ff_handle **slots = realloc(self->slots, capacity * sizeof *slots);
    if (slots == NULL)
        return false;
    self->slots = slots;
    uint32_t *generations = realloc(self->generations, capacity * sizeof *generations);
    if (generations == NULL)
        return false;
    self->generations = generations;
    memset(slots + self->capacity, 0, self->capacity * sizeof *slots);
    memset(generations + self->capacity, 0, self->capacity * sizeof *generations);
    self->next_free = self->capacity;
    self->capacity = capacity;
    return true;
}

/* A new handle with one reference, the table's; the lock is held. NULL: no memory. */
static ff_handle *add(ff_handles *self, uint64_t node) {
    if (self->used == self->capacity && !grow(self))
        return NULL;
    ff_handle *handle = calloc(1, sizeof *handle);
    if (handle == NULL)
        return NULL;
    uint32_t slot = self->next_free;
    while (self->slots[slot] != NULL)
        slot = (slot + 1) % self->capacity;
    self->slots[slot] = handle;
    self->used++;
    self->next_free = (slot + 1) % self->capacity;
    /* 30 bits: the number stays below FF_HANDLE_NATIVE. */
    uint64_t generation = ++self->generations[slot] & ((1u << 30) - 1);
    handle->fh = FF_HANDLE_NATIVE | generation << SLOT_BITS | slot;
    handle->node = node;
    handle->refs = 1;
    pthread_mutex_init(&handle->lock, NULL);
    return handle;
}

static ff_handle *find(ff_handles *self, uint64_t fh) {
    uint32_t slot = (uint32_t)fh;
    if (slot >= self->capacity || self->slots[slot] == NULL || self->slots[slot]->fh != fh)
        return NULL;
    return self->slots[slot];
}

/* How the first open of a content is done; the lock is held. */
static void choose_mode(const ff_backing *backing, ff_content *content) {
    content->passthrough = false;
    if (content->kind != FF_CONTENT_OBJECT || !backing->allowed(backing->context, content) ||
        !ff_content_sealed(content, backing->boot_id))
        return;
    int id = backing->open(backing->context, content->object->data_fd);
    if (id > 0) {
        content->passthrough = true;
        content->backing_id = id;
    }
}

/* The node's content with a reference for the caller, which is `given` if it had none; the lock is held. */
static int content_of(ff_handles *self, uint64_t node, ff_content *given, ff_content **out) {
    int error = ff_names_content(self->names, node, out);
    if (error != -ENODATA || given == NULL)
        return error;
    error = ff_names_set_content(self->names, node, given);
    if (error == 0)
        *out = ff_content_hold(given);
    return error;
}

int ff_handles_open_file(ff_handles *self, const ff_backing *backing, uint64_t node, ff_content *given, uint64_t *fh,
                         bool *passthrough, int32_t *backing_id) {
    pthread_mutex_lock(&self->lock);
    ff_content *content = NULL;
    int error = content_of(self, node, given, &content);
    ff_handle *handle = error == 0 ? add(self, node) : NULL;
    if (handle != NULL) {
        if (content->opens == 0)
            choose_mode(backing, content);
        content->opens++;
        self->open_files++;
        handle->content = content;
        *fh = handle->fh;
        *passthrough = content->passthrough;
        *backing_id = content->backing_id;
    }
    pthread_mutex_unlock(&self->lock);
    if (error == 0 && handle == NULL) {
        ff_content_drop(content);
        error = -ENOMEM;
    }
    return error;
}

int ff_handles_open_directory(ff_handles *self, uint64_t node, ff_listing *listing, int64_t good_until_ns,
                              uint64_t *fh) {
    pthread_mutex_lock(&self->lock);
    ff_handle *handle = add(self, node);
    if (handle != NULL) {
        handle->listing = listing;
        handle->good_until_ns = good_until_ns;
        *fh = handle->fh;
    }
    pthread_mutex_unlock(&self->lock);
    if (handle == NULL)
        ff_names_drop_listing(self->names, listing);
    return handle == NULL ? -ENOMEM : 0;
}

ff_handle *ff_handles_find(ff_handles *self, uint64_t fh) {
    pthread_mutex_lock(&self->lock);
    ff_handle *handle = find(self, fh);
    if (handle != NULL)
        atomic_fetch_add_explicit(&handle->refs, 1, memory_order_relaxed);
    pthread_mutex_unlock(&self->lock);
    return handle;
}

/* Takes a handle out of the table; the lock is held. */
static void close_slot(ff_handles *self, const ff_backing *backing, uint32_t slot, int64_t now_ns) {
    ff_content *content = self->slots[slot]->content;
    self->slots[slot] = NULL;
    self->used--;
    if (content == NULL)
        return;
    self->open_files--;
    if (--content->opens > 0)
        return;
    if (content->passthrough)
        backing->close(backing->context, content->backing_id);
    content->passthrough = false;
    content->backing_id = 0;
    content->idle_since_ns = now_ns;
}

void ff_handles_close(ff_handles *self, const ff_backing *backing, uint64_t fh, int64_t now_ns) {
    pthread_mutex_lock(&self->lock);
    ff_handle *handle = find(self, fh);
    if (handle != NULL)
        close_slot(self, backing, (uint32_t)fh, now_ns);
    pthread_mutex_unlock(&self->lock);
    ff_handle_drop(self, handle);
}

void ff_handles_close_all(ff_handles *self, const ff_backing *backing) {
    int64_t now_ns = ff_monotonic_ns();
    pthread_mutex_lock(&self->lock);
    for (uint32_t slot = 0; slot < self->capacity; slot++) {
        ff_handle *handle = self->slots[slot];
        if (handle != NULL) {
            close_slot(self, backing, slot, now_ns);
            ff_handle_drop(self, handle);
        }
    }
    pthread_mutex_unlock(&self->lock);
}

void ff_handles_free(ff_handles *self, const ff_backing *backing) {
    ff_handles_close_all(self, backing);
    free(self->slots);
    free(self->generations);
    pthread_mutex_destroy(&self->lock);
}

size_t ff_handles_detach_idle(ff_handles *self, int64_t before_ns, size_t keep_most) {
    pthread_mutex_lock(&self->lock);
    size_t taken = ff_names_detach_idle(self->names, before_ns, keep_most);
    pthread_mutex_unlock(&self->lock);
    return taken;
}

uint32_t ff_handles_count(ff_handles *self) {
    pthread_mutex_lock(&self->lock);
    uint32_t count = self->open_files;
    pthread_mutex_unlock(&self->lock);
    return count;
}
