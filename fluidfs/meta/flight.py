"""Lets tasks that want the same answer share one request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import trio

from fluidfs.errors import FluidfsError

T = TypeVar("T")


class _Flight(Generic[T]):
    """One request on its way. Neither `answer` nor `error` when it has ended: its leader was cancelled."""

    __slots__ = ("answer", "ended", "error")

    def __init__(self) -> None:
        self.ended = trio.Event()
        self.answer: tuple[T] | None = None
        self.error: FluidfsError | None = None


class SingleFlight(Generic[T]):
    """At most one request per key is under way; who asks meanwhile gets its answer, or its error.

    The first to ask carries the request out in its own task. If that task is cancelled, one of those who wait takes
    over, so nobody is cancelled for somebody else's sake.
    """

    __slots__ = ("_flights",)

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight[T]] = {}

    async def share(self, key: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer of `ask`, called here or by another task that began with `key` before. Raises what it raises."""
        while True:
            flight = self._flights.get(key)
            if flight is None:
                return await self._lead(key, ask)
            await flight.ended.wait()
            if flight.error is not None:
                # A new exception for each task: a traceback belongs to one raise.
                raise type(flight.error)(flight.error.message) from flight.error
            if flight.answer is not None:
                return flight.answer[0]

    def disown(self) -> None:
        """Let those who wait have the answers under way, but whoever asks from now on asks afresh."""
        self._flights.clear()

    async def _lead(self, key: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        flight: _Flight[T] = _Flight()
        self._flights[key] = flight
        try:
            answer = await ask()
            flight.answer = (answer,)
            return answer
        except FluidfsError as error:
            flight.error = error
            raise
        finally:
            if self._flights.get(key) is flight:
                del self._flights[key]
            flight.ended.set()
