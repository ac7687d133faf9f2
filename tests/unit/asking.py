"""A tree of files behind a data plane, for tests of what it asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fluidfs.cache.slabs import SMALL_OBJECT_BYTES
from fluidfs.store.posix import PosixStore
from tests.unit.kernel import Kernel, Served, served
from tests.unit.rig import Rig, pattern, running

MIB = 1 << 20
FILES = {
    "empty": b"",
    "one": b"1",
    "small": pattern(100_000, 1),
    "at the limit": pattern(SMALL_OBJECT_BYTES, 2),
    "over the limit": pattern(SMALL_OBJECT_BYTES + 1, 3),
    "dir/large": pattern(5 * MIB + 123, 4),
    "dir/sub/ünï\ncode": pattern(70_000, 5),
}


def write(root: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


async def read_all(kernel: Kernel) -> dict[str, bytes]:
    return {name: await kernel.contents_of(name) for name in FILES}


@asynccontextmanager
async def over(
    root: Path, cache: Path | None, *, ttl_s: float = 60.0, window_bytes: int = 8 * MIB
) -> AsyncIterator[tuple[Rig, Served]]:
    """A data plane over a directory."""
    async with (
        running(PosixStore(str(root)), cache, ttl_s=ttl_s) as rig,
        served(rig, window_bytes=window_bytes) as plane,
    ):
        yield rig, plane
