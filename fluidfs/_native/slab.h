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
 *       24    8 tail           atomic; where the next record goes, at most capacity; bit 63: RETIRED, it takes no more
 *       32    8 last_use_s     atomic; of any object in it
 *       40    4 used_slots     atomic; that are not EMPTY
 *       44    4 reserved       0
 *       48   16 boot_id        of the boot in which the tail is right: pages of the index reach the disk in any order,
 *                              so after another boot whoever is alone with the slab counts tail and used_slots anew
 *
 * Slot (at 4096 + 64 * index):
 *
 *        0   16 key            hash of the identity
 *       16    4 offset         of the object's bytes in the data file; its identity ends where they begin
 *       20    4 length         of the bytes
 *       24    4 identity_bytes
 *       28    4 state          atomic; EMPTY 0, WRITING 1, COMPLETE 2, DROPPED 3
 *       32    8 checksum       XXH3-64 of the bytes
 *       40   24 reserved       0
 *
 * Writing: a slot is won (EMPTY to WRITING), space is taken at the tail and counted, the record is written, then the
 * slot's fields, then COMPLETE (release). Readers load the state (acquire) first. A slot that a crash left WRITING becomes
 * DROPPED when somebody opens the slab alone; its space stays taken. Two processes that write one object write two
 * records; either is right.
 *
 * Nothing in a slab is ever moved or written again, and its name is never given to another. It is evicted whole: RETIRED,
 * so that what it counts for is settled, then unlinked. Users hold a shared flock on the data file.
 */
#ifndef FLUIDFS_SLAB_H
#define FLUIDFS_SLAB_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "map_guard.h"
#include "sink.h"
#include "usage.h"

#define FF_SLAB_MAGIC "FLUIDSLB"
#define FF_SLAB_FORMAT 1u
#define FF_SLAB_HEADER_BYTES 4096u
#define FF_SLAB_ALIGN 64u
#define FF_SLAB_RETIRED (UINT64_C(1) << 63)
/* What a slot may claim; an index that says more is wrong. */
#define FF_SLAB_OBJECT_MAX (1u << 20)
#define FF_SLAB_IDENTITY_MAX 4096u

enum { FF_SLOT_EMPTY, FF_SLOT_WRITING, FF_SLOT_COMPLETE, FF_SLOT_DROPPED };

typedef struct {
    char magic[8];
    uint32_t format;
    uint32_t slot_count;
    uint64_t capacity_bytes;
    _Atomic uint64_t tail;
    _Atomic uint64_t last_use_s;
    _Atomic uint32_t used_slots;
    uint32_t reserved;
    uint8_t boot_id[16];
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

_Static_assert(sizeof(ff_slab_header) == 64 && offsetof(ff_slab_header, boot_id) == 48, "as the table above says");
_Static_assert(sizeof(ff_slot) == 64 && offsetof(ff_slot, checksum) == 32, "as the table above says");

/* The sizes are the process's own copy: the index is a file, and may change under us. */
typedef struct {
    int data_fd;
    bool in_ram; /* reading the data file waits for no disk */
    uint32_t slot_count;
    uint64_t capacity_bytes;
    bool writable; /* the tail can be relied on */
    ff_map_guard *guard; /* of the index; after a hit nothing is found or stored any more */
    ff_slab_header *header; /* the whole index, mapped shared */
    ff_slot *slots;
    size_t index_bytes;
    _Atomic uint8_t *verified; /* per slot: this process compared it */
    ff_usage *usage;           /* of the level; outlives the slab */
} ff_slab;

/* Opens the slab of the two paths; with a `slot_count` that is not 0 makes it if it is not there. `boot_id` has 16
 * bytes. -ENOENT, -EUCLEAN (not a slab of this format), -EBUSY (another process held the exclusive lock for a second), or
 * an errno. */
int ff_slab_open(const char *data_path, const char *index_path, uint32_t slot_count, uint64_t capacity_bytes,
                 const uint8_t *boot_id, ff_usage *usage, ff_slab **out);
void ff_slab_close(ff_slab *self);

/* The slot of `key`, or -ENOENT. */
int64_t ff_slab_find(const ff_slab *self, const uint8_t key[16]);

/* Bytes that its records take, which is what it counts for in the level's usage. */
uint64_t ff_slab_used_bytes(const ff_slab *self);

/* Bytes that records may still take; 0 when it takes no more. */
uint64_t ff_slab_room_bytes(const ff_slab *self);

/* Has every process store elsewhere from now on. Returns ff_slab_used_bytes, which does not change any more. */
uint64_t ff_slab_retire(ff_slab *self);

/* Stores an object. Returns its slot; -ENOSPC when the slab takes no more, or the disk is full; -EINVAL for an object that
 * no slab may hold; an errno. */
int64_t ff_slab_put(ff_slab *self, const uint8_t key[16], const void *identity, uint32_t identity_bytes,
                    const void *data, uint32_t length);

/* Reads `length` bytes at `offset` of the object in `slot`, cut at its end. The first time (or with `always`) all of
 * it is compared with its checksum. -EBADMSG: wrong, -EIO: not to be had from the disk; both dropped and counted.
 * -ENODATA: no object is there. -EAGAIN: with `nowait`, it would have to wait for the disk. */
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
