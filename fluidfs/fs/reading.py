"""Reading an open file: from the cache, else through the fetcher, else straight from the store."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import trio

from fluidfs.cache.identity import VersionIdentity
from fluidfs.cache.levels import Cache
from fluidfs.cache.slabs import SmallObject
from fluidfs.cache.version import CachedVersion
from fluidfs.errors import CacheError
from fluidfs.fetch.fetcher import Fetcher
from fluidfs.fs.failure import RecentFailure
from fluidfs.metrics import Metrics
from fluidfs.model import Extent
from fluidfs.readahead.window import Stream, plan

# A block can be evicted between its arrival and its reading, or be found wrong; after so many tries the bytes are
# taken straight from the store.
CACHE_TRIES = 4


class OpenFile(Protocol):
    """An open file of either kind. `read` cuts at the end of the file; both kinds are pinned to their version."""

    async def read(self, offset: int, length: int) -> bytes:
        """The bytes. Raises ObjectChanged, StoreUnavailable and other StoreErrors."""
        ...

    def close(self) -> None:
        """Ends the use."""
        ...


async def read_without_waiting(read: Callable[..., bytes | None], limiter: trio.CapacityLimiter) -> bytes | None:
    """`read(nowait=True)`, and where that would wait for the disk, `read(nowait=False)` in a thread.

    What the page cache holds is so answered without a thread, and a disk never holds up the other readers.
    """
    try:
        return read(nowait=True)
    except BlockingIOError:
        return await trio.to_thread.run_sync(partial(read, nowait=False), limiter=limiter)


class EmptyFile:
    """A file of no bytes; nothing of it is cached or fetched."""

    async def read(self, offset: int, length: int) -> bytes:
        """Nothing."""
        del offset, length
        return b""

    def close(self) -> None:
        """Nothing to end."""


class LargeFile:
    """A handle on a version that has a file of its own in the cache."""

    def __init__(
        self, version: CachedVersion, *, cache: Cache, fetcher: Fetcher, metrics: Metrics, max_window_bytes: int
    ) -> None:
        self._version = version
        self._cache = cache
        self._fetcher = fetcher
        self._metrics = metrics
        self._max_window_bytes = max_window_bytes
        self._stream = Stream()
        self._failure = RecentFailure()

    async def read(self, offset: int, length: int) -> bytes:
        """See OpenFile."""
        size = self._version.identity.size
        length = min(length, size - offset)
        if length <= 0:
            return b""
        wanted = Extent(offset, length)
        self._read_ahead(wanted)
        for tries in range(CACHE_TRIES):
            data = await read_without_waiting(partial(self._version.read, offset, length), self._cache.disk)
            if data is not None:
                if tries == 0:
                    self._metrics.read_hit_bytes.inc(length)
                return data
            try:
                with self._failure.guarding(wanted):
                    await self._fetcher.ensure(self._version, wanted)
            except CacheError:
                break
        with self._failure.guarding(wanted):
            return await self._fetcher.read_through(self._version.identity, wanted)

    def _read_ahead(self, wanted: Extent) -> None:
        decision = plan(
            self._stream, wanted, size_bytes=self._version.identity.size, max_window_bytes=self._max_window_bytes
        )
        self._stream = decision.stream
        if decision.ahead is not None:
            # The read itself goes first, in one range with what follows: its bytes are waited for.
            start = min(wanted.offset, decision.ahead.offset)
            self._fetcher.prefetch(self._version, Extent(start, decision.ahead.end - start), first=wanted)

    def close(self) -> None:
        """See OpenFile."""
        self._cache.release(self._version)


class SmallFile:
    """A handle on a version that lies in a slab, whole."""

    def __init__(self, identity: VersionIdentity, *, cache: Cache, fetcher: Fetcher, metrics: Metrics) -> None:
        self._identity = identity
        self._cache = cache
        self._fetcher = fetcher
        self._metrics = metrics
        self._place: SmallObject | None = None
        self._failure = RecentFailure()

    async def read(self, offset: int, length: int) -> bytes:
        """See OpenFile."""
        length = min(length, self._identity.size - offset)
        if length <= 0:
            return b""
        if self._place is None:
            self._place = self._cache.find_small(self._identity)
        if self._place is not None:
            data = await read_without_waiting(
                partial(self._place.read, offset, length, always=self._cache.verify == "always"), self._cache.disk
            )
            if data is not None:
                self._metrics.read_hit_bytes.inc(length)
                return data
        with self._failure.guarding(Extent(0, self._identity.size)):
            self._place, whole = await self._fetcher.small(self._identity)
        return whole[offset : offset + length]

    def close(self) -> None:
        """See OpenFile."""
