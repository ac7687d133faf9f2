"""What is kept open for the native data plane, and what is told of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fluidfs.cache.eviction import evict
from fluidfs.cache.slabs import SMALL_OBJECT_BYTES
from fluidfs.fuse import relay as relay_module
from fluidfs.metrics import value_of
from fluidfs.store.posix import PosixStore
from tests.unit.asking import FILES, MIB, over, read_all, write
from tests.unit.kernel import served
from tests.unit.rig import pattern, running


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    write(root, FILES)
    return root


# ---- what is kept open


async def test_files_that_nobody_has_open_are_let_go_of(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "IDLE_S", 0.0)
    async with over(root, tmp_path / "cache") as (rig, plane):
        opened = await plane.kernel.open((await plane.kernel.walk("dir/large")).node)
        again = await plane.kernel.open(opened.node)
        (version,) = rig.cache.open_versions
        for handle in (opened, again):
            plane.data_plane.settle()
            assert version.users == 1
            await plane.kernel.release(handle)
        plane.data_plane.settle()
        assert version.users == 0
        assert await plane.kernel.contents_of("dir/large") == FILES["dir/large"]


async def test_who_opens_file_after_file_does_not_have_them_all_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "MAX_IDLE", 3)
    monkeypatch.setattr(relay_module, "BEAT_S", 3600.0)
    names = [f"{number:02}" for number in range(30)]
    write(tmp_path / "source", dict.fromkeys(names, pattern(SMALL_OBJECT_BYTES + 1)))
    async with over(tmp_path / "source", tmp_path / "cache", window_bytes=0) as (rig, plane):
        for name in names:
            opened = await plane.kernel.open((await plane.kernel.walk(name)).node)
            await plane.kernel.release(opened)
            assert sum(version.users for version in rig.cache.open_versions) <= 8


async def test_an_eviction_takes_what_is_kept_open_for_nobody(root: Path, tmp_path: Path) -> None:
    async with over(root, tmp_path / "cache") as (rig, plane):
        assert await plane.kernel.contents_of("dir/large") == FILES["dir/large"]
        assert await plane.kernel.contents_of("small") == FILES["small"]
        (level,) = rig.cache.levels
        assert level.usage.used_bytes > 5 * MIB
        await rig.cache.evict_now(level, size_bytes=level.usage.quota_bytes)
        assert level.usage.used_bytes == 0
        assert await plane.kernel.contents_of("dir/large") == FILES["dir/large"]
        assert await plane.kernel.contents_of("small") == FILES["small"]


async def test_an_evicted_slab_is_left_and_its_files_are_fetched_again(root: Path, tmp_path: Path) -> None:
    async with over(root, tmp_path / "cache") as (rig, plane):
        opened = await plane.kernel.open((await plane.kernel.walk("small")).node)
        assert await plane.kernel.read_whole(opened) == FILES["small"]
        asked = plane.asked["READ"]
        evict(rig.cache.levels[0], target_bytes=0)
        plane.data_plane.settle()
        assert await plane.kernel.read_whole(opened) == FILES["small"]
        assert plane.asked["READ"] > asked
        await plane.kernel.release(opened)


async def test_reading_a_small_file_counts_as_a_use_of_its_slab(root: Path, tmp_path: Path) -> None:
    async with over(root, tmp_path / "cache") as (rig, plane):
        opened = await plane.kernel.open((await plane.kernel.walk("small")).node)
        assert await plane.kernel.read_whole(opened) == FILES["small"]
        (slab,) = rig.cache.slabs()
        slab.touch(1000)
        plane.data_plane.settle()
        slab.touch(1000)
        plane.data_plane.settle()
        assert slab.last_use_s == 1000
        assert await plane.kernel.read(opened, 0, 10) == FILES["small"][:10]
        plane.data_plane.settle()
        assert slab.last_use_s > 1000
        await plane.kernel.release(opened)


async def test_a_thousand_opens_of_one_file_are_one_user_of_the_cache(root: Path, tmp_path: Path) -> None:
    async with over(root, tmp_path / "cache") as (rig, plane):
        node = (await plane.kernel.walk("dir/large")).node
        opened = [await plane.kernel.open(node) for _ in range(1000)]
        assert plane.asked["OPEN"] == 1
        assert [version.users for version in rig.cache.open_versions] == [1]
        for one in opened:
            await plane.kernel.release(one)


# ---- what is told of it


async def test_reads_are_counted_wherever_they_were_answered(root: Path, tmp_path: Path) -> None:
    async with over(root, tmp_path / "cache") as (rig, plane):
        await read_all(plane.kernel)
        await read_all(plane.kernel)
        plane.data_plane.export()
        plane.data_plane.export()
        total = sum(map(len, FILES.values()))
        assert value_of(rig.metrics.read_bytes) == 2 * total
        assert total <= value_of(rig.metrics.read_hit_bytes) < 2 * total
        facts = plane.data_plane.relay.facts()
        assert value_of(rig.metrics.read_requests) == facts.read_requests
        assert value_of(rig.metrics.opens) == 2 * len(FILES)
        assert value_of(rig.metrics.requests) == sum(facts.native.values()) + sum(facts.python.values())


async def test_a_data_plane_says_why_it_is_not_a_better_one(root: Path, tmp_path: Path) -> None:
    async with over(root, tmp_path / "cache") as (_, plane):
        status = plane.data_plane.status()
        assert status["mode"] == "native"
        assert "Linux 6.9" in str(status["why"])
        assert plane.data_plane.names_known == 1
    async with running(PosixStore(str(root)), None) as rig, served(rig) as plane:
        assert plane.data_plane.status()["why"] == "there is no cache"
