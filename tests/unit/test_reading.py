"""Open files of each kind: where their bytes come from, and what ahead of them is fetched."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from fluidfs.errors import ObjectChanged
from fluidfs.fs.reading import EmptyFile, LargeFile, SmallFile, read_without_waiting
from fluidfs.metrics import value_of
from tests.unit.rig import HttpObjects, Rig, pattern, running, until

MIB = 1 << 20
LARGE = pattern(24 * MIB)
SMALL = pattern(200_000, 1)


async def settled(rig: Rig) -> None:
    """Waits until nothing is under way."""
    await until(lambda: not rig.engine.statistics().in_flight and not rig.budget.taken_bytes)


@pytest.mark.parametrize(("size", "kind"), [(0, EmptyFile), (1, SmallFile), (262_144, SmallFile), (262_145, LargeFile)])
async def test_the_size_decides_on_the_kind(size: int, kind: type, tmp_path: Path) -> None:
    store = HttpObjects({"f": bytes(size)})
    with store.server:
        async with running(store, tmp_path / "c") as rig:
            handle = await rig.open("f")
            assert type(handle.file) is kind
            rig.filesystem.close(handle)


async def test_an_empty_file_costs_no_request(tmp_path: Path) -> None:
    store = HttpObjects({"f": b""})
    with store.server as server:
        async with running(store, tmp_path / "c") as rig:
            assert await rig.read("f") == b""
        assert server.requests == []


async def test_a_stream_is_fetched_ahead_of_its_reader(tmp_path: Path) -> None:
    store = HttpObjects({"f": LARGE})
    with store.server as server:
        async with running(store, tmp_path / "c", window_bytes=8 * MIB) as rig:
            handle = await rig.open("f")
            for offset in range(0, 4 * MIB, 128 << 10):
                data = await rig.filesystem.read(handle, offset, 128 << 10)
                assert data == LARGE[offset : offset + (128 << 10)]
            await settled(rig)
            fetched = rig.fetched_bytes
            assert 4 * MIB < fetched <= 13 * MIB
            # Large ranges, not one for each read.
            assert len(server.requests) <= 12
            rig.filesystem.close(handle)


async def test_without_a_window_nothing_is_fetched_ahead(tmp_path: Path) -> None:
    store = HttpObjects({"f": LARGE})
    with store.server:
        async with running(store, tmp_path / "c", window_bytes=0) as rig:
            handle = await rig.open("f")
            for offset in range(0, MIB, 64 << 10):
                await rig.filesystem.read(handle, offset, 64 << 10)
            await settled(rig)
            assert rig.fetched_bytes == MIB
            rig.filesystem.close(handle)


async def test_random_reads_fetch_what_they_need_and_little_more(tmp_path: Path) -> None:
    store = HttpObjects({"f": LARGE})
    with store.server:
        async with running(store, tmp_path / "c") as rig:
            handle = await rig.open("f")
            offsets = [5_000_001, 20_000_003, 1_000_007, 12_345_678]
            for offset in offsets:
                assert await rig.filesystem.read(handle, offset, 4096) == LARGE[offset : offset + 4096]
            await settled(rig)
            assert rig.fetched_bytes <= len(offsets) * (64 << 10)
            rig.filesystem.close(handle)


async def test_hits_are_told_from_misses(tmp_path: Path) -> None:
    store = HttpObjects({"large": LARGE, "small": SMALL})
    with store.server:
        async with running(store, tmp_path / "c", window_bytes=0) as rig:
            for name, size in (("large", 1000), ("small", len(SMALL))):
                handle = await rig.open(name)
                before = value_of(rig.metrics.read_hit_bytes)
                await rig.filesystem.read(handle, 0, size)
                assert value_of(rig.metrics.read_hit_bytes) == before
                await rig.filesystem.read(handle, 0, size)
                assert value_of(rig.metrics.read_hit_bytes) == before + size
                rig.filesystem.close(handle)


async def test_a_small_file_is_one_get_however_it_is_read(tmp_path: Path) -> None:
    store = HttpObjects({"small": SMALL})
    with store.server as server:
        async with running(store, tmp_path / "c") as rig:
            handle = await rig.open("small")
            for offset in (150_000, 0, 199_999, 60_000):
                assert await rig.filesystem.read(handle, offset, 10_000) == SMALL[offset : offset + 10_000]
            rig.filesystem.close(handle)
        assert len(server.requests) == 1


async def test_a_small_file_that_leaves_the_cache_is_fetched_again(tmp_path: Path) -> None:
    store = HttpObjects({"small": SMALL})
    with store.server as server:
        async with running(store, tmp_path / "c") as rig:
            handle = await rig.open("small")
            await rig.filesystem.read(handle, 0, 1000)
            found = rig.cache.find_small(rig.filesystem.identity_of(handle.inode.entry))  # type: ignore[arg-type]
            assert found is not None
            found.slab.drop(found.slot)
            assert await rig.filesystem.read(handle, 0, 1000) == SMALL[:1000]
            store.put("small", b"another")
            found = rig.cache.find_small(rig.filesystem.identity_of(handle.inode.entry))  # type: ignore[arg-type]
            assert found is not None
            found.slab.drop(found.slot)
            with pytest.raises(ObjectChanged):
                await rig.filesystem.read(handle, 0, 1000)
            rig.filesystem.close(handle)
        assert len(server.requests) == 3


async def test_a_version_without_a_file_reads_through_and_fetches_nothing_ahead() -> None:
    store = HttpObjects({"f": LARGE})
    with store.server as server:
        async with running(store, None) as rig:
            handle = await rig.open("f")
            for offset in range(0, MIB, 128 << 10):
                assert await rig.filesystem.read(handle, offset, 128 << 10) == LARGE[offset : offset + (128 << 10)]
            rig.filesystem.close(handle)
            assert value_of(rig.metrics.read_through_bytes) == rig.fetched_bytes == MIB
        assert len(server.requests) == 8


async def test_a_read_that_would_wait_for_the_disk_waits_in_a_thread() -> None:
    calls: list[tuple[bool, bool]] = []

    def read(*, nowait: bool) -> bytes | None:
        calls.append((nowait, in_trio()))
        if nowait:
            raise BlockingIOError
        return b"from the disk"

    assert await read_without_waiting(read, trio.CapacityLimiter(1)) == b"from the disk"
    assert calls == [(True, True), (False, False)]


async def test_a_read_that_the_page_cache_answers_takes_no_thread() -> None:
    assert await read_without_waiting(lambda *, nowait: b"at once" if nowait else None, trio.CapacityLimiter(1)) == (
        b"at once"
    )


def in_trio() -> bool:
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return False
    return True
