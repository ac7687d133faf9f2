"""Making room for a version that is being read: first from what nobody uses, then from its own far blocks."""

from __future__ import annotations

from fluidfs.cache.eviction import EvictReport, evict
from fluidfs.cache.level import Level
from fluidfs.cache.version import CachedVersion

# Blocks on either side of the reader that are not punched: what it has just read and what is fetched ahead of it. Of a
# small level it is this share, or nothing could ever go.
NEAR_BLOCKS = 16
NEAR_SHARE = 1 / 8


def make_room(level: Level, lower: Level | None, *, size_bytes: int) -> EvictReport:
    """Evicts down to the low watermark, and until `size_bytes` more fit. Waits for the disk; raises OSError."""
    usage = level.usage
    fits = max(0, usage.quota_bytes - level.reserved_bytes - size_bytes)
    return evict(level, target_bytes=min(usage.low_bytes, fits), lower=lower)


def punch_behind(version: CachedVersion, *, size_bytes: int, around: int) -> int:
    """Gives back at least `size_bytes` of a version's blocks that are far from `around`, if it has them.

    Of a version that was ever sealed nothing is given back: a kernel may be reading it by itself.

    Returns the bytes given back. The blocks behind the reader go first, from the file's start; then those ahead of
    it, from the end. Waits for the disk.
    """
    file = version.file
    if file is None or file.was_sealed:
        return 0
    here = min(around // file.block_bytes, file.block_count - 1)
    quota_bytes = version.level.usage.quota_bytes if version.level is not None else 0
    near = min(NEAR_BLOCKS, file.block_count // 8, int(quota_bytes * NEAR_SHARE) // file.block_bytes)
    behind = range(here - near)
    ahead = range(file.block_count - 1, here + near, -1)
    freed = 0
    for block in (*behind, *ahead):
        if freed >= size_bytes:
            break
        try:
            freed += file.drop_block(block, punch=True)
        except OSError:
            continue  # being read just now, or a disk that cannot punch
    return freed
