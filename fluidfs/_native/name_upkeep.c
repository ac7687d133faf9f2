#include <sched.h>

#include "name_nodes.h"

/* How many nodes a sweep looks at before others may have the lock: some hundred microseconds' worth. */
#define SWEEP_NODES 8192u

/* A small file's content that nobody but a node which the kernel forgot has had any use for. */
static bool is_left_behind(const ff_node *node, int64_t before_ns) {
    const ff_content *content = node->content;
    /* acquire: who held it last wrote down when it was closed, before giving up the reference */
    return node->lookups == 0 && content != NULL && content->kind == FF_CONTENT_SMALL &&
           atomic_load_explicit(&content->refs, memory_order_acquire) == 1 && content->idle_since_ns < before_ns;
}

static void sweep_node(ff_names *self, ff_node *node, int64_t before_ns) {
    if (node->is_directory) {
        ff_directory *directory = node->directory;
        if (directory == NULL || directory->listing == NULL || directory->good_until_ns >= before_ns)
            return;
        ff_directory_drop_listing(self, directory);
    } else {
        if (!is_left_behind(node, before_ns))
            return;
        ff_content_drop(node->content);
        node->content = NULL;
    }
    ff_node_release(self, node);
}

void ff_names_sweep(ff_names *self, int64_t before_ns) {
    pthread_mutex_lock(&self->lock);
    for (uint32_t from = FF_ROOT_SLOT; from < self->slots; from += SWEEP_NODES) {
        uint32_t end = self->slots - from < SWEEP_NODES ? self->slots : from + SWEEP_NODES;
        for (uint32_t slot = from; slot < end; slot++) {
            ff_node *node = ff_node_in(self, slot);
            if (node->used)
                sweep_node(self, node, before_ns);
        }
        pthread_mutex_unlock(&self->lock);
        sched_yield();
        pthread_mutex_lock(&self->lock);
    }
    pthread_mutex_unlock(&self->lock);
}

size_t ff_names_known(ff_names *self) {
    pthread_mutex_lock(&self->lock);
    size_t known = self->known + 1; /* the root is not counted: the kernel never forgets it */
    pthread_mutex_unlock(&self->lock);
    return known;
}

size_t ff_names_memory(ff_names *self) {
    pthread_mutex_lock(&self->lock);
    size_t bytes = sizeof *self + ff_nodes_memory(self) + self->holder_room * sizeof *self->holders +
                   self->due_room * sizeof *self->due +
                   atomic_load_explicit(&self->listing_bytes, memory_order_relaxed);
    pthread_mutex_unlock(&self->lock);
    return bytes;
}
