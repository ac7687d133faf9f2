"""The names of a mount, as a store's listings tell them, kept no longer than a time to live.

How a directory is learned. One flat LIST of its prefix: if that is the whole answer, every directory below is known
as well, and a small data set costs one request. If it is cut off, the directories that it covers from first key to
last are known, and the directory itself is listed again with a delimiter, which folds what lies deeper. If one such
page is not all either, the directory is large: single names are asked for one by one, until there were so many that a
listing of all its pages is cheaper.

What is known is good for `ttl_s` from the moment before it was asked for; that a name is *not* there, too. Knowledge
out of one flat listing is renewed by one flat listing, whichever of its directories is wanted. A fault of the store is
raised as itself and never means that a name is not there.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import trio

from fluidfs.errors import FluidfsError, NameNotFound
from fluidfs.meta.asking import Asking
from fluidfs.meta.entries import Entry, FileEntry
from fluidfs.meta.flight import SingleFlight
from fluidfs.meta.fold import Folded
from fluidfs.meta.keys import HiddenKeys, component_problem
from fluidfs.meta.listing import Listing
from fluidfs.meta.memo import Known, Large, Memo
from fluidfs.meta.survey import Surveyor
from fluidfs.meta.walk import Walk
from fluidfs.store.base import Store

# After so many names of a large directory were asked for singly, it is listed whole: a job that opens 16 of its files
# will most likely open the rest, and 16 small requests cost about as much as a listing of several thousand names.
SINGLE_LOOKUPS_MAX = 16

# Directories that wait to be renewed ahead of need; with a full queue, they are renewed when they have expired.
_RENEWALS_WAITING = 64


@dataclass(frozen=True, slots=True)
class Place:
    """Where an entry is written: in its directory's listing, or in one of its own where that is not known whole."""

    listing: Listing
    position: int


