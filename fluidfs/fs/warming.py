"""Filling the cache ahead of use: which objects, how many at once, what became of each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import trio

from fluidfs.cache.levels import Cache
from fluidfs.cache.slabs import SMALL_OBJECT_BYTES
from fluidfs.errors import CacheFull, FluidfsError, NameNotFound
from fluidfs.fetch.fetcher import Fetcher
from fluidfs.fs.filesystem import FileSystem, parent_of
from fluidfs.meta.entries import FileEntry
from fluidfs.meta.names import Names
from fluidfs.model import Extent, WarmProgress, WarmRequest, WarmResult

Report = Callable[[WarmProgress], Awaitable[None]]

# What one object is fetched in: with `parallel` objects at once this keeps the link busy and the budget fair.
STEP_BYTES = 32 << 20
# Between two reports.
REPORT_S = 0.2


@dataclass(slots=True)
class _Tally:
    objects: int = 0
    objects_total: int = 0
    bytes_done: int = 0
    bytes_total: int = 0
    bytes_fetched: int = 0
    listed: bool = False
    failures: list[tuple[str, str]] = field(default_factory=list)

    def progress(self) -> WarmProgress:
        return WarmProgress(
            objects_done=self.objects,
            objects_total=self.objects_total if self.listed else None,
            bytes_done=self.bytes_done,
            bytes_total=self.bytes_total if self.listed else None,
            failed=len(self.failures),
        )


class Warmer:
    """Brings files into the cache. What is there already is left as it is, so a warm-up that was cut off resumes."""

    def __init__(self, *, names: Names, filesystem: FileSystem, cache: Cache, fetcher: Fetcher) -> None:
        self._names = names
        self._filesystem = filesystem
        self._cache = cache
        self._fetcher = fetcher

    async def warm(self, request: WarmRequest, report: Report) -> WarmResult:
        """Does what the request says. Objects that fail are listed in the result; a path that names nothing, too."""
        tally = _Tally()
        send, receive = trio.open_memory_channel[tuple[str, FileEntry]](1000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_reporting, tally, report)
            async with trio.open_nursery() as workers:
                workers.start_soon(self._list, request, send, tally)
                for _ in range(max(1, request.parallel)):
                    workers.start_soon(self._work, request, receive.clone(), tally)
                receive.close()
            nursery.cancel_scope.cancel()
        await report(tally.progress())
        return WarmResult(
            objects=tally.objects,
            bytes_fetched=tally.bytes_fetched,
            bytes_present=tally.bytes_done - tally.bytes_fetched,
            failures=tuple(tally.failures),
        )

    async def _list(
        self, request: WarmRequest, send: trio.MemorySendChannel[tuple[str, FileEntry]], tally: _Tally
    ) -> None:
        seen: set[str] = set()
        async with send:
            for path in request.paths:
                found = False
                try:
                    async for item in self._matching(path):
                        found = True
                        if item[0] not in seen:
                            seen.add(item[0])
                            tally.objects_total += 1
                            tally.bytes_total += item[1].info.size
                            await send.send(item)
                except FluidfsError as error:
                    tally.failures.append((path, str(error)))
                else:
                    if not found:
                        tally.failures.append((path, "names no file"))
        tally.listed = True

    async def _matching(self, path: str) -> AsyncIterator[tuple[str, FileEntry]]:
        path = path.strip("/")
        if any(mark in path for mark in "*?["):
            # What comes before the first pattern is a directory to start from.
            fixed: list[str] = []
            for part in path.split("/")[:-1]:
                if any(mark in part for mark in "*?["):
                    break
                fixed.append(part)
            async for item in self._walk("/".join(fixed)):
                if fnmatchcase(item[0], path):
                    yield item
            return
        if path:
            directory, name = parent_of(path)
            entry = await self._names.lookup(directory, name)
            if isinstance(entry, FileEntry):
                yield path, entry
                return
        async for item in self._walk(path):
            yield item

    async def _walk(self, directory: str) -> AsyncIterator[tuple[str, FileEntry]]:
        try:
            async for item in self._names.walk(directory):
                yield item
        except NameNotFound:
            return

    async def _work(
        self, request: WarmRequest, receive: trio.MemoryReceiveChannel[tuple[str, FileEntry]], tally: _Tally
    ) -> None:
        async with receive:
            async for path, entry in receive:
                try:
                    if not request.metadata_only:
                        await self._bring(entry, tally)
                except FluidfsError as error:
                    tally.failures.append((path, str(error)))
                else:
                    tally.objects += 1

    async def _bring(self, entry: FileEntry, tally: _Tally) -> None:
        identity = self._filesystem.identity_of(entry)
        if identity.size == 0:
            return
        if identity.size <= SMALL_OBJECT_BYTES:
            fetched = self._cache.find_small(identity) is None
            if fetched and (await self._fetcher.small(identity, urgent=False))[0] is None:
                raise CacheFull("no cache level can take the object")
            tally.bytes_fetched += identity.size if fetched else 0
            tally.bytes_done += identity.size
            return
        version = await self._cache.open(identity)
        try:
            for offset in range(0, identity.size, STEP_BYTES):
                step = Extent(offset, min(STEP_BYTES, identity.size - offset))
                missing_bytes = _missing_bytes(version.next_missing, step)
                await self._fetcher.ensure(version, step, urgent=False)
                tally.bytes_fetched += missing_bytes
                tally.bytes_done += step.length
        finally:
            self._cache.release(version)


def _missing_bytes(next_missing: Callable[[int, int], tuple[int, int] | None], extent: Extent) -> int:
    total, offset = 0, extent.offset
    while (missing := next_missing(offset, extent.end)) is not None:
        total += min(missing[1], extent.end) - max(missing[0], extent.offset)
        offset = missing[1]
    return total


async def _reporting(tally: _Tally, report: Report) -> None:
    while True:
        await report(tally.progress())
        await trio.sleep(REPORT_S)
