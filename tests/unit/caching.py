"""What the tests of the cache share: versions and slabs by themselves, levels, and bytes that can be computed again."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fluidfs._native.objects import ObjectFile
from fluidfs._native.slabs import Slab
from fluidfs._native.usage import LevelUsage
from fluidfs.cache.files import data_path, map_path
from fluidfs.cache.identity import VersionIdentity
from fluidfs.cache.level import Level
from fluidfs.config import LevelSpec

KIB, MIB = 1 << 10, 1 << 20
# The smallest that there is: 64 sub-blocks of 4 KiB.
BLOCK = 256 * KIB
SUB = BLOCK // 64
BOOT, OTHER_BOOT = bytes(range(16)), bytes(range(1, 17))


@lru_cache(maxsize=8)
def content(size: int, seed: object = 0) -> bytes:
    """The bytes of the object that `seed` stands for; no sub-block of it is like another, or zero."""
    return random.Random(repr(seed)).randbytes(size)


def usage_in(directory: Path, *, quota_bytes: int = 1 << 40) -> LevelUsage:
    """The counters of a level, alone in `directory`."""
    with (directory / "level").open("a+b") as file:
        usage = LevelUsage(file.fileno())
    usage.set_limits(quota_bytes=quota_bytes, high_bytes=quota_bytes, low_bytes=quota_bytes)
    return usage


@dataclass(frozen=True, slots=True)
class Lone:
    """One version's files, outside of any level."""

    directory: Path
    size: int
    usage: LevelUsage
    block_bytes: int = BLOCK

    @property
    def data(self) -> Path:
        return self.directory / "v.data"

    @property
    def map(self) -> Path:
        return self.directory / "v.map"

    def open(self, *, create: bool = True, boot: bytes = BOOT, identity: bytes = b"who", size: int = 0) -> ObjectFile:
        return ObjectFile(
            bytes(self.data),
            bytes(self.map),
            create=create,
            object_bytes=size or self.size,
            block_bytes=self.block_bytes,
            identity=identity,
            boot_id=boot,
            usage=self.usage,
        )

    def filled(self, *, boot: bytes = BOOT) -> ObjectFile:
        """Open, with every byte of `content(size)` in it."""
        file = self.open(boot=boot)
        file.sink().write(0, content(self.size))
        return file


def lone(directory: Path, size: int, *, block_bytes: int = BLOCK) -> Lone:
    return Lone(directory, size, usage_in(directory), block_bytes)


def slab_in(directory: Path, usage: LevelUsage, *, slots: int = 64, capacity: int = MIB, boot: bytes = BOOT) -> Slab:
    """The slab of `directory`; with no slots it must be there."""
    return Slab(
        bytes(directory / "1.slab"),
        bytes(directory / "1.idx"),
        slot_count=slots,
        capacity_bytes=capacity,
        boot_id=boot,
        usage=usage,
    )


def level_in(
    directory: Path, *, quota_bytes: int | None = 64 * MIB, block_bytes: int = BLOCK, **options: object
) -> Level:
    return Level(LevelSpec(str(directory), quota_bytes), block_bytes=block_bytes, **options)  # type: ignore[arg-type]


def version_named(key: str, size: int = 3 * BLOCK + 17) -> VersionIdentity:
    return VersionIdentity("s3+http://127.0.0.1:1/bucket", key, "etag", size)


def put(level: Level, identity: VersionIdentity, *, last_use_s: int | None = None) -> Path:
    """Stores all of the version in the level and closes it; its stem."""
    file = level.open_object(identity, create=True)
    assert file is not None
    file.sink().write(0, content(identity.size, identity.key))
    if last_use_s is not None:
        file.touch(last_use_s)
    file.close()
    return level.files.object_stem(identity.digest())


def put_small(level: Level, identity: VersionIdentity) -> None:
    """Stores a small object in the level's slabs."""
    sink = level.slabs.sink(identity)
    slot = sink.slab.put(identity.digest(), identity.encode(), content(identity.size, identity.key))
    assert slot is not None


def is_there(stem: Path) -> bool:
    """Whether both files of a version are; half of a pair fails the test."""
    both = (data_path(stem).exists(), map_path(stem).exists())
    assert both[0] == both[1]
    return both[0]
