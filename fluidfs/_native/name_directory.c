#include "name_directory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "name_attributes.h"

/* ---- renewal */

void ff_directory_note_use(ff_names *self, ff_node *node, int64_t now_ns) {
    ff_directory *directory = node->directory;
    if (directory->due != FF_DUE_NO || now_ns < directory->due_ns)
        return;
    size_t count = atomic_load_explicit(&self->due_count, memory_order_relaxed);
    if (count == self->due_room) {
        size_t room = self->due_room == 0 ? 64 : self->due_room * 2;
        uint64_t *due = realloc(self->due, room * sizeof *due);
        /* Without memory the listing is renewed when it has expired. */
        if (due == NULL)
            return;
        self->due = due;
        self->due_room = room;
    }
    self->due[count] = ff_node_id(node);
    directory->due = FF_DUE_WAITING;
    atomic_store_explicit(&self->due_count, count + 1, memory_order_release);
}

bool ff_names_any_due(const ff_names *self) {
    return atomic_load_explicit(&self->due_count, memory_order_acquire) != 0;
}

size_t ff_names_take_due(ff_names *self, uint64_t *directories, size_t capacity) {
    pthread_mutex_lock(&self->lock);
    size_t count = atomic_load_explicit(&self->due_count, memory_order_relaxed), looked_at = 0, taken = 0;
    for (; looked_at < count && taken < capacity; looked_at++) {
        const ff_node *node = ff_node_of(self, self->due[looked_at]);
        /* One that was learnt meanwhile is not due any more; it may be here twice then. */
        if (node == NULL || node->directory == NULL || node->directory->due != FF_DUE_WAITING)
            continue;
        node->directory->due = FF_DUE_TOLD;
        directories[taken++] = self->due[looked_at];
    }
    if (looked_at > 0)
        memmove(self->due, self->due + looked_at, (count - looked_at) * sizeof *self->due);
    atomic_store_explicit(&self->due_count, count - looked_at, memory_order_release);
    pthread_mutex_unlock(&self->lock);
    return taken;
}

/* ---- opening */

static bool note_opened(ff_directory *directory, const ff_listing *listing) {
    bool unchanged = directory->opened_id == listing->id;
    directory->opened_id = listing->id;
    return unchanged;
}

int ff_names_open_directory(ff_names *self, uint64_t id, int64_t now_ns, ff_listing **out, int64_t *good_until_ns,
                            bool *unchanged) {
    pthread_mutex_lock(&self->lock);
    ff_node *node;
    int error = ff_directory_of(self, id, &node);
    ff_directory *directory = error == 0 ? ff_directory_good(node, now_ns) : NULL;
    if (directory != NULL) {
        ff_directory_note_use(self, node, now_ns);
        *out = ff_listing_hold(directory->listing);
        *good_until_ns = directory->good_until_ns;
        *unchanged = note_opened(directory, directory->listing);
    } else if (error == 0) {
        error = -ENODATA;
    }
    pthread_mutex_unlock(&self->lock);
    return error;
}

int ff_names_note_opened(ff_names *self, uint64_t id, const ff_listing *listing, bool *unchanged) {
    pthread_mutex_lock(&self->lock);
    ff_node *node;
    int error = ff_directory_of(self, id, &node);
    if (error == 0 && ff_node_directory(self, node) == NULL)
        error = -ENOMEM;
    if (error == 0)
        *unchanged = note_opened(node->directory, listing);
    pthread_mutex_unlock(&self->lock);
    return error;
}

/* ---- reading */

typedef struct {
    char *out;
    size_t capacity;
    size_t used;
    bool plus;
} packing;

/* Where to write an entry with a name of so many bytes, all zeros; NULL: it does not fit. */
static struct fuse_dirent *add_entry(packing *self, size_t name_bytes, struct fuse_entry_out **entry) {
    size_t before_name = self->plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET;
    size_t bytes = FUSE_DIRENT_ALIGN(before_name + name_bytes);
    if (bytes > self->capacity - self->used)
        return NULL;
    char *at = self->out + self->used;
    memset(at, 0, bytes);
    self->used += bytes;
    *entry = self->plus ? (struct fuse_entry_out *)at : NULL;
    return (struct fuse_dirent *)(at + before_name - FUSE_NAME_OFFSET);
}

