"""What `fluidfs cache` does to a level, whether or not a daemon uses it: look, compare, evict, clean up.

Functions wait for the disk. They raise CacheUnusable when the level cannot be used at all; a version that cannot be
read is reported, or left to `collect`, and never stops the rest.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from fluidfs._native.objects import ObjectFile
from fluidfs.cache.collection import GcReport, collect_level
from fluidfs.cache.eviction import EvictReport, evict_matching
from fluidfs.cache.eviction import evict as evict_down_to
from fluidfs.cache.files import FORMAT_DIRECTORY, slab_path
from fluidfs.cache.identity import VersionIdentity, decode_identity
from fluidfs.cache.level import Level
from fluidfs.cache.recount import open_slabs
from fluidfs.config import LevelSpec
from fluidfs.config.values import DEFAULT_BLOCK_SIZE
from fluidfs.errors import CacheUnusable

__all__ = [
    "CachedVersion",
    "EvictReport",
    "GcReport",
    "LevelUsage",
    "VerifyReport",
    "collect",
    "evict",
    "level_usage",
    "list_versions",
    "verify",
]

# Bad blocks named in a report; a disk that is going has more than anybody reads.
_NAMED_MAX = 100


@dataclass(frozen=True, slots=True)
class CachedVersion:
    """A version found in a level. `in_use`: some process has it open. Of a slab's objects only whole ones are there."""

    kind: Literal["object", "slab"]
    store: str
    key: str
    version: str
    size_bytes: int
    cached_bytes: int
    sealed: bool
    in_use: bool
    last_use_s: float


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a comparison found; bad blocks (a small object counts as one) were dropped. `bad` names some of them."""

    versions: int
    blocks_checked: int
    blocks_bad: int
    bytes_checked: int
    bad: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LevelUsage:
    """What a level holds and may hold, and what its disk has left."""

    used_bytes: int
    quota_bytes: int
    high_bytes: int
    low_bytes: int
    free_disk_bytes: int


@contextmanager
def _existing(spec: LevelSpec) -> Iterator[Level]:
    """The level, which must be there: looking at a cache makes none."""
    if not (Path(spec.path) / FORMAT_DIRECTORY / "level").exists():
        raise CacheUnusable(f"there is no cache in {spec.path}")
    level = Level(LevelSpec(spec.path, None, spec.medium), block_bytes=DEFAULT_BLOCK_SIZE)
    try:
        yield level
    finally:
        level.close()


def level_usage(spec: LevelSpec) -> LevelUsage:
    """The level's counters."""
    with _existing(spec) as level:
        usage, disk = level.usage, os.statvfs(level.files.root)
        return LevelUsage(
            usage.used_bytes, usage.quota_bytes, usage.high_bytes, usage.low_bytes, disk.f_bavail * disk.f_frsize
        )


def list_versions(spec: LevelSpec) -> Iterator[CachedVersion]:
    """Everything in the level, object versions first, in no order."""
    with _existing(spec) as level:
        for file, identity in _objects(level):
            facts = (file.present_bytes, file.sealed, not file.alone(), file.last_use_s)
            file.close()  # alone, we would keep others from opening it for as long as the caller looks at it
            yield _shown("object", identity, *facts)
        for number, slab in open_slabs(level):
            entries, last_use_s = slab.entries(), slab.last_use_s
            slab.close()
            in_use = _is_locked(slab_path(level.files.slabs / str(number)))
            for _, encoded, length in entries:
                try:
                    identity = decode_identity(encoded)
                except ValueError:
                    continue
                yield _shown("slab", identity, length, False, in_use, last_use_s)


def _shown(
    kind: Literal["object", "slab"], who: VersionIdentity, cached: int, sealed: bool, in_use: bool, last_use_s: float
) -> CachedVersion:
    return CachedVersion(kind, who.store, who.key, who.version, who.size, cached, sealed, in_use, last_use_s)


def _objects(level: Level) -> Iterator[tuple[ObjectFile, VersionIdentity]]:
    """Every version that can be opened, open; it is closed when the next one is asked for."""
    for stem in level.files.object_stems():
        try:
            file, identity = level.open_stem(stem)
        except (OSError, ValueError):
            continue
        try:
            yield file, identity
        finally:
            file.close()


def _is_locked(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def verify(spec: LevelSpec, *, progress: Callable[[int, int], None] = lambda _done, _total: None) -> VerifyReport:
    """Compares every complete block, and every small object, with its checksum; drops what is wrong.

    `progress(bytes_done, bytes_total)` is called as it goes.
    """
    versions = blocks = bad_blocks = done = 0
    bad: list[str] = []
    with _existing(spec) as level:
        total = level.usage.used_bytes
        for file, identity in _objects(level):
            versions += 1
            for index in range(file.block_count):
                right = _compare(file.verify_block, index)
                if right is None:
                    continue
                blocks += 1
                done += min(file.block_bytes, identity.size - index * file.block_bytes)
                if not right:
                    bad_blocks += 1
                    bad.append(f"{identity.store}/{identity.key} block {index}")
                progress(min(done, total), total)
        for _, slab in open_slabs(level):
            for slot, encoded, length in slab.entries():
                right = _compare(slab.verify, slot)
                if right is None:
                    continue
                versions += 1
                blocks += 1
                done += length
                if not right:
                    bad_blocks += 1
                    bad.append(_named(encoded))
                progress(min(done, total), total)
    return VerifyReport(versions, blocks, bad_blocks, done, tuple(bad[:_NAMED_MAX]))


def _compare(compare: Callable[[int], bool | None], index: int) -> bool | None:
    """As `compare`; a disk that fails is a block that is wrong."""
    try:
        return compare(index)
    except OSError:
        return False


def _named(encoded: bytes) -> str:
    try:
        identity = decode_identity(encoded)
    except ValueError:
        return "an object whose name is damaged"
    return f"{identity.store}/{identity.key}"


def evict(
    spec: LevelSpec, *, target_bytes: int | None = None, pattern: str | None = None, everything: bool = False
) -> EvictReport:
    """Evicts what nobody has open: down to `target_bytes`, what `pattern` matches, or `everything`.

    `pattern` is an fnmatch pattern for `STORE/KEY`, or for the key alone. Slabs hold many objects and go whole, even
    while they are open, but never for a pattern: there their objects are dropped one by one. Raises OSError.
    """
    with _existing(spec) as level:
        if pattern is not None:
            return evict_matching(level, lambda who: _matches(who, pattern))
        return evict_down_to(level, target_bytes=0 if everything else target_bytes or 0, wait=True)


def _matches(identity: VersionIdentity, pattern: str) -> bool:
    return fnmatchcase(identity.key, pattern) or fnmatchcase(f"{identity.store}/{identity.key}", pattern)


def collect(spec: LevelSpec) -> GcReport:
    """Removes what no process can use (half of a pair, damaged or foreign files) and counts the usage anew.

    What is in use stays. The count is exact when nobody writes meanwhile, and else off by what was written.
    """
    with _existing(spec) as level:
        return collect_level(level)
