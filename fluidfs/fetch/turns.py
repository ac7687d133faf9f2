"""Turns for fetches that nobody waits for, so that a reader never queues behind them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


class Turn:
    """The place of one fetch. An urgent one goes at once; any other waits, until somebody comes to need its bytes."""

    __slots__ = ("_waiting", "urgent")

    def __init__(self, *, urgent: bool) -> None:
        self.urgent = urgent
        self._waiting: trio.CancelScope | None = None

    def hurry(self) -> None:
        """A reader waits for this fetch now: it goes on without waiting for its turn any longer."""
        self.urgent = True
        if self._waiting is not None:
            self._waiting.cancel()


class Turns:
    """At most `at_once` patient fetches at a time, first come first served; urgent ones are not counted.

    The rest of the engine's workers, and of the byte budget, so stay free for readers. Whoever has a turn may wait for
    the budget; nobody may wait for a turn while holding some of it.
    """

    def __init__(self, at_once: int) -> None:
        self._limiter = trio.CapacityLimiter(at_once)

    @asynccontextmanager
    async def taken(self, turn: Turn) -> AsyncIterator[None]:
        """Waits for the turn, and holds it while the block runs."""
        held = False
        if not turn.urgent:
            with trio.CancelScope() as turn._waiting:
                await self._limiter.acquire_on_behalf_of(turn)
                held = True
        try:
            yield
        finally:
            if held:
                self._limiter.release_on_behalf_of(turn)
