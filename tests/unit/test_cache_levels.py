"""The cache of a mount: which level has a version, who has it open, and where room comes from."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fluidfs.cache.levels import FRUITLESS_PAUSE_S, MAX_IDLE_VERSIONS, Cache
from fluidfs.cache.version import CachedVersion
from fluidfs.config import Verify
from fluidfs.errors import CacheError, CacheFull, CacheUnusable
from tests.unit.caching import BLOCK, MIB, content, level_in, put, put_small, version_named

SIZE = 3 * BLOCK + 17
A = version_named("a")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(tmp_path: Path, clock: Clock) -> Iterator[Cache]:
    cache = cache_in(tmp_path, clock)
    yield cache
    cache.close()


def cache_in(tmp_path: Path, clock: Clock, *, quota_bytes: int = 64 * MIB, verify: Verify = "first") -> Cache:
    levels = [level_in(tmp_path / name, quota_bytes=quota_bytes, clock=clock) for name in ("fast", "slow")]
    return Cache(tuple(levels), verify=verify, clock=clock)


def fill(version: CachedVersion) -> None:
    assert version.file is not None
    version.file.sink().write(0, content(version.identity.size, version.identity.key))


# ---- opening


async def test_all_handles_of_a_version_share_one_file(cache: Cache) -> None:
    opened: list[CachedVersion] = []

    async def open_one() -> None:
        opened.append(await cache.open(A))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(open_one)
    assert len(set(map(id, opened))) == 1
    assert opened[0].users == 5
    assert opened[0].level is cache.levels[0]


async def test_a_version_is_read_where_it_lies_and_made_in_the_fastest_level(cache: Cache) -> None:
    put(cache.levels[1], A)
    version = await cache.open(A)
    assert version.level is cache.levels[1]
    assert version.read(0, SIZE, nowait=False) == content(SIZE, "a")
    assert (await cache.open(version_named("b"))).level is cache.levels[0]


async def test_a_level_with_a_fault_is_passed_over(cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    put(cache.levels[0], A)
    with caplog.at_level(logging.WARNING):
        cache.report_fault(cache.levels[0], "broken")
        cache.report_fault(cache.levels[0], "broken")
    assert len(caplog.records) == 1
    assert (await cache.open(A)).level is cache.levels[1]


async def test_without_a_level_a_version_has_no_file_and_everything_is_missing(cache: Cache) -> None:
    for level in cache.levels:
        cache.report_fault(level, "broken")
    version = await cache.open(A)
    assert version.file is None
    assert version.next_missing(5, 2 * SIZE) == (5, SIZE)
    assert version.next_missing(SIZE, 2 * SIZE) is None
    assert version.read(0, 1, nowait=True) is None
    assert not await cache.admit(version, 1, around=0)
    cache.release(version)
    assert cache.open_versions == ()


async def test_a_level_that_fails_at_opening_is_out_of_use(cache: Cache) -> None:
    cache.levels[0].files.objects.rmdir()
    cache.levels[0].files.objects.write_text("in the way")
    assert (await cache.open(A)).level is cache.levels[1]
    assert cache.levels[0].fault is not None


async def test_a_version_that_is_opened_again_is_not_closed_while_it_is_looked_at(cache: Cache) -> None:
    cache.release(await cache.open(A))
    cache.disk.total_tokens = 1
    holder = object()
    await cache.disk.acquire_on_behalf_of(holder)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cache.open, A)
        await wait_all_tasks_blocked()  # it waits for a thread
        assert list(cache.idle(since_s=0)) == []
        cache.disk.release_on_behalf_of(holder)
    [version] = cache.open_versions
    assert version.users == 1


async def test_an_opening_that_is_cancelled_takes_no_user(cache: Cache) -> None:
    cache.release(await cache.open(A))
    cache.disk.total_tokens = 1
    holder = object()
    await cache.disk.acquire_on_behalf_of(holder)
    for identity in (A, version_named("b")):
        with trio.move_on_after(0) as scope:
            await cache.open(identity)
        assert scope.cancelled_caught
    cache.disk.release_on_behalf_of(holder)
    assert [version.users for version in cache.open_versions] == [0]
    assert len(list(cache.idle(since_s=0))) == 1
    assert (await cache.open(version_named("b"))).users == 1


# ---- letting go


async def test_a_version_stays_open_for_a_while_and_is_closed_once(cache: Cache, clock: Clock) -> None:
    version = await cache.open(A)
    fill(version)
    with pytest.raises(ValueError, match="in use"):
        cache.forget(version)
    cache.release(version)
    assert list(cache.idle(since_s=5)) == []
    clock.now += 5
    assert list(cache.idle(since_s=5)) == [version]
    assert await cache.open(A) is version
    assert list(cache.idle(since_s=0)) == []
    cache.release(version)
    cache.forget(version)
    # Whoever knows it still finds nothing of it, and hurts nobody.
    assert version.read(0, 1, nowait=False) is None
    assert version.next_missing(0, 1) == (0, 1)
    again = await cache.open(A)
    assert again is not version
    assert again.read(0, SIZE, nowait=False) == content(SIZE, "a")


async def test_of_versions_that_nobody_uses_the_longest_unused_are_closed_when_there_are_many(cache: Cache) -> None:
    for number in range(MAX_IDLE_VERSIONS + 3):
        cache.release(await cache.open(version_named(str(number))))
    keys = [version.identity.key for version in cache.open_versions]
    assert keys == [str(number) for number in range(3, MAX_IDLE_VERSIONS + 3)]


async def test_a_version_that_upkeep_holds_is_not_closed_for_being_one_of_many(cache: Cache) -> None:
    version = await cache.open(A)
    cache.release(version)
    cache.hold(version)
    for number in range(MAX_IDLE_VERSIONS + 3):
        cache.release(await cache.open(version_named(str(number))))
    assert version in cache.open_versions
    cache.release(version)


async def test_the_last_use_is_when_it_was_let_go(cache: Cache) -> None:
    version = await cache.open(A)
    assert version.file is not None
    version.file.touch(1)
    cache.release(version)
    assert version.file.last_use_s > 1


async def test_bytes_of_open_and_closed_versions_are_known(cache: Cache) -> None:
    put(cache.levels[1], A)
    put_small(cache.levels[0], version_named("small", 10))
    assert await cache.cached_bytes(A) == SIZE
    assert await cache.cached_bytes(version_named("b")) == 0
    assert await cache.cached_bytes(version_named("small", 10)) == 10
    assert await cache.cached_bytes(version_named("other", 10)) == 0
    version = await cache.open(version_named("b"))
    assert version.file is not None
    version.file.sink().write(0, content(SIZE, "b")[:BLOCK])
    assert await cache.cached_bytes(version_named("b")) == BLOCK


# ---- room


async def test_room_comes_from_what_nobody_uses(tmp_path: Path, clock: Clock) -> None:
    cache = cache_in(tmp_path, clock, quota_bytes=16 * MIB)
    level = cache.levels[0]
    for number in range(20):
        put(level, version_named(str(number)), last_use_s=number)
    level.usage.used_bytes = 16 * MIB  # as if each were larger
    version = await cache.open(A)
    assert await cache.admit(version, BLOCK, around=0)
    assert await cache.cached_bytes(version_named("0")) == SIZE  # it moved down
    assert (await cache.open(version_named("0"))).level is cache.levels[1]
    cache.close()


async def test_room_comes_from_idle_versions_that_are_still_open(tmp_path: Path, clock: Clock) -> None:
    cache = cache_in(tmp_path, clock, quota_bytes=16 * MIB)
    idle = await cache.open(version_named("large", 15 * MIB))
    fill(idle)
    cache.release(idle)
    version = await cache.open(A)
    assert await cache.admit(version, 8 * MIB, around=0)
    assert idle.file is None
    cache.close()


async def test_when_all_else_is_in_use_a_versions_own_far_blocks_go(tmp_path: Path, clock: Clock) -> None:
    cache = cache_in(tmp_path, clock, quota_bytes=16 * MIB)
    identity = version_named("long", 100 * MIB)
    version = await cache.open(identity)
    assert version.file is not None
    version.file.sink().write(0, content(16 * MIB))
    clock.now += FRUITLESS_PAUSE_S
    assert await cache.admit(version, 4 * MIB, around=16 * MIB)
    assert version.file.present_bytes == 12 * MIB
    assert version.next_missing(0, 100 * MIB) == (0, 4 * MIB)
    cache.close()


async def test_an_eviction_that_found_nothing_is_not_tried_again_at_once(tmp_path: Path, clock: Clock) -> None:
    cache = cache_in(tmp_path, clock, quota_bytes=16 * MIB)
    held = await cache.open(version_named("held", 16 * MIB))
    fill(held)
    version = await cache.open(A)
    assert not await cache.admit(version, BLOCK, around=0)
    cache.release(held)
    clock.now += FRUITLESS_PAUSE_S / 2
    assert not await cache.admit(version, BLOCK, around=0)
    clock.now += FRUITLESS_PAUSE_S / 2
    assert await cache.admit(version, BLOCK, around=0)
    cache.close()


async def test_more_than_the_quota_is_never_admitted_and_evicts_nothing(cache: Cache) -> None:
    put(cache.levels[0], version_named("b"))
    version = await cache.open(A)
    assert not await cache.admit(version, 64 * MIB + 1, around=0)
    assert await cache.cached_bytes(version_named("b")) == SIZE


async def test_room_that_was_promised_is_not_promised_again(cache: Cache) -> None:
    version = await cache.open(A)
    async with cache.room(version, 40 * MIB, around=0) as first, cache.room(version, 40 * MIB, around=0) as second:
        assert (first, second) == (True, False)
    assert cache.levels[0].reserved_bytes == 0
    async with cache.room(version, 64 * MIB, around=0) as third:
        assert third


async def test_above_the_high_watermark_upkeep_is_woken(cache: Cache) -> None:
    version = await cache.open(A)
    cache.levels[0].usage.used_bytes = cache.levels[0].usage.high_bytes + 1
    assert await cache.admit(version, BLOCK, around=0)
    assert cache.evict_wanted.is_set()


async def test_what_a_failed_write_means_for_the_level(cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    put(cache.levels[0], A)
    version = await cache.open(version_named("b"))
    with caplog.at_level(logging.WARNING):
        cache.note_failure(cache.levels[0], CacheError("a block that is leaving"))
        assert await cache.admit(version, BLOCK, around=0)
        for _ in range(2):
            cache.note_failure(cache.levels[0], CacheFull("no space left"))
        assert not await cache.admit(version, BLOCK, around=0)
        assert (await cache.open(A)).level is cache.levels[0]
        cache.note_failure(cache.levels[0], CacheUnusable("input/output error"))
        assert cache.levels[0].fault == "input/output error"
    assert [record.message for record in caplog.records] == ["cache level full", "cache level out of use"]


# ---- small objects


async def test_a_small_object_is_stored_in_the_first_level_with_room(cache: Cache) -> None:
    identity = version_named("small", 1000)
    cache.levels[0].usage.used_bytes = 64 * MIB
    place = cache.small_sink(identity)
    assert place is not None
    level, sink = place
    assert level is cache.levels[1]
    sink.slab.put(identity.digest(), identity.encode(), content(1000))
    found = cache.find_small(identity)
    assert found is not None
    assert found.read(0, 1000, always=False, nowait=False) == content(1000)


async def test_levels_without_room_or_with_faults_take_no_small_object(cache: Cache) -> None:
    cache.levels[0].usage.used_bytes = 64 * MIB
    cache.levels[1].report_fault("broken")
    assert cache.small_sink(version_named("small", 1000)) is None


async def test_slabs_that_cannot_be_made_are_a_fault_of_the_level(cache: Cache) -> None:
    for level in cache.levels:
        level.files.slabs.rmdir()
    assert cache.small_sink(version_named("small", 1000)) is None
    assert all(level.fault is not None for level in cache.levels)
    assert cache.find_small(version_named("small", 1000)) is None


# ---- comparing


@pytest.mark.parametrize(("verify", "served"), [("first", True), ("always", False), ("never", True)])
async def test_a_seal_spares_the_comparison_unless_it_is_always_wanted(
    tmp_path: Path, clock: Clock, verify: Verify, served: bool
) -> None:
    put(level_in(tmp_path / "fast"), A)
    sealer = level_in(tmp_path / "fast").open_object(A, create=False)
    assert sealer is not None
    assert sealer.seal()
    sealer.close()
    cache = cache_in(tmp_path, clock, verify=verify)
    version = await cache.open(A)
    assert version.trusted == (verify == "first")
    if served:
        assert version.read(0, SIZE, nowait=True) == content(SIZE, "a")
    else:
        with pytest.raises(BlockingIOError):
            version.read(0, SIZE, nowait=True)
    cache.close()


async def test_a_file_changed_behind_our_back_is_compared_when_it_is_opened_again(cache: Cache) -> None:
    version = await cache.open(A)
    fill(version)
    assert version.file is not None
    assert version.file.seal()
    cache.release(version)
    path = cache.levels[0].files.object_stem(A.digest()).with_suffix(".data")
    with path.open("r+b") as file:
        file.write(b"wrong")
    assert await cache.open(A) is version
    assert version.read(0, 1, nowait=False) is None
    assert version.next_missing(0, SIZE) == (0, BLOCK)


async def test_closing_the_cache_lets_others_have_the_versions(tmp_path: Path, clock: Clock) -> None:
    cache = cache_in(tmp_path, clock)
    for key in "ab":
        await cache.open(version_named(key))
    cache.close()
    other = level_in(tmp_path / "fast")
    opened = await trio.to_thread.run_sync(partial(other.open_object, A, create=False))
    assert opened is not None
    assert opened.alone()
