#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "name_nodes.h"

/* The node of a file, or why there is none. */
static int file_of(const ff_names *self, uint64_t id, ff_node **out) {
    *out = ff_node_of(self, id);
    if (*out == NULL)
        return -ESTALE;
    return (*out)->is_directory ? -EISDIR : 0;
}

int ff_names_content(ff_names *self, uint64_t id, ff_content **out) {
    pthread_mutex_lock(&self->lock);
    ff_node *node;
    int error = file_of(self, id, &node);
    if (error == 0 && node->content == NULL)
        error = -ENODATA;
    if (error == 0)
        *out = ff_content_hold(node->content);
    pthread_mutex_unlock(&self->lock);
    return error;
}

int64_t ff_names_size(ff_names *self, uint64_t id) {
    pthread_mutex_lock(&self->lock);
    ff_node *node;
    int64_t size = file_of(self, id, &node);
    if (size == 0)
        size = ff_node_record(node).size;
    pthread_mutex_unlock(&self->lock);
    return size;
}

/* Whether detaching may take it: the others cost no descriptor. */
static bool is_detachable(const ff_content *content) {
    return content != NULL && content->kind != FF_CONTENT_SMALL;
}

/* Has detaching look at the slot; it stays listed, whoever comes to lie there, until detaching finds nothing to
 * take. */
static bool note_holder(ff_names *self, ff_node *node) {
    if (node->is_holder)
        return true;
    if (self->holder_count == self->holder_room) {
        size_t room = self->holder_room == 0 ? 64 : self->holder_room * 2;
        uint32_t *holders = realloc(self->holders, room * sizeof *holders);
        if (holders == NULL)
            return false;
        self->holders = holders;
        self->holder_room = room;
    }
    self->holders[self->holder_count++] = node->slot;
    node->is_holder = true;
    return true;
}

int ff_names_set_content(ff_names *self, uint64_t id, ff_content *content) {
    pthread_mutex_lock(&self->lock);
    ff_node *node;
    ff_content *before = NULL;
    int error = file_of(self, id, &node);
    if (error == 0 && is_detachable(content) && !note_holder(self, node))
        error = -ENOMEM;
    if (error == 0) {
        before = node->content;
        node->content = content == NULL ? NULL : ff_content_hold(content);
        ff_node_release(self, node);
    }
    pthread_mutex_unlock(&self->lock);
    ff_content_drop(before);
    return error;
}

/* ---- detaching */

static ff_content *detachable_in(const ff_names *self, uint32_t slot) {
    const ff_node *node = ff_node_in(self, slot);
    return node->used && !node->is_directory && is_detachable(node->content) ? node->content : NULL;
}

/* When a holder's content was closed; those that are open come last. */
static int64_t idle_since_ns(const ff_names *self, uint32_t slot) {
    const ff_content *content = detachable_in(self, slot);
    return content->opens > 0 ? INT64_MAX : content->idle_since_ns;
}

static int longest_idle_first(const void *one, const void *other, void *names) {
    int64_t left = idle_since_ns(names, *(const uint32_t *)one), right = idle_since_ns(names, *(const uint32_t *)other);
    return left < right ? -1 : left > right;
}

/* Leaves only such holders that still hold what may be taken; how many of them are not open. */
static size_t compact_holders(ff_names *self) {
    size_t kept = 0, idle = 0;
    for (size_t i = 0; i < self->holder_count; i++) {
        uint32_t slot = self->holders[i];
        const ff_content *content = detachable_in(self, slot);
        if (content == NULL) {
            ff_node_in(self, slot)->is_holder = false;
            continue;
        }
        idle += content->opens == 0;
        self->holders[kept++] = slot;
    }
    self->holder_count = kept;
    return idle;
}

size_t ff_names_detach_idle(ff_names *self, int64_t before_ns, size_t keep_most) {
    pthread_mutex_lock(&self->lock);
    size_t idle = compact_holders(self), taken = 0;
    if (idle > 0)
        qsort_r(self->holders, self->holder_count, sizeof *self->holders, longest_idle_first, self);
    for (; taken < idle; taken++) {
        uint32_t slot = self->holders[taken];
        if (idle - taken <= keep_most && idle_since_ns(self, slot) >= before_ns)
            break;
        ff_node *node = ff_node_in(self, slot);
        ff_content_drop(node->content);
        node->content = NULL;
        node->is_holder = false;
        ff_node_release(self, node);
    }
    if (taken > 0)
        memmove(self->holders, self->holders + taken, (self->holder_count - taken) * sizeof *self->holders);
    self->holder_count -= taken;
    pthread_mutex_unlock(&self->lock);
    return taken;
}
