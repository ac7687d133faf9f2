/* What the engine counts. Workers add, anybody reads; each number is right by itself, hence relaxed.
 *
 * Ownership: shared by the engine and its sources, which may outlive it; the last to let go frees.
 */
#ifndef FLUIDFS_COUNTERS_H
#define FLUIDFS_COUNTERS_H

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

typedef struct {
    atomic_int holders;
    _Atomic uint64_t bytes_received; /* of bodies and files */
    _Atomic uint64_t requests_sent;
    _Atomic uint64_t connections_opened;
    _Atomic uint64_t connections_reused;
} ff_counters;

/* With one holder: the caller. NULL when memory is short. */
static inline ff_counters *ff_counters_new(void) {
    ff_counters *self = calloc(1, sizeof *self);
    if (self != NULL)
        atomic_init(&self->holders, 1);
    return self;
}

static inline ff_counters *ff_counters_hold(ff_counters *self) {
    atomic_fetch_add_explicit(&self->holders, 1, memory_order_relaxed);
    return self;
}

static inline void ff_counters_release(ff_counters *self) {
    if (self != NULL && atomic_fetch_sub_explicit(&self->holders, 1, memory_order_acq_rel) == 1)
        free(self);
}

static inline void ff_count(_Atomic uint64_t *counter, uint64_t amount) {
    atomic_fetch_add_explicit(counter, amount, memory_order_relaxed);
}

static inline uint64_t ff_counted(const _Atomic uint64_t *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}

#endif
