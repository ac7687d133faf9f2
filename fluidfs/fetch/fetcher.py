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
from fluidfs.fetch.turns import Turn, Turns
from fluidfs.metrics import Metrics
from fluidfs.model import Extent

log = logging.getLogger(__name__)

# One GET's range at most. Measured on SeaweedFS, the server's CPU time for 1 GiB falls from 1.9 s with ranges of
# 4 MiB to 1.6 s with 8 and 1.3 s with 16 MiB, and no further.
RANGE_BYTES = 16 << 20
# Of the workers and of the byte budget, what fetches that nobody waits for may take together.
PATIENT_SHARE = 0.75
# A reader whose bytes leave the cache as fast as they come asks for them so many times over, then reads through.
REFETCHES = 4


@dataclass(slots=True, eq=False)
class _Range:
    """A range that is on its way, or waits for its turn."""

    extent: Extent
    turn: Turn


@dataclass(slots=True, eq=False)
class _Flight:
    """Ranges of one version that are on their way, and those who wait for news of it.

    `failures` keeps what went wrong for those who were waiting then; a reader who comes later tries anew.
    """

    ranges: set[_Range] = field(default_factory=set)
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

    def hurry(self, extent: Extent) -> None:
        for under_way in self.ranges:
            if overlaps(under_way.extent, extent):
                under_way.turn.hurry()


@dataclass(slots=True, eq=False)
class _SmallFlight:
    """A small object on its way. Neither `found` nor `error` when it has ended: its task was cancelled."""

    turn: Turn
    ended: trio.Event = field(default_factory=trio.Event)
    found: tuple[SmallObject | None, bytes] | None = None
    error: FluidfsError | None = None


