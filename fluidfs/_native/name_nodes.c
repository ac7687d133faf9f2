#include "name_nodes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "name_hash.h"

#define GENERATION_MASK 0x7fffffffu /* bit 63 of a node id stays clear: tools exist that take it for a sign */

/* ---- slots */

static bool add_chunk(ff_names *self) {
    if (self->chunk_count == self->chunk_room) {
        uint32_t room = self->chunk_room == 0 ? 16 : self->chunk_room * 2;
        ff_node **chunks = realloc(self->chunks, room * sizeof *chunks);
        if (chunks == NULL)
            return false;
        self->chunks = chunks;
        self->chunk_room = room;
    }
    ff_node *chunk = aligned_alloc(sizeof(ff_node), FF_CHUNK_NODES * sizeof(ff_node));
    if (chunk == NULL)
        return false;
    memset(chunk, 0, FF_CHUNK_NODES * sizeof *chunk);
    self->chunks[self->chunk_count++] = chunk;
    return true;
}

/* A slot that was free, all zeros but for what outlives its nodes; NULL: no memory. */
static ff_node *take_slot(ff_names *self) {
    ff_node *node;
    if (self->first_free != FF_NO_SLOT) {
        node = ff_node_in(self, self->first_free);
        self->first_free = node->next;
    } else {
        if (self->slots == UINT32_MAX)
            return NULL;
        if (self->slots / FF_CHUNK_NODES == self->chunk_count && !add_chunk(self))
            return NULL;
        node = ff_node_in(self, self->slots);
        node->slot = self->slots++;
    }
    *node = (ff_node){
        .slot = node->slot, .generation = node->generation, .is_holder = node->is_holder, .used = true};
    return node;
}

static void give_slot(ff_names *self, ff_node *node) {
    node->used = false;
    node->generation = (node->generation + 1) & GENERATION_MASK;
    node->next = self->first_free;
    self->first_free = node->slot;
}

ff_node *ff_node_of(const ff_names *self, uint64_t id) {
    uint32_t slot = (uint32_t)id;
    if (slot >= self->slots)
        return NULL;
    ff_node *node = ff_node_in(self, slot);
    return node->used && ff_node_id(node) == id ? node : NULL;
}

int ff_directory_of(const ff_names *self, uint64_t id, ff_node **out) {
    *out = ff_node_of(self, id);
    if (*out == NULL)
        return -ESTALE;
    return (*out)->is_directory ? 0 : -ENOTDIR;
}

/* ---- lists of children */

static void link_child(ff_names *self, ff_node *parent, ff_node *node) {
    node->parent = parent->slot;
    node->sibling = parent->directory->first_child;
    if (node->sibling != FF_NO_SLOT)
        ff_node_in(self, node->sibling)->previous = node->slot;
    parent->directory->first_child = node->slot;
}

static void unlink_child(ff_names *self, ff_node *node) {
    if (node->sibling != FF_NO_SLOT)
        ff_node_in(self, node->sibling)->previous = node->previous;
    if (node->previous != FF_NO_SLOT)
        ff_node_in(self, node->previous)->sibling = node->sibling;
    else
        ff_node_in(self, node->parent)->directory->first_child = node->sibling;
}

/* ---- what nodes have */

ff_directory *ff_node_directory(ff_names *self, ff_node *node) {
    if (node->directory == NULL) {
        node->directory = calloc(1, sizeof(ff_directory));
        self->directory_count += node->directory != NULL;
    }
    return node->directory;
}

void ff_directory_drop_listing(ff_names *self, ff_directory *directory) {
    ff_names_drop_listing(self, directory->listing);
    directory->listing = NULL;
    directory->due = FF_DUE_NO;
}

static void drop_content(ff_node *node) {
    ff_content_drop(node->content);
    node->content = NULL;
}

static void free_directory(ff_names *self, ff_node *node) {
    if (node->directory == NULL)
        return;
    ff_directory_drop_listing(self, node->directory);
    free(node->directory);
    node->directory = NULL;
    self->directory_count--;
}

void ff_node_count_lookup(ff_names *self, ff_node *node) {
    self->known += node->lookups++ == 0;
}

