"""Cache files as a disk, an operator or an accident sees them."""

from __future__ import annotations

import os
from pathlib import Path

FLIPPED_BYTES = 64


def data_files(cache: Path) -> list[Path]:
    """The sparse files of object versions."""
    return sorted(cache.glob("v1/objects/*/*/*.data"))


def map_files(cache: Path) -> list[Path]:
    """Their maps."""
    return sorted(cache.glob("v1/objects/*/*/*.map"))


def slab_files(cache: Path) -> list[Path]:
    """The slabs' data."""
    return sorted(cache.glob("v1/slabs/*.slab"))


def flip(path: Path, offset: int) -> None:
    """Inverts bytes where there are some, as a disk that lies does."""
    fd = os.open(path, os.O_RDWR)
    try:
        old = os.pread(fd, FLIPPED_BYTES, offset)
        assert old, f"{path} has no bytes at {offset}"
        os.pwrite(fd, bytes(byte ^ 0xFF for byte in old), offset)
    finally:
        os.close(fd)


def replace_in(path: Path, old: bytes, new: bytes) -> None:
    """Overwrites the only place where `old` is in a file with `new`, of the same length."""
    data = path.read_bytes()
    assert data.count(old) == 1
    assert len(old) == len(new)
    fd = os.open(path, os.O_RDWR)
    try:
        os.pwrite(fd, new, data.index(old))
    finally:
        os.close(fd)


def disk_bytes(cache: Path) -> int:
    """What the object versions and slabs take on the disk; what vanishes meanwhile is left out."""
    total = 0
    for path in [*data_files(cache), *slab_files(cache)]:
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total
