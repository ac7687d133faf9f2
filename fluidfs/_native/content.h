/* What the bytes of an open file are: the cache's object or slab that they lie in, counted by whoever uses it.
 *
 * A content stands for one object version. It is made by Python, which keeps the cache's file open for it until the content
 * has gone (ff_contents_gone tells). A node holds one reference, each handle one, each READ under way one.
 *
 * Where a small content lies is only a hint, a slab's id and a slot: every READ looks the slab up and holds it while it
 * reads. So a slab is left at once, whatever number of contents lie in it, and none of them need be visited.
 *
 * Memory: 96 bytes a content as malloc counts, and 4 to 8 for finding it; a million of either kind is an ordinary number.
 *
 * Threads: any. `refs` and `place` are atomic; `opens`, `backing_id`, `passthrough` and `idle_since_ns` belong to the lock
 * of the handles (handles.h), under which files are opened and closed; all else is as it was made. Two mutexes inside,
 * never held together, and never for I/O or a call out. */
#ifndef FLUIDFS_CONTENT_H
#define FLUIDFS_CONTENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "object_file.h"
#include "slab.h"

/* A slab that contents lie in. Python keeps it open until ff_contents_gone named its id. */
typedef struct ff_slab_use {
    ff_slab *slab;
    uint64_t id;             /* below FF_CONTENT_IDS */
    _Atomic uint32_t refs;    /* one until it is left, and one for each READ under way */
    _Atomic bool used;        /* a READ found its bytes there since that was last asked for */
    struct ff_slab_use *next; /* among those that have gone */
} ff_slab_use;

/* Ids of contents begin here; below are those of slabs, which are part of a place. None is 0, and none is given twice. */
#define FF_CONTENT_IDS (UINT64_C(1) << 32)

typedef enum {
    FF_CONTENT_OBJECT,  /* a file of its own */
    FF_CONTENT_SMALL,   /* a record of a slab, when it is placed */
    FF_CONTENT_THROUGH, /* no level takes it: every READ is Python's to answer with bytes */
} ff_content_kind;

typedef struct ff_contents ff_contents;

typedef struct ff_content {
    ff_contents *owner;
    uint64_t id;   /* what Python calls it */
    uint64_t size; /* of the object, in bytes */
    ff_object *object;      /* OBJECT, else NULL */
    _Atomic uint64_t place; /* SMALL: slab id << 32 | slot; 0: not placed */
    struct ff_content *next; /* in its bucket, or among those that have gone */
    _Atomic uint32_t refs;
    ff_content_kind kind : 8;
    ff_verify verify : 8;
    bool may_pass; /* OBJECT: the kernel may read the file by itself, as far as its level goes */
    /* Under the handles' lock: */
    bool passthrough; /* how it is open, while `opens` is not 0 */
    uint32_t opens;
    int32_t backing_id;
    int64_t idle_since_ns;
} ff_content;
_Static_assert(sizeof(ff_content) <= 88, "a million of them are meant to be cheap");

/* The registry: gives ids, and collects what Python may let go of. NULL: no memory. */
ff_contents *ff_contents_new(void);
/* No content may be left but those that have gone, and no READ be under way. Slabs need not have been left. */
void ff_contents_free(ff_contents *self);

/* A new content with one reference, the caller's; `opens` is 0, `backing_id` -1. NULL when there is no memory. */
ff_content *ff_content_object(ff_contents *owner, ff_object *object, ff_verify verify);
ff_content *ff_content_small(ff_contents *owner, uint64_t size, ff_verify verify);
ff_content *ff_content_through(ff_contents *owner, uint64_t size);

static inline ff_content *ff_content_hold(ff_content *self) {
    atomic_fetch_add_explicit(&self->refs, 1, memory_order_relaxed);
    return self;
}
/* The last one ends it, and has its id told by ff_contents_gone. NULL is nothing to drop. Needs no memory. */
void ff_content_drop(ff_content *self);

/* The content of this id with one more reference, or NULL. */
ff_content *ff_contents_find(ff_contents *self, uint64_t id);

/* Contents that are referred to. */
size_t ff_contents_count(ff_contents *self);

/* A slab that may be pointed to from now on; `slab` is borrowed until ff_contents_gone names its id. The result is the
 * registry's, and good until the slab is left. NULL: no memory. */
ff_slab_use *ff_contents_add_slab(ff_contents *self, ff_slab *slab);
/* The slab was evicted, or the level closed: every content in it is unplaced, and is looked for anew at its next READ.
 * READs under way end first, before the slab's id is told. An unknown id is nothing to leave. */
void ff_contents_leave_slab(ff_contents *self, uint64_t slab_id);

/* The slab of this id, which will not be told as gone before it is released; NULL: it was left, or never was. */
ff_slab_use *ff_contents_hold_slab(ff_contents *self, uint64_t slab_id);
void ff_contents_release_slab(ff_contents *self, ff_slab_use *use);

/* Ids of slabs that READs found their bytes in since they were last told here, up to `capacity`; how many. So that eviction
 * knows which are in use: nobody else sees the READs of small files. */
size_t ff_contents_used_slabs(ff_contents *self, uint64_t *ids, size_t capacity);

/* Ids of contents and of slabs that nobody uses any more, up to `capacity` together; how many. Every id is told once. A
 * slab's id is told only after ff_contents_leave_slab. */
size_t ff_contents_gone(ff_contents *self, uint64_t *ids, size_t capacity);

/* content.c is what counts, and needs no other source; the rest of this header is content_read.c, which needs those of
 * objects and slabs.
 *
 * Where a SMALL content lies. False when there is no such slab any more, no such slot, or the content is of another kind. */
bool ff_content_place(ff_content *self, uint64_t slab_id, uint64_t slot);
/* Takes a place back that turned out to be wrong, unless it has changed meanwhile. */
void ff_content_unplace(ff_content *self, uint64_t slab_id, uint64_t slot);

/* Reads as ff_object_read does; also for a slab: `length`, cut at the end, or
 * -ENODATA  a miss: absent, not placed, lost, or a fault of the cache (which is a miss to a reader). A place that a READ
 *           failed at is taken back
 * -EAGAIN   `nowait`, and it would have to wait for the disk or compare a checksum (a slab's record is small, and is
 *           compared at once the first time) */
int64_t ff_content_read(ff_content *self, uint64_t offset, void *out, size_t length, bool nowait);

/* Whether all of [offset, offset + length), cut at the end, is present; says nothing of its checksums. Of nothing, all is
 * present. */
bool ff_content_present(ff_content *self, uint64_t offset, uint64_t length);

/* Whether the kernel may read the file by itself: sealed, the seal still holds, and not every read is to be compared. Looks
 * at the file's facts; waits for the disk only when the seal is found broken, once. */
bool ff_content_sealed(ff_content *self, const uint8_t boot_id[16]);

#endif
