/* A sink that keeps an extent in memory that somebody else owns. */
#ifndef FLUIDFS_MEMORY_SINK_H
#define FLUIDFS_MEMORY_SINK_H

#include <errno.h>
#include <string.h>

#include "sink.h"

typedef struct {
    ff_sink sink;
    char *base;      /* of `length` bytes; borrowed */
    uint64_t offset; /* of base[0] in the object */
    size_t length;
} ff_memory_sink;

static inline int ff_memory_sink_write(ff_sink *sink, uint64_t offset, const void *data, size_t length) {
    ff_memory_sink *self = (ff_memory_sink *)sink;
    if (offset < self->offset || offset - self->offset > self->length || length > self->length - (offset - self->offset))
        return -EFBIG;
    memcpy(self->base + (offset - self->offset), data, length);
    return 0;
}

static inline int ff_memory_sink_end(ff_sink *sink, int status) {
    (void)sink;
    (void)status;
    return 0;
}

static inline void ff_memory_sink_init(ff_memory_sink *self, void *base, uint64_t offset, size_t length) {
    self->sink.write = ff_memory_sink_write;
    self->sink.end = ff_memory_sink_end;
    self->base = base;
    self->offset = offset;
    self->length = length;
}

static inline ff_sink *ff_memory_sink_as_sink(ff_memory_sink *self) { return &self->sink; }

#endif
