from libc.stdint cimport uint64_t

cdef extern from "usage.h":
    ctypedef struct ff_usage:
        pass

cdef extern from "map_guard.h":
    ctypedef struct ff_map_guard:
        pass

cdef class LevelUsage:
    # Mapped while the object lives; whoever hands the pointer to C holds a reference to this object.
    cdef ff_usage *usage
    cdef ff_map_guard *_guard
