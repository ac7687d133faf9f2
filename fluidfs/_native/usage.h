/* A level's own file: its quota and the counters that all processes of a user share.
 *
 * The file is 4096 bytes, mapped shared by every process that uses the level. Numbers are little endian (the mapping is
 * used as it is; other machines are not supported). Fields:
 *
 *   offset size field
 *        0    8 magic            "FLUIDLVL"
 *        8    4 format           1
 *       12    4 reserved         0
 *       16    8 used_bytes       atomic; what the level's objects and slabs hold; `cache gc` rebuilds it
 *       24    8 quota_bytes      what used_bytes must not pass
 *       32    8 high_bytes       eviction starts above it
 *       40    8 low_bytes        and ends below it
 *       48    8 slab_generation  atomic; counts slabs made and removed, so that others look again
 *       56    8 evicted_bytes    atomic; ever evicted
 *       64    8 bad_blocks       atomic; checksum mismatches ever found
 *
 * Memory order: the counters are statistics that steer eviction; relaxed order is enough for them. slab_generation is
 * released after the slab's files have their names and acquired before the directory is read.
 */
#ifndef FLUIDFS_USAGE_H
#define FLUIDFS_USAGE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define FF_USAGE_MAGIC "FLUIDLVL"
#define FF_USAGE_FORMAT 1u
#define FF_USAGE_BYTES 4096u

typedef struct {
    char magic[8];
    uint32_t format;
    uint32_t reserved;
    _Atomic uint64_t used_bytes;
    _Atomic uint64_t quota_bytes;
    _Atomic uint64_t high_bytes;
    _Atomic uint64_t low_bytes;
    _Atomic uint64_t slab_generation;
    _Atomic uint64_t evicted_bytes;
    _Atomic uint64_t bad_blocks;
} ff_usage;

_Static_assert(offsetof(ff_usage, used_bytes) == 16 && offsetof(ff_usage, bad_blocks) == 64, "as the table above says");

static inline void ff_usage_add(ff_usage *self, uint64_t bytes) {
    atomic_fetch_add_explicit(&self->used_bytes, bytes, memory_order_relaxed);
}

/* Takes `bytes` off, stopping at zero: after a crash the counter may be too low, and must not wrap. */
static inline void ff_usage_subtract(ff_usage *self, uint64_t bytes) {
    uint64_t used = atomic_load_explicit(&self->used_bytes, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&self->used_bytes, &used, used > bytes ? used - bytes : 0,
                                                  memory_order_relaxed, memory_order_relaxed)) {
    }
}

#endif
