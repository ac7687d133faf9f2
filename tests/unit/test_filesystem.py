"""The file system whole, over directories and over HTTP, with the real engine and a real cache; no mount."""

from __future__ import annotations

import gc
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from fluidfs.cache.files import data_path, slab_path
from fluidfs.cache.slabs import SMALL_OBJECT_BYTES
from fluidfs.errors import (
    AccessDenied,
    IsADirectory,
    NameNotFound,
    NoAttribute,
    NotADirectory,
    ObjectChanged,
    StoreUnavailable,
)
from fluidfs.meta.entries import DirectoryEntry
from fluidfs.meta.inodes import ROOT_NODEID, UnknownNode
from fluidfs.metrics import value_of
from fluidfs.store.posix import PosixStore
from tests.unit.http_server import answer, s3_error
from tests.unit.rig import OWNERSHIP, HttpObjects, Rig, pattern, running, until

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


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    write(root, FILES)
    return root


def write(root: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


async def read_all(rig: Rig) -> dict[str, bytes]:
    return {name: await rig.read(name) for name in FILES}


# ---- reading


async def test_every_byte_is_right_cold_and_warm(root: Path, tmp_path: Path) -> None:
    async with running(PosixStore(str(root)), tmp_path / "cache") as rig:
        assert await read_all(rig) == FILES
        fetched = rig.fetched_bytes
        assert fetched >= sum(map(len, FILES.values()))
        assert await read_all(rig) == FILES
        assert rig.fetched_bytes == fetched


async def test_every_byte_is_right_without_any_cache(root: Path) -> None:
    async with running(PosixStore(str(root)), None) as rig:
        assert await read_all(rig) == FILES
        assert value_of(rig.metrics.read_through_bytes) >= sum(map(len, FILES.values()))


async def test_a_new_daemon_serves_what_is_cached_without_a_get(tmp_path: Path) -> None:
    store = HttpObjects(FILES)
    with store.server as server:
        async with running(store, tmp_path / "cache") as rig:
            assert await read_all(rig) == FILES
        before = len(server.requests)
        async with running(store, tmp_path / "cache") as rig:
            assert await read_all(rig) == FILES
            assert rig.engine.statistics().requests_sent == 0
            assert rig.fetched_bytes == 0
            total = sum(map(len, FILES.values()))
            assert value_of(rig.metrics.read_hit_bytes) == value_of(rig.metrics.read_bytes) == total
        assert len(server.requests) == before


async def test_reads_stop_at_the_end_of_the_file(root: Path, tmp_path: Path) -> None:
    async with running(PosixStore(str(root)), tmp_path / "cache") as rig:
        for name, data in FILES.items():
            handle = await rig.open(name)
            assert await rig.filesystem.read(handle, len(data), 1000) == b""
            assert await rig.filesystem.read(handle, len(data) + 10 * MIB, 1000) == b""
            tail = max(0, len(data) - 10)
            assert await rig.filesystem.read(handle, tail, 1000) == data[tail:]
            rig.filesystem.close(handle)


async def test_a_range_in_the_middle_does_not_fetch_the_file(root: Path, tmp_path: Path) -> None:
    async with running(PosixStore(str(root)), tmp_path / "cache") as rig:
        handle = await rig.open("dir/large")
        assert await rig.filesystem.read(handle, 3 * MIB, 1000) == FILES["dir/large"][3 * MIB : 3 * MIB + 1000]
        rig.filesystem.close(handle)
        assert rig.fetched_bytes <= 64 << 10


async def test_many_handles_on_one_file_share_what_they_fetch(root: Path, tmp_path: Path) -> None:
    async with running(PosixStore(str(root)), tmp_path / "cache") as rig:
        async with trio.open_nursery() as nursery:

            async def one() -> None:
                assert await rig.read("dir/large") == FILES["dir/large"]

            for _ in range(8):
                nursery.start_soon(one)
        assert rig.fetched_bytes <= len(FILES["dir/large"]) + MIB


async def test_no_handle_is_left_open(root: Path, tmp_path: Path) -> None:
    async with running(PosixStore(str(root)), tmp_path / "cache") as rig:
        await read_all(rig)
        await until(lambda: not any(version.users for version in rig.cache.open_versions))
        assert rig.budget.taken_bytes == 0


async def test_ten_thousand_handles_on_one_file_are_one_descriptor(root: Path, tmp_path: Path) -> None:
    async with running(PosixStore(str(root)), tmp_path / "cache") as rig:
        first = await rig.open("dir/large")
        gc.collect()  # what earlier tests left behind
        descriptors = len(os.listdir("/proc/self/fd"))
        handles = [await rig.filesystem.open(first.inode.nodeid) for _ in range(10_000)]
        assert len(os.listdir("/proc/self/fd")) <= descriptors
        for handle in (first, *handles):
            rig.filesystem.close(handle)


# ---- an object that changes


async def test_an_old_handle_keeps_its_cached_bytes_and_a_new_one_has_the_new(root: Path, tmp_path: Path) -> None:
    async with running(PosixStore(str(root)), tmp_path / "cache", ttl_s=0) as rig:
        for name in ("small", "dir/large"):
            old = await rig.open(name)
            assert await rig.read_handle(old) == FILES[name]
            new = FILES[name][::-1]
            write(root, {name: new})
            assert await rig.read_handle(old) == FILES[name]
            assert await rig.read(name) == new
            rig.filesystem.close(old)
        assert rig.changed == []


async def test_what_an_old_handle_has_not_cached_is_stale_and_never_a_mixture(root: Path, tmp_path: Path) -> None:
    async with running(PosixStore(str(root)), tmp_path / "cache", window_bytes=0) as rig:
        data = FILES["dir/large"]
        old = await rig.open("dir/large")
        assert await rig.filesystem.read(old, 0, 128 << 10) == data[: 128 << 10]
        write(root, {"dir/large": data[::-1]})
        assert await rig.filesystem.read(old, 1000, 1000) == data[1000:2000]
        for _ in range(3):
            with pytest.raises(ObjectChanged):
                await rig.filesystem.read(old, 4 * MIB, 1000)
        # Told once: by the second time the name may stand for the new object.
        assert rig.changed == ["dir/large"]
        # The names were told as well, long before their time to live is over.
        assert await rig.read("dir/large") == data[::-1]
        assert await rig.filesystem.read(old, 1000, 1000) == data[1000:2000]
        rig.filesystem.close(old)


@pytest.mark.parametrize("name", ["small", "dir/large"])
async def test_a_deleted_object_is_stale_and_then_not_there(name: str, tmp_path: Path) -> None:
    store = HttpObjects(FILES)
    with store.server:
        async with running(store, tmp_path / "cache") as rig:
            handle = await rig.open(name)
            store.delete(name)
            with pytest.raises(ObjectChanged):
                await rig.filesystem.read(handle, 0, 1000)
            with pytest.raises(NameNotFound):
                await rig.open(name)


async def test_one_node_id_per_version(root: Path, tmp_path: Path) -> None:
    async with running(PosixStore(str(root)), tmp_path / "cache", ttl_s=0) as rig:
        first = (await rig.filesystem.lookup(ROOT_NODEID, "small")).nodeid
        assert (await rig.filesystem.lookup(ROOT_NODEID, "small")).nodeid == first
        write(root, {"small": b"other"})
        assert (await rig.filesystem.lookup(ROOT_NODEID, "small")).nodeid != first
        # What the kernel still holds goes on having the attributes of its own version.
        assert rig.filesystem.attributes(rig.filesystem.inode(first)).size_bytes == len(FILES["small"])


# ---- faults


async def test_a_flipped_byte_is_found_counted_and_fetched_again(tmp_path: Path) -> None:
    store = HttpObjects(FILES)
    cache = tmp_path / "cache"
    with store.server:
        async with running(store, cache) as rig:
            await read_all(rig)
            stems = list(rig.cache.levels[0].files.object_stems())
            slabs = rig.cache.levels[0].files.slab_stems()
        for path in [data_path(stem) for stem in stems]:
            flip(path, path.stat().st_size // 2)
        for path in [slab_path(stem) for stem in slabs]:
            content = path.read_bytes()
            flip(path, content.index(FILES["small"][:1000]) + 500)
        async with running(store, cache) as rig:
            assert await read_all(rig) == FILES
            assert rig.cache.levels[0].usage.bad_blocks == len(stems) + len(slabs)
            assert 0 < rig.fetched_bytes < sum(map(len, FILES.values()))
        async with running(store, cache) as rig:
            assert await read_all(rig) == FILES
            assert rig.fetched_bytes == 0


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 0xFF]))


