"""What the native data plane asks about names, and what it need not ask."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import trio

from fluidfs.fuse import relay as relay_module
from fluidfs.meta.inodes import ROOT_NODEID
from fluidfs.meta.names import SINGLE_LOOKUPS_MAX
from fluidfs.store.base import FileTransport
from tests.unit.asking import FILES, over, write
from tests.unit.kernel import LOOKUP, served
from tests.unit.memory_store import MemoryStore
from tests.unit.rig import OWNERSHIP, running


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    write(root, FILES)
    return root


async def test_a_directory_that_is_known_is_asked_about_once(root: Path, tmp_path: Path) -> None:
    async with over(root, tmp_path / "cache") as (_, plane):
        for name in ("small", "one", "empty", "dir"):
            assert (await plane.kernel.lookup(ROOT_NODEID, name)).node != 0
        for _ in range(3):
            missing = await plane.kernel.lookup(ROOT_NODEID, "no such name")
            assert missing.node == 0
            assert missing.name_good_for_s == pytest.approx(60, abs=5)
            assert set(await plane.kernel.list(ROOT_NODEID)) == {name.partition("/")[0] for name in FILES}
        assert plane.asked == {"LOOKUP": 1}


async def test_many_who_ask_about_a_directory_at_once_cost_one_listing(tmp_path: Path) -> None:
    store = MemoryStore({f"d/{number:03}": b"x" for number in range(100)}, transport=FileTransport(str(tmp_path)))
    async with running(store, tmp_path / "cache") as rig, served(rig) as plane:
        before = len(store.requests)
        waiting = [await plane.kernel.send(LOOKUP, ROOT_NODEID, b"d\0") for _ in range(20)]
        nodes = {(await plane.kernel.answer(unique))[:8] for unique in waiting}
        assert len(nodes) == 1
        assert len(store.requests) == before + 1


async def test_what_a_name_looks_like_agrees_with_the_oracle(root: Path, tmp_path: Path) -> None:
    async with over(root, tmp_path / "cache") as (rig, plane):
        listed = {ROOT_NODEID: await plane.kernel.list(ROOT_NODEID)}
        for path in (*FILES, "dir", "dir/sub"):
            nodeid, node = ROOT_NODEID, ROOT_NODEID
            for name in path.split("/"):
                inode = await rig.filesystem.lookup(nodeid, name)
                entry = await plane.kernel.lookup(node, name)
                if node not in listed:
                    listed[node] = await plane.kernel.list(node)
                assert (listed[node][name].node, listed[node][name].ino) == (entry.node, entry.ino)
                nodeid, node = inode.nodeid, entry.node
            expected = rig.filesystem.attributes(inode)
            assert (entry.mode, entry.size, entry.uid, entry.gid) == (
                expected.mode,
                expected.size_bytes,
                OWNERSHIP.uid,
                OWNERSHIP.gid,
            )
            assert entry.mtime_ns == expected.mtime_ns


async def test_without_a_time_to_live_every_name_is_asked_about(root: Path, tmp_path: Path) -> None:
    async with over(root, tmp_path / "cache", ttl_s=0) as (_, plane):
        for times in range(1, 4):
            entry = await plane.kernel.lookup(ROOT_NODEID, "small")
            assert (entry.node != 0, entry.name_good_for_s) == (True, 0)
            with pytest.raises(FileNotFoundError):
                await plane.kernel.walk("no such name")
            assert all(entry.name_good_for_s == 0 for entry in (await plane.kernel.list(ROOT_NODEID)).values())
            assert plane.asked == {"LOOKUP": 2 * times, "OPENDIR": times}
        write(root, {"new": b"1"})
        (root / "one").unlink()
        assert (await plane.kernel.lookup(ROOT_NODEID, "new")).size == 1
        with pytest.raises(FileNotFoundError):
            await plane.kernel.walk("one")


async def test_names_of_a_large_directory_are_asked_about_one_by_one_and_then_known_whole(tmp_path: Path) -> None:
    names = [f"{number:04}" for number in range(2500)]
    store = MemoryStore({f"d/{name}": b"x" for name in names}, transport=FileTransport(str(tmp_path)))
    async with running(store, tmp_path / "cache") as rig, served(rig) as plane:
        directory = (await plane.kernel.walk("d")).node
        for count, name in enumerate(names[:SINGLE_LOOKUPS_MAX], 1):
            assert (await plane.kernel.lookup(directory, name)).node != 0
            assert plane.asked["LOOKUP"] == 1 + count
        assert (await plane.kernel.lookup(directory, names[2000])).node != 0
        asked = plane.asked
        for name in names[::100]:
            assert (await plane.kernel.lookup(directory, name)).node != 0
        assert list(await plane.kernel.list(directory)) == names
        assert plane.asked == asked


async def test_a_change_outside_is_seen_when_the_time_to_live_is_over(root: Path, tmp_path: Path) -> None:
    async with over(root, tmp_path / "cache", ttl_s=0.3) as (_, plane):
        assert (await plane.kernel.walk("small")).size == 100_000
        write(root, {"small": b"other"})
        with trio.fail_after(10):
            while (await plane.kernel.walk("small")).size != 5:  # noqa: ASYNC110 - it is time that is waited for
                await trio.sleep(0.02)
        assert await plane.kernel.contents_of("small") == b"other"


async def test_a_listing_in_use_is_renewed_before_it_expires_and_the_kernel_told_what_changed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "BEAT_S", 0.02)
    async with over(root, tmp_path / "cache", ttl_s=2) as (_, plane):
        before = await plane.kernel.walk("small")
        write(root, {"small": b"other"})
        with trio.fail_after(10):
            while not plane.kernel.forgotten:
                # In use.
                assert (await plane.kernel.lookup(ROOT_NODEID, "one")).node != 0
                await trio.sleep(0.05)
        assert (ROOT_NODEID, b"small") in plane.kernel.forgotten
        assert plane.asked == {"LOOKUP": 1}
        assert (await plane.kernel.walk("small")).node != before.node
        assert plane.asked == {"LOOKUP": 1}


async def test_a_directory_that_is_gone_is_not_there(root: Path, tmp_path: Path) -> None:
    async with over(root, tmp_path / "cache", ttl_s=0) as (_, plane):
        directory = (await plane.kernel.walk("dir")).node
        shutil.rmtree(root / "dir")
        with pytest.raises(FileNotFoundError):
            await plane.kernel.walk("dir")
        with pytest.raises(FileNotFoundError):
            await plane.kernel.list(directory)


async def test_names_that_are_not_utf8_pass_both_ways(root: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"not-\xff-utf8")
    write(root, {name: b"odd"})
    async with over(root, tmp_path / "cache") as (_, plane):
        assert await plane.kernel.contents_of(name) == b"odd"
        assert name in await plane.kernel.list(ROOT_NODEID)


async def test_facts_are_extended_attributes_of_native_nodes(root: Path, tmp_path: Path) -> None:
    async with over(root, tmp_path / "cache") as (_, plane):
        node = (await plane.kernel.walk("dir/large")).node
        assert await plane.kernel.getxattr(node, "user.fluidfs.key") == "dir/large"
        assert await plane.kernel.getxattr(node, "user.fluidfs.cached") == f"0/{len(FILES['dir/large'])}"
        with pytest.raises(OSError, match="No data"):
            await plane.kernel.getxattr(node, "user.fluidfs.nothing")
        with pytest.raises(OSError, match="No data"):
            await plane.kernel.getxattr(node, "security.selinux")
