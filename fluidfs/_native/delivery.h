/* Gathers the bytes of one range into chunks and hands them to a sink.
 *
 * Every write is a multiple of 64 KiB long, save the range's last. The first is no longer than 64 KiB, so that a
 * reader who waits for the start of the range is served early; later ones fill the whole buffer, so that the bytes are
 * still in the CPU's cache when the sink hashes and stores them.
 *
 * Threads: one. Ownership: buffer and sink are borrowed.
 */
#ifndef FLUIDFS_DELIVERY_H
#define FLUIDFS_DELIVERY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sink.h"

#define FF_DELIVERY_UNIT ((size_t)64 * 1024)

typedef struct {
    ff_sink *sink;
    char *buffer;
    size_t capacity;    /* a multiple of FF_DELIVERY_UNIT */
    uint64_t offset;    /* of buffer[0] in the object */
    uint64_t missing;   /* bytes of the range that have not been put yet */
    size_t filled;      /* bytes in the buffer */
    size_t chunk;       /* hand over when so many are in it */
    uint64_t delivered; /* bytes that the sink has taken */
    int sink_error;     /* the errno that the sink answered, or 0 */
    void (*progress)(void *context, uint64_t delivered); /* called after each write */
    void *context;
} ff_delivery;

void ff_delivery_init(ff_delivery *self, ff_sink *sink, void *buffer, size_t capacity, uint64_t offset,
                      uint64_t length);

/* Where the next bytes go, and for how many there is room: at least one unless the range is complete. */
char *ff_delivery_space(const ff_delivery *self, size_t *room);

/* `count` bytes were put there. Returns 0, or a negative errno from the sink, after which the range has failed. */
int ff_delivery_advance(ff_delivery *self, size_t count);

#endif
