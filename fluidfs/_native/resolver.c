#include "resolver.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

typedef struct {
    /* The lookup's thread writes `answer` and `error`, then lowers this (release); the worker reads them only after
     * it saw `done` (acquire). The last to leave frees all. */
    atomic_int holders;
    atomic_bool done;
    int done_fd;
    struct addrinfo *answer;
    int error;
    char port[8];
    char host[];
} lookup;

static int look_up(const char *host, const char *port, int flags, struct addrinfo **answer) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV};
    return getaddrinfo(host, port, &hints, answer);
}

static void let_go(lookup *self) {
    if (atomic_fetch_sub_explicit(&self->holders, 1, memory_order_acq_rel) > 1)
        return;
    if (self->answer != NULL)
        freeaddrinfo(self->answer);
    close(self->done_fd);
    free(self);
}

static void *run(void *argument) {
    lookup *self = argument;
    const uint64_t one = 1;
    self->error = look_up(self->host, self->port, AI_ADDRCONFIG, &self->answer);
    if (self->error != 0)
        self->answer = NULL;
    atomic_store_explicit(&self->done, true, memory_order_release);
    ssize_t ignored = write(self->done_fd, &one, sizeof one);
    (void)ignored;
    let_go(self);
    return NULL;
}

static lookup *start(const char *host, const char *port) {
    size_t host_size = strlen(host) + 1;
    lookup *self = calloc(1, sizeof *self + host_size);
    if (self == NULL)
        return NULL;
    memcpy(self->host, host, host_size);
    memcpy(self->port, port, sizeof self->port);
    atomic_init(&self->holders, 2);
    atomic_init(&self->done, false);
    self->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_t thread;
    /* The thread inherits the worker's mask: every signal is blocked. */
    if (self->done_fd < 0 || pthread_create(&thread, NULL, run, self) != 0) {
        if (self->done_fd >= 0)
            close(self->done_fd);
        free(self);
        return NULL;
    }
    pthread_detach(thread);
    return self;
}

int ff_resolve(const char *host, uint16_t port_number, const ff_waiter *waiter, int64_t *patience_ns,
               struct addrinfo **addresses, int *lookup_error) {
    char port[8] = {0};
    snprintf(port, sizeof port, "%u", port_number);
    *lookup_error = 0;
    if (look_up(host, port, AI_NUMERICHOST, addresses) == 0)
        return 0;
    lookup *started = start(host, port);
    if (started == NULL)
        return -ENOMEM;
    int outcome = ff_wait(waiter, started->done_fd, POLLIN, patience_ns);
    if (outcome == 0 && !atomic_load_explicit(&started->done, memory_order_acquire))
        outcome = -EIO;
    if (outcome == 0 && started->error != 0) {
        *lookup_error = started->error;
        outcome = -EHOSTUNREACH;
    }
    if (outcome == 0) {
        *addresses = started->answer;
        started->answer = NULL;
    }
    let_go(started);
    return outcome;
}
