/* Parses the head of an HTTP/1 response. Pure, and safe on any bytes: it is what a hostile server reaches first.
 *
 * Strict where leniency could make two parties disagree on where a body ends (RFC 9112): no folded lines, no space
 * before a colon, no NUL, no two different Content-Lengths. Lenient on line ends: a bare LF ends a line too.
 */
#ifndef FLUIDFS_HTTP_RESPONSE_H
#define FLUIDFS_HTTP_RESPONSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A head longer than this is refused. */
#define FF_HTTP_HEAD_MAX ((size_t)64 * 1024)

/* Part of the parsed bytes, alive as long as these; not NUL-terminated. `start` is NULL without the header. */
typedef struct {
    const char *start;
    size_t length;
} ff_slice;

typedef struct {
    int status; /* 100..599 */
    bool keep_alive;
    bool has_length;
    uint64_t content_length;
    bool chunked;
    bool encoded; /* a Content-Encoding other than identity */
    bool has_range;       /* a Content-Range "bytes first-last/total" */
    bool unsatisfied;     /* a Content-Range "bytes * /total" (without the space), as of a 416 */
    uint64_t range_first; /* of has_range only */
    uint64_t range_last;
    bool has_total; /* the total was a number, not "*" */
    uint64_t range_total;
    double retry_after_s; /* 0 without the header or if it is a date */
    ff_slice etag;        /* as sent: with its quotes and W/ */
    ff_slice region;      /* x-amz-bucket-region */
} ff_http_head;

/* The length of the head that `bytes` begin with, its blank line included; 0 if its end is not there yet. `seen` bytes
 * were already searched by an earlier call (so that a dripping server costs linear time). */
size_t ff_http_head_length(const char *bytes, size_t length, size_t seen);

/* Parses a whole head of `length` bytes. Returns 0 or -EPROTO. */
int ff_http_parse_head(const char *bytes, size_t length, ff_http_head *head);

/* Whether an ETag as sent names `version` (an ETag without quotes). A weak one promises no equal bytes: never. */
bool ff_http_etag_is(ff_slice etag, const char *version);

#endif
