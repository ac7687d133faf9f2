/* Keeps a process alive when a page of a file that it has mapped cannot be had any more.
 *
 * The kernel sends SIGBUS for a page past the end of a file that somebody cut short, for a page that the disk cannot
 * give, and for a first write to a page when a copy-on-write file system is full. None of that may end a daemon that
 * others read through: the guard puts a page of zeros, private to the process, where the page was, and notes the hit.
 * To our formats zeros mean "nothing is here", so what follows is a miss.
 *
 * From the first hit on this process no longer shares the mapping with the others. Whoever owns the mapping asks
 * ff_map_guard_hit after it has touched the mapping and before it acts on what it found there: it may neither serve
 * bytes, nor write any where others could look, nor punch.
 *
 * A SIGBUS elsewhere, or one that somebody sent, goes to the handler that was there before.
 *
 * Cost: nothing until a fault; 24 bytes a mapping. The handler takes no lock, allocates nothing, and calls mmap, which
 * on Linux is a plain system call. Each extension that links this has a table and a handler of its own; they chain.
 */
#ifndef FLUIDFS_MAP_GUARD_H
#define FLUIDFS_MAP_GUARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* More than the descriptors, and so the open versions, that one process may have on the systems we met (20,000). */
#define FF_MAP_GUARDS 32768u

typedef struct {
    _Atomic uintptr_t base; /* 0: the guard is free, or not ready yet */
    _Atomic size_t bytes;
    _Atomic uint32_t taken;
    _Atomic uint32_t hits;
} ff_map_guard;

/* Guards `bytes` from `base`, both of whole pages, until ff_map_guard_remove, which comes before munmap. Returns NULL
 * when the table is full or the handler cannot be set: the mapping then works as it would without. */
ff_map_guard *ff_map_guard_add(void *base, size_t bytes);
void ff_map_guard_remove(ff_map_guard *guard);

static inline bool ff_map_guard_hit(const ff_map_guard *guard) {
    return guard != NULL && atomic_load_explicit(&guard->hits, memory_order_acquire) != 0;
}

#endif
