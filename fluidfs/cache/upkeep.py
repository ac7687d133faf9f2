"""What a cache does on the side while a mount runs: evict, seal, scrub, close what is idle."""

from __future__ import annotations

import logging

import trio

from fluidfs.cache.levels import Cache
from fluidfs.cache.version import CachedVersion

log = logging.getLogger(__name__)

# A version nobody uses stays open so long: reopening costs a look at the disk, and holding it keeps other processes
# from evicting it.
IDLE_S = 10.0
ROUND_S = 1.0
# Blocks that a trusted seal spared the comparison are compared in the background, at this pace: 4 MiB blocks make it
# about 32 MB/s, a few per cent of one core.
SCRUB_PAUSE_S = 0.125


async def upkeep(cache: Cache) -> None:
    """Runs until cancelled."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_evict, cache)
        nursery.start_soon(_seal_completed, cache)
        nursery.start_soon(_scrub, cache)


async def _evict(cache: Cache) -> None:
    while True:
        with trio.move_on_after(ROUND_S * 5):
            await cache.evict_wanted.wait()
        cache.evict_wanted = trio.Event()
        for version in list(cache.idle(since_s=IDLE_S)):
            if version.users == 0 and version not in cache.completed:
                cache.forget(version)
        for level in cache.levels:
            if level.excess_bytes > 0 and level.fault is None:
                await cache.evict_now(level)


async def _seal_completed(cache: Cache) -> None:
    while True:
        await trio.sleep(ROUND_S)
        while cache.completed:
            version = next(iter(cache.completed))
            cache.hold(version)
            try:
                await _seal(cache, version)
            finally:
                cache.completed.discard(version)  # only now: until it is sealed, nobody else need compare it
                cache.release(version)


async def _seal(cache: Cache, version: CachedVersion) -> None:
    if version.file is None or version.file.sealed:
        return
    try:
        await trio.to_thread.run_sync(version.file.seal, limiter=cache.disk)
    except OSError as error:
        if version.level is not None:
            cache.report_fault(version.level, error.strerror or str(error))


async def _scrub(cache: Cache) -> None:
    """Compares the blocks of versions that are served on the word of their seal; seals those that lost it."""
    while True:
        await trio.sleep(ROUND_S)
        for version in cache.open_versions:
            # It may have been closed while another was compared.
            if not version.users or not version.to_be_compared or version in cache.completed:
                continue
            cache.hold(version)
            try:
                if await _scrub_version(cache, version):
                    cache.note_progress(version)
            finally:
                cache.release(version)


async def _scrub_version(cache: Cache, version: CachedVersion) -> bool:
    """Whether every block was compared."""
    file = version.file
    assert file is not None
    for block in range(file.block_count):
        await trio.sleep(SCRUB_PAUSE_S)
        if version.users == 1:
            return False  # only we have it open; let it close, another opening starts again
        try:
            right = await trio.to_thread.run_sync(file.verify_block, block, limiter=cache.disk)
        except OSError as error:
            if version.level is not None:
                cache.report_fault(version.level, error.strerror or str(error))
            return False
        if right is False:
            log.warning("bad block found", extra={"key": version.identity.key, "block": block})
    version.trusted = False  # nothing is taken on trust any more
    return True
