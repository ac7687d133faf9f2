"""Checks of the cache levels: may we write there, on what do they lie, how much room and speed is there."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from fluidfs.config import LevelSpec
from fluidfs.config.checks import inside
from fluidfs.control.mounts import MountEntry, mount_table
from fluidfs.doctor.check import Check
from fluidfs.units import format_size

# Enough to tell a disk from a memory; small enough to do each time.
_PROBE_BYTES = 16 << 20
_SCARCE_BYTES = 1 << 30
_NETWORK_TYPES = ("nfs", "cifs", "smb", "9p", "ceph", "fuse", "glusterfs", "lustre")


def cache_checks(levels: Sequence[LevelSpec]) -> list[Check]:
    """One for each level."""
    table = mount_table()
    return [level_check(level, table) for level in levels]


def level_check(level: LevelSpec, table: Sequence[MountEntry]) -> Check:
    """The level's directory, or the nearest one above it that exists; what is written to try it is removed."""
    name = f"cache {level.path}"
    directory = Path(level.path)
    while not directory.exists() and directory != directory.parent:
        directory = directory.parent
    try:
        free_bytes = _free_bytes(directory)
        write_bytes_per_s, read_bytes_per_s = _try(directory, min(_PROBE_BYTES, free_bytes // 4))
    except OSError as error:
        return Check(
            name, "fail", f"cannot be used: {error.strerror}", "name a directory that you can write to with --cache"
        )
    kind = file_system_of(os.path.realpath(directory), table)
    found = (
        f"{kind}, {format_size(free_bytes)} free, "
        f"writes {format_size(write_bytes_per_s)}/s, reads {format_size(read_bytes_per_s)}/s"
    )
    if kind.startswith(_NETWORK_TYPES):
        return Check(
            name, "warn", found, "a cache on a network file system is slow and gets no passthrough: use a local disk"
        )
    if free_bytes < _SCARCE_BYTES:
        return Check(name, "warn", found, "there is little room: free some, or use another disk with --cache")
    if kind == "tmpfs" and level.medium != "MEM":
        return Check(name, "warn", found, f"this is memory: say so, with --cache {level.path}:QUOTA:MEM")
    return Check(name, "ok", found)


def file_system_of(path: str, table: Sequence[MountEntry]) -> str:
    """The type of the file system that holds the absolute, real `path`."""
    holding = [entry for entry in table if inside(path, entry.mountpoint)]
    # Of two mounts at one place the later hides the earlier: max() keeps the first, so the newest come first.
    entry = max(reversed(holding), key=lambda entry: len(entry.mountpoint), default=None)
    return entry.fs_type if entry is not None else "unknown"


def _free_bytes(directory: Path) -> int:
    facts = os.statvfs(directory)
    return facts.f_bavail * facts.f_frsize


def _try(directory: Path, size_bytes: int) -> tuple[float, float]:
    """Bytes per second written to disk and read back, past the page cache as far as the kernel goes along."""
    chunk = os.urandom(1 << 20)
    chunks = max(size_bytes // len(chunk), 1)
    with tempfile.TemporaryFile(dir=directory) as file:
        begun_s = time.perf_counter()
        for _ in range(chunks):
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
        written_s = time.perf_counter() - begun_s
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(0)
        begun_s = time.perf_counter()
        while file.read(len(chunk)):
            pass
        read_s = time.perf_counter() - begun_s
    total_bytes = chunks * len(chunk)
    return total_bytes / max(written_s, 1e-9), total_bytes / max(read_s, 1e-9)
