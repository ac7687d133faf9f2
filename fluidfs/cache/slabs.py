"""All slabs of one level: where a small object is, and where the next one goes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass

from fluidfs._native.slabs import Slab, SlabSink
from fluidfs._native.usage import LevelUsage
from fluidfs.cache.files import LevelFiles, index_path, slab_path
from fluidfs.cache.identity import VersionIdentity
from fluidfs.cache.quota import slab_capacity
from fluidfs.errors import CacheUnusable

# Objects up to this size live in slabs. Larger ones get a file, which a kernel can read without us.
SMALL_OBJECT_BYTES = 256 << 10
# One slot for this many bytes of a slab: room for objects of 4 KiB at three quarters of the slots.
_BYTES_PER_SLOT = 3 << 10
_MIN_SLOTS = 1024


@dataclass(frozen=True, slots=True)
class SmallObject:
    """Where a small object lies."""

    slab: Slab
    slot: int

    def read(self, offset: int, length: int, *, always: bool, nowait: bool) -> bytes | None:
        """Its bytes, or None when they are gone or wrong; BlockingIOError when `nowait` and the disk is needed."""
        return self.slab.read(self.slot, offset, length, always=always, nowait=nowait)


class SlabSet:
    """The slabs of a level that this process has open, the newest first.

    Look-ups probe the mapped indexes one after the other; there is no second index in memory, so what another process
    stores is found at once, and a million names cost this process nothing. Raises CacheUnusable when the disk fails.
    """

    def __init__(self, files: LevelFiles, usage: LevelUsage) -> None:
        self._files = files
        self._usage = usage
        self._open: dict[int, Slab] = {}
        self._order: list[Slab] = []
        self._generation = -1

    def _refresh(self) -> None:
        generation = self._usage.slab_generation
        if generation == self._generation:
            return
        found: dict[int, Slab] = {}
        for stem in self._files.slab_stems():
            number = int(stem.name)
            slab = self._open.get(number)
            if slab is None:
                try:
                    slab = self._open_slab(number, create=False)
                except OSError:
                    continue  # gone meanwhile, or broken: `cache gc` removes those
            found[number] = slab
        # Slabs that were unlinked stay alive as long as a SmallObject points to them.
        self._open = found
        self._order = [found[number] for number in sorted(found, reverse=True)]
        self._generation = generation

    def _open_slab(self, number: int, *, create: bool) -> Slab:
        stem = self._files.slabs / str(number)
        capacity = slab_capacity(self._usage.quota_bytes)
        slots = max(_MIN_SLOTS, 1 << (capacity // _BYTES_PER_SLOT).bit_length())
        return Slab(
            os.fsencode(slab_path(stem)),
            os.fsencode(index_path(stem)),
            slot_count=slots if create else 0,
            capacity_bytes=capacity,
            usage=self._usage,
        )

    def find(self, digest: bytes) -> SmallObject | None:
        """Where the object with this digest lies, if it does."""
        self._refresh()
        for slab in self._order:
            slot = slab.find(digest)
            if slot is not None:
                return SmallObject(slab, slot)
        return None

    def sink(self, identity: VersionIdentity) -> SlabSink:
        """A sink that stores the object as soon as it is whole. Raises CacheUnusable when no slab can be opened."""
        slab = self._current() or self._new()
        return SlabSink(slab, identity.digest(), identity.encode(), identity.size)

    def stored(self, sink: SlabSink, identity: VersionIdentity) -> SmallObject:
        """Where a sink of ours, whose job ended well, put its object; in another slab if its own had no room left.

        Raises CacheUnusable when it could be stored nowhere; `sink.data` has it still.
        """
        if sink.slot is not None:
            return SmallObject(sink.slab, sink.slot)
        try:
            slab = self._new()
            slot = slab.put(identity.digest(), identity.encode(), sink.data)
        except OSError as error:
            raise CacheUnusable(f"a slab cannot be written: {error.strerror}") from error
        if slot is None:
            raise CacheUnusable("a new slab has no room: the disk is full")
        return SmallObject(slab, slot)

    def _current(self) -> Slab | None:
        self._refresh()
        for slab in self._order[:1]:
            if slab.capacity_bytes - slab.used_bytes > SMALL_OBJECT_BYTES:
                return slab
        return None

    def _new(self) -> Slab:
        numbers = [int(stem.name) for stem in self._files.slab_stems()]
        number = max(numbers, default=0) + 1
        try:
            # Two processes that make the same slab at once share it: ff_slab_open makes what is not there.
            self._open_slab(number, create=True)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise CacheUnusable("no slab can be made: the disk is full") from error
            raise CacheUnusable(f"no slab can be made: {error.strerror}") from error
        self._usage.count_slab_change()
        self._refresh()
        if not self._order:
            raise CacheUnusable("a slab that was just made is gone")
        return self._order[0]

    def __iter__(self) -> Iterator[Slab]:
        self._refresh()
        return iter(list(self._order))

    def close(self) -> None:
        """Lets go of all slabs; those that a SmallObject points to close when it goes."""
        self._open = {}
        self._order = []
        self._generation = -1
