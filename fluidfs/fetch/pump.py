"""Carries completions from the native engine's threads into trio, in batches."""

from __future__ import annotations

from collections.abc import Callable

import trio

from fluidfs._native.engine import Completion, Endpoint, Engine
from fluidfs._native.sink import Sink
from fluidfs.model import Extent

# A worker sees a cancellation within a poll slice; longer waits are those on a disk or a name server that hang.
CANCEL_S = 5.0


class Pump:
    """The engine, as tasks see it: one job, awaited. Belongs to one trio run; `run` must be running.

    Python wakes once per batch of completions, however many there are in it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._jobs: dict[int, _Job] = {}

    async def run(self) -> None:
        """Hands completions to the tasks that wait for them, until cancelled.

        Whoever cancelled it is about to cancel those tasks too, and they wait for the engine's last word: so what is
        under way then is still pumped.
        """
        try:
            while True:
                await self._hand_out()
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(CANCEL_S):
                while self._jobs:
                    await self._hand_out()

    async def _hand_out(self) -> None:
        await trio.lowlevel.wait_readable(self._engine.fileno())
        for completion in self._engine.drain():
            job = self._jobs.get(completion.ticket)
            if job is None:
                continue
            if completion.kind == "progress":
                job.on_progress()
            else:
                del self._jobs[completion.ticket]
                job.completion = completion
                job.done.set()

    async def get(
        self,
        endpoint: Endpoint,
        *,
        target: bytes,
        extent: Extent,
        size: int,
        version: str,
        sink: Sink,
        urgent: bool,
        on_progress: Callable[[], None] = lambda: None,
    ) -> Completion:
        """Runs one job to its end and returns how it ended; cancelling the caller cancels the job.

        The sink may be used again only after this has returned or raised. Raises ValueError for what the engine cannot
        ask for.
        """
        # A job begun now by a task that is to end would be one that nobody pumps any more.
        await trio.lowlevel.checkpoint_if_cancelled()
        ticket = self._engine.submit(
            endpoint,
            target=target,
            offset=extent.offset,
            length=extent.length,
            size=size,
            version=version,
            sink=sink,
            urgent=urgent,
        )
        job = self._jobs[ticket] = _Job(on_progress)
        try:
            await job.done.wait()
        except trio.Cancelled:
            self._engine.cancel(ticket)
            # The worker may be writing into the sink's memory until it has seen the cancellation.
            with trio.CancelScope(shield=True), trio.move_on_after(CANCEL_S):
                await job.done.wait()
            raise
        finally:
            self._jobs.pop(ticket, None)
        assert job.completion is not None
        return job.completion


class _Job:
    __slots__ = ("completion", "done", "on_progress")

    def __init__(self, on_progress: Callable[[], None]) -> None:
        self.on_progress = on_progress
        self.done = trio.Event()
        self.completion: Completion | None = None
