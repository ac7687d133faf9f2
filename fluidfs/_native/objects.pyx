# cython: language_level=3
"""Object versions in the cache, as Python sees them; object_file.h has the format and the contracts."""

import errno
import os

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize, PyBytes_AS_STRING
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from fluidfs._native.sink cimport Sink, ff_sink
from fluidfs._native.usage cimport LevelUsage, ff_usage


cdef extern from "object_file.h":
    """
    static size_t sizeof_object_sink(void) { return sizeof(ff_object_sink); }
    static int object_damaged(ff_object *o) { return ff_map_guard_hit(o->guard); }
    static uint64_t header_last_use(ff_object *o) { return atomic_load(&o->header->last_use_s); }
    static uint32_t header_sealed(ff_object *o) { return atomic_load(&o->header->sealed); }
    static uint64_t object_bad_blocks(ff_object *o) { return atomic_load(&o->bad_blocks); }
    static int object_fd(ff_object *o) { return o->data_fd; }
    static void object_pin(ff_object *o, uint64_t i, int by) { atomic_fetch_add(&o->blocks[i].pins, (uint32_t)by); }
    """
    ctypedef struct ff_object_sink:
        ff_sink sink
    int ff_object_open(const char *data_path, const char *map_path, bint create, uint64_t object_bytes,
                       uint32_t block_bytes, const void *identity, uint32_t identity_bytes, const uint8_t *boot_id,
                       ff_usage *usage, ff_object **out) nogil
    void ff_object_close(ff_object *self) nogil
    bint ff_object_next_missing(const ff_object *self, uint64_t offset, uint64_t end, uint64_t *start,
                                uint64_t *to) nogil
    int64_t ff_object_read(ff_object *self, uint64_t offset, void *out, size_t length, ff_verify verify,
                           bint nowait) nogil
    int ff_object_verify_block(ff_object *self, uint64_t index) nogil
    int64_t ff_object_drop_block(ff_object *self, uint64_t index, bint punch) nogil
    uint64_t ff_object_present_bytes(const ff_object *self) nogil
    bint ff_object_complete(const ff_object *self) nogil
    bint ff_object_alone(ff_object *self) nogil
    int ff_object_seal(ff_object *self, const uint8_t *boot_id) nogil
    bint ff_object_seal_holds(ff_object *self, const uint8_t *boot_id, bint trust) nogil
    void ff_object_touch(ff_object *self, uint64_t now_s) nogil
    int ff_object_sink_init(ff_object_sink *self, ff_object *object) nogil
    void ff_object_sink_free(ff_object_sink *self) nogil
    uint64_t ff_checksum(const void *data, size_t length) nogil
    size_t sizeof_object_sink() nogil
    bint object_damaged(ff_object *o) nogil
    uint64_t header_last_use(ff_object *o) nogil
    const uint32_t FF_SEALED
    uint32_t header_sealed(ff_object *o) nogil
    uint64_t object_bad_blocks(ff_object *o) nogil
    int object_fd(ff_object *o) nogil
    void object_pin(ff_object *o, uint64_t i, int by) nogil


VERIFY_FIRST, VERIFY_ALWAYS, VERIFY_NEVER = range(3)


def checksum(const unsigned char[::1] data not None):
    """XXH3-64 of `data`, as the cache keeps it."""
    cdef uint64_t result
    cdef const void *base = &data[0] if data.shape[0] > 0 else <const void *>b""
    cdef size_t length = data.shape[0]
    with nogil:
        result = ff_checksum(base, length)
    return result


cdef int fail(int64_t code) except -1:
    raise OSError(<int>-code, os.strerror(<int>-code))


