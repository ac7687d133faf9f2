#include "relay_kernel_parts.h"

#include <stdlib.h>
#include <string.h>

#include "relay_faults.h"

bool kernel_any_node(kernel *self, rig_random *random, kernel_node *out) {
    pthread_mutex_lock(&self->lock);
    bool any = self->node_count > 0;
    if (any) {
        uint64_t at = rig_below(random, self->node_room);
        while (self->nodes[at & (self->node_room - 1)].id == 0)
            at++;
        *out = self->nodes[at & (self->node_room - 1)];
    }
    pthread_mutex_unlock(&self->lock);
    return any;
}

bool kernel_any_handle(kernel *self, rig_random *random, kernel_handle *out) {
    pthread_mutex_lock(&self->lock);
    bool any = self->handle_count > 0;
    if (any) {
        uint64_t at = rig_below(random, self->handle_room);
        /* Rather one that is open. */
        for (unsigned tries = 0; tries < 64 && !self->handles[at & (self->handle_room - 1)].open; tries++)
            at++;
        while (self->handles[at & (self->handle_room - 1)].fh == 0)
            at++;
        *out = self->handles[at & (self->handle_room - 1)];
    }
    pthread_mutex_unlock(&self->lock);
    return any;
}

uint64_t kernel_any_unique(kernel *self, rig_random *random) {
    pthread_mutex_lock(&self->lock);
    uint64_t unique = self->recent[rig_below(random, RECENT)];
    pthread_mutex_unlock(&self->lock);
    return unique;
}

bool kernel_knows_node(kernel *self, uint64_t id, kernel_node *out) {
    pthread_mutex_lock(&self->lock);
    const kernel_node *node = kernel_find_node(self, id);
    if (node != NULL)
        *out = *node;
    pthread_mutex_unlock(&self->lock);
    return node != NULL;
}

size_t kernel_open_files(kernel *self) {
    pthread_mutex_lock(&self->lock);
    size_t open = 0;
    for (size_t i = 0; i < self->handle_room; i++)
        open += self->handles[i].fh != 0 && self->handles[i].open && !self->handles[i].directory;
    pthread_mutex_unlock(&self->lock);
    return open;
}

void kernel_forget_all(kernel *self) {
    faults_spare(true);
    pthread_mutex_lock(&self->lock);
    size_t count = 0, room = self->node_count;
    struct fuse_forget_one *forgotten = calloc(room + 1, sizeof *forgotten);
    require(forgotten != NULL, "no memory");
    for (size_t i = 0; i < self->node_room; i++) {
        kernel_node *node = &self->nodes[i];
        if (node->id != 0 && node->lookups > 0)
            forgotten[count++] = (struct fuse_forget_one){.nodeid = node->id, .nlookup = node->lookups};
        node->lookups = 0;
    }
    pthread_mutex_unlock(&self->lock);
    for (size_t i = 0; i < count; i += 1000) {
        size_t some = count - i < 1000 ? count - i : 1000;
        struct fuse_batch_forget_in batch = {.count = (uint32_t)some};
        char body[sizeof batch + 1000 * sizeof *forgotten];
        memcpy(body, &batch, sizeof batch);
        memcpy(body + sizeof batch, forgotten + i, some * sizeof *forgotten);
        kernel_ask(self, FUSE_BATCH_FORGET, 0, body, sizeof batch + some * sizeof *forgotten);
    }
    free(forgotten);
    faults_spare(false);
}

size_t kernel_notified(kernel *self) {
    pthread_mutex_lock(&self->lock);
    size_t notified = self->notified;
    pthread_mutex_unlock(&self->lock);
    return notified;
}
