"""The layers from a store up to the file system, wired as a mount wires them, over any Store."""

from __future__ import annotations

import random
import urllib.parse
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from fluidfs._native.engine import Engine
from fluidfs.cache.level import Level
from fluidfs.cache.levels import Cache
from fluidfs.config import LevelSpec
from fluidfs.fetch.budget import ByteBudget
from fluidfs.fetch.fetcher import Fetcher
from fluidfs.fetch.pump import Pump
from fluidfs.fetch.source import StoreSource, endpoint_of
from fluidfs.fs.attributes import Ownership
from fluidfs.fs.filesystem import FileSystem, Handle, ReadSettings
from fluidfs.fs.warming import Warmer
from fluidfs.meta.inodes import ROOT_NODEID, Inodes
from fluidfs.meta.names import Names
from fluidfs.metrics import Metrics, value_of
from fluidfs.store.base import HttpTransport, Store
from tests.unit.http_server import Exchange, HttpServer, answer, s3_error
from tests.unit.memory_store import MemoryStore

BLOCK_BYTES = 256 << 10
OWNERSHIP = Ownership(1000, 1000, 0o444, 0o555)


@dataclass(frozen=True, slots=True)
class Rig:
    """Everything below FUSE, running."""

    store: Store
    names: Names
    inodes: Inodes
    cache: Cache
    engine: Engine
    budget: ByteBudget
    pump: Pump
    source: StoreSource
    fetcher: Fetcher
    filesystem: FileSystem
    warmer: Warmer
    metrics: Metrics
    changed: list[str]

    @property
    def retries(self) -> int:
        return int(value_of(self.metrics.retries))

    @property
    def fetched_bytes(self) -> int:
        return self.engine.statistics().bytes_received

    async def open(self, path: str) -> Handle:
        """Looks every component up, as a kernel does, and opens the file."""
        nodeid = ROOT_NODEID
        for name in path.split("/"):
            nodeid = (await self.filesystem.lookup(nodeid, name)).nodeid
        return await self.filesystem.open(nodeid)

    async def read(self, path: str) -> bytes:
        """The whole file, in requests of the size that a kernel sends."""
        handle = await self.open(path)
        try:
            return await self.read_handle(handle)
        finally:
            self.filesystem.close(handle)

    async def read_handle(self, handle: Handle) -> bytes:
        data = b""
        while part := await self.filesystem.read(handle, len(data), 128 << 10):
            data += part
        return data


@asynccontextmanager
async def running(
    store: Store,
    cache_directory: Path | None,
    *,
    quota_bytes: int = 64 << 20,
    memory_bytes: int = 32 << 20,
    window_bytes: int = 8 << 20,
    ttl_s: float = 60.0,
    workers: int = 4,
    verify: str = "first",
    seed: int = 1,
) -> AsyncIterator[Rig]:
    """A rig that is taken down in the order of a mount. `cache_directory` None: no level at all."""
    metrics = Metrics()
    levels: tuple[Level, ...] = ()
    if cache_directory is not None:
        levels = (Level(LevelSpec(str(cache_directory), quota_bytes, "SSD"), block_bytes=BLOCK_BYTES),)
    cache = Cache(levels, verify=verify)  # type: ignore[arg-type]
    engine = Engine(workers=workers)
    try:
        async with trio.open_nursery() as nursery:
            pump = Pump(engine)
            source = StoreSource(store, pump, endpoint_of(store, engine), metrics, rng=random.Random(seed))
            await source.refresh_credentials()
            budget = ByteBudget(memory_bytes)
            names = Names(store, prefix="", ttl_s=ttl_s, limiter=trio.CapacityLimiter(4), mount_time_ns=1)
            inodes = Inodes()
            fetcher = Fetcher(
                cache=cache, source=source, budget=budget, metrics=metrics, nursery=nursery, workers=workers
            )
            changed: list[str] = []
            filesystem = FileSystem(
                store_identity=store.identity,
                names=names,
                inodes=inodes,
                cache=cache,
                fetcher=fetcher,
                metrics=metrics,
                settings=ReadSettings(OWNERSHIP, max_window_bytes=window_bytes),
                on_changed=changed.append,
            )
            warmer = Warmer(names=names, filesystem=filesystem, cache=cache, fetcher=fetcher)
            nursery.start_soon(pump.run)
            yield Rig(
                store=store,
                names=names,
                inodes=inodes,
                cache=cache,
                engine=engine,
                budget=budget,
                pump=pump,
                source=source,
                fetcher=fetcher,
                filesystem=filesystem,
                warmer=warmer,
                metrics=metrics,
                changed=changed,
            )
            nursery.cancel_scope.cancel()
    finally:
        engine.close()
        cache.close()


class HttpObjects(MemoryStore):
    """A MemoryStore whose bytes come from a loopback HTTP server, which honours Range and If-Match as S3 does."""

    def __init__(self, objects: dict[str, bytes] | None = None) -> None:
        super().__init__(objects)
        self.server = HttpServer(self.serve)
        self.identity = f"s3+http://127.0.0.1:{self.server.port}/bucket"
        self.transport = HttpTransport(
            host="127.0.0.1",
            port=self.server.port,
            tls=False,
            host_header=f"127.0.0.1:{self.server.port}",
            ca_file=None,
            region="us-east-1",
            headers=(),
            proxy=None,
        )

    def target(self, key: str) -> bytes:
        """A path-style one."""
        return b"/bucket/" + urllib.parse.quote(key, errors="surrogateescape").encode()

    def serve(self, exchange: Exchange) -> None:
        """Answers as it should be."""
        key = urllib.parse.unquote(exchange.request.target.removeprefix("/bucket/"))
        found = self._objects.get(key)
        if found is None:
            exchange.send(answer("404 Not Found", {}, s3_error("NoSuchKey")))
            return
        body, info = found
        if exchange.request.headers.get("if-match", f'"{info.version}"') != f'"{info.version}"':
            exchange.send(answer("412 Precondition Failed", {}, s3_error("PreconditionFailed")))
            return
        first, last = exchange.request.extent
        last = min(last, len(body) - 1)
        headers = {"Content-Range": f"bytes {first}-{last}/{len(body)}", "ETag": f'"{info.version}"'}
        exchange.send(answer("206 Partial Content", headers, body[first : last + 1]))


async def until(true: Callable[[], object]) -> None:
    """Waits until `true()`; for what happens in other threads."""
    with trio.fail_after(10):
        while not true():  # noqa: ASYNC110 - those threads know no trio.Event
            await trio.sleep(0.005)


def pattern(size_bytes: int, seed: int = 0) -> bytes:
    """Bytes of which no two places are alike."""
    return random.Random(seed).randbytes(size_bytes)
