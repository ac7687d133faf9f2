/* The nodes of a name table: where they lie, how they are found, and when they are freed.
 *
 * Nodes lie in chunks that never move or shrink; a slot is used again under the next generation, so that the id of a
 * node that is gone is told from that of its successor. A node that has a name ("named") is found by its parent and
 * the hash of its name; a node that lost it is found by its id alone, and its record is then a copy, so that it does
 * not keep a whole listing that nobody else needs. Hashes may be alike, by chance or on purpose: names are compared,
 * and chains are long then.
 *
 * A node lives while the kernel knows it, while nodes below it live, and, as long as it has its name, while it has a
 * content or a listing.
 *
 * Threads: everything here wants `lock` to be held, but for listings' references. Lock order: the handles'
 * (handles.h), this, the contents'. */
#ifndef FLUIDFS_NAME_NODES_H
#define FLUIDFS_NAME_NODES_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "content.h"
#include "listing.h"
#include "name_table.h"

typedef enum { FF_DUE_NO, FF_DUE_WAITING, FF_DUE_TOLD } ff_due;

/* What a node has that is a directory with a listing, with nodes in it, or that was opened. */
typedef struct {
    ff_listing *listing; /* with a reference, or NULL */
    int64_t good_until_ns;
    int64_t due_ns;
    uint64_t opened_id;   /* of the listing that it was last opened with; 0: none */
    uint32_t first_child; /* slot; 0: none */
    ff_due due;
    bool has_strays; /* nodes that were named by other listings than this one */
} ff_directory;

typedef struct {
    uint64_t ino;
    uint64_t lookups;    /* that the kernel did not give back */
    ff_listing *listing; /* whose record this is, with a reference; NULL for the root */
    union {
        ff_content *content;     /* a file's, with a reference, or NULL */
        ff_directory *directory; /* or NULL */
    };
    uint32_t index; /* of the record */
    uint32_t slot;
    uint32_t generation;
    uint32_t parent;   /* slot, as are the following; 0: none */
    uint32_t next;     /* in its bucket, or among the free */
    uint32_t sibling;  /* the next node of the same parent */
    uint32_t previous; /* the one before */
    bool used;
    bool named;
    bool is_directory;
    bool is_holder; /* the slot is in `holders` */
} ff_node;
_Static_assert(sizeof(ff_node) == 64, "one line of the CPU's cache; a million are meant to be cheap");

struct ff_names {
    pthread_mutex_t lock;
    ff_ownership ownership;
    /* Slots 0 to `slots` - 1 were used at least once. */
    ff_node **chunks;
    uint32_t chunk_count, chunk_room;
    uint32_t slots;
    uint32_t first_free;
    uint32_t known; /* nodes with lookups */
    /* A linear hash: buckets are added one by one, so that no LOOKUP ever waits for all nodes to be hashed anew. */
    uint32_t **segments;
    uint32_t segment_count, segment_room;
    uint32_t buckets;
    uint32_t mask;  /* 2^n - 1: buckets that are split already have one bit more */
    uint32_t named; /* nodes in the hash */
    /* Slots whose nodes have, or had, a content that detaching may take. */
    uint32_t *holders;
    size_t holder_count, holder_room;
    /* Node ids of directories that are due, or were. */
    uint64_t *due;
    size_t due_room;
    _Atomic size_t due_count;
    size_t directory_count;
    /* Without the lock: */
    _Atomic uint64_t next_listing_id;
    _Atomic(ff_listing *) gone;
    _Atomic size_t listing_bytes; /* of their structures and of copies */
};

/* Slots of the root, and of nothing. */
#define FF_ROOT_SLOT 1u
#define FF_NO_SLOT 0u

/* Makes an empty table with its root. -ENOMEM. */
int ff_nodes_init(ff_names *self);
/* Drops what the nodes hold, and frees them. */
void ff_nodes_free(ff_names *self);
size_t ff_nodes_memory(const ff_names *self);

#define FF_CHUNK_NODES 1024u
static inline ff_node *ff_node_in(const ff_names *self, uint32_t slot) {
    return &self->chunks[slot / FF_CHUNK_NODES][slot % FF_CHUNK_NODES];
}
static inline uint64_t ff_node_id(const ff_node *node) { return (uint64_t)node->generation << 32 | node->slot; }
/* The node of an id, or NULL: there is none any more. */
ff_node *ff_node_of(const ff_names *self, uint64_t id);
/* 0, -ESTALE or -ENOTDIR. */
int ff_directory_of(const ff_names *self, uint64_t id, ff_node **out);
static inline ff_record ff_node_record(const ff_node *node) { return ff_listing_record(node->listing, node->index); }

/* What st_ino is of a name in a directory whose own is `parent_ino`: 63 bits, neither 0 nor the root's. */
uint64_t ff_ino_of(uint64_t parent_ino, const char *name, size_t name_bytes);
/* The node of a name, if there is one. */
ff_node *ff_node_find(const ff_names *self, const ff_node *parent, uint64_t ino, const char *name, size_t name_bytes);
/* A node for a record, named, with no lookups: it is for the caller to count one, or to release it. Whatever else has
 * that name must lose it. NULL: no memory. */
ff_node *ff_node_new(ff_names *self, ff_node *parent, uint64_t ino, ff_listing *listing, size_t index);
/* Points a node to another record of the same version. */
void ff_node_repoint(ff_names *self, ff_node *node, ff_listing *listing, size_t index);
/* Whether a record is of the version that the node stands for, which then points into the listing if that is its
 * parent's. */
bool ff_node_confirm(ff_names *self, const ff_node *parent, ff_node *node, ff_listing *listing, size_t index);
/* The directory part of a directory's node, made if need be. NULL: no memory. */
ff_directory *ff_node_directory(ff_names *self, ff_node *node);
void ff_node_count_lookup(ff_names *self, ff_node *node);
/* Takes its name from a node, and frees it if nothing else needs it, with parents that only lived for it. */
void ff_node_unname(ff_names *self, ff_node *node);
/* Frees a node that nothing needs, with parents that only lived for it. */
void ff_node_release(ff_names *self, ff_node *node);
/* Lets go of a directory's listing; the caller then releases the node. */
void ff_directory_drop_listing(ff_names *self, ff_directory *directory);

#endif
