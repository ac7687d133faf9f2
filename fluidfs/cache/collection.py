"""Removing from a level what no process can use: halves of pairs, damaged files, what crashes and strangers left."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fluidfs.cache.eviction import evictor_lock
from fluidfs.cache.files import index_path, slab_number, slab_path
from fluidfs.cache.level import Level
from fluidfs.cache.recount import count_bytes
from fluidfs.cache.removal import remove_if_unused
from fluidfs.cache.slabs import open_slab, slab_names_lock

# A map or an index is made under another name and gets its own within milliseconds: an older one has no maker any more.
_MAKING_S = 60.0
# What opening says of files that can never be opened, in contrast to those that cannot be just now.
_DAMAGED = (errno.ENOENT, errno.EUCLEAN, errno.EINVAL)


@dataclass(frozen=True, slots=True)
class GcReport:
    """What was removed because nothing could use it, and the usage counter before and after it was counted anew."""

    orphans_removed: int
    bytes_freed: int
    usage_before_bytes: int
    usage_after_bytes: int


def collect_level(level: Level) -> GcReport:
    """Removes what cannot be used and counts the usage anew; what is in use stays. Raises OSError.

    The count is exact when nobody writes meanwhile, and else off by what was written.
    """
    with evictor_lock(level, wait=True):
        before = level.usage.used_bytes
        removed = [*_remove_objects(level), *_remove_slabs(level)]
        after = count_bytes(level)
        level.usage.used_bytes = after
        return GcReport(len(removed), sum(removed), before, after)


def _files_under(directory: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(directory, followlinks=False):
        for name in names:
            yield Path(parent, name)


def _remove_objects(level: Level) -> Iterator[int]:
    """Yields the bytes that each removed file had on the disk."""
    root = level.files.objects
    for path in list(_files_under(root)):
        stem = path.with_suffix("")
        in_place = path == root / stem.name[:2] / stem.name[2:4] / path.name
        if in_place and path.suffix in (".data", ".map"):
            size = _disk_bytes(path)
            if size is not None and not _version_opens(level, stem) and remove_if_unused(stem):
                yield size
        else:
            yield from _remove_stray(path)


def _version_opens(level: Level, stem: Path) -> bool:
    """Whether it can be used, now or later."""
    try:
        level.open_stem(stem)[0].close()
    except ValueError:
        return False
    except OSError as error:
        return error.errno not in _DAMAGED
    return True


def _remove_slabs(level: Level) -> Iterator[int]:
    with slab_names_lock(level.files, wait=True):  # nobody is between making a slab's two files
        for path in list(_files_under(level.files.slabs)):
            number = slab_number(path)
            if path.parent != level.files.slabs or number is None or path.suffix not in (".slab", ".idx"):
                yield from _remove_stray(path)
                continue
            try:
                open_slab(level.files, number, usage=level.usage, boot_id=level.boot_id).close()
            except OSError as error:
                if error.errno not in _DAMAGED:
                    continue
            else:
                continue
            # The index first; the other file of the pair is met in this same walk, or is gone already.
            stem = path.with_suffix("")
            for each in (index_path(stem), slab_path(stem)):
                yield from _remove(each)
        level.usage.count_slab_change()


def _remove_stray(path: Path) -> Iterator[int]:
    """A file with no name of ours; one that is just being made is left."""
    try:
        young = path.suffix == ".new" and time.time() - path.lstat().st_mtime < _MAKING_S
    except OSError:
        return
    if not young:
        yield from _remove(path)


def _remove(path: Path) -> Iterator[int]:
    size = _disk_bytes(path)
    try:
        path.unlink()
    except OSError:
        return
    yield size or 0


def _disk_bytes(path: Path) -> int | None:
    try:
        return path.lstat().st_blocks * 512
    except OSError:
        return None
