# cython: language_level=3
"""A level's shared counters, mapped from its own file; usage.h has the format."""

import errno
import os

from libc.stdint cimport uint64_t

cdef extern from "usage.h":
    """
    #include <string.h>
    #include <sys/mman.h>
    #include "map_guard.h"

    enum { FF_USED, FF_QUOTA, FF_HIGH, FF_LOW, FF_GENERATION, FF_EVICTED, FF_BAD };

    static _Atomic uint64_t *usage_field(ff_usage *self, int field) {
        switch (field) {
        case FF_USED: return &self->used_bytes;
        case FF_QUOTA: return &self->quota_bytes;
        case FF_HIGH: return &self->high_bytes;
        case FF_LOW: return &self->low_bytes;
        case FF_GENERATION: return &self->slab_generation;
        case FF_EVICTED: return &self->evicted_bytes;
        default: return &self->bad_blocks;
        }
    }
    static uint64_t usage_get(ff_usage *self, int field) { return atomic_load(usage_field(self, field)); }
    static void usage_set(ff_usage *self, int field, uint64_t value) { atomic_store(usage_field(self, field), value); }
    static void usage_bump(ff_usage *self, int field, uint64_t by) { atomic_fetch_add(usage_field(self, field), by); }

    static int usage_is_ours(const ff_usage *self) {
        return memcmp(self->magic, FF_USAGE_MAGIC, sizeof self->magic) == 0 && self->format == FF_USAGE_FORMAT;
    }
    static void usage_initialise(ff_usage *self) {
        memset(self, 0, sizeof *self);
        memcpy(self->magic, FF_USAGE_MAGIC, sizeof self->magic);
        self->format = FF_USAGE_FORMAT;
    }
    static void *usage_map(int fd) {
        void *base = mmap(NULL, FF_USAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        return base == MAP_FAILED ? NULL : base;
    }
    static void usage_unmap(ff_usage *self, ff_map_guard *guard) {
        ff_map_guard_remove(guard);
        munmap(self, FF_USAGE_BYTES);
    }
    static int usage_is_blank(const ff_usage *self) {
        static const char zeros[FF_USAGE_BYTES];
        return memcmp(self, zeros, sizeof zeros) == 0;
    }
    """
    ff_map_guard *ff_map_guard_add(void *base, size_t bytes) nogil
    bint ff_map_guard_hit(const ff_map_guard *guard) nogil
    enum:
        FF_USED, FF_QUOTA, FF_HIGH, FF_LOW, FF_GENERATION, FF_EVICTED, FF_BAD
        FF_USAGE_BYTES
    uint64_t usage_get(ff_usage *self, int field) nogil
    void usage_set(ff_usage *self, int field, uint64_t value) nogil
    void usage_bump(ff_usage *self, int field, uint64_t by) nogil
    bint usage_is_ours(const ff_usage *self) nogil
    void usage_initialise(ff_usage *self) nogil
    void *usage_map(int fd) nogil
    void usage_unmap(ff_usage *self, ff_map_guard *guard) nogil
    bint usage_is_blank(const ff_usage *self) nogil
    void ff_usage_subtract(ff_usage *self, uint64_t bytes) nogil


cdef class LevelUsage:
    """The counters of the level whose file is open as `fd` (which the caller may close afterwards).

    A new file (empty, or all zeros: its maker was killed) is filled in; the caller holds the level's lock meanwhile.
    Raises ValueError for a file of another kind or format, OSError when it cannot be allocated or mapped.

    When somebody cuts the file short under us, all counters read 0: a level of quota 0 takes nothing more.
    """

    def __cinit__(self, int fd):
        self.usage = NULL
        self._guard = NULL
        size = os.fstat(fd).st_size
        if size > FF_USAGE_BYTES:
            raise ValueError("not a level file of fluidfs: its size is wrong")
        if size < FF_USAGE_BYTES:
            if os.pread(fd, FF_USAGE_BYTES, 0).strip(b"\0"):
                raise ValueError("not a level file of fluidfs: its size is wrong")
            os.posix_fallocate(fd, 0, FF_USAGE_BYTES)
        self.usage = <ff_usage *>usage_map(fd)
        if self.usage == NULL:
            raise OSError(errno.ENOMEM, "the level file cannot be mapped")
        self._guard = ff_map_guard_add(self.usage, FF_USAGE_BYTES)
        if usage_is_blank(self.usage):
            usage_initialise(self.usage)
        if not usage_is_ours(self.usage):
            raise ValueError("not a level file of fluidfs, or of another format")

    def __dealloc__(self):
        if self.usage != NULL:
            usage_unmap(self.usage, self._guard)
            self.usage = NULL

    @property
    def damaged(self):
        """Whether the file was cut short, or could not be read, while it was mapped."""
        return bool(ff_map_guard_hit(self._guard))

    @property
    def used_bytes(self):
        return usage_get(self.usage, FF_USED)

    @used_bytes.setter
    def used_bytes(self, uint64_t value):
        usage_set(self.usage, FF_USED, value)

    @property
    def quota_bytes(self):
        return usage_get(self.usage, FF_QUOTA)

    @property
    def high_bytes(self):
        return usage_get(self.usage, FF_HIGH)

    @property
    def low_bytes(self):
        return usage_get(self.usage, FF_LOW)

    @property
    def slab_generation(self):
        return usage_get(self.usage, FF_GENERATION)

    @property
    def evicted_bytes(self):
        return usage_get(self.usage, FF_EVICTED)

    @property
    def bad_blocks(self):
        return usage_get(self.usage, FF_BAD)

    def set_limits(self, *, uint64_t quota_bytes, uint64_t high_bytes, uint64_t low_bytes):
        """What the level may hold, and where eviction starts and ends; for all processes that use it."""
        usage_set(self.usage, FF_QUOTA, quota_bytes)
        usage_set(self.usage, FF_HIGH, high_bytes)
        usage_set(self.usage, FF_LOW, low_bytes)

    def count_slab_change(self):
        """Tells the other processes to look for slabs again. Call it when the files have their names, or lost them."""
        usage_bump(self.usage, FF_GENERATION, 1)

    def count_evicted(self, uint64_t bytes):
        """Takes `bytes` that were unlinked off the usage, and adds them to what was ever evicted."""
        ff_usage_subtract(self.usage, bytes)
        usage_bump(self.usage, FF_EVICTED, bytes)

    def subtract(self, uint64_t bytes):
        """Takes `bytes` off that turned out not to be there; stops at 0."""
        ff_usage_subtract(self.usage, bytes)
