# cython: language_level=3
"""Slabs of small objects, as Python sees them; slab.h has the format and the contracts."""

import errno
import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from fluidfs._native.sink cimport Sink, ff_sink
from fluidfs._native.usage cimport LevelUsage, ff_usage


cdef extern from "slab.h":
    """
    static uint64_t slab_last_use(ff_slab *s) { return atomic_load(&s->header->last_use_s); }
    static void slab_touch(ff_slab *s, uint64_t now) { atomic_store(&s->header->last_use_s, now); }
    static int slot_complete(ff_slab *s, uint64_t i) {
        return i < s->slot_count && atomic_load(&s->slots[i].state) == FF_SLOT_COMPLETE;
    }
    static void slot_drop(ff_slab *s, uint64_t i) {
        uint32_t complete = FF_SLOT_COMPLETE;
        if (i < s->slot_count)
            atomic_compare_exchange_strong(&s->slots[i].state, &complete, FF_SLOT_DROPPED);
    }
    static ff_slot slot_copy(ff_slab *s, uint64_t i) { return s->slots[i]; }
    """
    const uint32_t FF_SLAB_OBJECT_MAX
    const uint32_t FF_SLAB_IDENTITY_MAX
    ctypedef struct ff_slot:
        uint32_t offset
        uint32_t length
        uint32_t identity_bytes
    int ff_slab_open(const char *data_path, const char *index_path, uint32_t slot_count, uint64_t capacity_bytes,
                     const uint8_t *boot_id, ff_usage *usage, ff_slab **out) nogil
    uint64_t ff_slab_used_bytes(const ff_slab *self) nogil
    uint64_t ff_slab_room_bytes(const ff_slab *self) nogil
    uint64_t ff_slab_retire(ff_slab *self) nogil
    void ff_slab_close(ff_slab *self) nogil
    int64_t ff_slab_find(const ff_slab *self, const uint8_t *key) nogil
    int64_t ff_slab_put(ff_slab *self, const uint8_t *key, const void *identity, uint32_t identity_bytes,
                        const void *data, uint32_t length) nogil
    int64_t ff_slab_read(ff_slab *self, uint64_t slot, uint64_t offset, void *out, size_t length, bint always,
                         bint nowait) nogil
    int ff_slab_verify(ff_slab *self, uint64_t slot) nogil
    ctypedef struct ff_slab_sink:
        ff_sink sink
        ff_slab *slab
        const uint8_t *key
        const void *identity
        uint32_t identity_bytes
        char *base
        uint32_t length
        uint32_t filled
        int64_t slot
    void ff_slab_sink_init(ff_slab_sink *self) nogil
    uint64_t slab_last_use(ff_slab *s) nogil
    void slab_touch(ff_slab *s, uint64_t now) nogil
    bint slot_complete(ff_slab *s, uint64_t i) nogil
    void slot_drop(ff_slab *s, uint64_t i) nogil
    ff_slot slot_copy(ff_slab *s, uint64_t i) nogil


