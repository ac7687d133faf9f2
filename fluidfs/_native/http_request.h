/* Writes one signed ranged GET. */
#ifndef FLUIDFS_HTTP_REQUEST_H
#define FLUIDFS_HTTP_REQUEST_H

#include <stddef.h>
#include <time.h>

#include "signer.h"
#include "source.h"

/* A source's own headers, at most; the request adds six more. */
#define FF_EXTRA_HEADERS_MAX 32

/* What all requests to one source share. */
typedef struct {
    const char *host_header;  /* host, and port unless it is the scheme's own */
    const char *absolute;     /* "" or, through an HTTP proxy, what goes before the target: "http://host:port" */
    const ff_header *headers; /* signed as the rest; names lower case, none that a request has by itself */
    size_t header_count;
} ff_http_site;

/* Writes the request for `range` at the wall-clock time `now`. Returns 0, and in `request` (of `*length` bytes, to be
 * freed by ff_http_request_free) the request; or a negative errno. */
int ff_http_request(const ff_http_site *site, ff_signer *signer, const ff_range *range, time_t now, char **request,
                    size_t *length);

/* Zeroes the request, which holds a session token, and frees it. */
void ff_http_request_free(char *request, size_t length);

#endif
