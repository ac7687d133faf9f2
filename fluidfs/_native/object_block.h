/* What the parts of object_file.h share, and nobody else: arithmetic of blocks and sub-blocks, pins, dropping a block.
 * The contracts of the format are in object_file.h. */
#ifndef FLUIDFS_OBJECT_BLOCK_H
#define FLUIDFS_OBJECT_BLOCK_H

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "object_file.h"

/* How long a drop waits for pins to go. A pin spans one pread or pwrite; past this it is a dead process's, or a disk
 * that hangs, and the block is left alone. */
#define LEAVE_WAIT_NS 100000000ll
#define PAUSE_NS 200000l

static inline int64_t ff_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Waits a little, the first times only as long as the scheduler likes. False when the deadline has passed. */
static inline bool ff_wait_until(int64_t deadline_ns, unsigned *tries) {
    if ((*tries)++ < 16) {
        sched_yield();
        return true;
    }
    struct timespec pause = {.tv_nsec = PAUSE_NS};
    nanosleep(&pause, NULL);
    return ff_now_ns() < deadline_ns;
}

static inline uint64_t ff_block_length(const ff_object *self, uint64_t index) {
    uint64_t start = index * self->block_bytes;
    uint64_t left = self->object_bytes - start;
    return left < self->block_bytes ? left : self->block_bytes;
}

/* The bits of the sub-blocks that touch [from, to) of a block, both relative to it; from < to. */
static inline uint64_t ff_mask_touching(uint64_t from, uint64_t to, uint32_t sub_block_bytes) {
    uint64_t first = from / sub_block_bytes, last = (to - 1) / sub_block_bytes;
    uint64_t up_to_last = last >= 63 ? UINT64_MAX : (UINT64_C(1) << (last + 1)) - 1;
    return up_to_last & (UINT64_MAX << first);
}

static inline uint64_t ff_block_mask(const ff_object *self, uint64_t index) {
    return ff_mask_touching(0, ff_block_length(self, index), self->sub_block_bytes);
}

/* Bytes that the sub-blocks of `bits` hold; the last sub-block of an object may be short. */
static inline uint64_t ff_block_bytes_of(const ff_object *self, uint64_t index, uint64_t bits) {
    uint64_t length = ff_block_length(self, index), sub = self->sub_block_bytes;
    uint64_t bytes = (uint64_t)__builtin_popcountll(bits) * sub;
    uint64_t last = (length - 1) / sub;
    if (length % sub != 0 && (bits >> last & 1) != 0)
        bytes -= sub - length % sub;
    return bytes;
}

static inline uint64_t ff_block_present(const ff_block *block) {
    /* acquire: pairs with the release of the writer's bits */
    if ((atomic_load_explicit(&block->state, memory_order_acquire) & FF_BLOCK_LEAVING) != 0)
        return 0;
    return atomic_load_explicit(&block->bits, memory_order_acquire);
}

/* False: the block is leaving, or the map is damaged; it counts as absent. */
static inline bool ff_block_pin(const ff_object *self, ff_block *block) {
    atomic_fetch_add(&block->pins, 1);
    if ((atomic_load(&block->state) & FF_BLOCK_LEAVING) == 0 && !ff_map_guard_hit(self->guard))
        return true;
    atomic_fetch_sub(&block->pins, 1);
    return false;
}

/* Another process that opened the version alone may have cleared a pin it took for a dead one's; do not wrap. */
static inline void ff_block_unpin(ff_block *block) {
    uint32_t pins = atomic_load(&block->pins);
    while (pins != 0 && !atomic_compare_exchange_weak(&block->pins, &pins, pins - 1)) {
    }
}

/* What makes a block lost: it is not what was written, or cannot be read. */
static inline bool ff_is_loss(int64_t result) { return result == -EBADMSG || result == -EIO; }

/* The XXH3-64 of a block's bytes as they are on disk. 0; -EBADMSG when the file ends before; an errno. */
int ff_block_hash(const ff_object *self, uint64_t index, uint64_t *checksum);

/* As ff_object_verify_block, for a block that the caller has pinned; a wrong block is not dropped yet. */
int ff_block_compare(ff_object *self, uint64_t index);

/* Ends a seal, on the disk too: after a crash it would vouch for blocks that came later. That there was one stays known. */
void ff_object_unseal(ff_object *self);

/* Somebody cut the data file short while we have it open: what lay past its end is gone, and must be dropped before a
 * write makes the file long again, with zeros there. */
void ff_object_drop_past_end(ff_object *self);

/* To be called before a write, which would make a file long again that somebody cut: drops what was cut off, and makes the
 * file as long as it was. */
void ff_object_heal_cut(ff_object *self);

/* Drops a block that could not be read as it was written. The caller has no pin on it. Readers that compare one block
 * at the same time all find it bad; whoever drops it counts it. */
void ff_object_lose_block(ff_object *self, uint64_t index);

#endif
