"""What the native data plane asks about open files: what their bytes lie in, and those that it did not find."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial

import trio

from fluidfs._native.relay import Ask, Relay
from fluidfs.cache.identity import VersionIdentity
from fluidfs.errors import CacheError, IsADirectory, ObjectChanged, StoreUnavailable
from fluidfs.fs.failure import Troubles
from fluidfs.fs.filesystem import FileSystem
from fluidfs.fs.holdings import Held, Holdings
from fluidfs.fs.misses import Misses
from fluidfs.fs.reading import CACHE_TRIES
from fluidfs.fuse.tickets import Tickets
from fluidfs.meta.entries import FileEntry
from fluidfs.meta.inodes import UnknownNode
from fluidfs.meta.nodes import NativeNodes
from fluidfs.model import Extent

# Reads side by side that came together wait together, but for no more than the largest READ there is: the first of a
# long run is not to wait for the last.
TOGETHER_BYTES = 1 << 20


class ReadAsks:
    """Answers OPEN and READ. Belongs to one trio run; what takes time is done in `nursery`."""

    def __init__(
        self,
        relay: Relay,
        tickets: Tickets,
        *,
        filesystem: FileSystem,
        nodes: NativeNodes,
        holdings: Holdings,
        misses: Misses,
        troubles: Troubles,
        nursery: trio.Nursery,
    ) -> None:
        self._relay = relay
        self._tickets = tickets
        self._filesystem = filesystem
        self._nodes = nodes
        self._holdings = holdings
        self._misses = misses
        self._troubles = troubles
        self._nursery = nursery
        self._opening: dict[int, list[Ask]] = {}

    # ---- OPEN

    def open(self, ask: Ask) -> None:
        """The content of a node; all who ask while it is being opened get the same one."""
        waiting = self._opening.setdefault(ask.node, [])
        waiting.append(ask)
        if len(waiting) == 1:
            self._nursery.start_soon(self._open, ask.node)

    async def _open(self, node: int) -> None:
        asks = self._opening[node]
        with self._tickets.failing("open", asks):
            try:
                content = await self._holdings.open(self._identity(node))
            finally:
                del self._opening[node]
            try:
                for ask in asks:
                    self._relay.opened(ask.ticket, content)
            finally:
                # The node has a reference of its own now, unless nobody waited any more.
                self._holdings.hand_over(content)

    def _identity(self, node: int) -> VersionIdentity:
        inode = self._nodes.get(node)
        if not isinstance(inode.entry, FileEntry):
            raise IsADirectory(f"{inode.path!r} is a directory")
        return self._filesystem.identity_of(inode.entry)

    # ---- READ

    def read(self, asks: Iterable[Ask]) -> None:
        """Bytes that were not found, all that came together."""
        by_content: defaultdict[int, list[Ask]] = defaultdict(list)
        for ask in asks:
            with self._tickets.failing("read", [ask]):
                self._troubles.recall(ask.handle, _extent(ask))
                by_content[ask.content].append(ask)
        for content, of_one in by_content.items():
            held = self._holdings.get(content)
            if held is None:
                self._read_small(content, of_one)
            else:
                self._read_held(held, of_one)

    def ahead(self, note: Ask) -> None:
        """Bytes that were found, by a reader who will want more."""
        held = self._holdings.get(note.content)
        if held is not None:
            self._fetch_ahead(held, note)

    def _fetch_ahead(self, held: Held, ask: Ask) -> None:
        if ask.ahead is None:
            return
        with self._tickets.failing("readahead", []):
            start, end = ask.ahead
            self._misses.fetch_ahead(held, Extent(start, end - start), wanted=_extent(ask))

    def _read_held(self, held: Held, asks: Sequence[Ask]) -> None:
        for ask in asks:
            self._fetch_ahead(held, ask)
        through = [ask for ask in asks if held.version.file is None or ask.tries > CACHE_TRIES]
        for ask in through:
            self._nursery.start_soon(self._read_through, held, ask)
        for together in gathered(ask for ask in asks if ask not in through):
            self._nursery.start_soon(self._bring, held, together)

    async def _bring(self, held: Held, asks: Sequence[Ask]) -> None:
        with self._tickets.failing("read", asks, seen=partial(self._note, asks)):
            wanted = Extent(asks[0].offset, max(map(_end, asks)) - asks[0].offset)
            try:
                await self._misses.bring(held, wanted)
            except CacheError:
                for ask in asks:
                    self._nursery.start_soon(self._read_through, held, ask)
                return
            for ask in asks:
                self._relay.retry(ask.ticket)

    async def _read_through(self, held: Held, ask: Ask) -> None:
        with self._tickets.failing("read", [ask], seen=partial(self._note, [ask])):
            self._relay.give(ask.ticket, await self._misses.read_through(held, _extent(ask)))

    def _read_small(self, content: int, asks: Sequence[Ask]) -> None:
        with self._tickets.failing("read", asks):
            identity = self._identity(asks[0].node)
            # What was found once and could not be read is fetched.
            if all(ask.tries == 1 for ask in asks) and self._misses.place(content, identity):
                for ask in asks:
                    self._relay.retry(ask.ticket)
            else:
                self._nursery.start_soon(self._fetch_small, content, identity, asks)

    async def _fetch_small(self, content: int, identity: VersionIdentity, asks: Sequence[Ask]) -> None:
        with self._tickets.failing("read", asks, seen=partial(self._note, asks)):
            data = await self._misses.fetch_small(content, identity)
            for ask in asks:
                self._relay.give(ask.ticket, data[ask.offset : _end(ask)])

    def _note(self, asks: Sequence[Ask], error: Exception) -> None:
        """Draws the consequences of what reads failed with."""
        if isinstance(error, StoreUnavailable):
            for ask in asks:
                self._troubles.note(ask.handle, _extent(ask), error)
        elif isinstance(error, ObjectChanged) and self._troubles.changed(asks[0].content):
            with suppress(UnknownNode):
                self._filesystem.forget_path(self._nodes.get(asks[0].node).path)


def _end(ask: Ask) -> int:
    return ask.offset + ask.length


def _extent(ask: Ask) -> Extent:
    return Extent(ask.offset, ask.length)


def gathered(asks: Iterable[Ask]) -> Iterator[list[Ask]]:
    """Reads of one file in runs without a gap, of at most TOGETHER_BYTES; each run begins with its lowest."""
    run: list[Ask] = []
    end = 0
    for ask in sorted(asks, key=lambda ask: ask.offset):
        if run and (ask.offset > end or max(end, _end(ask)) - run[0].offset > TOGETHER_BYTES):
            yield run
            run = []
        end = max(end, _end(ask)) if run else _end(ask)
        run.append(ask)
    if run:
        yield run
