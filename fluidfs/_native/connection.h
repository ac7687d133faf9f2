/* One connection to a server, with TLS or without: bytes in, bytes out, on a non-blocking socket.
 *
 * Threads: one at a time. Ownership: closing frees it, its socket and its TLS session.
 */
#ifndef FLUIDFS_CONNECTION_H
#define FLUIDFS_CONNECTION_H

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "waiter.h"

typedef struct ff_connection ff_connection;

struct ff_connection {
    int fd;
    SSL *tls; /* NULL without TLS */
    /* The pool's: */
    ff_connection *next;
    int64_t idle_since_ns;
};

/* Takes over the non-blocking socket `fd`. NULL when memory is short; `fd` is then still the caller's. */
ff_connection *ff_connection_new(int fd);

/* NULL is fine. Sends no close_notify: every body's end is known without one. */
void ff_connection_close(ff_connection *self);

/* Receives 1 to `room` bytes. Returns how many, 0 at the end of the stream, or a negative errno: of the socket,
 * -ETIMEDOUT, -ECANCELED, or -EPROTO when TLS fails. */
ssize_t ff_connection_receive(ff_connection *self, void *into, size_t room, const ff_waiter *waiter,
                              int64_t *patience_ns);

/* Sends all `length` bytes. Returns 0 or a negative errno as above. Raises no SIGPIPE in a thread that blocks it. */
int ff_connection_send(ff_connection *self, const void *bytes, size_t length, const ff_waiter *waiter,
                       int64_t *patience_ns);

/* Whether an idle connection is open and silent. Bytes that nobody asked for make it unusable, and so does a TLS
 * close_notify, which is such bytes. */
bool ff_connection_is_quiet(const ff_connection *self);

/* After a TLS call on `tls` that returned `outcome` <= 0: waits for what it wants and returns 0 to try again, 1 at the
 * end of the stream, or a negative errno as above. */
int ff_connection_wait_for_tls(ff_connection *self, int outcome, const ff_waiter *waiter, int64_t *patience_ns);

#endif
