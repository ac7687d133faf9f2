#include "name_table.h"

#include <errno.h>
#include <stdlib.h>

#include "name_attributes.h"
#include "name_directory.h"
#include "name_nodes.h"

ff_names *ff_names_new(const ff_ownership *ownership) {
    ff_names *self = calloc(1, sizeof *self);
    if (self == NULL)
        return NULL;
    self->ownership = *ownership;
    pthread_mutex_init(&self->lock, NULL);
    if (ff_nodes_init(self) != 0) {
        ff_names_free(self);
        return NULL;
    }
    return self;
}

void ff_names_free(ff_names *self) {
    if (self == NULL)
        return;
    ff_nodes_free(self);
    uint64_t ids[64];
    while (ff_names_gone(self, ids, 64) != 0) {
    }
    free(self->holders);
    free(self->due);
    pthread_mutex_destroy(&self->lock);
    free(self);
}

/* ---- listings */

ff_listing *ff_names_listing(ff_names *self, const void *records, size_t records_bytes, const void *ends, bool wide,
                             size_t count) {
    ff_listing *listing = malloc(sizeof *listing);
    if (listing == NULL)
        return NULL;
    *listing = (ff_listing){
        .records = records, .records_bytes = records_bytes, .ends = ends, .wide = wide, .count = count};
    if (!ff_listing_valid(listing)) {
        free(listing);
        return NULL;
    }
    atomic_init(&listing->refs, 1);
    listing->id = 1 + atomic_fetch_add_explicit(&self->next_listing_id, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&self->listing_bytes, sizeof *listing, memory_order_relaxed);
    return listing;
}

ff_listing *ff_listing_hold(ff_listing *listing) {
    atomic_fetch_add_explicit(&listing->refs, 1, memory_order_relaxed);
    return listing;
}

bool ff_listing_hold_if_used(ff_listing *listing) {
    uint32_t refs = atomic_load_explicit(&listing->refs, memory_order_relaxed);
    while (refs != 0 && !atomic_compare_exchange_weak_explicit(&listing->refs, &refs, refs + 1, memory_order_relaxed,
                                                               memory_order_relaxed)) {
    }
    return refs != 0;
}

static void add_gone(ff_names *self, ff_listing *listing) {
    listing->next = atomic_load_explicit(&self->gone, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&self->gone, &listing->next, listing, memory_order_release,
                                                  memory_order_relaxed)) {
    }
}