class Fetcher:
    """Fills the cache from a source. Belongs to one trio run; jobs live in `nursery` and outlive their callers.

    `workers` is how many GETs the source can have under way. Fetches are urgent when a reader waits for them, else
    patient: those take turns, and one that a reader comes to wait for hurries on.

    Concurrency: `_flights` changes only between checkpoints. A range is in its flight from the moment it is decided
    until its job has ended, so two readers of one block share one GET.
    """

    def __init__(
        self,
        *,
        cache: Cache,
        source: StoreSource,
        budget: ByteBudget,
        metrics: Metrics,
        nursery: trio.Nursery,
        workers: int,
    ) -> None:
        self._cache = cache
        self._source = source
        self._budget = budget
        self._metrics = metrics
        self._nursery = nursery
        self._flights: dict[CachedVersion, _Flight] = {}
        self._small: dict[bytes, _SmallFlight] = {}
        self._ahead_max_bytes = int(budget.total_bytes * PATIENT_SHARE)
        self._ahead_bytes = 0
        self._turns = Turns(max(1, min(int(workers * PATIENT_SHARE), self._ahead_max_bytes // RANGE_BYTES)))

    # ---- versions with a file

    async def ensure(self, version: CachedVersion, extent: Extent, *, urgent: bool = True) -> None:
        """Returns when no byte of `extent` is absent any more.

        Raises CacheError when the cache cannot take it (the caller reads through), and what the source raises.
        """
        if version.file is None:
            raise CacheFull("no cache level can take the object")
        flight = self._flights.setdefault(version, _Flight())
        flight.waiting += 1
        before = flight.failure_count
        # What is missing is widened to sub-blocks at both ends.
        allowance = REFETCHES * (extent.length + version.file.block_bytes // 32)
        try:
            while version.next_missing(extent.offset, extent.end) is not None:
                for piece in self._wanted(version, flight, extent):
                    allowance -= piece.length
                    self._start(version, flight, piece, Turn(urgent=urgent))
                if allowance < 0:
                    raise CacheFull("what is fetched leaves the cache as fast as it comes")
                if urgent:
                    flight.hurry(extent)
                await flight.news.wait()
                error = flight.failure_since(before, extent)
                if error is not None:
                    raise type(error)(error.message) from error
        finally:
            flight.waiting -= 1
            if flight.waiting == 0:
                flight.nobody_waits()
            self._settle(version, flight)

    def prefetch(self, version: CachedVersion, extent: Extent, *, first: Extent | None = None) -> None:
        """Starts bringing `extent` in, as far as the budget goes; a failure is nobody's.

        What touches `first`, which the caller is about to wait for, is urgent.
        """
        if version.file is None:
            return
        flight = self._flights.setdefault(version, _Flight())
        for piece in self._wanted(version, flight, extent):
            if first is not None and overlaps(piece, first):
                self._start(version, flight, piece, Turn(urgent=True))
            elif self._ahead_bytes + piece.length <= self._ahead_max_bytes:
                self._ahead_bytes += piece.length
                self._start(version, flight, piece, Turn(urgent=False), ahead=True)
            else:
                break
        self._settle(version, flight)

    def _start(
        self, version: CachedVersion, flight: _Flight, piece: Extent, turn: Turn, *, ahead: bool = False
    ) -> None:
        started = _Range(piece, turn)
        flight.ranges.add(started)
        version.users += 1
        self._nursery.start_soon(self._bring, version, flight, started, ahead)

    def _wanted(self, version: CachedVersion, flight: _Flight, extent: Extent) -> Iterator[Extent]:
        """The ranges of `extent` that are neither present nor under way."""
        offset = extent.offset
        while (missing := version.next_missing(offset, extent.end)) is not None:
            run = Extent(missing[0], missing[1] - missing[0])
            for left in subtract(run, [under_way.extent for under_way in flight.ranges]):
                yield from cut(left, range_bytes=RANGE_BYTES)
            offset = missing[1]

    async def _bring(self, version: CachedVersion, flight: _Flight, started: _Range, ahead: bool) -> None:
        """One range. Never raises but for cancellation: whoever waits finds the error in the flight."""
        extent = started.extent
        try:
            async with self._turns.taken(started.turn):
                await self._budget.take(extent.length)
                try:
                    await self._fetch_range(version, flight, started)
                finally:
                    self._budget.give(extent.length)
        except FluidfsError as error:
            self._failed(version, flight, extent, error)
        except Exception as error:
            # A bug of ours, or a key that cannot be asked for; it must not end the mount.
            log.exception("range not fetched, for no foreseen reason", extra={"key": version.identity.key})
            self._failed(version, flight, extent, FluidfsError(f"fetching {version.identity.key!r} failed: {error}"))
        finally:
            flight.ranges.remove(started)
            if ahead:
                self._ahead_bytes -= extent.length
            self._cache.note_progress(version)
            flight.announce()
            self._settle(version, flight)
            self._cache.release(version)

    async def _fetch_range(self, version: CachedVersion, flight: _Flight, started: _Range) -> None:
        assert version.file is not None
        extent = started.extent
        async with self._cache.room(version, extent.length, around=extent.offset) as admitted:
            if not admitted:
                raise CacheFull("the cache has no room left")
            try:
                await self._source.fetch(
                    version.identity,
                    extent,
                    version.file.sink,
                    turn=started.turn,
                    on_progress=flight.announce,
                    resume_bytes=version.file.block_bytes // 64,
                )
            except CacheError as error:
                # The disk said no, which it had not when there seemed to be room.
                if version.level is not None:
                    self._cache.note_failure(version.level, error)
                raise

    def _failed(self, version: CachedVersion, flight: _Flight, extent: Extent, error: FluidfsError) -> None:
        if flight.waiting:
            flight.failures.append((extent, error))
        log.info("range not fetched", extra={"key": version.identity.key, "offset": extent.offset, "reason": error})

    def _settle(self, version: CachedVersion, flight: _Flight) -> None:
        if not flight.ranges and not flight.waiting and self._flights.get(version) is flight:
            del self._flights[version]

    # ---- small objects, and what no cache takes

    async def small(self, identity: VersionIdentity, *, urgent: bool = True) -> tuple[SmallObject | None, bytes]:
        """Fetches a whole small object; where it lies now (None: nowhere), and its bytes.

        Who comes while it is on its way gets the same bytes, or the same error. Raises what the source raises.
        """
        digest = identity.digest()
        while (flight := self._small.get(digest)) is not None:
            if urgent:
                flight.turn.hurry()
            await flight.ended.wait()
            if flight.error is not None:
                # A new exception for each task: a traceback belongs to one raise.
                raise type(flight.error)(flight.error.message) from flight.error
            if flight.found is not None:
                return flight.found
        flight = self._small[digest] = _SmallFlight(Turn(urgent=urgent))
        try:
            flight.found = await self._fetch_small(identity, flight.turn)
            return flight.found
        except FluidfsError as error:
            flight.error = error
            raise
        finally:
            del self._small[digest]
            flight.ended.set()

    async def _fetch_small(self, identity: VersionIdentity, turn: Turn) -> tuple[SmallObject | None, bytes]:
        place = self._cache.small_sink(identity)
        if place is not None:
            level, sink = place
            # A try that failed leaves bytes in its sink, so each try has its own.
            sinks = [sink]

            def next_sink() -> SlabSink:
                return sinks.pop() if sinks else level.slabs.sink(identity)

            whole = Extent(0, identity.size)
            try:
                async with self._turns.taken(turn):
                    await self._budget.take(whole.length)
                    try:
                        taken = await self._source.fetch(identity, whole, next_sink, turn=turn)
                    finally:
                        self._budget.give(whole.length)
            except CacheError as error:
                self._cache.note_failure(level, error)
            else:
                return self._cache.keep_small(level, taken, identity), taken.data
        return None, await self.read_through(identity, Extent(0, identity.size))

    async def read_through(self, identity: VersionIdentity, extent: Extent) -> bytes:
        """Bytes straight from the source, kept nowhere. Raises what the source raises."""
        await self._budget.take(extent.length)
        try:
            sink = MemorySink(extent.offset, extent.length)
            await self._source.fetch(identity, extent, lambda: sink, turn=Turn(urgent=True))
        finally:
            self._budget.give(extent.length)
        self._metrics.read_through_bytes.inc(extent.length)
        return bytes(sink.buffer)
