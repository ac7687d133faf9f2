# cython: language_level=3
"""The fetch engine for Python: orders in, completions out. What happens in between is C's, without the GIL."""

import os
from collections import namedtuple
from enum import IntEnum

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport ESHUTDOWN, errno
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from fluidfs._native.sink cimport Sink


class Status(IntEnum):
    """How a job ended; source.h says what each means."""

    OK = 0
    CHANGED = 1
    NOT_FOUND = 2
    DENIED = 3
    REDIRECT = 4
    SLOW_DOWN = 5
    SERVER = 6
    HTTP = 7
    CONNECT = 8
    TLS = 9
    TIMEOUT = 10
    TRUNCATED = 11
    PROTOCOL = 12
    SINK = 13
    CANCELLED = 14
    IO = 15


Completion = namedtuple(
    "Completion",
    "ticket kind status errno http_status code detail bytes_done retry_after_s region",
    module=__name__,
)
Completion.__doc__ = "What became of a job so far; engine.pyi says what each field is."

EngineStatistics = namedtuple(
    "EngineStatistics",
    "bytes_received requests_sent connections_opened connections_reused in_flight busy_workers",
    module=__name__,
)
EngineStatistics.__doc__ = "Totals since the engine started, and its load now."

# Headers that a request has by itself, or that would change what its body is.
_RESERVED_HEADERS = frozenset(
    (
        "accept-encoding", "authorization", "connection", "content-length", "expect", "host", "if-match", "range", "te",
        "trailer", "transfer-encoding", "upgrade", "user-agent", "x-amz-content-sha256", "x-amz-date",
        "x-amz-security-token",
    )
)
_HEADER_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~")


cdef bytes _visible(str what, str text, bint spaces=False):
    """`text` as bytes that can stand in a request's head without ending its line; ValueError if they cannot."""
    if not text.isascii() or not text.isprintable() or (not spaces and " " in text):
        raise ValueError(f"{what} has characters that cannot be sent")
    return text.encode("ascii")


cdef list _checked_headers(object headers):
    checked = []
    seen = set()
    for name, value in headers:
        if not name or not _HEADER_NAME.issuperset(name) or name in _RESERVED_HEADERS or name in seen:
            raise ValueError(f"{name!r} cannot be an extra header")
        seen.add(name)
        checked.append((name.encode("ascii"), _visible(f"the value of {name}", value, True)))
    if len(checked) > <Py_ssize_t>FF_EXTRA_HEADERS_MAX:
        raise ValueError(f"more than {FF_EXTRA_HEADERS_MAX} extra headers")
    return checked


cdef ff_header *_header_table(list headers) except NULL:
    """A table of pointers into the bytes of `headers`, to be freed by the caller."""
    cdef ff_header *table = <ff_header *>calloc(len(headers) + 1, sizeof(ff_header))
    cdef Py_ssize_t i
    if table == NULL:
        raise MemoryError()
    for i in range(len(headers)):
        table[i].name = PyBytes_AS_STRING(headers[i][0])
        table[i].value = PyBytes_AS_STRING(headers[i][1])
    return table


cdef object _path_bytes(object path):
    encoded = os.fsencode(path)
    if b"\0" in encoded:
        raise ValueError("a path cannot hold a NUL")
    return encoded


@cython.final
cdef class Endpoint:
    """A place that ranges are fetched from. Made by an Engine; submit it to that one only."""

    cdef ff_source *_source
    # Names the engine without holding it, so that a dropped engine ends its jobs, which hold their endpoints.
    cdef const ff_counters *_engine
    cdef bint _http

    def __cinit__(self):
        self._source = NULL
        self._engine = NULL

    def __init__(self):
        raise TypeError("an Engine makes its endpoints")

    def __dealloc__(self):
        if self._source != NULL:
            self._source.free(self._source)
            self._source = NULL

    def set_credentials(self, access_key, secret_key, token):
        cdef bytes access = None, secret = None, session = None
        cdef const char *access_text = NULL
        cdef const char *secret_text = NULL
        cdef const char *session_text = NULL
        cdef size_t secret_length = 0
        cdef int outcome
        if not self._http:
            raise ValueError("files take no credentials")
        if (access_key is None) != (secret_key is None):
            raise ValueError("an access key goes with a secret key")
        if access_key is not None:
            access = _visible("the access key", access_key)
            secret = secret_key.encode("utf-8")
            access_text, secret_text, secret_length = access, PyBytes_AS_STRING(secret), len(secret)
            if token is not None:
                session = _visible("the session token", token)
                session_text = session
        with nogil:
            outcome = ff_http_source_set_credentials(self._source, access_text, secret_text, secret_length,
                                                     session_text)
        if outcome < 0:
            raise MemoryError()


