# cython: language_level=3
"""The data plane of a mount, as Python sees it; relay.h has the contracts."""

import errno
import os
from types import MappingProxyType
from typing import NamedTuple

cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fluidfs._native.contents cimport Contents, ff_content, ff_content_drop, ff_contents
from fluidfs._native.names cimport NameTable, ff_listing, ff_names, ff_names_drop_listing
from fluidfs._native.objects cimport ff_verify


cdef extern from "relay.h":
    ctypedef enum ff_ask_kind:
        FF_ASK_LOOKUP, FF_ASK_DIRECTORY, FF_ASK_OPEN, FF_ASK_READ, FF_ASK_AHEAD, FF_ASK_DUE
    ctypedef struct ff_ask:
        ff_ask_kind kind
        unsigned tries
        uint64_t ticket
        uint64_t node
        uint64_t content_id
        uint64_t fh
        uint64_t offset
        uint32_t length
        uint64_t ahead_from
        uint64_t ahead_to
        uint16_t name_bytes
        char name[256]
    ctypedef struct ff_session:
        uint32_t minor
        uint64_t flags
        uint32_t max_read_bytes
        uint16_t max_background
    ctypedef struct ff_relay:
        pass
    ctypedef struct ff_relay_options:
        int device_fd
        uint32_t off
        bint wants_passthrough
        bint allow_idmap
        unsigned threads
        unsigned at_device
        unsigned workers
        unsigned spin_us
        ff_verify verify
        uint64_t small_max_bytes
        uint64_t max_window_bytes
        int64_t give_up_ns
        int64_t silence_ns
        uint8_t boot_id[16]
    const unsigned FF_OPCODES
    ctypedef struct ff_relay_facts:
        uint64_t native[64]
        uint64_t python[64]
        uint64_t read_requests
        uint64_t read_bytes
        uint64_t read_hit_bytes
        uint64_t read_errors
        uint64_t passthrough_opens
        uint64_t opens
        uint64_t given_up
        uint64_t interrupted
        uint64_t replies_failed
        uint32_t waiting
        uint32_t open_files
        uint32_t clones
        int32_t backing_error
    ff_relay *ff_relay_new(const ff_relay_options *options, ff_names *names, ff_contents *contents) nogil
    int ff_relay_start(ff_relay *self) nogil
    bint ff_relay_stop(ff_relay *self) nogil
    void ff_relay_free(ff_relay *self) nogil
    int ff_relay_take_pair(ff_relay *self) nogil
    int ff_relay_event_fd(const ff_relay *self) nogil
    bint ff_relay_ended(const ff_relay *self) nogil
    void ff_relay_beat(ff_relay *self) nogil
    size_t ff_relay_drain(ff_relay *self, ff_ask *out, size_t capacity) nogil
    void ff_relay_facts_of(ff_relay *self, ff_relay_facts *out) nogil
    const ff_session *ff_relay_session(const ff_relay *self) nogil
    void ff_relay_fail(ff_relay *self, uint64_t ticket, int error) nogil
    void ff_relay_missing(ff_relay *self, uint64_t ticket, int64_t good_for_ns) nogil
    void ff_relay_found(ff_relay *self, uint64_t ticket, ff_listing *listing, size_t index, int64_t good_for_ns) nogil
    void ff_relay_directory(ff_relay *self, uint64_t ticket, ff_listing *listing, int64_t good_for_ns) nogil
    void ff_relay_opened(ff_relay *self, uint64_t ticket, ff_content *content) nogil
    void ff_relay_retry(ff_relay *self, uint64_t ticket) nogil
    void ff_relay_give(ff_relay *self, uint64_t ticket, const void *data, size_t length) nogil
    void ff_relay_forget_name(ff_relay *self, uint64_t parent, const char *name, size_t name_bytes) nogil
    size_t ff_relay_detach_idle(ff_relay *self, int64_t idle_for_ns, size_t keep_most) nogil
    const uint32_t FF_OFF_PASSTHROUGH, FF_OFF_CLONE, FF_OFF_MAX_PAGES, FF_OFF_PARALLEL_DIROPS, FF_OFF_READDIRPLUS
    const uint32_t FF_OFF_CACHE_DIR, FF_OFF_NO_FLUSH, FF_OFF_ASYNC_READ, FF_OFF_RESEND, FF_OFF_IDMAP
    const uint32_t FF_OFF_REQUEST_TIMEOUT


