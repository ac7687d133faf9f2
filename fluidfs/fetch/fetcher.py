"""Bringing what is missing of a version into the cache: each byte once, however many readers wait for it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

import trio

from fluidfs._native.sink import MemorySink
from fluidfs._native.slabs import SlabSink
from fluidfs.cache.identity import VersionIdentity
from fluidfs.cache.levels import Cache
from fluidfs.cache.slabs import SmallObject
from fluidfs.cache.version import CachedVersion
from fluidfs.errors import CacheError, CacheFull, FluidfsError
from fluidfs.fetch.budget import ByteBudget
from fluidfs.fetch.ranges import cut, overlaps, subtract
from fluidfs.fetch.source import StoreSource
from fluidfs.metrics import Metrics
from fluidfs.model import Extent

log = logging.getLogger(__name__)

# One GET's range at most: from 4 MiB on, larger ranges gained nothing on any server we measured.
RANGE_BYTES = 8 << 20


@dataclass(slots=True)
class _Flight:
    """Ranges of one version that are on their way, and those who wait for news of it.

    `failures` keeps what went wrong for those who were waiting then; a reader who comes later tries anew.
    """

    ranges: dict[int, Extent] = field(default_factory=dict)
    news: trio.Event = field(default_factory=trio.Event)
    failures: list[tuple[Extent, FluidfsError]] = field(default_factory=list)
    forgotten: int = 0
    waiting: int = 0

    def announce(self) -> None:
        self.news.set()
        self.news = trio.Event()

    @property
    def failure_count(self) -> int:
        return self.forgotten + len(self.failures)

    def failure_since(self, count: int, extent: Extent) -> FluidfsError | None:
        for failed, error in self.failures[max(0, count - self.forgotten) :]:
            if overlaps(failed, extent):
                return error
        return None

    def nobody_waits(self) -> None:
        self.forgotten += len(self.failures)
        self.failures.clear()


class Fetcher:
    """Fills the cache from a source. Belongs to one trio run; jobs live in `nursery` and outlive their callers.

    Concurrency: `_flights` changes only between checkpoints. A range is in its flight from the moment it is decided
    until its job has ended, so two readers of one block share one GET.
    """

    def __init__(
        self, *, cache: Cache, source: StoreSource, budget: ByteBudget, metrics: Metrics, nursery: trio.Nursery
    ) -> None:
        self._cache = cache
        self._source = source
        self._budget = budget
        self._metrics = metrics
        self._nursery = nursery
        self._flights: dict[CachedVersion, _Flight] = {}
        self._small: dict[bytes, trio.Event] = {}
        self._next_range = 0

    # ---- versions with a file

    async def ensure(self, version: CachedVersion, extent: Extent) -> None:
        """Returns when no byte of `extent` is absent any more.

        Raises CacheError when the cache cannot take it (the caller reads through), and what the source raises.
        """
        if version.file is None:
            raise CacheFull("no cache level can take the object")
        flight = self._flights.setdefault(version, _Flight())
        flight.waiting += 1
        before = flight.failure_count
        try:
            while version.next_missing(extent.offset, extent.end) is not None:
                self._start(version, flight, extent, urgent=True)
                await flight.news.wait()
                error = flight.failure_since(before, extent)
                if error is not None:
                    raise type(error)(error.message) from error
        finally:
            flight.waiting -= 1
            if flight.waiting == 0:
                flight.nobody_waits()
            self._settle(version, flight)

    def prefetch(self, version: CachedVersion, extent: Extent) -> None:
        """Starts bringing `extent` in, as far as the budget goes; nobody waits for it, and a failure is nobody's."""
        if version.file is not None:
            flight = self._flights.setdefault(version, _Flight())
            self._start(version, flight, extent, urgent=False)
            self._settle(version, flight)

    def _start(self, version: CachedVersion, flight: _Flight, extent: Extent, *, urgent: bool) -> None:
        for piece in self._wanted(version, flight, extent):
            if not urgent and not self._budget.try_take(piece.length):
                return
            number = self._next_range
            self._next_range += 1
            flight.ranges[number] = piece
            version.users += 1
            self._nursery.start_soon(self._bring, version, flight, number, piece, urgent)

    def _wanted(self, version: CachedVersion, flight: _Flight, extent: Extent) -> Iterator[Extent]:
        """The ranges of `extent` that are neither present nor under way."""
        offset = extent.offset
        while (missing := version.next_missing(offset, extent.end)) is not None:
            run = Extent(missing[0], missing[1] - missing[0])
            for left in subtract(run, list(flight.ranges.values())):
                yield from cut(left, range_bytes=RANGE_BYTES)
            offset = missing[1]

    async def _bring(
        self, version: CachedVersion, flight: _Flight, number: int, extent: Extent, charged_urgent: bool
    ) -> None:
        """One range. Never raises but for cancellation: whoever waits finds the error in the flight."""
        assert version.file is not None
        try:
            if charged_urgent:
                await self._budget.take(extent.length)
            try:
                if not await self._cache.admit(version, extent.length, around=extent.offset):
                    raise CacheFull("the cache has no room left")
                await self._source.fetch(
                    version.identity,
                    extent,
                    version.file.sink,
                    urgent=charged_urgent,
                    on_progress=flight.announce,
                    resume_bytes=version.file.block_bytes // 64,
                )
            finally:
                self._budget.give(extent.length)
        except FluidfsError as error:
            if isinstance(error, CacheError) and version.level is not None and not isinstance(error, CacheFull):
                self._cache.report_fault(version.level, error.message)
            if flight.waiting:
                flight.failures.append((extent, error))
            log.info("range not fetched", extra={"key": version.identity.key, "offset": extent.offset, "reason": error})
        finally:
            del flight.ranges[number]
            self._cache.note_progress(version)
            flight.announce()
            self._settle(version, flight)
            self._cache.release(version)

    def _settle(self, version: CachedVersion, flight: _Flight) -> None:
        if not flight.ranges and not flight.waiting and self._flights.get(version) is flight:
            del self._flights[version]

    # ---- small objects, and what no cache takes

    async def small(self, identity: VersionIdentity) -> tuple[SmallObject | None, bytes]:
        """Fetches a whole small object; where it lies now (None: nowhere), and its bytes.

        A second caller waits for the first and then finds it in the cache, or fetches it again if it was not kept.
        Raises what the source raises.
        """
        digest = identity.digest()
        while digest in self._small:
            await self._small[digest].wait()
            found = self._cache.find_small(identity)
            data = None if found is None else found.read(0, identity.size, always=False, nowait=False)
            if data is not None:
                return found, data
        done = self._small[digest] = trio.Event()
        try:
            return await self._fetch_small(identity)
        finally:
            del self._small[digest]
            done.set()

    async def _fetch_small(self, identity: VersionIdentity) -> tuple[SmallObject | None, bytes]:
        place = self._cache.small_sink(identity)
        if place is None:
            return None, await self.read_through(identity, Extent(0, identity.size))
        level, sink = place
        whole = Extent(0, identity.size)
        await self._budget.take(whole.length)
        try:
            # A try that failed leaves bytes in its sink, so each try has its own.
            sinks = [sink]

            def next_sink() -> SlabSink:
                return sinks.pop() if sinks else level.slabs.sink(identity)

            taken = await self._source.fetch(identity, whole, next_sink, urgent=True)
        finally:
            self._budget.give(whole.length)
        return self._cache.keep_small(level, taken, identity), taken.data

    async def read_through(self, identity: VersionIdentity, extent: Extent) -> bytes:
        """Bytes straight from the source, kept nowhere. Raises what the source raises."""
        await self._budget.take(extent.length)
        try:
            sink = MemorySink(extent.offset, extent.length)
            await self._source.fetch(identity, extent, lambda: sink, urgent=True)
        finally:
            self._budget.give(extent.length)
        self._metrics.read_through_bytes.inc(extent.length)
        return bytes(sink.buffer)
