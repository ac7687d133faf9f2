"""The Protocol that every object store fulfils, with the values that cross it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from fluidfs.model import ListPage, ObjectInfo

# A version that begins with this was made up from time and size, because the store gave no ETag: it can be compared,
# but not be sent as a condition (`If-Match`). No server that we know begins an ETag with it.
UNTAGGED = "@"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What requests are signed with, at one moment.

    `expires_at` is in seconds since the epoch, None for credentials that do not expire. The secrets are left out of
    the repr, so that no log line shows them.
    """

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class HttpTransport:
    """All that native code needs, credentials aside, to GET ranges of this store's objects.

    `host` and `port` are what to connect to, `host_header` what to send and sign; `ca_file` None means the system's
    certificates. `headers` are to be sent and signed with every GET, names in lower case; an SSE-C key is among
    them, so the repr leaves them out. `proxy` is a host and port that tunnels with CONNECT (or, without TLS, takes
    absolute URIs).
    """

    host: str
    port: int
    tls: bool
    host_header: str
    ca_file: str | None
    region: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    proxy: tuple[str, int] | None


@dataclass(frozen=True, slots=True)
class FileTransport:
    """Objects are files under `root`, an absolute directory."""

    root: str


class Store(Protocol):
    """An object store, as far as names and versions go. Bytes travel by `transport`, in native code.

    Methods block and may be called from several threads at once. They raise `fluidfs.errors.StoreError`s and nothing
    else. Keys are relative to the bucket or root, not to the prefix that a source names.
    """

    @property
    def identity(self) -> str:
        """The key space, in a form that is equal for all ways to name it: `s3+http://127.0.0.1:8333/bucket`."""
        ...

    @property
    def transport(self) -> HttpTransport | FileTransport:
        """How to reach the bytes."""
        ...

    def probe(self) -> None:
        """Return if the source can be listed; otherwise raise the error that says in one line what to change."""
        ...

    def head(self, key: str) -> ObjectInfo:
        """The present version of `key`. Raises ObjectNotFound."""
        ...

    def list_page(self, prefix: str, *, delimiter: str = "", token: str | None = None, limit: int = 1000) -> ListPage:
        """Up to `limit` keys and folded prefixes that begin with `prefix`, in the order of their UTF-8 bytes.

        `token` is the `next_token` of the page before. A page may hold fewer names than `limit` and still not be the
        last: only `next_token` tells. `delimiter` is "" or "/".
        """
        ...

    def target(self, key: str) -> bytes:
        """What `transport` calls the object: a percent-encoded absolute path, or a path relative to the root."""
        ...

    def credentials(self) -> Credentials | None:
        """The credentials of this moment, refreshed where they can be; None when requests are not signed."""
        ...
