"""Making room in a level: versions and slabs that nobody has open are unlinked, or moved one level down."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fluidfs._native.slabs import Slab
from fluidfs.cache.files import data_path, index_path, map_path, read_map_header, slab_path
from fluidfs.cache.identity import VersionIdentity, decode_identity
from fluidfs.cache.level import Level
from fluidfs.cache.quota import Candidate, choose_victims


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
    for stem in level.files.slab_stems():
        try:
            slab = open_slab(level, stem)
        except OSError:
            continue
        yield Candidate(stem, "slab", slab.used_bytes, slab.last_use_s)
        slab.close()


def open_slab(level: Level, stem: Path) -> Slab:
    """A slab found in the directory; raises OSError."""
    return Slab(
        os.fsencode(slab_path(stem)),
        os.fsencode(index_path(stem)),
        slot_count=0,
        capacity_bytes=0,
        usage=level.usage,
    )


def evict(
    level: Level,
    *,
    target_bytes: int,
    wanted: Callable[[Candidate], bool] = lambda _: True,
    lower: Level | None = None,
    wait: bool = False,
) -> EvictReport:
    """Brings the level's usage down to `target_bytes`, the least recently used first; waits for the disk.

    Only what `wanted` admits goes. With a `lower` level versions move there while it has room. Does nothing when
    another process is evicting, unless `wait`. Raises OSError.
    """
    with evictor_lock(level, wait=wait) as ours:
        if not ours:
            return EvictReport(0, 0, 0)
        excess = level.usage.used_bytes - target_bytes
        # In use is known only by trying, so all are candidates and the choice is made again from what is left.
        remaining = [candidate for candidate in candidates_of(level) if wanted(candidate)]
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
        for stem in level.files.slab_stems():
            try:
                slab = open_slab(level, stem)
            except OSError:
                continue
            for slot, encoded, _ in slab.entries():
                if _admits(wanted, encoded):
                    slab.drop(slot)
                    versions += 1
            slab.close()
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
        if lower is not None and lower.fault is None and lower.has_room(present):
            _copy_down(stem, lower.files.object_stem(identity.digest()), lower, present)
        # The map first: a version without a map is not there, whatever happens to us between the two.
        map_path(stem).unlink(missing_ok=True)
        data_path(stem).unlink(missing_ok=True)
        level.usage.count_evicted(present)
        return present
    finally:
        file.close()


def _copy_down(stem: Path, target: Path, lower: Level, present: int) -> None:
    """Copies a version that nobody has open. A failure costs only the copy."""
    if map_path(target).exists():
        return
    temporary = target.with_name(f"{target.name}.{os.getpid()}.moving")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _copy_sparse(data_path(stem), temporary)
        os.replace(temporary, data_path(target))
        shutil.copyfile(map_path(stem), temporary)
        os.replace(temporary, map_path(target))
        lower.usage.add(present)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        lower.report_fault(error.strerror or "cannot be written")


def _copy_sparse(source: Path, target: Path) -> None:
    """Copies data and leaves holes holes."""
    fd_in = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    fd_out = os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        size = os.fstat(fd_in).st_size
        os.ftruncate(fd_out, size)
        offset = 0
        while offset < size:
            try:
                offset = os.lseek(fd_in, offset, os.SEEK_DATA)
            except OSError:
                break  # ENXIO: a hole up to the end
            end = os.lseek(fd_in, offset, os.SEEK_HOLE)
            while offset < end:
                data = os.pread(fd_in, min(1 << 20, end - offset), offset)
                if not data:
                    return
                os.pwrite(fd_out, data, offset)
                offset += len(data)
        os.fdatasync(fd_out)
    finally:
        os.close(fd_in)
        os.close(fd_out)


def _evict_slab(level: Level, stem: Path) -> int | None:
    # Slabs go even while processes have them open: they keep what they have, by the unlinked file. Their users would
    # otherwise hold every slab for as long as they run.
    try:
        slab = open_slab(level, stem)
        used = slab.used_bytes
        slab.close()
        index_path(stem).unlink(missing_ok=True)
        slab_path(stem).unlink(missing_ok=True)
    except OSError:
        return None
    level.usage.count_evicted(used)
    level.usage.count_slab_change()
    return used
