"""Bytes that native code looked for and did not find: brought into the cache, or straight from the store."""

from __future__ import annotations

from fluidfs.cache.identity import VersionIdentity
from fluidfs.cache.levels import Cache
from fluidfs.fetch.fetcher import Fetcher
from fluidfs.fs.holdings import Held, Holdings
from fluidfs.model import Extent


class Misses:
    """Answers what `reading` answers, for files that are open natively, by their contents. Belongs to one trio run.

    Methods raise what the fetcher raises.
    """

    def __init__(self, *, holdings: Holdings, cache: Cache, fetcher: Fetcher) -> None:
        self._holdings = holdings
        self._cache = cache
        self._fetcher = fetcher

    # ---- files with a version of their own

    def fetch_ahead(self, held: Held, ahead: Extent, *, wanted: Extent) -> None:
        """Starts bringing `ahead` in. What is `wanted` by the reader goes first, in one range with what follows."""
        start = min(wanted.offset, ahead.offset)
        self._fetcher.prefetch(held.version, Extent(start, ahead.end - start), first=wanted)

    async def bring(self, held: Held, wanted: Extent) -> None:
        """Returns when `wanted` is in the cache. Raises CacheError when the cache cannot take it."""
        await self._fetcher.ensure(held.version, wanted)

    async def read_through(self, held: Held, wanted: Extent) -> bytes:
        """The bytes, kept nowhere."""
        return await self._fetcher.read_through(held.identity, wanted)

    # ---- small files

    def place(self, content: int, identity: VersionIdentity) -> bool:
        """Says where a small file's bytes lie; False: they are not cached."""
        found = self._cache.find_small(identity)
        return found is not None and self._holdings.place(content, found)

    async def fetch_small(self, content: int, identity: VersionIdentity) -> bytes:
        """A small file whole, fetched; the next reads of it find it in the cache, if a level could take it."""
        small, data = await self._fetcher.small(identity)
        if small is not None:
            self._holdings.place(content, small)
        return data