def removed(cache: Path) -> None:
    shutil.rmtree(cache)


def replaced_by_a_file(cache: Path) -> None:
    shutil.rmtree(cache)
    cache.write_text("not a directory")


def emptied(cache: Path) -> None:
    for path in [*cache.rglob("*.map"), *cache.rglob("*.idx")]:
        path.unlink()


def moved_away(cache: Path) -> None:
    cache.rename(cache.with_name("elsewhere"))


@pytest.mark.parametrize("disaster", [removed, replaced_by_a_file, emptied, moved_away])
@pytest.mark.parametrize("when", ["before anything is read", "with files open"])
async def test_reads_go_on_when_the_cache_is_taken_away(
    disaster: Callable[[Path], None], when: str, root: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    async with running(PosixStore(str(root)), cache) as rig:
        handles = {}
        if when == "with files open":
            for name in FILES:
                handles[name] = await rig.open(name)
                await rig.filesystem.read(handles[name], 0, 1000)
        disaster(cache)
        for name, handle in handles.items():
            assert await rig.read_handle(handle) == FILES[name]
            rig.filesystem.close(handle)
        assert await read_all(rig) == FILES


async def test_a_full_cache_is_read_through(root: Path, tmp_path: Path) -> None:
    """The level is full of what somebody has open; nothing can go, and nothing fails."""
    write(root, {f"more/{number}": pattern(3 * MIB, number) for number in range(8)})
    async with running(PosixStore(str(root)), tmp_path / "cache", quota_bytes=16 * MIB) as rig:
        handles = [await rig.open(f"more/{number}") for number in range(8)]
        for number, handle in enumerate(handles):
            assert await rig.read_handle(handle) == pattern(3 * MIB, number)
        assert rig.cache.levels[0].usage.used_bytes <= 17 * MIB
        for handle in handles:
            rig.filesystem.close(handle)
        assert await read_all(rig) == FILES


async def test_a_fault_of_the_store_is_never_a_missing_name(tmp_path: Path) -> None:
    store = HttpObjects(FILES)
    with store.server as server:
        async with running(store, tmp_path / "cache") as rig:
            handle = await rig.open("dir/large")
            server.script = lambda exchange: exchange.send(answer("403 Forbidden", {}, s3_error("AccessDenied")))
            with pytest.raises(AccessDenied):
                await rig.filesystem.read(handle, 0, 1000)
            assert rig.metrics.registry.get_sample_value("fluidfs_read_errors_total", {"errno": "13"}) == 1
            store.fail_with = lambda _: AccessDenied("the store refuses")
            rig.names.forget_path("dir/large")
            with pytest.raises(AccessDenied):
                await rig.open("dir/large")


async def test_a_store_that_is_down_gives_cached_files_all_the_same(tmp_path: Path) -> None:
    store = HttpObjects(FILES)
    with store.server as server:
        async with running(store, tmp_path / "cache") as rig:
            await read_all(rig)
            server.script = lambda exchange: exchange.send(answer("500 Internal Server Error", {}, b""))
            store.fail_with = lambda _: StoreUnavailable("down")
            assert await read_all(rig) == FILES


# ---- names and attributes


async def test_a_directory_lists_what_is_in_it(root: Path, tmp_path: Path) -> None:
    async with running(PosixStore(str(root)), tmp_path / "cache") as rig:
        names = [entry.name for entry in await rig.filesystem.entries(ROOT_NODEID)]
        assert names == ["at the limit", "dir", "empty", "one", "over the limit", "small"]
        directory = await rig.filesystem.lookup(ROOT_NODEID, "dir")
        entries = await rig.filesystem.entries(directory.nodeid)
        assert [(entry.name, isinstance(entry, DirectoryEntry)) for entry in entries] == [
            ("large", False),
            ("sub", True),
        ]
        inode = rig.filesystem.remember(directory.nodeid, entries[0])
        assert inode == await rig.filesystem.lookup(directory.nodeid, "large")


async def test_attributes_are_those_of_the_object(root: Path, tmp_path: Path) -> None:
    async with running(PosixStore(str(root)), tmp_path / "cache") as rig:
        found = rig.filesystem.attributes(await rig.filesystem.lookup(ROOT_NODEID, "small"))
        assert found.size_bytes == len(FILES["small"])
        assert found.mtime_ns == (root / "small").stat().st_mtime_ns
        assert (found.uid, found.gid, found.mode) == (OWNERSHIP.uid, OWNERSHIP.gid, stat.S_IFREG | 0o444)


async def test_names_are_believed_for_one_time_to_live_counted_from_the_question(root: Path, tmp_path: Path) -> None:
    async with running(PosixStore(str(root)), tmp_path / "cache", ttl_s=60) as rig:
        await rig.filesystem.lookup(ROOT_NODEID, "small")
        assert 59 < rig.filesystem.names_good_for_s(ROOT_NODEID) <= 60
        # The object changed: nothing is believed any more.
        rig.filesystem.forget_path("small")
        assert rig.filesystem.names_good_for_s(ROOT_NODEID) == 0
    async with running(PosixStore(str(root)), tmp_path / "cache", ttl_s=0) as rig:
        await rig.filesystem.lookup(ROOT_NODEID, "small")
        assert rig.filesystem.names_good_for_s(ROOT_NODEID) == 0


async def test_what_is_left_of_a_time_to_live_shrinks(
    root: Path, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    autojump_clock.autojump_threshold = 0.05
    async with running(PosixStore(str(root)), tmp_path / "cache", ttl_s=60) as rig:
        await rig.filesystem.lookup(ROOT_NODEID, "small")
        await trio.sleep(45)
        await rig.filesystem.lookup(ROOT_NODEID, "small")
        assert rig.filesystem.names_good_for_s(ROOT_NODEID) == pytest.approx(15, abs=1)


async def test_what_is_wrong_is_said_by_its_own_error(root: Path, tmp_path: Path) -> None:
    async with running(PosixStore(str(root)), tmp_path / "cache") as rig:
        file = await rig.filesystem.lookup(ROOT_NODEID, "small")
        directory = await rig.filesystem.lookup(ROOT_NODEID, "dir")
        with pytest.raises(NameNotFound):
            await rig.filesystem.lookup(ROOT_NODEID, "nothing")
        with pytest.raises(NotADirectory):
            await rig.filesystem.lookup(file.nodeid, "below")
        with pytest.raises(NotADirectory):
            await rig.filesystem.entries(file.nodeid)
        with pytest.raises(IsADirectory):
            await rig.filesystem.open(directory.nodeid)
        with pytest.raises(UnknownNode):
            await rig.filesystem.open(123456789)


async def test_forgotten_nodes_are_gone(root: Path, tmp_path: Path) -> None:
    async with running(PosixStore(str(root)), tmp_path / "cache") as rig:
        inode = await rig.filesystem.lookup(ROOT_NODEID, "small")
        await rig.filesystem.lookup(ROOT_NODEID, "small")
        rig.filesystem.forget(inode.nodeid, 1)
        assert rig.filesystem.inode(inode.nodeid) == inode
        rig.filesystem.forget(inode.nodeid, 1)
        with pytest.raises(UnknownNode):
            rig.filesystem.inode(inode.nodeid)
        assert len(rig.inodes) == 1


# ---- facts


async def test_extended_attributes_tell_facts(root: Path, tmp_path: Path) -> None:
    store = PosixStore(str(root))
    async with running(store, tmp_path / "cache", window_bytes=0) as rig:
        for name in ("small", "dir/large"):
            handle = await rig.open(name)
            nodeid, size = handle.inode.nodeid, len(FILES[name])
            assert await rig.filesystem.getxattr(nodeid, "user.fluidfs.cached") == f"0/{size}"
            assert await rig.filesystem.getxattr(nodeid, "user.fluidfs.etag") == store.head(name).version
            assert await rig.filesystem.getxattr(nodeid, "user.fluidfs.key") == name
            assert await rig.filesystem.getxattr(nodeid, "user.fluidfs.store") == store.identity
            await rig.read_handle(handle)
            rig.filesystem.close(handle)
            assert await rig.filesystem.getxattr(nodeid, "user.fluidfs.cached") == f"{size}/{size}"
            for known in rig.filesystem.listxattr(nodeid):
                assert await rig.filesystem.getxattr(nodeid, known)
            with pytest.raises(NoAttribute):
                await rig.filesystem.getxattr(nodeid, "security.capability")


async def test_directories_have_no_facts(root: Path, tmp_path: Path) -> None:
    async with running(PosixStore(str(root)), tmp_path / "cache") as rig:
        assert rig.filesystem.listxattr(ROOT_NODEID) == ()
        with pytest.raises(NoAttribute):
            await rig.filesystem.getxattr(ROOT_NODEID, "user.fluidfs.etag")
