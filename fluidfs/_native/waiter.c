#include "waiter.h"

#include <errno.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000LL
#define LONGEST_S 1e9

int64_t ff_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

int64_t ff_patience_ns(double seconds) {
    /* Written so that NaN is no patience. */
    if (!(seconds > 0))
        return 0;
    return (int64_t)((seconds < LONGEST_S ? seconds : LONGEST_S) * NS_PER_S);
}

bool ff_waiter_cancelled(const ff_waiter *self) {
    return atomic_load_explicit(self->cancelled, memory_order_acquire);
}

int ff_wait(const ff_waiter *self, int fd, short events, int64_t *patience_ns) {
    struct pollfd watched[2] = {{.fd = fd, .events = events}, {.fd = self->wake_fd, .events = POLLIN}};
    for (;;) {
        if (ff_waiter_cancelled(self))
            return -ECANCELED;
        if (*patience_ns <= 0)
            return -ETIMEDOUT;
        struct timespec timeout = {.tv_sec = *patience_ns / NS_PER_S, .tv_nsec = *patience_ns % NS_PER_S};
        int64_t started_ns = ff_now_ns();
        int ready = ppoll(watched, 2, &timeout, NULL);
        int error = errno;
        *patience_ns -= ff_now_ns() - started_ns;
        if (ready < 0 && error != EINTR)
            return -error;
        if (ready <= 0)
            continue;
        if (watched[1].revents != 0) {
            uint64_t wakes;
            ssize_t ignored = read(self->wake_fd, &wakes, sizeof wakes);
            (void)ignored;
        }
        /* Also on POLLERR and POLLHUP: the call that the caller tries next says what happened. */
        if (watched[0].revents != 0)
            return ff_waiter_cancelled(self) ? -ECANCELED : 0;
    }
}