# In the order of FUSE's opcodes; 0 and gaps have no name, the last counts all that are past it.
_OPCODES = (
    None, "LOOKUP", "FORGET", "GETATTR", "SETATTR", "READLINK", "SYMLINK", None, "MKNOD", "MKDIR", "UNLINK", "RMDIR",
    "RENAME", "LINK", "OPEN", "READ", "WRITE", "STATFS", "RELEASE", None, "FSYNC", "SETXATTR", "GETXATTR", "LISTXATTR",
    "REMOVEXATTR", "FLUSH", "INIT", "OPENDIR", "READDIR", "RELEASEDIR", "FSYNCDIR", "GETLK", "SETLK", "SETLKW", "ACCESS",
    "CREATE", "INTERRUPT", "BMAP", "DESTROY", "IOCTL", "POLL", "NOTIFY_REPLY", "BATCH_FORGET", "FALLOCATE",
    "READDIRPLUS", "RENAME2", "LSEEK", "COPY_FILE_RANGE", "SETUPMAPPING", "REMOVEMAPPING", "SYNCFS", "TMPFILE", "STATX",
)
_OFF = {
    "passthrough": FF_OFF_PASSTHROUGH,
    "clone": FF_OFF_CLONE,
    "max-pages": FF_OFF_MAX_PAGES,
    "parallel-dirops": FF_OFF_PARALLEL_DIROPS,
    "readdirplus": FF_OFF_READDIRPLUS,
    "cache-dir": FF_OFF_CACHE_DIR,
    "no-flush": FF_OFF_NO_FLUSH,
    "async-read": FF_OFF_ASYNC_READ,
    "resend": FF_OFF_RESEND,
    "idmap": FF_OFF_IDMAP,
    "request-timeout": FF_OFF_REQUEST_TIMEOUT,
}
FEATURES = frozenset(_OFF)
# Bits of INIT's flags, from the kernel's fuse.h.
_GRANTED = {
    "async-read": 1 << 0,
    "parallel-dirops": 1 << 18,
    "readdirplus": 1 << 13,
    "max-pages": 1 << 22,
    "passthrough": 1 << 37,
    "resend": 1 << 39,
    "idmap": 1 << 40,
    "request-timeout": 1 << 42,
}
_KINDS = ("lookup", "directory", "open", "read", "ahead", "due")
cdef enum:
    # Asks taken over in one step.
    ASKS_AT_ONCE = 64


class Ask(NamedTuple):
    kind: str
    ticket: int
    node: int
    name: bytes
    content: int
    handle: int
    offset: int
    length: int
    ahead: tuple | None
    tries: int


class Session(NamedTuple):
    minor: int
    features: frozenset
    max_read_bytes: int
    max_background: int


class Facts(NamedTuple):
    native: object
    python: object
    read_requests: int
    read_bytes: int
    read_hit_bytes: int
    read_errors: int
    opens: int
    passthrough_opens: int
    given_up: int
    interrupted: int
    replies_failed: int
    waiting: int
    open_files: int
    clones: int
    backing_errno: int


cdef int64_t nanoseconds(double seconds):
    # A year is for ever, and keeps sums of times inside 64 bits.
    return <int64_t>(min(max(seconds, 0.0), 31536000.0) * 1e9)


cdef dict by_name(const uint64_t *counts):
    named = {}
    for opcode in range(FF_OPCODES):
        if counts[opcode]:
            name = _OPCODES[opcode] if opcode < len(_OPCODES) else None
            named[name or f"OPCODE_{opcode}"] = counts[opcode]
    return named


