# Slabs as other native modules take them; slab.h states the contracts.

from libc.stdint cimport uint32_t, uint64_t

from fluidfs._native.usage cimport LevelUsage


cdef extern from "slab.h":
    ctypedef struct ff_slab:
        int data_fd
        uint32_t slot_count
        uint64_t capacity_bytes


cdef class Slab:
    cdef ff_slab *_slab
    # Those who use it in native code: the files stay open until the last of them is gone.
    cdef int _users
    cdef bint _closing
    cdef LevelUsage _usage

    cdef ff_slab *_open(self) except NULL
    # What it points to is good until `leave`. Raises ValueError when the slab was closed.
    cdef ff_slab *use(self) except NULL
    cdef void leave(self) noexcept
    # `touch`, also of one that was closed while it has users.
    cdef void touch_in_use(self, uint64_t now_s) noexcept
    cdef void _close_if_free(self) noexcept
