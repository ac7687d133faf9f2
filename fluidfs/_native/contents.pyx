# cython: language_level=3
"""Contents of open files, as Python sees them; content.h has the contracts."""

import errno

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from fluidfs._native.objects cimport ObjectFile
from fluidfs._native.slabs cimport Slab

cdef enum:
    # Ids taken over in one step.
    IDS_AT_ONCE = 256


# Its files are needed until the registry is gone.
@cython.no_gc_clear
cdef class Contents:
    """The registry of contents, with the cache's files that they lie in. Thread-safe.

    What is added belongs to the caller too, until `drop`: a content lives while anybody refers to it. Its file may be
    closed at once; it stays open in fact until `gone` has told the content's id. Ids are never given twice.

    Methods raise KeyError for an id that is not known (any more).
    """

    def __cinit__(self):
        self._files = {}
        self._slabs = {}
        self._held = set()
        self.contents = ff_contents_new()
        if self.contents == NULL:
            raise MemoryError()

    def __dealloc__(self):
        if self.contents == NULL:
            return
        for content_id in self._held:
            # Ours and the one that finding it takes.
            content = ff_contents_find(self.contents, content_id)
            ff_content_drop(content)
            ff_content_drop(content)
        ff_contents_free(self.contents)
        self.contents = NULL
        for file in self._files.values():
            (<ObjectFile>file).leave()
        for slab in self._slabs.values():
            (<Slab>slab).leave()

    cdef ff_content *find(self, uint64_t content_id) except NULL:
        cdef ff_content *content = ff_contents_find(self.contents, content_id)
        if content == NULL:
            raise KeyError(content_id)
        return content

    cdef uint64_t _keep(self, ff_content *content) except 0:
        if content == NULL:
            raise MemoryError()
        self._held.add(content.id)
        return content.id

    def __len__(self):
        return ff_contents_count(self.contents)

    def add_object(self, ObjectFile file not None, *, int verify, bint passthrough=False):
        """A content that lies in a file of its own; its id. `passthrough`: the kernel may read it by itself, once sealed."""
        cdef uint64_t content_id
        cdef ff_content *content = ff_content_object(self.contents, file.use(), <ff_verify>verify)
        if content == NULL:
            file.leave()
        else:
            content.may_pass = passthrough
        content_id = self._keep(content)
        self._files[content_id] = file
        return content_id

    def add_small(self, uint64_t size_bytes, *, int verify):
        """A content that lies in a slab, as soon as it is placed; its id."""
        return self._keep(ff_content_small(self.contents, size_bytes, <ff_verify>verify))

    def add_through(self, uint64_t size_bytes):
        """A content that no level takes; its id."""
        return self._keep(ff_content_through(self.contents, size_bytes))

    def drop(self, uint64_t content_id):
        """Gives the reference back that adding it gave."""
        self._held.remove(content_id)
        cdef ff_content *content = self.find(content_id)
        ff_content_drop(content)
        ff_content_drop(content)

    def add_slab(self, Slab slab not None):
        """A slab that contents may be placed in; its id."""
        cdef ff_slab_use *use = ff_contents_add_slab(self.contents, slab.use())
        if use == NULL:
            slab.leave()
            raise MemoryError()
        self._slabs[use.id] = slab
        return use.id

    def leave_slab(self, uint64_t slab_id):
        """Unplaces all that lies in it. `gone` tells its id when the last read of it has ended."""
        ff_contents_leave_slab(self.contents, slab_id)

    def touch(self, uint64_t now_s):
        """Notes a use, for eviction, of the slabs that were read since the last call."""
        cdef uint64_t ids[IDS_AT_ONCE]
        cdef size_t count = IDS_AT_ONCE
        cdef size_t i
        while count == IDS_AT_ONCE:
            count = ff_contents_used_slabs(self.contents, ids, IDS_AT_ONCE)
            for i in range(count):
                slab = self._slabs.get(ids[i])
                if slab is not None:
                    (<Slab>slab).touch_in_use(now_s)

    def place(self, uint64_t content_id, uint64_t slab_id, uint64_t slot):
        """Says where a small content lies. False: the slab was left, and it has to be looked for anew."""
        cdef ff_content *content = self.find(content_id)
        placed = bool(ff_content_place(content, slab_id, slot))
        ff_content_drop(content)
        return placed

    def unplace(self, uint64_t content_id, uint64_t slab_id, uint64_t slot):
        """Takes that place back, unless it has another by now."""
        cdef ff_content *content = self.find(content_id)
        ff_content_unplace(content, slab_id, slot)
        ff_content_drop(content)

    def read(self, uint64_t content_id, uint64_t offset, size_t length, *, bint nowait=False):
        """The bytes [offset, offset + length), cut at the end; None: a miss.

        Raises BlockingIOError when `nowait` and the answer would need the disk or a checksum; without `nowait` it blocks,
        without the interpreter's lock.
        """
        cdef ff_content *content = self.find(content_id)
        cdef int64_t n
        cdef char *out
        try:
            length = min(length, content.size - min(offset, content.size))
            result = PyBytes_FromStringAndSize(NULL, length)
            out = PyBytes_AS_STRING(result)
            with nogil:
                n = ff_content_read(content, offset, out, length, nowait)
        finally:
            ff_content_drop(content)
        if n == -errno.EAGAIN:
            raise BlockingIOError(errno.EAGAIN, "would wait for the disk")
        return result if n == <int64_t>length else None

    def present(self, uint64_t content_id, uint64_t offset, uint64_t length):
        """Whether all of [offset, offset + length), cut at the end, is in the cache, by what its map says."""
        cdef ff_content *content = self.find(content_id)
        present = bool(ff_content_present(content, offset, length))
        ff_content_drop(content)
        return present

    def sealed(self, uint64_t content_id, bytes boot_id not None):
        """Whether the kernel may read its file by itself."""
        if len(boot_id) != 16:
            raise ValueError("a boot id has 16 bytes")
        cdef ff_content *content = self.find(content_id)
        cdef const uint8_t *boot = <const uint8_t *><const char *>boot_id
        cdef bint sealed
        with nogil:
            sealed = ff_content_sealed(content, boot)
            ff_content_drop(content)
        return bool(sealed)

    def gone(self):
        """Ids of contents and slabs that nobody uses any more, each told once; their files are let go of."""
        cdef uint64_t ids[IDS_AT_ONCE]
        cdef size_t count = IDS_AT_ONCE
        cdef size_t i
        result = []
        while count == IDS_AT_ONCE:
            count = ff_contents_gone(self.contents, ids, IDS_AT_ONCE)
            for i in range(count):
                result.append(ids[i])
                file = self._files.pop(ids[i], None)
                if file is not None:
                    (<ObjectFile>file).leave()
                slab = self._slabs.pop(ids[i], None)
                if slab is not None:
                    (<Slab>slab).leave()
        return result
