/* Undoes the chunked transfer coding's framing. Pure; payload bytes never pass through it, so they are not copied. */
#ifndef FLUIDFS_HTTP_CHUNKED_H
#define FLUIDFS_HTTP_CHUNKED_H

#include <stddef.h>
#include <stdint.h>

typedef enum {
    FF_CHUNK_SIZE,      /* in the size line's hex digits */
    FF_CHUNK_EXTENSION, /* after them, up to the line's end */
    FF_CHUNK_PAYLOAD,   /* `left` bytes of payload come next; whoever takes them lowers `left` */
    FF_CHUNK_AFTER,     /* at the line end that follows a payload */
    FF_CHUNK_TRAILER,   /* in the lines after the last chunk */
    FF_CHUNK_END,       /* the body is complete */
    FF_CHUNK_BAD,
} ff_chunk_state;

typedef struct {
    ff_chunk_state state; /* starts as FF_CHUNK_SIZE; zeroed memory is a valid start */
    uint64_t left;
    unsigned digits;        /* of the size, so far */
    size_t line_length;     /* of the size line, so far */
    size_t trailer_length;  /* of all trailers, so far */
    size_t trailer_line;    /* of the trailer line at hand, its CR not counted */
} ff_chunked;

/* Takes framing off the front of `bytes`: until a payload begins, the body ends, an error, or nothing is left. Returns
 * how many bytes were framing. In FF_CHUNK_PAYLOAD with `left` > 0 that is 0. */
size_t ff_chunked_feed(ff_chunked *self, const char *bytes, size_t length);

#endif
