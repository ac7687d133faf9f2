#include "connection.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

ff_connection *ff_connection_new(int fd) {
    ff_connection *self = calloc(1, sizeof *self);
    if (self != NULL)
        self->fd = fd;
    return self;
}

void ff_connection_close(ff_connection *self) {
    if (self == NULL)
        return;
    SSL_free(self->tls);
    close(self->fd);
    free(self);
}

int ff_connection_wait_for_tls(ff_connection *self, int outcome, const ff_waiter *waiter, int64_t *patience_ns) {
    int socket_error = errno;
    switch (SSL_get_error(self->tls, outcome)) {
    case SSL_ERROR_WANT_READ:
        return ff_wait(waiter, self->fd, POLLIN, patience_ns);
    case SSL_ERROR_WANT_WRITE:
        return ff_wait(waiter, self->fd, POLLOUT, patience_ns);
    case SSL_ERROR_ZERO_RETURN:
        return 1;
    case SSL_ERROR_SYSCALL:
        return socket_error != 0 ? -socket_error : 1;
    default:
        return ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING ? 1 : -EPROTO;
    }
}

static ssize_t receive_tls(ff_connection *self, void *into, size_t room, const ff_waiter *waiter,
                           int64_t *patience_ns) {
    for (;;) {
        ERR_clear_error();
        errno = 0;
        int count = SSL_read(self->tls, into, room < INT_MAX ? (int)room : INT_MAX);
        if (count > 0)
            return count;
        int outcome = ff_connection_wait_for_tls(self, count, waiter, patience_ns);
        if (outcome != 0)
            return outcome > 0 ? 0 : outcome;
    }
}

ssize_t ff_connection_receive(ff_connection *self, void *into, size_t room, const ff_waiter *waiter,
                              int64_t *patience_ns) {
    /* A server that never lets us wait must not keep us from seeing a cancellation. */
    if (ff_waiter_cancelled(waiter))
        return -ECANCELED;
    if (self->tls != NULL)
        return receive_tls(self, into, room, waiter, patience_ns);
    for (;;) {
        ssize_t count = recv(self->fd, into, room, 0);
        if (count >= 0)
            return count;
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN)
            return -errno;
        int outcome = ff_wait(waiter, self->fd, POLLIN, patience_ns);
        if (outcome < 0)
            return outcome;
    }
}

static int send_tls(ff_connection *self, const char *bytes, size_t length, const ff_waiter *waiter,
                    int64_t *patience_ns) {
    while (length > 0) {
        ERR_clear_error();
        errno = 0;
        int count = SSL_write(self->tls, bytes, length < INT_MAX ? (int)length : INT_MAX);
        if (count > 0) {
            bytes += count;
            length -= (size_t)count;
            continue;
        }
        int outcome = ff_connection_wait_for_tls(self, count, waiter, patience_ns);
        if (outcome != 0)
            return outcome > 0 ? -EPIPE : outcome;
    }
    return 0;
}

int ff_connection_send(ff_connection *self, const void *data, size_t length, const ff_waiter *waiter,
                       int64_t *patience_ns) {
    const char *bytes = data;
    if (self->tls != NULL)
        return send_tls(self, bytes, length, waiter, patience_ns);
    while (length > 0) {
        ssize_t count = send(self->fd, bytes, length, MSG_NOSIGNAL);
        if (count >= 0) {
            bytes += count;
            length -= (size_t)count;
            continue;
        }
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN)
            return -errno;
        int outcome = ff_wait(waiter, self->fd, POLLOUT, patience_ns);
        if (outcome < 0)
            return outcome;
    }
    return 0;
}

bool ff_connection_is_quiet(const ff_connection *self) {
    char byte;
    if (self->tls != NULL && SSL_pending(self->tls) > 0)
        return false;
    return recv(self->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}
