"""Asks a store from async code: in a thread, under a limit, again when the fault may pass."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Generic, TypeVar

import outcome
import trio

from fluidfs.errors import StoreUnavailable
from fluidfs.store.retry import delays

_log = logging.getLogger(__name__)
T = TypeVar("T")

# A listing that fails makes `ls` fail, so the restart of a server should be ridden out; but somebody waits. Eight
# attempts with pauses of up to 0.25, 0.5, 1, 2 and three times 4 s (half of that on average), and none begun when 15 s
# have gone by.
_ATTEMPTS = 8
_BASE_S = 0.25
_CAP_S = 4.0
_GIVE_UP_AFTER_S = 15.0


class Asking:
    """Runs blocking calls of a store in threads that `limiter` counts. Names only: bytes go another way."""

    __slots__ = ("_clock", "_limiter", "_rng")

    def __init__(
        self, *, limiter: trio.CapacityLimiter, clock: Callable[[], float], rng: random.Random | None = None
    ) -> None:
        self._limiter = limiter
        self._clock = clock
        self._rng = random.Random() if rng is None else rng

    async def ask(self, call: Callable[[], T]) -> T:
        """The answer of `call`. Raises what it raises; StoreUnavailable only after bounded retries.

        A cancelled caller returns at once; the thread ends by the store's own timeouts, and counts until then.
        """
        give_up_at = self._clock() + _GIVE_UP_AFTER_S
        for pause_s in delays(_ATTEMPTS, base_s=_BASE_S, cap_s=_CAP_S, rng=self._rng):
            try:
                return await self._in_thread(call)
            except StoreUnavailable as error:
                if self._clock() + pause_s >= give_up_at:
                    raise
                _log.info("store asked again pause_s=%.3f reason=%s", pause_s, error)
            await trio.sleep(pause_s)
        return await self._in_thread(call)

    def begin(self, call: Callable[[], T]) -> Begun[T]:
        """Let `call` run while the caller does something else; `Begun.answer` is then what `ask` would give.

        With no thread free under the limit, nothing runs until the answer is wanted.
        """
        try:
            return Begun(self, call, self._limiter)
        except trio.WouldBlock:
            return Begun(self, call, None)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(call, limiter=self._limiter, abandon_on_cancel=True)


class Begun(Generic[T]):
    """A call that may already run in a thread.

    It needs no nursery, so it can live in an iterator that its user drops half-way: the thread then ends by itself,
    and what it brings is dropped too.
    """

    __slots__ = ("_asking", "_call", "_ended", "_outcome")

    def __init__(self, asking: Asking, call: Callable[[], T], limiter: trio.CapacityLimiter | None) -> None:
        self._asking = asking
        self._call = call
        self._outcome: outcome.Outcome[T] | None = None
        self._ended: trio.Event | None = None
        if limiter is not None:
            self._start(limiter)

    async def answer(self) -> T:
        """The answer, with the retries of `Asking.ask`."""
        if self._ended is not None:
            await self._ended.wait()
            assert self._outcome is not None, "the thread sets the outcome before it sets the event"
            try:
                return self._outcome.unwrap()
            except StoreUnavailable:
                pass
        return await self._asking.ask(self._call)

    def _start(self, limiter: trio.CapacityLimiter) -> None:
        ended = trio.Event()
        token = trio.lowlevel.current_trio_token()
        borrower = object()
        limiter.acquire_on_behalf_of_nowait(borrower)

        def end() -> None:
            limiter.release_on_behalf_of(borrower)
            ended.set()

        def deliver(result: outcome.Outcome[T]) -> None:
            self._outcome = result
            try:
                token.run_sync_soon(end)
            except trio.RunFinishedError:
                # Nobody is left to take the answer.
                return

        self._ended = ended
        trio.lowlevel.start_thread_soon(self._call, deliver, name="fluidfs-list-ahead")
