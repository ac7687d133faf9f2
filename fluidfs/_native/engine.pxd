# What engine.pyx uses of the C headers; those state the contracts.

from libc.stdint cimport uint16_t, uint64_t

from fluidfs._native.sink cimport ff_sink


cdef extern from "counters.h":
    ctypedef struct ff_counters:
        uint64_t bytes_received
        uint64_t requests_sent
        uint64_t connections_opened
        uint64_t connections_reused
    ff_counters *ff_counters_new() nogil
    void ff_counters_release(ff_counters *self) nogil
    uint64_t ff_counted(const uint64_t *counter) nogil


cdef extern from "sigv4.h":
    ctypedef struct ff_header:
        const char *name
        const char *value
    const size_t FF_SIGV4_KEY_BYTES
    int ff_sigv4_signing_key(const char *secret, size_t length, const char *date, const char *region,
                             unsigned char *key) nogil
    int ff_sigv4_authorize(const unsigned char *key, const char *access_key, const char *date, const char *region,
                           const char *target, const ff_header *headers, size_t count, char *out, size_t size) nogil
    void ff_sort_headers(ff_header *headers, size_t count) nogil


cdef extern from "source.h":
    ctypedef struct ff_source:
        void (*free)(ff_source *self) nogil
    ctypedef struct ff_range:
        const char *target
        const char *version
        uint64_t offset
        uint64_t length
        uint64_t size
    ctypedef struct ff_result:
        int status
        int error
        int http_status
        double retry_after_s
        char code[64]
        char region[64]
        char detail[256]


cdef extern from "http_source.h":
    ctypedef struct ff_http_options:
        const char *host
        uint16_t port
        bint tls
        const char *host_header
        const char *ca_file
        const char *region
        const ff_header *headers
        size_t header_count
        const char *proxy_host
        uint16_t proxy_port
        double connect_timeout_s
        double stall_timeout_s
    ff_source *ff_http_source_new(const ff_http_options *options, ff_counters *counters, char *why, size_t size) nogil
    int ff_http_source_set_credentials(ff_source *source, const char *access_key, const char *secret_key,
                                       size_t secret_length, const char *token) nogil


cdef extern from "http_request.h":
    const size_t FF_EXTRA_HEADERS_MAX


cdef extern from "file_source.h":
    ff_source *ff_file_source_new(const char *root, ff_counters *counters) nogil
    int ff_open_beneath(int root_fd, const char *path, bint resolved_by_kernel) nogil


cdef extern from "fetch_engine.h":
    const int FF_WORKERS_MAX
    ctypedef struct ff_engine:
        pass
    ctypedef struct ff_order:
        ff_source *source
        ff_sink *sink
        void *owner
        ff_range range
        bint urgent
    ctypedef struct ff_report:
        uint64_t ticket
        bint done
        uint64_t bytes_done
        ff_result result
        void *owner
    ctypedef struct ff_engine_load:
        uint64_t in_flight
        uint64_t busy_workers
    ff_engine *ff_engine_new(int workers, size_t chunk_bytes, ff_counters *counters) nogil
    int ff_engine_fd(const ff_engine *self) nogil
    int ff_engine_submit(ff_engine *self, const ff_order *order, uint64_t *ticket) nogil
    void ff_engine_cancel(ff_engine *self, uint64_t ticket) nogil
    size_t ff_engine_acknowledge(ff_engine *self) nogil
    bint ff_engine_take_report(ff_engine *self, ff_report *report) nogil
    ff_engine_load ff_engine_measure(ff_engine *self) nogil
    void ff_engine_stop(ff_engine *self) nogil
    bint ff_engine_is_ours(const ff_engine *self) nogil
    void ff_engine_free(ff_engine *self) nogil
