/* Many small objects in two files: an index that is mapped, and the bytes.
 *
 * The data file `<n>.slab` is sparse up to its capacity; each record is the object's identity, then its bytes. The index
 * `<n>.idx` is fixed in size, allocated before it is mapped: a header of 4096 bytes, then slots of 64 bytes, an open
 * addressing table. Little endian. Header:
 *
 *   offset size field
 *        0    8 magic          "FLUIDSLB"
 *        8    4 format         1
 *       12    4 slot_count     a power of two
 *       16    8 capacity_bytes of the data file
 *       24    8 tail           atomic; where the next record goes; past capacity: the slab is full
 *       32    8 last_use_s     atomic; of any object in it
 *       40    4 used_slots     atomic
 *
 * Slot (at 4096 + 64 * index):
 *
 *        0   16 key            hash of the identity, never all zero
 *       16    4 offset         of the object's bytes in the data file; its identity ends where they begin
 *       20    4 length         of the bytes
 *       24    4 identity_bytes
 *       28    4 state          atomic; EMPTY 0, WRITING 1, COMPLETE 2, DROPPED 3
 *       32    8 checksum       XXH3-64 of the bytes
 *       40   24 reserved       0
 *
 * Writing: a slot is won (EMPTY to WRITING), space is taken at the tail, the record is written, then the slot's fields,
 * then COMPLETE (release). Readers load the state (acquire) first. A crash leaves a slot WRITING for ever, which costs its
 * space until the slab is evicted. Two processes that write one object write two records; either is right.
 *
 * Nothing in a slab is ever moved or written again; a slab is evicted whole, by unlinking. Users hold a shared flock on
 * the data file.
 */
#ifndef FLUIDFS_SLAB_H
#define FLUIDFS_SLAB_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sink.h"
#include "usage.h"

#define FF_SLAB_MAGIC "FLUIDSLB"
#define FF_SLAB_FORMAT 1u
#define FF_SLAB_HEADER_BYTES 4096u
#define FF_SLAB_ALIGN 64u

enum { FF_SLOT_EMPTY, FF_SLOT_WRITING, FF_SLOT_COMPLETE, FF_SLOT_DROPPED };

typedef struct {
    char magic[8];
    uint32_t format;
    uint32_t slot_count;
    uint64_t capacity_bytes;
    _Atomic uint64_t tail;
    _Atomic uint64_t last_use_s;
    _Atomic uint32_t used_slots;
} ff_slab_header;

typedef struct {
    uint8_t key[16];
    uint32_t offset;
    uint32_t length;
    uint32_t identity_bytes;
    _Atomic uint32_t state;
    uint64_t checksum;
    uint8_t reserved[24];
} ff_slot;

_Static_assert(sizeof(ff_slot) == 64, "as the table above says");

typedef struct {
    int data_fd;
    ff_slab_header *header; /* the whole index, mapped shared */
    ff_slot *slots;
    size_t index_bytes;
    _Atomic uint8_t *verified; /* per slot: this process compared it */
    ff_usage *usage;           /* of the level; outlives the slab */
} ff_slab;

/* Opens the slab of the two paths; with a `slot_count` that is not 0 makes it if it is not there.
 * -ENOENT, -EUCLEAN (not an index of this format), or an errno. */
int ff_slab_open(const char *data_path, const char *index_path, uint32_t slot_count, uint64_t capacity_bytes,
                 ff_usage *usage, ff_slab **out);
void ff_slab_close(ff_slab *self);

/* The slot of `key`, or -ENOENT. */
int64_t ff_slab_find(const ff_slab *self, const uint8_t key[16]);

/* Stores an object. Returns its slot; -ENOSPC when the slab, or the disk, is full; an errno. */
int64_t ff_slab_put(ff_slab *self, const uint8_t key[16], const void *identity, uint32_t identity_bytes,
                    const void *data, uint32_t length);

/* Reads `length` bytes at `offset` of the object in `slot`, cut at its end. The first time (or with `always`) all of
 * it is compared with its checksum. -EBADMSG: wrong; dropped and counted. -ENODATA: no object is there. -EAGAIN: with
 * `nowait`, it would have to wait for the disk. */
int64_t ff_slab_read(ff_slab *self, uint64_t slot, uint64_t offset, void *out, size_t length, bool always, bool nowait);

/* 1 right, 0 nothing there, -EBADMSG wrong (dropped and counted), or an errno. */
int ff_slab_verify(ff_slab *self, uint64_t slot);

/* A sink that gathers one whole object in memory and stores it when it is whole. What could not be stored is still in
 * memory: `slot` then is the negative errno. Borrows everything that it points to. */
typedef struct {
    ff_sink sink;
    ff_slab *slab;
    const uint8_t *key;
    const void *identity;
    uint32_t identity_bytes;
    char *base;
    uint32_t length;
    uint32_t filled;
    int64_t slot;
} ff_slab_sink;

void ff_slab_sink_init(ff_slab_sink *self);

#endif
