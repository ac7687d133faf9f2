"""A whole, small Store that lives in a dict: for tests of what stands above stores, with every request on record."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass

from fluidfs.errors import ObjectNotFound, StoreError
from fluidfs.model import ListPage, ObjectInfo
from fluidfs.store.base import Credentials, FileTransport, HttpTransport

_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Request:
    """One call that reached the store."""

    verb: str  # "list" or "head"
    key: str
    delimiter: str = ""
    token: str | None = None


class MemoryStore:
    """Objects in memory, listed as S3 lists them. Thread-safe, as a Store must be.

    `page_keys` bounds every page, however many keys were asked for. `fail_with` is called for each request, and what
    it returns, if anything, is raised. `before_answer` runs inside each request, in its thread, after the answer has
    been made: a test can hold requests there.
    """

    def __init__(
        self,
        objects: dict[str, bytes] | None = None,
        *,
        page_keys: int = 1000,
        identity: str = "memory",
        transport: HttpTransport | FileTransport | None = None,
    ) -> None:
        self.requests: list[Request] = []
        self.fail_with: Callable[[Request], StoreError | None] = lambda _request: None
        self.before_answer: Callable[[Request], None] = lambda _request: None
        self.identity = identity
        self.transport = FileTransport("/nonexistent") if transport is None else transport
        self._page_keys = page_keys
        self._objects: dict[str, tuple[bytes, ObjectInfo]] = {}
        self._lock = threading.Lock()
        self._writes = 0
        for key, body in (objects or {}).items():
            self.put(key, body)

    def put(self, key: str, body: bytes) -> ObjectInfo:
        """Write an object, or overwrite it; its version is an MD5, as with S3, its time the number of the write."""
        with self._lock:
            self._writes += 1
            version = hashlib.md5(body, usedforsecurity=False).hexdigest()
            info = ObjectInfo(key, len(body), self._writes * _NS, version)
            self._objects[key] = (body, info)
            return info

    def delete(self, key: str) -> None:
        """Remove an object."""
        with self._lock:
            del self._objects[key]

    def body(self, key: str) -> bytes:
        """The bytes of an object, without a request being counted."""
        return self._objects[key][0]

    def probe(self) -> None:
        """A memory can always be listed."""

    def head(self, key: str) -> ObjectInfo:
        """The present version of `key`. Raises ObjectNotFound."""
        request = self._note(Request("head", key))
        with self._lock:
            found = self._objects.get(key)
        self.before_answer(request)
        if found is None:
            raise ObjectNotFound(f"no object {key!r}")
        return found[1]

    def list_page(self, prefix: str, *, delimiter: str = "", token: str | None = None, limit: int = 1000) -> ListPage:
        """As S3 does it: a key or folded prefix is one name of the page; a token is the last name given."""
        request = self._note(Request("list", prefix, delimiter, token))
        names: dict[str, ObjectInfo | None] = {}
        with self._lock:
            for key in sorted(self._objects, key=_utf8):
                if key.startswith(prefix):
                    head, separator, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
                    names[prefix + head + separator if separator else key] = (
                        None if separator else self._objects[key][1]
                    )
        wanted = [name for name in names if token is None or _utf8(name) > _utf8(token)]
        given = wanted[: min(limit, self._page_keys)]
        self.before_answer(request)
        return ListPage(
            tuple(info for name in given if (info := names[name]) is not None),
            tuple(name for name in given if names[name] is None),
            given[-1] if len(wanted) > len(given) else None,
        )

    def target(self, key: str) -> bytes:
        """The key's own bytes."""
        return _utf8(key)

    def credentials(self) -> Credentials | None:
        """None: nothing is signed."""
        return None

    def _note(self, request: Request) -> Request:
        self.requests.append(request)
        error = self.fail_with(request)
        if error is not None:
            raise error
        return request


def _utf8(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")
