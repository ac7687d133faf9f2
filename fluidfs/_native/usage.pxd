from libc.stdint cimport uint64_t

cdef extern from "usage.h":
    ctypedef struct ff_usage:
        pass

cdef class LevelUsage:
    # Mapped while the object lives; whoever hands the pointer to C holds a reference to this object.
    cdef ff_usage *usage
