# The registry of contents as other native modules take it; content.h states the contracts.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from fluidfs._native.objects cimport ff_object, ff_verify
from fluidfs._native.slabs cimport ff_slab


cdef extern from "content.h":
    ctypedef struct ff_contents:
        pass
    ctypedef struct ff_content:
        uint64_t id
        uint64_t size
        bint may_pass
    ctypedef struct ff_slab_use:
        uint64_t id
    ff_contents *ff_contents_new() nogil
    void ff_contents_free(ff_contents *self) nogil
    ff_content *ff_content_object(ff_contents *owner, ff_object *object, ff_verify verify) nogil
    ff_content *ff_content_small(ff_contents *owner, uint64_t size, ff_verify verify) nogil
    ff_content *ff_content_through(ff_contents *owner, uint64_t size) nogil
    ff_content *ff_content_hold(ff_content *self) nogil
    void ff_content_drop(ff_content *self) nogil
    ff_content *ff_contents_find(ff_contents *self, uint64_t id) nogil
    size_t ff_contents_count(ff_contents *self) nogil
    ff_slab_use *ff_contents_add_slab(ff_contents *self, ff_slab *slab) nogil
    void ff_contents_leave_slab(ff_contents *self, uint64_t slab_id) nogil
    size_t ff_contents_used_slabs(ff_contents *self, uint64_t *ids, size_t capacity) nogil
    size_t ff_contents_gone(ff_contents *self, uint64_t *ids, size_t capacity) nogil
    bint ff_content_place(ff_content *self, uint64_t slab_id, uint64_t slot) nogil
    void ff_content_unplace(ff_content *self, uint64_t slab_id, uint64_t slot) nogil
    int64_t ff_content_read(ff_content *self, uint64_t offset, void *out, size_t length, bint nowait) nogil
    bint ff_content_present(ff_content *self, uint64_t offset, uint64_t length) nogil
    bint ff_content_sealed(ff_content *self, const uint8_t *boot_id) nogil


cdef class Contents:
    # Good while the object lives; whoever keeps contents in native code holds a reference to this object, and drops them
    # before it.
    cdef ff_contents *contents
    cdef dict _files
    cdef dict _slabs
    cdef set _held

    # With a reference, to be dropped. Raises KeyError.
    cdef ff_content *find(self, uint64_t content_id) except NULL
    cdef uint64_t _keep(self, ff_content *content) except 0
