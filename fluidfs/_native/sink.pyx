# cython: language_level=3
"""The base of every place that fetched bytes can go to, and the simplest one: memory."""

from cpython.buffer cimport PyBUF_WRITABLE, PyBUF_SIMPLE, PyObject_GetBuffer, PyBuffer_Release
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free


cdef extern from "memory_sink.h":
    ctypedef struct ff_memory_sink:
        pass
    void ff_memory_sink_init(ff_memory_sink *self, void *base, uint64_t offset, size_t length) nogil
    ff_sink *ff_memory_sink_as_sink(ff_memory_sink *self) nogil


cdef class Sink:
    """Where a job's bytes go. Subclasses set `sink`; see sink.h for the contract."""


cdef class MemorySink(Sink):
    """Keeps the `length` bytes from `offset` of an object in `buffer`, a bytearray that it makes.

    `buffer` must not be resized while a job writes into it (a bytearray with a view out refuses that by itself).
    """

    cdef ff_memory_sink *_state
    cdef Py_buffer _view
    cdef bint _viewing
    cdef readonly bytearray buffer

    def __cinit__(self, uint64_t offset, size_t length):
        self._state = NULL
        self._viewing = False
        self.buffer = bytearray(length)
        PyObject_GetBuffer(self.buffer, &self._view, PyBUF_WRITABLE | PyBUF_SIMPLE)
        self._viewing = True
        self._state = <ff_memory_sink *>calloc(1, sizeof_memory_sink())
        if self._state == NULL:
            raise MemoryError()
        ff_memory_sink_init(self._state, self._view.buf, offset, length)
        self.sink = ff_memory_sink_as_sink(self._state)

    def __dealloc__(self):
        self.sink = NULL
        free(self._state)
        self._state = NULL
        if self._viewing:
            PyBuffer_Release(&self._view)


cdef extern from *:
    """
    #include "memory_sink.h"
    static size_t sizeof_memory_sink(void) { return sizeof(ff_memory_sink); }
    """
    size_t sizeof_memory_sink() nogil
