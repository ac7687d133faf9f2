# cython: language_level=3
# What names.pyx, and the relay, use of the name table; the C headers state the contracts.

from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef extern from "<stdbool.h>":
    ctypedef bint c_bool "bool"


cdef extern from "fuse_wire.h":
    struct fuse_attr:
        uint64_t ino
        uint64_t size
        uint64_t blocks
        uint64_t mtime
        uint32_t mtimensec
        uint32_t mode
        uint32_t nlink
        uint32_t uid
        uint32_t gid
    struct fuse_entry_out:
        uint64_t nodeid
        uint64_t entry_valid
        uint64_t attr_valid
        uint32_t entry_valid_nsec
        uint32_t attr_valid_nsec
        fuse_attr attr
    struct fuse_attr_out:
        uint64_t attr_valid
        uint32_t attr_valid_nsec
        fuse_attr attr


cdef extern from "listing.h":
    ctypedef struct ff_listing:
        uint64_t id
    ctypedef struct ff_record:
        int64_t size
        int64_t mtime_ns
        const char *name
        size_t name_bytes
        const char *version
        size_t version_bytes
    const size_t FF_NAME_BYTES_MAX
    ff_record ff_listing_record(const ff_listing *self, size_t index) nogil


cdef extern from "name_table.h":
    ctypedef struct ff_names:
        pass
    ctypedef struct ff_ownership:
        uint32_t uid
        uint32_t gid
        uint32_t file_mode
        uint32_t dir_mode
        int64_t root_mtime_ns
    ctypedef void (*ff_changed)(void *context, uint64_t parent, const char *name, size_t name_bytes) noexcept nogil
    ff_names *ff_names_new(const ff_ownership *ownership) nogil
    void ff_names_free(ff_names *self) nogil
    ff_listing *ff_names_listing(ff_names *self, const void *records, size_t records_bytes, const void *ends, bint wide,
                                 size_t count) nogil
    ff_listing *ff_listing_hold(ff_listing *listing) nogil
    bint ff_listing_hold_if_used(ff_listing *listing) nogil
    void ff_names_drop_listing(ff_names *self, ff_listing *listing) nogil
    size_t ff_names_gone(ff_names *self, uint64_t *ids, size_t capacity) nogil
    int ff_names_learn(ff_names *self, uint64_t directory, ff_listing *listing, int64_t good_until_ns, int64_t due_ns,
                       ff_changed changed, void *context) nogil
    void ff_names_expire(ff_names *self, uint64_t directory) nogil
    void ff_names_sweep(ff_names *self, int64_t before_ns) nogil
    int ff_names_lookup(ff_names *self, uint64_t parent, const char *name, size_t name_bytes, int64_t now_ns,
                        fuse_entry_out *out) nogil
    int ff_names_found(ff_names *self, uint64_t parent, ff_listing *listing, size_t index, int64_t now_ns,
                       int64_t good_until_ns, fuse_entry_out *out) nogil
    int ff_names_attributes(ff_names *self, uint64_t node, fuse_attr_out *out) nogil
    void ff_names_forget(ff_names *self, uint64_t node, uint64_t count) nogil
    int ff_names_open_directory(ff_names *self, uint64_t directory, int64_t now_ns, ff_listing **out,
                                int64_t *good_until_ns, c_bool *unchanged) nogil
    int ff_names_note_opened(ff_names *self, uint64_t directory, const ff_listing *listing, c_bool *unchanged) nogil
    size_t ff_names_read_directory(ff_names *self, uint64_t directory, ff_listing *listing, uint64_t offset, bint plus,
                                   int64_t now_ns, int64_t good_until_ns, char *out, size_t capacity) nogil
    int64_t ff_names_size(ff_names *self, uint64_t node) nogil
    int64_t ff_names_path(ff_names *self, uint64_t node, char *out, size_t capacity) nogil
    int ff_names_record(ff_names *self, uint64_t node, ff_listing **listing, size_t *index) nogil
    uint64_t ff_names_at(ff_names *self, const char *path, size_t path_bytes) nogil
    size_t ff_names_take_due(ff_names *self, uint64_t *directories, size_t capacity) nogil
    bint ff_names_any_due(const ff_names *self) nogil
    size_t ff_names_known(ff_names *self) nogil
    size_t ff_names_memory(ff_names *self) nogil


cdef class NameTable:
    # Lives as long as this object; whoever hands it to C holds a reference to this object, and no reference to a
    # listing when it lets go of it.
    cdef ff_names *table
    cdef object _clock
    cdef object _entry_of
    cdef dict _borrowed
    cdef dict _by_listing
    # What nodes refer to and must not go before them: the registry of their contents.
    cdef object _kept

    cdef int64_t _now(self) except? -1
    cdef int64_t _in(self, double seconds) except? -1
    cdef bytes _path(self, uint64_t node)
    # The listing as C has it, with a reference for the caller. Kept alive until it is gone and `collect` was called.
    cdef ff_listing *borrow(self, object listing) except NULL
    # The Python object that is a listing of C's; not for copies of one record, which have none.
    cdef object listing_of(self, const ff_listing *listing)
