"""What a level really holds, counted from its files: crashes, and people with `rm`, make the shared counter wrong."""

from __future__ import annotations

from collections.abc import Iterator

from fluidfs._native.slabs import Slab
from fluidfs.cache.level import Level
from fluidfs.cache.slabs import open_slab

# A counter that is off by less is left alone: versions that are written meanwhile make the count uncertain.
_TOLERATED_SHARE = 0.05


def open_slabs(level: Level) -> Iterator[tuple[int, Slab]]:
    """Every slab that can be opened, with its number; each is closed when the next is asked for."""
    for stem in level.files.slab_stems():
        number = int(stem.name)
        try:
            slab = open_slab(level.files, number, usage=level.usage, boot_id=level.boot_id)
        except OSError:
            continue
        try:
            yield number, slab
        finally:
            slab.close()


def count_bytes(level: Level) -> int:
    """The bytes of all versions and slabs. Waits for the disk."""
    used = sum(slab.used_bytes for _, slab in open_slabs(level))
    for stem in level.files.object_stems():
        try:
            file, _ = level.open_stem(stem)
        except (OSError, ValueError):
            continue
        used += file.present_bytes
        file.close()
    return used


def correct_overcount(level: Level) -> int:
    """Takes off the counter what is not there, and returns it; for when nothing is left to evict.

    The counter is read first, so that what is written meanwhile is counted twice rather than not at all.
    """
    before = level.usage.used_bytes
    missing = before - count_bytes(level)
    if missing <= level.usage.quota_bytes * _TOLERATED_SHARE:
        return 0
    level.usage.subtract(missing)
    return missing