void ff_node_repoint(ff_names *self, ff_node *node, ff_listing *listing, size_t index) {
    ff_listing *before = node->listing;
    node->listing = ff_listing_hold(listing);
    node->index = (uint32_t)index;
    ff_names_drop_listing(self, before);
}

bool ff_node_confirm(ff_names *self, const ff_node *parent, ff_node *node, ff_listing *listing, size_t index) {
    if (node->listing == listing && node->index == index)
        return true;
    ff_record now = ff_listing_record(listing, index), before = ff_node_record(node);
    if (!ff_record_confirms(&now, &before))
        return false;
    if (parent->directory->listing == listing)
        ff_node_repoint(self, node, listing, index);
    return true;
}

/* ---- lives */

ff_node *ff_node_new(ff_names *self, ff_node *parent, uint64_t ino, ff_listing *listing, size_t index) {
    if (ff_node_directory(self, parent) == NULL)
        return NULL;
    ff_node *node = take_slot(self);
    if (node == NULL)
        return NULL;
    node->ino = ino;
    node->listing = ff_listing_hold(listing);
    node->index = (uint32_t)index;
    node->is_directory = ff_node_record(node).size < 0;
    parent->directory->has_strays |= listing != parent->directory->listing;
    link_child(self, parent, node);
    ff_hash_add(self, node);
    return node;
}

static bool is_needed(const ff_node *node) {
    if (node->slot == FF_ROOT_SLOT || node->lookups > 0)
        return true;
    if (!node->is_directory)
        return node->content != NULL;
    return node->directory != NULL && (node->directory->listing != NULL || node->directory->first_child != FF_NO_SLOT);
}

void ff_node_release(ff_names *self, ff_node *node) {
    for (;;) {
        /* Without a name, and forgotten, nobody comes for what it has. */
        if (!node->named && node->lookups == 0 && node->slot != FF_ROOT_SLOT) {
            if (!node->is_directory)
                drop_content(node);
            else if (node->directory != NULL)
                ff_directory_drop_listing(self, node->directory);
        }
        if (is_needed(node))
            return;
        ff_node *parent = ff_node_in(self, node->parent);
        if (node->named)
            ff_hash_remove(self, node);
        unlink_child(self, node);
        if (node->is_directory)
            free_directory(self, node);
        ff_names_drop_listing(self, node->listing);
        node->listing = NULL;
        give_slot(self, node);
        node = parent;
    }
}

void ff_node_unname(ff_names *self, ff_node *node) {
    ff_hash_remove(self, node);
    if (node->listing->count > 1 && (node->lookups > 0 || node->is_directory)) {
        ff_listing *copy = ff_listing_copy(node->listing, node->index);
        /* Without memory for it, the listing stays as it is. */
        if (copy != NULL) {
            atomic_fetch_add_explicit(&self->listing_bytes, ff_listing_copy_bytes(copy), memory_order_relaxed);
            ff_node_repoint(self, node, copy, 0);
            ff_names_drop_listing(self, copy);
        }
    }
    ff_node_release(self, node);
}

/* ---- the whole */

int ff_nodes_init(ff_names *self) {
    self->slots = FF_ROOT_SLOT;
    if (!ff_hash_init(self) || !add_chunk(self))
        return -ENOMEM;
    ff_node *root = take_slot(self);
    root->ino = FF_ROOT_NODE;
    root->is_directory = true;
    return 0;
}

void ff_nodes_free(ff_names *self) {
    for (uint32_t slot = FF_ROOT_SLOT; self->chunk_count > 0 && slot < self->slots; slot++) {
        ff_node *node = ff_node_in(self, slot);
        if (!node->used)
            continue;
        if (node->is_directory)
            free_directory(self, node);
        else
            drop_content(node);
        ff_names_drop_listing(self, node->listing);
    }
    for (uint32_t chunk = 0; chunk < self->chunk_count; chunk++)
        free(self->chunks[chunk]);
    free(self->chunks);
    ff_hash_free(self);
}

size_t ff_nodes_memory(const ff_names *self) {
    return self->chunk_count * (FF_CHUNK_NODES * sizeof(ff_node)) + self->chunk_room * sizeof(ff_node *) +
           self->directory_count * sizeof(ff_directory) + ff_hash_memory(self);
}
