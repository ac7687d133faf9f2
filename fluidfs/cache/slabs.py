"""All slabs of one level: where a small object is, and where the next one goes."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fluidfs._native.slabs import Slab, SlabSink
from fluidfs._native.usage import LevelUsage
from fluidfs.cache.files import LevelFiles, index_path, slab_path
from fluidfs.cache.identity import VersionIdentity
from fluidfs.cache.quota import slab_capacity
from fluidfs.errors import CacheError, CacheFull, CacheUnusable

# Objects up to this size live in slabs. Larger ones get a file, which a kernel can read without us.
SMALL_OBJECT_BYTES = 256 << 10
# One slot for this many bytes of a slab: room for objects of 4 KiB at three quarters of the slots.
_BYTES_PER_SLOT = 3 << 10
_MIN_SLOTS = 1024
# A slab is made or unlinked in milliseconds. Past this whoever is at it was stopped: a reader does not wait for it.
_LOCK_WAIT_S = 0.2
_LOCK_PAUSE_S = 0.002
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class SmallObject:
    """Where a small object lies."""

    slab: Slab
    slot: int

    def read(self, offset: int, length: int, *, always: bool, nowait: bool) -> bytes | None:
        """Its bytes, or None when they are gone or wrong; BlockingIOError when `nowait` and the disk is needed."""
        return self.slab.read(self.slot, offset, length, always=always, nowait=nowait)


@contextmanager
def slab_names_lock(files: LevelFiles, *, wait: bool) -> Iterator[None]:
    """Held by whoever gives or takes names in the directory of slabs.

    Raises OSError, BlockingIOError among them when another has it (`wait`: only after a moment).
    """
    fd = os.open(files.slabs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        deadline = time.monotonic() + (_LOCK_WAIT_S if wait else 0.0)
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_LOCK_PAUSE_S)
        yield
    finally:
        os.close(fd)


def open_slab(files: LevelFiles, number: int, *, usage: LevelUsage, boot_id: bytes, create: bool = False) -> Slab:
    """The slab of this number, which is made if it is to be. Raises OSError."""
    stem = files.slabs / str(number)
    capacity = slab_capacity(usage.quota_bytes)
    slots = max(_MIN_SLOTS, 1 << (capacity // _BYTES_PER_SLOT).bit_length())
    return Slab(
        os.fsencode(slab_path(stem)),
        os.fsencode(index_path(stem)),
        slot_count=slots if create else 0,
        capacity_bytes=capacity,
        boot_id=boot_id,
        usage=usage,
    )


class SlabSet:
    """The slabs of a level that this process has open, the newest first. Not thread-safe.

    Look-ups probe the mapped indexes one after the other; there is no second index in memory, so what another process
    stores is found at once, and a million names cost this process nothing. Raises CacheUnusable when the disk fails,
    CacheFull when it has no room, CacheError when another process keeps us from it.
    """

    def __init__(self, files: LevelFiles, usage: LevelUsage, boot_id: bytes) -> None:
        self._files = files
        self._usage = usage
        self._boot_id = boot_id
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
            try:
                if slab is None or not _still_named(slab, slab_path(stem)):
                    slab = open_slab(self._files, number, usage=self._usage, boot_id=self._boot_id)
            except OSError:
                continue  # gone meanwhile, or broken: `cache gc` removes those
            found[number] = slab
        # Slabs that were unlinked stay alive as long as a SmallObject points to them.
        self._open = found
        self._order = [found[number] for number in sorted(found, reverse=True)]
        self._generation = generation

    def find(self, digest: bytes) -> SmallObject | None:
        """Where the object with this digest lies, if it does. Raises OSError."""
        self._refresh()
        for slab in self._order:
            slot = slab.find(digest)
            if slot is not None:
                return SmallObject(slab, slot)
        return None

    def sink(self, identity: VersionIdentity) -> SlabSink:
        """A sink that stores the object as soon as it is whole."""
        encoded = identity.encode()
        slab = self._with_room(len(encoded) + identity.size)
        return SlabSink(slab, identity.digest(), encoded, identity.size)

    def stored(self, sink: SlabSink, identity: VersionIdentity) -> SmallObject:
        """Where a sink of ours, whose job ended well, put its object; in another slab if its own had no room left.

        Raises CacheError when it could be stored nowhere; `sink.data` has it still.
        """
        if sink.slot is not None:
            return SmallObject(sink.slab, sink.slot)
        encoded = identity.encode()
        slab = self._with_room(len(encoded) + identity.size)
        try:
            slot = slab.put(identity.digest(), encoded, sink.data)
        except OSError as error:
            raise CacheUnusable(f"a slab cannot be written: {error.strerror}") from error
        if slot is None:
            raise CacheFull("a slab cannot be written: the disk is full")
        return SmallObject(slab, slot)

    def _with_room(self, size_bytes: int) -> Slab:
        try:
            slab = self._found_with_room(size_bytes)
            if slab is None:
                with slab_names_lock(self._files, wait=True):
                    # Of the processes that found no room the first makes a slab, and the others find that.
                    slab = self._found_with_room(size_bytes) or self._new()
        except BlockingIOError as error:
            raise CacheError("another process is busy with the slabs") from error
        except OSError as error:
            if error.errno in _FULL:
                raise CacheFull("no slab can be made: the disk is full") from error
            raise CacheUnusable(f"no slab can be made: {error.strerror}") from error
        return slab

    def _found_with_room(self, size_bytes: int) -> Slab | None:
        self._refresh()
        # Records are aligned.
        return next((slab for slab in self._order if slab.room_bytes >= size_bytes + 64), None)

    def _new(self) -> Slab:
        """Makes a slab; the lock on names is ours. Its number was never another's: the generation only grows."""
        number = max(self._usage.slab_generation, *self._files.slab_numbers(), 0) + 1
        slab = open_slab(self._files, number, usage=self._usage, boot_id=self._boot_id, create=True)
        self._open[number] = slab
        self._usage.count_slab_change()
        self._refresh()
        return slab

    def __iter__(self) -> Iterator[Slab]:
        self._refresh()
        return iter(list(self._order))

    def close(self) -> None:
        """Lets go of all slabs; those that a SmallObject points to close when it goes."""
        self._open = {}
        self._order = []
        self._generation = -1


def _still_named(slab: Slab, path: Path) -> bool:
    return os.path.samestat(os.fstat(slab.fileno()), path.stat())