@cython.final
cdef class Engine:
    """Worker threads that fetch ranges into sinks. See engine.pyi for the contract of each method.

    A job's owner, a pair of its sink and its endpoint, is referenced from C until its last report is taken, so that the
    garbage collector never takes a sink from under a worker.
    """

    cdef ff_engine *_engine
    cdef ff_counters *_counters
    cdef bint _closed

    def __cinit__(self, *, int workers, size_t chunk_bytes=262144):
        self._engine = NULL
        self._closed = False
        if not 1 <= workers <= FF_WORKERS_MAX:
            raise ValueError(f"workers must be between 1 and {FF_WORKERS_MAX}")
        if chunk_bytes == 0 or chunk_bytes % 65536:
            raise ValueError("chunk_bytes must be a multiple of 64 KiB")
        self._counters = ff_counters_new()
        if self._counters == NULL:
            raise MemoryError()
        self._engine = ff_engine_new(workers, chunk_bytes, self._counters)
        if self._engine == NULL:
            raise OSError(errno, os.strerror(errno))

    def __dealloc__(self):
        # With the GIL held: workers need none, and this object must not be seen by other threads any more.
        cdef ff_report report
        if self._engine != NULL and ff_engine_is_ours(self._engine):
            ff_engine_stop(self._engine)
            while ff_engine_take_report(self._engine, &report):
                if report.owner != NULL:
                    Py_DECREF(<object>report.owner)
            ff_engine_free(self._engine)
        self._engine = NULL
        ff_counters_release(self._counters)
        self._counters = NULL

    def fileno(self):
        return ff_engine_fd(self._engine)

    def http_endpoint(self, *, str host, int port, bint tls, str host_header, ca_file, str region, headers, proxy,
                      double connect_timeout_s, double stall_timeout_s):
        cdef ff_http_options options
        cdef char why[256]
        cdef Endpoint endpoint = Endpoint.__new__(Endpoint)
        cdef list checked = _checked_headers(headers)
        host_bytes = _visible("the host", host)
        host_header_bytes = _visible("the Host header", host_header)
        region_bytes = _visible("the region", region)
        ca_file_bytes = None if ca_file is None else _path_bytes(ca_file)
        proxy_bytes = None if proxy is None else _visible("the proxy", proxy[0])
        for number in (port, 1 if proxy is None else proxy[1]):
            if not 1 <= number <= 65535:
                raise ValueError(f"{number} is not a port")
        if not connect_timeout_s > 0 or not stall_timeout_s > 0:
            raise ValueError("timeouts must be positive")
        memset(&options, 0, sizeof(options))
        options.host = host_bytes
        options.port = port
        options.tls = tls
        options.host_header = host_header_bytes
        options.region = region_bytes
        options.connect_timeout_s = connect_timeout_s
        options.stall_timeout_s = stall_timeout_s
        if ca_file_bytes is not None:
            options.ca_file = ca_file_bytes
        if proxy_bytes is not None:
            options.proxy_host = proxy_bytes
            options.proxy_port = proxy[1]
        options.header_count = len(checked)
        options.headers = _header_table(checked)
        with nogil:
            endpoint._source = ff_http_source_new(&options, self._counters, why, sizeof(why))
        free(<void *>options.headers)
        if endpoint._source == NULL:
            raise ValueError((<bytes>why).decode("utf-8", "replace"))
        endpoint._http = True
        endpoint._engine = self._counters
        return endpoint

    def file_endpoint(self, *, str root):
        cdef Endpoint endpoint = Endpoint.__new__(Endpoint)
        cdef bytes path = _path_bytes(root)
        endpoint._source = ff_file_source_new(path, self._counters)
        if endpoint._source == NULL:
            raise OSError(errno, os.strerror(errno), root)
        endpoint._http = False
        endpoint._engine = self._counters
        return endpoint

    def submit(self, Endpoint endpoint not None, *, bytes target not None, uint64_t offset, uint64_t length,
               uint64_t size, str version not None, Sink sink not None, bint urgent):
        cdef ff_order order
        cdef uint64_t ticket = 0
        cdef int outcome
        cdef bytes version_bytes = _visible("the version", version)
        cdef tuple owner = (sink, endpoint)
        if endpoint._engine != self._counters or sink.sink == NULL:
            raise ValueError("the endpoint or the sink is not this engine's to use")
        if length == 0 or length > size or offset > size - length:
            raise ValueError(f"{length} bytes at {offset} are no range of {size} bytes")
        if b'"' in version_bytes or len(version_bytes) > 1024:
            raise ValueError(f"{version!r} is no version")
        if not target or b"\0" in target or (endpoint._http and not _is_http_target(target)):
            raise ValueError(f"{target!r} is no target")
        order.source = endpoint._source
        order.sink = sink.sink
        order.owner = <void *>owner
        order.range.target = PyBytes_AS_STRING(target)
        order.range.version = PyBytes_AS_STRING(version_bytes)
        order.range.offset = offset
        order.range.length = length
        order.range.size = size
        order.urgent = urgent
        # Before the job can end: its last report drops this reference.
        Py_INCREF(owner)
        with nogil:
            outcome = ff_engine_submit(self._engine, &order, &ticket)
        if outcome < 0:
            Py_DECREF(owner)
            raise MemoryError() if outcome != -ESHUTDOWN else RuntimeError("the engine is closed")
        return ticket

    def drain(self):
        cdef ff_report report
        cdef size_t left = ff_engine_acknowledge(self._engine)
        cdef list completions = []
        while left > 0 and ff_engine_take_report(self._engine, &report):
            left -= 1
            if not report.done:
                completions.append(Completion(report.ticket, "progress", _OK, 0, 0, "", "", report.bytes_done, 0.0, ""))
                continue
            Py_DECREF(<object>report.owner)
            completions.append(
                Completion(
                    report.ticket,
                    "done",
                    _STATUSES[report.result.status],
                    report.result.error,
                    report.result.http_status,
                    _text(report.result.code),
                    _text(report.result.detail),
                    report.bytes_done,
                    report.result.retry_after_s,
                    _text(report.result.region),
                )
            )
        return completions

    def cancel(self, uint64_t ticket):
        with nogil:
            ff_engine_cancel(self._engine, ticket)

    def statistics(self):
        cdef ff_engine_load load = ff_engine_measure(self._engine)
        return EngineStatistics(
            ff_counted(&self._counters.bytes_received),
            ff_counted(&self._counters.requests_sent),
            ff_counted(&self._counters.connections_opened),
            ff_counted(&self._counters.connections_reused),
            load.in_flight,
            load.busy_workers,
        )

    def close(self):
        # Others may call drain() meanwhile; a second close() returns at once.
        # A forked child has no workers to join.
        if self._closed or not ff_engine_is_ours(self._engine):
            return
        self._closed = True
        with nogil:
            ff_engine_stop(self._engine)