# Its threads use what it refers to until it is freed.
@cython.no_gc_clear
cdef class Relay:
    cdef ff_relay *_relay
    cdef NameTable _names
    cdef Contents _contents
    cdef bint _stuck
    cdef bint _running

    def __cinit__(self, int device_fd, *, NameTable names not None, Contents contents not None, disabled, bint passthrough,
                  int verify, bytes boot_id not None, uint64_t small_max_bytes, uint64_t max_window_bytes,
                  unsigned threads, unsigned at_device, unsigned workers, unsigned spin_us, double give_up_s,
                  double silence_s):
        self._relay = NULL
        self._names = names
        self._contents = contents
        names._kept = contents
        self._stuck = self._running = False
        if len(boot_id) != 16:
            raise ValueError("a boot id has 16 bytes")
        if threads < 2 or at_device < 1 or workers < 1:
            raise ValueError("at least two threads, one of them at the device, and one worker")
        cdef ff_relay_options options
        options.device_fd = device_fd
        options.off = 0
        for feature in disabled:
            options.off |= <uint32_t>_OFF[feature]
        options.wants_passthrough = passthrough
        options.allow_idmap = True
        options.threads = threads
        options.at_device = at_device
        options.workers = workers
        options.spin_us = spin_us
        options.verify = <ff_verify>verify
        options.small_max_bytes = small_max_bytes
        options.max_window_bytes = max_window_bytes
        options.give_up_ns = nanoseconds(give_up_s)
        options.silence_ns = nanoseconds(silence_s)
        memcpy(options.boot_id, <const char *>boot_id, 16)
        self._relay = ff_relay_new(&options, names.table, contents.contents)
        if self._relay == NULL:
            raise MemoryError()

    def __dealloc__(self):
        if self._relay == NULL:
            return
        if self._running:
            self._stuck = not ff_relay_stop(self._relay)
        # A thread that is stuck in a disk uses it still.
        if not self._stuck:
            ff_relay_free(self._relay)

    def start(self):
        cdef int error
        with nogil:
            error = ff_relay_start(self._relay)
        if error != 0:
            raise OSError(-error, os.strerror(-error))
        self._running = True

    def stop(self):
        cdef bint ended
        if not self._running:
            return not self._stuck
        self._running = False
        with nogil:
            ended = ff_relay_stop(self._relay)
        self._stuck = not ended
        return ended

    def take_pair(self):
        cdef int fd = ff_relay_take_pair(self._relay)
        if fd < 0:
            raise ValueError("the pair was taken already")
        return fd

    def fileno(self):
        return ff_relay_event_fd(self._relay)

    @property
    def ended(self):
        return bool(ff_relay_ended(self._relay))

    @property
    def session(self):
        cdef const ff_session *session = ff_relay_session(self._relay)
        cdef uint64_t flags = session.flags
        features = frozenset(name for name, bit in _GRANTED.items() if flags & <uint64_t>bit)
        return Session(session.minor, features, session.max_read_bytes, session.max_background)

    def facts(self):
        cdef ff_relay_facts facts
        ff_relay_facts_of(self._relay, &facts)
        return Facts(
            MappingProxyType(by_name(facts.native)), MappingProxyType(by_name(facts.python)), facts.read_requests,
            facts.read_bytes, facts.read_hit_bytes, facts.read_errors, facts.opens, facts.passthrough_opens,
            facts.given_up, facts.interrupted, facts.replies_failed, facts.waiting, facts.open_files, facts.clones,
            facts.backing_error,
        )

    def beat(self):
        ff_relay_beat(self._relay)

    def drain(self):
        cdef ff_ask asks[ASKS_AT_ONCE]
        cdef size_t count, i
        drained = []
        while True:
            count = ff_relay_drain(self._relay, asks, ASKS_AT_ONCE)
            for i in range(count):
                drained.append(Ask(
                    _KINDS[<int>asks[i].kind], asks[i].ticket, asks[i].node, asks[i].name[:asks[i].name_bytes],
                    asks[i].content_id, asks[i].fh, asks[i].offset, asks[i].length,
                    (asks[i].ahead_from, asks[i].ahead_to) if asks[i].ahead_from < asks[i].ahead_to else None,
                    asks[i].tries,
                ))
            if count < ASKS_AT_ONCE:
                return drained

    def fail(self, uint64_t ticket, int errno):
        with nogil:
            ff_relay_fail(self._relay, ticket, errno)

    def missing(self, uint64_t ticket, *, double good_for_s):
        cdef int64_t good_for_ns = nanoseconds(good_for_s)
        with nogil:
            ff_relay_missing(self._relay, ticket, good_for_ns)

    def found(self, uint64_t ticket, listing, size_t index, *, double good_for_s):
        cdef int64_t good_for_ns = nanoseconds(good_for_s)
        cdef ff_listing *held = self._names.borrow(listing)
        with nogil:
            ff_relay_found(self._relay, ticket, held, index, good_for_ns)
            ff_names_drop_listing(self._names.table, held)

    def directory(self, uint64_t ticket, listing, *, double good_for_s):
        cdef int64_t good_for_ns = nanoseconds(good_for_s)
        cdef ff_listing *held = self._names.borrow(listing)
        with nogil:
            ff_relay_directory(self._relay, ticket, held, good_for_ns)
            ff_names_drop_listing(self._names.table, held)

    def opened(self, uint64_t ticket, uint64_t content):
        cdef ff_content *held = self._contents.find(content)
        with nogil:
            ff_relay_opened(self._relay, ticket, held)
            ff_content_drop(held)

    def retry(self, uint64_t ticket):
        with nogil:
            ff_relay_retry(self._relay, ticket)

    def give(self, uint64_t ticket, bytes data not None):
        cdef const char *base = data
        cdef size_t length = len(data)
        with nogil:
            ff_relay_give(self._relay, ticket, base, length)

    def forget_name(self, uint64_t parent, bytes name not None):
        cdef const char *base = name
        cdef size_t length = len(name)
        with nogil:
            ff_relay_forget_name(self._relay, parent, base, length)

    def learn(self, uint64_t node, listing, *, double good_for_s, double due_in_s):
        for name in self._names.learn(node, listing, good_for_s=good_for_s, due_in_s=due_in_s):
            self.forget_name(node, name)

    def detach_idle(self, *, double idle_for_s, size_t keep_most):
        cdef int64_t idle_for_ns = nanoseconds(idle_for_s)
        cdef size_t taken
        with nogil:
            taken = ff_relay_detach_idle(self._relay, idle_for_ns, keep_most)
        return taken
