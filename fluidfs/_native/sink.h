/* Where fetched bytes go: the one thing that the fetch engine knows of its callers.
 *
 * Threads: one worker drives a sink at a time, without the GIL; calls for one sink never overlap.
 * Order: any number of `write`, then exactly one `end`. The offsets of consecutive writes adjoin.
 * Ownership: `data` belongs to the caller and is valid only during the call. Whoever made the sink keeps it alive
 * until after `end` has returned and the job's completion was drained.
 */
#ifndef FLUIDFS_SINK_H
#define FLUIDFS_SINK_H

#include <stddef.h>
#include <stdint.h>

typedef struct ff_sink ff_sink;

struct ff_sink {
    /* Takes `length` bytes of the object, at `offset` in the object. Returns 0, or a negative errno, after which the
     * engine stops the job and reports FF_SINK with that errno. */
    int (*write)(ff_sink *self, uint64_t offset, const void *data, size_t length);
    /* `status` is 0 when every byte that was asked for has been written, else not. Returns 0 or a negative errno
     * (what could not be kept after all), reported as above. */
    int (*end)(ff_sink *self, int status);
};

#endif
