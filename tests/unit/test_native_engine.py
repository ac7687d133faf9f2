"""Jobs of the engine: many at once, urgent ones, cancelled ones, and the end of all of them."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import select
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluidfs._native.engine import Engine, Status
from fluidfs._native.sink import MemorySink
from tests.unit.fetching import Fetching
from tests.unit.http_server import Exchange, HttpServer, serving

DATA = random.Random(4).randbytes(4_000_037)
SIZE = len(DATA)


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with HttpServer(serving(DATA, etag="v1")) as server:
        yield server


@pytest.fixture
def silent() -> Iterator[HttpServer]:
    """Takes requests and never answers them."""
    with HttpServer(Exchange.hold) as server:
        yield server


def wait_until_busy(fetching: Fetching, workers: int) -> None:
    deadline_s = time.monotonic() + 10
    while fetching.engine.statistics().busy_workers != workers:
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def names_of_threads() -> list[str]:
    names = []
    for task in Path("/proc/self/task").iterdir():
        # The servers' threads come and go meanwhile.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            names.append((task / "comm").read_text().strip())
    return names


def test_sixteen_workers_bring_every_byte_of_many_jobs(server: HttpServer) -> None:
    ranges = random.Random(5)
    with Fetching(workers=16, chunk_bytes=65_536) as fetching:
        endpoint = fetching.endpoint(server.port)
        jobs = []
        for _ in range(300):
            offset = ranges.randrange(SIZE)
            length = ranges.randint(1, min(200_000, SIZE - offset))
            sink = MemorySink(offset, length)
            ticket = fetching.submit(endpoint, sink, offset=offset, length=length, size=SIZE, urgent=length % 3 == 0)
            jobs.append((ticket, sink, offset, length))
        for ticket, sink, offset, length in jobs:
            assert fetching.wait(ticket).status is Status.OK
            assert sink.buffer == DATA[offset : offset + length]
        assert server.connections <= 16
        assert fetching.engine.statistics().in_flight == 0


def test_an_urgent_job_goes_before_all_that_are_not(server: HttpServer) -> None:
    gate = threading.Event()
    order: list[str] = []

    def script(exchange: Exchange) -> None:
        gate.wait(10)
        order.append(exchange.request.target)
        serving(DATA)(exchange)

    server.script = script
    with Fetching(workers=1) as fetching:
        endpoint = fetching.endpoint(server.port)

        def submit(target: bytes, *, urgent: bool) -> int:
            sink = MemorySink(0, 10)
            return fetching.submit(endpoint, sink, offset=0, length=10, size=SIZE, target=target, urgent=urgent)

        tickets = [submit(b"/running", urgent=False)]
        wait_until_busy(fetching, 1)
        tickets += [
            submit(b"/patient", urgent=False),
            submit(b"/urgent1", urgent=True),
            submit(b"/urgent2", urgent=True),
        ]
        gate.set()
        for ticket in tickets:
            assert fetching.wait(ticket).status is Status.OK
    assert order == ["/running", "/urgent1", "/urgent2", "/patient"]


def test_progress_that_nobody_drains_is_reported_once(server: HttpServer) -> None:
    with Fetching(workers=1, chunk_bytes=65_536) as fetching:
        sink = MemorySink(0, SIZE)
        ticket = fetching.submit(fetching.endpoint(server.port), sink, offset=0, length=SIZE, size=SIZE)
        deadline_s = time.monotonic() + 10
        while fetching.engine.statistics().in_flight:
            assert time.monotonic() < deadline_s
            time.sleep(0.005)
        (completion,) = fetching.engine.drain()
        assert (completion.ticket, completion.kind, completion.bytes_done) == (ticket, "done", SIZE)
        assert fetching.engine.drain() == []
        assert select.select([fetching.engine], [], [], 0)[0] == []


def test_a_job_that_waits_for_its_server_is_cancelled_at_once(silent: HttpServer) -> None:
    with Fetching(workers=1) as fetching:
        endpoint = fetching.endpoint(silent.port, stall_timeout_s=60)
        ticket = fetching.submit(endpoint, MemorySink(0, 10), offset=0, length=10, size=SIZE)
        wait_until_busy(fetching, 1)
        started_s = time.monotonic()
        fetching.engine.cancel(ticket)
        assert fetching.wait(ticket).status is Status.CANCELLED
        assert time.monotonic() - started_s < 2


def test_a_job_that_no_worker_has_begun_is_cancelled_at_once(silent: HttpServer) -> None:
    with Fetching(workers=1) as fetching:
        endpoint = fetching.endpoint(silent.port, stall_timeout_s=60)
        running = fetching.submit(endpoint, MemorySink(0, 10), offset=0, length=10, size=SIZE)
        wait_until_busy(fetching, 1)
        queued = [fetching.submit(endpoint, MemorySink(0, 10), offset=0, length=10, size=SIZE) for _ in range(3)]
        fetching.engine.cancel(queued[1])
        assert fetching.wait(queued[1]).status is Status.CANCELLED
        assert fetching.engine.statistics().in_flight == 3
        for ticket in (running, queued[0], queued[2]):
            fetching.engine.cancel(ticket)
            assert fetching.wait(ticket).status is Status.CANCELLED


def test_the_worker_of_a_cancelled_job_goes_on_with_the_next(server: HttpServer) -> None:
    with Fetching(workers=1) as fetching:
        server.script = Exchange.hold
        endpoint = fetching.endpoint(server.port, stall_timeout_s=60)
        ticket = fetching.submit(endpoint, MemorySink(0, 10), offset=0, length=10, size=SIZE)
        wait_until_busy(fetching, 1)
        server.script = serving(DATA)
        fetching.engine.cancel(ticket)
        fetching.engine.cancel(ticket)
        assert fetching.wait(ticket).status is Status.CANCELLED
        assert fetching.fetch(endpoint, size=SIZE)[1] == DATA


def test_cancelling_what_is_unknown_or_done_does_nothing(server: HttpServer) -> None:
    with Fetching(workers=1) as fetching:
        endpoint = fetching.endpoint(server.port)
        ticket = fetching.submit(endpoint, MemorySink(0, 10), offset=0, length=10, size=SIZE)
        fetching.wait(ticket)
        fetching.engine.cancel(ticket)
        fetching.engine.cancel(987_654)
        assert fetching.engine.drain() == []


def test_closing_ends_running_and_queued_jobs_in_bounded_time(silent: HttpServer) -> None:
    fetching = Fetching(workers=4)
    endpoint = fetching.endpoint(silent.port, stall_timeout_s=60)
    tickets = {
        fetching.submit(endpoint, MemorySink(0, 10), offset=0, length=10, size=SIZE, urgent=number % 2 == 0)
        for number in range(20)
    }
    wait_until_busy(fetching, 4)
    started_s = time.monotonic()
    fetching.engine.close()
    assert time.monotonic() - started_s < 3
    completions = fetching.engine.drain()
    assert {completion.ticket for completion in completions} == tickets
    assert {completion.status for completion in completions} == {Status.CANCELLED}
    fetching.engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        fetching.submit(endpoint, MemorySink(0, 10), offset=0, length=10, size=SIZE)


def test_an_engine_that_is_dropped_ends_its_jobs_and_lets_go_of_their_sinks(silent: HttpServer) -> None:
    class WatchedSink(MemorySink):
        pass

    fetching = Fetching(workers=3)
    endpoint = fetching.endpoint(silent.port, stall_timeout_s=60)
    sinks = [WatchedSink(0, 10) for _ in range(6)]
    watched = [weakref.ref(sink) for sink in sinks]
    for sink in sinks:
        fetching.submit(endpoint, sink, offset=0, length=10, size=SIZE)
    wait_until_busy(fetching, 3)
    del sinks, sink
    gc.collect()
    assert all(reference() is not None for reference in watched)
    assert names_of_threads().count("fluidfs-fetch") == 3
    started_s = time.monotonic()
    del fetching, endpoint
    gc.collect()
    assert time.monotonic() - started_s < 3
    assert all(reference() is None for reference in watched)
    assert "fluidfs-fetch" not in names_of_threads()


def test_a_sink_lives_until_its_completion_is_drained(server: HttpServer) -> None:
    class WatchedSink(MemorySink):
        pass

    with Fetching(workers=1) as fetching:
        sink = WatchedSink(0, SIZE)
        watched = weakref.ref(sink)
        ticket = fetching.submit(fetching.endpoint(server.port), sink, offset=0, length=SIZE, size=SIZE)
        del sink
        gc.collect()
        assert watched() is not None
        assert fetching.wait(ticket).status is Status.OK
        gc.collect()
        assert watched() is None


def test_a_forked_child_leaves_the_engine_to_its_parent(server: HttpServer) -> None:
    with Fetching(workers=2) as fetching:
        endpoint = fetching.endpoint(server.port)
        fetching.fetch(endpoint, size=SIZE, length=10)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                fetching.engine.close()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert fetching.fetch(endpoint, size=SIZE)[1] == DATA


@pytest.mark.parametrize(
    ("offset", "length", "size"), [(0, 0, 10), (0, 11, 10), (10, 1, 10), (2**64 - 1, 2, 2**64 - 1)]
)
def test_what_is_no_range_is_refused(server: HttpServer, offset: int, length: int, size: int) -> None:
    with Fetching(workers=1) as fetching, pytest.raises(ValueError, match="range"):
        fetching.submit(fetching.endpoint(server.port), MemorySink(0, 10), offset=offset, length=length, size=size)


@pytest.mark.parametrize("target", [b"", b"no-slash", b"/a b", b"/a\r\nb", b"/\0", b"/\xc3\xa9"])
def test_what_is_no_target_is_refused(server: HttpServer, target: bytes) -> None:
    with Fetching(workers=1) as fetching, pytest.raises(ValueError, match="target"):
        fetching.submit(fetching.endpoint(server.port), MemorySink(0, 10), offset=0, length=10, size=10, target=target)


@pytest.mark.parametrize("version", ['a"b', "a\nb", "é", "x" * 2000])
def test_what_is_no_version_is_refused(server: HttpServer, version: str) -> None:
    with Fetching(workers=1) as fetching, pytest.raises(ValueError, match="version"):
        fetching.submit(
            fetching.endpoint(server.port), MemorySink(0, 10), offset=0, length=10, size=10, version=version
        )


def test_an_endpoint_goes_with_its_own_engine(server: HttpServer) -> None:
    with Fetching(workers=1) as one, Fetching(workers=1) as other, pytest.raises(ValueError, match="this engine"):
        other.submit(one.endpoint(server.port), MemorySink(0, 10), offset=0, length=10, size=10)


@pytest.mark.parametrize(("workers", "chunk_bytes"), [(0, 65_536), (65, 65_536), (1, 0), (1, 1000)])
def test_an_engine_of_impossible_size_is_refused(workers: int, chunk_bytes: int) -> None:
    with pytest.raises(ValueError, match=r"workers|chunk_bytes"):
        Engine(workers=workers, chunk_bytes=chunk_bytes)