void ff_names_drop_listing(ff_names *self, ff_listing *listing) {
    /* acq_rel: what others did with the listing is done before it goes */
    if (listing == NULL || atomic_fetch_sub_explicit(&listing->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (listing->id != 0) {
        add_gone(self, listing);
        return;
    }
    atomic_fetch_sub_explicit(&self->listing_bytes, ff_listing_copy_bytes(listing), memory_order_relaxed);
    free(listing);
}

size_t ff_names_gone(ff_names *self, uint64_t *ids, size_t capacity) {
    if (capacity == 0 || atomic_load_explicit(&self->gone, memory_order_relaxed) == NULL)
        return 0;
    ff_listing *listing = atomic_exchange_explicit(&self->gone, NULL, memory_order_acquire);
    size_t count = 0;
    for (ff_listing *next; listing != NULL; listing = next) {
        next = listing->next;
        if (count == capacity) {
            add_gone(self, listing);
            continue;
        }
        ids[count++] = listing->id;
        atomic_fetch_sub_explicit(&self->listing_bytes, sizeof *listing, memory_order_relaxed);
        free(listing);
    }
    return count;
}

/* ---- names */

/* The node to answer with for a record of `listing`: `there`, which has the name now, if it is of this version.
 * NULL: no memory, and nothing has changed. */
static ff_node *claim(ff_names *self, ff_node *parent, ff_node *there, uint64_t ino, ff_listing *listing,
                      size_t index) {
    if (there != NULL && ff_node_confirm(self, parent, there, listing, index))
        return there;
    ff_node *node = ff_node_new(self, parent, ino, listing, index);
    if (node != NULL && there != NULL)
        ff_node_unname(self, there);
    return node;
}

static int answer(ff_names *self, ff_node *node, int64_t now_ns, int64_t good_until_ns, struct fuse_entry_out *out) {
    if (node == NULL)
        return -ENOMEM;
    ff_node_count_lookup(self, node);
    ff_fill_entry(self, node, now_ns, good_until_ns, out);
    return 0;
}

static int lookup(ff_names *self, uint64_t parent_id, const char *name, size_t name_bytes, int64_t now_ns,
                  struct fuse_entry_out *out) {
    ff_node *parent;
    int error = ff_directory_of(self, parent_id, &parent);
    if (error != 0)
        return error;
    ff_directory *directory = ff_directory_good(parent, now_ns);
    if (directory == NULL)
        return -ENODATA;
    ff_directory_note_use(self, parent, now_ns);
    uint64_t ino = ff_ino_of(parent->ino, name, name_bytes);
    ff_node *node = ff_node_find(self, parent, ino, name, name_bytes);
    /* A node that points into the directory's listing is what a search would find there. */
    if (node == NULL || node->listing != directory->listing) {
        int64_t index = ff_listing_find(directory->listing, name, name_bytes);
        if (index < 0) {
            if (node != NULL)
                ff_node_unname(self, node);
            ff_fill_entry(self, NULL, now_ns, directory->good_until_ns, out);
            return 0;
        }
        node = claim(self, parent, node, ino, directory->listing, (size_t)index);
    }
    return answer(self, node, now_ns, directory->good_until_ns, out);
}

int ff_names_lookup(ff_names *self, uint64_t parent, const char *name, size_t name_bytes, int64_t now_ns,
                    struct fuse_entry_out *out) {
    if (name_bytes > FF_NAME_BYTES_MAX)
        return -ENAMETOOLONG;
    pthread_mutex_lock(&self->lock);
    int error = lookup(self, parent, name, name_bytes, now_ns, out);
    pthread_mutex_unlock(&self->lock);
    return error;
}

static int found(ff_names *self, uint64_t parent_id, ff_listing *listing, size_t index, int64_t now_ns,
                 int64_t good_until_ns, struct fuse_entry_out *out) {
    ff_node *parent;
    int error = ff_directory_of(self, parent_id, &parent);
    if (error != 0)
        return error;
    ff_record record = ff_listing_record(listing, index);
    uint64_t ino = ff_ino_of(parent->ino, record.name, record.name_bytes);
    ff_node *there = ff_node_find(self, parent, ino, record.name, record.name_bytes);
    return answer(self, claim(self, parent, there, ino, listing, index), now_ns, good_until_ns, out);
}

int ff_names_found(ff_names *self, uint64_t parent, ff_listing *listing, size_t index, int64_t now_ns,
                   int64_t good_until_ns, struct fuse_entry_out *out) {
    if (index >= listing->count)
        return -EINVAL;
    pthread_mutex_lock(&self->lock);
    int error = found(self, parent, listing, index, now_ns, good_until_ns, out);
    pthread_mutex_unlock(&self->lock);
    return error;
}

int ff_names_attributes(ff_names *self, uint64_t id, struct fuse_attr_out *out) {
    pthread_mutex_lock(&self->lock);
    ff_node *node = ff_node_of(self, id);
    if (node != NULL) {
        *out = (struct fuse_attr_out){.attr_valid = FF_ATTRIBUTES_VALID_S};
        ff_fill_attributes(self, node, &out->attr);
    }
    pthread_mutex_unlock(&self->lock);
    return node == NULL ? -ESTALE : 0;
}

void ff_names_forget(ff_names *self, uint64_t id, uint64_t count) {
    pthread_mutex_lock(&self->lock);
    ff_node *node = ff_node_of(self, id);
    if (node != NULL && node->lookups > 0 && count > 0) {
        node->lookups -= count < node->lookups ? count : node->lookups;
        if (node->lookups == 0) {
            self->known--;
            ff_node_release(self, node);
        }
    }
    pthread_mutex_unlock(&self->lock);
}
