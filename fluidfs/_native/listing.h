/* A directory's listing as meta/listing.py packs it, borrowed from Python: names cost nothing a second time.
 *
 *     record  = size: int64 (-1 for a directory) · mtime_ns: int64 · name · NUL · version     (numbers little endian)
 *     ends[i] = offset past record i: uint32 or uint64
 *
 * sorted by the bytes of the names. Immutable; counted, and told to Python when nobody uses it any more (name_table.h).
 *
 * Threads: any. `refs` is atomic, `next` belongs to whoever took the last reference, all else never changes. */
#ifndef FLUIDFS_LISTING_H
#define FLUIDFS_LISTING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* NAME_MAX of Linux; meta/keys.py lets no longer name in. */
#define FF_NAME_BYTES_MAX 255u

/* Places in a listing have 32 bits. */
#define FF_LISTING_COUNT_MAX (UINT32_MAX - 1)

typedef struct ff_listing {
    uint64_t id; /* what Python calls it; 0: a copy of one record, which Python does not know of */
    _Atomic uint32_t refs;
    bool wide;           /* ends are uint64 */
    const char *records; /* borrowed: Python keeps the buffers until it was told that the listing is gone */
    size_t records_bytes;
    const void *ends;
    size_t count;
    struct ff_listing *next; /* among those that have gone */
} ff_listing;

typedef struct {
    int64_t size; /* -1: a directory */
    int64_t mtime_ns;
    const char *name; /* a NUL follows */
    size_t name_bytes;
    const char *version; /* no NUL follows */
    size_t version_bytes;
} ff_record;

/* Whether the buffers are a listing: every record inside, with its NUL, sizes of -1 or more, and names that a directory
 * can have: no "/" in them, not empty, "." or "..", not too long, sorted, none twice. To be asked once, before anything
 * else. */
bool ff_listing_valid(const ff_listing *self);
ff_record ff_listing_record(const ff_listing *self, size_t index);
/* The index of `name`, or -1. */
int64_t ff_listing_find(const ff_listing *self, const char *name, size_t name_bytes);

/* Whether two records of one name are the same directory, or a file at the same version, size and time. */
bool ff_record_confirms(const ff_record *now, const ff_record *before);
/* Whether both have the same records, bit for bit. */
bool ff_listing_equal(const ff_listing *self, const ff_listing *other);
/* For each record of `before`: 1 + the index of the record of `now` that confirms it, or 0. One pass over both. The
 * caller frees it; NULL: no memory. */
uint32_t *ff_listing_confirmed(const ff_listing *now, const ff_listing *before);

/* A listing of one record alone, with one reference, in memory of its own that free(3) gives back, and how much that
 * is. NULL: no memory. */
ff_listing *ff_listing_copy(const ff_listing *self, size_t index);
size_t ff_listing_copy_bytes(const ff_listing *copy);

#endif
