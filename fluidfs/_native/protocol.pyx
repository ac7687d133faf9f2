# cython: language_level=3
"""The pure functions of the FUSE edge, for the tests that hold them against their oracles.

The native relay calls them in C; nothing here is on the way of a request.
"""

from collections import namedtuple

from libc.stdint cimport uint16_t, uint32_t, uint64_t


cdef extern from "read_window.h":
    ctypedef struct ff_window:
        uint64_t expected
        uint64_t window_bytes
        uint64_t asked_to
    bint ff_window_plan(ff_window *self, uint64_t offset, uint64_t length, uint64_t size, uint64_t max_window_bytes,
                        uint64_t *start, uint64_t *to) nogil


cdef extern from "fuse_init.h":
    enum:
        FF_OFF_PASSTHROUGH, FF_OFF_CLONE, FF_OFF_MAX_PAGES, FF_OFF_PARALLEL_DIROPS, FF_OFF_READDIRPLUS
        FF_OFF_CACHE_DIR, FF_OFF_NO_FLUSH, FF_OFF_ASYNC_READ, FF_OFF_RESEND, FF_OFF_IDMAP, FF_OFF_REQUEST_TIMEOUT
    ctypedef struct ff_init_out:
        pass
    ctypedef struct ff_session:
        uint32_t minor
        uint64_t flags
        uint32_t max_read_bytes
        uint32_t max_write_bytes
        uint16_t max_background
    int ff_init_negotiate(const void *body, size_t length, uint32_t off, bint wants_passthrough, bint allow_idmap,
                          ff_init_out *answer, ff_session *session) nogil


OFF = {
    "PASSTHROUGH": FF_OFF_PASSTHROUGH,
    "CLONE": FF_OFF_CLONE,
    "MAX_PAGES": FF_OFF_MAX_PAGES,
    "PARALLEL_DIROPS": FF_OFF_PARALLEL_DIROPS,
    "READDIRPLUS": FF_OFF_READDIRPLUS,
    "CACHE_DIR": FF_OFF_CACHE_DIR,
    "NO_FLUSH": FF_OFF_NO_FLUSH,
    "ASYNC_READ": FF_OFF_ASYNC_READ,
    "RESEND": FF_OFF_RESEND,
    "IDMAP": FF_OFF_IDMAP,
    "REQUEST_TIMEOUT": FF_OFF_REQUEST_TIMEOUT,
}

Session = namedtuple("Session", "minor flags max_read_bytes max_write_bytes max_background")


def negotiate(bytes body not None, *, uint32_t off=0, bint wants_passthrough=True, bint allow_idmap=True):
    """What INIT's `body` is answered with: 0 or a negative errno, the answer's bytes, the session."""
    cdef const char *base = body
    cdef ff_init_out answer
    cdef ff_session session
    cdef int error = ff_init_negotiate(base, len(body), off, wants_passthrough, allow_idmap, &answer, &session)
    agreed = Session(session.minor, session.flags, session.max_read_bytes, session.max_write_bytes,
                     session.max_background)
    return error, (<const char *>&answer)[:sizeof(answer)], agreed


def plan(stream not None, uint64_t offset, uint64_t length, *, uint64_t size_bytes, uint64_t max_window_bytes):
    """`stream` (expected, window_bytes, asked_to) after a read, and what to fetch ahead: (from, to) or None."""
    cdef ff_window window
    cdef uint64_t start, to
    window.expected, window.window_bytes, window.asked_to = stream
    ahead = ff_window_plan(&window, offset, length, size_bytes, max_window_bytes, &start, &to)
    return (window.expected, window.window_bytes, window.asked_to), (start, to) if ahead else None
