/* Fetches ranges of objects over HTTP: one GET per range, on a connection of the source's own pool. */
#ifndef FLUIDFS_HTTP_SOURCE_H
#define FLUIDFS_HTTP_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "counters.h"
#include "sigv4.h"
#include "source.h"

/* Everything is copied. Strings hold no control characters; whoever fills this in has checked that. */
typedef struct {
    const char *host; /* a name, or an address without brackets */
    uint16_t port;
    bool tls;
    const char *host_header;
    const char *ca_file; /* NULL: the system's own authorities */
    const char *region;
    const ff_header *headers;
    size_t header_count; /* <= FF_EXTRA_HEADERS_MAX */
    const char *proxy_host; /* NULL: none */
    uint16_t proxy_port;
    double connect_timeout_s; /* for name, TCP, proxy and TLS together */
    double stall_timeout_s;
} ff_http_options;

/* A new source without credentials, or NULL with one line in `why`. Holds `counters`. */
ff_source *ff_http_source_new(const ff_http_options *options, ff_counters *counters, char *why, size_t why_size);

/* See ff_signer_set. `source` must be one of ff_http_source_new. Any thread, at any time. */
int ff_http_source_set_credentials(ff_source *source, const char *access_key, const char *secret_key,
                                   size_t secret_length, const char *token);

#endif
