#include "connection_pool.h"

/* As many as the engine may have workers. */
#define IDLE_MAX 64

/* Servers close idle connections after 5 s (Node), 20 s (S3), 75 s (nginx): later is a race that costs a retry. */
#define IDLE_AGE_MAX_NS (20 * 1000000000LL)

static void close_all(ff_connection *connection) {
    while (connection != NULL) {
        ff_connection *next = connection->next;
        ff_connection_close(connection);
        connection = next;
    }
}

void ff_connection_pool_init(ff_connection_pool *self) {
    pthread_mutex_init(&self->lock, NULL);
    self->youngest = NULL;
}

void ff_connection_pool_free(ff_connection_pool *self) {
    close_all(self->youngest);
    pthread_mutex_destroy(&self->lock);
}

ff_connection *ff_connection_pool_take(ff_connection_pool *self) {
    for (;;) {
        pthread_mutex_lock(&self->lock);
        ff_connection *connection = self->youngest;
        if (connection != NULL)
            self->youngest = connection->next;
        pthread_mutex_unlock(&self->lock);
        if (connection == NULL)
            return NULL;
        connection->next = NULL;
        if (ff_now_ns() - connection->idle_since_ns < IDLE_AGE_MAX_NS && ff_connection_is_quiet(connection))
            return connection;
        ff_connection_close(connection);
    }
}

void ff_connection_pool_put(ff_connection_pool *self, ff_connection *connection) {
    int64_t now_ns = connection->idle_since_ns = ff_now_ns();
    pthread_mutex_lock(&self->lock);
    connection->next = self->youngest;
    self->youngest = connection;
    /* From young to old: everything past the first that is too old, or past the last place, goes. */
    ff_connection **link = &self->youngest;
    for (int kept = 0; *link != NULL && kept < IDLE_MAX; kept++) {
        if (now_ns - (*link)->idle_since_ns >= IDLE_AGE_MAX_NS)
            break;
        link = &(*link)->next;
    }
    ff_connection *dropped = *link;
    *link = NULL;
    pthread_mutex_unlock(&self->lock);
    close_all(dropped);
}
