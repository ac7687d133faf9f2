"""All levels of a mount as one cache: finding a version, making one, letting go of it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import trio

from fluidfs._native.objects import ObjectFile
from fluidfs._native.slabs import Slab, SlabSink
from fluidfs.cache.identity import VersionIdentity
from fluidfs.cache.level import Level
from fluidfs.cache.room import make_room, punch_behind
from fluidfs.cache.slabs import SMALL_OBJECT_BYTES, SmallObject
from fluidfs.cache.version import CachedVersion
from fluidfs.config import Verify
from fluidfs.errors import CacheError, CacheFull, CacheUnusable

log = logging.getLogger(__name__)

# Threads that may wait for a cache disk at once: a disk that hangs must not take all of trio's threads.
DISK_THREADS = 8
# Versions that nobody uses and that are kept open all the same: each costs a descriptor, of which a process often has
# no more than 1024.
MAX_IDLE_VERSIONS = 256
# An eviction that found nothing to evict looked at every version; it does not do so again for a while.
FRUITLESS_PAUSE_S = 1.0


@dataclass(slots=True)
class _Opening:
    """A version that one task is opening; the others wait for `done`."""

    done: trio.Event = field(default_factory=trio.Event)


class Cache:
    """The levels, the first the fastest, and the versions that are open in this process.

    Belongs to one trio run. Faults of a level are logged once, take the level out of use for a while, and are misses
    to the caller; no method raises because of them, unless it says so.

    Concurrency: `_versions` changes only between checkpoints. Opening is the one thing that waits in between, and
    `_opening` keeps a second task from opening the same version meanwhile.
    """

    def __init__(
        self, levels: tuple[Level, ...], *, verify: Verify, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.levels = levels
        self.verify: Verify = verify
        self.disk = trio.CapacityLimiter(DISK_THREADS)
        self.evict_wanted = trio.Event()
        self.completed: set[CachedVersion] = set()
        # Called before an eviction, so that whoever keeps versions open that nobody reads can release them.
        self.let_go: Callable[[], None] = lambda: None
        self._clock = clock
        self._versions: dict[bytes, CachedVersion] = {}
        self._opening: dict[bytes, _Opening] = {}
        # In the order in which their last user went.
        self._idle: dict[CachedVersion, None] = {}
        self._room = trio.Lock()
        self._fruitless_until: dict[Level, float] = {}

    # ---- versions with a file of their own

    async def open(self, identity: VersionIdentity) -> CachedVersion:
        """The version, with one more user; `release` takes it back. It has no file when no level could take it."""
        digest = identity.digest()
        while digest in self._opening:
            await self._opening[digest].done.wait()
        version = self._versions.get(digest)
        if version is None:
            opening = self._opening[digest] = _Opening()
            try:
                version = await trio.to_thread.run_sync(partial(self._open_file, identity), limiter=self.disk)
                self._versions[digest] = version
                # A daemon that was killed may have left a version whole and not sealed.
                self.note_progress(version)
            finally:
                del self._opening[digest]
                opening.done.set()
            version.users += 1
            return version
        was_idle = version.users == 0
        self.hold(version)  # from here on nobody closes it
        if version.file is not None and was_idle:
            try:
                await trio.to_thread.run_sync(version.recheck, limiter=self.disk)
            except BaseException:
                self.release(version)
                raise
        return version

    def _open_file(self, identity: VersionIdentity) -> CachedVersion:
        for create in (False, True):
            for level in self.levels:
                if level.fault is not None:
                    continue
                file = self._try_open(level, identity, create=create)
                if file is not None:
                    return CachedVersion(identity, level, file, self.verify)
        return CachedVersion(identity, None, None, self.verify)

    def _try_open(self, level: Level, identity: VersionIdentity, *, create: bool) -> ObjectFile | None:
        try:
            return level.open_object(identity, create=create)
        except CacheError as error:
            self.note_failure(level, error)
            return None

    def release(self, version: CachedVersion) -> None:
        """Takes a user back. The file stays open for a while: what was compared need not be compared again."""
        version.users -= 1
        if version.users != 0:
            return
        if version.file is None:
            del self._versions[version.identity.digest()]
            return
        version.idle_since = self._clock()
        version.file.touch(int(time.time()))
        self._idle[version] = None
        if len(self._idle) > MAX_IDLE_VERSIONS:
            self.forget(next(iter(self._idle)))

    def hold(self, version: CachedVersion) -> None:
        """Counts one more user of a version that is open; `release` takes it back."""
        version.users += 1
        self._idle.pop(version, None)

    def idle(self, *, since_s: float) -> Iterator[CachedVersion]:
        """Versions that nobody has used for so long."""
        now = self._clock()
        for version in list(self._idle):
            if version.users == 0 and now - version.idle_since >= since_s:
                yield version

    def forget(self, version: CachedVersion) -> None:
        """Closes an idle version's file."""
        if version.users != 0:
            raise ValueError("a version in use cannot be closed")
        self.completed.discard(version)
        self._idle.pop(version, None)
        del self._versions[version.identity.digest()]
        version.close()

    @property
    def open_versions(self) -> tuple[CachedVersion, ...]:
        """All that are open, in use or idle."""
        return tuple(self._versions.values())

    def note_progress(self, version: CachedVersion) -> None:
        """Bytes of the version arrived: once it is complete, upkeep seals it."""
        if version.file is not None and version.file.complete and not version.file.sealed:
            self.completed.add(version)

    async def cached_bytes(self, identity: VersionIdentity) -> int:
        """How many of the version's bytes are in the cache."""
        if identity.size <= SMALL_OBJECT_BYTES:
            return 0 if self.find_small(identity) is None else identity.size
        version = self._versions.get(identity.digest())
        if version is not None:
            return 0 if version.file is None else version.file.present_bytes
        return await trio.to_thread.run_sync(partial(self._cached_bytes, identity), limiter=self.disk)

    def _cached_bytes(self, identity: VersionIdentity) -> int:
        for level in self.levels:
            file = self._try_open(level, identity, create=False) if level.fault is None else None
            if file is not None:
                present = file.present_bytes
                file.close()
                return present
        return 0

    # ---- room

    async def admit(self, version: CachedVersion, size_bytes: int, *, around: int) -> bool:
        """Whether so many bytes more may go into the version's file; makes room for them if need be.

        `around` is where its readers are: if nothing else can go, blocks of this very version go that are far from it.
        """
        level = version.level
        if level is None or version.file is None or level.fault is not None or size_bytes > level.usage.quota_bytes:
            return False
        if level.excess_bytes > 0:
            self.evict_wanted.set()
        if level.has_room(size_bytes):
            return True
        async with self._room:
            if not level.has_room(size_bytes):
                await self.evict_now(level, size_bytes=size_bytes)
            if not level.has_room(size_bytes):
                await trio.to_thread.run_sync(
                    partial(punch_behind, version, size_bytes=size_bytes, around=around), limiter=self.disk
                )
        return level.has_room(size_bytes)

    @asynccontextmanager
    async def room(self, version: CachedVersion, size_bytes: int, *, around: int) -> AsyncIterator[bool]:
        """As `admit`, and keeps what was admitted from being promised to others of this process while it lasts."""
        admitted = await self.admit(version, size_bytes, around=around)
        level = version.level if admitted else None
        if level is not None:
            level.reserved_bytes += size_bytes
        try:
            yield admitted
        finally:
            if level is not None:
                level.reserved_bytes -= size_bytes

    async def evict_now(self, level: Level, *, size_bytes: int = 0) -> None:
        """Brings the level below its low watermark, and to room for `size_bytes`, as far as what is in use allows."""
        if self._clock() < self._fruitless_until.get(level, -math.inf):
            return
        self.let_go()
        for version in list(self.idle(since_s=0)):
            if version.level is level:
                self.forget(version)
        index = self.levels.index(level)
        lower = self.levels[index + 1] if index + 1 < len(self.levels) else None
        before = level.usage.used_bytes
        try:
            report = await trio.to_thread.run_sync(
                partial(make_room, level, lower, size_bytes=size_bytes), limiter=self.disk
            )
        except OSError as error:
            self.report_fault(level, error.strerror or str(error))
            return
        if report.versions:
            log.info(
                "evicted", extra={"level": level.spec.path, "versions": report.versions, "bytes": report.bytes_freed}
            )
        elif level.usage.used_bytes >= before:
            self._fruitless_until[level] = self._clock() + FRUITLESS_PAUSE_S

    def note_failure(self, level: Level, error: CacheError) -> None:
        """Draws the consequence of a failed write: a level that is unusable is left alone for a while, one that is full
        is given nothing more, and read. Any other CacheError was about one version only.
        """
        if isinstance(error, CacheUnusable):
            self.report_fault(level, error.message)
        elif isinstance(error, CacheFull) and level.report_full():
            log.warning("cache level full", extra={"level": level.spec.path, "reason": error.message})

    def report_fault(self, level: Level, reason: str) -> None:
        """Takes the level out of use for a while; reads go through meanwhile."""
        if level.report_fault(reason):
            log.warning("cache level out of use", extra={"level": level.spec.path, "reason": reason})

    # ---- small objects

    def find_small(self, identity: VersionIdentity) -> SmallObject | None:
        """Where a small object lies, if it is cached. Looks into mapped indexes only."""
        digest = identity.digest()
        for level in self.levels:
            if level.fault is not None:
                continue
            try:
                found = level.slabs.find(digest)
            except OSError as error:
                self.report_fault(level, error.strerror or str(error))
                continue
            if found is not None:
                found.slab.touch(int(time.time()))
                return found
        return None

    def small_sink(self, identity: VersionIdentity) -> tuple[Level, SlabSink] | None:
        """A sink for a small object and the level that it stores into; None when no level can take it."""
        for level in self.levels:
            if level.fault is not None:
                continue
            if level.excess_bytes > 0:
                self.evict_wanted.set()
            if not level.has_room(identity.size):
                continue
            try:
                return level, level.slabs.sink(identity)
            except CacheError as error:
                self.note_failure(level, error)
        return None

    def keep_small(self, level: Level, sink: SlabSink, identity: VersionIdentity) -> SmallObject | None:
        """Where the sink's object lies now; None when the level could not keep it."""
        try:
            return level.slabs.stored(sink, identity)
        except CacheError as error:
            self.note_failure(level, error)
            return None

    def slabs(self) -> set[Slab]:
        """The slabs in which small objects can be found at the moment."""
        found: set[Slab] = set()
        for level in self.levels:
            try:
                found.update(level.slabs)
            except OSError as error:
                self.report_fault(level, error.strerror or str(error))
        return found

    def close(self) -> None:
        """Closes all that is open. Nothing may be in use."""
        for version in list(self._versions.values()):
            version.close()
        self._versions.clear()
        self._idle.clear()
        self.completed.clear()
        for level in self.levels:
            level.close()
