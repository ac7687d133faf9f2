/* Misfortune for the code under test: memory that is not to be had, disks that make one wait, threads that do not start.
 * And a kernel that registers backing files and clones of the device, where `passes` says so.
 *
 * Linked with -Wl,--wrap for each function below, so that the calls of everything linked in pass through here; the C
 * library's own do not. One in `…_one_in` calls fails, 0: none. All are off at first.
 *
 * Threads: any. */
#ifndef FLUIDFS_TESTS_RELAY_FAULTS_H
#define FLUIDFS_TESTS_RELAY_FAULTS_H

#include <stdatomic.h>
#include <stdbool.h>

typedef struct {
    _Atomic unsigned memory_one_in;
    _Atomic unsigned nowait_one_in; /* a read that must not wait would have to */
    _Atomic unsigned stall_one_in;  /* a read that must not wait does, for longer than anybody is held up */
    _Atomic unsigned slow_one_in;   /* a read that may wait takes some milliseconds */
    _Atomic unsigned broken_one_in; /* a read that may wait ends in EIO */
    _Atomic bool nowait_always;     /* every read that must not wait would have to */
    _Atomic bool disk_hangs;        /* reads that may wait do, until this is false */
    _Atomic int threads_left;       /* that may still be started; negative: any number */
    _Atomic unsigned hanging;       /* reads that wait now because of disk_hangs */
    _Atomic bool notices_wait;      /* write(2) does, until this is false: the relay writes notifications by it alone */
    _Atomic unsigned notices_waiting;
    _Atomic bool passes;
} relay_faults;

extern relay_faults faults;

/* The calling thread is spared, once more or once less: what tests need for themselves must not fail. */
void faults_spare(bool more);
/* All off. */
void faults_clear(void);

/* How many backing files are registered; and whether this one is. */
unsigned faults_backing_count(void);
bool faults_is_backing(int id);

#endif
