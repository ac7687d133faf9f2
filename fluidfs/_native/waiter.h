/* How a worker waits for a descriptor: until it is ready, its patience ends, or the job is cancelled.
 *
 * Patience is a budget of nanoseconds that only waiting spends. So a sink that takes its time with a chunk never makes
 * the server look slow, and one budget covers the several waits of, say, connecting.
 *
 * Cancelling: the canceller stores true in `cancelled` (release), then writes to the eventfd `wake_fd`. The waiting
 * worker empties the eventfd first and loads the flag (acquire) after, so no cancellation is missed; a wake-up that was
 * meant for the worker's previous job finds the flag of the present one down and goes on waiting.
 */
#ifndef FLUIDFS_WAITER_H
#define FLUIDFS_WAITER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    int wake_fd; /* a non-blocking eventfd of the worker */
    atomic_bool *cancelled;
} ff_waiter;

/* CLOCK_MONOTONIC in nanoseconds. */
int64_t ff_now_ns(void);

/* Seconds as a patience, between nothing and thirty years. */
int64_t ff_patience_ns(double seconds);

bool ff_waiter_cancelled(const ff_waiter *self);

/* Waits for poll `events` on `fd`, and takes the time that it took off `*patience_ns`. Returns 0, -ETIMEDOUT,
 * -ECANCELED, or another negative errno of poll. */
int ff_wait(const ff_waiter *self, int fd, short events, int64_t *patience_ns);

#endif
