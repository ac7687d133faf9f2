"""Bringing bytes into the cache: each once, readers first, and no failure that outlives its cause."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fluidfs._native.sink import Sink
from fluidfs.cache.identity import VersionIdentity
from fluidfs.cache.slabs import SMALL_OBJECT_BYTES
from fluidfs.cache.version import CachedVersion
from fluidfs.errors import CacheError, CacheFull, CacheUnusable, FluidfsError, ObjectChanged, StoreUnavailable
from fluidfs.fetch.fetcher import RANGE_BYTES
from fluidfs.model import Extent
from tests.unit.http_server import Exchange, answer, s3_error
from tests.unit.rig import HttpObjects, Rig, pattern, running, until

MIB = 1 << 20
LARGE = pattern(4 * MIB)
SMALL = pattern(50_000, seed=1)


def identity_of(store: HttpObjects, key: str) -> VersionIdentity:
    info = store.head(key)
    return VersionIdentity(store.identity, key, info.version, info.size)


@asynccontextmanager
async def opened(rig: Rig, store: HttpObjects, key: str = "large") -> AsyncIterator[CachedVersion]:
    version = await rig.cache.open(identity_of(store, key))
    try:
        yield version
    finally:
        rig.cache.release(version)


def bytes_of(version: CachedVersion, extent: Extent) -> bytes | None:
    return version.read(extent.offset, extent.length, nowait=False)


def refusing(exchange: Exchange) -> None:
    exchange.send(answer("403 Forbidden", {}, s3_error("AccessDenied")))


def holding(exchange: Exchange) -> None:
    exchange.hold()


class Gate:
    """A script that answers nothing until it is opened, and then all that waited."""

    def __init__(self, store: HttpObjects) -> None:
        self._store = store
        self._open = threading.Event()

    def __call__(self, exchange: Exchange) -> None:
        while not self._open.wait(0.01):
            if exchange.closing.is_set():
                exchange.hang_up()
                return
        self._store.serve(exchange)

    def open(self) -> None:
        self._open.set()


# ---- versions with a file


async def test_readers_of_the_same_bytes_share_one_get(tmp_path: Path) -> None:
    store = HttpObjects({"large": LARGE})
    with store.server as server:
        server.script = gate = Gate(store)
        async with running(store, tmp_path / "c") as rig, opened(rig, store) as version:
            extent = Extent(0, MIB)
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(rig.fetcher.ensure, version, extent)
                await until(lambda: server.requests)
                gate.open()
            assert bytes_of(version, extent) == LARGE[:MIB]
        assert len(server.requests) == 1


async def test_what_overlaps_is_asked_for_once(tmp_path: Path) -> None:
    store = HttpObjects({"large": LARGE})
    with store.server as server:
        async with running(store, tmp_path / "c") as rig, opened(rig, store) as version:
            async with trio.open_nursery() as nursery:
                for offset in range(0, 3 * MIB, 200_000):
                    nursery.start_soon(rig.fetcher.ensure, version, Extent(offset, MIB))
            await until(lambda: rig.engine.statistics().in_flight == 0)
            received = rig.fetched_bytes
        assert received <= len(LARGE)
        assert sum(last - first + 1 for first, last in (request.extent for request in server.requests)) == received


async def test_a_long_extent_is_cut_into_ranges(tmp_path: Path) -> None:
    data = pattern(20 * MIB)
    store = HttpObjects({"large": data})
    with store.server as server:
        async with running(store, tmp_path / "c") as rig, opened(rig, store) as version:
            await rig.fetcher.ensure(version, Extent(0, len(data)))
            assert bytes_of(version, Extent(0, len(data))) == data
        assert max(last - first + 1 for first, last in (request.extent for request in server.requests)) == RANGE_BYTES


async def test_a_failure_reaches_those_who_waited_and_nobody_after_them(tmp_path: Path) -> None:
    store = HttpObjects({"large": LARGE})
    with store.server as server:
        server.script = refusing
        async with running(store, tmp_path / "c") as rig, opened(rig, store) as version:
            for _ in range(2):
                with pytest.raises(FluidfsError, match="AccessDenied"):
                    await rig.fetcher.ensure(version, Extent(0, 1000))
            server.script = store.serve
            await rig.fetcher.ensure(version, Extent(0, 1000))
            assert bytes_of(version, Extent(0, 1000)) == LARGE[:1000]
            # The bytes are there a moment before their job has ended.
            await until(lambda: rig.budget.taken_bytes == 0)


async def test_a_failure_elsewhere_in_the_file_is_not_ours(tmp_path: Path) -> None:
    store = HttpObjects({"large": LARGE})
    with store.server as server:

        def bad_half(exchange: Exchange) -> None:
            (refusing if exchange.request.extent[0] >= 2 * MIB else store.serve)(exchange)

        server.script = bad_half
        async with running(store, tmp_path / "c") as rig, opened(rig, store) as version:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(rig.fetcher.ensure, version, Extent(0, MIB))
                with pytest.raises(FluidfsError):
                    await rig.fetcher.ensure(version, Extent(3 * MIB, 1000))
            assert bytes_of(version, Extent(0, MIB)) == LARGE[:MIB]


async def test_a_reader_that_is_cancelled_leaves_no_user_and_no_budget_behind(tmp_path: Path) -> None:
    store = HttpObjects({"large": LARGE})
    with store.server as server:
        server.script = gate = Gate(store)
        async with running(store, tmp_path / "c") as rig, opened(rig, store) as version:
            with trio.move_on_after(0.05):
                await rig.fetcher.ensure(version, Extent(0, MIB))
            gate.open()
            await until(lambda: version.users == 1)
            assert rig.budget.taken_bytes == 0
            # The job was not the reader's alone; what it brought is there for the next.
            assert bytes_of(version, Extent(0, MIB)) == LARGE[:MIB]


async def test_an_end_in_the_middle_of_fetching_leaves_nothing_under_way(tmp_path: Path) -> None:
    store = HttpObjects({"large": LARGE, "small": SMALL})
    with store.server as server:
        server.script = holding
        with trio.fail_after(3):
            async with running(store, tmp_path / "c") as rig:
                version = await rig.cache.open(identity_of(store, "large"))
                rig.fetcher.prefetch(version, Extent(0, len(LARGE)))
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(rig.fetcher.small, identity_of(store, "small"))
                    nursery.start_soon(rig.fetcher.ensure, version, Extent(0, 1000))
                    await until(lambda: len(server.requests) >= 2)
                    nursery.cancel_scope.cancel()
        assert version.users == 1
        assert rig.budget.taken_bytes == 0
        assert rig.engine.statistics().in_flight == 0


async def test_what_no_level_can_take_is_said_to_be_so(tmp_path: Path) -> None:
    store = HttpObjects({"large": LARGE})
    with store.server:
        async with running(store, None) as rig, opened(rig, store) as version:
            with pytest.raises(CacheFull):
                await rig.fetcher.ensure(version, Extent(0, 1000))
            assert await rig.fetcher.read_through(version.identity, Extent(100, 1000)) == LARGE[100:1100]


async def test_bytes_that_leave_as_fast_as_they_come_are_given_up_on(tmp_path: Path) -> None:
    store = HttpObjects({"large": LARGE})
    with store.server:
        async with running(store, tmp_path / "c") as rig, opened(rig, store) as version:
            assert version.file is not None

            # The worst neighbour: whatever arrives is evicted before its reader wakes up.
            missing = version.next_missing(0, 1000)
            assert missing is not None

            class Vanishing:
                file = version.file
                level = version.level
                identity = version.identity
                users = 1
                idle_since = 0.0

                def next_missing(self, offset: int, end: int) -> tuple[int, int] | None:
                    return missing if missing is not None and offset < missing[1] else None

            with trio.fail_after(10), pytest.raises(CacheError, match="as fast as it comes"):
                await rig.fetcher.ensure(Vanishing(), Extent(0, 1000))  # type: ignore[arg-type]


async def test_a_bug_below_is_an_error_of_one_read_and_not_the_end_of_the_mount(tmp_path: Path) -> None:
    store = HttpObjects({"large": LARGE})

    def target(key: str) -> bytes:
        raise RuntimeError("a bug")

    with store.server:
        async with running(store, tmp_path / "c") as rig, opened(rig, store) as version:
            right, store.target = store.target, target  # type: ignore[method-assign]
            with pytest.raises(FluidfsError, match="a bug"):
                await rig.fetcher.ensure(version, Extent(0, 1000))
            store.target = right  # type: ignore[method-assign]
            await rig.fetcher.ensure(version, Extent(0, 1000))
            await until(lambda: version.users == 1)


# ---- readers come first


async def test_a_reader_does_not_wait_behind_what_nobody_waits_for(tmp_path: Path) -> None:
    """All that may be fetched ahead is under way, and hangs; a reader of another file is served."""
    store = HttpObjects({"ahead": pattern(64 * MIB), "large": LARGE})
    with store.server as server:

        def slow_ahead(exchange: Exchange) -> None:
            (holding if exchange.request.target.endswith("ahead") else store.serve)(exchange)

        server.script = slow_ahead
        async with (
            running(store, tmp_path / "c", quota_bytes=256 * MIB) as rig,
            opened(rig, store, "ahead") as ahead,
            opened(rig, store) as version,
        ):
            rig.fetcher.prefetch(ahead, Extent(0, 64 * MIB))
            await until(lambda: server.requests)
            with trio.fail_after(5):
                await rig.fetcher.ensure(version, Extent(0, len(LARGE)))
            assert bytes_of(version, Extent(0, len(LARGE))) == LARGE


async def test_a_reader_that_comes_to_need_a_waiting_range_hurries_it_on(tmp_path: Path) -> None:
    store = HttpObjects({"ahead": pattern(64 * MIB)})
    with store.server as server:

        def only_what_is_read(exchange: Exchange) -> None:
            first, last = exchange.request.extent
            (store.serve if first <= 17 * MIB <= last else holding)(exchange)

        server.script = only_what_is_read
        # One patient fetch at a time: the third range waits for its turn for ever.
        async with (
            running(store, tmp_path / "c", quota_bytes=256 * MIB, workers=2) as rig,
            opened(rig, store, "ahead") as version,
        ):
            rig.fetcher.prefetch(version, Extent(0, 24 * MIB))
            await until(lambda: server.requests)
            with trio.fail_after(5):
                await rig.fetcher.ensure(version, Extent(17 * MIB, 1000))


async def test_fetching_ahead_stops_where_the_budget_for_it_ends(tmp_path: Path) -> None:
    store = HttpObjects({"ahead": pattern(64 * MIB)})
    with store.server as server:
        server.script = holding
        async with (
            running(store, tmp_path / "c", quota_bytes=256 * MIB, memory_bytes=32 * MIB) as rig,
            opened(rig, store, "ahead") as version,
        ):
            rig.fetcher.prefetch(version, Extent(0, 64 * MIB))
            await until(lambda: server.requests)
            await wait_all_tasks_blocked()
            assert rig.budget.taken_bytes <= 24 * MIB
            assert version.users <= 1 + 3


async def test_what_is_read_is_urgent_and_what_follows_it_is_not(tmp_path: Path) -> None:
    store = HttpObjects({"ahead": pattern(64 * MIB)})
    with store.server as server:
        server.script = holding
        async with (
            running(store, tmp_path / "c", quota_bytes=256 * MIB) as rig,
            opened(rig, store, "ahead") as version,
            opened(rig, store, "ahead"),
        ):
            # The budget for fetching ahead is taken; the read itself is brought all the same.
            rig.fetcher.prefetch(version, Extent(32 * MIB, 24 * MIB))
            rig.fetcher.prefetch(version, Extent(0, 16 * MIB), first=Extent(0, 1000))
            await until(lambda: (0, RANGE_BYTES - 1) in [request.extent for request in server.requests])
            assert (RANGE_BYTES, 2 * RANGE_BYTES - 1) not in [request.extent for request in server.requests]


# ---- small objects


async def test_a_small_object_is_fetched_once_for_all_who_want_it(tmp_path: Path) -> None:
    store = HttpObjects({"small": SMALL})
    with store.server as server:
        server.script = gate = Gate(store)
        async with running(store, tmp_path / "c") as rig:
            got: list[bytes] = []

            async def one() -> None:
                got.append((await rig.fetcher.small(identity_of(store, "small")))[1])

            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(one)
                await until(lambda: server.requests)
                gate.open()
            assert got == [SMALL] * 10
            assert rig.cache.find_small(identity_of(store, "small")) is not None
        assert len(server.requests) == 1


async def test_those_who_wait_for_a_small_object_share_its_failure(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Each trying for himself, one after the other, would make the last one wait for minutes."""
    autojump_clock.autojump_threshold = 0.05
    store = HttpObjects({"small": SMALL})
    with store.server as server:
        server.script = lambda exchange: exchange.send(answer("500 Internal Server Error", {}, b""))
        async with running(store, tmp_path / "c") as rig:
            began = trio.current_time()

            async def one() -> None:
                with pytest.raises(StoreUnavailable):
                    await rig.fetcher.small(identity_of(store, "small"))

            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(one)
            assert trio.current_time() - began < 40
            assert rig.budget.taken_bytes == 0


