cdef extern from "sink.h":
    ctypedef struct ff_sink:
        pass

cdef class Sink:
    # Points into memory that the subclass owns and frees in its __dealloc__. The engine holds a reference to the Sink
    # until the job's completion was drained.
    cdef ff_sink *sink
