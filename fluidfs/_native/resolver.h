/* Host names to addresses, within a worker's patience.
 *
 * getaddrinfo cannot be interrupted, so a name is looked up in a thread of its own that the worker waits for and, when
 * patience ends, leaves behind: whoever of the two lets go last frees what they share.
 */
#ifndef FLUIDFS_RESOLVER_H
#define FLUIDFS_RESOLVER_H

#include <netdb.h>
#include <stdint.h>

#include "waiter.h"

/* Looks up TCP addresses of `host`, which may be numeric (then no thread is needed). Returns 0 and a list for
 * freeaddrinfo, or a negative errno; with -EHOSTUNREACH `*lookup_error` is getaddrinfo's EAI_ code. */
int ff_resolve(const char *host, uint16_t port, const ff_waiter *waiter, int64_t *patience_ns,
               struct addrinfo **addresses, int *lookup_error);

#endif
