#include <errno.h>
#include <string.h>

#include "name_nodes.h"

static size_t path_bytes_of(const ff_names *self, const ff_node *node) {
    size_t bytes = 0;
    for (; node->slot != FF_ROOT_SLOT; node = ff_node_in(self, node->parent))
        bytes += ff_node_record(node).name_bytes + (node->parent != FF_ROOT_SLOT);
    return bytes;
}

int64_t ff_names_path(ff_names *self, uint64_t id, char *out, size_t capacity) {
    pthread_mutex_lock(&self->lock);
    const ff_node *node = ff_node_of(self, id);
    int64_t result = -ESTALE;
    if (node != NULL) {
        size_t end = path_bytes_of(self, node);
        result = end < capacity ? (int64_t)end : -ENAMETOOLONG;
        if (result >= 0)
            out[end] = 0;
        /* From its end to its beginning. */
        for (; result >= 0 && node->slot != FF_ROOT_SLOT; node = ff_node_in(self, node->parent)) {
            ff_record record = ff_node_record(node);
            end -= record.name_bytes;
            memcpy(out + end, record.name, record.name_bytes);
            if (end > 0)
                out[--end] = '/';
        }
    }
    pthread_mutex_unlock(&self->lock);
    return result;
}

int ff_names_record(ff_names *self, uint64_t id, ff_listing **listing, size_t *index) {
    pthread_mutex_lock(&self->lock);
    const ff_node *node = ff_node_of(self, id);
    int error = node == NULL ? -ESTALE : node->slot == FF_ROOT_SLOT ? -EISDIR : 0;
    if (error == 0) {
        *listing = ff_listing_hold(node->listing);
        *index = node->index;
    }
    pthread_mutex_unlock(&self->lock);
    return error;
}

static const ff_node *child_at(const ff_names *self, const ff_node *parent, const char *name, size_t name_bytes) {
    if (!parent->is_directory)
        return NULL;
    return ff_node_find(self, parent, ff_ino_of(parent->ino, name, name_bytes), name, name_bytes);
}

uint64_t ff_names_at(ff_names *self, const char *path, size_t path_bytes) {
    pthread_mutex_lock(&self->lock);
    const ff_node *node = ff_node_in(self, FF_ROOT_SLOT);
    const char *end = path + path_bytes;
    while (path_bytes > 0 && node != NULL) {
        const char *slash = memchr(path, '/', (size_t)(end - path));
        node = child_at(self, node, path, (size_t)((slash == NULL ? end : slash) - path));
        if (slash == NULL)
            break;
        path = slash + 1;
    }
    uint64_t id = node == NULL ? 0 : ff_node_id(node);
    pthread_mutex_unlock(&self->lock);
    return id;
}
