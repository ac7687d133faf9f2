"""What a cache does on the side: evict, seal, compare, close. Time is virtual; threads are real."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from fluidfs.cache.files import data_path
from fluidfs.cache.levels import Cache
from fluidfs.cache.upkeep import IDLE_S, upkeep
from fluidfs.cache.version import CachedVersion
from tests.unit.caching import BLOCK, MIB, content, level_in, put, version_named

SIZE = 3 * BLOCK + 17
A = version_named("a")


@asynccontextmanager
async def kept_up(tmp_path: Path, *, quota_bytes: int = 64 * MIB) -> AsyncIterator[Cache]:
    level = level_in(tmp_path, quota_bytes=quota_bytes, clock=trio.current_time)
    cache = Cache((level,), verify="first", clock=trio.current_time)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(upkeep, cache)
        yield cache
        nursery.cancel_scope.cancel()
    cache.close()


async def until(holds: Callable[[], bool]) -> None:
    """Waits, in virtual time, until it holds; how often is bounded, for a thread's work takes no virtual time."""
    for _ in range(20_000):
        if holds():
            return
        await trio.sleep(0.1)
    pytest.fail("it never came to hold")


async def filled(cache: Cache, key: str = "a", size: int = SIZE) -> CachedVersion:
    version = await cache.open(version_named(key, size))
    assert version.file is not None
    version.file.sink().write(0, content(size, key))
    cache.note_progress(version)
    return version


def sealed_in(tmp_path: Path, key: str = "a") -> Path:
    """A sealed version in the level of `tmp_path`; its stem."""
    level = level_in(tmp_path)
    stem = put(level, version_named(key))
    file = level.open_object(version_named(key), create=False)
    assert file is not None
    assert file.seal()
    file.close()
    return stem


async def test_a_version_that_became_complete_is_sealed(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with kept_up(tmp_path) as cache:
        version = await filled(cache)
        assert version.file is not None
        file = version.file
        await until(lambda: file.sealed and not cache.completed)


async def test_a_version_that_nobody_uses_is_closed_after_a_while(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with kept_up(tmp_path) as cache:
        version = await filled(cache)
        cache.release(version)
        released = trio.current_time()
        await until(lambda: cache.open_versions == ())
        assert trio.current_time() - released >= IDLE_S
        assert version.file is None
        again = await cache.open(A)
        assert again.file is not None
        assert again.file.sealed  # closing waited for the seal


async def test_a_level_above_its_high_watermark_is_brought_below_the_low_one(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with kept_up(tmp_path, quota_bytes=16 * MIB) as cache:
        level = cache.levels[0]
        for number in range(4):
            put(level, version_named(str(number), 4 * MIB - 1), last_use_s=number)
        assert level.excess_bytes > 0
        cache.evict_wanted.set()
        await until(lambda: level.usage.used_bytes <= level.usage.low_bytes)
        assert await cache.cached_bytes(version_named("0", 4 * MIB - 1)) == 0
        assert await cache.cached_bytes(version_named("3", 4 * MIB - 1)) == 4 * MIB - 1


async def test_a_bad_block_under_a_trusted_seal_is_found_in_the_background(
    tmp_path: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    stem = sealed_in(tmp_path)
    async with kept_up(tmp_path) as cache:
        version = await cache.open(A)
        assert version.trusted
        with data_path(stem).open("r+b") as file:
            file.seek(2 * BLOCK)
            file.write(b"wrong")
        await until(lambda: not version.trusted)
        assert version.next_missing(0, SIZE) == (2 * BLOCK, 3 * BLOCK)
        assert cache.levels[0].usage.bad_blocks == 1
        assert "bad block found" in caplog.text


async def test_a_complete_version_without_its_seal_is_compared_and_sealed(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    put(level_in(tmp_path), A)  # by a daemon that was killed before it sealed
    async with kept_up(tmp_path) as cache:
        version = await cache.open(A)
        assert version.file is not None
        file = version.file
        await until(lambda: file.sealed)


async def test_versions_that_are_closed_while_others_are_compared_are_passed_over(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    for key in "abc":
        sealed_in(tmp_path, key)
    async with kept_up(tmp_path) as cache:
        versions = [await cache.open(version_named(key)) for key in "abc"]
        await trio.sleep(1.2)  # the comparison of the first is under way
        for version in versions:
            cache.release(version)
            if version.users == 0:
                cache.forget(version)
        await until(lambda: cache.open_versions == ())
        again = await cache.open(A)
        await until(lambda: not again.trusted)


async def test_a_version_that_only_upkeep_holds_is_let_go(tmp_path: Path, autojump_clock: MockClock) -> None:
    sealed_in(tmp_path)
    async with kept_up(tmp_path) as cache:
        cache.release(await cache.open(A))
        await until(lambda: cache.open_versions == ())
