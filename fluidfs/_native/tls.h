/* TLS 1.2 and later for connections: trust in the server's certificate and name, nothing else. */
#ifndef FLUIDFS_TLS_H
#define FLUIDFS_TLS_H

#include <openssl/types.h>

#include "connection.h"
#include "source.h"

/* What connections of one source share: the trusted authorities, of `ca_file` (PEM) or, if NULL, the system's own.
 * Frees with SSL_CTX_free. NULL, with one line in `why`, if they cannot be read. Any number of threads may use it. */
SSL_CTX *ff_tls_context(const char *ca_file, char *why, size_t why_size);

/* Puts TLS on a connected socket and checks that the certificate is `host`'s (a name or an address). Returns false and
 * says in `result` why not: FF_TLS for what will not heal by itself, FF_CONNECT, or FF_CANCELLED. */
bool ff_tls_start(ff_connection *connection, SSL_CTX *context, const char *host, const ff_waiter *waiter,
                  int64_t *patience_ns, ff_result *result);

#endif