cdef class ObjectFile:
    """One version of an object in a level, open. Thread-safe, but for `close`.

    Raises OSError: ENOENT (not there, `create` false), EUCLEAN (there, but not of this format, identity or size),
    EBUSY (locked by another process for too long), EINVAL (sizes that no version may have), or the disk's own.
    """

    def __cinit__(self, bytes data_path not None, bytes map_path not None, *, bint create, uint64_t object_bytes,
                  uint32_t block_bytes, bytes identity not None, bytes boot_id not None, LevelUsage usage not None):
        self._object = NULL
        self._users = 0
        self._closing = False
        self._usage = usage
        self._boot_id = boot_id
        if len(boot_id) != 16:
            raise ValueError("a boot id has 16 bytes")
        cdef const char *data_name = data_path
        cdef const char *map_name = map_path
        cdef const char *identity_base = identity
        cdef uint32_t identity_bytes = len(identity)
        cdef const uint8_t *boot = <const uint8_t *><const char *>boot_id
        cdef int error
        with nogil:
            error = ff_object_open(data_name, map_name, create, object_bytes, block_bytes, identity_base,
                                   identity_bytes, boot, usage.usage, &self._object)
        if error != 0:
            fail(error)
        self.size_bytes = self._object.object_bytes
        self.block_bytes = self._object.block_bytes
        self.block_count = self._object.block_count

    def __dealloc__(self):
        if self._object != NULL:
            ff_object_close(self._object)
            self._object = NULL

    cdef ff_object *_open(self) except NULL:
        if self._object == NULL or self._closing:
            raise ValueError("the object file is closed")
        return self._object

    cdef ff_object *use(self) except NULL:
        cdef ff_object *object = self._open()
        self._users += 1
        return object

    cdef void leave(self) noexcept:
        self._users -= 1
        self._close_if_free()

    def fileno(self):
        """The data file's descriptor; it stays the object's."""
        return object_fd(self._open())

    def next_missing(self, uint64_t offset, uint64_t end):
        """The first absent run of [offset, end) as (from, to), widened to sub-blocks; None when all is there."""
        cdef uint64_t start, stop
        if ff_object_next_missing(self._open(), offset, end, &start, &stop):
            return start, stop
        return None

    def read(self, uint64_t offset, size_t length, *, int verify=FF_VERIFY_FIRST, bint nowait=False):
        """The bytes [offset, offset + length), cut at the object's end.

        None when some are absent, or a block was wrong (it is dropped then), or the disk failed: all of that is a
        miss. Raises BlockingIOError when `nowait` and the answer would need the disk or a checksum; without `nowait`
        it blocks, without the interpreter's lock.
        """
        cdef ff_object *object = self._open()
        if offset >= self.size_bytes:
            return b""
        if length > self.size_bytes - offset:
            length = self.size_bytes - offset
        result = PyBytes_FromStringAndSize(NULL, length)
        cdef char *out = PyBytes_AS_STRING(result)
        cdef int64_t n
        with nogil:
            n = ff_object_read(object, offset, out, length, <ff_verify>verify, nowait)
        if n == <int64_t>length:
            return result
        if n == -errno.EAGAIN:
            raise BlockingIOError(errno.EAGAIN, "would wait for the disk")
        return None

    def sink(self):
        """A new sink that writes into this version, for one job."""
        return ObjectSink(self)

    def verify_block(self, uint64_t index):
        """Compares one block with its checksum: True right, False wrong (dropped and counted), None not complete.

        A block that the disk cannot give is dropped and counted too, and raises OSError.
        """
        cdef ff_object *object = self._open()
        cdef int result
        with nogil:
            result = ff_object_verify_block(object, index)
        if result == -errno.EBADMSG:
            return False
        if result < 0:
            fail(result)
        return True if result == 1 else None

    def drop_block(self, uint64_t index, *, bint punch):
        """Makes one block absent; the bytes it had. With `punch` the disk gets its space back.

        Raises OSError: EBUSY while somebody reads or writes it; EPERM with `punch` when the version is sealed or ever was.
        """
        cdef ff_object *object = self._open()
        cdef int64_t result
        if index >= self.block_count:
            raise IndexError(index)
        with nogil:
            result = ff_object_drop_block(object, index, punch)
        if result < 0:
            fail(result)
        return result

    def alone(self):
        """Whether nobody else has the version open; nobody can then until this is closed. Close it either way."""
        return bool(ff_object_alone(self._open()))

    def seal(self):
        """Seals the version, when every block is complete and right; says whether it did.

        Compares what was not compared yet, and waits for the disk; raises OSError.
        """
        cdef ff_object *object = self._open()
        cdef const uint8_t *boot = <const uint8_t *><const char *>self._boot_id
        cdef int error
        with nogil:
            error = ff_object_seal(object, boot)
        if error == -errno.EINVAL or error == -errno.EBADMSG:
            return False
        if error != 0:
            fail(error)
        return True

    def seal_holds(self, *, bint trust):
        """Whether the seal is whole and of this boot; with `trust` all blocks then count as verified."""
        cdef const uint8_t *boot = <const uint8_t *><const char *>self._boot_id
        return bool(ff_object_seal_holds(self._open(), boot, trust))

    def touch(self, uint64_t now_s):
        """Notes a use, for eviction."""
        ff_object_touch(self._open(), now_s)

    @property
    def damaged(self):
        """Whether the map was cut short, or could not be read, while it was mapped: all is a miss from then on."""
        return bool(object_damaged(self._open()))

    @property
    def complete(self):
        """Whether every byte is present."""
        return bool(ff_object_complete(self._open()))

    @property
    def sealed(self):
        """Whether the seal is there; `seal_holds` looks at the file, too."""
        return header_sealed(self._open()) == FF_SEALED

    @property
    def was_sealed(self):
        """Whether it is sealed or ever was: then a kernel may read the file by itself, and nothing is punched."""
        return header_sealed(self._open()) != 0

    @property
    def present_bytes(self):
        return ff_object_present_bytes(self._open())

    @property
    def last_use_s(self):
        return header_last_use(self._open())

    @property
    def bad_blocks(self):
        return object_bad_blocks(self._open())

    def pin_for_test(self, uint64_t index, int by):
        """Adds to a block's pins as a process would that died inside a read."""
        if index >= self.block_count:
            raise IndexError(index)
        object_pin(self._open(), index, by)

    def close(self):
        """Ends the use of the version and its lock. No other call may be under way.

        With sinks or contents left the files stay open, and locked, until the last of them is gone.
        """
        self._closing = True
        self._close_if_free()

    cdef void _close_if_free(self) noexcept:
        if self._closing and self._users == 0 and self._object != NULL:
            ff_object_close(self._object)
            self._object = NULL


