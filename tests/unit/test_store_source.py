"""Ranges from a store that fails in all the ways that stores do; a real engine, a real server on loopback."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from fluidfs._native.sink import MemorySink
from fluidfs.cache.identity import VersionIdentity
from fluidfs.errors import AccessDenied, CredentialsMissing, ObjectChanged, SlowDown, StoreError, StoreUnavailable
from fluidfs.fetch.source import ATTEMPTS, GIVE_UP_AFTER_S, REFRESH_S
from fluidfs.fetch.turns import Turn
from fluidfs.model import Extent
from fluidfs.store.base import Credentials
from tests.unit.http_server import Exchange, Script, answer, s3_error
from tests.unit.rig import HttpObjects, Rig, pattern, running

DATA = pattern(1 << 20)
WHOLE = Extent(0, len(DATA))


@pytest.fixture
def patient_clock(autojump_clock: MockClock) -> MockClock:
    """Pauses take no time; a threshold, because what the engine does is real."""
    autojump_clock.autojump_threshold = 0.05
    return autojump_clock


def failing_first(times: int, failure: Script, then: Script) -> Script:
    count = itertools.count()

    def script(exchange: Exchange) -> None:
        (failure if next(count) < times else then)(exchange)

    return script


def saying(status: str, code: str, **headers: object) -> Script:
    return lambda exchange: exchange.send(answer(status, headers, s3_error(code)))


def hanging_up(exchange: Exchange) -> None:
    exchange.hang_up()


def cut_short(store: HttpObjects, after_bytes: int) -> Script:
    """Says that all of the range comes, and sends the beginning of it."""

    def script(exchange: Exchange) -> None:
        first, last = exchange.request.extent
        headers = {
            "Content-Range": f"bytes {first}-{last}/{len(DATA)}",
            "ETag": f'"{identity_of(store).version}"',
            "Content-Length": last - first + 1,
        }
        body = DATA[first : min(last + 1, first + after_bytes)]
        exchange.send(answer("206 Partial Content", headers, length=False) + body)
        exchange.hang_up()

    return script


def identity_of(store: HttpObjects, key: str = "key") -> VersionIdentity:
    info = store.head(key)
    return VersionIdentity(store.identity, key, info.version, info.size)


async def fetch(rig: Rig, identity: VersionIdentity, extent: Extent = WHOLE) -> bytes:
    sinks: list[MemorySink] = []

    def make_sink() -> MemorySink:
        sinks.append(MemorySink(extent.offset, extent.length))
        return sinks[-1]

    taken = await rig.source.fetch(identity, extent, make_sink, turn=Turn(urgent=True))
    assert taken is sinks[-1]
    return bytes(taken.buffer)


FAILURES: dict[str, Callable[[HttpObjects], Script]] = {
    "503 SlowDown": lambda _: saying("503 Slow Down", "SlowDown"),
    "500": lambda _: saying("500 Internal Server Error", "InternalError"),
    "503 without a reason": lambda _: saying("503 Service Unavailable", ""),
    "a reset": lambda _: hanging_up,
    "a body cut short": lambda store: cut_short(store, 100_000),
    "no HTTP": lambda _: lambda exchange: exchange.send(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_passing_fault_is_ridden_out(failure: str, patient_clock: MockClock) -> None:
    store = HttpObjects({"key": DATA})
    with store.server as server:
        server.script = failing_first(2, FAILURES[failure](store), store.serve)
        async with running(store, None) as rig:
            assert await fetch(rig, identity_of(store)) == DATA
            assert rig.retries == 2


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_fault_that_stays_is_the_readers_after_bounded_tries(failure: str, patient_clock: MockClock) -> None:
    store = HttpObjects({"key": DATA})
    with store.server as server:
        server.script = FAILURES[failure](store)
        async with running(store, None) as rig:
            began = trio.current_time()
            with pytest.raises(StoreUnavailable):
                await fetch(rig, identity_of(store))
            assert rig.retries <= ATTEMPTS - 1
            assert len(server.requests) <= ATTEMPTS
            assert trio.current_time() - began < GIVE_UP_AFTER_S


async def test_no_try_begins_after_the_time_to_give_up(patient_clock: MockClock) -> None:
    """A server that takes ten seconds to say no is not asked ten times."""
    store = HttpObjects({"key": DATA})
    with store.server as server:
        refuse = saying("500 Internal Server Error", "InternalError")

        def slowly(exchange: Exchange) -> None:
            patient_clock.jump(10)
            refuse(exchange)

        server.script = slowly
        async with running(store, None) as rig:
            with pytest.raises(StoreUnavailable):
                await fetch(rig, identity_of(store))
        assert len(server.requests) <= 3


async def test_a_store_that_asks_for_a_pause_gets_it(patient_clock: MockClock) -> None:
    store = HttpObjects({"key": DATA})
    with store.server as server:
        asking = saying("503 Slow Down", "SlowDown", **{"Retry-After": "3"})
        server.script = failing_first(1, asking, store.serve)
        async with running(store, None) as rig:
            began = trio.current_time()
            await fetch(rig, identity_of(store))
            assert trio.current_time() - began >= 3


async def test_a_store_that_asks_for_an_hour_does_not_get_it(patient_clock: MockClock) -> None:
    store = HttpObjects({"key": DATA})
    with store.server as server:
        server.script = saying("503 Slow Down", "SlowDown", **{"Retry-After": "3600"})
        async with running(store, None) as rig:
            began = trio.current_time()
            with pytest.raises(SlowDown):
                await fetch(rig, identity_of(store))
            assert trio.current_time() - began < GIVE_UP_AFTER_S


async def test_a_sink_that_keeps_what_it_got_is_resumed_and_not_refilled(patient_clock: MockClock) -> None:
    store = HttpObjects({"key": DATA})
    with store.server as server:
        server.script = failing_first(1, cut_short(store, 300_000), store.serve)
        async with running(store, None) as rig:
            kept = MemorySink(0, len(DATA))
            await rig.source.fetch(
                identity_of(store), Extent(0, len(DATA)), lambda: kept, turn=Turn(urgent=True), resume_bytes=65536
            )
            assert bytes(kept.buffer) == DATA
        first, second = [request.extent for request in server.requests]
        assert first == (0, len(DATA) - 1)
        assert 0 < second[0] <= 300_000
        assert second[0] % 65536 == 0
        assert second[1] == len(DATA) - 1


@pytest.mark.parametrize("change", ["overwritten", "deleted", "another ETag in the answer"])
async def test_a_changed_object_is_told_at_once(change: str) -> None:
    store = HttpObjects({"key": DATA})
    with store.server as server:
        identity = identity_of(store)
        if change == "overwritten":
            store.put("key", DATA[::-1])
        elif change == "deleted":
            store.delete("key")
        else:
            store.put("key", DATA[::-1])
            identity = replace(identity, version="0" * 32)
            server.script = lambda exchange: exchange.send(
                answer(
                    "206 Partial Content",
                    {"Content-Range": f"bytes 0-{len(DATA) - 1}/{len(DATA)}", "ETag": '"1"'},
                    DATA[::-1],
                )
            )
        async with running(store, None) as rig:
            with pytest.raises(ObjectChanged):
                await fetch(rig, identity)
            assert rig.retries == 0


async def test_a_refusal_is_not_tried_again() -> None:
    store = HttpObjects({"key": DATA})
    with store.server as server:
        server.script = saying("403 Forbidden", "AccessDenied")
        async with running(store, None) as rig:
            with pytest.raises(AccessDenied):
                await fetch(rig, identity_of(store))
        assert len(server.requests) == 1


class RotatingCredentials(HttpObjects):
    """Credentials of which the first have expired by the time they are used."""

    def __init__(self) -> None:
        super().__init__({"key": DATA})
        self.asked = 0
        self.missing = False

    def credentials(self) -> Credentials | None:
        if self.missing:
            raise CredentialsMissing("the role is gone")
        self.asked += 1
        return Credentials(f"KEY{self.asked}", "secret")

    def serve(self, exchange: Exchange) -> None:
        if "KEY1/" in exchange.request.headers["authorization"]:
            exchange.send(answer("400 Bad Request", {}, s3_error("ExpiredToken")))
        else:
            super().serve(exchange)


async def test_expired_credentials_are_renewed_in_the_middle_of_a_read() -> None:
    store = RotatingCredentials()
    with store.server:
        async with running(store, None) as rig:
            assert await fetch(rig, identity_of(store)) == DATA
        assert store.asked == 2


async def test_credentials_that_stay_expired_are_an_error() -> None:
    store = RotatingCredentials()
    with store.server as server:
        server.script = saying("403 Forbidden", "ExpiredToken")
        async with running(store, None) as rig:
            with pytest.raises(AccessDenied):
                await fetch(rig, identity_of(store))
        assert len(server.requests) == 2


async def test_a_chain_without_credentials_for_a_while_does_not_end_the_mount(patient_clock: MockClock) -> None:
    store = RotatingCredentials()
    with store.server:
        async with running(store, None) as rig, trio.open_nursery() as nursery:
            nursery.start_soon(rig.source.run)
            store.missing = True
            with trio.move_on_after(3.5 * REFRESH_S):
                await trio.sleep_forever()
            store.missing = False
            asked = store.asked
            await trio.sleep(2 * REFRESH_S)
            assert store.asked > asked
            nursery.cancel_scope.cancel()


async def test_a_version_that_no_header_can_carry_is_an_error_of_the_store() -> None:
    store = HttpObjects({"key": DATA})
    with store.server:
        async with running(store, None) as rig:
            with pytest.raises(StoreError, match="cannot be asked for"):
                await fetch(rig, replace(identity_of(store), version='a"b'))
