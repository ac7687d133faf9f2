# cython: language_level=3
"""The native name table, as Python sees it; name_table.h has the contracts."""

import os
import time
from collections import namedtuple

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport ENAMETOOLONG
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t, uint32_t, uint64_t

ROOT_NODE = 1
NAME_BYTES_MAX = FF_NAME_BYTES_MAX

cdef enum:
    GONE_AT_ONCE = 256
    DUE_AT_ONCE = 64

Shown = namedtuple(
    "Shown",
    "node ino mode nlink uid gid size_bytes blocks mtime_ns name_valid_ns attributes_valid_ns",
)
Opened = namedtuple("Opened", "listing good_until_ns unchanged")


cdef class _Borrowed:
    """A listing whose buffers C reads: `ends` cannot be resized while this lives, `records` are bytes."""

    cdef object listing
    cdef bytes records
    cdef Py_buffer ends
    cdef bint viewing
    cdef ff_listing *native

    def __cinit__(self, listing, bytes records not None, ends):
        self.listing = listing
        self.records = records
        self.native = NULL
        self.viewing = False
        PyObject_GetBuffer(ends, &self.ends, PyBUF_SIMPLE)
        self.viewing = True

    def __dealloc__(self):
        if self.viewing:
            PyBuffer_Release(&self.ends)


cdef object _failed(int64_t error):
    return OSError(-error, os.strerror(-error))


cdef object _shown(uint64_t node, const fuse_attr *attr, uint64_t name_valid_ns, uint64_t attributes_valid_ns):
    mtime_ns = <int64_t>attr.mtime * 1_000_000_000 + attr.mtimensec
    return Shown(node, attr.ino, attr.mode, attr.nlink, attr.uid, attr.gid, attr.size, attr.blocks, mtime_ns,
                 name_valid_ns, attributes_valid_ns)


cdef object _entry_shown(const fuse_entry_out *entry):
    return _shown(entry.nodeid, &entry.attr, entry.entry_valid * 1_000_000_000 + entry.entry_valid_nsec,
                  entry.attr_valid * 1_000_000_000 + entry.attr_valid_nsec)


cdef void _note_change(void *context, uint64_t parent, const char *name, size_t name_bytes) noexcept nogil:
    with gil:
        (<list>context).append(PyBytes_FromStringAndSize(name, name_bytes))


