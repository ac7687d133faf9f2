"""What the native data plane asks about bytes, and what becomes of the reads that wait for the answer."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from fluidfs.cache.slabs import SMALL_OBJECT_BYTES
from fluidfs.errors import SlowDown, StoreError, StoreUnavailable
from fluidfs.fs.failure import HOLDS_S, Troubles
from fluidfs.fuse import relay as relay_module
from fluidfs.meta.inodes import ROOT_NODEID
from fluidfs.metrics import value_of
from fluidfs.model import Extent
from fluidfs.store.base import FileTransport
from tests.unit.asking import FILES, MIB, over, read_all, write
from tests.unit.http_server import Exchange, answer, s3_error
from tests.unit.kernel import OPEN, READ, read_body, served
from tests.unit.memory_store import MemoryStore
from tests.unit.rig import HttpObjects, running, until


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    write(root, FILES)
    return root


# ---- reading


async def test_every_byte_is_right_cold_and_warm_and_python_is_asked_only_cold(root: Path, tmp_path: Path) -> None:
    async with over(root, tmp_path / "cache") as (rig, plane):
        assert await read_all(plane.kernel) == FILES
        asked, fetched = plane.asked, rig.fetched_bytes
        assert asked["READ"] > 0
        assert await read_all(plane.kernel) == FILES
        assert plane.asked == asked
        assert rig.fetched_bytes == fetched


async def test_every_byte_is_right_without_any_cache(root: Path) -> None:
    async with over(root, None) as (rig, plane):
        assert await read_all(plane.kernel) == FILES
        assert value_of(rig.metrics.read_through_bytes) >= sum(map(len, FILES.values()))


async def test_what_an_earlier_daemon_cached_is_found_without_a_get(tmp_path: Path) -> None:
    store = HttpObjects(FILES)
    with store.server as server:
        async with running(store, tmp_path / "cache") as rig, served(rig) as plane:
            assert await read_all(plane.kernel) == FILES
        before = len(server.requests)
        async with running(store, tmp_path / "cache") as rig, served(rig) as plane:
            assert await read_all(plane.kernel) == FILES
            # A small file has to be found once; one with a file of its own is found when it is opened.
            assert plane.asked["READ"] == sum(0 < len(data) <= SMALL_OBJECT_BYTES for data in FILES.values())
        assert len(server.requests) == before


async def test_reads_at_any_place_agree_with_the_file(root: Path, tmp_path: Path) -> None:
    async with over(root, tmp_path / "cache") as (_, plane):
        for name, data in FILES.items():
            opened = await plane.kernel.open((await plane.kernel.walk(name)).node)
            for offset in (0, 1, len(data) // 2, max(0, len(data) - 10), len(data), len(data) + MIB):
                for length in (1, 4096, 128 << 10):
                    assert await plane.kernel.read(opened, offset, length) == data[offset : offset + length]
            await plane.kernel.release(opened)


async def test_many_who_miss_the_same_bytes_wait_for_one_get(tmp_path: Path) -> None:
    store = HttpObjects(FILES)
    with store.server as server:
        async with running(store, tmp_path / "cache") as rig, served(rig, window_bytes=0) as plane:
            for name in ("small", "dir/large"):
                opened = await plane.kernel.open((await plane.kernel.walk(name)).node)
                before = len(server.requests)
                waiting = [
                    (offset, await plane.kernel.send(READ, opened.node, read_body(opened, offset, 1000)))
                    for offset in range(0, 3000, 100)
                ]
                for offset, unique in waiting:
                    assert await plane.kernel.answer(unique) == FILES[name][offset : offset + 1000]
                assert len(server.requests) == before + 1
                await plane.kernel.release(opened)


async def test_a_reader_in_order_is_fetched_ahead_of(root: Path, tmp_path: Path) -> None:
    async with over(root, tmp_path / "cache") as (rig, plane):
        opened = await plane.kernel.open((await plane.kernel.walk("dir/large")).node)
        data = FILES["dir/large"]
        for offset in range(0, MIB, 128 << 10):
            assert await plane.kernel.read(opened, offset) == data[offset : offset + (128 << 10)]
        await until(lambda: rig.fetched_bytes >= 2 * MIB)
        await plane.kernel.release(opened)


async def test_a_random_read_fetches_no_more_than_it_needs(root: Path, tmp_path: Path) -> None:
    async with over(root, tmp_path / "cache") as (rig, plane):
        opened = await plane.kernel.open((await plane.kernel.walk("dir/large")).node)
        assert await plane.kernel.read(opened, 3 * MIB, 1000) == FILES["dir/large"][3 * MIB : 3 * MIB + 1000]
        await plane.kernel.release(opened)
        assert rig.fetched_bytes <= 64 << 10


async def test_what_leaves_the_cache_is_fetched_again(root: Path, tmp_path: Path) -> None:
    async with over(root, tmp_path / "cache") as (rig, plane):
        name = "dir/large"
        opened = await plane.kernel.open((await plane.kernel.walk(name)).node)
        assert await plane.kernel.read_whole(opened) == FILES[name]
        (version,) = rig.cache.open_versions
        assert version.file is not None
        version.file.drop_block(0, punch=False)
        assert await plane.kernel.read_whole(opened) == FILES[name]
        await plane.kernel.release(opened)


# ---- errors


def refusing(exchange: Exchange) -> None:
    exchange.send(answer("403 Forbidden", {}, s3_error("AccessDenied")))


@pytest.mark.parametrize("name", ["small", "dir/large"])
async def test_a_refusal_is_told_to_all_who_wait_and_counted(name: str, tmp_path: Path) -> None:
    store = HttpObjects(FILES)
    with store.server as server:
        async with running(store, tmp_path / "cache") as rig, served(rig) as plane:
            opened = await plane.kernel.open((await plane.kernel.walk(name)).node)
            server.script = refusing
            waiting = [
                await plane.kernel.send(READ, opened.node, read_body(opened, offset, 1000))
                for offset in range(0, 8000, 1000)
            ]
            for unique in waiting:
                with pytest.raises(PermissionError):
                    await plane.kernel.answer(unique)
            server.script = store.serve
            assert await plane.kernel.read(opened, 0, 1000) == FILES[name][:1000]
            await plane.kernel.release(opened)
            rig.metrics.refresh()
            assert rig.metrics.registry.get_sample_value(
                "fluidfs_read_errors_total", {"errno": str(errno.EACCES)}
            ) == len(waiting)


async def test_a_store_that_fails_is_never_a_missing_name(tmp_path: Path) -> None:
    store = MemoryStore({"a": b"x"}, transport=FileTransport(str(tmp_path)))
    async with running(store, tmp_path / "cache") as rig, served(rig) as plane:
        store.fail_with = lambda _: StoreError("the store is at fault")
        with pytest.raises(OSError, match="Input/output error"):
            await plane.kernel.lookup(ROOT_NODEID, "a")
        with pytest.raises(OSError, match="Input/output error"):
            await plane.kernel.list(ROOT_NODEID)
        store.fail_with = lambda _: None
        assert (await plane.kernel.lookup(ROOT_NODEID, "a")).node != 0


async def test_opening_for_writing_is_refused(root: Path, tmp_path: Path) -> None:
    async with over(root, tmp_path / "cache") as (_, plane):
        node = (await plane.kernel.walk("small")).node
        for flags in (os.O_WRONLY, os.O_RDWR):
            with pytest.raises(OSError, match="Read-only"):
                await plane.kernel.ask(OPEN, node, flags.to_bytes(4, "little") + bytes(4))


async def test_what_waits_when_the_mount_ends_gets_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "DRAIN_S", 0.2)
    store = HttpObjects(FILES)
    with store.server as server:
        async with running(store, tmp_path / "cache") as rig:
            async with served(rig) as plane:
                opened = await plane.kernel.open((await plane.kernel.walk("dir/large")).node)
                server.script = lambda _: None  # never answers
                waiting = [
                    await plane.kernel.send(READ, opened.node, read_body(opened, offset, 1000))
                    for offset in (0, MIB, 2 * MIB)
                ]
                await until(lambda: plane.asked.get("READ") == len(waiting))
            for unique in waiting:
                with pytest.raises(OSError, match="Input/output error"):
                    await plane.kernel.answer(unique)
            assert plane.kernel.unanswered == 0


async def test_the_data_plane_ends_with_the_connection(root: Path, tmp_path: Path) -> None:
    async with over(root, tmp_path / "cache") as (_, plane):
        assert await plane.kernel.contents_of("small") == FILES["small"]
        plane.kernel.hang_up()
        with trio.fail_after(10):
            await plane.over.wait()


# ---- an object that changes


async def test_an_old_handle_keeps_its_cached_bytes_and_a_new_one_has_the_new(root: Path, tmp_path: Path) -> None:
    async with over(root, tmp_path / "cache", ttl_s=0) as (_, plane):
        for name in ("small", "dir/large"):
            old = await plane.kernel.open((await plane.kernel.walk(name)).node)
            assert await plane.kernel.read_whole(old) == FILES[name]
            new = FILES[name][::-1]
            write(root, {name: new})
            assert await plane.kernel.read_whole(old) == FILES[name]
            assert await plane.kernel.contents_of(name) == new
            await plane.kernel.release(old)


async def test_what_an_old_handle_has_not_cached_is_stale_and_the_name_is_looked_up_anew(
    root: Path, tmp_path: Path
) -> None:
    async with over(root, tmp_path / "cache", window_bytes=0) as (rig, plane):
        data = FILES["dir/large"]
        directory = (await plane.kernel.walk("dir")).node
        old = await plane.kernel.open((await plane.kernel.walk("dir/large")).node)
        assert await plane.kernel.read(old, 0) == data[: 128 << 10]
        write(root, {"dir/large": data[::-1]})
        assert await plane.kernel.read(old, 1000, 1000) == data[1000:2000]
        for _ in range(3):
            with pytest.raises(OSError, match="Stale"):
                await plane.kernel.read(old, 4 * MIB, 1000)
        # The kernel is told, once: by the second time the name may stand for the new object.
        await until(lambda: plane.kernel.forgotten)
        assert plane.kernel.forgotten == [(directory, b"large")]
        # And we have forgotten it ourselves, long before its time to live is over.
        assert await plane.kernel.contents_of("dir/large") == data[::-1]
        assert await plane.kernel.read(old, 1000, 1000) == data[1000:2000]
        await plane.kernel.release(old)
        assert value_of(rig.metrics.read_errors) == 3


@pytest.mark.parametrize("name", ["small", "dir/large"])
async def test_a_deleted_object_is_stale_and_then_not_there(name: str, tmp_path: Path) -> None:
    store = HttpObjects(FILES)
    with store.server:
        async with running(store, tmp_path / "cache") as rig, served(rig) as plane:
            opened = await plane.kernel.open((await plane.kernel.walk(name)).node)
            store.delete(name)
            with pytest.raises(OSError, match="Stale"):
                await plane.kernel.read(opened, 0, 1000)
            with pytest.raises(FileNotFoundError):
                await plane.kernel.walk(name)


async def test_a_version_has_a_node_of_its_own_and_a_path_its_inode_number(root: Path, tmp_path: Path) -> None:
    async with over(root, tmp_path / "cache", ttl_s=0) as (_, plane):
        before = await plane.kernel.walk("small")
        assert (await plane.kernel.walk("small")).node == before.node
        write(root, {"small": b"other"})
        after = await plane.kernel.walk("small")
        assert (after.node != before.node, after.ino == before.ino, after.size) == (True, True, 5)


# ---- a store that fails for a while


@pytest.mark.parametrize("name", ["small", "dir/large"])
async def test_a_failure_is_told_again_for_a_moment_to_the_handle_that_saw_it_and_to_no_other(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = HttpObjects(FILES)
    with store.server:
        async with running(store, tmp_path / "cache") as rig, served(rig, window_bytes=0) as plane:
            opened = await plane.kernel.open((await plane.kernel.walk(name)).node)
            other = await plane.kernel.open(opened.node)

            async def fail(*_: object, **__: object) -> None:
                raise StoreUnavailable("the store does not answer")

            with monkeypatch.context() as failing:
                failing.setattr(rig.source, "fetch", fail)
                with pytest.raises(OSError, match="Input/output"):
                    await plane.kernel.read(opened, 0, 1000)
            # The kernel asks again at once for the page that its reader needs: the same answer, without a request.
            with pytest.raises(OSError, match="Input/output"):
                await plane.kernel.read(opened, 0, 4096)
            assert await plane.kernel.read(other, 0, 1000) == FILES[name][:1000]
            await plane.kernel.release(opened)
            await plane.kernel.release(other)


async def test_failures_are_remembered_for_a_moment_and_by_extent(autojump_clock: MockClock) -> None:
    troubles = Troubles()
    troubles.note(1, Extent(100, 50), SlowDown("slower"))
    troubles.recall(1, Extent(0, 100))
    troubles.recall(2, Extent(100, 50))
    with pytest.raises(SlowDown, match="slower"):
        troubles.recall(1, Extent(149, 1000))
    troubles.settle()
    with pytest.raises(SlowDown):
        troubles.recall(1, Extent(100, 1))
    await trio.sleep(HOLDS_S)
    troubles.recall(1, Extent(100, 50))
    troubles.settle()
