/* The clock that all of the relay's times are on. */
#ifndef FLUIDFS_CLOCK_H
#define FLUIDFS_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t ff_monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

#endif