class Names:
    """The tree of directories and files below `prefix` of a store. Paths are relative to it, "" is its root.

    For any number of tasks of one trio run; tasks that want the same listing share one request. `hidden` tells which
    keys cannot be shown, as far as directories have been listed.
    """

    def __init__(
        self,
        store: Store,
        *,
        prefix: str,
        ttl_s: float,
        limiter: trio.CapacityLimiter,
        clock: Callable[[], float] = trio.current_time,
        mount_time_ns: int | None = None,
    ) -> None:
        """`prefix` is "" or ends in `/`. `ttl_s` 0 asks the store each time. `limiter` bounds the threads that ask.

        `mount_time_ns`, by default now, is the time that directories have.
        """
        self.hidden = HiddenKeys()
        self._prefix = prefix
        self._clock = clock
        self._memo = Memo(ttl_s=ttl_s, clock=clock)
        self._surveyor = Surveyor(
            store,
            prefix=prefix,
            asking=Asking(limiter=limiter, clock=clock),
            directory_mtime_ns=time.time_ns() if mount_time_ns is None else mount_time_ns,
        )
        self._listings: SingleFlight[Known | Large] = SingleFlight()
        self._singles: SingleFlight[Entry | None] = SingleFlight()
        # Counts the calls of forget_path: an answer that was asked for before one of them is not kept.
        self._forgotten = 0
        self._to_renew, self._renewals = trio.open_memory_channel[str](_RENEWALS_WAITING)

    async def lookup(self, directory: str, name: str) -> Entry:
        """What `name` in `directory` is. Raises NameNotFound, also where `directory` is none; StoreError on a fault."""
        place = await self.locate(directory, name)
        return place.listing[place.position]

    async def locate(self, directory: str, name: str) -> Place:
        """As `lookup`, but where the entry is written."""
        place = None if component_problem(name) else await self._find(directory, name)
        if place is None:
            raise NameNotFound(f"{_join(directory, name)!r} does not exist")
        return place

    async def entries(self, directory: str) -> Sequence[Entry]:
        """All that is in `directory`, sorted by the bytes of the names. Raises NameNotFound; StoreError on a fault.

        The sequence is packed, and makes its entries when they are looked at: keep it and index it.
        """
        return await self.listing(directory)

    async def listing(self, directory: str) -> Listing:
        """`entries`, as they are packed."""
        known = await self._learn(directory, whole=True)
        assert isinstance(known, Known), "a survey of the whole directory is never cut off"
        if known.listing is None:
            raise NameNotFound(f"{directory!r} is not a directory")
        return known.listing

    def known(self, directory: str) -> Listing | None:
        """The whole listing of `directory` if it is known and still good; the store is not asked."""
        record = self._memo.get(directory)
        return record.listing if isinstance(record, Known) else None

    def walk(self, directory: str) -> AsyncIterator[tuple[str, FileEntry]]:
        """Every file below `directory` with its path, as the pages of flat LISTs arrive; always asks the store.

        The order is nearly that of the keys. What the walk passes is known afterwards. Iteration raises NameNotFound
        when nothing is there, StoreError on a fault.
        """
        asked_at, forgotten = self._clock(), self._forgotten

        def keep(folded: Iterable[Folded]) -> None:
            self._keep(list(folded), asked_at, forgotten)

        return Walk(self._surveyor, directory, base=len(self._prefix), keep=keep)

    def good_for_s(self, directory: str) -> float:
        """For how many seconds more what is known of `directory` is given without asking the store; 0: not at all."""
        return self._memo.good_for_s(directory)

    def due_in_s(self, directory: str) -> float:
        """In how many seconds `renew` will do something for `directory`; not before `good_for_s` for a large one."""
        return self._memo.due_in_s(directory)

    async def renew(self, directory: str) -> None:
        """Has the store asked for `directory` if what is known of it is about to expire. Raises StoreError."""
        if self._memo.is_due(directory):
            await self._ask(self._memo.origin(directory), whole=False)

    def forget_path(self, path: str) -> None:
        """The object at `path` was seen to have changed: whoever wants it next has the store asked."""
        self._forgotten += 1
        self._listings.disown()
        self._singles.disown()
        self._memo.forget(path.rpartition("/")[0])
        self._memo.forget(path)

    async def renew_ahead(self) -> None:
        """Renew listings that are in use before they expire, until cancelled.

        One task of this spares readers the wait for a listing; without it, names are right all the same.
        """
        async for directory in self._renewals:
            try:
                await self.renew(directory)
            except FluidfsError:
                # Whoever wants the names once they have expired asks again, and is told of the fault then.
                continue

    async def _find(self, directory: str, name: str) -> Place | None:
        if not self._memo.keeps:
            return _place_of(await self._surveyor.single(directory, name))
        known = await self._learn(directory, whole=False)
        if isinstance(known, Large):
            if name in known.singles:
                return _place_of(known.singles[name])
            if len(known.singles) < SINGLE_LOOKUPS_MAX:
                ask = partial(self._ask_single, known, directory, name)
                return _place_of(await self._singles.share((directory, name), ask))
            known = await self._learn(directory, whole=True)
        return _find_in(known, name)

    async def _learn(self, directory: str, *, whole: bool) -> Known | Large:
        """What is known of `directory` if it is still good, else what the store says now; never Large if `whole`."""
        known = self._memo.get(directory)
        if known is None and (origin := self._memo.origin(directory)) != directory:
            await self._ask(origin, whole=False)
            known = self._memo.get(directory)
        if known is None or (whole and isinstance(known, Large)):
            return await self._ask(directory, whole=whole)
        if self._memo.is_due(directory):
            self._renew_soon(directory)
        return known

    def _renew_soon(self, directory: str) -> None:
        try:
            self._to_renew.send_nowait(directory)
        except trio.WouldBlock:
            return

    async def _ask(self, directory: str, *, whole: bool) -> Known | Large:
        return await self._listings.share((directory, whole), partial(self._survey, directory, whole=whole))

    async def _survey(self, directory: str, *, whole: bool) -> Known | Large:
        asked_at, forgotten = self._clock(), self._forgotten
        flat_first = not isinstance(self._memo.get(directory), Large)
        survey = await self._surveyor.directory(directory, whole=whole, flat_first=flat_first)
        origin = directory if survey.covers_all else None
        self._keep(survey.aside, asked_at, forgotten, origin=origin)
        record: Known | Large
        if survey.cut_off:
            record = Large(asked_at)
        else:
            record = Known(None if survey.answer is None else survey.answer.listing, asked_at, directory)
            self.hidden.replace(directory, () if survey.answer is None else survey.answer.hidden)
        if forgotten == self._forgotten:
            self._memo.put(directory, record)
        return record

    async def _ask_single(self, large: Large, directory: str, name: str) -> Entry | None:
        forgotten = self._forgotten
        entry = await self._surveyor.single(directory, name)
        if forgotten == self._forgotten:
            large.singles[name] = entry
        return entry

    def _keep(self, folded: Sequence[Folded], asked_at: float, forgotten: int, *, origin: str | None = None) -> None:
        for one in folded:
            self.hidden.replace(one.path, one.hidden)
        if forgotten == self._forgotten:
            self._memo.keep(folded, asked_at, origin=origin)


def _find_in(known: Known | Large, name: str) -> Place | None:
    assert isinstance(known, Known), "a survey of the whole directory is never cut off"
    if known.listing is None:
        return None
    position = known.listing.position(name)
    return None if position is None else Place(known.listing, position)


def _place_of(entry: Entry | None) -> Place | None:
    return None if entry is None else Place(Listing.single(entry), 0)


def _join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name