# What its nodes refer to is needed until they are gone.
@cython.no_gc_clear
cdef class NameTable:
    """The nodes that the kernel knows. Thread-safe.

    A listing is any object whose property `packed` is (records, ends), as fluidfs.meta.listing describes them: `bytes`
    and an immutable buffer of 4 or 8 bytes an item. It is kept alive while it is in use, and until `collect` then.

    `entry_of(path, size, mtime_ns, version)` makes what `entry` returns; `size` is -1 for a directory. `clock` tells
    the time in nanoseconds on CLOCK_MONOTONIC. Methods raise OSError with the errnos that name_table.h has: ENODATA
    for what Python is to be asked for, ESTALE for a node that is not known.
    """

    def __cinit__(self, *, uint32_t uid, uint32_t gid, uint32_t file_mode, uint32_t dir_mode, int64_t root_mtime_ns,
                  entry_of, clock=time.monotonic_ns):
        cdef ff_ownership ownership = ff_ownership(uid, gid, file_mode, dir_mode, root_mtime_ns)
        self._entry_of = entry_of
        self._clock = clock
        self._borrowed = {}
        self._by_listing = {}
        self.table = ff_names_new(&ownership)
        if self.table == NULL:
            raise MemoryError()

    def __dealloc__(self):
        ff_names_free(self.table)
        self.table = NULL

    # ---- time

    cdef int64_t _now(self) except? -1:
        return self._clock()

    cdef int64_t _in(self, double seconds) except? -1:
        """The time in so many seconds; far away is for ever."""
        cdef int64_t now = self._now()
        cdef double ns = seconds * 1e9
        if ns >= <double>(INT64_MAX // 2):
            return INT64_MAX
        if ns <= <double>(INT64_MIN // 2):
            return INT64_MIN
        return now + <int64_t>ns

    # ---- listings

    cdef ff_listing *borrow(self, object listing) except NULL:
        cdef _Borrowed borrowed = self._by_listing.get(id(listing))
        if borrowed is not None and ff_listing_hold_if_used(borrowed.native):
            return borrowed.native
        records, ends = listing.packed
        borrowed = _Borrowed(listing, records, ends)
        cdef size_t item_bytes = borrowed.ends.itemsize
        if item_bytes != 4 and item_bytes != 8:
            raise ValueError("ends of 4 or 8 bytes make a listing")
        cdef const char *base = PyBytes_AS_STRING(borrowed.records)
        cdef size_t records_bytes = PyBytes_GET_SIZE(borrowed.records)
        cdef size_t count = borrowed.ends.len // item_bytes
        with nogil:
            borrowed.native = ff_names_listing(self.table, base, records_bytes, borrowed.ends.buf, item_bytes == 8,
                                               count)
        if borrowed.native == NULL:
            raise ValueError("these buffers are no listing")
        self._borrowed[borrowed.native.id] = borrowed
        self._by_listing[id(listing)] = borrowed
        return borrowed.native

    cdef object listing_of(self, const ff_listing *listing):
        return (<_Borrowed>self._borrowed[listing.id]).listing

    def collect(self):
        """Lets go of listings that nothing needs any more; how many. `learn` and `sweep` do it as well."""
        cdef uint64_t ids[GONE_AT_ONCE]
        cdef size_t count = GONE_AT_ONCE, i
        cdef _Borrowed borrowed
        collected = 0
        while count == GONE_AT_ONCE:
            # With the interpreter's lock: `borrow` must not meet a structure that is being freed.
            count = ff_names_gone(self.table, ids, GONE_AT_ONCE)
            for i in range(count):
                borrowed = self._borrowed.pop(ids[i])
                if self._by_listing.get(id(borrowed.listing)) is borrowed:
                    del self._by_listing[id(borrowed.listing)]
            collected += count
        return collected

    @property
    def listings(self):
        """How many listings are kept alive."""
        return len(self._borrowed)

    # ---- what is known of directories

    def learn(self, uint64_t directory, listing, *, double good_for_s, double due_in_s):
        """The directory's listing from now on; the names that the kernel knows for something that they are not now."""
        cdef int64_t good_until_ns = self._in(good_for_s), due_ns = self._in(due_in_s)
        cdef list changed = []
        cdef void *context = <void *>changed
        cdef int error
        cdef ff_listing *borrowed = self.borrow(listing)
        with nogil:
            error = ff_names_learn(self.table, directory, borrowed, good_until_ns, due_ns, _note_change, context)
            ff_names_drop_listing(self.table, borrowed)
        self.collect()
        if error != 0:
            raise _failed(error)
        return changed

    def expire(self, uint64_t directory):
        """Nothing that was known of the directory is answered any more."""
        ff_names_expire(self.table, directory)

    def sweep(self, double before_age_s):
        """Drops what expired longer ago than so many seconds, and what only lived for it."""
        cdef int64_t before_ns = self._in(-before_age_s)
        with nogil:
            ff_names_sweep(self.table, before_ns)
        self.collect()

    def take_due(self):
        """Directories in use whose listings should be renewed, each named once until it is learnt again."""
        cdef uint64_t ids[DUE_AT_ONCE]
        cdef size_t count = DUE_AT_ONCE, i
        due = []
        while count == DUE_AT_ONCE:
            count = ff_names_take_due(self.table, ids, DUE_AT_ONCE)
            for i in range(count):
                due.append(ids[i])
        return due

    def any_due(self):
        """Whether `take_due` would name any."""
        return ff_names_any_due(self.table)

    # ---- requests

    def lookup(self, uint64_t parent, bytes name not None):
        """LOOKUP. `node` is 0 where there is no such name."""
        cdef fuse_entry_out entry
        cdef int error = ff_names_lookup(self.table, parent, name, len(name), self._now(), &entry)
        if error != 0:
            raise _failed(error)
        return _entry_shown(&entry)

    def found(self, uint64_t parent, listing, size_t index, *, double good_for_s):
        """LOOKUP, answered by a listing that need not be the directory's."""
        cdef fuse_entry_out entry
        cdef int64_t now_ns = self._now(), good_until_ns = self._in(good_for_s)
        cdef ff_listing *borrowed = self.borrow(listing)
        cdef int error = ff_names_found(self.table, parent, borrowed, index, now_ns, good_until_ns, &entry)
        ff_names_drop_listing(self.table, borrowed)
        if error != 0:
            raise _failed(error)
        return _entry_shown(&entry)

    def attributes(self, uint64_t node):
        """GETATTR."""
        cdef fuse_attr_out out
        cdef int error = ff_names_attributes(self.table, node, &out)
        if error != 0:
            raise _failed(error)
        return _shown(node, &out.attr, 0, out.attr_valid * 1_000_000_000 + out.attr_valid_nsec)

    def forget(self, uint64_t node, uint64_t count=1):
        """FORGET."""
        ff_names_forget(self.table, node, count)

    def open_directory(self, uint64_t directory):
        """OPENDIR: the listing, when it expires, and whether the directory was last opened with the same one."""
        cdef ff_listing *native
        cdef int64_t good_until_ns
        cdef c_bool unchanged
        cdef int error = ff_names_open_directory(self.table, directory, self._now(), &native, &good_until_ns,
                                                 &unchanged)
        if error != 0:
            raise _failed(error)
        listing = self.listing_of(native)
        ff_names_drop_listing(self.table, native)
        return Opened(listing, good_until_ns, unchanged)

    def note_opened(self, uint64_t directory, listing):
        """OPENDIR, answered by a listing that need not be the directory's; whether it is the one of the last time."""
        cdef c_bool unchanged
        cdef ff_listing *borrowed = self.borrow(listing)
        cdef int error = ff_names_note_opened(self.table, directory, borrowed, &unchanged)
        ff_names_drop_listing(self.table, borrowed)
        if error != 0:
            raise _failed(error)
        return unchanged

    def read_directory(self, uint64_t directory, listing, uint64_t offset, *, bint plus, double good_for_s,
                       size_t capacity):
        """READDIR or READDIRPLUS, as the kernel is answered: at most `capacity` bytes."""
        cdef int64_t now_ns = self._now(), good_until_ns = self._in(good_for_s)
        result = PyBytes_FromStringAndSize(NULL, capacity)
        cdef char *out = PyBytes_AS_STRING(result)
        cdef ff_listing *borrowed = self.borrow(listing)
        cdef size_t used
        with nogil:
            used = ff_names_read_directory(self.table, directory, borrowed, offset, plus, now_ns, good_until_ns, out,
                                           capacity)
            ff_names_drop_listing(self.table, borrowed)
        return result[:used]

    # ---- nodes

    def path(self, uint64_t node):
        """The path that the node has, or had, below the mount; the root's is "". Raises OSError(ESTALE)."""
        return os.fsdecode(self._path(node))

    cdef bytes _path(self, uint64_t node):
        cdef size_t capacity = 512
        cdef int64_t length = -ENAMETOOLONG
        while length == -ENAMETOOLONG:
            capacity *= 2
            path = PyBytes_FromStringAndSize(NULL, capacity)
            length = ff_names_path(self.table, node, PyBytes_AS_STRING(path), capacity)
        if length < 0:
            raise _failed(length)
        return path[:length]

    def entry(self, uint64_t node):
        """What `entry_of` makes of the node's path and record. Raises OSError: ESTALE, and EISDIR for the root."""
        cdef ff_listing *native
        cdef size_t index
        path = os.fsdecode(self._path(node))
        cdef int error = ff_names_record(self.table, node, &native, &index)
        if error != 0:
            raise _failed(error)
        cdef ff_record record = ff_listing_record(native, index)
        version = os.fsdecode(PyBytes_FromStringAndSize(record.version, record.version_bytes))
        ff_names_drop_listing(self.table, native)
        return self._entry_of(path, record.size, record.mtime_ns, version)

    def at(self, str path not None):
        """The node that has a path now; None: the table has none."""
        cdef bytes encoded = os.fsencode(path)
        cdef uint64_t node = ff_names_at(self.table, encoded, len(encoded))
        return node if node != 0 else None

    def size(self, uint64_t node):
        """A file's size in bytes. Raises OSError: ESTALE, EISDIR."""
        cdef int64_t size = ff_names_size(self.table, node)
        if size < 0:
            raise _failed(size)
        return size

    # ---- measure

    @property
    def known(self):
        """How many nodes the kernel knows, the root included."""
        return ff_names_known(self.table)

    @property
    def memory_bytes(self):
        """What the table takes, without the listings' buffers."""
        return ff_names_memory(self.table)