cdef class Slab:
    """One slab, open. Thread-safe, but for `close`.

    With a `slot_count` (a power of two) the slab is made if it is not there. Raises OSError: ENOENT (not there),
    EUCLEAN (not a slab of this format), EBUSY (locked by another process for too long), or the disk's own.
    """

    def __cinit__(self, bytes data_path not None, bytes index_path not None, *, uint32_t slot_count,
                  uint64_t capacity_bytes, bytes boot_id not None, LevelUsage usage not None):
        self._slab = NULL
        self._users = 0
        self._closing = False
        self._usage = usage
        if len(boot_id) != 16:
            raise ValueError("a boot id has 16 bytes")
        cdef const uint8_t *boot = <const uint8_t *><const char *>boot_id
        cdef const char *data_name = data_path
        cdef const char *index_name = index_path
        cdef int error
        with nogil:
            error = ff_slab_open(data_name, index_name, slot_count, capacity_bytes, boot, usage.usage,
                                 &self._slab)
        if error != 0:
            raise OSError(-error, os.strerror(-error))

    def __dealloc__(self):
        if self._slab != NULL:
            ff_slab_close(self._slab)
            self._slab = NULL

    cdef ff_slab *_open(self) except NULL:
        if self._slab == NULL or self._closing:
            raise ValueError("the slab is closed")
        return self._slab

    cdef ff_slab *use(self) except NULL:
        cdef ff_slab *slab = self._open()
        self._users += 1
        return slab

    cdef void leave(self) noexcept:
        self._users -= 1
        self._close_if_free()

    def fileno(self):
        """The data file's descriptor; it stays the slab's."""
        return self._open().data_fd

    def find(self, bytes key not None):
        """The slot of the object with this key of 16 bytes; None when it is not here."""
        if len(key) != 16:
            raise ValueError("a key has 16 bytes")
        cdef int64_t slot = ff_slab_find(self._open(), <const uint8_t *><const char *>key)
        return None if slot < 0 else slot

    def put(self, bytes key not None, bytes identity not None, const unsigned char[::1] data not None):
        """Stores an object; its slot, or None when it does not fit any more. Raises OSError when the disk fails."""
        cdef ff_slab *slab = self._open()
        if len(key) != 16:
            raise ValueError("a key has 16 bytes")
        cdef const uint8_t *key_base = <const uint8_t *><const char *>key
        cdef const char *identity_base = identity
        cdef uint32_t identity_bytes = len(identity)
        cdef const void *base = &data[0] if data.shape[0] > 0 else NULL
        cdef uint32_t length = data.shape[0]
        cdef int64_t slot
        with nogil:
            slot = ff_slab_put(slab, key_base, identity_base, identity_bytes, base, length)
        if slot == -errno.ENOSPC:
            return None
        if slot < 0:
            raise OSError(-slot, os.strerror(-slot))
        return slot

    def read(self, uint64_t slot, uint64_t offset, size_t length, *, bint always=False, bint nowait=False):
        """Bytes of the object in `slot`, cut at its end; None when it is not there, or wrong (dropped, counted).

        Waits for the disk, without the interpreter's lock; with `nowait` it raises BlockingIOError instead.
        """
        cdef ff_slab *slab = self._open()
        if not slot_complete(slab, slot):
            return None
        cdef ff_slot facts = slot_copy(slab, slot)
        facts.length = min(facts.length, FF_SLAB_OBJECT_MAX)
        if offset >= facts.length:
            return b""
        if length > facts.length - offset:
            length = facts.length - offset
        result = PyBytes_FromStringAndSize(NULL, length)
        cdef char *out = PyBytes_AS_STRING(result)
        cdef int64_t n
        with nogil:
            n = ff_slab_read(slab, slot, offset, out, length, always, nowait)
        if n == -errno.EAGAIN:
            raise BlockingIOError(errno.EAGAIN, "would wait for the disk")
        return result if n == <int64_t>length else None

    def verify(self, uint64_t slot):
        """True right, False wrong (dropped and counted), None nothing there. Raises OSError when the disk fails."""
        cdef ff_slab *slab = self._open()
        cdef int result
        with nogil:
            result = ff_slab_verify(slab, slot)
        if result == -errno.EBADMSG:
            return False
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return True if result == 1 else None

    def drop(self, uint64_t slot):
        """Makes the object in `slot` absent, if there is one. Its space stays taken."""
        slot_drop(self._open(), slot)

    def entries(self):
        """The complete objects, as (slot, identity, length); identities that cannot be read are left out."""
        cdef ff_slab *slab = self._open()
        cdef ff_slot facts
        result = []
        for slot in range(slab.slot_count):
            if slot_complete(slab, slot):
                facts = slot_copy(slab, slot)
                if facts.identity_bytes > min(facts.offset, FF_SLAB_IDENTITY_MAX):
                    continue
                identity = os.pread(slab.data_fd, facts.identity_bytes, facts.offset - facts.identity_bytes)
                if len(identity) == facts.identity_bytes:
                    result.append((slot, identity, facts.length))
        return result

    def touch(self, uint64_t now_s):
        """Notes a use, for eviction."""
        slab_touch(self._open(), now_s)

    cdef void touch_in_use(self, uint64_t now_s) noexcept:
        if self._slab != NULL:
            slab_touch(self._slab, now_s)

    @property
    def last_use_s(self):
        return slab_last_use(self._open())

    @property
    def used_bytes(self):
        """What it counts for in the level's usage."""
        return ff_slab_used_bytes(self._open())

    @property
    def room_bytes(self):
        """What records, with their identities, may still take; 0 when it takes no more."""
        return ff_slab_room_bytes(self._open())

    @property
    def capacity_bytes(self):
        return self._open().capacity_bytes

    def retire(self):
        """Has every process store elsewhere from now on; its used bytes, which do not change any more."""
        return ff_slab_retire(self._open())

    def close(self):
        """Ends the use of the slab and its lock. No other call may be under way.

        While contents lie in it the files stay open, and locked.
        """
        self._closing = True
        self._close_if_free()

    cdef void _close_if_free(self) noexcept:
        if self._closing and self._users == 0 and self._slab != NULL:
            ff_slab_close(self._slab)
            self._slab = NULL


cdef class SlabSink(Sink):
    """Gathers one object of `length` bytes, and stores it in `slab` as soon as it is whole.

    When the job is done, `data` is the object, and `slot` where it was stored, or None: then it is nowhere but here.
    A job that did not end well must be given another sink.
    """

    cdef ff_slab_sink _state
    cdef readonly Slab slab
    cdef bytes _key
    cdef bytes _identity
    cdef bytes _data

    def __cinit__(self, Slab slab not None, bytes key not None, bytes identity not None, uint32_t length):
        memset(&self._state, 0, sizeof(self._state))
        if len(key) != 16:
            raise ValueError("a key has 16 bytes")
        self.slab = slab
        self._key = key
        self._identity = identity
        # Written by the job before anybody else can see it, which is what PyBytes_FromStringAndSize(NULL) is for.
        self._data = PyBytes_FromStringAndSize(NULL, length)
        self._state.slab = slab._open()
        self._state.key = <const uint8_t *><const char *>self._key
        self._state.identity = <const char *>self._identity
        self._state.identity_bytes = len(identity)
        self._state.base = PyBytes_AS_STRING(self._data)
        self._state.length = length
        ff_slab_sink_init(&self._state)
        self.sink = &self._state.sink

    @property
    def data(self):
        if self._state.filled != self._state.length:
            raise ValueError("the object is not whole")
        return self._data

    @property
    def slot(self):
        return None if self._state.slot < 0 else self._state.slot
