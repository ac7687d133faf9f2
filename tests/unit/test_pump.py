"""The bridge from the engine's threads to trio tasks."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from fluidfs._native.engine import Endpoint, Engine, Status
from fluidfs._native.sink import MemorySink
from fluidfs.fetch.pump import Pump
from fluidfs.model import Extent
from tests.unit.http_server import Exchange, HttpServer, answer, part_of, serving
from tests.unit.rig import pattern

DATA = pattern(2 << 20)


@asynccontextmanager
async def pumping(server: HttpServer, *, workers: int = 4) -> AsyncIterator[tuple[Pump, Endpoint]]:
    engine = Engine(workers=workers)
    endpoint = engine.http_endpoint(
        host="127.0.0.1",
        port=server.port,
        tls=False,
        host_header=f"127.0.0.1:{server.port}",
        ca_file=None,
        region="us-east-1",
        headers=(),
        proxy=None,
        connect_timeout_s=5.0,
        stall_timeout_s=5.0,
    )
    try:
        async with trio.open_nursery() as nursery:
            pump = Pump(engine)
            nursery.start_soon(pump.run)
            yield pump, endpoint
            nursery.cancel_scope.cancel()
    finally:
        engine.close()


async def get(pump: Pump, endpoint: Endpoint, extent: Extent, **options: object) -> tuple[Status, bytes]:
    sink = MemorySink(extent.offset, extent.length)
    completion = await pump.get(
        endpoint,
        target=b"/bucket/key",
        extent=extent,
        size=len(DATA),
        version="v1",
        sink=sink,
        urgent=True,
        **options,  # type: ignore[arg-type]
    )
    return completion.status, bytes(sink.buffer)


async def test_many_jobs_at_once_each_get_their_own_bytes() -> None:
    with HttpServer(serving(DATA, etag="v1")) as server:
        async with pumping(server) as (pump, endpoint), trio.open_nursery() as nursery:

            async def one(index: int) -> None:
                extent = Extent(index * 65536, 65536)
                assert await get(pump, endpoint, extent) == (Status.OK, DATA[extent.offset : extent.end])

            for index in range(32):
                nursery.start_soon(one, index)


async def test_progress_is_told_before_the_end() -> None:
    told = threading.Event()

    def half_and_half(exchange: Exchange) -> None:
        response = answer("206 Partial Content", part_of(exchange, DATA, etag="v1"), DATA)
        exchange.send(response[: len(response) // 2])
        assert told.wait(10)
        exchange.send(response[len(response) // 2 :])

    with HttpServer(half_and_half) as server:
        async with pumping(server) as (pump, endpoint):
            assert await get(pump, endpoint, Extent(0, len(DATA)), on_progress=told.set) == (Status.OK, DATA)


def holding(exchange: Exchange) -> None:
    exchange.hold()


async def test_a_cancelled_caller_cancels_its_job_and_waits_for_the_engines_last_word() -> None:
    with HttpServer(holding) as server:
        async with pumping(server, workers=1) as (pump, endpoint):
            began = time.monotonic()
            with trio.move_on_after(0.05) as scope:
                await get(pump, endpoint, Extent(0, 1000))
            assert scope.cancelled_caught
            assert time.monotonic() - began < 2
            # Its worker is free again.
            server.script = serving(DATA, etag="v1")
            assert (await get(pump, endpoint, Extent(0, 1000)))[1] == DATA[:1000]


async def test_an_end_with_jobs_under_way_is_quick() -> None:
    with HttpServer(holding) as server:
        began = time.monotonic()
        with trio.move_on_after(0.1):
            async with pumping(server) as (pump, endpoint), trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(get, pump, endpoint, Extent(0, 1000))
        assert time.monotonic() - began < 2


async def test_what_the_engine_cannot_ask_for_is_said_at_once() -> None:
    with HttpServer(holding) as server:
        async with pumping(server) as (pump, endpoint):
            with pytest.raises(ValueError, match="is no target"):
                await pump.get(
                    endpoint,
                    target=b"no slash",
                    extent=Extent(0, 1),
                    size=1,
                    version="v1",
                    sink=MemorySink(0, 1),
                    urgent=True,
                )
