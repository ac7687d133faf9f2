/* Connections that wait for their next request: the last one in is the first one out, so that what is not needed ages.
 *
 * Threads: any, under the pool's own lock. Ownership: a connection belongs to the pool from `put` to `take`.
 */
#ifndef FLUIDFS_CONNECTION_POOL_H
#define FLUIDFS_CONNECTION_POOL_H

#include <pthread.h>

#include "connection.h"

typedef struct {
    pthread_mutex_t lock;
    ff_connection *youngest;
} ff_connection_pool;

void ff_connection_pool_init(ff_connection_pool *self);

/* Closes what is idle. Nobody may use the pool any more. */
void ff_connection_pool_free(ff_connection_pool *self);

/* A connection that is still quiet, or NULL. */
ff_connection *ff_connection_pool_take(ff_connection_pool *self);

/* Keeps `connection`, and closes those that are too old or too many. */
void ff_connection_pool_put(ff_connection_pool *self, ff_connection *connection);

#endif
