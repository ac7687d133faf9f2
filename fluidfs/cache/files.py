"""Where things lie in a level's directory, and what the header of a map says without opening the version.

    PATH/v1/level               quota and shared counters (usage.h)
    PATH/v1/evict.lock          held by the one evictor
    PATH/v1/objects/ab/cd/…     <hash>.data and <hash>.map (object_file.h)
    PATH/v1/slabs/              <number>.slab and <number>.idx (slab.h); makers and removers lock it

`v1` is the format: another format lives beside it, and neither harms the other.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fluidfs.cache.identity import VersionIdentity, decode_identity

FORMAT_DIRECTORY = "v1"

_HEADER_BYTES = 4096
_IDENTITY_OFFSET = 512
_SEALED = 1
# magic, format, header_bytes, object_bytes, block_bytes, sub_block_bytes, block_count, last_use_s, boot_id, sealed,
# identity_bytes: the table in object_file.h.
_HEADER = struct.Struct("<8sIIQIIQQ16sII")


@dataclass(frozen=True, slots=True)
class LevelFiles:
    """Paths of one level; `root` is `PATH/v1`."""

    root: Path

    @property
    def level(self) -> Path:
        """The file of quota and counters."""
        return self.root / "level"

    @property
    def evict_lock(self) -> Path:
        """Whoever evicts, or repairs the counters, holds a lock on it."""
        return self.root / "evict.lock"

    @property
    def objects(self) -> Path:
        """The directory of object versions."""
        return self.root / "objects"

    @property
    def slabs(self) -> Path:
        """The directory of slabs."""
        return self.root / "slabs"

    def object_stem(self, digest: bytes) -> Path:
        """The common path of a version's two files, without their suffix."""
        name = digest.hex()
        return self.objects / name[:2] / name[2:4] / name

    def object_stems(self) -> Iterator[Path]:
        """The stems of all versions that have a map, in no order; what vanishes meanwhile is left out."""
        for path in _glob(self.objects, "*/*/*.map"):
            yield path.with_suffix("")

    def slab_stems(self) -> list[Path]:
        """The stems of all slabs that have an index, the newest first."""
        stems = [path.with_suffix("") for path in _glob(self.slabs, "*.idx") if slab_number(path) is not None]
        return sorted(stems, key=lambda stem: int(stem.name), reverse=True)

    def slab_numbers(self) -> list[int]:
        """The numbers that slabs, or what is left of them, have."""
        numbers = (slab_number(path) for path in _glob(self.slabs, "*"))
        return [number for number in numbers if number is not None]


def slab_number(path: Path) -> int | None:
    """The number in the name of a slab's file; None for a name that we do not give."""
    name = path.name.partition(".")[0]
    return int(name) if name.isascii() and name.isdecimal() and name == str(int(name)) else None


def _glob(directory: Path, pattern: str) -> Iterator[Path]:
    try:
        yield from directory.glob(pattern)
    except FileNotFoundError:
        return


def data_path(stem: Path) -> Path:
    """The sparse file of a version's bytes."""
    return stem.with_name(stem.name + ".data")


def map_path(stem: Path) -> Path:
    """The map of a version."""
    return stem.with_name(stem.name + ".map")


def slab_path(stem: Path) -> Path:
    """The file of a slab's records."""
    return stem.with_name(stem.name + ".slab")


def index_path(stem: Path) -> Path:
    """The index of a slab."""
    return stem.with_name(stem.name + ".idx")


@dataclass(frozen=True, slots=True)
class MapHeader:
    """What a map's first page says."""

    identity: VersionIdentity
    block_bytes: int
    last_use_s: int
    sealed: bool


def read_map_header(stem: Path) -> MapHeader:
    """Reads a version's header. Raises OSError when it cannot be read, ValueError when it is not a map of ours."""
    # A pipe that somebody put there must not keep us waiting.
    fd = os.open(map_path(stem), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        page = os.pread(fd, _HEADER_BYTES, 0)
    finally:
        os.close(fd)
    if len(page) < _HEADER_BYTES:
        raise ValueError("a map is too short")
    magic, format_, _, size, block_bytes, _, _, last_use_s, _, sealed, identity_bytes = _HEADER.unpack_from(page)
    if magic != b"FLUIDMAP" or format_ != 1 or identity_bytes > _HEADER_BYTES - _IDENTITY_OFFSET:
        raise ValueError("not a map of this format")
    identity = decode_identity(page[_IDENTITY_OFFSET : _IDENTITY_OFFSET + identity_bytes])
    if identity.size != size:
        raise ValueError("a map contradicts itself")
    return MapHeader(identity, block_bytes, last_use_s, sealed == _SEALED)
