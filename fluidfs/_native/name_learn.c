#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "name_directory.h"
#include "name_nodes.h"

/* Names that changed, to be told when the lock was given back: of each the length, in one byte, and the bytes. */
typedef struct {
    char *names;
    size_t bytes;
    size_t room;
} changes;

static bool note_change(changes *self, const ff_record *record) {
    size_t needed = 1 + record->name_bytes;
    if (self->room - self->bytes < needed) {
        size_t room = self->room == 0 ? 4096 : self->room * 2;
        char *names = realloc(self->names, room);
        if (names == NULL)
            return false;
        self->names = names;
        self->room = room;
    }
    self->names[self->bytes] = (char)record->name_bytes; /* at most FF_NAME_BYTES_MAX */
    memcpy(self->names + self->bytes + 1, record->name, record->name_bytes);
    self->bytes += needed;
    return true;
}

static void tell_changes(const changes *self, uint64_t directory, ff_changed changed, void *context) {
    for (size_t at = 0; at < self->bytes;) {
        size_t name_bytes = (unsigned char)self->names[at];
        changed(context, directory, self->names + at + 1, name_bytes);
        at += 1 + name_bytes;
    }
}

/* The record of `listing` that confirms the node; -1: none does. `confirmed` says so for the records of `before`. */
static int64_t confirming(const ff_node *node, const ff_listing *listing, const ff_listing *before,
                          const uint32_t *confirmed) {
    if (confirmed != NULL && node->listing == before)
        return (int64_t)confirmed[node->index] - 1;
    ff_record record = ff_node_record(node);
    int64_t index = ff_listing_find(listing, record.name, record.name_bytes);
    if (index < 0)
        return -1;
    ff_record now = ff_listing_record(listing, (size_t)index);
    return ff_record_confirms(&now, &record) ? index : -1;
}

/* Has the nodes of a directory point into its new listing, or lose their names. */
static int replace(ff_names *self, ff_directory *directory, const ff_listing *before, const uint32_t *confirmed,
                   changes *noted) {
    ff_listing *listing = directory->listing;
    for (uint32_t slot = directory->first_child; slot != FF_NO_SLOT;) {
        ff_node *node = ff_node_in(self, slot);
        slot = node->sibling; /* the node may go, its siblings do not */
        if (!node->named || node->listing == listing)
            continue;
        int64_t index = confirming(node, listing, before, confirmed);
        if (index >= 0) {
            ff_node_repoint(self, node, listing, (size_t)index);
            continue;
        }
        ff_record record = ff_node_record(node);
        if (noted != NULL && node->lookups > 0 && !note_change(noted, &record)) {
            /* What is left is looked at when the directory is learnt again: nothing is answered till then. */
            directory->good_until_ns = INT64_MIN;
            directory->has_strays = true;
            return -ENOMEM;
        }
        ff_node_unname(self, node);
    }
    directory->has_strays = false;
    return 0;
}

/* The listing that the directory has now, with a reference, if comparing with it is worth while; else NULL. */
static ff_listing *hold_present(ff_names *self, uint64_t id) {
    ff_listing *present = NULL;
    ff_node *node;
    pthread_mutex_lock(&self->lock);
    if (ff_directory_of(self, id, &node) == 0 && node->directory != NULL && node->directory->listing != NULL)
        present = ff_listing_hold(node->directory->listing);
    pthread_mutex_unlock(&self->lock);
    return present;
}

static int learn(ff_names *self, uint64_t id, ff_listing *listing, int64_t good_until_ns, int64_t due_ns,
                 const ff_listing *before, bool same, const uint32_t *confirmed, changes *noted) {
    ff_node *node;
    int error = ff_directory_of(self, id, &node);
    if (error != 0)
        return error;
    ff_directory *directory = ff_node_directory(self, node);
    if (directory == NULL)
        return -ENOMEM;
    ff_listing *replaced = directory->listing;
    bool only_times = same && replaced == before;
    if (!only_times)
        directory->listing = ff_listing_hold(listing);
    directory->good_until_ns = good_until_ns;
    directory->due_ns = due_ns;
    directory->due = FF_DUE_NO;
    /* A directory that is gone may live for its nodes alone, and the last of them may go now: it is held meanwhile. */
    node->lookups++;
    if (!only_times || directory->has_strays)
        error = replace(self, directory, before, confirmed, noted);
    if (!only_times)
        ff_names_drop_listing(self, replaced);
    node->lookups--;
    /* Taught to a directory that is gone, and lives for its nodes alone, it is not kept. */
    ff_node_release(self, node);
    return error;
}

int ff_names_learn(ff_names *self, uint64_t id, ff_listing *listing, int64_t good_until_ns, int64_t due_ns,
                   ff_changed changed, void *context) {
    /* All that is long is done before the lock is taken for good: comparing two listings of a million names takes
     * tens of milliseconds. Should another thread teach the directory meanwhile, the comparison is not used. */
    ff_listing *before = hold_present(self, id);
    bool same = before != NULL && ff_listing_equal(before, listing);
    uint32_t *confirmed = before == NULL || same ? NULL : ff_listing_confirmed(listing, before);
    changes noted = {.names = NULL};
    pthread_mutex_lock(&self->lock);
    changes *to_note = changed == NULL ? NULL : &noted;
    int error = learn(self, id, listing, good_until_ns, due_ns, before, same, confirmed, to_note);
    pthread_mutex_unlock(&self->lock);
    free(confirmed);
    ff_names_drop_listing(self, before);
    tell_changes(&noted, id, changed, context);
    free(noted.names);
    return error;
}

void ff_names_expire(ff_names *self, uint64_t id) {
    pthread_mutex_lock(&self->lock);
    ff_node *node;
    if (ff_directory_of(self, id, &node) == 0 && node->directory != NULL) {
        node->directory->good_until_ns = INT64_MIN;
        /* Kept for the nodes that point into it, which the next one is compared with; nobody else needs it. */
        if (node->lookups == 0 && node->slot != FF_ROOT_SLOT) {
            ff_directory_drop_listing(self, node->directory);
            ff_node_release(self, node);
        }
    }
    pthread_mutex_unlock(&self->lock);
}
