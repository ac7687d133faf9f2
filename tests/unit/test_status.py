"""What a running plane tells of itself."""

from __future__ import annotations

import json
import mmap
from pathlib import Path

import pytest
import trio

from fluidfs.config import LevelSpec, MountOptions
from fluidfs.daemon import one_error, warm_uri
from fluidfs.errors import BucketNotFound, EnvironmentLacking, FluidfsError, UsageError
from fluidfs.meta.inodes import ROOT_NODEID
from fluidfs.meta.keys import HiddenKey, WhyHidden
from fluidfs.model import WarmProgress, WarmRequest
from fluidfs.plane import Plane, open_plane
from fluidfs.status import export_gauges, memory, status_of

DATA_PLANE = {"mode": "relayed", "why": "a test", "read_ahead_kib": 1024}


def options(tmp_path: Path, **changes: object) -> MountOptions:
    source = tmp_path / "source"
    source.mkdir(exist_ok=True)
    values: dict[str, object] = {
        "source": f"file://{source}",
        "mountpoint": "",
        "cache": (LevelSpec(str(tmp_path / "cache"), 64 << 20),),
        **changes,
    }
    return MountOptions(**values)  # type: ignore[arg-type]


async def read(plane: Plane, name: str) -> bytes:
    inode = await plane.filesystem.lookup(ROOT_NODEID, name)
    handle = await plane.filesystem.open(inode.nodeid)
    try:
        return await plane.filesystem.read(handle, 0, 1 << 20)
    finally:
        plane.filesystem.close(handle)


def told(plane: Plane) -> dict[str, dict[str, object]]:
    status = status_of(plane, data_plane=DATA_PLANE, names_known=7, throughput_bytes_per_s=1.5)
    # It goes through JSON unchanged: that is how it reaches who asked.
    assert json.loads(json.dumps(status)) == status
    return status  # type: ignore[return-value]


async def test_reads_hits_and_fetches_are_told(tmp_path: Path) -> None:
    opts = options(tmp_path)
    (tmp_path / "source" / "f").write_bytes(b"0123456789")
    async with open_plane(opts) as plane:
        assert told(plane)["reads"]["hit_ratio"] is None
        await read(plane, "f")
        await read(plane, "f")
        status = told(plane)
        assert status["reads"] == {
            "count": 2,
            "errors": 0,
            "bytes": 20,
            "hit_bytes": 10,
            "miss_bytes": 10,
            "hit_ratio": 0.5,
            "read_through_bytes": 0,
        }
        assert status["fetch"]["bytes"] == 10
        assert status["fetch"]["errors"] == 0
        assert status["data_plane"] == DATA_PLANE
        assert status["names"]["known"] == 7
        (level,) = status["cache"]
        assert level["state"] == "ok"  # type: ignore[index]


async def test_keys_that_cannot_be_shown_are_told_by_reason(tmp_path: Path) -> None:
    """The reasons are words, not Python's enumeration: JSON has none."""
    opts = options(tmp_path)
    async with open_plane(opts) as plane:
        plane.names.hidden.replace("", [HiddenKey("a//b", WhyHidden.EMPTY), HiddenKey("c/../d", WhyHidden.DOT)])
        names = told(plane)["names"]
        assert names["hidden"] == {WhyHidden.EMPTY.value: 1, WhyHidden.DOT.value: 1}
        assert {"key": "a//b", "reason": WhyHidden.EMPTY.value} in names["hidden_sample"]  # type: ignore[operator]


async def test_a_get_that_failed_is_told(tmp_path: Path) -> None:
    opts = options(tmp_path)
    path = tmp_path / "source" / "f"
    path.write_bytes(b"0123456789")
    async with open_plane(opts) as plane:
        inode = await plane.filesystem.lookup(ROOT_NODEID, "f")
        path.write_bytes(b"changed")
        handle = await plane.filesystem.open(inode.nodeid)
        with pytest.raises(FluidfsError):
            await plane.filesystem.read(handle, 0, 10)
        plane.filesystem.close(handle)
        status = told(plane)
        assert status["fetch"]["errors"] == 1
        assert status["reads"]["errors"] == 1


async def test_a_level_out_of_use_is_told_with_its_reason(tmp_path: Path) -> None:
    async with open_plane(options(tmp_path)) as plane:
        plane.cache.report_fault(plane.cache.levels[0], "Input/output error")
        (level,) = told(plane)["cache"]
        assert (level["state"], level["why"]) == ("out of use", "Input/output error")  # type: ignore[index]
        export_gauges(plane, names_known=7)
        value = plane.metrics.registry.get_sample_value(
            "fluidfs_cache_level_up", {"level": plane.cache.levels[0].spec.path}
        )
        assert value == 0


def test_memory_is_that_of_this_process() -> None:
    before = memory()["anon_bytes"]
    # Of the kernel's own: the allocator may have as much to give that an earlier test let go of.
    with mmap.mmap(-1, 32 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:
        held.write(b"x" * (32 << 20))
        assert memory()["anon_bytes"] - before > 24 << 20


# ---- what a plane is made from


async def test_a_new_plane_serves_what_another_cached(tmp_path: Path) -> None:
    opts = options(tmp_path)
    data = bytes(range(256)) * 4096
    (tmp_path / "source" / "f").write_bytes(data)
    async with open_plane(opts) as plane:
        assert await read(plane, "f") == data
    async with open_plane(opts) as plane:
        assert await read(plane, "f") == data
        assert plane.engine.statistics().bytes_received == 0


async def test_a_source_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(BucketNotFound):
        async with open_plane(options(tmp_path, source=f"file://{tmp_path}/nothing")):
            pass


async def test_a_cache_that_cannot_be_used_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a directory")
    with pytest.raises(EnvironmentLacking, match="cannot be used"):
        async with open_plane(options(tmp_path)):
            pass


async def test_a_warm_up_without_a_mount_raises_its_errors_by_themselves(tmp_path: Path) -> None:
    opts = options(tmp_path)
    (tmp_path / "source" / "f").write_bytes(b"0123456789")

    async def silent(progress: WarmProgress) -> None:
        del progress

    assert (await warm_uri(opts, WarmRequest(paths=("",)), silent)).objects == 1

    async def failing(progress: WarmProgress) -> None:
        raise UsageError("no such terminal")

    with pytest.raises(UsageError, match="no such terminal"):
        await warm_uri(opts, WarmRequest(paths=("",)), failing)


def test_an_expected_error_is_taken_out_of_its_groups_and_a_bug_is_not() -> None:
    with pytest.raises(UsageError, match="first"), one_error():
        raise BaseExceptionGroup("", [ExceptionGroup("", [UsageError("first"), UsageError("second")])])
    with pytest.raises(BaseExceptionGroup), one_error():
        raise BaseExceptionGroup("", [UsageError("first"), ZeroDivisionError()])
    with pytest.raises(trio.TooSlowError), one_error():
        raise trio.TooSlowError
