# Object files as other native modules take them; object_file.h states the contracts.

from libc.stdint cimport uint32_t, uint64_t

from fluidfs._native.usage cimport LevelUsage


cdef extern from "object_file.h":
    ctypedef enum ff_verify:
        FF_VERIFY_FIRST, FF_VERIFY_ALWAYS, FF_VERIFY_NEVER
    ctypedef struct ff_object:
        uint64_t object_bytes
        uint64_t block_count
        uint32_t block_bytes


cdef class ObjectFile:
    cdef ff_object *_object
    # Sinks and contents: the files stay open until the last of them is gone.
    cdef int _users
    cdef bint _closing
    cdef LevelUsage _usage
    cdef bytes _boot_id
    cdef readonly uint64_t size_bytes
    cdef readonly uint32_t block_bytes
    cdef readonly uint64_t block_count

    cdef ff_object *_open(self) except NULL
    # What it points to is good until `leave`. Raises ValueError when the file was closed.
    cdef ff_object *use(self) except NULL
    cdef void leave(self) noexcept
    cdef void _close_if_free(self) noexcept