@cython.no_gc_clear
cdef class ObjectSink(Sink):
    """Writes a job's bytes into an ObjectFile, and marks what is whole as present. It keeps the file open."""

    cdef ff_object_sink *_state
    cdef ObjectFile _file
    cdef bint _counted

    def __cinit__(self, ObjectFile file not None):
        self._state = NULL
        self._counted = False
        self._file = file
        self._state = <ff_object_sink *>calloc(1, sizeof_object_sink())
        if self._state == NULL or ff_object_sink_init(self._state, file._open()) != 0:
            raise MemoryError()
        file.use()
        self._counted = True
        self.sink = &self._state.sink

    def __dealloc__(self):
        self.sink = NULL
        if self._state != NULL:
            ff_object_sink_free(self._state)
            free(self._state)
            self._state = NULL
        if self._counted:
            self._file.leave()

    def write(self, uint64_t offset, const unsigned char[::1] data not None):
        """Takes bytes that came another way than through the engine (a copy from another level, a test)."""
        cdef int error
        cdef const void *base = &data[0] if data.shape[0] > 0 else NULL
        cdef size_t length = data.shape[0]
        with nogil:
            error = sink_write(self.sink, offset, base, length)
        if error != 0:
            fail(error)


cdef extern from *:
    """
    static int sink_write(ff_sink *sink, uint64_t offset, const void *data, size_t length) {
        return length == 0 ? 0 : sink->write(sink, offset, data, length);
    }
    """
    int sink_write(ff_sink *sink, uint64_t offset, const void *data, size_t length) nogil
