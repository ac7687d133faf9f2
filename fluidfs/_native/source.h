/* Where fetched bytes come from: the one thing that the fetch engine knows of HTTP and files.
 *
 * Threads: any number of workers call `fetch` of one source at once; a source synchronises what it shares itself.
 * Ownership: whoever made the source keeps it alive until every job that names it has ended.
 */
#ifndef FLUIDFS_SOURCE_H
#define FLUIDFS_SOURCE_H

#include <stddef.h>
#include <stdint.h>

#include "delivery.h"
#include "waiter.h"

/* How a job ended. engine.pyx's Status has the same values. */
typedef enum {
    FF_OK = 0,
    FF_CHANGED = 1,     /* the object is not, or no longer, the version that was asked for */
    FF_NOT_FOUND = 2,
    FF_DENIED = 3,      /* no permission, or credentials that are wrong or have expired */
    FF_REDIRECT = 4,    /* another region or host has the object; `region` says which, if the server did */
    FF_SLOW_DOWN = 5,   /* the server asks for fewer requests; `retry_after_s` says for how long, if the server did */
    FF_SERVER = 6,      /* any other 5xx */
    FF_HTTP = 7,        /* any other HTTP status */
    FF_CONNECT = 8,     /* no connection: name, TCP, proxy, or too slow at any of these */
    FF_TLS = 9,         /* the peer's certificate or its TLS is not acceptable */
    FF_TIMEOUT = 10,    /* connected, but the bytes stopped coming */
    FF_TRUNCATED = 11,  /* the stream ended, or the connection broke, before the range's last byte */
    FF_PROTOCOL = 12,   /* what the server sent is no answer to the request */
    FF_SINK = 13,       /* the bytes came, and the sink did not take them; `error` is its errno */
    FF_CANCELLED = 14,
    FF_IO = 15,         /* reading a file failed with `error` */
} ff_status;

/* What is to be fetched. The pointers are borrowed from the job. */
typedef struct {
    const char *target; /* a percent-encoded absolute path for HTTP, a relative path for files; NUL-terminated */
    const char *version; /* an ETag without quotes, or a file's mtime_ns-size-inode; "" accepts any version */
    uint64_t offset;
    uint64_t length; /* > 0 */
    uint64_t size;   /* of the whole object */
} ff_range;

/* How it went. Strings are NUL-terminated, printable, on one line, and never hold a secret. */
typedef struct {
    ff_status status;
    int error; /* an errno that tells more, or 0 */
    int http_status;
    double retry_after_s;
    char code[64];    /* of an S3 error body, e.g. "NoSuchKey" */
    char region[64];  /* where the server says that the bucket is */
    char detail[256];
} ff_result;

typedef struct ff_source ff_source;

struct ff_source {
    /* Brings `range` into `delivery` and says in `result` (zeroed by the caller) how it went. Returns early, with
     * FF_CANCELLED, when the waiter says so. */
    void (*fetch)(ff_source *self, const ff_range *range, ff_delivery *delivery, const ff_waiter *waiter,
                  ff_result *result);
    void (*free)(ff_source *self);
};

/* Sets status, errno and a formatted detail, in which %m is the text of `error`; control characters become spaces. */
void ff_result_set(ff_result *result, ff_status status, int error, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Replaces control characters by spaces, in place: one line for a log. */
void ff_make_printable(char *text);

#endif
