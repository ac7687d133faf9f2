"""Making room in a level: versions and slabs that nobody has open are unlinked, or moved one level down."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fluidfs.cache.files import data_path, index_path, read_map_header, slab_path
from fluidfs.cache.identity import VersionIdentity, decode_identity
from fluidfs.cache.level import Level
from fluidfs.cache.moving import copy_down
from fluidfs.cache.quota import Candidate, choose_victims
from fluidfs.cache.recount import correct_overcount, open_slabs
from fluidfs.cache.removal import unlink_version
from fluidfs.cache.slabs import open_slab, slab_names_lock


@dataclass(frozen=True, slots=True)
class EvictReport:
    """What an eviction did: versions and bytes that went (a slab counts as one), and how many stayed, being in use."""

    versions: int
    bytes_freed: int
    in_use_kept: int


@contextmanager
def evictor_lock(level: Level, *, wait: bool) -> Iterator[bool]:
    """The one evictor's place; yields False when another has it and we do not wait."""
    fd = os.open(level.files.evict_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(fd)


def candidates_of(level: Level) -> Iterator[Candidate]:
    """All versions and slabs of a level. What cannot be read is left to `cache gc`."""
    for stem in level.files.object_stems():
        try:
            header = read_map_header(stem)
            # What the disk gave, which is close to what is present; the exact figure needs the version opened.
            size = data_path(stem).stat().st_blocks * 512
        except (OSError, ValueError):
            continue
        yield Candidate(stem, "object", size, header.last_use_s)
    for number, slab in open_slabs(level):
        yield Candidate(level.files.slabs / str(number), "slab", slab.used_bytes, slab.last_use_s)


def evict(level: Level, *, target_bytes: int, lower: Level | None = None, wait: bool = False) -> EvictReport:
    """Brings the level's usage down to `target_bytes`, the least recently used first; waits for the disk.

    With a `lower` level versions move there while it has room. Does nothing when another process is evicting, unless
    `wait`. When nothing is left to evict and the usage is still above the target, it is counted anew. Raises OSError.
    """
    with evictor_lock(level, wait=wait) as ours:
        if not ours:
            return EvictReport(0, 0, 0)
        excess = level.usage.used_bytes - target_bytes
        # In use is known only by trying, so all are candidates and the choice is made again from what is left.
        remaining = list(candidates_of(level)) if excess > 0 else []
        versions = bytes_freed = kept = 0
        while excess > 0 and remaining:
            victims = choose_victims(remaining, excess_bytes=excess)
            chosen = set(victims)
            remaining = [candidate for candidate in remaining if candidate not in chosen]
            for victim in victims:
                freed = _evict_one(level, victim, lower)
                if freed is None:
                    kept += 1
                    continue
                versions += 1
                bytes_freed += freed
            excess = level.usage.used_bytes - target_bytes
        if excess > 0:
            correct_overcount(level)
        return EvictReport(versions, bytes_freed, kept)


def evict_matching(level: Level, wanted: Callable[[VersionIdentity], bool]) -> EvictReport:
    """Evicts every version that `wanted` admits and nobody has open; small objects are dropped where they lie.

    The room of a dropped small object comes back when its slab is evicted. Waits for another evictor; raises OSError.
    """
    versions = bytes_freed = kept = 0
    with evictor_lock(level, wait=True):
        for stem in level.files.object_stems():
            try:
                identity = read_map_header(stem).identity
            except (OSError, ValueError):
                continue
            if wanted(identity):
                freed = _evict_object(level, stem, None)
                kept += freed is None
                versions += freed is not None
                bytes_freed += freed or 0
        for _, slab in open_slabs(level):
            for slot, encoded, _ in slab.entries():
                if _admits(wanted, encoded):
                    slab.drop(slot)
                    versions += 1
    return EvictReport(versions, bytes_freed, kept)


def _admits(wanted: Callable[[VersionIdentity], bool], encoded: bytes) -> bool:
    try:
        return wanted(decode_identity(encoded))
    except ValueError:
        return False


def _evict_one(level: Level, victim: Candidate, lower: Level | None) -> int | None:
    """The bytes that went, None when it is in use."""
    return _evict_object(level, victim.stem, lower) if victim.kind == "object" else _evict_slab(level, victim.stem)


def _evict_object(level: Level, stem: Path, lower: Level | None) -> int | None:
    try:
        file, identity = level.open_stem(stem)
    except (OSError, ValueError):
        return None
    try:
        if not file.alone():
            return None
        present = file.present_bytes
        if lower is not None and lower.fault is None and present and lower.has_room(present):
            copy_down(file, stem, identity, lower)
        if not unlink_version(stem):
            return None
        level.usage.count_evicted(present)
        return present
    finally:
        file.close()


def _evict_slab(level: Level, stem: Path) -> int | None:
    # Slabs go even while processes have them open: they keep what they have, by the unlinked file. Their users would
    # otherwise hold every slab for as long as they run.
    try:
        with slab_names_lock(level.files, wait=True):
            slab = open_slab(level.files, int(stem.name), usage=level.usage, boot_id=level.boot_id)
            used = slab.retire()
            slab.close()
            index_path(stem).unlink(missing_ok=True)
            slab_path(stem).unlink(missing_ok=True)
    except OSError:
        return None
    level.usage.count_evicted(used)
    level.usage.count_slab_change()
    return used
