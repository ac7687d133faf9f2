"""The fetch engine: ranges of objects into sinks, by native threads that never take the interpreter's lock."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Literal, NamedTuple

from fluidfs._native.sink import Sink

class Status(IntEnum):
    """How a job ended."""

    OK = 0
    CHANGED = 1
    """The object is not, or no longer, the version and size that were asked for."""
    NOT_FOUND = 2
    DENIED = 3
    """No permission; or credentials that are wrong or expired (`code` is then ExpiredToken or the like)."""
    REDIRECT = 4
    """Another region or host has the object; `region` says which, if the server did."""
    SLOW_DOWN = 5
    """The server asks for fewer requests, for `retry_after_s` if that is not 0."""
    SERVER = 6
    """Any other 5xx."""
    HTTP = 7
    """Any other HTTP status."""
    CONNECT = 8
    """No connection: name, TCP, proxy, or too slow at any of these."""
    TLS = 9
    """The peer's certificate or its TLS is not acceptable; trying again does not help."""
    TIMEOUT = 10
    """Connected, but the bytes stopped coming, or dripped (fewer than 4 KiB within the stall timeout)."""
    TRUNCATED = 11
    """The body ended, or the connection broke, before the range's last byte."""
    PROTOCOL = 12
    """What the server sent is no answer to the request."""
    SINK = 13
    """The sink did not take the bytes; `errno` is its."""
    CANCELLED = 14
    IO = 15
    """Reading a file failed with `errno`."""

class Completion(NamedTuple):
    """What became of a job so far.

    Of `kind` "progress" only `ticket` and `bytes_done` tell something. "done" is a ticket's last, and then `bytes_done`
    bytes from the range's start on are in the sink, whatever `status` is.
    """

    ticket: int
    kind: Literal["progress", "done"]
    status: Status
    errno: int
    """0 where none applies."""
    http_status: int
    """0 where no answer came."""
    code: str
    """Of an S3 error body, such as "NoSuchKey"; or ""."""
    detail: str
    """One line for a log; holds no secret."""
    bytes_done: int
    retry_after_s: float
    region: str
    """Where the server says that the bucket is; or ""."""

class EngineStatistics(NamedTuple):
    """Totals since the engine started, and its load now (the last two)."""

    bytes_received: int
    """Of bodies and files; those that a sink then refused included."""
    requests_sent: int
    connections_opened: int
    connections_reused: int
    in_flight: int
    """Jobs queued or running."""
    busy_workers: int

class Endpoint:
    """A place that ranges are fetched from, with its idle connections. Made by an Engine; goes with that one only."""

    def set_credentials(self, access_key: str | None, secret_key: str | None, token: str | None) -> None:
        """Replaces what requests are signed with; None for both keys is anonymous, as a new endpoint is.

        A request uses one set throughout. The replaced secrets are zeroed when the last request that uses them is
        written. Raises ValueError for what cannot be sent in a header, or on a file endpoint.
        """

class Engine:
    """Native worker threads with one pool of work.

    Any thread may call any method. No method but `close` waits for a job. An engine that is dropped closes itself.
    """

    def __init__(self, *, workers: int, chunk_bytes: int = 262144) -> None:
        """Starts `workers` threads (1 to 64), each with a buffer of `chunk_bytes` (a multiple of 64 KiB).

        Sinks get chunks of that size, but for the first of a range, of 64 KiB, and the last. Raises ValueError, or
        OSError when threads cannot be started.
        """

    def fileno(self) -> int:
        """A descriptor that is readable when `drain` has something. The engine's: only to be polled."""

    def http_endpoint(
        self,
        *,
        host: str,
        port: int,
        tls: bool,
        host_header: str,
        ca_file: str | None,
        region: str,
        headers: Sequence[tuple[str, str]],
        proxy: tuple[str, int] | None,
        connect_timeout_s: float,
        stall_timeout_s: float,
    ) -> Endpoint:
        """An endpoint of an S3 server, anonymous until it has credentials.

        `host` is a name, or an address without brackets, and what a certificate must name; `ca_file` None trusts the
        system's authorities. `headers` (lower case, at most 32) are sent and signed with each request. A `proxy` is
        asked for a tunnel if `tls`, else it is sent absolute URIs. `connect_timeout_s` covers name, TCP, proxy and TLS
        together; `stall_timeout_s` the wait for an answer and for each 4 KiB more. Raises ValueError for what cannot
        be sent, and for certificates that cannot be read.
        """

    def file_endpoint(self, *, root: str) -> Endpoint:
        """An endpoint of the files under the directory `root`, and of none outside. Raises OSError without it."""

    def submit(
        self,
        endpoint: Endpoint,
        *,
        target: bytes,
        offset: int,
        length: int,
        size: int,
        version: str,
        sink: Sink,
        urgent: bool,
    ) -> int:
        """Queues the fetch of `length` > 0 bytes from `offset` on and returns its ticket.

        `target` is a percent-encoded path that starts with `/` (a query must be canonical), or a relative path of a
        file. `size` and `version` are what the object must have; version "" accepts any. Urgent jobs go before all
        that are not. The sink and the endpoint are referenced until the "done" completion is drained. Raises
        ValueError, or RuntimeError after `close`.
        """

    def drain(self) -> list[Completion]:
        """What happened since the last call, oldest first, each ticket at most once."""

    def cancel(self, ticket: int) -> None:
        """Ends a job with CANCELLED soon, unless it is done or ends first. Its completion is drained as any other's.

        A job that no worker has begun ends before this returns: its sink's `end` then runs in this thread, without
        the interpreter's lock. A ticket that is unknown or done is ignored.
        """

    def statistics(self) -> EngineStatistics:
        """The engine's figures now."""

    def close(self) -> None:
        """Cancels all jobs and joins the threads; what is left to drain can still be drained. May be called twice."""

def sign_get(
    *, target: bytes, headers: Sequence[tuple[str, str]], access_key: str, secret_key: str, region: str, date: str
) -> str:
    """The Authorization header of a GET with these signed headers, at `date` (YYYYMMDDThhmmssZ). For tests."""

def open_beneath(root_fd: int, path: bytes, *, resolved_by_kernel: bool) -> int:
    """Opens a file as a file endpoint does, by either of its two ways; raises OSError. For tests."""
