"""The layers from the store up to the file system, put together for a mount, or for a warm-up without one."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from fluidfs._native.engine import Engine
from fluidfs.cache.level import Level
from fluidfs.cache.levels import Cache
from fluidfs.cache.upkeep import upkeep
from fluidfs.config import MountOptions
from fluidfs.errors import CacheUnusable, EnvironmentLacking, UsageError
from fluidfs.fetch.budget import ByteBudget
from fluidfs.fetch.fetcher import Fetcher
from fluidfs.fetch.pump import Pump
from fluidfs.fetch.source import StoreSource, endpoint_of
from fluidfs.fs.attributes import Ownership
from fluidfs.fs.filesystem import FileSystem, ReadSettings
from fluidfs.fs.layers import Layers
from fluidfs.fs.warming import Warmer
from fluidfs.meta.inodes import Inodes
from fluidfs.meta.names import Names
from fluidfs.metrics import Metrics
from fluidfs.store.base import Store
from fluidfs.store.open import open_store
from fluidfs.store.source import Source, parse_source

log = logging.getLogger(__name__)

# GETs under way at once. One stream of a loopback server gave 747 MB/s, four 1,002, eight 1,104; sixteen leave room
# for readers of small files, and cost 8 MiB of buffers.
DEFAULT_STREAMS = 16
# What a stream receives, hashes and writes at once. 512 KiB costs a tenth less CPU time than 256, and 1 MiB no less.
CHUNK_BYTES = 512 << 10
# Threads that may ask the store for names at once.
NAME_THREADS = 8


@dataclass(frozen=True, slots=True)
class Plane:
    """Everything below FUSE, running."""

    source: Source
    store: Store
    names: Names
    inodes: Inodes
    cache: Cache
    engine: Engine
    budget: ByteBudget
    fetcher: Fetcher
    filesystem: FileSystem
    settings: ReadSettings
    root_mtime_ns: int
    warmer: Warmer
    metrics: Metrics

    @property
    def layers(self) -> Layers:
        """What requests are answered out of."""
        return Layers(
            store_identity=self.store.identity,
            key_prefix=self.source.prefix,
            root_mtime_ns=self.root_mtime_ns,
            settings=self.settings,
            names=self.names,
            inodes=self.inodes,
            cache=self.cache,
            fetcher=self.fetcher,
            filesystem=self.filesystem,
            metrics=self.metrics,
        )


def connect(options: MountOptions) -> tuple[Source, Store]:
    """The source and its store, which has answered. Raises UsageError, StoreError or EnvironmentLacking."""
    source = parse_source(options.source)
    store = open_store(
        source,
        endpoint_url=options.endpoint_url,
        region=options.region,
        profile=options.profile,
        anonymous=options.anonymous,
        addressing=options.addressing,
        ca_bundle=options.ca_bundle,
        proxy=options.proxy,
        sse_c_key=_key_of(options.sse_c_key_file),
        request_payer=options.request_payer,
    )
    store.probe()
    return source, store


def _key_of(path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"the SSE-C key {path} cannot be read: {error.strerror}") from error


def open_levels(options: MountOptions) -> tuple[Level, ...]:
    """The cache levels. One that cannot be used is left out with a warning; with none left, EnvironmentLacking."""
    levels: list[Level] = []
    reasons: list[str] = []
    for spec in options.cache:
        try:
            levels.append(Level(spec, block_bytes=options.block_size))
        except CacheUnusable as error:
            reasons.append(error.message)
            log.warning("cache level left out", extra={"level": spec.path, "reason": error.message})
    if reasons and not levels:
        raise EnvironmentLacking(reasons[0])
    return tuple(levels)


@asynccontextmanager
async def open_plane(options: MountOptions) -> AsyncIterator[Plane]:
    """Builds the layers from the bottom up, and takes them down again."""
    starting = trio.CapacityLimiter(1)
    source, store = await trio.to_thread.run_sync(connect, options, limiter=starting)
    levels = await trio.to_thread.run_sync(open_levels, options, limiter=starting)
    metrics = Metrics()
    cache = Cache(levels, verify=options.verify)
    workers = options.streams or DEFAULT_STREAMS
    engine = Engine(workers=workers, chunk_bytes=CHUNK_BYTES)
    try:
        async with trio.open_nursery() as nursery:
            pump = Pump(engine)
            origin = StoreSource(store, pump, endpoint_of(store, engine), metrics)
            await origin.refresh_credentials()
            budget = ByteBudget(options.memory_bytes)
            names = Names(
                store,
                prefix=source.prefix,
                ttl_s=options.metadata_ttl_s,
                limiter=trio.CapacityLimiter(NAME_THREADS),
            )
            root_mtime_ns = os.stat("/proc/self").st_mtime_ns
            inodes = Inodes(root_mtime_ns=root_mtime_ns)
            fetcher = Fetcher(
                cache=cache, source=origin, budget=budget, metrics=metrics, nursery=nursery, workers=workers
            )
            settings = ReadSettings(
                Ownership(options.uid, options.gid, options.file_mode, options.dir_mode),
                max_window_bytes=min(options.readahead_bytes, options.memory_bytes // 2),
            )
            filesystem = FileSystem(
                store_identity=store.identity,
                names=names,
                inodes=inodes,
                cache=cache,
                fetcher=fetcher,
                metrics=metrics,
                settings=settings,
            )
            warmer = Warmer(names=names, filesystem=filesystem, cache=cache, fetcher=fetcher)
            for background in (pump.run, origin.run, names.renew_ahead, partial(upkeep, cache)):
                nursery.start_soon(background)
            yield Plane(
                source=source,
                store=store,
                names=names,
                inodes=inodes,
                cache=cache,
                engine=engine,
                budget=budget,
                fetcher=fetcher,
                filesystem=filesystem,
                settings=settings,
                root_mtime_ns=root_mtime_ns,
                warmer=warmer,
                metrics=metrics,
            )
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(engine.close, limiter=starting)
        cache.close()
