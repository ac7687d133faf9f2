/* Makes connections: name, address, proxy, TLS, in this order, within one budget of time. */
#ifndef FLUIDFS_DIALER_H
#define FLUIDFS_DIALER_H

#include <openssl/types.h>
#include <stdint.h>

#include "connection.h"
#include "source.h"

typedef struct {
    const char *host;
    uint16_t port;
    const char *proxy_host; /* NULL without a proxy. With TLS a tunnel is asked of it, without TLS it sees requests */
    uint16_t proxy_port;
    SSL_CTX *tls; /* NULL without TLS */
    double timeout_s;
} ff_route;

/* NULL, and in `result` why: FF_CONNECT, FF_TLS or FF_CANCELLED. */
ff_connection *ff_dial(const ff_route *route, const ff_waiter *waiter, ff_result *result);

#endif
