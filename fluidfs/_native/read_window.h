/* How far ahead of a reader to fetch: readahead/window.py in C, decision for decision; that module says why. Pure. */
#ifndef FLUIDFS_READ_WINDOW_H
#define FLUIDFS_READ_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

/* What is remembered of a handle's reads; all zeros is a handle that was never read. */
typedef struct {
    uint64_t expected;
    uint64_t window_bytes;
    uint64_t asked_to;
} ff_window;

/* Takes note of a read of [offset, offset + length) in a file of `size` bytes. True: [*from, *to) is to be fetched ahead,
 * and will not be named again; else they are left as they were. Offsets, lengths and windows are less than 2^62. */
bool ff_window_plan(ff_window *self, uint64_t offset, uint64_t length, uint64_t size, uint64_t max_window_bytes,
                    uint64_t *from, uint64_t *to);

#endif