static void name_entry(struct fuse_dirent *out, uint64_t ino, uint32_t mode, uint64_t position, const char *name,
                       size_t name_bytes) {
    out->ino = ino;
    out->off = position + 1;
    out->namelen = (uint32_t)name_bytes;
    out->type = (mode & S_IFMT) >> 12; /* as DT_DIR and DT_REG are made */
    memcpy(out->name, name, name_bytes);
}

/* "." and "..", of which the kernel counts no lookup: their node id is 0. */
static bool add_dots(const ff_names *self, const ff_node *directory, uint64_t position, packing *into) {
    const ff_node *node = directory;
    if (position == 1 && directory->slot != FF_ROOT_SLOT)
        node = ff_node_in(self, directory->parent);
    struct fuse_entry_out *entry;
    struct fuse_dirent *out = add_entry(into, position + 1, &entry);
    if (out == NULL)
        return false;
    if (entry != NULL)
        ff_fill_attributes(self, node, &entry->attr);
    name_entry(out, node->ino, S_IFDIR, position, "..", position + 1);
    return true;
}

/* Directories are read in the order that their nodes were made in: the node behind the last one, if it is of this
 * record. Spares the search in the hash, whose buckets lie anywhere: 40 ns an entry of a million, not 300. */
static ff_node *next_node(const ff_names *self, const ff_node *last, const ff_listing *listing, size_t index) {
    if (last == NULL || last->slot + 1 >= self->slots)
        return NULL;
    ff_node *node = ff_node_in(self, last->slot + 1);
    return node->used && node->named && node->parent == last->parent && node->listing == listing &&
                   node->index == index
               ? node
               : NULL;
}

/* The node to show for a record. NULL: the name alone is shown, and the kernel looks it up when it is wanted: where the
 * directory knows better than this listing, which was opened long ago, or without memory. */
static ff_node *node_for(ff_names *self, ff_node *directory, const ff_record *record, ff_listing *listing,
                         size_t index) {
    uint64_t ino = ff_ino_of(directory->ino, record->name, record->name_bytes);
    ff_node *node = ff_node_find(self, directory, ino, record->name, record->name_bytes);
    if (node != NULL)
        return ff_node_confirm(self, directory, node, listing, index) ? node : NULL;
    const ff_listing *known = directory->directory == NULL ? NULL : directory->directory->listing;
    return known == NULL || known == listing ? ff_node_new(self, directory, ino, listing, index) : NULL;
}

static void read_directory(ff_names *self, ff_node *directory, ff_listing *listing, uint64_t offset, int64_t now_ns,
                           int64_t good_until_ns, packing *into) {
    uint64_t position = offset;
    for (; position < 2; position++) {
        if (!add_dots(self, directory, position, into))
            return;
    }
    ff_node *node = NULL;
    for (; position - 2 < listing->count; position++) {
        size_t index = (size_t)(position - 2);
        ff_record record = ff_listing_record(listing, index);
        struct fuse_entry_out *entry;
        struct fuse_dirent *out = add_entry(into, record.name_bytes, &entry);
        if (out == NULL)
            break;
        if (entry != NULL) {
            ff_node *next = next_node(self, node, listing, index);
            node = next != NULL ? next : node_for(self, directory, &record, listing, index);
        }
        if (node != NULL) {
            ff_node_count_lookup(self, node);
            ff_fill_entry(self, node, now_ns, good_until_ns, entry);
        }
        uint64_t ino = node != NULL ? node->ino : ff_ino_of(directory->ino, record.name, record.name_bytes);
        name_entry(out, ino, ff_mode_of(self, record.size < 0), position, record.name, record.name_bytes);
    }
}

size_t ff_names_read_directory(ff_names *self, uint64_t id, ff_listing *listing, uint64_t offset, bool plus,
                               int64_t now_ns, int64_t good_until_ns, char *out, size_t capacity) {
    pthread_mutex_lock(&self->lock);
    ff_node *node;
    packing into = {.out = out, .capacity = capacity, .plus = plus};
    if (ff_directory_of(self, id, &node) == 0)
        read_directory(self, node, listing, offset, now_ns, good_until_ns, &into);
    pthread_mutex_unlock(&self->lock);
    return into.used;
}