async def test_another_takes_over_when_the_first_is_cancelled(tmp_path: Path) -> None:
    store = HttpObjects({"small": SMALL})
    with store.server as server:
        server.script = holding
        async with running(store, tmp_path / "c") as rig, trio.open_nursery() as nursery:
            identity = identity_of(store, "small")
            first = trio.CancelScope()

            async def leader() -> None:
                with first:
                    await rig.fetcher.small(identity)

            nursery.start_soon(leader)
            await until(lambda: server.requests)
            got: list[bytes] = []

            async def follower() -> None:
                got.append((await rig.fetcher.small(identity))[1])

            nursery.start_soon(follower)
            await wait_all_tasks_blocked()
            server.script = store.serve
            first.cancel()
            await until(lambda: got)
            assert got == [SMALL]


async def test_a_small_object_that_changed_is_told(tmp_path: Path) -> None:
    store = HttpObjects({"small": SMALL})
    with store.server:
        async with running(store, tmp_path / "c") as rig:
            identity = identity_of(store, "small")
            store.put("small", SMALL[::-1])
            with pytest.raises(ObjectChanged):
                await rig.fetcher.small(identity)
            assert (await rig.fetcher.small(identity_of(store, "small")))[1] == SMALL[::-1]


async def test_a_slab_that_cannot_be_written_is_no_error_of_the_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = HttpObjects({"small": SMALL})
    with store.server as server:
        async with running(store, tmp_path / "c") as rig:
            level = rig.cache.levels[0]

            def no_sink(identity: VersionIdentity) -> Sink:
                raise CacheUnusable("the disk is gone")

            count = 0

            def first_sink_only(identity: VersionIdentity) -> Sink:
                nonlocal count
                count += 1
                return right(identity) if count == 1 else no_sink(identity)

            right = level.slabs.sink
            monkeypatch.setattr(level.slabs, "sink", first_sink_only)
            # The first try fails, the second finds no slab to write to.
            failed: list[Exchange] = []

            def once(exchange: Exchange) -> None:
                if not failed:
                    failed.append(exchange)
                    exchange.hang_up()
                else:
                    store.serve(exchange)

            server.script = once
            assert await rig.fetcher.small(identity_of(store, "small")) == (None, SMALL)
            assert level.fault == "the disk is gone"
            assert rig.budget.taken_bytes == 0


async def test_a_small_object_that_is_not_kept_is_read_all_the_same() -> None:
    store = HttpObjects({"small": SMALL})
    with store.server:
        async with running(store, None) as rig:
            assert await rig.fetcher.small(identity_of(store, "small")) == (None, SMALL)


@pytest.mark.parametrize("size", [1, 4096, SMALL_OBJECT_BYTES])
async def test_small_objects_of_every_size_are_kept(size: int, tmp_path: Path) -> None:
    data = os.urandom(size)
    store = HttpObjects({"small": data})
    with store.server:
        async with running(store, tmp_path / "c") as rig:
            place, got = await rig.fetcher.small(identity_of(store, "small"))
            assert got == data
            assert place is not None
            assert place.read(0, size, always=True, nowait=False) == data
