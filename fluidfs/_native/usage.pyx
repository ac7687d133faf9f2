# cython: language_level=3
"""A level's shared counters, mapped from its own file; usage.h has the format."""

import os

from libc.stdint cimport uint64_t
from libc.string cimport memcmp

cdef extern from "usage.h":
    """
    #include <string.h>
    #include <sys/mman.h>
    #define FF_LOAD(field) atomic_load(&self->field)

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
    static void usage_unmap(ff_usage *self) { munmap(self, FF_USAGE_BYTES); }
    """
    enum:
        FF_USED, FF_QUOTA, FF_HIGH, FF_LOW, FF_GENERATION, FF_EVICTED, FF_BAD
        FF_USAGE_BYTES
    uint64_t usage_get(ff_usage *self, int field) nogil
    void usage_set(ff_usage *self, int field, uint64_t value) nogil
    void usage_bump(ff_usage *self, int field, uint64_t by) nogil
    bint usage_is_ours(const ff_usage *self) nogil
    void usage_initialise(ff_usage *self) nogil
    void *usage_map(int fd) nogil
    void usage_unmap(ff_usage *self) nogil
    void ff_usage_add(ff_usage *self, uint64_t bytes) nogil
    void ff_usage_subtract(ff_usage *self, uint64_t bytes) nogil


cdef class LevelUsage:
    """The counters of the level whose file is open as `fd` (which the caller may close afterwards).

    A new (empty) file is filled in; the caller holds the level's lock while it makes one. Raises ValueError for a file
    of another kind or format, OSError when it cannot be allocated or mapped.
    """

    def __cinit__(self, int fd):
        self.usage = NULL
        new = os.fstat(fd).st_size == 0
        if new:
            os.posix_fallocate(fd, 0, FF_USAGE_BYTES)
        elif os.fstat(fd).st_size != FF_USAGE_BYTES:
            raise ValueError("not a level file of fluidfs: its size is wrong")
        self.usage = <ff_usage *>usage_map(fd)
        if self.usage == NULL:
            raise OSError("the level file cannot be mapped")
        if new:
            usage_initialise(self.usage)
        elif not usage_is_ours(self.usage):
            raise ValueError("not a level file of fluidfs, or of another format")

    def __dealloc__(self):
        if self.usage != NULL:
            usage_unmap(self.usage)
            self.usage = NULL

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

    def add(self, uint64_t bytes):
        """Counts `bytes` that came without a sink: a version that moved here from another level."""
        ff_usage_add(self.usage, bytes)