_OK = Status.OK
_STATUSES = tuple(Status)

cdef str _text(const char *text):
    return (<bytes>text).decode("utf-8", "replace")


cdef bint _is_http_target(bytes target):
    cdef unsigned char byte
    for byte in target:
        if not 32 < byte < 127:
            return False
    return target.startswith(b"/")


def sign_get(*, bytes target, headers, str access_key, str secret_key, str region, str date):
    """The Authorization header of a GET, for tests against botocore. `headers` are all that are signed, `date` is
    YYYYMMDDThhmmssZ."""
    cdef unsigned char key[32]
    cdef char authorization[4096]
    cdef list encoded = [(name.encode(), value.encode()) for name, value in headers]
    cdef bytes secret = secret_key.encode()
    cdef bytes access = access_key.encode()
    cdef bytes region_bytes = region.encode()
    cdef bytes date_bytes = date.encode()
    cdef ff_header *table
    cdef int outcome
    if len(date_bytes) != 16:
        raise ValueError("a date has 16 characters")
    outcome = ff_sigv4_signing_key(PyBytes_AS_STRING(secret), len(secret), date_bytes, region_bytes, key)
    if outcome == 0:
        table = _header_table(encoded)
        ff_sort_headers(table, len(encoded))
        outcome = ff_sigv4_authorize(key, access, date_bytes, region_bytes, target, table, len(encoded), authorization,
                                     sizeof(authorization))
        free(table)
    if outcome < 0:
        raise OSError(-outcome, os.strerror(-outcome))
    return (<bytes>authorization).decode("ascii")


def open_beneath(int root_fd, bytes path, *, bint resolved_by_kernel):
    """Opens a file as a file endpoint does, for tests of both its ways. Raises OSError."""
    cdef int fd = ff_open_beneath(root_fd, path, resolved_by_kernel)
    if fd < 0:
        raise OSError(-fd, os.strerror(-fd), path)
    return fd
